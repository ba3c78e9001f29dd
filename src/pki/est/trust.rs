//! Which server an EST client believes: one whose chain ends in the root that is known, or in one with the fingerprint.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    pki::{Certificate, Pair},
    service::failure::{Failure, Status},
};

/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a whole exchange may take.
const EXCHANGE_TIME: Duration = Duration::from_secs(60);
/// How the server's CA is known before the first contact.
#[derive(Clone, Debug)]
pub enum Trust {
    /// A file with its certificate (PEM).
    File(PathBuf),
    /// The SHA-256 fingerprint of its certificate.
    Fingerprint([u8; 32]),
}

/// What a server's chain is checked against.
pub(super) enum Anchor {
    Root(Box<Certificate>),
    Fingerprint([u8; 32]),
}

// === impl Anchor ===

impl Anchor {
    /// Whether a certificate may be of this authority; a fingerprint alone does not tell.
    pub(super) fn may_have_signed(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Root(root) => certificate.is_signed_by(root),
            Self::Fingerprint(_) => true,
        }
    }

    /// An HTTP client that accepts this authority's server, and shows a certificate where one is given.
    pub(super) fn client(&self, present: Option<&Pair>) -> Result<reqwest::Client, Failure> {
        let build = || -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder =
                ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
            let builder = match self {
                Self::Root(root) => builder.with_root_certificates(roots(root.der())?),
                Self::Fingerprint(fingerprint) => builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(PinnedRoot { fingerprint: *fingerprint, provider })),
            };
            let config = match present {
                Some(pair) => builder.with_client_auth_cert(
                    vec![pair.certificate.der().clone()],
                    pair.key.serialize_der().try_into()?,
                )?,
                None => builder.with_no_client_auth(),
            };
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(config)
                .https_only(true)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIME)
                .timeout(EXCHANGE_TIME);
            Ok(client.build()?)
        };
        build().map_err(|error| Failure::new(Status::Config, "cannot make a TLS client").because(error))
    }
}

fn roots(root: &CertificateDer<'static>) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    store.add(root.clone())?;
    Ok(store)
}

/// Accepts a chain that ends in the root with this fingerprint, which the server sends along.
#[derive(Debug)]
struct PinnedRoot {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

// === impl PinnedRoot ===

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates
            .iter()
            .find(|certificate| digest(certificate) == self.fingerprint)
            .ok_or_else(|| rustls::Error::General("the server's CA does not have the fingerprint given".to_owned()))?;
        let store = Arc::new(roots(&root.clone().into_owned())?);
        WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The SHA-256 digest of a certificate.
pub(super) fn digest(certificate: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().unwrap_or([0; 32])
}

/// Reads a SHA-256 fingerprint: 64 hexadecimal digits, also with colons.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let wrong = || "a SHA-256 fingerprint has 64 hexadecimal digits".to_owned();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}
