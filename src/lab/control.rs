//! What runs, for other terminals: a lock that only a living lab holds, and a file that says what it runs.
//!
//! The kernel gives the lock back when the lab dies, however it dies; what the file says counts only while the lock is
//! held.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::places::Places;
use crate::service::{
    failure::{Failure, Status},
    files,
    network::Network,
};

/// Largest `running.json` that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// What a running lab tells other terminals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The lab's process.
    pub process: u32,
    /// `starting` until everything serves, then `up`.
    pub phase: Phase,
    /// The network with the ports that it really has.
    pub network: Network,
    /// The command that starts a Synapse, without its own arguments.
    pub synapse: Vec<String>,
    /// The programs by name.
    pub programs: BTreeMap<String, ProgramState>,
}

/// How far a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Something does not serve yet.
    Starting,
    /// All serve.
    Up,
}

/// The state of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramState {
    /// Its process, while it has one.
    pub process: Option<u32>,
    /// Whether it serves.
    pub ready: bool,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
}

/// The lock of a running lab; given back when it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
    running: PathBuf,
}

// === impl Lock ===

impl Lock {
    /// Takes the lock of a state directory, which is made if need be.
    ///
    /// # Errors
    /// When another lab holds it, and says which; when the directory cannot be written.
    pub fn take(places: &Places) -> Result<Self, Failure> {
        files::make_directory(places.state()).map_err(|failure| or_another(failure, places.state(), "--state"))?;
        let path = places.lock();
        let file = fs::File::create(&path).map_err(|error| files::cannot("write", &path, error))?;
        match try_lock(&file) {
            Ok(()) => Ok(Self { _file: file, running: places.running() }),
            Err(fs::TryLockError::WouldBlock) => {
                let who = Running::read(places)?.map(|lab| format!(" (process {})", lab.process)).unwrap_or_default();
                let text = format!("a lab is running already{who} with its state in {}", places.state().display());
                Err(Failure::new(Status::Temporary, text).remedy(
                    "See it with `federation-lab status`, end it with `federation-lab down`, or start another beside \
                     it with --state DIRECTORY --port-offset auto.",
                ))
            }
            Err(fs::TryLockError::Error(error)) => Err(files::cannot("lock", &path, error)),
        }
    }

    /// Tells other terminals what runs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tell(&self, running: &Running) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(running)
            .map_err(|error| Failure::new(Status::Data, "cannot write what runs as JSON").because(error))?;
        files::write(&self.running, &text, files::SECRET)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever reads it looks at the lock too, so a file that stays does no harm.
        _ = fs::remove_file(&self.running);
    }
}

// === impl Running ===

impl Running {
    /// What runs with this state; `None` when nothing does.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn read(places: &Places) -> Result<Option<Self>, Failure> {
        if !is_held(&places.lock())? {
            return Ok(None);
        }
        let text = match files::read_text(&places.running(), LIMIT) {
            Ok(text) => text,
            Err(failure) if failure.status() == Status::NoInput => return Ok(None),
            Err(failure) => return Err(failure),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Failure::new(Status::Data, format!("{} says nothing that can be understood", places.running().display()))
                .because(error)
        })
    }

    /// What runs with this state.
    ///
    /// # Errors
    /// When nothing does.
    pub fn require(places: &Places) -> Result<Self, Failure> {
        Self::read(places)?.ok_or_else(|| {
            Failure::new(
                Status::Unavailable,
                format!("no lab is running with its state in {}", places.state().display()),
            )
            .remedy("Start one with `federation-lab up`.")
        })
    }

    /// Asks the lab to stop and waits until it has.
    ///
    /// # Errors
    /// When it may not be asked, or has not stopped after `patience`.
    pub async fn stop(&self, places: &Places, patience: Duration) -> anyhow::Result<()> {
        let lab = Pid::from_raw(self.process.cast_signed());
        let asked = lab.map_or(Err(rustix::io::Errno::SRCH), |lab| kill_process(lab, Signal::TERM));
        match asked {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(Failure::new(Status::NoPermission, format!("cannot stop process {}", self.process))
                    .because(std::io::Error::from(error))
                    .into());
            }
        }
        let path = places.lock();
        let waited = tokio::time::timeout(patience, tokio::task::spawn_blocking(move || wait_for(&path))).await;
        match waited {
            Ok(done) => Ok(done??),
            Err(_) => {
                let text = format!("process {} has not stopped after {} s", self.process, patience.as_secs());
                Err(Failure::new(Status::Temporary, text).remedy(format!("kill -9 {}", self.process)).into())
            }
        }
    }
}

/// Tells a user who may not write to a directory that there is another way.
pub(super) fn or_another(failure: Failure, directory: &Path, option: &str) -> Failure {
    if failure.status() == Status::NoPermission {
        let directory = directory.display();
        return failure.remedy(format!("Give this user access to {directory}, or name another with {option}."));
    }
    failure
}

/// Tries for a moment: another terminal that only looks whether a lab runs holds the lock for microseconds.
fn try_lock(file: &fs::File) -> Result<(), fs::TryLockError> {
    for _ in 0..10 {
        if file.try_lock().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    file.try_lock()
}

fn is_held(lock: &Path) -> Result<bool, Failure> {
    let file = match fs::File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(files::cannot("read", lock, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(files::cannot("lock", lock, error)),
    }
}

fn wait_for(lock: &Path) -> Result<(), Failure> {
    let file = fs::File::open(lock).map_err(|error| files::cannot("read", lock, error))?;
    file.lock_shared().map_err(|error| files::cannot("lock", lock, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::new(Some(directory.path()), Some(directory.path())).unwrap();
        (directory, places)
    }

    fn running() -> Running {
        Running {
            process: std::process::id(),
            phase: Phase::Up,
            network: Network::lab().unwrap(),
            synapse: vec!["synapse_homeserver".to_owned()],
            programs: BTreeMap::new(),
        }
    }

    #[test]
    fn what_runs_is_known_while_the_lock_is_held() {
        let (_directory, places) = places();
        assert_eq!(Running::read(&places).unwrap(), None);
        let lock = Lock::take(&places).unwrap();
        lock.tell(&running()).unwrap();
        assert_eq!(Running::read(&places).unwrap(), Some(running()));
        let second = Lock::take(&places).unwrap_err();
        assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
        drop(lock);
        assert!(Running::require(&places).unwrap_err().to_string().starts_with("no lab is running"));
    }

    #[test]
    fn what_a_killed_lab_left_is_not_believed() {
        let (_directory, places) = places();
        let lock = Lock::take(&places).unwrap();
        lock.tell(&running()).unwrap();
        std::fs::copy(places.running(), places.state().join("kept")).unwrap();
        drop(lock);
        std::fs::rename(places.state().join("kept"), places.running()).unwrap();
        assert_eq!(Running::read(&places).unwrap(), None);
    }
}
