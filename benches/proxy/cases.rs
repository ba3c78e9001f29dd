//! What is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::{
    load::{self, Connection, IN_FLIGHT, Load, Protocol, Target},
    options::Options,
    process::{self, Process},
    statistics::quantile,
};

/// The share of a peer's highest rate at which latency is measured.
pub const SHARE: f64 = 0.7;

/// The case whose rate is a peer's highest for the latency measurements.
pub const HIGHEST: &str = "http1-64";

/// The longest that opening connections, or one measurement besides its own length, may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// The share of a measurement's length that a peer must have used of its core; kernel ticks of 10 ms are coarse.
const ENOUGH: f64 = 0.3;

/// How many times its length a measurement may last for that.
const MOST_LENGTHS: u32 = 10;

/// One thing that is measured with one fresh process of each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Full handshakes with one request each, so many at once.
    Handshakes(usize),
    /// Requests over connections that stay open.
    KeepAlive {
        /// What is spoken.
        protocol: Protocol,
        /// How many connections.
        connections: usize,
        /// How many requests at once on each of them; one where there are more connections than [`IN_FLIGHT`].
        streams: usize,
    },
    /// Latency at a fixed rate over [`IN_FLIGHT`] HTTP/1.1 connections.
    Latency(Rate),
}

/// The rate of a latency case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// [`SHARE`] of what this peer reached in this round.
    OwnShare,
    /// [`SHARE`] of what the slowest peer reached in this round: the same for all.
    SameForAll,
}

/// What one measurement found. Fields that a case does not measure are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// The round, from 1.
    pub round: u32,
    /// Requests that were counted.
    pub requests: u64,
    /// CPU time of the peer a request, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<f64>,
    /// Requests a second.
    pub rate: f64,
    /// The share of its core that the peer used. Well below 1 the generator was the limit and not the peer.
    pub busy: f64,
    /// The share of the two cores, whichever is larger, that other programs and the host used meanwhile.
    pub others: f64,
    /// Requests that this process of the peer had answered when the measurement ended; for profilers.
    pub answered: u64,
    /// Median latency in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 99th percentile of the latency in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Memory of the peer for each idle connection, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_kib: Option<f64>,
    /// Memory of the peer before there were connections, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_mib: Option<f64>,
}

// === impl Case ===

impl Case {
    /// All cases, `many` being the largest number of connections.
    pub fn all(many: usize) -> Vec<Self> {
        let keep = |protocol, connections, streams| Self::KeepAlive { protocol, connections, streams };
        vec![
            Self::Handshakes(1),
            Self::Handshakes(IN_FLIGHT),
            keep(Protocol::Http1, 1, 1),
            keep(Protocol::Http1, IN_FLIGHT, 1),
            Self::Latency(Rate::OwnShare),
            Self::Latency(Rate::SameForAll),
            keep(Protocol::Http1, many, 1),
            keep(Protocol::Http2, 1, IN_FLIGHT),
            keep(Protocol::Http2, IN_FLIGHT, 4),
            keep(Protocol::Http2, many, 1),
        ]
    }

    /// The short name, for `--only` and the JSON.
    pub fn id(self) -> String {
        match self {
            Self::Handshakes(at_once) => format!("handshake-{at_once}"),
            Self::KeepAlive { protocol: Protocol::Http1, connections, .. } => format!("http1-{connections}"),
            Self::KeepAlive { protocol: Protocol::Http2, connections, .. } => format!("http2-{connections}"),
            Self::Latency(Rate::OwnShare) => "latency-own".to_owned(),
            Self::Latency(Rate::SameForAll) => "latency-same".to_owned(),
        }
    }

    /// The words of the table.
    pub fn title(self) -> String {
        match self {
            Self::Handshakes(1) => "Full TLS 1.3 handshake and one request, one at a time".to_owned(),
            Self::Handshakes(at_once) => format!("Full TLS 1.3 handshake and one request, {at_once} at once"),
            Self::KeepAlive { protocol: Protocol::Http1, connections: 1, .. } => {
                "HTTP/1.1 keep-alive, 1 connection".to_owned()
            }
            Self::KeepAlive { protocol: Protocol::Http1, connections, .. } => {
                format!("HTTP/1.1 keep-alive, {connections} connections")
            }
            Self::KeepAlive { connections: 1, streams, .. } => format!("HTTP/2, 1 connection with {streams} streams"),
            Self::KeepAlive { connections, streams: 1, .. } => format!("HTTP/2, {connections} connections"),
            Self::KeepAlive { connections, streams, .. } => {
                format!("HTTP/2, {connections} connections with {streams} streams each")
            }
            Self::Latency(Rate::OwnShare) => "HTTP/1.1 at 70 % of its own highest rate".to_owned(),
            Self::Latency(Rate::SameForAll) => "HTTP/1.1 at the same rate for all".to_owned(),
        }
    }

    /// The id under which the opening of this case's connections is kept, where there are enough to measure.
    pub fn opening_id(self) -> Option<String> {
        match self {
            Self::KeepAlive { connections, .. } if connections > IN_FLIGHT => Some(format!("open-{}", self.id())),
            _ => None,
        }
    }

    /// Measures it once with a peer that has just started. The sample of the opening comes first, if there is one.
    pub async fn measure(
        self,
        peer: &Process,
        target: &Target,
        rate: Option<f64>,
        options: &Options,
    ) -> Result<Vec<(String, Sample)>> {
        let limit = options.length() + PATIENCE;
        let measured = async {
            match self {
                Self::Handshakes(at_once) => {
                    let (sample, _) = steady(Load::handshakes(target, at_once), peer, options).await?;
                    Ok(vec![(self.id(), sample)])
                }
                Self::KeepAlive { protocol, connections, streams } => {
                    let (opening, groups) = open(peer, target, connections, protocol, options).await?;
                    let (sample, groups) = steady(Load::closed_loop(groups, streams), peer, options).await?;
                    drop(groups);
                    let opening = self.opening_id().map(|id| (id, opening));
                    Ok(opening.into_iter().chain([(self.id(), sample)]).collect())
                }
                Self::Latency(_) => {
                    let rate = rate.context("no highest rate was measured; let http1-64 run too")? * SHARE;
                    let groups = Load::open(target, IN_FLIGHT, Protocol::Http1).finish().await?;
                    Ok(vec![(self.id(), latency(groups, rate, peer, options).await?)])
                }
            }
        };
        tokio::time::timeout(limit, measured).await.context("it took too long")?
    }
}

/// Opens connections and, where they are many, reads what they cost: a handshake each, and memory while they idle.
async fn open(
    peer: &Process,
    target: &Target,
    connections: usize,
    protocol: Protocol,
    options: &Options,
) -> Result<(Sample, Vec<Vec<Connection>>)> {
    if connections <= IN_FLIGHT {
        let groups = Load::open(target, connections, protocol).finish().await?;
        return Ok((Sample::default(), groups));
    }
    // What a first connection allocates once is not what each costs.
    Load::open(target, IN_FLIGHT, protocol).finish().await?;
    tokio::time::sleep(options.settle()).await;
    let base = peer.memory()?;
    let meter = Meter::start(peer, options)?;
    let groups = Load::open(target, connections, protocol).finish().await?;
    let sample = meter.stop(connections as u64)?;
    tokio::time::sleep(options.settle()).await;
    let grown = peer.memory()? as f64 - base as f64;
    let sample =
        Sample { connection_kib: Some(grown / connections as f64), base_mib: Some(base as f64 / 1024.0), ..sample };
    Ok((sample, groups))
}

/// Lets a load run and measures the middle of it.
async fn steady(mut load: Load, peer: &Process, options: &Options) -> Result<(Sample, Vec<Vec<Connection>>)> {
    load.run_for(options.warm_up()).await?;
    let (meter, before) = (Meter::start(peer, options)?, load.progress.answered());
    loop {
        load.run_for(options.length()).await?;
        // On a machine that others keep busy it takes longer until there is enough CPU time to be worth dividing.
        if options.quick || meter.is_worth(options.length().mul_f64(ENOUGH), options.length() * MOST_LENGTHS)? {
            break;
        }
    }
    let answered = load.progress.answered();
    let sample = Sample { answered, ..meter.stop(answered - before)? };
    ensure!(sample.requests > 0, "no request was answered");
    Ok((sample, load.stop().await?))
}

async fn latency(groups: Vec<Vec<Connection>>, rate: f64, peer: &Process, options: &Options) -> Result<Sample> {
    let meter = Meter::start(peer, options)?;
    let latencies = load::open_loop(groups, rate, options.warm_up(), options.length()).await?;
    let sample = meter.stop(latencies.due as u64)?;
    ensure!(latencies.nanoseconds.len() == latencies.due, "a request was left unanswered");
    let in_us = |share| quantile(&latencies.nanoseconds, share).map(|nanoseconds| nanoseconds as f64 / 1000.0);
    Ok(Sample {
        rate: latencies.due as f64 / options.length().as_secs_f64(),
        // The warm-up is in its time and not in its requests.
        cpu_us: None,
        p50_us: in_us(0.5),
        p99_us: in_us(0.99),
        ..sample
    })
}

/// What was used since the start of a measurement.
struct Meter<'a> {
    peer: &'a Process,
    cores: Option<(usize, usize)>,
    start: Instant,
    peer_time: Duration,
    own_time: Duration,
    core_times: (Duration, Duration),
}

// === impl Meter ===

impl<'a> Meter<'a> {
    fn start(peer: &'a Process, options: &Options) -> Result<Self> {
        let cores = options.proxy_core().zip(options.load_core());
        Ok(Self {
            peer,
            cores,
            core_times: core_times(cores)?,
            own_time: process::own_cpu_time()?,
            peer_time: peer.cpu_time()?,
            start: Instant::now(),
        })
    }

    /// Whether the peer has used `enough` CPU time, or this has lasted `longest`.
    fn is_worth(&self, enough: Duration, longest: Duration) -> Result<bool> {
        Ok(self.peer.cpu_time()?.saturating_sub(self.peer_time) >= enough || self.start.elapsed() >= longest)
    }

    fn stop(self, requests: u64) -> Result<Sample> {
        let wall = self.start.elapsed().as_secs_f64();
        let peer = self.peer.cpu_time()?.saturating_sub(self.peer_time);
        let own = process::own_cpu_time()?.saturating_sub(self.own_time);
        let (proxy_core, load_core) = core_times(self.cores)?;
        let others = proxy_core
            .saturating_sub(self.core_times.0 + peer)
            .max(load_core.saturating_sub(self.core_times.1 + own))
            .as_secs_f64();
        Ok(Sample {
            requests,
            cpu_us: (requests > 0).then(|| peer.as_secs_f64() * 1e6 / requests as f64),
            rate: requests as f64 / wall,
            busy: peer.as_secs_f64() / wall,
            others: others / wall,
            ..Sample::default()
        })
    }
}

fn core_times(cores: Option<(usize, usize)>) -> Result<(Duration, Duration)> {
    match cores {
        Some((proxy, load)) => Ok((process::core_time(proxy)?, process::core_time(load)?)),
        None => Ok(Default::default()),
    }
}
