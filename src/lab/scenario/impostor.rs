//! A listener that pretends to be a homeserver, with a certificate that should convince nobody.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{io::AsyncReadExt as _, net::TcpListener, net::TcpStream, sync::mpsc, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::tls;

/// Time in which a caller that is convinced would have sent its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// What a caller did when it was shown the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It went away; how it said so.
    Left(String),
    /// It sent a request: it was convinced.
    Asked,
}

/// A certificate authority that nobody trusts.
pub(super) struct RogueAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A running impostor; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Impostor {
    pub(super) address: SocketAddr,
    reactions: mpsc::Receiver<Reaction>,
    _task: JoinSet<()>,
}

// === impl RogueAuthority ===

impl RogueAuthority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, for those who would trust it.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate from it.
    pub(super) fn certify(&self, name: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(tls::showing(vec![leaf.der().clone()], key)?)
    }
}

/// A certificate and key from files.
pub(super) fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    Ok(tls::showing(chain, PrivateKeyDer::from_pem_file(key)?)?)
}

// === impl Impostor ===

impl Impostor {
    pub(super) async fn start(shown: Arc<ServerConfig>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, reactions) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, TlsAcceptor::from(shown), sender));
        Ok(Self { address, reactions, _task: task })
    }

    /// The reactions of all who have called, after waiting for a first one.
    pub(super) async fn reactions(&mut self) -> Vec<Reaction> {
        let first = timeout(REQUEST_TIME, self.reactions.recv()).await.ok().flatten();
        let mut all: Vec<Reaction> = first.into_iter().collect();
        while let Ok(next) = self.reactions.try_recv() {
            all.push(next);
        }
        all
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, reactions: mpsc::Sender<Reaction>) {
    let mut open = JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let (acceptor, reactions) = (acceptor.clone(), reactions.clone());
        open.spawn(async move {
            let reaction = watch(caller, acceptor).await;
            // Whoever asked may have heard enough.
            _ = reactions.send(reaction).await;
        });
    }
}

async fn watch(caller: TcpStream, acceptor: TlsAcceptor) -> Reaction {
    let mut buffer = [0; 64];
    let talk = async {
        let mut stream = acceptor.accept(caller).await?;
        stream.read(&mut buffer).await
    };
    match timeout(REQUEST_TIME, talk).await {
        Ok(Ok(0)) => Reaction::Left("closed the connection after the handshake".to_owned()),
        Ok(Ok(_)) => Reaction::Asked,
        // Synapse checks the name while the handshake goes on, and hangs up without an alert.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Reaction::Left("hung up in the middle of the handshake".to_owned())
        }
        Ok(Err(error)) => Reaction::Left(error.to_string()),
        Err(_) => Reaction::Left("said nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    async fn call(impostor: &Impostor, trusted: &str) -> std::io::Result<()> {
        let connector = tls::trusting(tls::roots(trusted).unwrap()).unwrap();
        let stream = TcpStream::connect(impostor.address).await?;
        let mut stream = connector.connect("rogue.invalid".try_into().unwrap(), stream).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        stream.flush().await
    }

    #[tokio::test]
    async fn only_who_trusts_the_rogue_authority_asks() {
        let (rogue, other) = (RogueAuthority::new().unwrap(), RogueAuthority::new().unwrap());
        let mut impostor = Impostor::start(rogue.certify("rogue.invalid").unwrap()).await.unwrap();
        call(&impostor, &other.pem()).await.unwrap_err();
        assert!(matches!(&impostor.reactions().await[..], [Reaction::Left(how)] if how.contains("alert")));
        call(&impostor, &rogue.pem()).await.unwrap();
        assert_eq!(impostor.reactions().await, [Reaction::Asked]);
    }
}
