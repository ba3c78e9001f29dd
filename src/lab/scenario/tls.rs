//! TLS as a client does it that trusts certain roots and nothing else.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{recorder::Trouble, target::ReachedServer};

/// Time for a connection and its handshake.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The roots in a PEM text.
pub(super) fn roots(pem: &str) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate?)?;
    }
    Ok(store)
}

/// A client that trusts these roots.
pub(super) fn trusting(roots: RootCertStore) -> Result<TlsConnector, Trouble> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A server that shows a certificate.
pub(super) fn showing(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Connects to a server of the network and shakes hands.
pub(super) async fn connect(server: &ReachedServer, with: &TlsConnector) -> Result<TlsStream<TcpStream>, Trouble> {
    let name = &server.public.name;
    let host = ServerName::try_from(server.host.clone()).map_err(|error| Trouble::from(error).at(name))?;
    let attempt = async {
        let stream = server.dial().await?;
        with.connect(host, stream).await
    };
    match tokio::time::timeout(HANDSHAKE_TIME, attempt).await {
        Ok(connected) => connected.map_err(|error| Trouble::from(error).at(name)),
        Err(_) => Err(Trouble::new("no TLS handshake within 10 s").at(name)),
    }
}
