//! Revoking certificates, and the list that tells everybody (RFC 5280 section 5).

use std::path::Path;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::{Duration, OffsetDateTime};
use tracing::info;
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{
    authority::{Authority, Session},
    record::{Issued, Reason, Revocation},
    serial::Serial,
    signer::cannot_sign,
    token,
};

/// How long a revocation list counts. It is signed anew after half of that.
pub const CRL_LIFETIME: Duration = Duration::days(7);
/// Largest revocation list that is read, in bytes.
const CRL_LIMIT: u64 = 16 * 1024 * 1024;

// === impl Authority ===

impl Authority {
    /// Revokes a certificate by its serial number, or all certificates of a host by its name, and signs a new list.
    ///
    /// By name, the host's unused enrolment tokens end too. Returns what was revoked now; those that were revoked
    /// before stay as they are.
    ///
    /// # Errors
    /// When nothing of that name or number was issued, or a file cannot be written.
    pub fn revoke(&self, target: &str, reason: Reason) -> Result<Vec<Issued>, Failure> {
        let mut session = self.session()?;
        let by_serial = target.parse::<Serial>().ok().filter(|serial| session.record.find(serial).is_some());
        let now = session.now;
        let name = target.to_ascii_lowercase();
        let meant = |issued: &Issued| match &by_serial {
            Some(serial) => issued.serial == *serial,
            None => issued.name == name,
        };
        if !session.record.certificates.iter().any(meant) {
            return Err(Failure::new(Status::NoInput, format!("no certificate was issued to {target:?}"))
                .remedy("`federation-ca show` lists the names and serial numbers."));
        }
        let mut revoked = Vec::new();
        for issued in session.record.certificates.iter_mut().filter(|issued| meant(issued)) {
            if issued.revoked.is_none() && now <= issued.not_after {
                issued.revoked = Some(Revocation { at: now, reason });
                info!(name = issued.name, serial = %issued.serial, ?reason, "revoked a certificate");
                revoked.push(issued.clone());
            }
        }
        if by_serial.is_none() {
            token::withdraw(&session.directory, &name)?;
        }
        session.refresh_crl(!revoked.is_empty())?;
        Ok(revoked)
    }

    /// Signs the revocation list anew; returns until when it counts.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn sign_crl(&self) -> Result<OffsetDateTime, Failure> {
        let mut session = self.session()?;
        session.refresh_crl(true)?;
        Ok(session.now + CRL_LIFETIME)
    }

    /// From when until when the present revocation list counts; `None` where there is none that can be read.
    pub fn crl_validity(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        present_list(&Self::crl_path(self.directory())).map(|list| (list.from, list.until))
    }

    /// Signs the revocation list anew if half of its time is over.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn keep_crl_fresh(&self) -> Result<(), Failure> {
        self.session()?.refresh_crl(false)
    }
}

// === impl Session ===

impl Session {
    /// Signs the revocation list anew when it is asked for, missing, or half of its time is over.
    pub(super) fn refresh_crl(&mut self, asked: bool) -> Result<(), Failure> {
        let path = Authority::crl_path(&self.directory);
        let present = present_list(&path);
        let fresh = |list: &List| list.from <= self.now && self.now + CRL_LIFETIME / 2 < list.until;
        if !asked && present.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        // A record from a backup does not know all lists: none may have a number below one before it.
        self.record.crl_number = self.record.crl_number.max(present.map_or(0, |list| list.number)) + 1;
        // What is revoked is written down before it is told, and no number is used twice.
        self.record.write(&self.directory)?;
        let params = CertificateRevocationListParams {
            this_update: self.now,
            next_update: self.now + CRL_LIFETIME,
            crl_number: SerialNumber::from_slice(Serial::from_bytes(&self.record.crl_number.to_be_bytes()).bytes()),
            issuing_distribution_point: None,
            revoked_certs: self.record.certificates.iter().filter_map(|issued| self.listed(issued)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params
            .signed_by(&self.signer.issuer()?)
            .and_then(|list| list.pem())
            .map_err(|error| cannot_sign(&error))?;
        files::write(&path, list.as_bytes(), files::PUBLIC)
    }

    /// The entry of a revoked certificate. It stays on one list beyond the certificate's life (RFC 5280 section 3.3).
    fn listed(&self, issued: &Issued) -> Option<RevokedCertParams> {
        let revocation = issued.revoked.filter(|_| self.now <= issued.not_after + CRL_LIFETIME)?;
        Some(RevokedCertParams {
            serial_number: SerialNumber::from_slice(issued.serial.bytes()),
            revocation_time: revocation.at,
            reason_code: revocation.reason.code(),
            invalidity_date: None,
        })
    }
}

/// What a list says of itself.
struct List {
    number: u64,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

/// The list in a file; `None` where there is no such list.
fn present_list(path: &Path) -> Option<List> {
    let text = files::read_text(path, CRL_LIMIT).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).ok()?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).ok()?;
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    Some(List { number, from: list.last_update().to_datetime(), until: list.next_update()?.to_datetime() })
}
