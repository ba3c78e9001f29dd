//! Connections: accepted, taken through the TLS handshake, served, and ended in time.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    pki::Certificate,
    service::{
        failure::{Failure, Status},
        listeners::Listener,
    },
};

use super::{
    crowd::Crowd,
    routes::{self, Peer},
};

/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a connection may last: an enrolment is one request.
const CONNECTION_TIME: Duration = Duration::from_secs(120);
/// Largest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// One listening socket and what it needs to serve.
pub(super) struct Door {
    pub(super) socket: Socket,
    pub(super) tls: Arc<ArcSwap<ServerConfig>>,
    pub(super) app: Router,
    pub(super) slots: Arc<Semaphore>,
    pub(super) crowd: Crowd,
}

/// A listening socket that the runtime watches.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(listener: &Listener) -> Result<Self, Failure> {
        let socket = match listener {
            Listener::Tcp(socket) => socket.try_clone().and_then(TcpListener::from_std).map(Self::Tcp),
            Listener::Unix(socket) => socket.try_clone().and_then(UnixListener::from_std).map(Self::Unix),
        };
        socket.map_err(|error| Failure::new(Status::Unavailable, "cannot use a listening socket").because(error))
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, IpAddr)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Box::new(stream), address.ip()))
            }
            Self::Unix(socket) => Ok((Box::new(socket.accept().await?.0), routes::THIS_MACHINE)),
        }
    }
}

/// Any connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

// === impl Door ===

impl Door {
    /// Takes connections until `stop`, then waits for those that are open to end.
    pub(super) async fn accept(self, stop: CancellationToken, tasks: TaskTracker) {
        let graceful = GracefulShutdown::new();
        loop {
            let slot = tokio::select! {
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
                () = stop.cancelled() => break,
            };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: connections that end give some back.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = self.crowd.enter(address) else {
                debug!(%address, "closed a connection: this address has too many");
                continue;
            };
            let acceptor = TlsAcceptor::from(self.tls.load_full());
            let connection = serve(stream, address, acceptor, self.app.clone(), graceful.watcher());
            tasks.spawn(async move {
                let _places = (slot, place);
                if timeout(CONNECTION_TIME, connection).await.is_err() {
                    debug!(%address, "a connection lasted too long and was cut");
                }
            });
        }
        // Nobody new gets in while the others leave.
        drop(self.socket);
        graceful.shutdown().await;
    }
}

async fn serve(stream: Box<dyn Stream>, address: IpAddr, acceptor: TlsAcceptor, app: Router, watcher: Watcher) {
    let stream = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => return debug!(%address, "a TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.and_then(|first| Certificate::from_der(first.clone().into_owned()).ok());
    let peer = Peer { address, certificate: certificate.map(Arc::new) };
    let service = TowerToHyperService::new(app.layer(Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%address, %error, "a connection ended with an error");
    }
}
