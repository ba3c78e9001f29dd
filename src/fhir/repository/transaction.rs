//! Transactions (R4, 3.1.0.11.2): all entries or none, tied together by their links.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ask::Ask,
    bundle::{located, read_entry, written_entry},
    links::Links,
    store::{Store, id_for, invalid},
};
use crate::{
    fhir::{
        id::{Id, Key},
        resources::{BundleEntry, EntryResponse, IssueType, Resource, ResourceType},
        server::{Effect, FhirError, Only, Written},
    },
    service::database::Connection,
};

/// An entry on its way through a transaction.
#[derive(Clone)]
struct Step {
    at: String,
    ask: Ask,
    full_url: Option<String>,
    resource: Option<Resource>,
    planned: Option<Planned>,
}

/// What an entry will do with which resource.
#[derive(Clone)]
struct Planned {
    id: Id,
    /// What is there already, where nothing is to be made.
    there: Option<Resource>,
    only_if: Only,
}

/// Carries out all entries or none: whoever calls undoes everything when this gives an error.
pub(super) fn transaction(
    store: &Store,
    connection: &Connection,
    entries: Vec<BundleEntry>,
) -> Result<Vec<BundleEntry>, FhirError> {
    let mut links = Links::default();
    let mut steps = Vec::with_capacity(entries.len());
    let mut written = BTreeSet::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let at = format!("Bundle.entry[{number}]");
        let ask = Ask::read(entry.request.as_ref(), &at)?;
        let mut step = Step { at, ask, full_url: entry.full_url, resource: entry.resource, planned: None };
        if let Some(key) = step.plan(store, connection, number)? {
            if let Some(url) = &step.full_url
                && !links.place(url, &key)
            {
                let at = format!("{}.fullUrl", step.at);
                return Err(invalid(IssueType::Invariant, "bdl-7: another entry has the same fullUrl", &at));
            }
            if step.writes() && !written.insert(key) {
                return Err(invalid(IssueType::Invalid, "two entries write the same resource", &step.at));
            }
        }
        steps.push(step);
    }
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for (number, step) in steps.iter_mut().enumerate().filter(|(_, step)| step.writes()) {
        if let Some(resource) = &mut step.resource {
            let conditional = links.rewrite(resource, step.full_url.as_deref());
            conditional.into_iter().for_each(|text| _ = wanted.entry(text).or_insert(number));
        }
    }
    if !wanted.is_empty() {
        settle_conditions(store, connection, &mut links, &mut steps, &wanted)?;
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

/// Puts the resources that match where conditional references stand. They may match what this very transaction makes,
/// in any order and each other; so its writes are rehearsed, and the matches looked up among what is there then.
fn settle_conditions(
    store: &Store,
    connection: &Connection,
    links: &mut Links,
    steps: &mut [Step],
    wanted: &BTreeMap<String, usize>,
) -> Result<(), FhirError> {
    let look_up = |connection: &Connection, links: &mut Links, must_be: bool| {
        for (text, number) in wanted {
            let found = match super::hooks::criteria(text) {
                Some((kind, query)) => store.one_that_matches(connection, kind, &query),
                None => Ok(None),
            };
            match found.map(|found| found.and_then(|found| found.key())) {
                Ok(Some(key)) => links.settle(text, &key),
                // It may match, or match alone, once all is written.
                _ if !must_be => {}
                Ok(None) => {
                    let text = "a conditional reference matches nothing";
                    return Err(invalid(IssueType::NotFound, text, &entry_at(*number)));
                }
                Err(error) => return Err(located(error, &entry_at(*number))),
            }
        }
        Ok(())
    };
    if !wanted.keys().any(|text| may_match_new(text, steps)) {
        return look_up(connection, links, true).map(|()| rewrite_all(links, steps));
    }
    let mut before = links.clone();
    look_up(connection, &mut before, false)?;
    let mut rehearsed = steps.to_vec();
    connection.rehearse(|connection| {
        for phase in 0..2 {
            for step in rehearsed.iter_mut().filter(|step| step.phase() == phase) {
                if let Some(resource) = &mut step.resource {
                    before.rewrite(resource, None);
                }
                step.carry_out(store, connection).map_err(|error| located(error, &step.at))?;
            }
        }
        look_up(connection, links, true)
    })?;
    rewrite_all(links, steps);
    Ok(())
}

/// Whether what the steps write may be what a conditional reference matches, or a link of its chain.
fn may_match_new(text: &str, steps: &[Step]) -> bool {
    super::hooks::criteria(text).is_some_and(|(kind, query)| {
        let of_kind = |step: &Step| step.resource.as_ref().and_then(Resource::kind) == Some(kind);
        query.parameters().any(|(name, _)| name.contains('.') || name.starts_with("_has:"))
            || steps.iter().any(|step| step.writes() && of_kind(step))
    })
}

fn rewrite_all(links: &Links, steps: &mut [Step]) {
    for resource in steps.iter_mut().filter_map(|step| step.resource.as_mut()) {
        links.rewrite(resource, None);
    }
}

fn entry_at(number: usize) -> String {
    format!("Bundle.entry[{number}]")
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

    fn writes(&self) -> bool {
        self.planned.as_ref().is_some_and(|planned| planned.there.is_none())
    }

    /// Decides which resource the entry will write, or is about.
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
        let planned = self.planned(store, connection, kind, resource.id(), number);
        let planned = planned.map_err(|error| located(error, &self.at))?;
        let key = Key::new(kind, planned.id.clone());
        self.planned = Some(planned);
        Ok(Some(key))
    }

    fn planned(
        &self,
        store: &Store,
        connection: &Connection,
        kind: ResourceType,
        own: Option<Id>,
        number: usize,
    ) -> Result<Planned, FhirError> {
        let fresh = || id_for(connection, number);
        let to_write = |id: Id, only_if: Only| Planned { id, there: None, only_if };
        match &self.ask {
            Ask::Create { unless: Some(query), .. } => match store.one_that_matches(connection, kind, query)? {
                Some(there) => {
                    let id = there.id().map_or_else(fresh, Ok)?;
                    Ok(Planned { id, there: Some(there), only_if: Only::Always })
                }
                None => Ok(to_write(fresh()?, Only::IfAbsent)),
            },
            Ask::UpdateWhere { query, only_if, .. } => {
                let (id, only_if) = store.aim(connection, kind, query, own, only_if.as_condition())?;
                Ok(to_write(id.map_or_else(fresh, Ok)?, only_if.into()))
            }
            Ask::Update { key, only_if } if own.as_ref() == Some(&key.id) => {
                Ok(to_write(key.id.clone(), only_if.clone()))
            }
            Ask::Update { .. } => {
                let at = format!("{}.resource.id", self.at);
                Err(invalid(IssueType::Invalid, "not the id in request.url", &at))
            }
            _ => Ok(to_write(fresh()?, Only::IfAbsent)),
        }
    }

    fn carry_out(&mut self, store: &Store, connection: &Connection) -> Result<BundleEntry, FhirError> {
        let (mut resource, planned) = match (&self.ask, self.resource.take(), self.planned.take()) {
            (Ask::Read { key, unless }, ..) => {
                let found = match &key.version {
                    Some(version) => store.vread(connection, key.kind, &key.id, version)?,
                    None => store.read(connection, key.kind, &key.id)?,
                };
                return Ok(read_entry(found, unless.as_ref()));
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
        if let Some(there) = planned.there {
            return Ok(written_entry(&store.base, Written { resource: there, effect: Effect::Unchanged }));
        }
        if let Ask::Create { kind, unless: Some(query) } | Ask::UpdateWhere { kind, query, .. } = &self.ask
            && planned.only_if == Only::IfAbsent
            && store.one_that_matches(connection, *kind, query)?.is_some()
        {
            return Err(invalid(IssueType::Duplicate, "two entries make the same resource", &self.at));
        }
        let written = match &self.ask {
            Ask::Create { .. } => store.make(connection, resource, &planned.id)?,
            _ => {
                resource.set_id(&planned.id);
                store.update(connection, resource, planned.only_if.as_condition())?
            }
        };
        Ok(written_entry(&store.base, written))
    }
}
