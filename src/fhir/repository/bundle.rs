//! Batches and transactions (R4, 3.1.0.11).

use std::collections::HashMap;

use serde_json::Value;

use super::store::{Store, invalid};
use crate::{
    fhir::{
        id::{Id, Key},
        query::Query,
        resources::{BundleEntry, EntryRequest, EntryResponse, IssueType, OperationOutcome, Resource, ResourceType},
        server::{Condition, Effect, FhirError, Written},
    },
    service::database::Connection,
};

/// What an entry asks for.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// `POST Type`.
    Create { kind: ResourceType, unless: Option<Query> },
    /// `PUT Type/id`.
    Update { key: Key, version: Option<String>, only_new: bool },
    /// `PUT Type?query`.
    UpdateWhere { kind: ResourceType, query: Query },
    /// `GET Type/id` or `GET Type/id/_history/version`.
    Read { key: Key },
    /// `GET Type?query`.
    Search { kind: ResourceType, query: Query },
}

// === impl Ask ===

impl Ask {
    /// Reads the request of an entry; `at` is the entry's FHIRPath.
    pub(crate) fn read(request: Option<&EntryRequest>, at: &str) -> Result<Self, FhirError> {
        let wrong = |text: &str, member: &str| invalid(IssueType::Value, text, &format!("{at}.request{member}"));
        let request = request.ok_or_else(|| invalid(IssueType::Required, "a request is required", at))?;
        let url = request.url.as_deref().unwrap_or_default().trim_start_matches('/');
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let query = query.map(Query::parse).transpose().map_err(|_| wrong("not a query", ".url"))?;
        let kind = || -> Result<ResourceType, FhirError> {
            path.parse().map_err(|_| wrong("a resource type that is known here is required", ".url"))
        };
        let key = || Key::parse(path).filter(|_| !path.contains("://"));
        match (request.method.as_deref().unwrap_or_default(), query) {
            ("POST", None) => {
                let unless = request.if_none_exist.as_deref().map(|text| Query::parse(text.trim_start_matches('?')));
                let unless = unless.transpose().map_err(|_| wrong("not a query", ".ifNoneExist"))?;
                Ok(Self::Create { kind: kind()?, unless })
            }
            ("PUT", Some(query)) => Ok(Self::UpdateWhere { kind: kind()?, query }),
            ("PUT", None) => {
                let key =
                    key().filter(|key| key.version.is_none()).ok_or_else(|| wrong("Type/id is required", ".url"))?;
                let version = request.if_match.as_deref().map(crate::fhir::etag::read);
                let only_new = request.if_none_match.as_deref() == Some("*");
                Ok(Self::Update { key, version, only_new })
            }
            ("GET" | "HEAD", query) => match (key(), query) {
                (Some(key), None) => Ok(Self::Read { key }),
                (None, query) => Ok(Self::Search { kind: kind()?, query: query.unwrap_or_default() }),
                (Some(_), Some(_)) => Err(wrong("a read has no query", ".url")),
            },
            ("DELETE", _) => Err(FhirError::NotSupported(
                "nothing is deleted here: set the status to entered-in-error or inactive".to_owned(),
            )),
            _ => Err(FhirError::NotSupported("only GET, POST and PUT are done here".to_owned())),
        }
    }
}

/// An entry on its way through a transaction.
struct Step {
    at: String,
    ask: Ask,
    resource: Option<Resource>,
    /// The id that the resource will have, and what is there already where nothing is to be made.
    planned: Option<(Id, Option<Resource>)>,
}

/// Carries out all entries or none: whoever calls undoes everything when this gives an error.
pub(super) fn transaction(
    store: &Store,
    connection: &Connection,
    entries: Vec<BundleEntry>,
) -> Result<Vec<BundleEntry>, FhirError> {
    let mut places: HashMap<String, String> = HashMap::new();
    let mut steps = Vec::with_capacity(entries.len());
    let mut keys: Vec<Key> = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let at = format!("Bundle.entry[{number}]");
        let ask = Ask::read(entry.request.as_ref(), &at)?;
        let mut step = Step { at, ask, resource: entry.resource, planned: None };
        if let Some(key) = step.plan(store, connection, number)? {
            if keys.contains(&key) {
                return Err(invalid(IssueType::Invalid, "two entries write the same resource", &step.at));
            }
            if let Some(url) = entry.full_url {
                places.insert(url, key.to_string());
            }
            keys.push(key);
        }
        steps.push(step);
    }
    for step in &mut steps {
        if let Some(resource) = &mut step.resource {
            for (_, value) in resource.members_mut() {
                resolve(store, connection, value, &places).map_err(|error| located(error, &step.at))?;
            }
        }
    }
    let mut answers: Vec<Option<BundleEntry>> = (0..steps.len()).map(|_| None).collect();
    // First what is made, then what is changed, then what is read (R4, 3.1.0.11.2).
    for phase in 0..3 {
        for (step, answer) in steps.iter_mut().zip(&mut answers).filter(|(step, _)| step.phase() == phase) {
            *answer = Some(step.carry_out(store, connection).map_err(|error| located(error, &step.at))?);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

// === impl Step ===

impl Step {
    fn phase(&self) -> u8 {
        match self.ask {
            Ask::Create { .. } => 0,
            Ask::Update { .. } | Ask::UpdateWhere { .. } => 1,
            Ask::Read { .. } | Ask::Search { .. } => 2,
        }
    }

    /// Decides which resource the entry will write.
    fn plan(&mut self, store: &Store, connection: &Connection, number: usize) -> Result<Option<Key>, FhirError> {
        let kind = match &self.ask {
            Ask::Create { kind, .. } | Ask::UpdateWhere { kind, .. } => *kind,
            Ask::Update { key, .. } => key.kind,
            Ask::Read { .. } | Ask::Search { .. } => return Ok(None),
        };
        let at = format!("{}.resource", self.at);
        let resource = self.resource.as_ref().ok_or_else(|| invalid(IssueType::Required, "required", &at))?;
        if resource.kind() != Some(kind) {
            return Err(invalid(IssueType::Invalid, "not of the type in request.url", &at));
        }
        let fresh = || super::store::id_for(connection, number);
        let (id, there) = match &self.ask {
            Ask::Create { unless: Some(query), .. } => match store.one_that_matches(connection, kind, query)? {
                Some(found) => (found.id().map_or_else(fresh, Ok)?, Some(found)),
                None => (fresh()?, None),
            },
            Ask::UpdateWhere { query, .. } => {
                let found = store.one_that_matches(connection, kind, query)?.and_then(|found| found.id());
                (found.or_else(|| resource.id()).map_or_else(fresh, Ok)?, None)
            }
            Ask::Update { key, .. } if resource.id().as_ref() == Some(&key.id) => (key.id.clone(), None),
            Ask::Update { .. } => {
                return Err(invalid(IssueType::Invalid, "not the id in request.url", &format!("{at}.id")));
            }
            _ => (fresh()?, None),
        };
        let key = Key::new(kind, id.clone());
        self.planned = Some((id, there));
        Ok(Some(key))
    }

    fn carry_out(&mut self, store: &Store, connection: &Connection) -> Result<BundleEntry, FhirError> {
        let planned = self.planned.take();
        let (mut resource, (id, there)) = match (&self.ask, self.resource.take(), planned) {
            (Ask::Read { key }, ..) => {
                let found = match &key.version {
                    Some(version) => store.vread(connection, key.kind, &key.id, version)?,
                    None => store.read(connection, key.kind, &key.id)?,
                };
                return Ok(found_entry(found));
            }
            (Ask::Search { kind, query }, ..) => {
                let page = store.search(connection, *kind, query)?;
                let bundle = crate::fhir::pages::searchset(&page, &store.base, *kind, query);
                return Ok(BundleEntry {
                    resource: Some(Resource::of(&bundle)),
                    response: Some(EntryResponse { status: Some("200 OK".to_owned()), ..EntryResponse::default() }),
                    ..BundleEntry::default()
                });
            }
            (_, Some(resource), Some(planned)) => (resource, planned),
            _ => return Err(invalid(IssueType::Required, "a resource is required", &self.at)),
        };
        if let Some(there) = there {
            return Ok(written_entry(&store.base, Written { resource: there, effect: Effect::Unchanged }));
        }
        if let Ask::Create { kind, unless: Some(query) } = &self.ask
            && store.one_that_matches(connection, *kind, query)?.is_some()
        {
            return Err(invalid(IssueType::Duplicate, "two entries make the same resource", &self.at));
        }
        resource.set_id(&id);
        let condition = match &self.ask {
            Ask::Update { version: Some(version), .. } => Condition::VersionIs(version),
            Ask::Create { .. } | Ask::Update { only_new: true, .. } => Condition::Absent,
            _ => Condition::Always,
        };
        Ok(written_entry(&store.base, store.update(connection, resource, condition)?))
    }
}

/// The answer to an entry that wrote.
pub(crate) fn written_entry(base: &str, written: Written) -> BundleEntry {
    let status = match written.effect {
        Effect::Created => "201 Created",
        Effect::Updated | Effect::Unchanged => "200 OK",
    };
    let mut entry = found_entry(written.resource);
    if let Some(response) = &mut entry.response {
        response.status = Some(status.to_owned());
        response.location = entry.resource.as_ref().and_then(Resource::versioned_key).map(|key| key.to_string());
    }
    entry.full_url = entry.resource.as_ref().and_then(Resource::key).map(|key| format!("{base}{key}"));
    entry
}

/// The answer to an entry that read.
pub(crate) fn found_entry(resource: Resource) -> BundleEntry {
    let response = EntryResponse {
        status: Some("200 OK".to_owned()),
        etag: resource.version().map(crate::fhir::etag::write),
        last_modified: resource.last_updated(),
        ..EntryResponse::default()
    };
    BundleEntry { resource: Some(resource), response: Some(response), ..BundleEntry::default() }
}

/// Puts the places of new resources where their `fullUrl`s stood, and the found ones where queries stood.
fn resolve(
    store: &Store,
    connection: &Connection,
    value: &mut Value,
    places: &HashMap<String, String>,
) -> Result<(), FhirError> {
    match value {
        Value::Array(list) => list.iter_mut().try_for_each(|value| resolve(store, connection, value, places)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if matches!(name.as_str(), "reference" | "url" | "valueUri" | "valueUrl") => {
                        if let Some(place) = places.get(text.as_str()) {
                            place.clone_into(text);
                        } else if name == "reference"
                            && let Some((kind, query)) = super::hooks::criteria(text).filter(|_| text.contains('?'))
                        {
                            let found = store.one_that_matches(connection, kind, &query)?;
                            let key = found.and_then(|found| found.key());
                            let absent = || invalid(IssueType::NotFound, "a conditional reference matches nothing", "");
                            *text = key.ok_or_else(absent)?.to_string();
                        }
                    }
                    other => resolve(store, connection, other, places)?,
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The error with the entry's place in front of its own.
pub(crate) fn located(error: FhirError, at: &str) -> FhirError {
    let place = |mut outcome: Box<OperationOutcome>| {
        for issue in &mut outcome.issue {
            if issue.expression.iter().all(|path| !path.starts_with("Bundle.")) {
                issue.expression = vec![at.to_owned()];
            }
        }
        outcome
    };
    match error {
        FhirError::Invalid(outcome) => FhirError::Invalid(place(outcome)),
        FhirError::VersionConflict(outcome) => FhirError::VersionConflict(place(outcome)),
        FhirError::MultipleMatches(outcome) => FhirError::MultipleMatches(place(outcome)),
        other => other,
    }
}
