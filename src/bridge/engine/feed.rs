//! What the FHIR server has to tell: changes since the last one that is stored, each version once.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Engine, Trouble, work};
use crate::{
    bridge::{
        mapping::{message, thread},
        store::{Change, NewWork, Side, StoreError},
    },
    fhir::{
        id::Key,
        resources::{Communication, Reference, Resource, ResourceType},
        server::{Cursor, FhirError},
    },
    service::trace::Trace,
};

/// The types that the bridge follows.
pub const FOLLOWED: [ResourceType; 9] = [
    ResourceType::Patient,
    ResourceType::Practitioner,
    ResourceType::PractitionerRole,
    ResourceType::RelatedPerson,
    ResourceType::Organization,
    ResourceType::CareTeam,
    ResourceType::CommunicationRequest,
    ResourceType::Communication,
    ResourceType::Task,
];
/// Name of the cursor in the store.
const CURSOR: &str = "fhir";
/// Seconds for which one replica polls without a word from it, at least.
const DUTY: u64 = 15;
/// Resources that are read at a time.
const PAGE: u32 = 200;

// === impl Engine ===

impl Engine {
    /// Follows the FHIR server until `stop`.
    pub(super) async fn feed(self: Arc<Self>, stop: CancellationToken) {
        let mut hints = self.fhir.hints();
        let (mut failures, mut told, mut hinted) = (0, true, true);
        loop {
            let wait = match self.look_at_changes(hinted, &stop).await {
                Ok(found) => {
                    failures = 0;
                    if found > 0 && !told {
                        self.fhir.missed_a_hint();
                    }
                    if self.presence(Side::Fhir).here() {
                        self.ring();
                    }
                    self.fhir.pace().unwrap_or(Duration::from_secs(self.settings.poll_seconds))
                }
                Err(trouble) => {
                    if failures == 0 {
                        warn!(%trouble, "changes of the FHIR server cannot be read; trying on");
                    }
                    self.presence(Side::Fhir).away(&trouble);
                    failures += 1;
                    super::workers::back_off(failures)
                }
            };
            (told, hinted) = (true, false);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = hints.changed(), if failures == 0 => {
                    hinted = changed.is_ok();
                    // A server that gives no hints any more is polled.
                    if changed.is_err() {
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(wait) => {}
                        }
                    }
                }
                () = tokio::time::sleep(wait) => told = failures > 0,
            }
        }
    }

    /// Reads what changed, if that is this replica's to do: one of them polls, any follows a hint that it got, and
    /// one that was refused looks whether the server is back. Two that read the same store it once.
    async fn look_at_changes(&self, hinted: bool, stop: &CancellationToken) -> Result<usize, Trouble> {
        let lasting = Duration::from_secs(self.settings.poll_seconds.saturating_mul(3).max(DUTY));
        if hinted || self.presence(Side::Fhir).absence().is_some() || self.store.take_duty("feed", lasting).await? {
            return self.read_changes(stop).await;
        }
        Ok(0)
    }

    /// Reads and stores what changed since the cursor. Says how much it was.
    pub(super) async fn read_changes(&self, stop: &CancellationToken) -> Result<usize, Trouble> {
        let mut found = 0;
        loop {
            let cursor = self.store.cursor(CURSOR).await?.map(Cursor);
            let changes = self.fhir.changes(&FOLLOWED, cursor.as_ref(), PAGE).await?;
            if cursor.as_ref() == Some(&changes.next) && changes.resources.is_empty() {
                return Ok(found);
            }
            debug!(resources = changes.resources.len(), "changes of the FHIR server");
            found += changes.resources.len();
            let mut units: Vec<Change> =
                changes.resources.into_iter().filter_map(|resource| self.once(resource)).collect();
            for key in &changes.damaged {
                warn!(version = %key, "a change cannot be read; it is named in parked work");
                let lane = Key::new(key.kind, key.id.clone()).to_string();
                units.push(aside(&key.to_string(), lane, "what FHIR has there is damaged")?);
            }
            units.push(Change::Cursor { name: CURSOR.to_owned(), value: changes.next.0 });
            match self.commit(units.clone()).await {
                Err(StoreError::Database(error)) if error.is_about_the_work() => self.take_page_apart(units).await?,
                stored => stored?,
            }
            if !changes.more || stop.is_cancelled() {
                return Ok(found);
            }
        }
    }

    /// Stores a page piece by piece, because the database refuses something in it and always will: everything behind it
    /// would wait. What is refused is parked by its name; whoever retries that has it read again.
    async fn take_page_apart(&self, units: Vec<Change>) -> Result<(), Trouble> {
        for unit in units {
            match (self.commit(vec![unit.clone()]).await, unit) {
                (Err(StoreError::Database(error)), Change::Once { key, work }) if error.is_about_the_work() => {
                    warn!(%error, version = key, "a change cannot be stored; it is named in parked work");
                    self.commit(vec![aside(&key, work.lane, "the database refused it")?]).await?;
                }
                (stored, _) => stored?,
            }
        }
        Ok(())
    }

    /// Has a resource that could not be stored taken in after all, in its newest version.
    pub(super) async fn take_again(&self, key: &Key) -> Result<Vec<Change>, Trouble> {
        let resource = match self.fhir.read(key.kind, &key.id).await {
            Err(FhirError::NotFound(_)) => return Ok(Vec::new()),
            found => found?,
        };
        Ok(self.once(resource).into_iter().collect())
    }

    /// A version of a resource as work to be done once, in the trace that wrote it.
    fn once(&self, resource: Resource) -> Option<Change> {
        let key = resource.versioned_key()?;
        let trace = self.fhir.trace_of(&key).map_or_else(Trace::fresh, |trace| trace.child());
        let mut work = work_for(resource)?;
        work.payload = trace.stamp(&work.payload);
        Some(Change::Once { key: key.to_string(), work })
    }
}

/// Work for people to look at, about a version that could not be taken in.
fn aside(version: &str, lane: String, why: &str) -> Result<Change, Trouble> {
    let resource = version.split("/_history/").next().unwrap_or(version);
    let reason = format!("{version} is in FHIR and not in Matrix: {why}");
    Ok(Change::Aside {
        key: format!("unstored {version}"),
        work: work(Side::Matrix, lane, "members", &resource)?,
        reason,
    })
}

/// The work that a resource makes, in no trace yet. What belongs to one conversation stands in one lane.
pub(super) fn work_for(resource: Resource) -> Option<NewWork> {
    let key = resource.key()?.to_string();
    let (kind, lane) = match resource.kind()? {
        ResourceType::CareTeam => ("CareTeam", key),
        ResourceType::CommunicationRequest => ("CommunicationRequest", key),
        ResourceType::Communication => {
            let request = resource.to::<Communication>().ok().and_then(|resource| message::request_of(&resource));
            ("Communication", request.map_or(key, |request| super::intake::lane_of(&request)))
        }
        ResourceType::Task => {
            let based_on: Vec<Reference> =
                serde_json::from_value(resource.members().get("basedOn").cloned().unwrap_or(Value::Null)).ok()?;
            let request = based_on.iter().find_map(thread::instance)?;
            ("Task", request.to_string())
        }
        ResourceType::Patient
        | ResourceType::Practitioner
        | ResourceType::PractitionerRole
        | ResourceType::RelatedPerson
        | ResourceType::Organization => ("person", key),
        _ => return None,
    };
    Some(NewWork { side: Side::Matrix, lane, kind, payload: resource.to_json(), delay: Duration::ZERO })
}
