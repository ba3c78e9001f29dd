//! What certificates look like: the authority's own, and those that it issues.

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::service::failure::{Failure, Status};

use super::{
    name::{HostName, LOCALHOST, NameError, Permitted},
    serial::Serial,
};

/// How long a CA certificate is valid: five years.
pub const AUTHORITY_LIFETIME: Duration = Duration::days(5 * 365 + 1);
/// How long a certificate for a host is valid.
pub const LEAF_LIFETIME: Duration = Duration::days(90);
/// How far back validity begins, for hosts whose clock is behind.
pub(super) const BACKDATED: Duration = Duration::minutes(5);
/// Longest common name (RFC 5280 appendix A.1, `ub-common-name`).
const LONGEST_COMMON_NAME: usize = 64;
/// Shortest and longest life of a certificate for a host.
const LEAF_LIFETIMES: std::ops::RangeInclusive<Duration> = Duration::minutes(10)..=Duration::days(398);

/// How an authority is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityProfile {
    /// The DNS names that it may certify, with all names below them, besides the loopback addresses. Where one is a
    /// single label, as in a lab, `localhost` is added.
    pub names: Vec<String>,
    /// Where its revocation list can be had (`http://…`), for its certificates to say.
    pub crl_url: Option<String>,
}

/// What a certificate is issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProfile {
    /// The host: a DNS name, also the name of the pair's directory.
    pub name: String,
    /// Further DNS names and IP addresses that the certificate stands for.
    pub sans: Vec<String>,
    /// How long it is valid.
    pub lifetime: Duration,
    /// The group that may read the key, by number.
    pub group: Option<u32>,
}

// === impl AuthorityProfile ===

impl AuthorityProfile {
    /// An authority for these DNS names and those below them.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), crl_url: None }
    }

    /// The subtrees.
    ///
    /// # Errors
    /// When there is none, or one is not a DNS name.
    pub(super) fn permitted(&self) -> Result<Permitted, Failure> {
        if self.names.is_empty() {
            return Err(Failure::new(Status::Usage, "an authority needs at least one name that it may certify")
                .remedy("Name the network's servers with --name NAME, or its declaration with --network FILE."));
        }
        let mut names = self.names.iter().map(|name| dns_name(name)).collect::<Result<Vec<_>, _>>()?;
        // No public DNS has a single label: such a network lives on one machine, which browsers reach as NAME.localhost.
        if names.iter().any(|name| !name.contains('.')) {
            names.push(LOCALHOST.to_owned());
        }
        Ok(Permitted::new(names))
    }
}

// === impl LeafProfile ===

impl LeafProfile {
    /// A certificate for one host, for [`LEAF_LIFETIME`].
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), sans: Vec::new(), lifetime: LEAF_LIFETIME, group: None }
    }

    /// With further names.
    #[must_use]
    pub fn with_sans<N: Into<String>>(mut self, sans: impl IntoIterator<Item = N>) -> Self {
        self.sans.extend(sans.into_iter().map(Into::into));
        self
    }

    /// With a group that may read the key.
    #[must_use]
    pub fn with_group(mut self, group: Option<u32>) -> Self {
        self.group = group;
        self
    }

    /// All hosts, the name first, each once.
    ///
    /// # Errors
    /// When one is not a host name, or the lifetime is not one for a host.
    pub(super) fn hosts(&self) -> Result<Vec<HostName>, Failure> {
        let mut hosts = vec![HostName::Dns(dns_name(&self.name)?)];
        for san in &self.sans {
            let host = san.parse().map_err(|error: NameError| not_a_name(&error))?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        if !LEAF_LIFETIMES.contains(&self.lifetime) {
            return Err(Failure::new(
                Status::Usage,
                "a certificate is valid for at least 10 minutes and at most 398 days",
            ));
        }
        Ok(hosts)
    }
}

/// A DNS name in lower case.
///
/// # Errors
/// When the text is not one.
pub(super) fn dns_name(text: &str) -> Result<String, Failure> {
    match text.parse() {
        Ok(HostName::Dns(name)) => Ok(name),
        Ok(HostName::Address(address)) => Err(Failure::new(
            Status::Usage,
            format!("{address} is an address; a DNS name is wanted here (addresses can be given with --san)"),
        )),
        Err(error) => Err(not_a_name(&error)),
    }
}

fn not_a_name(error: &NameError) -> Failure {
    Failure::new(Status::Usage, error.to_string())
}

/// The authority's own certificate: a root that may sign hosts' certificates and nothing below, confined to the names.
pub(super) fn authority(subject: DistinguishedName, permitted: &Permitted, serial: &Serial) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(permitted.to_constraints());
    params.use_authority_key_identifier_extension = true;
    params
}

/// A host's certificate. Its subject is the first DNS name that fits; what counts are the alternative names.
///
/// # Errors
/// Never for parsed names: they are ASCII.
pub(super) fn leaf(
    hosts: &[HostName],
    serial: &Serial,
    crl_url: Option<&str>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = leaf_subject(hosts);
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.subject_alt_names = hosts.iter().map(HostName::to_san).collect::<Result<_, _>>()?;
    // Says that it is no CA, and makes rcgen write the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.crl_distribution_points =
        crl_url.map(|url| CrlDistributionPoint { uris: vec![url.to_owned()] }).into_iter().collect();
    Ok(params)
}

/// The subject of a host's certificate: its first DNS name, empty where that is too long for a common name.
pub(super) fn leaf_subject(hosts: &[HostName]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    let first = hosts.iter().find_map(HostName::dns);
    if let Some(name) = first.filter(|name| name.len() <= LONGEST_COMMON_NAME) {
        subject.push(DnType::CommonName, name);
    }
    subject
}

/// The subject of a new authority: unlike any other's, so that two never pass for one in a list of roots.
pub(super) fn authority_subject(serial: &Serial) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    let digits: String = serial.to_string().chars().take(8).collect();
    subject.push(DnType::CommonName, format!("Federation CA {digits}"));
    subject
}

/// Validity from `now` (a little earlier) for a lifetime, within that of the issuer.
///
/// The last second counts too (RFC 5280 section 4.1.2.5), so it is one second less than the sum.
pub(super) fn validity(
    now: OffsetDateTime,
    lifetime: Duration,
    within: Option<(OffsetDateTime, OffsetDateTime)>,
) -> (OffsetDateTime, OffsetDateTime) {
    let (start, end) = (now - BACKDATED, now - BACKDATED + lifetime - Duration::SECOND);
    match within {
        Some((from, until)) => (start.max(from), end.min(until)),
        None => (start, end),
    }
}
