//! TLS to PostgreSQL: always with a certificate that is checked.

use std::{
    fmt, io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use ring::digest::{self, Algorithm};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring as provider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use x509_parser::{oid_registry as oid, prelude::FromDer as _};

use super::address::refuse;
use crate::service::{failure::Failure, files};

/// Largest file of authorities that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// How a connection is protected.
#[derive(Clone)]
pub(super) struct Tls(Option<Arc<ClientConfig>>);

/// A connection to one host.
pub(super) struct Connector {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

/// A protected stream.
pub(super) struct Stream<S>(client::TlsStream<S>);

/// Checks who signed a certificate, not for which name it is (`verify-ca`).
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

// === impl Tls ===

impl Tls {
    /// No TLS: a socket of this machine, or `sslmode=disable`.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// TLS by `sslmode`, which means what it means to libpq; modes that check nothing are refused.
    pub(super) fn verified(mode: Option<&str>, authorities: Option<&Path>) -> Result<Self, Failure> {
        let any_name = match (mode, authorities) {
            (None | Some("verify-full"), _) => false,
            (Some("verify-ca" | "require"), Some(_)) => true,
            (Some("verify-ca" | "require"), None) => {
                return Err(refuse("ca_file: this sslmode needs to know whose certificates to trust")
                    .remedy("Name the file, or use sslmode=verify-full."));
            }
            (Some(_), _) => {
                return Err(refuse("url: sslmode is one of disable, require, verify-ca and verify-full"));
            }
        };
        let roots = Arc::new(roots(authorities)?);
        let crypto = Arc::new(provider::default_provider());
        let failed = |error: &dyn fmt::Display| refuse(format!("ca_file: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let config = if any_name {
            let checked = WebPkiServerVerifier::builder_with_provider(roots, crypto).build();
            let checked = checked.map_err(|error| failed(&error))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(checked))).with_no_client_auth()
        } else {
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        Ok(Self(Some(Arc::new(config))))
    }
}

fn roots(authorities: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let pem = files::read_text(path, LIMIT)?;
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let sound = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
                sound.ok_or_else(|| refuse(format!("ca_file: {} holds no sound certificates", path.display())))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(refuse("ca_file: there are no authorities to trust"));
    }
    Ok(roots)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Connector;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connector, io::Error> {
        Ok(Connector { config: self.0.clone(), host: host.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        async move {
            let config = self.config.ok_or_else(|| io::Error::other("no TLS was asked for"))?;
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, stream).await.map(Stream)
        }
        .boxed()
    }
}

// === impl Stream ===

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    /// The server proves by its password exchange that it owns this certificate (RFC 5929, 4.1).
    fn channel_binding(&self) -> ChannelBinding {
        let certificate = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let digest = certificate.and_then(|certificate| {
            let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
            Some(digest::digest(binding_digest(&parsed.signature_algorithm.algorithm)?, certificate))
        });
        match digest {
            Some(digest) => ChannelBinding::tls_server_end_point(digest.as_ref().to_vec()),
            None => ChannelBinding::none(),
        }
    }
}

/// The digest of the signature's algorithm, SHA-256 for older ones; none where it is not known.
fn binding_digest(algorithm: &x509_parser::der_parser::Oid<'_>) -> Option<&'static Algorithm> {
    let is_one_of = |known: &[x509_parser::der_parser::Oid<'static>]| known.iter().any(|known| known == algorithm);
    if is_one_of(&[oid::OID_PKCS1_SHA256WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA256, oid::OID_PKCS1_SHA1WITHRSA]) {
        Some(&digest::SHA256)
    } else if is_one_of(&[oid::OID_PKCS1_SHA384WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA384]) {
        Some(&digest::SHA384)
    } else if is_one_of(&[oid::OID_PKCS1_SHA512WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA512]) {
        Some(&digest::SHA512)
    } else {
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

// === impl AnyName ===

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError as Wrong;
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, after the chain was found sound.
            Err(rustls::Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
