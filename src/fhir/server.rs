//! What a FHIR server does, whoever it is: the embedded repository, or one elsewhere behind the REST client.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{
    etag::Tags,
    id::{Id, Key},
    instant::DateTime,
    query::Query,
    resources::{Bundle, CapabilityStatement, OperationOutcome, Resource, ResourceType},
};
use crate::service::trace::Trace;

/// What an interaction gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, FhirError>>;

/// A FHIR R4 server (R4, 3.1.0 RESTful API).
///
/// A write that is answered is durable. All calls are safe to repeat after a temporary error, except that a create
/// without `unless` may then have happened twice.
pub trait FhirServer: fmt::Debug + Send + Sync {
    /// What the server says it can do.
    fn capabilities(&self) -> Answer<'_, CapabilityStatement>;

    /// The newest version of a resource. [`FhirError::NotFound`] when there is none.
    fn read<'a>(&'a self, kind: ResourceType, id: &'a Id) -> Answer<'a, Resource>;

    /// One version of a resource.
    fn vread<'a>(&'a self, kind: ResourceType, id: &'a Id, version: &'a str) -> Answer<'a, Resource>;

    /// Makes a resource with an id of the server's; an id that it has is not looked at.
    ///
    /// With `unless` (`If-None-Exist`): when one resource matches already, nothing is made and that one is returned;
    /// when several match, [`FhirError::MultipleMatches`].
    fn create<'a>(&'a self, resource: Resource, unless: Option<&'a Query>) -> Answer<'a, Written>;

    /// Makes a resource with the id that it has, or the next version of it.
    ///
    /// An update that changes nothing makes no version ([`Effect::Unchanged`]) on the embedded repository.
    fn update<'a>(&'a self, resource: Resource, only_if: Condition<'a>) -> Answer<'a, Written>;

    /// Updates the one resource that matches, or makes one when none does (conditional update).
    fn update_where<'a>(&'a self, resource: Resource, query: &'a Query, only_if: Condition<'a>) -> Answer<'a, Written>;

    /// The first page of what matches.
    fn search<'a>(&'a self, kind: ResourceType, query: &'a Query) -> Answer<'a, Page>;

    /// The first page of a history, newest first.
    fn history<'a>(&'a self, of: HistoryOf<'a>, since: Option<&'a DateTime>, count: Option<u32>) -> Answer<'a, Page>;

    /// The page behind [`Page::next`].
    fn follow<'a>(&'a self, link: &'a PageLink) -> Answer<'a, Page>;

    /// Carries out a batch or, atomically, a transaction.
    fn transact(&self, bundle: Bundle) -> Answer<'_, Bundle>;

    /// What changed after a point, oldest first: about `limit` resources at most (of each type, where the server is
    /// elsewhere), each in its
    /// newest version or in every version. `None` starts at the beginning.
    ///
    /// Nothing that is written after a cursor was taken is missed. The same version may come twice; whoever reads
    /// must know what it has seen.
    fn changes<'a>(&'a self, kinds: &'a [ResourceType], since: Option<&'a Cursor>, limit: u32) -> Answer<'a, Changes>;

    /// A number that grows when something may have changed: a hint to call [`FhirServer::changes`], never a promise.
    fn hints(&self) -> watch::Receiver<u64>;

    /// How long to wait between two looks while the server can be relied on to give hints; `None` where it cannot.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// Says that a change was found without a hint: for now, hints are not to be relied on.
    fn missed_a_hint(&self) {}

    /// The trace in which a version was written, where the server knows.
    fn trace_of(&self, _version: &Key) -> Option<Trace> {
        None
    }
}

/// When an update may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Whatever is there.
    Always,
    /// Only when this version is the newest (`If-Match`); else [`FhirError::VersionConflict`].
    VersionIs(&'a str),
    /// Only when the newest version is one of these (`If-Match` as a client sends it); else
    /// [`FhirError::VersionConflict`].
    Tagged(&'a Tags),
    /// Only when there is no such resource yet (`If-None-Match: *`); else [`FhirError::VersionConflict`].
    ///
    /// Not every server keeps to it; the embedded one does.
    Absent,
}

/// The condition of an update that a client asked for, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// See [`Condition::Always`].
    Always,
    /// See [`Condition::Tagged`].
    If(Tags),
    /// See [`Condition::Absent`].
    IfAbsent,
}

/// Whose history is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryOf<'a> {
    /// One resource.
    Instance(ResourceType, &'a Id),
    /// All resources of a type.
    Type(ResourceType),
    /// All resources.
    System,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The resource as it now is on the server.
    pub resource: Resource,
    /// What happened.
    pub effect: Effect,
}

/// What a write did to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is a new resource.
    Created,
    /// There is a new version.
    Updated,
    /// It was there already; nothing changed.
    Unchanged,
}

/// A page of a search or a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// How many match altogether, where the server says.
    pub total: Option<u64>,
    /// What is on this page.
    pub entries: Vec<Entry>,
    /// Where the next page is.
    pub next: Option<PageLink>,
}

/// An entry of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The resource.
    pub resource: Resource,
    /// Why it is here.
    pub mode: Mode,
    /// Whether it was made by a `POST`, where it is a version in a history.
    pub by_post: bool,
}

/// Why a resource is on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It matches the search, or is a version in a history.
    Match,
    /// Another one refers to it, or it refers to another one (`_include`, `_revinclude`).
    Include,
    /// The server's remarks on the search.
    Outcome,
}

/// Where a page is; opaque to all but the server that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageLink(pub String);

/// A point in a server's history; opaque, and kept as text by whoever reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What changed after a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Oldest first.
    pub resources: Vec<Resource>,
    /// Versions that are there and cannot be read, where the server knows that.
    pub damaged: Vec<Key>,
    /// Where to go on; to be kept once the rest is safe.
    pub next: Cursor,
    /// Whether there is more at once.
    pub more: bool,
}

/// Why a server did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FhirError {
    /// There is no such resource or version (404), or it is gone (410).
    #[error("{0} is not there")]
    NotFound(String),
    /// The newest version is another one (409, 412).
    #[error("another version is there: {}", .0.summary())]
    VersionConflict(Box<OperationOutcome>),
    /// A condition matches several resources (412).
    #[error("several resources match: {}", .0.summary())]
    MultipleMatches(Box<OperationOutcome>),
    /// The resource or the query is wrong (400, 413, 415, 422); asking again gives the same.
    #[error("refused: {}", .0.summary())]
    Invalid(Box<OperationOutcome>),
    /// The server does not do this (405, 501), or not for this type (404).
    #[error("not supported: {0}")]
    NotSupported(String),
    /// Who asks is not known (401) or may not (403).
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// Too much at once, or the server is not ready (429, 503).
    #[error("busy")]
    Busy {
        /// After which time to ask again, where the server says.
        retry_after: Option<Duration>,
    },
    /// The server cannot be reached, took too long, or failed (5xx).
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Its database takes other things, and this one never (422 from the embedded repository).
    #[error("refused for good: {0}")]
    Refused(String),
    /// What it has there is damaged, and stays so until somebody mends it (500 from the embedded repository).
    #[error("damaged: {0}")]
    Damaged(String),
    /// The answer is not FHIR.
    #[error("not a FHIR answer: {0}")]
    Protocol(String),
}

// === impl Condition ===

impl Condition<'_> {
    /// Whether it holds for the newest version that there is.
    pub fn holds(self, newest: Option<&str>) -> bool {
        match self {
            Self::Always => true,
            Self::VersionIs(version) => newest == Some(version),
            Self::Tagged(tags) => tags.name(newest),
            Self::Absent => newest.is_none(),
        }
    }
}

// === impl Only ===

impl Only {
    /// What `If-Match` and `If-None-Match` ask for. `None` for what is no condition of an update: both headers, or an
    /// `If-None-Match` that names versions.
    pub fn of(if_match: Option<Tags>, if_none_match: Option<Tags>) -> Option<Self> {
        match (if_match, if_none_match) {
            (Some(tags), None) => Some(Self::If(tags)),
            (None, Some(Tags::Any)) => Some(Self::IfAbsent),
            (None, None) => Some(Self::Always),
            (_, Some(_)) => None,
        }
    }

    /// The same, borrowed.
    pub fn as_condition(&self) -> Condition<'_> {
        match self {
            Self::Always => Condition::Always,
            Self::If(tags) => Condition::Tagged(tags),
            Self::IfAbsent => Condition::Absent,
        }
    }
}

impl From<Condition<'_>> for Only {
    fn from(condition: Condition<'_>) -> Self {
        match condition {
            Condition::Always => Self::Always,
            Condition::VersionIs(version) => Self::If(Tags::These(vec![version.to_owned()])),
            Condition::Tagged(tags) => Self::If(tags.clone()),
            Condition::Absent => Self::IfAbsent,
        }
    }
}

// === impl FhirError ===

impl FhirError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable(_))
    }

    /// After which time to ask again, where the server says.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// A resource that is not there.
    pub fn not_found(key: &Key) -> Self {
        Self::NotFound(key.to_string())
    }
}

// === impl Page ===

impl Page {
    /// The resources that match, without what was included.
    pub fn matches(&self) -> impl Iterator<Item = &Resource> {
        self.entries.iter().filter(|entry| entry.mode == Mode::Match).map(|entry| &entry.resource)
    }
}
