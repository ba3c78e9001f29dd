//! A database for the state of a daemon: a SQLite file, or PostgreSQL where several replicas share it.
//!
//! Work on the database is a function of a [`Connection`]. Writing works are carried out one after the other, also
//! between replicas; those that wait at the same time share a commit, and each is answered once it is durable. So
//! what a work reads is what it writes on, and a number that grows, grows in the order of commits.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | one writes at a time | `BEGIN IMMEDIATE` | an advisory lock of the transaction, which ends with the connection |
//! | durable | `synchronous = FULL` | `synchronous_commit` is never `off` |
//! | the clock | this machine's | the server's |
//! | away | – | works fail with [`DatabaseError::Unreachable`]; each next one tries to connect |
//!
//! Statements are written once. They keep to what both understand: `ON CONFLICT` and `RETURNING`, aliases for
//! sub-queries, comparisons of equal types, no functions but those that both have.

mod connection;
mod error;
mod postgres;
mod schema;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;
mod value;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

pub use connection::Connection;
pub use error::DatabaseError;
pub use postgres::{Server, Settings};
pub use schema::Schema;
pub use transfer::{Moved, Part, transfer};
pub(crate) use value::values;
pub use value::{Column, Row, Value, bounded};

use self::{schema::Outdated, writer::Writer};
use super::failure::{Failure, Status};

/// How long a program that starts waits for PostgreSQL, which may be starting too.
const START: Duration = Duration::from_secs(60);
/// The pause between two tries in that time.
const PAUSE: Duration = Duration::from_millis(500);

/// A database. Copies share the same one.
#[derive(Clone)]
pub struct Database {
    writer: mpsc::Sender<writer::Job>,
    readers: Arc<Readers>,
    presence: Arc<Presence>,
}

/// Connections that read, and the right to one of them.
struct Readers {
    backend: Backend,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// Where the database is.
#[derive(Clone)]
enum Backend {
    Sqlite(PathBuf),
    Postgres(Arc<Server>, Schema),
}

/// Whether the database answers.
#[derive(Default)]
struct Presence(Mutex<Option<(Instant, String)>>);

/// How patient a program is with a database that does not answer when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A daemon: it waits for a minute.
    Daemon,
    /// A command: it says at once what is wrong.
    Command,
}

// === impl Database ===

impl Database {
    /// Opens a SQLite file, makes it if it is not there, and brings its tables up to date. `after_commit` is called
    /// after each commit, on the thread that writes.
    ///
    /// # Errors
    /// When it cannot be opened, is no such file, or a newer program wrote it.
    pub fn open(
        path: &Path,
        schema: Schema,
        readers: usize,
        after_commit: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        let backend = Backend::Sqlite(path.to_owned());
        let place = path.display().to_string();
        let connection = backend.open_writer().map_err(|error| cannot_open(&place, error.into()))?;
        schema.migrate(&connection).map_err(|error| cannot_open(&place, error))?;
        Self::start(backend, connection, readers, after_commit)
    }

    /// Connects with PostgreSQL and brings the tables up to date.
    ///
    /// # Errors
    /// When the server cannot be reached in time, does not let this program in, or a newer program made the tables.
    pub async fn connect(
        server: &Arc<Server>,
        schema: Schema,
        patience: Patience,
        after_commit: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        let backend = Backend::Postgres(Arc::clone(server), schema);
        let place = server.to_string();
        let until = Instant::now() + if patience == Patience::Daemon { START } else { Duration::ZERO };
        let mut said = false;
        let connection = loop {
            let (backend, last) = (backend.clone(), Instant::now() >= until);
            let opened = tokio::task::spawn_blocking(move || {
                let connection = backend.open_writer()?;
                schema.migrate(&connection)?;
                Ok(connection)
            });
            match opened.await.unwrap_or(Err(Outdated::Database(DatabaseError::Closed))) {
                Ok(connection) => break connection,
                Err(Outdated::Database(error)) if error.is_unreachable() && !last => {
                    if !std::mem::replace(&mut said, true) {
                        warn!(%error, database = place, "waiting for the database");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(cannot_open(&place, error)),
            }
        };
        Self::start(backend, connection, server.readers(), after_commit)
    }

    fn start(
        backend: Backend,
        connection: Connection,
        readers: usize,
        after_commit: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        let (writer, jobs) = mpsc::channel(writer::WAITING);
        let presence = Arc::new(Presence::default());
        let life = Writer {
            backend: backend.clone(),
            connection: Some(connection),
            presence: Arc::clone(&presence),
            after_commit: Box::new(after_commit),
        };
        thread::Builder::new()
            .name("database-writer".to_owned())
            .spawn(move || life.run(jobs))
            .map_err(|error| Failure::new(Status::Unavailable, "cannot start the writer thread").because(error))?;
        let readers = Readers { backend, idle: Mutex::default(), permits: Semaphore::new(readers.max(1)) };
        Ok(Self { writer, readers: Arc::new(readers), presence })
    }

    /// Carries out `work` in a transaction. What it wrote is durable when this returns `Ok`, and undone when it
    /// returns an error; after [`DatabaseError::Unreachable`] nobody knows. Works are carried out one after the other.
    ///
    /// # Errors
    /// Those of `work`, and what the database says.
    pub async fn write<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let (job, answered) = writer::job(work);
        self.writer.send(job).await.map_err(|_| DatabaseError::Closed)?;
        answered.await.map_err(|_| DatabaseError::Closed)?
    }

    /// Carries out `work`, which only reads, on one consistent state of the database.
    ///
    /// # Errors
    /// Those of `work`, and what the database says.
    pub async fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.look(work, true).await
    }

    /// Carries out `work`, which asks a single question and needs no transaction for it.
    ///
    /// # Errors
    /// Those of `work`, and what the database says.
    pub async fn ask<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.look(work, false).await
    }

    async fn look<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        on_one_state: bool,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let _permit = self.readers.permits.acquire().await.map_err(|_| DatabaseError::Closed)?;
        let (readers, presence) = (Arc::clone(&self.readers), Arc::clone(&self.presence));
        let looked = tokio::task::spawn_blocking(move || {
            let connection = readers.take().inspect_err(|error| presence.note(error))?;
            let begun = if on_one_state { connection.begin_reading() } else { Ok(()) };
            let result = begun.map_err(E::from).and_then(|()| work(&connection));
            let ended = if on_one_state { connection.batch("ROLLBACK") } else { Ok(()) };
            match (connection.broken(), ended) {
                (Some(reason), _) => presence.note(&DatabaseError::Unreachable(reason)),
                (None, Ok(())) => {
                    presence.here();
                    readers.give_back(connection);
                }
                (None, Err(_)) => {}
            }
            result
        });
        looked.await.map_err(|_| DatabaseError::Closed)?
    }

    /// Since when and why the database does not answer, if so.
    pub fn absence(&self) -> Option<(Duration, String)> {
        self.presence.lock().as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.readers.backend {
            Backend::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Backend::Postgres(server, _) => f.debug_tuple("Postgres").field(&server.to_string()).finish(),
        }
    }
}

// === impl Backend ===

impl Backend {
    fn open_writer(&self) -> Result<Connection, DatabaseError> {
        match self {
            Self::Sqlite(path) => sqlite::open_writer(path).map(Connection::sqlite).map_err(sqlite::error),
            Self::Postgres(server, schema) => server.open(schema).map(Connection::postgres),
        }
    }

    fn open_reader(&self) -> Result<Connection, DatabaseError> {
        match self {
            Self::Sqlite(path) => sqlite::open_reader(path).map(Connection::sqlite).map_err(sqlite::error),
            Self::Postgres(server, schema) => server.open(schema).map(Connection::postgres),
        }
    }
}

// === impl Readers ===

impl Readers {
    fn take(&self) -> Result<Connection, DatabaseError> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(connection) if connection.broken().is_none() => return Ok(connection),
                Some(_) => {}
                None => return self.backend.open_reader(),
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

// === impl Presence ===

impl Presence {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the database answers.
    fn here(&self) {
        if let Some((since, _)) = self.lock().take() {
            info!(seconds = since.elapsed().as_secs(), "the database is back");
        }
    }

    /// Takes note of an error, if it says that the database does not answer.
    fn note(&self, error: &DatabaseError) {
        let DatabaseError::Unreachable(reason) = error else { return };
        let mut absence = self.lock();
        if absence.is_none() {
            warn!(%error, "work waits for the database");
        }
        let since = absence.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *absence = Some((since, reason.clone()));
    }
}

fn cannot_open(place: &str, error: Outdated) -> Failure {
    match error {
        Outdated::Newer(_) => Failure::new(Status::Data, format!("{place} was written by a newer program"))
            .because(error)
            .remedy("Install that version, or name another database."),
        Outdated::Database(error) => {
            let status = if error.is_unreachable() { Status::Unavailable } else { Status::Io };
            Failure::new(status, format!("cannot open the database {place}")).because(error)
        }
    }
}
