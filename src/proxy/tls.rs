//! The TLS handshake: who is asked for, and what is said to those who ask for nobody here, or do not speak TLS.

use std::sync::Arc;

use http::StatusCode;
use rustls::{HandshakeKind, server::Acceptor};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{answer::Answer, io::Socket, route::Named, worker::Worker};

/// A connection after its handshake.
pub(crate) struct Accepted {
    pub(crate) stream: Box<TlsStream<Socket>>,
    pub(crate) named: Named,
    /// Whether HTTP/2 was agreed on.
    pub(crate) http2: bool,
}

/// What came of the first bytes.
enum Refused {
    /// The handshake failed or broke off.
    Failed,
    /// The client does not speak TLS.
    Plain(Socket),
    /// There is no such server here.
    Unknown(Socket),
}

/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The fatal alert `unrecognized_name` (RFC 6066 section 3) as a record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Shakes hands within the time for it. `None` when that failed; the client was told as far as it can be.
pub(crate) async fn accept(worker: &Worker, socket: Socket) -> Option<Accepted> {
    let handshakes = &worker.shared.metrics.handshakes;
    let time = worker.shared.settings.limits.handshake_time.get();
    let refused = match timeout(time, shake(worker, socket)).await {
        Ok(Ok(accepted)) => {
            match accepted.stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => handshakes.resumed.inc(),
                _ => handshakes.full.inc(),
            };
            return Some(accepted);
        }
        Ok(Err(refused)) => refused,
        Err(_) => Refused::Failed,
    };
    handshakes.failed.inc();
    let _ = timeout(time, refused.tell()).await;
    None
}

async fn shake(worker: &Worker, socket: Socket) -> Result<Accepted, Refused> {
    let config = worker.shared.tls.as_ref().ok_or(Refused::Failed)?;
    match socket.first_byte().await {
        Ok(None | Some(HANDSHAKE_RECORD)) => {}
        Ok(Some(_)) => return Err(Refused::Plain(socket)),
        Err(_) => return Err(Refused::Failed),
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(|_| Refused::Failed)?;
    let Some(named) = worker.shared.router.named(start.client_hello().server_name()) else {
        return Err(Refused::Unknown(start.io));
    };
    let stream = start.into_stream(Arc::clone(config)).await.map_err(|_| Refused::Failed)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream: Box::new(stream), named, http2 })
}

// === impl Refused ===

impl Refused {
    /// Says why, in the language that the client spoke.
    async fn tell(self) {
        let (mut socket, message) = match self {
            Self::Failed => return,
            Self::Unknown(socket) => (socket, UNRECOGNIZED_NAME.to_vec()),
            Self::Plain(socket) => {
                let reason = "this port speaks TLS: use https";
                (socket, Answer::error(StatusCode::BAD_REQUEST, reason).to_message())
            }
        };
        if socket.write_all(&message).await.is_ok() && socket.shutdown().await.is_ok() {
            // What the client still sends is read, so that the system does not reset the connection before the client
            // has read the answer.
            let mut rest = tokio::io::AsyncReadExt::take(socket, 64 * 1024);
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }
    }
}
