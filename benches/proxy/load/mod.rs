//! The load generator: one thread, the same for every peer.
//!
//! It speaks HTTP itself, with no more than a measurement needs, so that it is not slower than what it measures.
//! While a measurement runs it never sleeps: waking an idle core costs, and would be charged to the peer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{sync::mpsc, task::JoinSet};

mod http1;
mod http2;
mod tls;

pub use tls::{Protocol, Tls};

use crate::upstream;

/// How many requests are under way at once, however many connections there are.
pub const IN_FLIGHT: usize = 64;

/// Whom the load is for.
#[derive(Clone)]
pub struct Target {
    /// Where the peer listens.
    pub address: SocketAddr,
    /// The names it serves; connections take turns.
    pub names: &'static [&'static str],
    /// Client-side TLS.
    pub tls: Tls,
}

/// An open connection to a peer.
pub enum Connection {
    /// HTTP/1.1, one request at a time.
    Http1(Box<http1::Connection>),
    /// HTTP/2.
    Http2(Box<http2::Connection>),
}

/// What a group of tasks has done, seen while they run.
#[derive(Default)]
pub struct Progress {
    answered: AtomicU64,
    over: AtomicBool,
}

/// Connections under load; dropped, it ends.
pub struct Load {
    /// What has been done so far.
    pub progress: Arc<Progress>,
    tasks: JoinSet<Result<Vec<Connection>>>,
    spinner: JoinSet<()>,
}

/// Latencies of an open-loop run, in nanoseconds, and how many requests were due.
pub struct Latencies {
    /// One a request, from the moment it was due to its complete answer.
    pub nanoseconds: Vec<u64>,
    /// Requests that were due.
    pub due: usize,
}

// === impl Progress ===

impl Progress {
    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn count(&self, answers: u64) {
        self.answered.fetch_add(answers, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

// === impl Connection ===

impl Connection {
    /// Opens connection number `number` with a full handshake.
    async fn open(target: &Target, number: usize, protocol: Protocol) -> Result<Self> {
        let name = target.names.get(number % target.names.len()).context("a target has names")?;
        let stream = target.tls.connect(target.address, number, name, protocol).await?;
        Ok(match protocol {
            Protocol::Http1 => Self::Http1(Box::new(http1::Connection::new(stream, name, target.address))),
            Protocol::Http2 => Self::Http2(Box::new(http2::Connection::start(stream, name, target.address).await?)),
        })
    }

    /// One request and its complete answer.
    async fn exchange(&mut self) -> Result<()> {
        match self {
            Self::Http1(connection) => connection.exchange().await,
            Self::Http2(connection) => connection.exchange().await,
        }
    }

    async fn close(self) {
        // The peer may have closed first.
        let _ = match self {
            Self::Http1(connection) => connection.close().await,
            Self::Http2(connection) => connection.close().await,
        };
    }
}

// === impl Load ===

impl Load {
    fn new() -> Self {
        let mut spinner = JoinSet::new();
        spinner.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        Self { progress: Arc::default(), tasks: JoinSet::new(), spinner }
    }

    /// Full handshakes, one request each, `at_once` side by side, until stopped.
    pub fn handshakes(target: &Target, at_once: usize) -> Self {
        let mut load = Self::new();
        for task in 0..at_once {
            let (target, progress) = (target.clone(), Arc::clone(&load.progress));
            load.tasks.spawn(async move {
                let mut number = task;
                while !progress.is_over() {
                    let mut connection = Connection::open(&target, number, Protocol::Http1).await?;
                    connection.exchange().await?;
                    connection.close().await;
                    progress.count(1);
                    number += at_once;
                }
                Ok(Vec::new())
            });
        }
        load
    }

    /// Opens connections with a full handshake and one request each, [`IN_FLIGHT`] side by side.
    pub fn open(target: &Target, connections: usize, protocol: Protocol) -> Self {
        let mut load = Self::new();
        for task in 0..connections.min(IN_FLIGHT) {
            let (target, progress) = (target.clone(), Arc::clone(&load.progress));
            load.tasks.spawn(async move {
                let mut opened = Vec::new();
                for number in (task..connections).step_by(IN_FLIGHT) {
                    let mut connection = Connection::open(&target, number, protocol).await?;
                    connection.exchange().await?;
                    opened.push(connection);
                    progress.count(1);
                }
                Ok(opened)
            });
        }
        load
    }

    /// Requests as fast as the answers come, until stopped.
    ///
    /// Each group of connections takes turns with one request under way; a group of one HTTP/2 connection has
    /// `streams` of them.
    pub fn closed_loop(groups: Vec<Vec<Connection>>, streams: usize) -> Self {
        let mut load = Self::new();
        for mut connections in groups {
            let progress = Arc::clone(&load.progress);
            load.tasks.spawn(async move {
                if let [Connection::Http2(connection)] = connections.as_mut_slice() {
                    connection.multiplex(streams, &progress).await?;
                    return Ok(connections);
                }
                while !progress.is_over() {
                    for connection in &mut connections {
                        connection.exchange().await?;
                        progress.count(1);
                        if progress.is_over() {
                            break;
                        }
                    }
                }
                Ok(connections)
            });
        }
        load
    }

    /// Waits until `length` is over, or until a task fails.
    pub async fn run_for(&mut self, length: Duration) -> Result<()> {
        tokio::select! {
            failed = first_failure(&mut self.tasks) => failed,
            () = tokio::time::sleep(length) => Ok(()),
        }
    }

    /// Ends the load after the requests under way and gives the connections back, in their groups.
    pub async fn stop(mut self) -> Result<Vec<Vec<Connection>>> {
        self.progress.over.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits for a load that ends by itself.
    pub async fn finish(&mut self) -> Result<Vec<Vec<Connection>>> {
        let mut groups = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            groups.push(done.context("the load generator broke")??);
        }
        self.spinner.abort_all();
        Ok(groups)
    }
}

async fn first_failure(tasks: &mut JoinSet<Result<Vec<Connection>>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.context("the load generator broke")??;
    }
    // A load that runs until it is stopped has no end of its own.
    anyhow::bail!("the load ended early")
}

/// Requests at a fixed mean rate whether or not answers come, so that a slow answer delays no later request.
///
/// Arrivals are a Poisson process, the same for every peer, dealt in turn to the groups of one connection. A latency
/// counts from the moment the request was due, also when its connection was still busy (no coordinated omission).
/// Those of the first `warm_up` are left out.
pub async fn open_loop(
    groups: Vec<Vec<Connection>>,
    rate: f64,
    warm_up: Duration,
    length: Duration,
) -> Result<Latencies> {
    let start = Instant::now();
    let (counted, end) = (start + warm_up, start + warm_up + length);
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for mut connection in groups.into_iter().flatten() {
        let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
        queues.push(queue);
        tasks.spawn(async move {
            let mut nanoseconds = Vec::new();
            while let Some(due) = due.recv().await {
                connection.exchange().await?;
                if due >= counted {
                    nanoseconds.push(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
            }
            connection.close().await;
            anyhow::Ok(nanoseconds)
        });
    }
    let due = pace(queues, rate, start, counted, end).await;
    let mut latencies = Latencies { nanoseconds: Vec::with_capacity(due), due };
    while let Some(done) = tasks.join_next().await {
        latencies.nanoseconds.extend(done.context("the load generator broke")??);
    }
    latencies.nanoseconds.sort_unstable();
    Ok(latencies)
}

/// Deals the arrivals out when they are due, and spins in between: timers are too coarse for this.
async fn pace(
    queues: Vec<mpsc::UnboundedSender<Instant>>,
    rate: f64,
    start: Instant,
    counted: Instant,
    end: Instant,
) -> usize {
    let mut arrivals = Arrivals::new(rate);
    let mut next = start + arrivals.gap();
    let mut dealt = 0;
    for queue in queues.iter().cycle() {
        while Instant::now() < next {
            tokio::task::yield_now().await;
        }
        if next >= end || queue.send(next).is_err() {
            break;
        }
        dealt += usize::from(next >= counted);
        next += arrivals.gap();
    }
    dealt
}

/// Exponential gaps from a fixed seed.
struct Arrivals {
    state: u64,
    mean: f64,
}

impl Arrivals {
    fn new(rate: f64) -> Self {
        Self { state: 0x9E37_79B9_7F4A_7C15, mean: 1.0 / rate.max(1.0) }
    }

    fn gap(&mut self) -> Duration {
        // xorshift64 (Marsaglia 2003): plenty for arrival times.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}

/// One request to each name with the certificate verified, over both protocols; the answer must be that upstream's.
pub async fn prove(target: &Target) -> Result<()> {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (number, name) in target.names.iter().enumerate() {
            let mut connection = Connection::open(&target.verifying(), number, protocol).await?;
            let body = match &mut connection {
                Connection::Http1(connection) => connection.exchange_for_body().await?,
                Connection::Http2(connection) => connection.exchange_for_body().await?,
            };
            anyhow::ensure!(
                body == upstream::body(name).as_bytes(),
                "{name} over {protocol:?}: not its upstream's answer"
            );
            connection.close().await;
        }
    }
    Ok(())
}

impl Target {
    /// The same, with the peer's certificate verified.
    fn verifying(&self) -> Self {
        Self { tls: self.tls.verifying(), ..self.clone() }
    }
}

/// The request's headers besides Host, those of a browser client.
const HEADERS: [(&str, &str); 5] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json"),
    ("accept-language", "nl,en;q=0.5"),
    ("authorization", "Bearer syt_bWVhc3VyZW1lbnQ_aNotherOpaqueTokenValue_0abcde"),
    ("accept-encoding", "identity"),
];

/// The path that is asked for: any that all peers simply pass on.
const PATH: &str = "/_matrix/client/v3/capabilities";
