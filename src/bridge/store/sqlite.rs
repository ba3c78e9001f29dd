//! The store in one SQLite file: a writer thread that commits in groups, and a few readers.
//!
//! Durable means on disk: write-ahead log with `synchronous = FULL`. Whoever asks for a commit is answered after the
//! sync; those who ask at the same time share it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Answer, Change, Lease, Millis, Side, StoreError, apply, schema};
use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

/// Units that may stand before the writer; more have to wait, so that memory stays bounded.
const QUEUE: usize = 1024;
/// Units that share one sync.
const GROUP: usize = 256;
/// Connections that read at the same time.
const READERS: usize = 4;
/// How long one connection waits for another process's write.
const BUSY: Duration = Duration::from_secs(10);

/// Who opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bridge itself: one at a time. Leases of an earlier process end.
    Serve,
    /// A command beside the running bridge.
    Visit,
}

/// A store in one file.
pub struct Sqlite {
    writer: mpsc::Sender<Request>,
    readers: Arc<Readers>,
    // Held for as long as the bridge serves.
    _lock: Option<File>,
}

/// Connections for reading, and the right to one of them.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// What the writer thread is asked for.
enum Request {
    Commit(Vec<Change>, oneshot::Sender<rusqlite::Result<()>>),
    Claim { side: Side, limit: usize, now: Millis, until: Millis, reply: oneshot::Sender<rusqlite::Result<Vec<Lease>>> },
}

/// What the writer answers once the group is on disk.
enum Reply {
    Commit(oneshot::Sender<rusqlite::Result<()>>, rusqlite::Result<()>),
    Claim(oneshot::Sender<rusqlite::Result<Vec<Lease>>>, rusqlite::Result<Vec<Lease>>),
}

// === impl Sqlite ===

impl Sqlite {
    /// Opens the file, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// When another bridge serves from the file, when a newer program wrote it, or when it cannot be opened.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, Failure> {
        let lock = if mode == Mode::Serve { Some(lock(path)?) } else { None };
        let mut connection = connect(path).map_err(|error| cannot_open(path, error))?;
        let found = schema::version(&connection).map_err(|error| cannot_open(path, error))?;
        if found > schema::newest() {
            let what = format!("{} was written by a newer fhir-bridge (tables {found})", path.display());
            return Err(Failure::new(Status::Data, what).remedy("Install that version, or name another directory."));
        }
        schema::migrate(&mut connection).map_err(|error| cannot_open(path, error))?;
        if mode == Mode::Serve {
            apply::release_all(&connection).map_err(|error| cannot_open(path, error))?;
        }
        let idle = (0..READERS)
            .map(|_| connect_reader(path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|error| cannot_open(path, error))?;
        let (writer, requests) = mpsc::channel(QUEUE);
        let process = Secret::random(8)?.expose().to_owned();
        thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || write_in_groups(connection, requests, &process))
            .map_err(|error| Failure::new(Status::Unavailable, "cannot start the writer thread").because(error))?;
        let readers = Arc::new(Readers { idle: Mutex::new(idle), permits: Semaphore::new(READERS) });
        Ok(Self { writer, readers, _lock: lock })
    }

    /// Asks the writer for a durable unit.
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.writer.send(Request::Commit(changes, reply)).await.map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    /// Asks the writer for leases.
    pub(super) async fn lease(
        &self,
        side: Side,
        limit: usize,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<Lease>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Claim { side, limit, now, until, reply };
        self.writer.send(request).await.map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    /// Runs a query on one of the readers, off the runtime's own threads.
    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let _permit = self.readers.permits.acquire().await.map_err(|_| StoreError::Closed)?;
            let answer = tokio::task::spawn_blocking(move || {
                let connection = readers.take().ok_or(StoreError::Closed)?;
                let answer = query(&connection);
                readers.give_back(connection);
                Ok(answer?)
            });
            answer.await.map_err(|_| StoreError::Closed)?
        })
    }
}

// === impl Readers ===

impl Readers {
    fn take(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(connection);
    }
}

/// One bridge at a time: the lock ends with the process, however that ends.
fn lock(path: &Path) -> Result<File, Failure> {
    let beside = PathBuf::from(format!("{}.lock", path.display()));
    let file = File::create(&beside).map_err(|error| files::cannot("write", &beside, error))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        Failure::new(Status::Unavailable, format!("another fhir-bridge serves from {}", path.display()))
            .because(std::io::Error::from(error))
            .remedy("Stop it first, or give this one a state directory of its own.")
    })?;
    Ok(file)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    // Not read-only: a reader of a write-ahead log must be able to write its index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn cannot_open(path: &Path, error: rusqlite::Error) -> Failure {
    Failure::new(Status::Io, format!("cannot open the state store {}", path.display())).because(error)
}

/// The writer's life: take what stands there, commit it as one, answer.
fn write_in_groups(mut connection: Connection, mut requests: mpsc::Receiver<Request>, process: &str) {
    let mut claims = 0_u64;
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = requests.blocking_recv() {
        group.push(first);
        while group.len() < GROUP {
            let Ok(next) = requests.try_recv() else { break };
            group.push(next);
        }
        let mut owner = || {
            claims += 1;
            format!("{process}-{claims}")
        };
        let replies = group.drain(..).map(|request| Entry::from(request, &mut owner)).collect::<Vec<_>>();
        answer(write_group(&mut connection, replies));
    }
}

/// A request with the name under which its leases are held.
struct Entry {
    request: Request,
    owner: String,
}

// === impl Entry ===

impl Entry {
    fn from(request: Request, owner: &mut impl FnMut() -> String) -> Self {
        Self { request, owner: owner() }
    }

    /// Does what is asked inside a savepoint: one bad unit does not take the others with it.
    fn run(self, connection: &Connection) -> Reply {
        match self.request {
            Request::Commit(changes, reply) => {
                let result = in_savepoint(connection, |connection| {
                    changes.iter().try_for_each(|change| apply::change(connection, change))
                });
                Reply::Commit(reply, result)
            }
            Request::Claim { side, limit, now, until, reply } => {
                let result = in_savepoint(connection, |connection| {
                    apply::claim(connection, side, limit, now, until, &self.owner)
                });
                Reply::Claim(reply, result)
            }
        }
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("SAVEPOINT unit")?.execute([])?;
    let result = work(connection);
    if result.is_err() {
        connection.prepare_cached("ROLLBACK TO unit")?.execute([])?;
    }
    connection.prepare_cached("RELEASE unit")?.execute([])?;
    result
}

fn write_group(connection: &mut Connection, entries: Vec<Entry>) -> Vec<Reply> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let replies: Vec<Reply> = match begun {
        Ok(()) => entries.into_iter().map(|entry| entry.run(connection)).collect(),
        Err(error) => return refuse_entries(entries, &error),
    };
    match connection.execute_batch("COMMIT") {
        Ok(()) => replies,
        Err(error) => {
            // Nothing of the group is on disk: everybody hears so.
            let _ = connection.execute_batch("ROLLBACK");
            replies.into_iter().map(|reply| reply.refused(&error)).collect()
        }
    }
}

fn refuse_entries(entries: Vec<Entry>, error: &rusqlite::Error) -> Vec<Reply> {
    let refuse = |entry: Entry| match entry.request {
        Request::Commit(_, reply) => Reply::Commit(reply, Err(again(error))),
        Request::Claim { reply, .. } => Reply::Claim(reply, Err(again(error))),
    };
    entries.into_iter().map(refuse).collect()
}

/// An error for one more of those whom it concerns.
fn again(error: &rusqlite::Error) -> rusqlite::Error {
    let code = error.sqlite_error().map_or(rusqlite::ffi::SQLITE_ERROR, |error| error.extended_code);
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
}

fn answer(replies: Vec<Reply>) {
    for reply in replies {
        // Whoever asked may have gone away; the fact stays stored.
        match reply {
            Reply::Commit(to, result) => drop(to.send(result)),
            Reply::Claim(to, result) => drop(to.send(result)),
        }
    }
}

// === impl Reply ===

impl Reply {
    fn refused(self, error: &rusqlite::Error) -> Self {
        match self {
            Self::Commit(to, _) => Self::Commit(to, Err(again(error))),
            Self::Claim(to, _) => Self::Claim(to, Err(again(error))),
        }
    }
}
