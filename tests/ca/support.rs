//! What the tests share: an authority in a temporary directory, and openssl.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use care_federation::pki::{Authority, AuthorityProfile, Clock};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// An authority for `vvt`, `huisarts` and `apotheek` in a directory that ends with the value.
pub(crate) struct Home {
    pub(crate) directory: TempDir,
    pub(crate) authority: Authority,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::at(OffsetDateTime::now_utc())
    }

    pub(crate) fn at(now: OffsetDateTime) -> Self {
        let directory = workspace();
        let authority = Authority::open_or_create_at(directory.path(), &profile(), Clock::fixed(now)).unwrap().0;
        Self { directory, authority }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The same authority, some time from now.
    pub(crate) fn later(&self, by: Duration) -> Authority {
        Authority::open_at(self.directory.path(), Clock::fixed(self.authority.now() + by)).unwrap()
    }

    /// `openssl verify` of a certificate against the CA.
    pub(crate) fn verify(&self, certificate: &Path, more: &[&str]) -> Output {
        let ca = self.path("ca.pem");
        let mut command = outsider("openssl");
        command.args(["verify", "-x509_strict", "-CAfile"]).arg(ca).args(more).arg(certificate);
        command.output().unwrap()
    }
}

/// A directory that ends with the value; in memory where that can be had, for everything here is synced to disk.
pub(crate) fn workspace() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn profile() -> AuthorityProfile {
    AuthorityProfile::new(["vvt", "huisarts", "apotheek"])
}

/// A program that is not ours, to judge what ours does.
pub(crate) fn outsider(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    assert!(found, "{name} is not on this machine. Debian: apt install {name}");
    Command::new(name)
}

/// Runs openssl; panics with what it said when it fails.
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = outsider("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
