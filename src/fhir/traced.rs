//! A server that remembers which trace wrote which version, so that what follows from a change goes on in it.
//!
//! The embedded repository keeps no traces with its resources: they would be seen by every client, and a write that
//! changes nothing would change something. What is forgotten when the process ends is a connection between two lines
//! of a log, never work.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::{
    id::{Id, Key},
    instant::DateTime,
    query::Query,
    resources::{Bundle, CapabilityStatement, Resource, ResourceType},
    server::{Answer, Changes, Condition, Cursor, Effect, FhirError, FhirServer, HistoryOf, Page, PageLink, Written},
};
use crate::service::trace::{self, Memory, Trace};

/// Versions whose traces are remembered: more than are written between two looks at what changed.
const REMEMBERED: usize = 16_384;

/// How long whoever reads changes waits for writes that are durable and not yet noted, at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// A server with a memory for traces.
#[derive(Debug)]
pub struct Traced {
    server: Arc<dyn FhirServer>,
    versions: Memory,
    /// Writes that have begun and are not noted yet, by their numbers; and the number of the next.
    writing: Mutex<(BTreeSet<u64>, u64)>,
    noted: Notify,
}

/// A write under way, for as long as this lives.
struct Ticket<'a>(&'a Traced, u64);

// === impl Traced ===

impl Traced {
    /// Puts a memory in front of a server.
    pub fn new(server: Arc<dyn FhirServer>) -> Self {
        Self { server, versions: Memory::new(REMEMBERED), writing: Mutex::default(), noted: Notify::new() }
    }

    fn writing(&self) -> MutexGuard<'_, (BTreeSet<u64>, u64)> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Ticket<'_> {
        let mut writing = self.writing();
        let number = writing.1;
        writing.1 += 1;
        writing.0.insert(number);
        Ticket(self, number)
    }

    /// Waits a moment for the writes that have begun: a change can be read before its trace is noted.
    async fn catch_up(&self) {
        let begun = self.writing().1;
        let wait = async {
            loop {
                let noted = self.noted.notified();
                if self.writing().0.first().is_none_or(|oldest| *oldest >= begun) {
                    return;
                }
                noted.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }

    fn note(&self, written: Result<Written, FhirError>) -> Result<Written, FhirError> {
        if let Ok(Written { resource, effect: Effect::Created | Effect::Updated }) = &written
            && let (Some(key), Some(trace)) = (resource.versioned_key(), trace::current())
        {
            self.versions.note(key.to_string(), trace);
        }
        written
    }

    fn note_all(&self, answer: &Bundle) {
        let Some(trace) = trace::current() else { return };
        let responses = answer.entry.iter().filter_map(|entry| entry.response.as_ref());
        for key in responses.filter_map(|response| Key::parse(response.location.as_deref()?)) {
            self.versions.note(key.to_string(), trace.clone());
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.writing().0.remove(&self.1);
        self.0.noted.notify_waiters();
    }
}

impl FhirServer for Traced {
    fn capabilities(&self) -> Answer<'_, CapabilityStatement> {
        self.server.capabilities()
    }

    fn read<'a>(&'a self, kind: ResourceType, id: &'a Id) -> Answer<'a, Resource> {
        self.server.read(kind, id)
    }

    fn vread<'a>(&'a self, kind: ResourceType, id: &'a Id, version: &'a str) -> Answer<'a, Resource> {
        self.server.vread(kind, id, version)
    }

    fn create<'a>(&'a self, resource: Resource, unless: Option<&'a Query>) -> Answer<'a, Written> {
        async move {
            let _writing = self.begin();
            self.note(self.server.create(resource, unless).await)
        }
        .boxed()
    }

    fn update<'a>(&'a self, resource: Resource, only_if: Condition<'a>) -> Answer<'a, Written> {
        async move {
            let _writing = self.begin();
            self.note(self.server.update(resource, only_if).await)
        }
        .boxed()
    }

    fn update_where<'a>(&'a self, resource: Resource, query: &'a Query, only_if: Condition<'a>) -> Answer<'a, Written> {
        async move {
            let _writing = self.begin();
            self.note(self.server.update_where(resource, query, only_if).await)
        }
        .boxed()
    }

    fn search<'a>(&'a self, kind: ResourceType, query: &'a Query) -> Answer<'a, Page> {
        self.server.search(kind, query)
    }

    fn history<'a>(&'a self, of: HistoryOf<'a>, since: Option<&'a DateTime>, count: Option<u32>) -> Answer<'a, Page> {
        self.server.history(of, since, count)
    }

    fn follow<'a>(&'a self, link: &'a PageLink) -> Answer<'a, Page> {
        self.server.follow(link)
    }

    fn transact(&self, bundle: Bundle) -> Answer<'_, Bundle> {
        async move {
            let _writing = self.begin();
            self.server.transact(bundle).await.inspect(|answer| self.note_all(answer))
        }
        .boxed()
    }

    fn changes<'a>(&'a self, kinds: &'a [ResourceType], since: Option<&'a Cursor>, limit: u32) -> Answer<'a, Changes> {
        async move {
            let changes = self.server.changes(kinds, since, limit).await?;
            if !changes.resources.is_empty() {
                self.catch_up().await;
            }
            Ok(changes)
        }
        .boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.server.hints()
    }

    fn pace(&self) -> Option<Duration> {
        self.server.pace()
    }

    fn missed_a_hint(&self) {
        self.server.missed_a_hint();
    }

    fn trace_of(&self, version: &Key) -> Option<Trace> {
        self.versions.of(&version.to_string()).or_else(|| self.server.trace_of(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::repository::Repository;
    use serde_json::json;

    fn message() -> Resource {
        serde_json::from_value(json!({"resourceType": "Communication", "status": "completed"})).unwrap()
    }

    #[tokio::test]
    async fn a_change_is_known_by_the_trace_that_wrote_it() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::open(&directory.path().join("fhir.db"), "http://localhost/fhir").unwrap();
        let server = Traced::new(Arc::new(repository));
        let (one, other) = (Trace::fresh(), Trace::fresh());
        one.clone().scope(server.create(message(), None)).await.unwrap();
        server.create(message(), None).await.unwrap();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "POST", "url": "Communication"}, "resource": message().members()}]});
        let bundle: Resource = serde_json::from_value(bundle).unwrap();
        other.clone().scope(server.transact(bundle.into_typed().unwrap())).await.unwrap();
        let changes = server.changes(&[ResourceType::Communication], None, 10).await.unwrap();
        let traces: Vec<_> =
            changes.resources.iter().map(|found| server.trace_of(&found.versioned_key().unwrap())).collect();
        assert_eq!(traces, [Some(one), None, Some(other)]);
        assert!(server.writing().0.is_empty());
    }

    #[tokio::test]
    async fn a_write_that_never_ends_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::open(&directory.path().join("fhir.db"), "http://localhost/fhir").unwrap();
        let server = Traced::new(Arc::new(repository));
        server.create(message(), None).await.unwrap();
        let stuck = server.begin();
        assert_eq!(server.changes(&[ResourceType::Communication], None, 10).await.unwrap().resources.len(), 1);
        drop(stuck);
        assert!(server.writing().0.is_empty());
    }
}
