//! The EST client: gets this host its first certificate with a token, and the next ones with the present one.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use rcgen::KeyPair;
use tracing::warn;

use crate::{
    pki::{
        Certificate, Clock, HostName, LeafProfile, Outcome, Pair, PairStore,
        lock::Lock,
        pair::{set_mode, tell_replaced},
        profile,
    },
    service::{
        failure::{Failure, Status},
        files,
        secrets::Secret,
    },
};

use super::{
    REQUEST, ROOT, message,
    trust::{Anchor, Trust, digest},
};

/// Largest answer that is read, in bytes.
const ANSWER: usize = 256 * 1024;

/// A host that enrols with an authority elsewhere.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where this host keeps `ca.pem` and `certs/NAME`.
    pub directory: PathBuf,
    /// The server's address: `https://NAME:PORT`.
    pub server: String,
    /// How the server's CA is known; after the first contact `ca.pem` in the directory is enough.
    pub trust: Option<Trust>,
    /// The certificate that is wanted.
    pub leaf: LeafProfile,
    /// The time.
    pub clock: Clock,
}

// === impl Client ===

impl Client {
    /// Sees to it that this host has a valid certificate: with the token where it has none, with the present one where
    /// that is due (or `force`). The key is made here and stays here.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or a file cannot be written. The old pair is then as it was.
    pub async fn enrol(&self, token: Option<&Secret>, force: bool) -> Result<Outcome, Failure> {
        let hosts = self.leaf.hosts()?;
        if !self.server.starts_with("https://") {
            return Err(Failure::new(
                Status::Usage,
                format!("{:?} is not the address of an enrolment server", self.server),
            )
            .remedy("Give one such as https://ca.example:8449."));
        }
        if self.directory.join("ca.key").exists() {
            return Err(Failure::new(
                Status::Usage,
                format!("{} is the authority's own directory", self.directory.display()),
            )
            .remedy("Its hosts get certificates with `federation-ca issue NAME`; enrol from another directory."));
        }
        if !self.directory.is_dir() {
            files::make_directory(&self.directory)?;
            set_mode(&self.directory, 0o711)?;
        }
        let _lock = Lock::take(&self.directory)?;
        let pairs = PairStore::new(self.directory.join("certs"));
        let name = self.leaf.name.to_ascii_lowercase();
        let now = self.clock.now();
        let anchor = self.anchor()?;
        // A pair of another authority is none.
        let usable = |pair: &Pair| pair.certificate.is_valid_at(now) && anchor.may_have_signed(&pair.certificate);
        let (present, damage) = pairs.load_usable(&name);
        let present = present.filter(usable);
        let due = force || present.as_ref().is_none_or(|pair| now >= pair.certificate.due() || pair.is_exposed());
        let lacking = present.as_ref().and_then(|pair| lacking(&pair.certificate, &hosts));
        if let Some(pair) = present.as_ref().filter(|_| !due && (lacking.is_none() || token.is_none())) {
            if let Some(host) = lacking {
                warn!(name, "the certificate does not stand for {host}: only a new one-time token gives one that does");
            }
            return Ok(Outcome::StillValid(pair.certificate.clone()));
        }
        let root = self.fetch_root(&anchor).await?;
        let key = KeyPair::generate().map_err(|error| cannot_make(&error))?;
        let group = self.leaf.group.or_else(|| pairs.group(&name));
        // Before the token is used up, for it gives one certificate only.
        let unfinished = pairs.prepare(&name, &key.serialize_pem(), group)?;
        let (hosts, answer) = self.obtain(hosts, &key, &root, present.as_ref(), token, due).await?;
        let certificate = check(&answer, &hosts, &key, &root)?;
        let text = pem("CERTIFICATE", certificate.der());
        files::write(&self.root_path(), pem("CERTIFICATE", root.der()).as_bytes(), files::PUBLIC)?;
        unfinished.complete(&text, certificate.serial())?;
        tell_replaced(&name, damage);
        Ok(Outcome::Issued(certificate))
    }

    /// The next certificate with the present one; the first with the token, which also helps where the present one is
    /// refused, as after a revocation, or does not stand for all the names.
    async fn obtain(
        &self,
        hosts: Vec<HostName>,
        key: &KeyPair,
        root: &Certificate,
        present: Option<&Pair>,
        token: Option<&Secret>,
        due: bool,
    ) -> Result<(Vec<HostName>, Certificate), Failure> {
        let fewer = present.is_some_and(|pair| lacking(&pair.certificate, &hosts).is_some());
        if let Some(token) = token.filter(|_| fewer) {
            match self.ask("simpleenroll", root, None, Some(token), request(&hosts, key)?).await {
                Ok(certificate) => return Ok((hosts, certificate)),
                Err(refused) if !due || refused.status() != Status::NoPermission => return Err(refused),
                Err(refused) => warn!(%refused, "the token is refused; the certificate keeps its names"),
            }
        }
        if let Some(pair) = present {
            let same = pair.certificate.names().to_vec();
            match self.ask("simplereenroll", root, Some(pair), None, request(&same, key)?).await {
                Ok(certificate) => return Ok((same, certificate)),
                Err(refused) if token.is_none() || refused.status() != Status::NoPermission => return Err(refused),
                Err(refused) => warn!(%refused, "the present certificate is refused; trying the token"),
            }
        }
        let token = token.ok_or_else(|| {
            let name = &self.leaf.name;
            Failure::new(Status::Usage, format!("this host has no valid certificate for {name} to renew"))
                .remedy("Ask the authority's operator for a one-time token, and give it with --token-file FILE.")
        })?;
        let certificate = self.ask("simpleenroll", root, None, Some(token), request(&hosts, key)?).await?;
        Ok((hosts, certificate))
    }

    fn root_path(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// What the server's chain is checked against. A fingerprint counts for the first contact only: the root may be
    /// extended later, and the one that is kept then vouches for the new one.
    fn anchor(&self) -> Result<Anchor, Failure> {
        let kept = self.root_path();
        match &self.trust {
            Some(Trust::File(path)) => Ok(Anchor::Root(Box::new(Certificate::read(path)?))),
            _ if kept.exists() => Ok(Anchor::Root(Box::new(Certificate::read(&kept)?))),
            Some(Trust::Fingerprint(fingerprint)) => Ok(Anchor::Fingerprint(*fingerprint)),
            None => Err(Failure::new(Status::Usage, "it is not known which authority to trust").remedy(
                "Give the CA certificate with --ca FILE, or its SHA-256 fingerprint (`federation-ca show`) with --fingerprint.",
            )),
        }
    }

    /// The authority's present root: it may have been extended since, and then the same key signed it.
    async fn fetch_root(&self, anchor: &Anchor) -> Result<Certificate, Failure> {
        let answer = self.exchange(anchor.client(None)?, "cacerts", None, None).await?;
        let certificates = message::certificates(&answer).map_err(|error| self.nonsense(error))?;
        let known = |root: &Certificate| match anchor {
            Anchor::Root(known) => known.public_key() == root.public_key() && root.is_signed_by(known),
            Anchor::Fingerprint(fingerprint) => digest(root.der()) == *fingerprint,
        };
        let mut roots = certificates.into_iter().filter_map(|der| Certificate::from_der(der).ok());
        roots.find(|root| root.authority().is_some() && known(root)).ok_or_else(|| {
            Failure::new(Status::Data, format!("{} has another CA than the one that is trusted here", self.server))
                .remedy(
                    "Get the CA certificate from the authority's operator on a safe way, and give it with --ca FILE.",
                )
        })
    }

    async fn ask(
        &self,
        operation: &str,
        root: &Certificate,
        present: Option<&Pair>,
        token: Option<&Secret>,
        request: Vec<u8>,
    ) -> Result<Certificate, Failure> {
        let client = Anchor::Root(Box::new(root.clone())).client(present)?;
        let answer = self.exchange(client, operation, token, Some(request)).await?;
        let mut certificates = message::certificates(&answer).map_err(|error| self.nonsense(error))?;
        match (certificates.pop(), certificates.is_empty()) {
            (Some(der), true) => Certificate::from_der(der).map_err(|error| self.nonsense(error)),
            _ => Err(self.nonsense("not exactly one certificate")),
        }
    }

    async fn exchange(
        &self,
        client: reqwest::Client,
        operation: &str,
        token: Option<&Secret>,
        request: Option<Vec<u8>>,
    ) -> Result<Bytes, Failure> {
        let address = format!("{}{ROOT}/{operation}", self.server.trim_end_matches('/'));
        let mut call = match request {
            None => client.get(&address),
            Some(der) => client.post(&address).header(header::CONTENT_TYPE, REQUEST).body(message::lines(&der)),
        };
        if let Some(token) = token {
            call = call.header(header::AUTHORIZATION, bearer(token)?);
        }
        let unreachable = |error: reqwest::Error| {
            Failure::new(Status::Unavailable, format!("cannot reach {address}"))
                .because(deepest(&error))
                .remedy("See that `federation-ca serve` runs there, and that --server and --ca are right.")
        };
        let mut response = call.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if body.len() + piece.len() > ANSWER {
                return Err(self.nonsense("the answer is too large"));
            }
            body.extend_from_slice(&piece);
        }
        if status == StatusCode::OK { Ok(body.into()) } else { Err(self.refused(status, &body)) }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let said: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(300).collect();
        let (exit, remedy) = match status {
            StatusCode::UNAUTHORIZED => {
                (Status::NoPermission, "Ask the authority's operator for a new one-time token.")
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => (Status::Temporary, "Try again later."),
            StatusCode::FORBIDDEN => (Status::NoPermission, "Ask the authority's operator."),
            _ => (Status::Unavailable, "The log of the authority's server says more."),
        };
        Failure::new(exit, format!("{} refused with {status}: {said}", self.server)).remedy(remedy)
    }

    fn nonsense(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        Failure::new(Status::Unavailable, format!("{} answered with something that is not EST", self.server))
            .because(error)
            .remedy("See that --server names a `federation-ca serve` or another EST server.")
    }
}

/// The first of the hosts that a certificate does not stand for.
fn lacking<'a>(certificate: &Certificate, hosts: &'a [HostName]) -> Option<&'a HostName> {
    hosts.iter().find(|host| !certificate.names().contains(host))
}

/// A certificate request for the hosts, signed with the key.
fn request(hosts: &[HostName], key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = profile::leaf_subject(hosts);
    let names: Result<_, _> = hosts.iter().map(HostName::to_san).collect();
    params.subject_alt_names = names.map_err(|error| cannot_make(&error))?;
    let request = params.serialize_request(key).map_err(|error| cannot_make(&error))?;
    Ok(request.der().to_vec())
}

/// Takes only what was asked for: this key, these names, this authority.
fn check(
    certificate: &Certificate,
    hosts: &[HostName],
    key: &KeyPair,
    root: &Certificate,
) -> Result<Certificate, Failure> {
    use rcgen::PublicKeyData as _;
    let (mut wanted, mut given) = (hosts.to_vec(), certificate.names().to_vec());
    wanted.sort();
    given.sort();
    let fault = if certificate.public_key() != key.subject_public_key_info() {
        Some("it is for another key")
    } else if wanted != given {
        Some("it is for other names")
    } else if !certificate.is_signed_by(root) {
        Some("it is not signed by the authority that is trusted here")
    } else {
        None
    };
    match fault {
        None => Ok(certificate.clone()),
        Some(fault) => {
            Err(Failure::new(Status::Data, "the server issued a certificate that cannot be used").because(fault))
        }
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
        Failure::new(Status::Data, "the token holds characters that no token has")
            .remedy("Copy the token anew from what `federation-ca token` printed.")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", message::lines(der))
}

fn cannot_make(error: &rcgen::Error) -> Failure {
    Failure::new(Status::Failed, "cannot make a key or a certificate request").because(error.to_string())
}

/// The cause below all others: reqwest's own sentences say little.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
