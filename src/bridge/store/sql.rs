//! The store in a database: a SQLite file of one bridge, or PostgreSQL, which several replicas share.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Change, Lease, Side, StoreError, apply, schema::SCHEMA};
use crate::service::{
    database::{Database, Patience, Server},
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

/// Connections that read from a file at the same time.
const READERS: usize = 4;

/// Who opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bridge itself. With a file there is one at a time, and leases of an earlier process end.
    Serve,
    /// A command beside the running bridge.
    Visit,
}

/// A store in a database.
pub struct SqlStore {
    pub(super) database: Database,
    /// The name of this process among all.
    process: String,
    claims: AtomicU64,
    // Held for as long as the bridge serves from a file.
    _lock: Option<File>,
}

// === impl SqlStore ===

impl SqlStore {
    /// Opens a file, makes it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// When another bridge serves from the file, when a newer program wrote it, or when it cannot be opened.
    pub async fn open(path: &Path, mode: Mode) -> Result<Self, Failure> {
        let lock = if mode == Mode::Serve { Some(lock(path)?) } else { None };
        let database = Database::open(path, SCHEMA, READERS, || ())?;
        if mode == Mode::Serve {
            database.write(apply::release_all).await.map_err(|error| {
                Failure::new(Status::Io, format!("cannot use the state in {}", path.display())).because(error)
            })?;
        }
        Self::new(database, lock)
    }

    /// Connects with PostgreSQL. Leases of other replicas stay what they are.
    ///
    /// # Errors
    /// See [`Database::connect`].
    pub async fn connect(server: &Arc<Server>, mode: Mode) -> Result<Self, Failure> {
        Self::new(Database::connect(server, SCHEMA, mode.patience(), || ()).await?, None)
    }

    fn new(database: Database, lock: Option<File>) -> Result<Self, Failure> {
        let process = Secret::random(8)?.expose().to_owned();
        Ok(Self { database, process, claims: AtomicU64::new(0), _lock: lock })
    }

    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let unit = move |connection: &_| changes.iter().try_for_each(|change| apply::change(connection, change));
        self.database.write(unit).await
    }

    /// Leases lanes. Each claim has a number of its own, so that a lane that came back to the same process is still
    /// known from what it was before.
    pub(super) async fn lease(&self, side: Side, limit: usize, lasting: Duration) -> Result<Vec<Lease>, StoreError> {
        let owner = format!("{}-{}", self.process, self.claims.fetch_add(1, Ordering::Relaxed));
        self.database.write(move |connection| apply::claim(connection, side, limit, lasting, &owner)).await
    }

    pub(super) async fn duty(&self, duty: &'static str, lasting: Duration) -> Result<bool, StoreError> {
        let process = self.process.clone();
        self.database.write(move |connection| apply::take_duty(connection, duty, &process, lasting)).await
    }
}

// === impl Mode ===

impl Mode {
    /// A daemon waits for its database, a command says what is wrong.
    pub fn patience(self) -> Patience {
        match self {
            Self::Serve => Patience::Daemon,
            Self::Visit => Patience::Command,
        }
    }
}

/// One bridge at a time: the lock ends with the process, however that ends.
fn lock(path: &Path) -> Result<File, Failure> {
    let beside = PathBuf::from(format!("{}.lock", path.display()));
    let file = File::create(&beside).map_err(|error| files::cannot("write", &beside, error))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        Failure::new(Status::Unavailable, format!("another fhir-bridge serves from {}", path.display()))
            .because(std::io::Error::from(error))
            .remedy("Stop it first, give this one a state directory of its own, or let both use one PostgreSQL.")
    })?;
    Ok(file)
}
