//! Where the lab keeps its files: state that must survive, and a cache that can be made again.

use std::path::{Path, PathBuf};

use crate::service::{
    failure::Failure,
    files::{self, Base},
};

/// The directories of one lab.
#[derive(Clone, Debug)]
pub struct Places {
    state: PathBuf,
    cache: PathBuf,
}

// === impl Places ===

impl Places {
    /// The directories named, else those of this user after the XDG Base Directory Specification.
    ///
    /// # Errors
    /// When this user has no home directory and a directory was not named.
    pub fn new(state: Option<&Path>, cache: Option<&Path>) -> Result<Self, Failure> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| files::cannot("find", path, error));
        let state = match state {
            Some(named) => absolute(named)?,
            None => files::user_directory(Base::State)?.join("lab"),
        };
        let cache = match cache {
            Some(named) => absolute(named)?,
            None => files::user_directory(Base::Cache)?,
        };
        Ok(Self { state, cache })
    }

    /// Keys, databases, media, logs: all that `reset` removes.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The virtual environment and Element Web, shared by all labs of this user.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The certificate authority's directory.
    pub fn authority(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// What one homeserver keeps: configuration, keys, database, media.
    pub fn homeserver(&self, name: &str) -> PathBuf {
        self.state.join("homeservers").join(name)
    }

    /// A homeserver's shared secret for making users.
    pub fn registration_secret(&self, name: &str) -> PathBuf {
        self.homeserver(name).join("registration_shared_secret")
    }

    /// What all FHIR bridges keep.
    pub fn bridges(&self) -> PathBuf {
        self.state.join("bridges")
    }

    /// What one organisation's FHIR bridge keeps: settings, registration, links, embedded FHIR repository.
    pub fn bridge(&self, name: &str) -> PathBuf {
        self.bridges().join(name)
    }

    /// The proxy's settings file.
    pub fn proxy_settings(&self) -> PathBuf {
        self.state.join("federation-proxy.toml")
    }

    /// All log files.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The log file of one program: a server name, `proxy`, or `bridge-` and a server name.
    pub fn log(&self, program: &str) -> PathBuf {
        self.logs().join(format!("{program}.log"))
    }

    /// What a program wrote to its standard output and error; for a homeserver only what went wrong before it logs.
    pub fn output(&self, program: &str) -> PathBuf {
        self.logs().join(format!("{program}.out"))
    }

    /// Who can log in, with passwords (mode 0600).
    pub fn users(&self) -> PathBuf {
        self.state.join("users.json")
    }

    /// The lock that a running lab holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// What a running lab tells other terminals.
    pub fn running(&self) -> PathBuf {
        self.state.join("running.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_directories_become_absolute() {
        let places = Places::new(Some(Path::new("here")), Some(Path::new("/there"))).unwrap();
        assert!(places.state().is_absolute() && places.state().ends_with("here"));
        assert_eq!(places.log("vvt"), places.state().join("logs/vvt.log"));
        assert_eq!(places.cache(), Path::new("/there"));
    }
}
