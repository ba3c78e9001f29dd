//! TLS of the load generator: version 1.3, one cipher suite and one group, never a resumption, so that every
//! handshake costs every peer the same work.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Client configurations for both protocols, with and without verification.
#[derive(Clone)]
pub struct Tls {
    fast: [TlsConnector; 2],
    strict: [TlsConnector; 2],
}

// === impl Protocol ===

impl Protocol {
    const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

// === impl Tls ===

impl Tls {
    /// Clients that trust one CA.
    pub fn new(authority: CertificateDer<'static>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let provider = Arc::new(CryptoProvider {
            // What Synapse's OpenSSL prefers, so what federation really uses.
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        });
        let build = |protocol: Protocol, verify: bool| {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])?;
            let mut config = if verify {
                builder.with_root_certificates(roots.clone()).with_no_client_auth()
            } else {
                let verifier = Arc::new(Trusting(Arc::clone(&provider)));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            };
            config.alpn_protocols = vec![protocol.alpn().to_vec()];
            config.resumption = Resumption::disabled();
            anyhow::Ok(TlsConnector::from(Arc::new(config)))
        };
        let [first, second] = Protocol::ALL;
        Ok(Self {
            fast: [build(first, false)?, build(second, false)?],
            strict: [build(first, true)?, build(second, true)?],
        })
    }

    /// The same, with the peer's certificate verified.
    pub fn verifying(&self) -> Self {
        Self { fast: self.strict.clone(), strict: self.strict.clone() }
    }

    /// Connects and shakes hands. The source address goes with the number: one address has too few ports, and real
    /// callers come from many.
    pub async fn connect(
        &self,
        address: SocketAddr,
        number: usize,
        name: &'static str,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        let host = u8::try_from(number % 200).unwrap_or_default();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + host)), 0)).context("cannot bind")?;
        let stream = socket.connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let [first, second] = &self.fast;
        let connector = match protocol {
            Protocol::Http1 => first,
            Protocol::Http2 => second,
        };
        let stream = connector.connect(ServerName::try_from(name)?, stream).await.context("the handshake failed")?;
        let alpn = stream.get_ref().1.alpn_protocol();
        ensure!(alpn.is_none_or(|alpn| alpn == protocol.alpn()), "the peer chose another protocol");
        ensure!(protocol == Protocol::Http1 || alpn.is_some(), "the peer does not speak HTTP/2");
        Ok(stream)
    }
}

/// Trusts every certificate. Verifying is the client's work, no peer's, and would make the generator the slowest part;
/// each peer's certificate is verified once before it is measured.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

// === impl Trusting ===

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
