//! The certificates of the servers: read, checked, chosen by name, and swapped while connections go on.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::settings::{Settings, host_of};
use crate::service::{
    failure::{Failure, Status},
    files,
};

/// Largest certificate or key file that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// The certificates of all servers.
#[derive(Debug)]
pub(crate) struct Certificates {
    pairs: Vec<Pair>,
    by_name: HashMap<String, usize>,
    default: usize,
}

/// A certificate and its key, in the files that it comes from.
#[derive(Debug)]
struct Pair {
    server: String,
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<Loaded>,
}

/// A certificate and its key as they were read.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// Unix time in seconds.
    begins: i64,
    /// Unix time in seconds.
    expires: i64,
    /// Whether the certificate stands for the name of its server.
    named: bool,
    /// The files' content, to tell whether they changed.
    digest: [u8; 32],
}

// === impl Certificates ===

impl Certificates {
    /// Reads the certificates that settings name.
    ///
    /// # Errors
    /// When one cannot be read, is malformed, or does not belong to its key; names server and file.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Failure> {
        let (mut pairs, mut by_name) = (Vec::new(), HashMap::new());
        for (name, server) in &settings.servers {
            let (Some(certificate), Some(key)) = (&server.certificate, &server.key) else { continue };
            for host in std::iter::once(host_of(name)).chain(server.hosts.iter().map(String::as_str)) {
                by_name.insert(host.to_ascii_lowercase(), pairs.len());
            }
            pairs.push(Pair::read(name, certificate, key)?);
        }
        let default = settings.default_certificate();
        let default = pairs.iter().position(|pair| Some(pair.server.as_str()) == default).unwrap_or(0);
        Ok(Self { pairs, by_name, default })
    }

    /// Reads all again. A pair that cannot be used leaves the old one in place.
    pub(crate) fn reload(&self) -> Vec<(String, Result<(), Failure>)> {
        let changed = |pair: &Pair| pair.reload().transpose().map(|result| (pair.server.clone(), result));
        self.pairs.iter().filter_map(changed).collect()
    }

    /// The servers and when their certificates expire, as Unix time in seconds.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (&str, i64)> {
        self.pairs.iter().map(|pair| (pair.server.as_str(), pair.current.load().expires))
    }

    /// The files to watch.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.pairs.iter().flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()])
    }

    /// TLS as the listeners speak it.
    ///
    /// # Errors
    /// When the system has no randomness for the keys of session tickets.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, Failure> {
        let failed = |error: rustls::Error| Failure::new(Status::Unavailable, "cannot set up TLS").because(error);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are resumed by tickets alone: nothing is stored for a client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let place = match hello.server_name() {
            None => self.default,
            Some(name) => self.by_name.get(name).or_else(|| self.by_name.get(&name.to_ascii_lowercase())).copied()?,
        };
        self.pairs.get(place).map(|pair| Arc::clone(&pair.current.load().key))
    }
}

// === impl Pair ===

impl Pair {
    fn read(server: &str, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let (certificate, key) = (credential(certificate), credential(key));
        let loaded = Loaded::read_whole(server, &certificate, &key)?;
        if let Some(fault) = loaded.fault() {
            tracing::warn!(server, certificate = %certificate.display(), "the certificate {fault}");
        }
        Ok(Self { server: server.to_owned(), certificate, key, current: ArcSwap::from_pointee(loaded) })
    }

    /// `None` when the files are as they were.
    fn reload(&self) -> Result<Option<()>, Failure> {
        let loaded = Loaded::read_whole(&self.server, &self.certificate, &self.key)?;
        let current = self.current.load();
        if loaded.digest == current.digest {
            return Ok(None);
        }
        // One that clients accept is not given up for one that they do not.
        if let Some(fault) = loaded.fault().filter(|_| current.fault().is_none()) {
            let text = format!("servers.{}: {} {fault}", self.server, self.certificate.display());
            return Err(Failure::new(Status::Data, text));
        }
        self.current.store(Arc::new(loaded));
        Ok(Some(()))
    }
}

// === impl Loaded ===

impl Loaded {
    /// Reads both files, and again when they do not fit: a pair may have been replaced between the two.
    fn read_whole(server: &str, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        Self::read(server, certificate, key).or_else(|_| Self::read(server, certificate, key))
    }

    /// Why clients do not accept the certificate, as far as can be told here.
    fn fault(&self) -> Option<&'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        match self {
            _ if !self.named => Some("does not stand for the name of its server"),
            _ if self.expires < now => Some("has expired"),
            _ if self.begins > now => Some("is not valid yet"),
            _ => None,
        }
    }

    fn read(server: &str, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let (chain_text, key_text) = (files::read_text(certificate, LIMIT)?, files::read_text(key, LIMIT)?);
        let wrong = |path: &Path, what: &str| {
            Failure::new(Status::Config, format!("servers.{server}: {} {what}", path.display()))
        };
        let chain = CertificateDer::pem_slice_iter(chain_text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(certificate, "is not PEM").because(error))?;
        let leaf = chain.first().ok_or_else(|| wrong(certificate, "holds no certificate"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| wrong(certificate, "holds a malformed certificate").because(error.to_string()))?;
        let (begins, expires) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let named = stands_for(leaf, host_of(server));
        let private = PrivateKeyDer::from_pem_slice(key_text.as_bytes())
            .map_err(|error| wrong(key, "holds no private key").because(error))?;
        let certified = CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| wrong(key, "does not belong to the certificate").because(error))?;
        let mut digest = [0; 32];
        let both = [chain_text.as_bytes(), b"\0", key_text.as_bytes()].concat();
        digest.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, &both).as_ref());
        Ok(Self { key: Arc::new(certified), begins, expires, named, digest })
    }
}

fn stands_for(leaf: &CertificateDer<'_>, host: &str) -> bool {
    let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']'));
    match (ParsedCertificate::try_from(leaf), name) {
        (Ok(leaf), Ok(name)) => verify_server_name(&leaf, &name).is_ok(),
        _ => false,
    }
}

/// A relative path is looked for in `$CREDENTIALS_DIRECTORY` first.
fn credential(path: &Path) -> PathBuf {
    let inside = env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(path));
    inside.filter(|inside| inside.exists()).unwrap_or_else(|| path.to_owned())
}
