//! A certificate as this program looks at it.

use std::path::Path;

use ring::digest;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{
    name::{HostName, Permitted},
    pair::LIMIT,
    serial::Serial,
};

/// A parsed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    serial: Serial,
    subject: Vec<u8>,
    public_key: Vec<u8>,
    names: Vec<HostName>,
    common_name: Option<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    authority: Option<Permitted>,
}

/// Why bytes are not a certificate that this program can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not DER of an X.509 certificate.
    #[error("it is not an X.509 certificate")]
    Malformed,
    /// A name in it is not a DNS name or an IP address.
    #[error("it holds a name that is neither a DNS name nor an IP address")]
    Name,
}

// === impl Certificate ===

impl Certificate {
    /// Parses a certificate.
    ///
    /// # Errors
    /// When it is not one, or names something other than hosts.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let names = match parsed.subject_alternative_name().map_err(|_| CertificateError::Malformed)? {
            Some(extension) => host_names(&extension.value.general_names)?,
            None => Vec::new(),
        };
        let common_name =
            parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
        Ok(Self {
            serial: Serial::from_bytes(parsed.raw_serial()),
            subject: parsed.subject().as_raw().to_vec(),
            public_key: parsed.public_key().raw.to_vec(),
            names,
            common_name,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            authority: authority(&parsed),
            der,
        })
    }

    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// A [`Failure`] that names the file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path, LIMIT)?;
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            Failure::new(Status::Data, format!("{} is not a certificate in PEM", path.display()))
                .because(error)
                .remedy("Put the file back from a backup.")
        };
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| wrong(error.into()))?;
        Self::from_der(der).map_err(|error| wrong(error.into()))
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Its subject in DER: an X.501 name.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// Its public key: a SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The hosts that it stands for.
    pub fn names(&self) -> &[HostName] {
        &self.names
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// From when it is valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Until when it is valid, that second included.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// When it is time for the next one: at two thirds of its life.
    pub fn due(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }

    /// Whether it is valid at a time.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The subtrees that it may certify, where it is a CA certificate.
    pub fn authority(&self) -> Option<&Permitted> {
        self.authority.as_ref()
    }

    /// Whether an authority signed it, by the signature alone.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, own)), Ok((_, issuer))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        own.issuer().as_raw() == issuer.subject().as_raw() && own.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// The SHA-256 digest of the certificate, as pairs of hexadecimal digits with colons between them.
    pub fn fingerprint(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.der);
        let pairs: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

/// The hosts among general names.
///
/// # Errors
/// When one is neither a DNS name nor an IP address.
pub(super) fn host_names(names: &[GeneralName<'_>]) -> Result<Vec<HostName>, CertificateError> {
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => match name.parse() {
            Ok(HostName::Dns(name)) => Ok(HostName::Dns(name)),
            _ => Err(CertificateError::Name),
        },
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.map(HostName::Address).map_err(|_| CertificateError::Name)
        }
        _ => Err(CertificateError::Name),
    };
    names.iter().map(host).collect()
}

/// The DNS subtrees of a CA certificate that may sign certificates and revocation lists.
fn authority(parsed: &X509Certificate<'_>) -> Option<Permitted> {
    let usage = parsed.key_usage().ok()??.value;
    if !(parsed.is_ca() && usage.key_cert_sign() && usage.crl_sign()) {
        return None;
    }
    let constraints = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::NameConstraints(constraints) => Some(constraints),
        _ => None,
    })?;
    let subtrees = constraints.permitted_subtrees.as_deref()?;
    Some(Permitted::new(subtrees.iter().filter_map(|subtree| match subtree.base {
        GeneralName::DNSName(root) => Some(root.to_owned()),
        _ => None,
    })))
}
