//! From writing a message to its being seen by `/sync` on another homeserver.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    Options,
    network::{Lab, PATIENCE},
    report::{Page, cell},
    statistics::{Spread, quantile},
};

/// The thread in which everybody is.
pub const THREAD: &str = "shared";

/// Times of messages, in microseconds.
#[derive(Default)]
pub struct Times {
    /// Those of a plain client.
    client: Vec<u64>,
    /// Those posted as FHIR.
    bridge: Vec<u64>,
}

pub async fn measure(lab: &mut Lab, options: &Options, page: &mut Page) -> Result<()> {
    let room = lab.shared_thread(THREAD).await?;
    pairs(lab, &room, 3).await?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let times = pairs(lab, &room, options.number(30, 5)).await?;
        eprintln!("latency, round {round}: FHIR / client {:.2}", times.ratio(0.5));
        rounds.push(times);
    }
    let row = |title: &str, of: fn(&Times) -> &[u64]| {
        let millis = |share| cell(rounds.iter().map(|times| middle(of(times), share) / 1000.0), 1);
        vec![title.to_owned(), millis(0.5), millis(0.95)]
    };
    let ratio = |share| cell(rounds.iter().map(|times| times.ratio(share)), 2);
    let rows = [
        row("a plain client's send", |times| &times.client),
        row("a Communication posted as FHIR", |times| &times.bridge),
        vec!["FHIR / client".to_owned(), ratio(0.5), ratio(0.95)],
    ];
    page.table("From writing to /sync on another homeserver", &["", "p50, ms", "p95, ms"], &rows);
    Ok(())
}

/// Sends both ways in turns.
pub async fn pairs(lab: &mut Lab, room: &str, count: usize) -> Result<Times> {
    let mut times = Times::default();
    for number in 0..count {
        // Who comes first changes, so that nobody always finds the caches warm.
        for is_fhir in [number % 2 == 0, number % 2 == 1] {
            let time = once(lab, room, is_fhir).await?;
            let times = if is_fhir { &mut times.bridge } else { &mut times.client };
            times.push(u64::try_from(time.as_micros())?);
        }
    }
    times.client.sort_unstable();
    times.bridge.sort_unstable();
    Ok(times)
}

async fn once(lab: &mut Lab, room: &str, is_fhir: bool) -> Result<Duration> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let text = format!("Mevrouw heeft goed geslapen, bericht {number}.");
    // The reader's session is taken out for the time, so that it waits while the message is written.
    let Lab { near, far, store: _, http, bridge, .. } = lab;
    let seen = far.wait_for("the message", PATIENCE, |seen| {
        (seen.room == room && seen.event["content"]["body"] == text.as_str()).then(Instant::now)
    });
    let write = async {
        // The long poll is under way before anything is written.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        if is_fhir {
            crate::network::post(http, bridge, THREAD, &text).await?;
        } else {
            near.say(room, &text).await?;
        }
        anyhow::Ok(start)
    };
    let (seen, start) = tokio::join!(seen, write);
    Ok(seen?.duration_since(start?))
}

// === impl Times ===

impl Times {
    /// FHIR over client.
    pub fn ratio(&self, share: f64) -> f64 {
        middle(&self.bridge, share) / middle(&self.client, share)
    }

    /// The median of what was posted as FHIR, in milliseconds.
    pub fn fhir_millis(&self) -> f64 {
        middle(&self.bridge, 0.5) / 1000.0
    }
}

fn middle(sorted: &[u64], share: f64) -> f64 {
    quantile(sorted, share).map_or(f64::NAN, |micros| micros as f64)
}

/// The numbers of rounds as a cell, for whoever measures more with it.
pub fn millis(rounds: &[Times]) -> String {
    Spread::of(rounds.iter().map(Times::fhir_millis)).map_or_else(|| "–".to_owned(), |spread| spread.cell(1))
}
