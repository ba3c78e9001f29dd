//! A thread that carries traffic: it accepts connections, and what it accepts stays with it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, TcpStream as StdTcpStream},
    os::unix::net::UnixStream as StdUnixStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use http::StatusCode;
use rustls::ServerConfig;
use tokio::{
    net::{TcpStream, UnixStream},
    runtime::{Builder, LocalOptions},
    sync::{Notify, mpsc},
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;

use super::{
    certificates::Certificates,
    egress::{self, Targets},
    forward::{Caller, Record, too_many},
    gate::{self, Gate},
    h1, h2,
    io::{Socket, Stream, Watched},
    metrics::Metrics,
    policy::Policy,
    repeated::Repeated,
    route::{Named, Router},
    settings::Settings,
    tls,
    upstream::Pool,
};
use crate::service::{
    failure::{Failure, Status},
    listeners::Listener,
};

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) router: Router,
    pub(crate) policy: Arc<Policy>,
    pub(crate) targets: Targets,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Metrics,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// The start of all request ids of this process.
    pub(crate) id_prefix: String,
    pub(crate) stop: CancellationToken,
    /// How many connections each worker has.
    pub(crate) loads: Vec<AtomicUsize>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Tls,
    Plain,
    Egress,
}

/// A listener of this worker; its socket is that of all workers.
pub(crate) struct Door {
    pub(crate) role: Role,
    pub(crate) listener: Listener,
}

/// An accepted connection on its way to the worker that has the least to do.
pub(crate) struct Arrival {
    role: Role,
    socket: Accepted,
    address: Option<IpAddr>,
    connection: gate::Connection,
}

/// A socket that is in no event queue.
enum Accepted {
    Tcp(StdTcpStream),
    Unix(StdUnixStream),
}

// === impl Shared ===

impl Shared {
    /// Counts a connection as a worker's.
    fn enter(&self, worker: usize) {
        if let Some(load) = self.loads.get(worker) {
            load.fetch_add(1, Relaxed);
        }
    }

    /// A connection that was counted as a worker's has ended.
    fn leave(&self, worker: usize) {
        if let Some(load) = self.loads.get(worker) {
            load.fetch_sub(1, Relaxed);
        }
    }
}

// === impl Arrival ===

impl Arrival {
    /// Makes it a connection of this worker, as which it was counted.
    fn settle(self, worker: &Rc<Worker>) {
        match self.socket.watch() {
            Ok(socket) => worker.take(self.role, socket, self.address, self.connection),
            Err(_) => worker.shared.leave(worker.index),
        }
    }
}

// === impl Accepted ===

impl Accepted {
    fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(socket) => socket.into_std().map(Self::Tcp),
            Socket::Unix(socket) => socket.into_std().map(Self::Unix),
        }
    }

    fn watch(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => TcpStream::from_std(socket).map(Socket::Tcp),
            Self::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        }
    }
}

/// One worker's own.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    index: usize,
    pools: Vec<Pool>,
    ids: Cell<u64>,
    pub(crate) repeated: RefCell<Repeated>,
    /// The tasks of the open connections, to be woken when the proxy stops.
    present: RefCell<HashMap<u64, Option<Waker>>>,
    left: Notify,
}

/// That a connection is open.
pub(crate) struct Presence {
    worker: Rc<Worker>,
    id: u64,
}

/// How many more connections than another a worker has before it passes new ones on.
const IMBALANCE: usize = 2;

/// How long accepting pauses when the system has no descriptors or memory left.
pub(crate) const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often idle connections to homeservers are looked through.
const TIDY: Duration = Duration::from_secs(5);

/// Runs a worker until the proxy stops and its connections have ended or were cut.
///
/// # Errors
/// When the system gives no event queue.
pub(crate) fn run(
    shared: Arc<Shared>,
    index: usize,
    doors: Vec<Door>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    others: Vec<mpsc::UnboundedSender<Arrival>>,
) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| Failure::new(Status::Unavailable, "cannot start a worker").because(error))?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker::new(shared, index));
        for door in doors {
            spawn_local(accept(Rc::clone(&worker), door, others.clone()));
        }
        let received = spawn_local(receive(Rc::clone(&worker), arrivals));
        spawn_local(tidy(Rc::clone(&worker)));
        worker.shared.stop.cancelled().await;
        // What other workers passed on before they knew of the stop is served too.
        let _ = received.await;
        worker.drain().await;
    });
    Ok(())
}

// === impl Worker ===

impl Worker {
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        let pools = shared.router.servers().iter();
        let pools = pools.map(|server| Pool::new(&server.upstream, &shared.settings.limits)).collect();
        Self {
            index,
            pools,
            ids: Cell::new(index as u64),
            repeated: RefCell::default(),
            present: RefCell::default(),
            left: Notify::new(),
            shared,
        }
    }

    /// The connections to a server, by its number.
    pub(crate) fn pool(&self, server: usize) -> &Pool {
        // The router gives no other numbers than those that the pools were made from.
        &self.pools[server]
    }

    /// A number that no other request of this process has.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + self.shared.loads.len() as u64);
        id
    }

    /// A request's id as logs and headers have it.
    pub(crate) fn request_id(&self, id: u64) -> String {
        format!("{}{id:x}", self.shared.id_prefix)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Counts and logs a request that ended; without a status when the client went away before one.
    pub(crate) fn finish(&self, record: &Record, status: Option<StatusCode>) {
        let status = status.map_or(0, |status| status.as_u16());
        let time = record.start.elapsed();
        self.shared.metrics.request(record.server, status, time);
        if let Some(line) = &record.line {
            let server = record.server.and_then(|server| self.shared.router.servers().get(server));
            tracing::info!(
                target: "federation_proxy::access",
                id = self.request_id(record.id),
                server = server.map(|server| server.name.as_str()),
                host = line.host,
                method = line.method,
                path = line.path,
                protocol = line.protocol,
                status,
                milliseconds = time.as_secs_f64() * 1000.0,
                "request"
            );
        }
    }

    /// Lets the open connections finish, and returns when they have, or when the time for it is over.
    async fn drain(&self) {
        for waker in self.present.borrow().values().flatten() {
            waker.wake_by_ref();
        }
        let empty = async {
            while !self.present.borrow().is_empty() {
                self.left.notified().await;
            }
        };
        let time = self.shared.settings.limits.drain_time.get();
        if tokio::time::timeout(time, empty).await.is_err() {
            let cut = self.present.borrow().len();
            tracing::warn!(connections = cut, "cut connections that had not finished in time");
        }
    }

    /// Takes a connection. It counts as open from here on, before its task has had its first turn: a worker that stops
    /// must not end in between.
    fn take(self: &Rc<Self>, role: Role, socket: Socket, address: Option<IpAddr>, connection: gate::Connection) {
        let id = self.next_id();
        self.present.borrow_mut().insert(id, None);
        let presence = Presence { worker: Rc::clone(self), id };
        drop(spawn_local(Rc::clone(self).serve(role, socket, address, connection, presence)));
    }

    /// Serves a connection that this worker has taken.
    async fn serve(
        self: Rc<Self>,
        role: Role,
        socket: Socket,
        address: Option<IpAddr>,
        connection: gate::Connection,
        presence: Presence,
    ) {
        presence.settle().await;
        match role {
            Role::Egress => Box::pin(egress::serve(self, socket, connection, presence)).await,
            Role::Plain => {
                let caller = Caller::new(address, Named::default(), false, connection);
                h1::serve(self, Stream::Plain(socket), caller, presence).await;
            }
            Role::Tls => {
                // In a box, so that an open connection does not keep the room that its handshake took.
                let Some(accepted) = Box::pin(tls::accept(&self, socket)).await else { return };
                let caller = Caller::new(address, accepted.named, true, connection);
                let stream = Stream::Tls(accepted.stream);
                if accepted.http2 {
                    Box::pin(h2::serve(self, stream, caller, presence)).await;
                } else {
                    h1::serve(self, stream, caller, presence).await;
                }
            }
        }
    }
}

// === impl Presence ===

impl Presence {
    pub(crate) fn is_stopping(&self) -> bool {
        self.worker.is_stopping()
    }

    /// Notes the task, so that it is woken when the proxy stops.
    async fn settle(&self) {
        poll_fn(|cx| {
            self.worker.present.borrow_mut().insert(self.id, Some(cx.waker().clone()));
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.present.borrow_mut().remove(&self.id);
        self.worker.shared.leave(self.worker.index);
        self.worker.left.notify_one();
    }
}

/// Accepts connections until the proxy stops.
async fn accept(worker: Rc<Worker>, door: Door, others: Vec<mpsc::UnboundedSender<Arrival>>) {
    let role = door.role;
    let listener = match Watched::new(door.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be watched");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = worker.shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => place(&worker, &others, role, socket, address),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections at the moment");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Whether an error of accept(2) is only of the connection that it would have given.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Lets a connection in and gives it to the worker that has the fewest.
fn place(
    worker: &Rc<Worker>,
    others: &[mpsc::UnboundedSender<Arrival>],
    role: Role,
    socket: Socket,
    address: Option<IpAddr>,
) {
    let shared = &worker.shared;
    let connection = match shared.gate.connection(address) {
        Ok(connection) => connection,
        Err(full) => {
            shared.metrics.connections_refused.inc();
            if role != Role::Tls {
                refuse(&socket, &too_many(full, "connections").to_message());
            }
            return;
        }
    };
    if role == Role::Tls && !shared.gate.handshake() {
        shared.metrics.handshakes.refused.inc();
        return;
    }
    let loads = || shared.loads.iter().map(|load| load.load(Relaxed));
    let own = loads().nth(worker.index).unwrap_or_default();
    let (least, load) = loads().enumerate().min_by_key(|(_, load)| *load).unwrap_or((worker.index, own));
    let target = if load + IMBALANCE < own { least } else { worker.index };
    shared.enter(target);
    let Some(other) = others.get(target).filter(|_| target != worker.index) else {
        return worker.take(role, socket, address, connection);
    };
    // The socket leaves this worker's event queue. Should that fail, the connection is closed.
    let refused = match Accepted::new(socket) {
        Ok(socket) => other.send(Arrival { role, socket, address, connection }).err(),
        Err(_) => return shared.leave(target),
    };
    if let Some(mpsc::error::SendError(arrival)) = refused {
        // The other one stops and takes nothing more: it is this worker's after all.
        shared.leave(target);
        shared.enter(worker.index);
        arrival.settle(worker);
    }
}

/// Tells a client that there is no place for it, as far as it can be told without waiting.
pub(crate) fn refuse(socket: &Socket, message: &[u8]) {
    let _ = match socket {
        Socket::Tcp(socket) => socket.try_write(message),
        Socket::Unix(socket) => socket.try_write(message),
    };
}

/// Takes the connections that other workers pass on. When the proxy stops it takes what is under way, and ends.
async fn receive(worker: Rc<Worker>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
    loop {
        let arrival = tokio::select! {
            biased;
            () = worker.shared.stop.cancelled(), if !arrivals.is_closed() => {
                arrivals.close();
                continue;
            }
            arrival = arrivals.recv() => arrival,
        };
        match arrival {
            Some(arrival) => arrival.settle(&worker),
            None => return,
        }
    }
}

async fn tidy(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(TIDY).await;
        worker.pools.iter().for_each(Pool::tidy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, E, F, G>(_: fn(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }

    #[test]
    fn an_open_connection_is_small() {
        let bytes = size(Worker::serve);
        assert!(bytes <= 4 * 1024, "{bytes} bytes");
    }
}
