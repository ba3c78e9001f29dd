//! The authority: a directory with the CA's key and certificate, what it issued and what it revoked.
//!
//! ```text
//! DIR/ca.pem        the CA certificate, for everybody
//! DIR/ca.key        its key, for the owner only
//! DIR/crl.pem       what is revoked, signed
//! DIR/issued.json   what was issued
//! DIR/tokens.json   digests of the one-time enrolment tokens
//! DIR/certs/NAME/   cert.pem and key.pem of the hosts whose keys are made here
//! ```

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use time::OffsetDateTime;

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{
    certificate::Certificate,
    clock::Clock,
    lock::Lock,
    name::Permitted,
    pair::{self, PairStore},
    profile::{self, AuthorityProfile},
    record::Record,
    serial::Serial,
    signer::{Signer, cannot_sign, key_path, read_authority_key},
};

/// Mode of the authority's directory: others may enter for the public files, not look around.
const ENTERABLE: u32 = 0o711;

/// A certificate authority that lives in a directory. Several processes may work with one at a time.
#[derive(Clone, Debug)]
pub struct Authority {
    directory: PathBuf,
    clock: Clock,
    certificate: Certificate,
}

/// What [`Authority::open_or_create`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// There was no authority; now there is.
    Created,
    /// The authority is as it was.
    Kept,
    /// The same key signed a CA certificate that permits more names. What it issued stays valid; who verifies the
    /// new names needs the new CA certificate.
    Extended,
    /// The same key signed a CA certificate with a new validity.
    Renewed,
}

// === impl Authority ===

impl Authority {
    /// Where the CA certificate of a directory is.
    pub fn certificate_path(directory: &Path) -> PathBuf {
        directory.join("ca.pem")
    }

    /// Where the revocation list of a directory is.
    pub fn crl_path(directory: &Path) -> PathBuf {
        directory.join("crl.pem")
    }

    /// The pairs that an authority keeps in its directory.
    pub fn pairs(directory: &Path) -> PairStore {
        PairStore::new(directory.join("certs"))
    }

    /// Opens the authority in a directory, or makes one there. Names that it does not permit yet are added.
    ///
    /// # Errors
    /// When a name is not a DNS name, a file cannot be read or written, or is not what it should be.
    pub fn open_or_create(directory: &Path, profile: &AuthorityProfile) -> Result<(Self, Creation), Failure> {
        Self::open_or_create_at(directory, profile, Clock::system())
    }

    /// As [`Authority::open_or_create`], with a clock.
    ///
    /// # Errors
    /// As [`Authority::open_or_create`].
    pub fn open_or_create_at(
        directory: &Path,
        profile: &AuthorityProfile,
        clock: Clock,
    ) -> Result<(Self, Creation), Failure> {
        let permitted = profile.permitted()?;
        check_url(profile.crl_url.as_deref())?;
        if !directory.is_dir() {
            files::make_directory(directory)?;
            pair::set_mode(directory, ENTERABLE)?;
        }
        let lock = Lock::take(directory)?;
        let creation = if Self::certificate_path(directory).exists() {
            extend(directory, &permitted, profile, clock.now())?
        } else {
            create(directory, &permitted, profile, clock.now())?;
            Creation::Created
        };
        let authority = Self::open_at(directory, clock)?;
        authority.session_with(lock)?.refresh_crl(creation != Creation::Kept)?;
        Ok((authority, creation))
    }

    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// When there is none, or a file of it cannot be read or is not what it should be.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        Self::open_at(directory, Clock::system())
    }

    /// As [`Authority::open`], with a clock.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn open_at(directory: &Path, clock: Clock) -> Result<Self, Failure> {
        let signer = Signer::open(directory)?;
        Ok(Self { directory: directory.to_owned(), clock, certificate: signer.certificate })
    }

    /// Gives the CA certificate a new validity, signed by the same key. What it issued stays valid.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn renew_authority(&self) -> Result<Creation, Failure> {
        let _lock = Lock::take(&self.directory)?;
        let signer = Signer::open(&self.directory)?;
        let now = self.clock.now();
        write_certificate(&self.directory, &signer.key, signer.subject()?, &signer.permitted, now)?;
        Ok(Creation::Renewed)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The CA certificate as it was when the authority was opened.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA certificate in PEM: the root for everyone who verifies.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn certificate_pem(&self) -> Result<String, Failure> {
        files::read_text(&Self::certificate_path(&self.directory), pair::LIMIT)
    }

    /// The names that it may certify.
    pub fn permitted(&self) -> Permitted {
        self.certificate.authority().cloned().unwrap_or_default()
    }

    /// The time by this authority's clock.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// What it issued and revoked.
    ///
    /// # Errors
    /// When the record cannot be read or is damaged.
    pub fn record(&self) -> Result<Record, Failure> {
        Record::read(&self.directory)
    }

    /// The right to change the directory, with what is needed for it, read anew.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        self.session_with(Lock::take(&self.directory)?)
    }

    fn session_with(&self, lock: Lock) -> Result<Session, Failure> {
        let signer = Signer::open(&self.directory)?;
        let now = self.clock.now();
        signer.check_validity(now)?;
        let record = Record::read(&self.directory)?;
        Ok(Session { _lock: lock, directory: self.directory.clone(), signer, record, now })
    }
}

/// The authority while this process alone may change it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) directory: PathBuf,
    pub(super) signer: Signer,
    pub(super) record: Record,
    pub(super) now: OffsetDateTime,
    _lock: Lock,
}

/// Makes a new authority. A crash leaves nothing that passes for one: the certificate is written last.
fn create(
    directory: &Path,
    permitted: &Permitted,
    profile: &AuthorityProfile,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let path = key_path(directory);
    let key = if path.exists() {
        read_authority_key(&path)?
    } else {
        let key = KeyPair::generate().map_err(|error| cannot_sign(&error))?;
        files::write(&path, key.serialize_pem().as_bytes(), files::SECRET)?;
        key
    };
    if directory.join(super::record::FILE).exists() {
        let mut record = Record::read(directory)?;
        if !record.certificates.is_empty() {
            let path = Authority::certificate_path(directory);
            let text = format!("{} is gone, and certificates were issued by it", path.display());
            return Err(Failure::new(Status::NoInput, text).remedy(
                "Put it back from a backup, or from any host: a new one would end all of them. To begin anew, use \
                 another directory.",
            ));
        }
        note_url(&mut record, directory, profile)?;
    } else {
        Record::new(profile.crl_url.clone()).write(directory)?;
    }
    let subject = profile::authority_subject(&Serial::random()?);
    write_certificate(directory, &key, subject, permitted, now)
}

/// Adds to an authority what the profile asks for and it does not have.
fn extend(
    directory: &Path,
    permitted: &Permitted,
    profile: &AuthorityProfile,
    now: OffsetDateTime,
) -> Result<Creation, Failure> {
    let signer = Signer::open(directory)?;
    note_url(&mut Record::read(directory)?, directory, profile)?;
    if signer.permitted.covers(permitted) {
        return Ok(Creation::Kept);
    }
    write_certificate(directory, &signer.key, signer.subject()?, &signer.permitted.with(permitted), now)?;
    Ok(Creation::Extended)
}

fn note_url(record: &mut Record, directory: &Path, profile: &AuthorityProfile) -> Result<(), Failure> {
    if profile.crl_url.is_none() || record.crl_url == profile.crl_url {
        return Ok(());
    }
    record.crl_url.clone_from(&profile.crl_url);
    record.write(directory)
}

fn write_certificate(
    directory: &Path,
    key: &KeyPair,
    subject: DistinguishedName,
    permitted: &Permitted,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let mut params: CertificateParams = profile::authority(subject, permitted, &Serial::random()?);
    (params.not_before, params.not_after) = profile::validity(now, profile::AUTHORITY_LIFETIME, None);
    let certificate = params.self_signed(key).map_err(|error| cannot_sign(&error))?;
    files::write(&Authority::certificate_path(directory), certificate.pem().as_bytes(), files::PUBLIC)
}

/// The address of a revocation list goes into certificates as it is.
fn check_url(url: Option<&str>) -> Result<(), Failure> {
    let wrong = |url: &str| {
        let parsed = url.parse::<http::Uri>();
        // Over TLS, whoever checks the list's own server would need the list first (RFC 5280 section 8).
        !parsed.is_ok_and(|parsed| parsed.scheme_str() == Some("http") && parsed.host().is_some())
    };
    match url {
        Some(url) if wrong(url) => {
            Err(Failure::new(Status::Usage, format!("{url:?} is not the address of a revocation list"))
                .remedy("Give one such as http://ca.example/crl.pem; plain HTTP, for the list is signed."))
        }
        _ => Ok(()),
    }
}
