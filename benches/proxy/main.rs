//! `cargo bench --bench proxy`: federation-proxy beside nginx, haproxy and caddy, under one load generator.
//!
//! Each peer runs alone on one core, with one worker; this program, load and upstream servers in one thread, on
//! another. The peers take turns in every case and every round, each time as a fresh process. What counts is CPU time
//! a request: it hardly depends on what else the machine does. The book's page on measurements has the method.

#![expect(unreachable_pub, reason = "a program has no outside; `pub` says what a module is for")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

mod cases;
mod certificates;
mod load;
#[path = "../common/machine.rs"]
mod machine;
mod options;
mod peers;
#[path = "../common/process.rs"]
mod process;
mod report;
#[path = "../common/statistics.rs"]
mod statistics;
mod upstream;

use cases::{Case, HIGHEST, Rate, Sample};
use load::{Target, Tls};
use machine::Machine;
use options::Options;
use peers::{Peer, Words};
use report::{Results, Subject};

/// The names that every peer serves, those of the lab.
const NAMES: &[&str] = &["apotheek", "huisarts", "vvt"];

/// Files that a peer and the generator need beyond one a connection: upstream connections, logs, libraries.
const SPARE_FILES: usize = 1500;

fn main() -> ExitCode {
    match start(Options::parse().settled()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy measurement: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut options: Options) -> Result<()> {
    let machine = Machine::prepare((options.connections + SPARE_FILES) as u64)?;
    let files = usize::try_from(machine.files).unwrap_or(usize::MAX);
    let possible = files.saturating_sub(SPARE_FILES).max(load::IN_FLIGHT + 1);
    if possible < options.connections {
        eprintln!("only {possible} connections: a process may open no more than {files} files here (ulimit -n)");
        options.connections = possible;
    }
    match options.load_core() {
        Some(core) => machine::pin(core)?,
        None => eprintln!("one core for everything: the numbers say little"),
    }
    // One thread: the peers' start binds their life to the thread that starts them, too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            result = Measurement::prepare(options, machine).await?.run() => result,
            _ = interrupt.recv() => bail!("interrupted; every peer is stopped"),
            _ = terminate.recv() => bail!("stopped; every peer is stopped"),
        }
    })
}

/// The share of a core that others may use during a measurement before it is repeated.
const DISTURBED: f64 = 0.1;

fn disturbance(samples: &[(String, Sample)]) -> f64 {
    samples.iter().map(|(_, sample)| sample.others).fold(0.0, f64::max)
}

/// A prepared measurement.
struct Measurement {
    options: Options,
    directory: tempfile::TempDir,
    words: Words,
    tls: Tls,
    programs: Vec<(Peer, PathBuf)>,
    results: Results,
}

// === impl Measurement ===

impl Measurement {
    async fn prepare(options: Options, machine: Machine) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let authority = certificates::write(directory.path(), NAMES)?;
        let mut words = Words::from([
            ("DIRECTORY", directory.path().display().to_string()),
            ("FILES", machine.files.to_string()),
            ("CONNECTIONS", (options.connections + SPARE_FILES / 2).to_string()),
        ]);
        for (word, name) in ["APOTHEEK", "HUISARTS", "VVT"].into_iter().zip(NAMES) {
            words.insert(word, upstream::start(name).await?.port().to_string());
        }
        let mut programs = Vec::new();
        let mut subjects = Vec::new();
        for &peer in &options.peers {
            match peer.program(options.ours.as_deref()) {
                Some(program) => {
                    subjects.push(Subject { peer, version: peer.version(&program)? });
                    programs.push((peer, program));
                }
                None => eprintln!("{} is not installed: left out", peer.name()),
            }
        }
        let results = Results::new(machine, subjects, &options);
        Ok(Self { options, directory, words, tls: Tls::new(authority)?, programs, results })
    }

    /// Round by round, case by case, peer by peer.
    async fn run(mut self) -> Result<()> {
        let only = self.options.only.clone().unwrap_or_default();
        let mut cases = Case::all(self.options.connections);
        // What a latency case takes 70 % of must be measured, too.
        let wanted = |case: &Case| case.id().starts_with(&only);
        let latency = cases.iter().any(|case| matches!(case, Case::Latency(_)) && wanted(case));
        cases.retain(|case| wanted(case) || (latency && case.id() == HIGHEST));
        for round in 0..self.options.rounds {
            let mut highest = BTreeMap::new();
            for &case in &cases {
                for place in 0..self.programs.len() {
                    // Another peer comes first in each round.
                    let place = (place + round as usize) % self.programs.len();
                    self.measure(case, place, round, &mut highest).await?;
                }
            }
        }
        self.finish(&cases)
    }

    /// One peer, one case, once. A peer that fails does not stop the others; the run ends with an error then.
    async fn measure(&mut self, case: Case, place: usize, round: u32, highest: &mut BTreeMap<Peer, f64>) -> Result<()> {
        let Some((peer, program)) = self.programs.get(place) else { return Ok(()) };
        let peer = *peer;
        let rate = match case {
            Case::Latency(Rate::SameForAll) => highest.values().copied().min_by(f64::total_cmp),
            _ => highest.get(&peer).copied(),
        };
        let program = program.clone();
        match self.least_disturbed(case, peer, &program, rate).await {
            Ok(samples) => {
                for (id, sample) in samples {
                    let sample = Sample { round: round + 1, ..sample };
                    if id == HIGHEST {
                        highest.insert(peer, sample.rate);
                    }
                    eprintln!("{}", report::line(peer, &id, &sample));
                    self.results.add(&id, peer, sample);
                }
            }
            Err(error) => {
                eprintln!("round {}: {}: {}: {error:#}", round + 1, case.id(), peer.name());
                self.results.fail(format!("{}: {}: {error:#}", case.id(), peer.name()));
            }
        }
        Ok(())
    }

    /// Measures once, and again while others disturb it too much.
    async fn least_disturbed(
        &mut self,
        case: Case,
        peer: Peer,
        program: &Path,
        rate: Option<f64>,
    ) -> Result<Vec<(String, Sample)>> {
        let mut best = self.once(case, peer, program, rate).await?;
        for _ in 0..self.options.retries {
            if disturbance(&best) <= DISTURBED {
                break;
            }
            let again = self.once(case, peer, program, rate).await?;
            if disturbance(&again) < disturbance(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    async fn once(
        &mut self,
        case: Case,
        peer: Peer,
        program: &Path,
        rate: Option<f64>,
    ) -> Result<Vec<(String, Sample)>> {
        let address = peers::free_address()?;
        self.words.insert("PORT", address.port().to_string());
        let target = Target { address, names: NAMES, tls: self.tls.clone() };
        let process = peer.start(program, self.directory.path(), &self.words, &target, &self.options).await?;
        case.measure(&process, &target, rate, &self.options).await
    }

    fn finish(self, cases: &[Case]) -> Result<()> {
        let tables = self.results.markdown(cases);
        println!("{tables}");
        if let Some(file) = &self.options.json {
            fs::write(file, serde_json::to_vec_pretty(&self.results)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        match self.results.failures() {
            [] if self.options.docs => report::write_page(&tables),
            [] => Ok(()),
            failures => bail!("{} measurements failed, the first one: {}", failures.len(), failures[0]),
        }
    }
}
