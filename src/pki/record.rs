//! The authority's memory: what it issued, what it revoked, and how it was set up.

use std::path::Path;

use clap::ValueEnum;
use rcgen::RevocationReason;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, serde::rfc3339};

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{name::HostName, serial::Serial};

/// Name of the file.
pub(super) const FILE: &str = "issued.json";
/// Largest record that is read, in bytes: some hundred thousand certificates.
const LIMIT: u64 = 64 * 1024 * 1024;
/// How long certificates are remembered after their end.
const MEMORY: Duration = Duration::days(366);
/// Form of the file that this program writes.
const VERSION: u32 = 1;

/// The whole record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// Number of the last revocation list (RFC 5280 section 5.2.3).
    pub crl_number: u64,
    /// Where the revocation list can be had, for the certificates to say (RFC 5280 section 4.2.1.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_url: Option<String>,
    /// Every certificate, the oldest first.
    pub certificates: Vec<Issued>,
}

/// One certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Its serial number.
    pub serial: Serial,
    /// The name that it was issued under.
    pub name: String,
    /// The hosts that it stands for.
    pub names: Vec<HostName>,
    /// How it came about.
    pub origin: Origin,
    /// From when it is valid.
    #[serde(with = "rfc3339")]
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    #[serde(with = "rfc3339")]
    pub not_after: OffsetDateTime,
    /// When and why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
    /// The life that was asked for, in seconds, where the end of the CA certificate cut it short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cut_from: Option<i64>,
}

/// How a certificate came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// With a key made here.
    Local,
    /// For a request that came with a one-time token.
    Enrolled,
    /// For a request that came with the certificate before it.
    Reenrolled,
}

/// A revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When the authority revoked it.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// Somebody else has or may have the key.
    KeyCompromise,
    /// The host has another name or another owner.
    AffiliationChanged,
    /// There is a new certificate in its place.
    Superseded,
    /// The host is no more.
    CessationOfOperation,
    /// The host may no longer take part.
    PrivilegeWithdrawn,
}

// === impl Record ===

impl Record {
    /// The record of an authority that has issued nothing.
    pub(super) fn new(crl_url: Option<String>) -> Self {
        Self { version: VERSION, crl_number: 0, crl_url, certificates: Vec::new() }
    }

    /// Reads the record of a directory.
    ///
    /// # Errors
    /// When the file is missing, cannot be read or is damaged; names it and the place.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        const REMEDY: &str = "Put the file back from a backup: without it the authority forgets what it revoked.";
        let path = directory.join(FILE);
        let text = files::read_text(&path, LIMIT)
            .map_err(|failure| if path.exists() { failure } else { failure.remedy(REMEDY) })?;
        let damaged = |what: String| {
            Failure::new(
                Status::Data,
                format!("the record of issued certificates {} is damaged: {what}", path.display()),
            )
            .remedy(REMEDY)
        };
        let record: Self = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match record.version {
            VERSION => Ok(record),
            other => Err(damaged(format!("its version is {other}, this program knows {VERSION}"))),
        }
    }

    /// Writes the record, atomically.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then as it was.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Failure> {
        let path = directory.join(FILE);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(Status::Failed, "cannot write the record down").because(error))?;
        text.push(b'\n');
        files::write(&path, &text, files::SECRET)
    }

    /// Adds a certificate, and forgets those that ended more than [`MEMORY`] ago.
    pub(super) fn add(&mut self, issued: Issued, now: OffsetDateTime) {
        self.certificates.retain(|old| now - old.not_after < MEMORY);
        self.certificates.push(issued);
    }

    /// The certificate with this serial number.
    pub fn find(&self, serial: &Serial) -> Option<&Issued> {
        self.certificates.iter().find(|issued| issued.serial == *serial)
    }
}

// === impl Issued ===

impl Issued {
    /// Whether it is valid at a time: within its life and not revoked.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        self.revoked.is_none() && self.not_before <= now && now <= self.not_after
    }

    /// The life that was asked for, where the end of the CA certificate cut it short.
    pub(super) fn cut_from(&self) -> Option<Duration> {
        self.cut_from.map(Duration::seconds)
    }

    /// When it is time for the next one: at two thirds of its life.
    pub fn due(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }
}

// === impl Reason ===

impl Reason {
    /// The reason code, absent where none is given (RFC 5280 section 5.3.1).
    pub(super) fn code(self) -> Option<RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}
