//! One-time enrolment tokens: who holds one may have one certificate for the names that it was made for.
//!
//! Only the token's SHA-256 digest is kept. A token has 256 random bits, so the digest needs no salt and no stretching.

use std::path::Path;

use ring::digest;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, serde::rfc3339};

use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

use super::{
    authority::{Authority, Session},
    name::HostName,
    profile::LeafProfile,
};

/// How long a token can be used, if nothing else is said.
pub const TOKEN_LIFETIME: Duration = Duration::hours(24);
/// Random bytes of a token.
const LENGTH: usize = 32;
/// Name of the file with the digests.
const FILE: &str = "tokens.json";
/// Largest file of digests that is read, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// SHA-256 of the token, in hexadecimal digits.
    digest: String,
    /// The hosts that the certificate will stand for, the name first.
    pub names: Vec<HostName>,
    /// Until when it can be used.
    #[serde(with = "rfc3339")]
    pub expires: OffsetDateTime,
}

// === impl Authority ===

impl Authority {
    /// Makes a token for one certificate of a host. It is shown once and cannot be read back.
    ///
    /// # Errors
    /// When a name is not permitted, or the file cannot be written.
    pub fn make_token(&self, leaf: &LeafProfile, lifetime: Duration) -> Result<(Secret, Grant), Failure> {
        let hosts = leaf.hosts()?;
        if !(Duration::ZERO < lifetime && lifetime <= Duration::days(90)) {
            return Err(Failure::new(Status::Usage, "a token can be used for at most 90 days"));
        }
        let session = self.session()?;
        session.check_permitted(&hosts)?;
        let token = Secret::random(LENGTH)?;
        let grant = Grant { digest: digest_of(token.expose()), names: hosts, expires: session.now + lifetime };
        let mut grants = read(&session.directory)?;
        grants.retain(|old| session.now < old.expires);
        grants.push(grant.clone());
        write(&session.directory, &grants)?;
        Ok((token, grant))
    }

    /// Ends the unused tokens of a host; whether there were any.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn withdraw_tokens(&self, name: &str) -> Result<bool, Failure> {
        withdraw(&self.session()?.directory, &name.to_ascii_lowercase())
    }

    /// What the tokens that can still be used allow.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn grants(&self) -> Result<Vec<Grant>, Failure> {
        let now = self.now();
        Ok(read(self.directory())?.into_iter().filter(|grant| now < grant.expires).collect())
    }
}

// === impl Session ===

impl Session {
    /// What a token allows; `None` where it is not one, or is used or expired.
    pub(super) fn grant(&self, token: &str) -> Result<Option<Grant>, Failure> {
        let digest = digest_of(token);
        // Looks at all of them, whichever is right.
        let found = read(&self.directory)?.into_iter().fold(None, |found, grant| {
            let differences =
                grant.digest.bytes().zip(digest.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b));
            let same = differences == 0 && grant.digest.len() == digest.len();
            if same { Some(grant) } else { found }
        });
        Ok(found.filter(|grant| self.now < grant.expires))
    }

    /// Ends a token. From then on it is none, even if what follows fails.
    pub(super) fn use_up(&self, grant: &Grant) -> Result<(), Failure> {
        let mut grants = read(&self.directory)?;
        grants.retain(|other| other.digest != grant.digest && self.now < other.expires);
        write(&self.directory, &grants)
    }
}

/// Ends the tokens of a host; whether there were any.
pub(super) fn withdraw(directory: &Path, name: &str) -> Result<bool, Failure> {
    let mut grants = read(directory)?;
    let before = grants.len();
    grants.retain(|grant| grant.names.first().and_then(HostName::dns) != Some(name));
    if grants.len() == before {
        return Ok(false);
    }
    write(directory, &grants).map(|()| true)
}

fn digest_of(token: &str) -> String {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(directory: &Path) -> Result<Vec<Grant>, Failure> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&files::read_text(&path, LIMIT)?).map_err(|error| {
        Failure::new(Status::Data, format!("the list of enrolment tokens {} is damaged", path.display()))
            .because(error)
            .remedy("Remove the file: unused tokens end, certificates stay. Then make new tokens.")
    })
}

fn write(directory: &Path, grants: &[Grant]) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(grants)
        .map_err(|error| Failure::new(Status::Failed, "cannot write the tokens down").because(error))?;
    files::write(&directory.join(FILE), &text, files::SECRET)
}
