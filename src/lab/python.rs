//! The Python that Synapse runs on.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use crate::service::failure::{Failure, Status};

/// Oldest Python that the pinned Synapse runs on.
const OLDEST: (u32, u32) = (3, 10);
/// Time for an interpreter to tell its version; a shim on a cold disk is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Prints the version, the real interpreter behind shims, and whether virtual environments can be made.
const QUESTION: &str = "
import sys
try:
    import venv, ensurepip
    able = 'able'
except ImportError:
    able = 'unable'
print(sys.version_info[0], sys.version_info[1], able, getattr(sys, '_base_executable', sys.executable), sep='\\n')
";

/// A Python interpreter that can make virtual environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// The interpreter.
    pub executable: PathBuf,
    /// Its version, as `3.11`.
    pub version: String,
}

// === impl Python ===

impl Python {
    /// Finds an interpreter: `$PYTHON`, else the first usable of `python3`, `python3.13` … `python3.10` on the path.
    ///
    /// # Errors
    /// When there is none, it is too old, or it cannot make virtual environments; with the remedy.
    pub async fn find() -> Result<Self, Failure> {
        if let Some(named) = env::var_os("PYTHON").filter(|named| !named.is_empty()) {
            return match Self::ask(&named).await {
                Some(answer) => answer,
                None => Err(Failure::new(Status::Unavailable, format!("PYTHON={} is no Python", named.display()))
                    .remedy("Set PYTHON to an interpreter of Python 3.10 or newer, or unset it.")),
            };
        }
        let mut first_problem = None;
        for name in ["python3", "python3.13", "python3.12", "python3.11", "python3.10"] {
            match Self::ask(&name.into()).await {
                Some(Ok(python)) => return Ok(python),
                Some(Err(problem)) => _ = first_problem.get_or_insert(problem),
                None => {}
            }
        }
        Err(first_problem.unwrap_or_else(|| {
            Failure::new(Status::Unavailable, "there is no Python 3 on this machine; Synapse needs it")
                .remedy("Install Python 3.10 or newer (Debian: apt install python3 python3-venv), or set PYTHON.")
        }))
    }

    /// `None` where there is no such program, or it is no Python.
    async fn ask(name: &OsString) -> Option<Result<Self, Failure>> {
        let command = Command::new(name).args(["-c", QUESTION]).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, command).await.ok()?.ok()?;
        Self::judge(&String::from_utf8_lossy(&output.stdout))
    }

    fn judge(answer: &str) -> Option<Result<Self, Failure>> {
        let mut lines = answer.lines();
        let version: (u32, u32) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
        let able = lines.next()? == "able";
        let executable = Path::new(lines.next()?).to_owned();
        let (major, minor) = version;
        Some(if version < OLDEST {
            let text = format!("{} is Python {major}.{minor}; Synapse needs 3.10 or newer", executable.display());
            Err(Failure::new(Status::Unavailable, text).remedy("Install a newer one and set PYTHON to it."))
        } else if !able {
            let text = format!("{} cannot make virtual environments", executable.display());
            Err(Failure::new(Status::Unavailable, text)
                .remedy("Install its venv module (Debian: apt install python3-venv)."))
        } else {
            Ok(Self { executable, version: format!("{major}.{minor}") })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_able_new_python_is_taken() {
        let python = Python::judge("3\n11\nable\n/usr/bin/python3.11\n").unwrap().unwrap();
        assert_eq!(python, Python { executable: "/usr/bin/python3.11".into(), version: "3.11".to_owned() });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let old = Python::judge("3\n9\nable\n/p\n").unwrap().unwrap_err();
        assert_eq!(old.to_string(), "/p is Python 3.9; Synapse needs 3.10 or newer");
        let unable = Python::judge("3\n12\nunable\n/p\n").unwrap().unwrap_err();
        assert!(unable.remedy_text().unwrap().contains("apt install python3-venv"));
        assert!(Python::judge("hello").is_none());
    }
}
