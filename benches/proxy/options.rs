//! What the person who measures may choose.

use std::{fs, path::PathBuf, time::Duration};

use clap::Parser;

use crate::peers::Peer;

/// Measure federation-proxy beside nginx, haproxy and caddy
///
/// Everything runs on the loopback interface, on free ports, and is stopped at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench proxy --")]
pub struct Options {
    /// A smoke test of a few seconds: every peer that is installed must answer; the numbers mean nothing
    #[arg(long)]
    pub quick: bool,
    /// How often each peer is measured in each case; the peers take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// The number of connections in the largest cases
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Only these peers
    #[arg(long, value_enum, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Only the cases whose id begins so (`handshake`, `http1-64`, …)
    #[arg(long)]
    pub only: Option<String>,
    /// Measure this federation-proxy, such as an installed one, and not the one that cargo has just built
    #[arg(long, value_name = "PROGRAM")]
    pub ours: Option<PathBuf>,
    /// The core that the peers are pinned to
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the load generator and the upstream servers
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// How often a measurement is repeated while other programs use more than a tenth of its cores; the least
    /// disturbed one counts
    #[arg(long, default_value_t = 2)]
    pub retries: u32,
    /// Start the peers under this command, for profiling: `valgrind --tool=callgrind`, `strace -f -c -o FILE`
    #[arg(long, value_name = "COMMAND", value_delimiter = ' ', allow_hyphen_values = true)]
    pub under: Vec<String>,
    /// Where the samples go, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables into the book, docs/src/measurements/proxy.md
    #[arg(long)]
    pub docs: bool,
    /// Given by `cargo bench`; without it, as under `cargo test --benches`, the run is quick
    #[arg(long, hide = true)]
    pub bench: bool,
}

// === impl Options ===

impl Options {
    /// The options as they are carried out: a quick run is one short round with few connections.
    pub fn settled(mut self) -> Self {
        self.quick |= !self.bench;
        if self.quick {
            self.rounds = 1;
            // An unoptimised build on a busy machine must get as far as an answer.
            self.seconds = 1.0;
            self.connections = 100;
            self.retries = 0;
        }
        self.seconds = self.seconds.clamp(0.1, 600.0);
        self.connections = self.connections.clamp(64, 60_000);
        if self.peers.is_empty() {
            self.peers = Peer::ALL.to_vec();
        }
        self
    }

    /// The core of the peers, where there are several.
    pub fn proxy_core(&self) -> Option<usize> {
        several_cores().then_some(self.proxy_core)
    }

    /// The core of the load, where there are several.
    pub fn load_core(&self) -> Option<usize> {
        several_cores().then_some(self.load_core)
    }

    /// How long one measurement lasts.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long the load runs before a measurement begins.
    pub fn warm_up(&self) -> Duration {
        self.length().mul_f64(0.25).min(Duration::from_secs(1))
    }

    /// How long an idle peer is left alone before its memory is read.
    pub fn settle(&self) -> Duration {
        Duration::from_secs(if self.quick { 0 } else { 2 })
    }
}

/// Not those that this process may use: once pinned, that is one.
fn several_cores() -> bool {
    fs::read_to_string("/proc/stat").is_ok_and(|text| text.lines().any(|line| line.starts_with("cpu1 ")))
}
