//! Units of work through the queue: taken in, claimed, done. On SQLite and on PostgreSQL.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use care_federation::{
    bridge::store::{Change, Mode, NewWork, Side, SqlStore, Store},
    service::database,
};
use futures_util::future::try_join_all;

use crate::{
    Options, postgres,
    report::{Page, cell},
};

/// Who writes at the same time, each into a lane of its own.
const WRITERS: usize = 64;
/// Who works at the same time.
const WORKERS: usize = 8;
/// How long a lane is leased.
const LEASE: Duration = Duration::from_secs(60);

pub async fn measure(options: &Options, page: &mut Page) -> Result<()> {
    let units = options.number(100, 2);
    let mut rows = Vec::new();
    for name in ["SQLite, WAL, synchronous = FULL", "PostgreSQL, fsync on"] {
        let (mut taken, mut done) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
            let store = if name.starts_with("SQLite") {
                SqlStore::open(&directory.path().join("bridge.sqlite"), Mode::Serve).await?
            } else {
                SqlStore::connect(&server()?, Mode::Serve).await?
            };
            let found = once(Arc::new(store), units).await?;
            eprintln!("queue, round {round}, {name}: {:.0}/s in, {:.0}/s done", found.0, found.1);
            taken.push(found.0);
            done.push(found.1);
        }
        rows.push(vec![name.to_owned(), cell(taken, 0), cell(done, 0)]);
    }
    page.table("The queue", &["", "taken in, units/s", "done, units/s"], &rows);
    Ok(())
}

/// The server, with a new database.
fn server() -> Result<Arc<database::Server>> {
    // Nobody else in this program says what it is to be.
    _ = postgres::FSYNC.set("on");
    let url = Some(postgres::fresh_database());
    Ok(database::Server::new(&database::Settings { url, ..database::Settings::default() })?)
}

/// Units a second taken in and done.
async fn once(store: Arc<SqlStore>, units: usize) -> Result<(f64, f64)> {
    let start = Instant::now();
    let write = |writer: usize| {
        let store = &store;
        async move {
            for number in 0..units {
                let (lane, event_id) = (format!("!room-{writer}"), format!("$event-{writer}-{number}"));
                let payload = "x".repeat(400);
                let work =
                    NewWork { side: Side::Fhir, lane: lane.clone(), kind: "bench", payload, delay: Duration::ZERO };
                store.commit(vec![Change::TakeEvent { event_id, room_id: lane, work: Some(work) }]).await?;
            }
            anyhow::Ok(())
        }
    };
    try_join_all((0..WRITERS).map(write)).await?;
    let taken = start.elapsed();
    let start = Instant::now();
    try_join_all((0..WORKERS).map(|_| work(&store))).await?;
    let done = start.elapsed();
    ensure!(store.overview().await?.ready == [0, 0], "work is left");
    let all = (WRITERS * units) as f64;
    Ok((all / taken.as_secs_f64(), all / done.as_secs_f64()))
}

/// Works lanes off until there is none: one commit a unit, as the engine does.
async fn work(store: &SqlStore) -> Result<()> {
    loop {
        let leases = store.claim(Side::Fhir, 1, LEASE).await?;
        let Some(lease) = leases.into_iter().next() else { return Ok(()) };
        for work in store.head(Side::Fhir, &lease.lane, usize::MAX >> 1).await? {
            store.commit(vec![Change::Under(lease.clone()), Change::Done { seq: work.seq }]).await?;
        }
        store.commit(vec![Change::Release { lease, pause: Duration::ZERO, suspect: false }]).await?;
    }
}
