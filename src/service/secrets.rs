//! Secrets: made with the system's randomness, kept in files of mode 0600, handed over by path.

use std::{env, fmt, fs, os::unix::fs::MetadataExt as _, path::Path};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;

use super::{
    failure::{Failure, Status},
    files,
};

/// Largest secret that is read from a file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// A secret text that shows nothing of itself in logs and error messages.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new secret of `bytes` random bytes, written as lower-case hexadecimal digits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random(bytes: usize) -> Result<Self, Failure> {
        let mut raw = vec![0; bytes];
        SystemRandom::new()
            .fill(&mut raw)
            .map_err(|_| Failure::new(Status::Unavailable, "the system's random number generator gave nothing"))?;
        Ok(Self(raw.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Reads a secret from a file; white space at its end does not belong to it.
    ///
    /// A relative path is looked for in `$CREDENTIALS_DIRECTORY` first (systemd.exec(5), `LoadCredential=`).
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or others than its owner and group may read it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let credential = env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(path));
        let path = credential.as_deref().filter(|credential| credential.exists()).unwrap_or(path);
        let text = files::read_text(path, LIMIT)?;
        let mode = fs::metadata(path).map_err(|error| files::cannot("read", path, error))?.mode();
        if mode & 0o007 != 0 {
            return Err(Failure::new(
                Status::Config,
                format!("the secret in {} can be read by everybody", path.display()),
            )
            .remedy(format!("chmod 600 {}", path.display())));
        }
        let text = text.trim_end();
        if text.is_empty() {
            return Err(Failure::new(Status::Config, format!("the secret file {} is empty", path.display())));
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the secret from a file, or makes a random one there (mode 0600) when the file does not exist.
    ///
    /// # Errors
    /// As [`Secret::read`], and when the file cannot be written.
    pub fn read_or_make(path: &Path, bytes: usize) -> Result<Self, Failure> {
        if !path.exists() {
            let secret = Self::random(bytes)?;
            files::write(path, secret.0.as_bytes(), files::SECRET)?;
        }
        Self::read(path)
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares with a text that a caller gave, in a time that does not depend on where they differ.
    pub fn matches(&self, given: &str) -> bool {
        // Digests have one length, so that the secret's length does not show either.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let (own, other) = (digest(&self.0), digest(given));
        own.as_ref().iter().zip(other.as_ref()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_secret_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let made = Secret::read_or_make(&path, 32).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert_eq!(Secret::read_or_make(&path, 32).unwrap(), made);
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        files::write(&path, b"x", files::PUBLIC).unwrap();
        assert!(Secret::read(&path).unwrap_err().to_string().contains("read by everybody"));
    }

    #[test]
    fn a_secret_matches_only_itself_and_hides_itself() {
        let secret = Secret::new("abc");
        assert!(secret.matches("abc"));
        assert!(!secret.matches("abd") && !secret.matches("abcd") && !secret.matches(""));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
