//! The resources of the exchange itself: subscriptions, bundles, outcomes, capabilities, parameters.

use serde_json::Value;

use super::{
    Resource,
    datatypes::{CodeableConcept, ContactPoint, Identifier},
    element::{code, element, resource},
};
use crate::fhir::instant::DateTime;

code! {
    /// `subscription-status`.
    SubscriptionStatus {
        Requested = "requested",
        Active = "active",
        Error = "error",
        Off = "off",
    }
}

resource! {
    /// Who wants to know about which changes (R4 form, with `criteria`).
    Subscription {
        /// Where the subscription is in its life.
        status: Option<SubscriptionStatus>,
        /// Whom to tell when it fails.
        contact: Vec<ContactPoint>,
        /// When it ends.
        end: Option<DateTime>,
        /// Why it is wanted.
        reason: Option<String>,
        /// A search without a base: `Communication?part-of=CommunicationRequest/1`.
        criteria: Option<String>,
        /// The latest error.
        error: Option<String>,
        /// How to tell.
        channel: Option<Channel>,
    }
}

element! {
    /// The channel of a subscription.
    Channel {
        /// `rest-hook` here.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Where to post.
        endpoint: Option<String>,
        /// The media type of what is posted; absent: nothing is posted, as the Dutch specification asks.
        payload: Option<String>,
        /// Header lines to send along, such as `Authorization: Bearer …`.
        header: Vec<Option<String>>,
    }
}

code! {
    /// `bundle-type`.
    BundleType {
        Document = "document",
        Message = "message",
        Transaction = "transaction",
        TransactionResponse = "transaction-response",
        Batch = "batch",
        BatchResponse = "batch-response",
        History = "history",
        Searchset = "searchset",
        Collection = "collection",
    }
}

resource! {
    /// Several resources, requests or answers together.
    Bundle {
        /// A business identifier.
        identifier: Option<Identifier>,
        /// What it is for.
        #[serde(rename = "type")]
        kind: Option<BundleType>,
        /// When it was put together.
        timestamp: Option<DateTime>,
        /// How many a search found altogether.
        total: Option<u64>,
        /// `self`, `next` and others.
        link: Vec<BundleLink>,
        /// The content.
        entry: Vec<BundleEntry>,
    }
}

element! {
    /// A link of a bundle.
    BundleLink {
        /// `self`, `first`, `previous`, `next`, `last`.
        relation: Option<String>,
        /// Where.
        url: Option<String>,
    }
}

element! {
    /// An entry of a bundle.
    BundleEntry {
        /// The resource's absolute URL, or `urn:uuid:…` for one that is still to be made.
        full_url: Option<String>,
        /// The resource.
        resource: Option<Resource>,
        /// How it was found.
        search: Option<EntrySearch>,
        /// What to do, in a batch or transaction; what was done, in a history.
        request: Option<EntryRequest>,
        /// What came of it.
        response: Option<EntryResponse>,
    }
}

element! {
    /// How an entry of a search result was found.
    EntrySearch {
        /// `match`, `include` or `outcome`.
        mode: Option<String>,
    }
}

element! {
    /// What to do with an entry of a batch or transaction.
    EntryRequest {
        /// `GET`, `HEAD`, `POST`, `PUT`, `DELETE` or `PATCH`.
        method: Option<String>,
        /// Relative to the base.
        url: Option<String>,
        /// As the header of the same name.
        if_none_match: Option<String>,
        /// As the header of the same name.
        if_match: Option<String>,
        /// As the header of the same name.
        if_none_exist: Option<String>,
    }
}

element! {
    /// What came of an entry of a batch or transaction.
    EntryResponse {
        /// `201 Created` and so on.
        status: Option<String>,
        /// Where the resource is.
        location: Option<String>,
        /// Its version.
        etag: Option<String>,
        /// When it changed last.
        last_modified: Option<DateTime>,
        /// What went wrong.
        outcome: Option<Resource>,
    }
}

code! {
    /// `issue-severity`.
    Severity {
        Fatal = "fatal",
        Error = "error",
        Warning = "warning",
        Information = "information",
    }
}

code! {
    /// `issue-type`, the values that this crate gives.
    IssueType {
        Structure = "structure",
        Required = "required",
        Value = "value",
        Invariant = "invariant",
        Invalid = "invalid",
        Login = "login",
        Forbidden = "forbidden",
        NotSupported = "not-supported",
        NotFound = "not-found",
        MultipleMatches = "multiple-matches",
        TooLong = "too-long",
        TooCostly = "too-costly",
        CodeInvalid = "code-invalid",
        Conflict = "conflict",
        Duplicate = "duplicate",
        BusinessRule = "business-rule",
        Exception = "exception",
        Timeout = "timeout",
        Throttled = "throttled",
        Transient = "transient",
        Processing = "processing",
        Informational = "informational",
    }
}

resource! {
    /// What went wrong, and where.
    OperationOutcome {
        /// The single points.
        issue: Vec<Issue>,
    }
}

element! {
    /// One point of an outcome.
    Issue {
        /// How bad.
        severity: Option<Severity>,
        /// What kind.
        code: Option<IssueType>,
        /// The same, coded for people.
        details: Option<CodeableConcept>,
        /// What is wrong, for people. It never repeats a value of the resource: that could be patient data.
        diagnostics: Option<String>,
        /// Where, as FHIRPath: `CareTeam.participant[0].member`.
        expression: Vec<String>,
    }
}

resource! {
    /// What a server can do; read as JSON beyond these members.
    CapabilityStatement {
        /// `draft`, `active`, `retired`, `unknown`.
        status: Option<String>,
        /// `4.0.1` for R4.
        fhir_version: Option<String>,
        /// The server's software.
        software: Option<Software>,
        /// What its REST interface offers.
        #[serde(rename = "rest")]
        interface: Vec<RestCapabilities>,
    }
}

element! {
    /// A server's software.
    Software {
        /// Its name.
        name: Option<String>,
        /// Its version.
        version: Option<String>,
    }
}

element! {
    /// What a REST interface offers.
    RestCapabilities {
        /// `server` or `client`.
        mode: Option<String>,
        /// By resource type.
        resource: Vec<ResourceCapabilities>,
        /// For the whole system: `transaction`, `batch`, `search-system`, `history-system`.
        interaction: Vec<Interaction>,
    }
}

element! {
    /// What a REST interface offers for a resource type.
    ResourceCapabilities {
        /// The type's name.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// What can be done.
        interaction: Vec<Interaction>,
        /// `no-version`, `versioned`, `versioned-update`.
        versioning: Option<String>,
        /// Whether an update may make a resource with the client's id.
        update_create: Option<bool>,
        /// Whether `If-None-Exist` works.
        conditional_create: Option<bool>,
        /// Whether an update by search works.
        conditional_update: Option<bool>,
        /// What can be searched for.
        search_param: Vec<SearchParameter>,
    }
}

element! {
    /// One interaction.
    Interaction {
        /// `read`, `vread`, `create`, `update`, `search-type`, `history-type`, …
        code: Option<String>,
    }
}

element! {
    /// One search parameter.
    SearchParameter {
        /// Its name.
        name: Option<String>,
        /// `token`, `reference`, `date`, `string`, `uri`, …
        #[serde(rename = "type")]
        kind: Option<String>,
    }
}

resource! {
    /// Parameters of an operation.
    Parameters {
        /// The parameters.
        parameter: Vec<Value>,
    }
}

// === impl OperationOutcome ===

impl OperationOutcome {
    /// An outcome of one point.
    pub fn of(issue: Issue) -> Self {
        Self { issue: vec![issue], ..Self::default() }
    }

    /// An outcome of one point, as errors hold it: apart, because it is large.
    pub fn boxed(issue: Issue) -> Box<Self> {
        Box::new(Self::of(issue))
    }

    /// The points as one line for a log or a person: kinds, places and diagnostics.
    pub fn summary(&self) -> String {
        let points = self.issue.iter().map(|issue| {
            let place = issue.expression.join(", ");
            let text = issue.diagnostics.as_deref().or_else(|| issue.details.as_ref()?.label()).unwrap_or_default();
            let code = issue.code.as_ref().map_or("", IssueType::as_str);
            match (place.is_empty(), text.is_empty()) {
                (true, true) => code.to_owned(),
                (true, false) => text.to_owned(),
                (false, true) => format!("{place}: {code}"),
                (false, false) => format!("{place}: {text}"),
            }
        });
        points.collect::<Vec<_>>().join("; ")
    }
}

// === impl Issue ===

impl Issue {
    /// An error.
    pub fn error(code: IssueType, diagnostics: impl Into<String>) -> Self {
        Self {
            severity: Some(Severity::Error),
            code: Some(code),
            diagnostics: Some(diagnostics.into()),
            ..Self::default()
        }
    }

    /// Adds where it is, as FHIRPath.
    #[must_use]
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression.push(expression.into());
        self
    }
}

// === impl Bundle ===

impl Bundle {
    /// The URL of the link with this relation.
    pub fn link(&self, relation: &str) -> Option<&str> {
        self.link.iter().find(|link| link.relation.as_deref() == Some(relation))?.url.as_deref()
    }
}
