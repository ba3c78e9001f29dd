//! The stranger's own way out: an HTTP CONNECT proxy (RFC 9110 section 9.3.6) that knows where the network's servers
//! and the impostors are.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Most bytes of a request's head.
const HEAD_LIMIT: u64 = 8 * 1024;
/// Time for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Where names lead; `host` stands for every port of it.
pub(super) type Places = BTreeMap<String, SocketAddr>;

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) port: u16,
    tunnels: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

// === impl Relay ===

impl Relay {
    pub(super) async fn start(places: Places) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, places, Arc::clone(&tunnels)));
        Ok(Self { port, tunnels, _task: task })
    }

    /// How many connections it has made so far.
    pub(super) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, places: Places, tunnels: Arc<AtomicUsize>) {
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let (places, tunnels) = (places.clone(), Arc::clone(&tunnels));
        open.spawn(async move {
            // Either side may go away at any time; the other then sees its end.
            _ = tunnel(client, &places, &tunnels).await;
        });
    }
}

async fn tunnel(client: TcpStream, places: &Places, tunnels: &AtomicUsize) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let host = match tokio::time::timeout(HEAD_TIME, head(&mut client)).await {
        Ok(host) => host?,
        Err(_) => return Ok(()),
    };
    let Some(place) = host.and_then(|host| places.get(&host)) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    };
    let mut server = TcpStream::connect(place).await?;
    tunnels.fetch_add(1, Ordering::Relaxed);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// The host of a CONNECT request; `None` for any other request.
async fn head(client: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    use tokio::io::AsyncReadExt as _;
    let mut head = String::new();
    let mut bounded = client.take(HEAD_LIMIT);
    while !head.ends_with("\r\n\r\n") {
        if bounded.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(target.and_then(|target| target.rsplit_once(':')).map(|(host, _)| host.to_owned()))
}
