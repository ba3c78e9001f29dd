//! Listening sockets: TCP on both address families, Unix sockets, and sockets that systemd hands over.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener},
    ops::Range,
    os::unix::net::UnixListener as StdUnixListener,
    path::PathBuf,
    str::FromStr,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::{
    failure::{Failure, Status},
    secrets::Secret,
};

/// Free ports are taken from below the range that Linux hands out for outgoing connections and to whoever asks for any
/// port (32768 and up), so that none is lost between finding it and listening on it.
pub const FREE_RANGE: Range<u16> = 20_000..32_000;

/// Connections that the kernel may hold ready before the program accepts them.
const BACKLOG: i32 = 1024;

/// Where to listen: `127.0.0.1:8008`, `[::]:8448` (both families), `unix:/run/x.sock`, or `systemd:NAME`
/// (a socket unit's `FileDescriptorName=`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// A TCP address. `[::]` takes IPv4 too.
    Tcp(SocketAddr),
    /// A Unix socket; a stale one at the path is replaced.
    Unix(PathBuf),
    /// A socket inherited from systemd by its name.
    Inherited(String),
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(StdTcpListener),
    /// Unix.
    Unix(StdUnixListener),
}

/// The sockets that this process inherited (sd_listen_fds(3)), to be taken by name.
pub struct Inherited {
    descriptors: listenfd::ListenFd,
    names: Vec<String>,
}

// === impl Inherited ===

impl Inherited {
    /// Takes over what systemd passed; empty where nothing was.
    pub fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self { descriptors: listenfd::ListenFd::from_env(), names: names.split(':').map(str::to_owned).collect() }
    }

    /// All sockets that were handed over under a name.
    fn by_name(&mut self, name: &str) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        for index in 0..self.descriptors.len() {
            if self.names.get(index).map(String::as_str) != Some(name) {
                continue;
            }
            if let Ok(Some(listener)) = self.descriptors.take_tcp_listener(index) {
                found.push(Listener::Tcp(listener));
            } else if let Some(listener) = self.descriptors.take_unix_listener(index)? {
                found.push(Listener::Unix(listener));
            }
        }
        Ok(found)
    }
}

/// Opens the sockets of an address: one, or as many as systemd handed over under the name. They do not block.
///
/// # Errors
/// A [`Failure`] that names the address and says what to do when it is in use or not permitted.
pub fn listen(address: &Address, inherited: &mut Inherited) -> Result<Vec<Listener>, Failure> {
    let mut open = || -> io::Result<Vec<Listener>> {
        let listeners = match address {
            Address::Tcp(address) => vec![Listener::Tcp(tcp(*address)?)],
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => vec![Listener::Unix(StdUnixListener::bind(path)?)],
                }
            }
            Address::Inherited(name) => inherited.by_name(name)?,
        };
        for listener in &listeners {
            match listener {
                Listener::Tcp(socket) => socket.set_nonblocking(true)?,
                Listener::Unix(socket) => socket.set_nonblocking(true)?,
            }
        }
        Ok(listeners)
    };
    match (open(), address) {
        (Ok(listeners), Address::Inherited(name)) if listeners.is_empty() => {
            Err(Failure::new(Status::Config, format!("systemd handed over no socket named {name:?}"))
                .remedy(format!("Write FileDescriptorName={name} into the socket unit.")))
        }
        (Ok(listeners), _) => Ok(listeners),
        (Err(error), _) => Err(cannot_listen(address, error)),
    }
}

fn tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        // `[::]` means both families; any other IPv6 address is just itself.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A port of the loopback addresses that is free now, for a program that must be told where to listen. A process is given
/// none twice, and begins at a random one, so that processes that ask at the same time are given different ones.
///
/// # Errors
/// When none of [`FREE_RANGE`] is free, or the system has no random numbers.
pub fn free_port() -> Result<u16, Failure> {
    static TURN: LazyLock<Result<AtomicU16, String>> = LazyLock::new(|| {
        let random = Secret::random(2).map_err(|failure| failure.to_string())?;
        Ok(AtomicU16::new(u16::from_str_radix(random.expose(), 16).unwrap_or_default()))
    });
    let turn = TURN.as_ref().map_err(|text| Failure::new(Status::Unavailable, text.clone()))?;
    let length = FREE_RANGE.end - FREE_RANGE.start;
    (0..length)
        .map(|_| FREE_RANGE.start + turn.fetch_add(1, Ordering::Relaxed) % length)
        .find(|port| !is_taken(*port))
        .ok_or_else(|| Failure::new(Status::Unavailable, "this machine has no free ports left"))
}

/// Whether somebody listens on the port on a loopback address. A port that is only closing does not count.
pub fn is_taken(port: u16) -> bool {
    let bind = |address: SocketAddr| -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    let used = |result: io::Result<()>| matches!(result, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
    used(bind((Ipv4Addr::LOCALHOST, port).into())) || used(bind((Ipv6Addr::LOCALHOST, port).into()))
}

fn cannot_listen(address: &Address, error: io::Error) -> Failure {
    let (status, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => {
            (Status::Unavailable, "Another program listens there: stop it, or choose another address.")
        }
        io::ErrorKind::PermissionDenied => (
            Status::NoPermission,
            "Ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd; choose a higher port otherwise.",
        ),
        io::ErrorKind::AddrNotAvailable => (Status::Config, "This machine does not have that address."),
        _ => (Status::Unavailable, "Choose another address."),
    };
    Failure::new(status, format!("cannot listen on {address}")).because(error).remedy(remedy)
}

// === impl Address ===

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return Ok(Self::Inherited(name.to_owned()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("{text:?} is not an address such as 127.0.0.1:8008, [::]:8448, unix:/run/x.sock or systemd:NAME")
        })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_writing_and_reading() {
        for text in ["127.0.0.1:8008", "[::]:8448", "unix:/run/x.sock", "systemd:tls"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("localhost".parse::<Address>().unwrap_err().contains("is not an address"));
    }

    #[test]
    fn a_taken_address_is_named() {
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = Address::Tcp(first.local_addr().unwrap());
        let failure = listen(&address, &mut Inherited::take()).unwrap_err();
        assert_eq!(failure.to_string(), format!("cannot listen on {address}"));
        assert!(failure.remedy_text().unwrap().contains("Another program"));
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let listener = tcp("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
