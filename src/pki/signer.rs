//! The CA's certificate and key as they are used for signing.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rcgen::{DistinguishedName, Issuer, KeyPair, PublicKeyData as _};
use time::OffsetDateTime;

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{authority::Authority, certificate::Certificate, clock::readable, name::Permitted, pair};

/// The CA's certificate and key, checked to belong together.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) certificate: Certificate,
    pub(super) permitted: Permitted,
    pub(super) key: KeyPair,
}

// === impl Signer ===

impl Signer {
    /// Reads the CA's certificate and key.
    ///
    /// # Errors
    /// When they are missing, not private, damaged, or do not belong together.
    pub(super) fn open(directory: &Path) -> Result<Self, Failure> {
        let (certificate_path, key_path) = (Authority::certificate_path(directory), key_path(directory));
        if fs::metadata(&certificate_path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Err(Failure::new(
                Status::NoInput,
                format!("there is no certificate authority in {}", directory.display()),
            )
            .remedy(format!("Make one: federation-ca --dir {} init --name NAME…", directory.display())));
        }
        let certificate = Certificate::read(&certificate_path)?;
        let permitted = certificate.authority().cloned().ok_or_else(|| {
            Failure::new(
                Status::Data,
                format!("{} is not a CA certificate confined to names, as init makes it", certificate_path.display()),
            )
            .remedy("Put ca.pem back from a backup, or name another directory with --dir.")
        })?;
        let key = read_authority_key(&key_path)?;
        if certificate.public_key() != key.subject_public_key_info() {
            return Err(Failure::new(
                Status::Data,
                format!("{} is not the key of {}", key_path.display(), certificate_path.display()),
            )
            .remedy("Put both files back from one backup."));
        }
        Ok(Self { certificate, permitted, key })
    }

    /// The CA as rcgen's issuer.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, Failure> {
        Issuer::from_ca_cert_der(self.certificate.der(), &self.key).map_err(|error| cannot_sign(&error))
    }

    pub(super) fn subject(&self) -> Result<DistinguishedName, Failure> {
        let (_, parsed) = x509_parser::parse_x509_certificate(self.certificate.der())
            .map_err(|error| Failure::new(Status::Data, "the CA certificate cannot be read").because(error))?;
        let mut subject = DistinguishedName::new();
        for name in parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()) {
            subject.push(rcgen::DnType::CommonName, name);
        }
        Ok(subject)
    }

    pub(super) fn check_validity(&self, now: OffsetDateTime) -> Result<(), Failure> {
        if now < self.certificate.not_before() {
            return Err(Failure::new(
                Status::Config,
                format!(
                    "the clock says {}, but the CA certificate is only valid from {}",
                    readable(now),
                    readable(self.certificate.not_before())
                ),
            )
            .remedy("Set this machine's clock, then try again."));
        }
        if now > self.certificate.not_after() {
            return Err(Failure::new(
                Status::Failed,
                format!("the CA certificate expired on {}", readable(self.certificate.not_after())),
            )
            .remedy("Renew it with `federation-ca init --renew` and hand the new ca.pem to every server."));
        }
        Ok(())
    }
}

/// Where the CA's key is.
pub(super) fn key_path(directory: &Path) -> PathBuf {
    directory.join("ca.key")
}

/// Reads the CA's key, which nobody but its owner may read.
pub(super) fn read_authority_key(path: &Path) -> Result<KeyPair, Failure> {
    let metadata = fs::metadata(path).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let failure = files::cannot("read", path, error);
        if missing {
            failure.remedy("Put the CA's key back from a backup: without it nothing can be signed.")
        } else {
            failure
        }
    })?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Failure::new(Status::Config, format!("the CA's key {} can be read by others", path.display()))
            .remedy(format!("chmod 600 {}", path.display())));
    }
    pair::read_key(path)
}

pub(super) fn cannot_sign(error: &rcgen::Error) -> Failure {
    Failure::new(Status::Failed, "cannot make a certificate").because(error.to_string())
}
