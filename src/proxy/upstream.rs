//! Connections to the homeservers: each worker has its own, kept alive between requests.

use std::{cell::RefCell, collections::VecDeque, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, timeout},
};

use super::{
    http1::buffer::Buffer,
    io::Socket,
    settings::{Limits, Upstream},
};

/// A connection to a homeserver.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) buffer: Buffer,
}

/// The idle connections to one homeserver, the latest used last.
pub(crate) struct Pool {
    place: Upstream,
    /// The place as an address, where no look-up is needed.
    address: Option<SocketAddr>,
    idle: RefCell<VecDeque<(Instant, Connection)>>,
    most: usize,
    longest: Duration,
    connect_time: Duration,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(place: &Upstream, limits: &Limits) -> Self {
        let address = match place {
            Upstream::Tcp(place) => place.ip().map(|ip| SocketAddr::new(ip, place.port)),
            Upstream::Unix(_) => None,
        };
        Self {
            place: place.clone(),
            address,
            idle: RefCell::default(),
            most: limits.idle_upstream_connections,
            longest: limits.idle_upstream_time.get(),
            connect_time: limits.connect_time.get(),
        }
    }

    /// An idle connection that still stands. `careful` asks the kernel too, for requests that cannot be repeated.
    pub(crate) fn take(&self, careful: bool) -> Option<Connection> {
        loop {
            let (since, connection) = self.idle.borrow_mut().pop_back()?;
            let quiet = connection.buffer.is_empty()
                && connection.socket.is_quiet()
                && (!careful || connection.socket.is_surely_quiet());
            if quiet && since.elapsed() < self.longest {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if self.most > 0 && connection.buffer.is_empty() {
            if idle.len() >= self.most {
                idle.pop_front();
            }
            idle.push_back((Instant::now(), connection));
        }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn tidy(&self) {
        self.idle
            .borrow_mut()
            .retain(|(since, connection)| since.elapsed() < self.longest && connection.socket.is_quiet());
    }

    /// A new connection.
    ///
    /// # Errors
    /// `TimedOut` when the homeserver did not answer in time; otherwise what the system says.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let socket = timeout(self.connect_time, self.open()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Connection { socket, buffer: Buffer::default() })
    }

    async fn open(&self) -> io::Result<Socket> {
        let socket = match (&self.place, self.address) {
            (Upstream::Unix(path), _) => return Ok(Socket::Unix(UnixStream::connect(path).await?)),
            (Upstream::Tcp(_), Some(address)) => TcpStream::connect(address).await?,
            (Upstream::Tcp(place), None) => TcpStream::connect((place.host.as_str(), place.port)).await?,
        };
        socket.set_nodelay(true)?;
        Ok(Socket::Tcp(socket))
    }
}
