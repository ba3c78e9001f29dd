//! One thread that writes, in groups; several connections that read.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::schema;
use crate::fhir::server::FhirError;

/// Writes that may wait; who comes later waits to hand its write in, so memory is bounded.
const WAITING: usize = 1024;
/// Writes that share one commit, and so one `fsync`.
const GROUP: usize = 256;

/// Work within the writer's transaction; gives what is to be done once the commit is known.
type Job = Box<dyn FnOnce(&Connection) -> Completion + Send>;
type Completion = Box<dyn FnOnce(Result<(), FhirError>) + Send>;

/// The connections to one database.
#[derive(Clone)]
pub(super) struct Pool {
    writer: mpsc::Sender<Job>,
    readers: Arc<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

// === impl Pool ===

impl Pool {
    /// Opens the database; `after_commit` is called on the writer's thread after each commit.
    pub(super) fn open(
        path: &Path,
        readers: usize,
        after_commit: impl Fn() + Send + 'static,
    ) -> rusqlite::Result<Self> {
        let connection = schema::open_writer(path)?;
        let (writer, jobs) = mpsc::channel(WAITING);
        let readers =
            Readers { path: path.to_owned(), idle: Mutex::new(Vec::new()), permits: Semaphore::new(readers.max(1)) };
        thread::Builder::new()
            .name("fhir-writer".to_owned())
            .spawn(move || write_in_groups(&connection, jobs, &after_commit))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(Self { writer, readers: Arc::new(readers) })
    }

    /// Carries out `work` in a transaction; what it wrote is durable when this returns `Ok`, and undone when it
    /// returns an error. Works are carried out one after the other.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, FhirError> + Send + 'static,
    ) -> Result<T, FhirError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = in_savepoint(connection, work);
            Box::new(move |committed| {
                // Who asked may have gone; the write stands all the same.
                let _ = answer.send(committed.and(result));
            })
        });
        let stopped = || FhirError::Unavailable("the repository has stopped".to_owned());
        self.writer.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Carries out `work` on one consistent state of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, FhirError> + Send + 'static,
    ) -> Result<T, FhirError> {
        let readers = Arc::clone(&self.readers);
        let stopped = |_| FhirError::Unavailable("the repository has stopped".to_owned());
        let permit = self.readers.permits.acquire().await.map_err(stopped)?;
        let result = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            connection.execute_batch("BEGIN").map_err(storage)?;
            let result = work(&connection);
            connection.execute_batch("ROLLBACK").map_err(storage)?;
            readers.give_back(connection);
            result
        })
        .await
        .map_err(|_| FhirError::Unavailable("a read was stopped".to_owned()))?;
        drop(permit);
        result
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("path", &self.readers.path).finish_non_exhaustive()
    }
}

// === impl Readers ===

impl Readers {
    fn take(&self) -> Result<Connection, FhirError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.path).map_err(storage), Ok)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn write_in_groups(connection: &Connection, mut jobs: mpsc::Receiver<Job>, after_commit: &dyn Fn()) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(storage);
        if let Err(error) = begun {
            tracing::error!(%error, "the FHIR repository cannot begin a transaction");
            // The jobs are dropped unheard; who waits for one is told so.
            continue;
        }
        let completions: Vec<Completion> = group.into_iter().map(|job| job(connection)).collect();
        let committed = connection.execute_batch("COMMIT").map_err(storage);
        if let Err(error) = &committed {
            tracing::error!(%error, "the FHIR repository cannot commit");
            let _ = connection.execute_batch("ROLLBACK");
        }
        for complete in completions {
            complete(committed.clone());
        }
        after_commit();
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, FhirError>,
) -> Result<T, FhirError> {
    connection.execute_batch("SAVEPOINT job").map_err(storage)?;
    match work(connection) {
        Ok(result) => connection.execute_batch("RELEASE job").map_err(storage).map(|()| result),
        Err(error) => {
            connection.execute_batch("ROLLBACK TO job; RELEASE job").map_err(storage)?;
            Err(error)
        }
    }
}

/// An error of the database: the disk is full, or a file is broken. It holds no values.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn storage(error: rusqlite::Error) -> FhirError {
    let text = match &error {
        rusqlite::Error::SqliteFailure(code, _) => format!("storage: {code}"),
        other => {
            tracing::error!(error = %other, "the FHIR repository's database gave an unexpected error");
            "storage".to_owned()
        }
    };
    FhirError::Unavailable(text)
}
