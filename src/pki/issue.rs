//! Issuing certificates and renewing them in time.

use rcgen::{KeyPair, PublicKeyData};
use time::Duration;
use tracing::{info, warn};

use crate::service::failure::{Failure, Status};

use super::{
    authority::{Authority, Session},
    certificate::Certificate,
    clock::readable,
    name::HostName,
    pair::{self, Pair, PairStore},
    profile::{self, LeafProfile},
    record::{Issued, Origin},
    serial::Serial,
    signer::cannot_sign,
};

/// What [`Authority::issue`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new key and certificate are in place.
    Issued(Certificate),
    /// The pair in place is valid, stands for all the names, and is not due yet: nothing was done.
    StillValid(Certificate),
}

/// What [`Authority::renew`] did for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// A new key and certificate are in place.
    Renewed(Certificate),
    /// It is not time yet.
    NotDue(Certificate),
    /// The certificate is revoked; only `issue` makes a new one.
    Revoked(Certificate),
}

// === impl Outcome ===

impl Outcome {
    /// The certificate that is in place.
    pub fn certificate(&self) -> &Certificate {
        match self {
            Self::Issued(certificate) | Self::StillValid(certificate) => certificate,
        }
    }
}

impl Authority {
    /// Sees to it that a host has a valid key and certificate: makes them where there are none, where the present ones
    /// are due, revoked, damaged, of another CA, or do not stand for all the names.
    ///
    /// # Errors
    /// When a name is not permitted, or a file cannot be read or written. The old pair is then as it was.
    pub fn issue(&self, leaf: &LeafProfile) -> Result<Outcome, Failure> {
        let hosts = leaf.hosts()?;
        let mut session = self.session()?;
        session.check_permitted(&hosts)?;
        let pairs = Self::pairs(self.directory());
        let name = dns_name(&hosts);
        let (present, damage) = pairs.load_usable(name);
        if let Some(pair) = present.filter(|pair| session.serves(pair, &hosts)) {
            if leaf.group.is_some() && leaf.group != pair.group {
                pairs.share(name, leaf.group)?;
            }
            return Ok(Outcome::StillValid(pair.certificate));
        }
        let group = leaf.group.or_else(|| pairs.group(name));
        let certificate = session.issue_pair(&pairs, &hosts, leaf.lifetime, group)?;
        pair::tell_replaced(name, damage);
        Ok(Outcome::Issued(certificate))
    }

    /// Renews the pairs that are due, with the same names, life and group; with `force` also those that are not.
    ///
    /// `names` are the pairs to look at; with none given, all that are here. Each has its own outcome: one that fails
    /// does not keep the others from being renewed. The revocation list is signed anew when half of its time is over.
    ///
    /// # Errors
    /// When the authority itself cannot be used.
    #[allow(clippy::type_complexity, reason = "a list of names with their outcomes needs no name of its own")]
    pub fn renew(&self, names: &[String], force: bool) -> Result<Vec<(String, Result<Renewal, Failure>)>, Failure> {
        let pairs = Self::pairs(self.directory());
        let mut session = self.session()?;
        let names = if names.is_empty() { pairs.names()? } else { names.to_vec() };
        let mut outcomes = Vec::new();
        for name in names {
            let outcome = session.renew_pair(&pairs, &name, force);
            outcomes.push((name, outcome));
        }
        session.refresh_crl(false)?;
        Ok(outcomes)
    }

    /// As [`Authority::renew`] for all pairs that are due.
    ///
    /// # Errors
    /// As [`Authority::renew`].
    #[allow(clippy::type_complexity, reason = "as above")]
    pub fn renew_due(&self) -> Result<Vec<(String, Result<Renewal, Failure>)>, Failure> {
        self.renew(&[], false)
    }
}

// === impl Session ===

impl Session {
    /// Refuses names outside the authority's constraints: nobody would accept the certificate.
    pub(super) fn check_permitted(&self, hosts: &[HostName]) -> Result<(), Failure> {
        match hosts.iter().find(|host| !self.signer.permitted.allows(host)) {
            None => Ok(()),
            Some(host) => Err(Failure::new(
                Status::Usage,
                format!("this authority may not certify {host}; it is confined to {}", self.signer.permitted),
            )
            .remedy("A new DNS name is added with `federation-ca init --name NAME`; of addresses only loopback ones are allowed.")),
        }
    }

    /// Whether a pair is valid, stands for the hosts and is not due.
    fn serves(&self, pair: &Pair, hosts: &[HostName]) -> bool {
        let certificate = &pair.certificate;
        hosts.iter().all(|host| certificate.names().contains(host))
            && !self.is_due(certificate)
            && !self.is_revoked(certificate)
            && !pair.is_exposed()
    }

    /// Whether a certificate should be replaced: its time has come, or it is not of this CA.
    fn is_due(&self, certificate: &Certificate) -> bool {
        !certificate.is_valid_at(self.now)
            || self.now >= certificate.due()
            || !certificate.is_signed_by(&self.signer.certificate)
    }

    fn is_revoked(&self, certificate: &Certificate) -> bool {
        self.record.find(certificate.serial()).is_some_and(|issued| issued.revoked.is_some())
    }

    fn renew_pair(&mut self, pairs: &PairStore, name: &str, force: bool) -> Result<Renewal, Failure> {
        let remedy = || format!("Issue one: federation-ca issue {name}");
        let pair = pairs.load(&profile::dns_name(name)?).map_err(|failure| match failure.status() {
            // Gone or garbled: nothing of it is worth a backup.
            Status::NoInput | Status::Data => failure.remedy(remedy()),
            _ => failure,
        })?;
        let missing = || Failure::new(Status::NoInput, format!("there is no certificate for {name} here"));
        let pair = pair.ok_or_else(|| missing().remedy(remedy()))?;
        let exposed = pair.is_exposed();
        let certificate = pair.certificate;
        if self.is_revoked(&certificate) {
            return Ok(Renewal::Revoked(certificate));
        }
        if !force && !exposed && !self.is_due(&certificate) {
            return Ok(Renewal::NotDue(certificate));
        }
        let hosts = certificate.names().to_vec();
        if hosts.first().and_then(HostName::dns) != Some(name) {
            return Err(Failure::new(
                Status::Data,
                format!("the certificate in place for {name} is one for another host"),
            )
            .remedy(format!("Issue a new one: federation-ca issue {name}")));
        }
        self.check_permitted(&hosts)?;
        let own = certificate.not_after() - certificate.not_before() + Duration::SECOND;
        let lifetime = self.record.find(certificate.serial()).and_then(Issued::cut_from).unwrap_or(own);
        self.issue_pair(pairs, &hosts, lifetime, pair.group).map(Renewal::Renewed)
    }

    fn issue_pair(
        &mut self,
        pairs: &PairStore,
        hosts: &[HostName],
        lifetime: Duration,
        group: Option<u32>,
    ) -> Result<Certificate, Failure> {
        let key = KeyPair::generate().map_err(|error| cannot_sign(&error))?;
        let unfinished = pairs.prepare(dns_name(hosts), &key.serialize_pem(), group)?;
        let (certificate, pem) = self.sign(hosts, &key, lifetime, Origin::Local)?;
        unfinished.complete(&pem, certificate.serial())?;
        Ok(certificate)
    }

    /// Signs a certificate. It stands in the record before anybody gets it.
    pub(super) fn sign(
        &mut self,
        hosts: &[HostName],
        key: &impl PublicKeyData,
        lifetime: Duration,
        origin: Origin,
    ) -> Result<(Certificate, String), Failure> {
        let serial = Serial::random()?;
        let mut params =
            profile::leaf(hosts, &serial, self.record.crl_url.as_deref()).map_err(|error| cannot_sign(&error))?;
        let authority = &self.signer.certificate;
        let within = (authority.not_before(), authority.not_after());
        (params.not_before, params.not_after) = profile::validity(self.now, lifetime, Some(within));
        let signed = params.signed_by(key, &self.signer.issuer()?).map_err(|error| cannot_sign(&error))?;
        let certificate = Certificate::from_der(signed.der().clone())
            .map_err(|error| Failure::new(Status::Failed, "made a certificate that cannot be read").because(error))?;
        let ends = authority.not_after();
        let cut = (certificate.not_after() == ends && params.not_before + lifetime > ends).then(|| {
            let (name, until) = (dns_name(hosts), readable(ends));
            warn!(name, until, "the certificate ends with the CA's: renew that with `federation-ca init --renew`");
            lifetime.whole_seconds()
        });
        let issued = Issued {
            serial,
            name: dns_name(hosts).to_owned(),
            names: hosts.to_vec(),
            origin,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            revoked: None,
            cut_from: cut,
        };
        self.record.add(issued, self.now);
        self.record.write(&self.directory)?;
        info!(name = dns_name(hosts), serial = %certificate.serial(), until = readable(certificate.not_after()), "issued a certificate");
        Ok((certificate, signed.pem()))
    }
}

/// The name that a certificate is issued under: its first DNS name.
pub(super) fn dns_name(hosts: &[HostName]) -> &str {
    hosts.iter().find_map(HostName::dns).unwrap_or_default()
}
