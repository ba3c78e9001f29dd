//! One process at a time in a directory of certificates.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::pair;

/// Name of the file that is locked.
const FILE: &str = ".lock";
/// How long to wait for another process. An operation takes milliseconds; a slow disk may take seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether the other is done.
const INTERVAL: Duration = Duration::from_millis(5);

/// The right to change a directory. It ends with the value, and with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    /// Holds the lock as long as it is open (flock(2)).
    _file: File,
}

// === impl Lock ===

impl Lock {
    /// Waits until no other process changes the directory, and removes what one that was killed left unfinished.
    ///
    /// # Errors
    /// When the lock file cannot be made, or another process holds it for longer than [`PATIENCE`].
    pub(super) fn take(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(files::SECRET)
            .open(&path)
            .map_err(|error| files::cannot("open", &path, error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    pair::sweep(directory, |entry| entry.starts_with(pair::UNFINISHED))?;
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(files::cannot("lock", &path, error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(Failure::new(
                        Status::Temporary,
                        format!("another federation-ca has been working in {} for too long", directory.display()),
                    )
                    .remedy("See with `ps` what it does, and try again when it has ended."));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(INTERVAL),
            }
        }
    }
}
