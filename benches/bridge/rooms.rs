//! Ten, a thousand, ten thousand threads: what the bridge needs for them, and how fast it stays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Options,
    latency::{self, THREAD},
    network::{Lab, until},
    process,
    report::{Page, cell},
};

/// Requests under way at once.
const AT_ONCE: usize = 8;

pub async fn measure(lab: &mut Lab, options: &Options, page: &mut Page) -> Result<()> {
    let room = lab.shared_thread(THREAD).await?;
    let mut rows = Vec::new();
    for wanted in [10, 1000, 10_000].into_iter().filter(|wanted| *wanted <= options.rooms) {
        let (before, start) = (lab.threads().await?, Instant::now());
        fill(lab, wanted).await?;
        let made = lab.threads().await? - before;
        let each = start.elapsed().as_secs_f64() * 1000.0 / made.max(1) as f64;
        let started = restart(lab).await?;
        // A bridge that starts looks for what it missed, in every thread.
        let start = Instant::now();
        lab.at_rest().await?;
        let looked = start.elapsed();
        eprintln!("{wanted} threads: start {started:.1?}, looked everywhere after {looked:.1?}");
        let (mut rates, mut times) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            rates.push(throughput(lab, wanted, options.number(200, 10)).await?);
            times.push(latency::pairs(lab, &room, options.number(10, 2)).await?);
        }
        let memory = process::memory_of(lab.process()?)? as f64 / 1024.0;
        eprintln!("{wanted} threads: {memory:.0} MiB, {:.0} messages/s", rates.first().copied().unwrap_or_default());
        rows.push(vec![
            wanted.to_string(),
            if made > 0 { format!("{each:.0}") } else { "–".to_owned() },
            format!("{:.2}", started.as_secs_f64()),
            format!("{:.1}", looked.as_secs_f64()),
            cell(rates, 0),
            latency::millis(&times),
            cell(times.iter().map(|times| times.ratio(0.5)), 2),
            format!("{memory:.0}"),
        ]);
    }
    let heads = [
        "threads",
        "ms to make one",
        "start, s",
        "looked everywhere, s",
        "messages/s",
        "p50 to /sync elsewhere, ms",
        "FHIR / client",
        "MiB",
    ];
    page.table("Many threads", &heads, &rows);
    Ok(())
}

/// Makes threads until there are so many.
async fn fill(lab: &Lab, wanted: usize) -> Result<()> {
    let (there, start) = (lab.threads().await?, Instant::now());
    let ids: Vec<String> = (there..wanted).map(|number| format!("many-{number}")).collect();
    // The homeserver is the one that needs time; the bridge is not to hold all of it at once.
    for (piece, some) in ids.chunks(100).enumerate() {
        stream::iter(some)
            .map(|id| async move { lab.write_thread(id, &[]).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let target = there + piece * 100 + some.len();
        until("the rooms are made", async || Ok((lab.threads().await? >= target).then_some(()))).await?;
        eprintln!("{target} threads after {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Ends the bridge; the time from its next process to its being well.
async fn restart(lab: &Lab) -> Result<Duration> {
    let old = lab.process()?;
    let id = rustix::process::Pid::from_raw(i32::try_from(old)?).context("no process")?;
    rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
    until("another bridge is started", async || Ok(lab.process().ok().filter(|new| *new != old))).await?;
    let start = Instant::now();
    until("the bridge is well", async || Ok(lab.is_well().await.then_some(()))).await?;
    Ok(start.elapsed())
}

/// Messages a second from FHIR into rooms, over as many threads as there are messages.
async fn throughput(lab: &Lab, threads: usize, count: usize) -> Result<f64> {
    let before = lab.messages().await?;
    let known = lab.threads_at_hand(threads.min(count)).await?;
    let start = Instant::now();
    stream::iter((0..count).map(|number| &known[number % known.len()]))
        .map(|thread| async move { lab.post(thread, "Mevrouw heeft goed geslapen.").await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let wanted = before + count as u64;
    until("the messages are in their rooms", async || Ok((lab.messages().await? >= wanted).then_some(()))).await?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
