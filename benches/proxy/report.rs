//! The results: a line as they come, JSON, and the tables of the book.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    cases::{Case, Sample},
    machine::Machine,
    options::Options,
    peers::Peer,
    statistics::Spread,
};

/// The page that the book includes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/measurements/proxy.md");

/// A peer as it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// Which.
    pub peer: Peer,
    /// Its version.
    pub version: String,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Results {
    machine: Machine,
    date: String,
    rounds: u32,
    seconds: f64,
    peers: Vec<Subject>,
    /// Samples by case and peer, in the order of the rounds.
    samples: BTreeMap<String, BTreeMap<Peer, Vec<Sample>>>,
    failures: Vec<String>,
}

/// One number of a sample, with how a table shows it.
struct Measure {
    heading: &'static str,
    digits: usize,
    of: fn(&Sample) -> Option<f64>,
    /// Whether a table of ratios follows: where less is better.
    ratios: bool,
}

const CPU: Measure = Measure { heading: "µs of CPU", digits: 1, of: |sample| sample.cpu_us, ratios: true };
const RATE: Measure = Measure { heading: "requests/s", digits: 0, of: |sample| Some(sample.rate), ratios: false };
const BUSY: Measure =
    Measure { heading: "% of the core used", digits: 0, of: |sample| Some(sample.busy * 100.0), ratios: false };
const P50: Measure = Measure { heading: "p50, µs", digits: 0, of: |sample| sample.p50_us, ratios: true };
const P99: Measure = Measure { heading: "p99, µs", digits: 0, of: |sample| sample.p99_us, ratios: true };
const MEMORY: Measure =
    Measure { heading: "KiB a connection", digits: 1, of: |sample| sample.connection_kib, ratios: true };
const BASE: Measure = Measure { heading: "MiB before", digits: 1, of: |sample| sample.base_mib, ratios: false };

// === impl Results ===

impl Results {
    /// With no samples yet.
    pub fn new(machine: Machine, peers: Vec<Subject>, options: &Options) -> Self {
        let date = time::OffsetDateTime::now_utc().date().to_string();
        let (rounds, seconds) = (options.rounds, options.seconds);
        Self { machine, date, rounds, seconds, peers, samples: BTreeMap::new(), failures: Vec::new() }
    }

    /// Adds what was measured.
    pub fn add(&mut self, id: &str, peer: Peer, sample: Sample) {
        self.samples.entry(id.to_owned()).or_default().entry(peer).or_default().push(sample);
    }

    /// Adds what went wrong.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// What went wrong.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The tables of the book.
    pub fn markdown(&self, cases: &[Case]) -> String {
        let requests: Vec<_> = cases
            .iter()
            .filter(|case| !matches!(case, Case::Latency(_)))
            .map(|case| (case.id(), case.title()))
            .collect();
        let openings: Vec<_> = cases
            .iter()
            .filter_map(|case| Some((case.opening_id()?, format!("{}: opening them", case.title()))))
            .collect();
        let both: Vec<_> = requests.iter().chain(&openings).cloned().collect();
        let idle: Vec<_> =
            cases.iter().filter_map(|case| Some((case.opening_id()?, format!("{}, idle", case.title())))).collect();
        let latency: Vec<_> = cases
            .iter()
            .filter(|case| matches!(case, Case::Latency(_)))
            .map(|case| (case.id(), case.title()))
            .collect();
        let mut text = self.heading();
        for (title, rows, measures) in [
            ("CPU time a request", &both, &[&CPU][..]),
            ("Rate", &requests, &[&RATE, &BUSY]),
            ("Latency at 70 % load", &latency, &[&RATE, &P50, &P99]),
            ("Memory of idle connections", &idle, &[&MEMORY, &BASE]),
        ] {
            let _ = writeln!(text, "\n### {title}");
            for measure in measures {
                self.table(&mut text, rows, measure);
            }
        }
        text
    }

    fn heading(&self) -> String {
        let versions: Vec<String> =
            self.peers.iter().map(|subject| format!("{} {}", subject.peer.name(), subject.version)).collect();
        format!(
            "{machine} {versions}. {rounds} rounds of {seconds} s a case and peer. \
             A cell is the median over the rounds, with the least and the most. Meanwhile other programs used {others} % \
             of the cores (median).\n",
            others = self.others(),
            machine = self.machine.describe(&self.date),
            rounds = self.rounds,
            seconds = self.seconds,
            versions = versions.join(", "),
        )
    }

    /// The share of the cores that others used, in per cent.
    fn others(&self) -> String {
        let samples = self.samples.values().flat_map(BTreeMap::values).flatten();
        let spread = Spread::of(samples.map(|sample| sample.others * 100.0));
        spread.map_or_else(|| "?".to_owned(), |spread| format!("{:.0}", spread.median))
    }

    fn table(&self, text: &mut String, rows: &[(String, String)], measure: &Measure) {
        let ours = measure.ratios && self.peers.iter().any(|subject| subject.peer == Peer::FederationProxy);
        let mut heads = vec![measure.heading.to_owned()];
        heads.extend(self.peers.iter().map(|subject| subject.peer.name().to_owned()));
        if ours {
            heads.extend(["ours / nginx".to_owned(), "ours / best of the others".to_owned()]);
        }
        let rule = vec!["---"; heads.len()].join("|");
        let _ = writeln!(text, "\n| {} |\n|{rule}|", heads.join(" | "));
        for (id, title) in rows {
            let mut cells = vec![title.clone()];
            cells.extend(self.peers.iter().map(|subject| self.cell(id, subject.peer, measure)));
            if ours {
                cells.push(ratio_cell(self.ratio(id, measure, &[Peer::Nginx])));
                cells.push(ratio_cell(self.ratio(id, measure, &[Peer::Nginx, Peer::Haproxy, Peer::Caddy])));
            }
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }

    /// The numbers of a peer in a case, by round; a round that failed is missing.
    fn numbers(&self, id: &str, peer: Peer, measure: &Measure) -> BTreeMap<u32, f64> {
        let samples = self.samples.get(id).and_then(|peers| peers.get(&peer));
        samples.into_iter().flatten().filter_map(|sample| Some((sample.round, (measure.of)(sample)?))).collect()
    }

    fn cell(&self, id: &str, peer: Peer, measure: &Measure) -> String {
        let digits = measure.digits;
        Spread::of(self.numbers(id, peer, measure).into_values())
            .map_or_else(|| "–".to_owned(), |spread| spread.cell(digits))
    }

    /// Ours over the best of others, round by round.
    fn ratio(&self, id: &str, measure: &Measure, others: &[Peer]) -> Option<Spread> {
        let ours = self.numbers(id, Peer::FederationProxy, measure);
        let others: Vec<_> = others.iter().map(|peer| self.numbers(id, *peer, measure)).collect();
        Spread::of(ours.into_iter().filter_map(|(round, ours)| {
            let best = others.iter().filter_map(|other| other.get(&round).copied()).min_by(f64::total_cmp)?;
            Some(ours / best)
        }))
    }
}

fn ratio_cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| spread.cell(2))
}

/// One measurement, for whoever watches.
pub fn line(peer: Peer, id: &str, sample: &Sample) -> String {
    let mut text = format!("round {}: {id:<18} {:<16} {:>8.0}/s", sample.round, peer.name(), sample.rate);
    let parts = [
        ("µs CPU", sample.cpu_us),
        ("% busy", Some(sample.busy * 100.0)),
        ("% others", Some(sample.others * 100.0)),
        ("µs p50", sample.p50_us),
        ("µs p99", sample.p99_us),
        ("KiB/connection", sample.connection_kib),
        ("MiB before", sample.base_mib),
    ];
    for (unit, number) in parts {
        if let Some(number) = number {
            let _ = write!(text, "  {number:.1} {unit}");
        }
    }
    text
}

/// Writes the tables into the book's page.
pub fn write_page(tables: &str) -> Result<()> {
    let mark = "<!-- Written by `cargo bench --bench proxy -- --docs`; do not edit. -->";
    fs::create_dir_all(Path::new(PAGE).parent().context("the page has a directory")?)?;
    fs::write(PAGE, format!("{mark}\n\n{tables}")).with_context(|| format!("cannot write {PAGE}"))
}
