//! `cargo bench --bench bridge`: fhir-bridge beside appservices of mautrix and matrix-bot-sdk, and beside a plain client.
//!
//! A lab network of two organisations runs throughout: real Synapses, the real proxy, the real bridge. The book's page
//! on measurements has the method.

#![expect(unreachable_pub, reason = "a program has no outside; `pub` says what a module is for")]

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

mod intake;
mod latency;
#[allow(dead_code, reason = "the measurement of the proxy uses the rest")]
#[path = "../common/machine.rs"]
mod machine;
mod network;
mod peers;
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "it is the tests' own")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "the measurement of the proxy uses the rest")]
#[path = "../common/process.rs"]
mod process;
mod queue;
mod report;
mod rooms;
#[path = "../common/statistics.rs"]
mod statistics;

use machine::Machine;
use network::Lab;
use report::Page;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Transactions of a homeserver, beside mautrix and matrix-bot-sdk
    Intake,
    /// From a FHIR POST to /sync on another homeserver, beside a plain client
    Latency,
    /// Many threads: throughput, latency, memory, start
    Rooms,
    /// The queue on SQLite and on PostgreSQL
    Queue,
}

/// Measure fhir-bridge beside mautrix and matrix-bot-sdk, and beside a plain client
///
/// Everything runs on the loopback interface, on free ports, and is stopped at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench bridge --")]
pub struct Options {
    /// Only these cases
    #[arg(value_enum)]
    pub cases: Vec<Case>,
    /// A smoke test: everything must answer and nothing may be lost; the numbers mean nothing
    #[arg(long)]
    pub quick: bool,
    /// How often each measurement is made; the subjects take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// The largest number of threads; each is a real room, so 10,000 of them take long to make
    #[arg(long, default_value_t = 1000)]
    pub rooms: usize,
    /// Write the tables into the book, docs/src/measurements/bridge.md
    #[arg(long)]
    pub docs: bool,
    /// Given by `cargo bench`; without it, as under `cargo test --benches`, the run is quick
    #[arg(long, hide = true)]
    pub bench: bool,
}

// === impl Options ===

impl Options {
    /// The options as they are carried out.
    fn settled(mut self) -> Self {
        self.quick |= !self.bench;
        if self.quick {
            self.rounds = 1;
            self.rooms = 10;
        }
        if self.cases.is_empty() {
            self.cases = Case::value_variants().to_vec();
        }
        self
    }

    /// A number for a real run, or for a quick one.
    pub fn number(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    match start(&Options::parse().settled()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bridge measurement: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<()> {
    // Another one can only be the same one.
    _ = rustls::crypto::ring::default_provider().install_default();
    let machine = Machine::prepare(4096)?;
    // One thread: the peers' start binds their life to the thread that starts them, too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            result = Box::pin(measure(options, &machine)) => result,
            _ = interrupt.recv() => bail!("interrupted; everything is stopped"),
            _ = terminate.recv() => bail!("stopped; everything is stopped"),
        }
    })
}

async fn measure(options: &Options, machine: &Machine) -> Result<()> {
    let wants = |case| options.cases.contains(&case);
    let mut page = Page::new(machine, options.rounds);
    if options.cases.iter().any(|case| *case != Case::Queue) {
        let mut lab = Lab::start().await?;
        if wants(Case::Latency) {
            latency::measure(&mut lab, options, &mut page).await?;
        }
        if wants(Case::Intake) {
            intake::measure(&lab, options, &mut page).await?;
        }
        if wants(Case::Rooms) {
            rooms::measure(&mut lab, options, &mut page).await?;
        }
    }
    if wants(Case::Queue) {
        queue::measure(options, &mut page).await?;
    }
    println!("{}", page.text());
    if options.docs { page.write() } else { Ok(()) }
}
