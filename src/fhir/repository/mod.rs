//! The embedded FHIR repository: on a SQLite file, or on PostgreSQL, which several replicas share.
//!
//! Nothing is deleted and no version is changed. Every version has a number and a moment of its own, both growing in
//! the order of commits, so that cursors and `_lastUpdated` never miss one. One transaction writes at a time, also
//! between replicas, so that `If-None-Exist` holds: see [`crate::service::database`].

mod accept;
mod ask;
mod bundle;
mod condition;
mod find;
mod hooks;
mod links;
mod plan;
mod schema;
mod store;
mod transaction;
mod values;

use std::{fmt, num::NonZeroUsize, path::Path, sync::Arc, thread};

use futures_util::future::{FutureExt as _, join_all};
use tokio::sync::watch;

use self::{
    accept::{accept, accept_checked, check},
    store::Store,
};
use super::{
    capability,
    id::Id,
    instant::DateTime,
    query::Query,
    resources::{
        Bundle, BundleEntry, BundleType, CapabilityStatement, EntryResponse, IssueType, Resource, ResourceType,
        Subscription, SubscriptionStatus,
    },
    server::{Answer, Changes, Condition, Cursor, FhirError, FhirServer, HistoryOf, Only, Page, PageLink, Written},
};
use crate::service::{
    database::{Connection, Database, DatabaseError, Patience, Server},
    failure::Failure,
};

pub(crate) use ask::Ask;
pub(crate) use hooks::{Owed, criteria};
pub(crate) use plan::is_parameter;
pub use schema::SCHEMA;

/// Entries of one batch or transaction at most.
const MOST_ENTRIES: usize = 5000;

/// An embedded FHIR R4 server without its REST interface. Copies share the same database.
#[derive(Clone)]
pub struct Repository {
    database: Database,
    store: Store,
    hints: watch::Sender<u64>,
    started: DateTime,
}

// === impl Repository ===

impl Repository {
    /// Opens a file, or makes it.
    ///
    /// `base` is the address under which the REST interface is reached, `http://127.0.0.1:1234/fhir`: absolute
    /// references below it are references to this repository.
    ///
    /// # Errors
    /// When the file cannot be opened, is not such a database, or is one of a newer program.
    pub fn open(path: &Path, base: &str) -> Result<Self, Failure> {
        let readers = thread::available_parallelism().map_or(4, NonZeroUsize::get).clamp(4, 16);
        let hints = watch::Sender::new(0);
        let database = Database::open(path, SCHEMA, readers, hint(&hints))?;
        Ok(Self::new(database, hints, base))
    }

    /// Connects with PostgreSQL.
    ///
    /// # Errors
    /// See [`Database::connect`].
    pub async fn connect(server: &Arc<Server>, base: &str, patience: Patience) -> Result<Self, Failure> {
        let hints = watch::Sender::new(0);
        let database = Database::connect(server, SCHEMA, patience, hint(&hints)).await?;
        Ok(Self::new(database, hints, base))
    }

    fn new(database: Database, hints: watch::Sender<u64>, base: &str) -> Self {
        let store = Store { base: format!("{}/", base.trim_end_matches('/')) };
        Self { database, store, hints, started: DateTime::now() }
    }

    /// The address under which the REST interface is reached, without a slash at its end.
    pub fn base(&self) -> &str {
        self.store.base.trim_end_matches('/')
    }

    async fn read_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &Connection) -> Result<T, FhirError> + Send + 'static,
    ) -> Result<T, FhirError> {
        let store = self.store.clone();
        self.database.read(move |connection| work(&store, connection)).await
    }

    async fn write_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &Connection) -> Result<T, FhirError> + Send + 'static,
    ) -> Result<T, FhirError> {
        let store = self.store.clone();
        self.database.write(move |connection| work(&store, connection)).await
    }

    /// Writes the next version of a subscription as the server itself: it alone says `active` and `error`.
    pub(crate) async fn set_subscription(
        &self,
        id: Id,
        status: SubscriptionStatus,
        error: Option<String>,
    ) -> Result<(), FhirError> {
        self.write_with(move |store, connection| set_status(store, connection, &id, status, error)).await
    }

    /// The subscriptions that are owed a call.
    pub(crate) async fn owed(&self) -> Result<Vec<Owed>, FhirError> {
        self.read_with(|_, connection| Ok(hooks::owed(connection)?)).await
    }

    /// Takes a call over, before another replica does; it is due again at `until`, should this one die.
    pub(crate) async fn take(&self, owed: Owed, until: i64) -> Result<bool, FhirError> {
        self.write_with(move |_, connection| Ok(hooks::take(connection, &owed, until)?)).await
    }

    /// Takes note that a call reached its endpoint: the subscription is active, and owed no more. Both or neither, so that
    /// whoever ends in between leaves none that was called and stays `requested`.
    pub(crate) async fn delivered(&self, owed: Owed) -> Result<(), FhirError> {
        self.write_with(move |store, connection| {
            hooks::delivered(connection, &owed.id, owed.wanted)?;
            set_status(store, connection, &owed.id, SubscriptionStatus::Active, None)
        })
        .await
    }

    /// Takes note that a call failed; gives how often it did so in a row.
    pub(crate) async fn failed(&self, id: Id, due: i64) -> Result<u32, FhirError> {
        self.write_with(move |_, connection| Ok(hooks::failed(connection, &id, due)?)).await
    }

    async fn search_page(&self, kind: ResourceType, query: Query) -> Result<Page, FhirError> {
        self.read_with(move |store, connection| store.search(connection, kind, &query)).await
    }

    async fn history_page(
        &self,
        kind: Option<ResourceType>,
        id: Option<Id>,
        since: Option<DateTime>,
        count: Option<u32>,
        before: Option<i64>,
    ) -> Result<Page, FhirError> {
        self.read_with(move |store, connection| {
            let of = match (kind, &id) {
                (Some(kind), Some(id)) => HistoryOf::Instance(kind, id),
                (Some(kind), None) => HistoryOf::Type(kind),
                (None, _) => HistoryOf::System,
            };
            store.history(connection, of, since.as_ref(), count, before)
        })
        .await
    }

    async fn follow_page(&self, link: &str) -> Result<Page, FhirError> {
        let wrong = || store::invalid(IssueType::Invalid, "not a page of this server", "");
        let (path, query) = link.split_once('?').ok_or_else(wrong)?;
        let query = Query::parse(query).map_err(|_| wrong())?;
        let Some(of) = path.strip_suffix("_history") else {
            return self.search_page(path.parse().map_err(|_| wrong())?, query).await;
        };
        let (kind, id) = match of.trim_end_matches('/').split_once('/') {
            Some((kind, id)) => (Some(kind.parse().map_err(|_| wrong())?), Some(id.parse().map_err(|_| wrong())?)),
            None if of.is_empty() => (None, None),
            None => (Some(of.trim_end_matches('/').parse().map_err(|_| wrong())?), None),
        };
        let number = |name: &str| query.get(name).map(str::parse::<i64>).transpose().map_err(|_| wrong());
        let count = number("_count")?.and_then(|count| u32::try_from(count).ok());
        let since = query.get("_since").map(|since| DateTime::parse(since).ok_or_else(wrong)).transpose()?;
        self.history_page(kind, id, since, count, number(plan::CURSOR)?).await
    }

    async fn carry_out(&self, bundle: Bundle) -> Result<Bundle, FhirError> {
        if bundle.entry.len() > MOST_ENTRIES {
            let text = format!("at most {MOST_ENTRIES} entries are taken at once");
            return Err(store::invalid(IssueType::TooCostly, &text, "Bundle.entry"));
        }
        match bundle.kind {
            Some(BundleType::Transaction) => {
                check(&Resource::of(&bundle))?;
                let mut entries = bundle.entry;
                for (number, entry) in entries.iter_mut().enumerate() {
                    let at = format!("Bundle.entry[{number}]");
                    if let Some(resource) = entry.resource.take() {
                        entry.resource = Some(accept_checked(resource).map_err(|error| bundle::located(error, &at))?);
                    }
                }
                let entry =
                    self.write_with(|store, connection| transaction::transaction(store, connection, entries)).await?;
                Ok(Bundle { kind: Some(BundleType::TransactionResponse), entry, ..Bundle::default() })
            }
            Some(BundleType::Batch) => {
                let answers =
                    bundle.entry.into_iter().enumerate().map(|(number, entry)| self.batch_entry(number, entry));
                let entry = join_all(answers).await;
                Ok(Bundle { kind: Some(BundleType::BatchResponse), entry, ..Bundle::default() })
            }
            _ => Err(store::invalid(IssueType::Value, "batch or transaction is required", "Bundle.type")),
        }
    }

    async fn batch_entry(&self, number: usize, entry: BundleEntry) -> BundleEntry {
        let at = format!("Bundle.entry[{number}]");
        let answer = self.batch_answer(&at, entry).await;
        answer.map_err(|error| bundle::located(error, &at)).unwrap_or_else(|error| {
            let (status, outcome) = super::outcome::of(&error);
            let response = EntryResponse {
                status: Some(status.to_string()),
                outcome: Some(Resource::of(&outcome)),
                ..EntryResponse::default()
            };
            BundleEntry { response: Some(response), ..BundleEntry::default() }
        })
    }

    async fn batch_answer(&self, at: &str, entry: BundleEntry) -> Result<BundleEntry, FhirError> {
        let ask = Ask::read(entry.request.as_ref(), at)?;
        bundle::check_apart(&entry, at)?;
        let wrong = |text: &str| store::invalid(IssueType::Invalid, text, &format!("{at}.resource"));
        let resource = |kind: ResourceType| match entry.resource {
            Some(resource) if resource.kind() == Some(kind) => Ok(resource),
            Some(_) => Err(wrong("not of the type in request.url")),
            None => Err(wrong("a resource is required")),
        };
        let written = match ask {
            Ask::Create { kind, unless } => self.create(resource(kind)?, unless.as_ref()).await?,
            Ask::UpdateWhere { kind, query, only_if } => {
                self.update_where(resource(kind)?, &query, only_if.as_condition()).await?
            }
            Ask::Update { key, only_if } => {
                let resource = resource(key.kind)?;
                if resource.id().as_ref() != Some(&key.id) {
                    return Err(wrong("not the id in request.url"));
                }
                self.update(resource, only_if.as_condition()).await?
            }
            Ask::Read { key, unless } => {
                let found = match &key.version {
                    Some(version) => self.vread(key.kind, &key.id, version).await?,
                    None => FhirServer::read(self, key.kind, &key.id).await?,
                };
                return Ok(bundle::read_entry(found, unless.as_ref()));
            }
            Ask::Search { kind, query } => {
                let page = self.search(kind, &query).await?;
                let found = super::pages::searchset(&page, &self.store.base, kind, &query);
                return Ok(bundle::found_entry(Resource::of(&found)));
            }
        };
        Ok(bundle::written_entry(&self.store.base, written))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("database", &self.database)
            .field("base", &self.store.base)
            .finish_non_exhaustive()
    }
}

/// Writes the next version of a subscription that is not off and has another status.
fn set_status(
    store: &Store,
    connection: &Connection,
    id: &Id,
    status: SubscriptionStatus,
    error: Option<String>,
) -> Result<(), FhirError> {
    let found = store.read(connection, ResourceType::Subscription, id)?;
    let mut subscription: Subscription = found.to().map_err(|_| store::damaged())?;
    let is_so = subscription.status.as_ref() == Some(&status) && subscription.error == error;
    if is_so || subscription.status == Some(SubscriptionStatus::Off) {
        return Ok(());
    }
    subscription.status = Some(status);
    subscription.error = error;
    store.update(connection, Resource::of(&subscription), Condition::Always).map(|_| ())
}

/// Rings for those who follow what changes.
fn hint(hints: &watch::Sender<u64>) -> impl Fn() + Send + 'static {
    let hints = hints.clone();
    move || hints.send_modify(|number| *number += 1)
}

/// What the database says is the server's affair: who asks hears whether to ask again.
impl From<DatabaseError> for FhirError {
    fn from(error: DatabaseError) -> Self {
        if error.is_final() {
            tracing::error!(%error, "the FHIR repository's database gave an unexpected error");
        }
        match error {
            DatabaseError::Refused(_) => Self::Refused("the storage does not take it".to_owned()),
            DatabaseError::Unexpected(_) => store::damaged(),
            // Others may be served meanwhile.
            DatabaseError::GaveUp(_) => Self::Busy { retry_after: None },
            DatabaseError::Unreachable(_)
            | DatabaseError::Hindered(_)
            | DatabaseError::Denied(_)
            | DatabaseError::Closed => Self::Unavailable("storage".to_owned()),
        }
    }
}

impl FhirServer for Repository {
    fn capabilities(&self) -> Answer<'_, CapabilityStatement> {
        async {
            let statement = capability::statement(self.base(), false, &self.started);
            statement.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))
        }
        .boxed()
    }

    fn read<'a>(&'a self, kind: ResourceType, id: &'a Id) -> Answer<'a, Resource> {
        let id = id.clone();
        self.read_with(move |store, connection| store.read(connection, kind, &id)).boxed()
    }

    fn vread<'a>(&'a self, kind: ResourceType, id: &'a Id, version: &'a str) -> Answer<'a, Resource> {
        let (id, version) = (id.clone(), version.to_owned());
        self.read_with(move |store, connection| store.vread(connection, kind, &id, &version)).boxed()
    }

    fn create<'a>(&'a self, mut resource: Resource, unless: Option<&'a Query>) -> Answer<'a, Written> {
        let unless = unless.cloned();
        async move {
            resource.members_mut().shift_remove("id");
            let resource = accept(resource)?;
            self.write_with(move |store, connection| store.create(connection, resource, unless.as_ref())).await
        }
        .boxed()
    }

    fn update<'a>(&'a self, resource: Resource, only_if: Condition<'a>) -> Answer<'a, Written> {
        let only_if = Only::from(only_if);
        async move {
            let resource = accept(resource)?;
            self.write_with(move |store, connection| store.update(connection, resource, only_if.as_condition())).await
        }
        .boxed()
    }

    fn update_where<'a>(&'a self, resource: Resource, query: &'a Query, only_if: Condition<'a>) -> Answer<'a, Written> {
        let (query, only_if) = (query.clone(), Only::from(only_if));
        async move {
            let resource = accept(resource)?;
            self.write_with(move |store, connection| {
                store.update_where(connection, resource, &query, only_if.as_condition())
            })
            .await
        }
        .boxed()
    }

    fn search<'a>(&'a self, kind: ResourceType, query: &'a Query) -> Answer<'a, Page> {
        self.search_page(kind, query.clone()).boxed()
    }

    fn history<'a>(&'a self, of: HistoryOf<'a>, since: Option<&'a DateTime>, count: Option<u32>) -> Answer<'a, Page> {
        let (kind, id) = match of {
            HistoryOf::Instance(kind, id) => (Some(kind), Some(id.clone())),
            HistoryOf::Type(kind) => (Some(kind), None),
            HistoryOf::System => (None, None),
        };
        self.history_page(kind, id, since.cloned(), count, None).boxed()
    }

    fn follow<'a>(&'a self, link: &'a PageLink) -> Answer<'a, Page> {
        self.follow_page(&link.0).boxed()
    }

    fn transact(&self, bundle: Bundle) -> Answer<'_, Bundle> {
        self.carry_out(bundle).boxed()
    }

    fn changes<'a>(&'a self, kinds: &'a [ResourceType], since: Option<&'a Cursor>, limit: u32) -> Answer<'a, Changes> {
        let kinds = kinds.to_vec();
        async move {
            let seq = match since {
                None => 0,
                Some(cursor) => {
                    cursor.0.parse().map_err(|_| FhirError::Protocol("not a cursor of this server".to_owned()))?
                }
            };
            self.read_with(move |store, connection| {
                let limit = limit.max(1);
                let found = store.after(connection, &kinds, seq, limit)?;
                let more = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
                // Where nothing more matches, the next look need not pass over the rest again.
                let next = match found.last() {
                    Some((last, _)) if more => *last,
                    _ => store.newest(connection)?.max(seq),
                };
                let (mut resources, mut damaged) = (Vec::new(), Vec::new());
                for (_, version) in found {
                    match version {
                        Ok(resource) => resources.push(resource),
                        Err(key) => damaged.push(key),
                    }
                }
                Ok(Changes { resources, damaged, next: Cursor(next.to_string()), more })
            })
            .await
        }
        .boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
}

#[cfg(test)]
mod tests;
