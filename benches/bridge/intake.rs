//! Transactions as Synapse sends them, one after the other, to the bridge and to its peers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use care_federation::{bridge::store::now, lab::places::Places};
use serde_json::{Value, json};

use crate::{
    Options,
    network::Lab,
    peers::{self, Appservice, Peer},
    process,
    report::{Page, cell},
};

/// Threads over which the events are spread.
const THREADS: usize = 10;

/// Who takes transactions.
struct Subject {
    name: String,
    base: String,
    token: String,
    process: u32,
    peer: Option<Appservice>,
    /// By size of a transaction.
    found: [Vec<Found>; 2],
}

/// What one measurement found.
struct Found {
    /// Events acknowledged a second.
    acknowledged: f64,
    /// Events a second until all were Communications; for the bridge.
    carried: Option<f64>,
    /// CPU time for 1,000 events, in milliseconds, with all that they cause.
    cpu: f64,
}

pub async fn measure(lab: &Lab, options: &Options, page: &mut Page) -> Result<()> {
    let rooms = rooms(lab).await?;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let homeserver = peers::agreeable_homeserver().await?;
    let places = Places::new(None, None)?;
    let (name, base) = ("fhir-bridge".to_owned(), format!("http://127.0.0.1:{}", lab.bridge.port));
    let (token, process) = (lab.token()?, lab.process()?);
    let mut subjects = vec![Subject { name, base, token, process, peer: None, found: Default::default() }];
    for peer in Peer::ALL {
        let place = peer.install(&places).await?;
        let service = peer.start(&place, directory.path(), &homeserver, &lab.http).await?;
        subjects.push(Subject {
            name: format!("{} {}", peer.name(), peer.version()),
            base: service.base.clone(),
            token: "hs".to_owned(),
            process: service.process.id(),
            peer: Some(service),
            found: Default::default(),
        });
    }
    let sizes = [(100, options.number(50, 2)), (1, options.number(500, 10))];
    // What starts slowly, compiles or fills its caches does so before.
    for round in 0..=options.rounds as usize {
        for (index, (size, transactions)) in sizes.into_iter().enumerate() {
            for place in 0..subjects.len() {
                let count = subjects.len();
                let Some(subject) = subjects.get_mut((place + round) % count) else { continue };
                let stream = stream(&format!("{round}-{index}-{place}"), &rooms, &lab.far.user, size, transactions);
                let found = subject.take(lab, &stream, size * transactions).await?;
                eprintln!(
                    "intake, round {round}, {size} a transaction: {:<22} {:.0}/s",
                    subject.name, found.acknowledged
                );
                if round > 0
                    && let Some(all) = subject.found.get_mut(index)
                {
                    all.push(found);
                }
            }
        }
    }
    show(&subjects, page)
}

async fn rooms(lab: &Lab) -> Result<Vec<String>> {
    let mut rooms = Vec::new();
    for index in 0..THREADS {
        let id = format!("intake-{index}");
        lab.write_thread(&id, &[]).await?;
        rooms.push(lab.room(&id).await?);
    }
    lab.at_rest().await?;
    Ok(rooms)
}

/// Transactions with their identifiers.
fn stream(run: &str, rooms: &[String], sender: &str, size: usize, transactions: usize) -> Vec<(String, Value)> {
    let event = |number: usize| {
        json!({
            "type": "m.room.message", "event_id": format!("$bench-{run}-{number:0>32}"), "sender": sender, "user_id": sender,
            "room_id": rooms[number % rooms.len()], "origin_server_ts": now(), "age": 42,
            "content": { "msgtype": "m.text", "body": format!("Mevrouw heeft vannacht goed geslapen, bericht {number}.") },
            "unsigned": { "age": 42 },
        })
    };
    let transaction = |number: usize| {
        let events: Vec<Value> = (number * size..(number + 1) * size).map(event).collect();
        // No number: the bridge would take one that does not grow for a homeserver that was restarted.
        (format!("bench-{run}-{number}"), json!({ "events": events, "de.sorunome.msc2409.ephemeral": [] }))
    };
    (0..transactions).map(transaction).collect()
}

// === impl Subject ===

impl Subject {
    async fn take(&self, lab: &Lab, stream: &[(String, Value)], events: usize) -> Result<Found> {
        let stored = self.peer.as_ref().map(Appservice::stored).transpose()?;
        let messages = lab.messages().await?;
        let (before, start) = (process::cpu_time_of(self.process)?, Instant::now());
        for (id, transaction) in stream {
            let url = format!("{}/_matrix/app/v1/transactions/{id}", self.base);
            let request = lab.http.put(url).bearer_auth(&self.token).json(transaction);
            let status = request.send().await?.status();
            ensure!(status.is_success(), "{} answered a transaction with {status}", self.name);
        }
        let acknowledged = start.elapsed();
        let per_second = |time: Duration| events as f64 / time.as_secs_f64();
        let carried = match (&self.peer, stored) {
            (Some(peer), Some(stored)) => {
                let now = peer.stored()?;
                ensure!(now == stored + events, "{} stored {} of {events} events", self.name, now - stored);
                None
            }
            _ => {
                lab.settled(messages + events as u64).await?;
                Some(per_second(start.elapsed()))
            }
        };
        let cpu = process::cpu_time_of(self.process)?.saturating_sub(before);
        let cpu = cpu.as_secs_f64() * 1e6 / events as f64;
        Ok(Found { acknowledged: per_second(acknowledged), carried, cpu })
    }

    fn memory(&self) -> Result<f64> {
        Ok(process::memory_of(self.process)? as f64 / 1024.0)
    }
}

fn show(subjects: &[Subject], page: &mut Page) -> Result<()> {
    let mut heads = vec![""];
    heads.extend(subjects.iter().map(|subject| subject.name.as_str()));
    heads.push("ours / best of the others");
    let mut rows = Vec::new();
    for (index, size) in ["100 events", "1 event"].into_iter().enumerate() {
        let numbers = |subject: &Subject, of: fn(&Found) -> Option<f64>| -> Vec<f64> {
            subject.found[index].iter().filter_map(of).collect()
        };
        let mut row = |title: &str, of: fn(&Found) -> Option<f64>, more_is_better: bool| -> Result<()> {
            let all: Vec<Vec<f64>> = subjects.iter().map(|subject| numbers(subject, of)).collect();
            let mut cells = vec![format!("{title}, {size} a transaction")];
            cells.extend(all.iter().map(|numbers| cell(numbers.iter().copied(), 0)));
            let (ours, others) = all.split_first().context("nobody was measured")?;
            let ratio = |(round, ours): (usize, &f64)| {
                let others = others.iter().filter_map(|numbers| numbers.get(round).copied());
                let best = if more_is_better { others.max_by(f64::total_cmp) } else { others.min_by(f64::total_cmp) };
                Some(ours / best?)
            };
            cells.push(cell(ours.iter().enumerate().filter_map(ratio), 2));
            rows.push(cells);
            Ok(())
        };
        row("acknowledged, events/s", |found| Some(found.acknowledged), true)?;
        row("all are Communications, events/s", |found| found.carried, true)?;
        row("ms of CPU for 1,000 events", |found| Some(found.cpu), false)?;
    }
    let mut memory = vec!["MiB at the end".to_owned()];
    for subject in subjects {
        memory.push(format!("{:.0}", subject.memory()?));
    }
    memory.push("–".to_owned());
    rows.push(memory);
    page.table("Taking in what the homeserver sends", &heads, &rows);
    Ok(())
}
