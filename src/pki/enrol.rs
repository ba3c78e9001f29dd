//! Enrolment: a host asks with a certificate request, so its key never travels.

use time::Duration;
use tracing::info;

use crate::service::failure::Failure;

use super::{
    authority::{Authority, Session},
    certificate::Certificate,
    issue::dns_name,
    name::HostName,
    profile::LEAF_LIFETIME,
    record::Origin,
    request::{CertificateRequest, RequestError, parse_certificate_request},
};

/// Most certificates that one host may get in [`WINDOW`]: more are a mistake, and would fill the record.
const MOST: usize = 24;
/// The time in which [`MOST`] counts.
const WINDOW: Duration = Duration::DAY;

/// Why an enrolment is refused.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is not one, was used, or has expired.
    #[error("the token is not valid: it is wrong, was used before, or has expired")]
    Token,
    /// The request is not acceptable.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request asks for other names than the caller may have.
    #[error("{0}")]
    Names(String),
    /// The caller's certificate is not one that may be renewed.
    #[error("{0}")]
    Certificate(&'static str),
    /// The host asked too often.
    #[error("{MOST} certificates for this host in a day are enough: try again later")]
    TooMany,
    /// The authority itself failed.
    #[error(transparent)]
    Authority(#[from] Failure),
}

// === impl Authority ===

impl Authority {
    /// Issues a certificate for a request that comes with a one-time token (RFC 7030 section 4.2.1).
    ///
    /// A request that is refused does not use the token up.
    ///
    /// # Errors
    /// When the token is not valid, or the request is not one for the token's names.
    pub fn enrol(&self, token: &str, request: &[u8]) -> Result<Certificate, EnrolError> {
        let request = parse_certificate_request(request);
        let mut session = self.session()?;
        // The token first: what is wrong with a request is no stranger's business.
        let grant = session.grant(token)?.ok_or(EnrolError::Token)?;
        let request = request?;
        let hosts = granted(&request, &grant.names)?;
        session.check_permitted(&hosts)?;
        session.check_rate(&hosts)?;
        session.use_up(&grant)?;
        info!(name = dns_name(&hosts), "a one-time token was used");
        let (certificate, _) = session.sign(&hosts, request.key(), LEAF_LIFETIME, Origin::Enrolled)?;
        Ok(certificate)
    }

    /// Issues the next certificate for a host that shows its present one (RFC 7030 section 4.2.2).
    ///
    /// The caller has seen in the TLS handshake that the host holds the key of `present`.
    ///
    /// # Errors
    /// When `present` was not issued here, is revoked or not valid now, or the request names anything else.
    pub fn re_enrol(&self, present: &Certificate, request: &[u8]) -> Result<Certificate, EnrolError> {
        let request = parse_certificate_request(request);
        let mut session = self.session()?;
        session.check_present(present)?;
        let request = request?;
        let hosts = present.names().to_vec();
        unchanged(&request, present)?;
        session.check_permitted(&hosts)?;
        session.check_rate(&hosts)?;
        let (certificate, _) = session.sign(&hosts, request.key(), LEAF_LIFETIME, Origin::Reenrolled)?;
        Ok(certificate)
    }
}

// === impl Session ===

impl Session {
    fn check_present(&self, present: &Certificate) -> Result<(), EnrolError> {
        let issued = self.record.find(present.serial());
        let Some(issued) = issued.filter(|_| present.is_signed_by(&self.signer.certificate)) else {
            return Err(EnrolError::Certificate("the certificate was not issued by this authority"));
        };
        if issued.revoked.is_some() {
            return Err(EnrolError::Certificate("the certificate is revoked: ask for a new one-time token"));
        }
        if !present.is_valid_at(self.now) {
            return Err(EnrolError::Certificate("the certificate is not valid now: ask for a new one-time token"));
        }
        Ok(())
    }

    fn check_rate(&self, hosts: &[HostName]) -> Result<(), EnrolError> {
        let name = dns_name(hosts);
        let recent = |not_before| self.now - not_before < WINDOW;
        let asked =
            self.record.certificates.iter().rev().filter(|issued| issued.name == name && recent(issued.not_before));
        if asked.take(MOST).count() < MOST { Ok(()) } else { Err(EnrolError::TooMany) }
    }
}

/// The names that a request asks for, if a token for `allowed` grants them: the first of them at least, and no other.
fn granted(request: &CertificateRequest, allowed: &[HostName]) -> Result<Vec<HostName>, EnrolError> {
    let asked = request.names();
    if let Some(other) = asked.iter().find(|name| !allowed.contains(name)) {
        return Err(EnrolError::Names(format!(
            "the token does not allow the name {other}; it is for {}",
            list(allowed)
        )));
    }
    let first = allowed.first().filter(|first| asked.contains(first));
    let Some(first) = first else {
        return Err(EnrolError::Names(format!(
            "the request does not hold the name that the token is for: {}",
            list(allowed)
        )));
    };
    if request.common_name().is_some_and(|name| !name.eq_ignore_ascii_case(&first.to_string())) {
        return Err(EnrolError::Names(format!("the common name of the request is not {first}")));
    }
    // In the token's order, its name first.
    Ok(allowed.iter().filter(|name| asked.contains(name)).cloned().collect())
}

/// Subject and alternative names must be those of the present certificate (RFC 7030 section 4.2.2).
fn unchanged(request: &CertificateRequest, present: &Certificate) -> Result<(), EnrolError> {
    let mut names = present.names().to_vec();
    names.sort();
    if request.names() != names || !request.has_subject(present.common_name()) {
        return Err(EnrolError::Names(format!(
            "a renewal keeps its names: the request must have the subject and the alternative names of the present \
             certificate ({})",
            list(present.names())
        )));
    }
    Ok(())
}

fn list(names: &[HostName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
