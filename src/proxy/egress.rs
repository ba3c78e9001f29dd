//! The network's way out: HTTP CONNECT to the members' federation endpoints and to nothing else.
//!
//! A homeserver fetches from addresses that other servers give it. Behind this egress it reaches none but the
//! network's, whatever it is told (server-side request forgery), and it needs neither DNS nor a hosts file.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    answer::Answer,
    forward::too_many,
    gate,
    http1::buffer::Buffer,
    io::{Socket, Stream, Timer},
    policy::Policy,
    settings::{self, HostPort},
    tunnel,
    worker::{Presence, Worker},
};

/// Bytes of the head of a CONNECT request.
const HEAD: usize = 8 * 1024;

/// Header fields of a CONNECT request.
const FIELDS: usize = 64;

/// Where the members are.
pub struct Targets {
    settings: settings::Egress,
    policy: Arc<Policy>,
}

// === impl Targets ===

impl Targets {
    /// The targets of these settings, for the members of this policy.
    pub fn new(settings: &settings::Egress, policy: Arc<Policy>) -> Self {
        Self { settings: settings.clone(), policy }
    }

    /// Where an endpoint is that a homeserver asks for.
    ///
    /// # Errors
    /// The answer, when it is not that of a member.
    pub fn find(&self, asked: &str) -> Result<&HostPort, Answer> {
        let refused = |reason: &str| Answer::forbidden(&format!("{asked}: {reason}"));
        let asked: HostPort =
            asked.parse().map_err(|reason: String| Answer::error(StatusCode::BAD_REQUEST, &reason))?;
        let place = self.settings.targets.get(&asked).ok_or_else(|| refused("this is no endpoint of the network"))?;
        let admitted = match self.settings.delegates.get(&asked.host) {
            Some(member) => self.policy.admits(member),
            None => self.policy.admits_host(&asked.host),
        };
        if admitted { Ok(place) } else { Err(refused("this is no member of the network")) }
    }

    /// Returns when an endpoint that was found is none of a member any more. `changes` are those since before it was
    /// found.
    async fn lost(&self, asked: &str, mut changes: watch::Receiver<()>) {
        while self.find(asked).is_ok() {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Serves one client of the egress.
pub(crate) async fn serve(worker: Rc<Worker>, mut socket: Socket, connection: gate::Connection, presence: Presence) {
    let limits = &worker.shared.settings.limits;
    let tunnels = &worker.shared.metrics.tunnels;
    let opened = match timeout(limits.header_time.get(), read_target(&mut socket)).await {
        Ok(Ok(Some(asked))) => {
            let changes = worker.shared.policy.changes();
            open(&worker, &asked).await.map(|(upstream, permit)| (asked, changes, upstream, permit))
        }
        Ok(Ok(None)) => return,
        Ok(Err(answer)) => Err(answer),
        Err(_) => Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    };
    match opened {
        Ok((asked, changes, upstream, permit)) => {
            tunnels.opened.inc();
            if socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
                return;
            }
            let sides = ((Stream::Plain(socket), Buffer::default()), (Stream::Plain(upstream), Buffer::default()));
            let mut timer = Timer::new(Instant::now() + limits.idle_time.get());
            // Homeservers keep their connections for the next request: one outlasts a membership unless it is cut.
            tokio::select! {
                () = tunnel::copy(sides.0, sides.1, limits.idle_time.get(), &mut timer, &presence) => {}
                () = worker.shared.targets.lost(&asked, changes) => {
                    tracing::info!(asked, "cut a way out of the network: this is no member any more");
                }
            }
            drop(permit);
        }
        Err(answer) => {
            if answer.status == StatusCode::FORBIDDEN {
                tunnels.refused.inc();
            } else {
                tunnels.failed.inc();
            }
            let told = async {
                socket.write_all(&answer.to_message()).await?;
                socket.shutdown().await?;
                tokio::io::copy(&mut socket.take(HEAD as u64), &mut tokio::io::sink()).await
            };
            let _ = timeout(limits.header_time.get(), told).await;
        }
    }
    drop((connection, presence));
}

/// Connects to what was asked for, if it may be.
async fn open(worker: &Worker, asked: &str) -> Result<(Socket, gate::Permit), Answer> {
    let place = worker.shared.targets.find(asked).inspect_err(|answer| {
        if answer.status == StatusCode::FORBIDDEN {
            tracing::warn!(asked, "refused a way out of the network");
        }
    })?;
    let permit = worker.shared.gate.tunnel().map_err(|full| too_many(full, "tunnels"))?;
    let connecting = async {
        match place.ip() {
            Some(ip) => TcpStream::connect(SocketAddr::new(ip, place.port)).await,
            None => TcpStream::connect((place.host.as_str(), place.port)).await,
        }
    };
    let status = match timeout(worker.shared.settings.limits.connect_time.get(), connecting).await {
        Ok(Ok(socket)) => {
            let _ = socket.set_nodelay(true);
            return Ok((Socket::Tcp(socket), permit));
        }
        Ok(Err(_)) => StatusCode::BAD_GATEWAY,
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    Err(Answer::error(status, &format!("{asked} cannot be reached")))
}

/// Reads a CONNECT request; gives the target, or `None` when the client closed.
///
/// No byte after the head is read: what follows is the tunnel's. A client sends nothing before it has the answer
/// (RFC 9110 section 9.3.6), so that reading to the empty line takes no more.
async fn read_target(socket: &mut Socket) -> Result<Option<String>, Answer> {
    let bad = |reason: &str| Answer::error(StatusCode::BAD_REQUEST, reason);
    let (mut head, mut filled) = (vec![0; HEAD], 0);
    loop {
        let Some(room) = head.get_mut(filled..).filter(|room| !room.is_empty()) else {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Answer::error(status, "the head of the request is too large"));
        };
        match socket.read(room).await {
            Ok(count) if count > 0 => filled += count,
            _ => return Ok(None),
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head.get(..filled).unwrap_or_default()) {
            Ok(httparse::Status::Complete(size)) if size == filled => {
                if request.method != Some("CONNECT") {
                    let refused = Answer::error(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT is known here");
                    return Err(refused.with("allow", "CONNECT"));
                }
                return request.path.map(|path| Some(path.to_owned())).ok_or_else(|| bad("there is no target"));
            }
            Ok(httparse::Status::Complete(_)) => return Err(bad("nothing may follow the request before its answer")),
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Err(bad("this is not a well-formed HTTP request")),
        }
    }
}
