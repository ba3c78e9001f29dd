//! Who works on which lane, when it is tried again, and when somebody has to look at it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, warn};

use super::{Done, Engine, Trouble};
use crate::{
    bridge::store::{Change, Lease, Millis, Side, StoreError, Work, now},
    service::trace::Trace,
};

/// How long a lane is leased; it is renewed while work goes on.
const LEASE: Duration = Duration::from_secs(60);
/// Work of a lane that is done before others get their turn.
const TURN: usize = 64;
/// Work that is read at a time.
const HEAD: usize = 16;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often lanes are looked at where no bell rings: back-offs end, other processes add work.
const LOOK: Duration = Duration::from_millis(500);

/// Whether a server answers.
#[derive(Default)]
pub struct Presence(Mutex<Option<Absence>>);

/// Since when and why a server does not answer.
#[derive(Clone, Debug)]
pub struct Absence {
    /// Since when.
    pub since: Instant,
    /// What it said last.
    pub reason: String,
    /// How often in a row.
    pub failures: u32,
}

// === impl Presence ===

impl Presence {
    /// The absence, if the server is away.
    pub fn absence(&self) -> Option<Absence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note that the server answers. Says whether that is news.
    pub fn here(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Takes note that the server does not answer.
    pub fn away(&self, trouble: &Trouble) {
        let mut absence = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, failures) = absence.as_ref().map_or((Instant::now(), 0), |known| (known.since, known.failures));
        *absence = Some(Absence { since, reason: trouble.to_string(), failures: failures + 1 });
    }
}

// === impl Engine ===

impl Engine {
    /// Works for one side until `stop`.
    pub(super) async fn work(self: Arc<Self>, side: Side, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(self.settings.workers));
        while !stop.is_cancelled() {
            // While a server is away nothing is tried there; whoever asks after it says when it is back.
            let limit = if self.presence(side).absence().is_some() { 0 } else { free.available_permits() };
            let claimed = match limit {
                0 => Ok(Vec::new()),
                limit => self.store.claim(side, limit, now(), in_future(LEASE)).await,
            };
            let leases = claimed.unwrap_or_else(|error| {
                warn!(%error, "no work can be claimed");
                Vec::new()
            });
            let found = !leases.is_empty();
            for lease in leases {
                let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
                let (engine, stop) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    engine.work_on(lease, stop).await;
                    drop(permit);
                    engine.bell[side as usize].notify_one();
                });
            }
            if !found {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.bell[side as usize].notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
        // Lanes in hand come to an end before the process does.
        let _ = free.acquire_many(u32::try_from(self.settings.workers).unwrap_or(u32::MAX)).await;
    }

    /// Works on a lane until it is empty, its turn is over, or something comes between.
    async fn work_on(&self, lease: Lease, stop: CancellationToken) {
        let (next_try, suspect) = tokio::select! {
            ended = self.take_turn(&lease, &stop) => match ended {
                Ok(Ended::Turn) => (0, false),
                Ok(Ended::Pause(pause)) => (in_future(pause), true),
                Err(error) => {
                    warn!(%error, lane = lease.lane, "the state store failed; the lane waits");
                    (in_future(LONGEST_PAUSE), true)
                }
            },
            () = self.keep(&lease) => (0, true),
        };
        let release = Change::Release { lease, next_try, suspect };
        if let Err(error) = self.store.commit(vec![release]).await {
            warn!(%error, "a lease could not be given back; it runs out");
        }
    }

    /// Renews a lease for as long as it is polled.
    async fn keep(&self, lease: &Lease) {
        let mut beats = tokio::time::interval(LEASE / 3);
        beats.tick().await;
        loop {
            beats.tick().await;
            let renew = Change::Renew { lease: lease.clone(), until: in_future(LEASE) };
            if self.store.commit(vec![renew]).await.is_err() {
                return;
            }
        }
    }

    async fn take_turn(&self, lease: &Lease, stop: &CancellationToken) -> Result<Ended, StoreError> {
        let mut suspect = lease.suspect;
        let (mut done, mut set_aside) = (0, false);
        while done < TURN && !stop.is_cancelled() {
            let head = self.store.head(lease.side, &lease.lane, HEAD).await?;
            if head.is_empty() {
                return Ok(Ended::Turn);
            }
            for work in head {
                let outcome = self.handle(&work, suspect).await;
                done += 1;
                match self.settle_work(lease, &work, outcome).await? {
                    After::Next if !set_aside && !stop.is_cancelled() => suspect = false,
                    After::Next => {
                        suspect = false;
                        // What was set aside may stand before the rest again.
                        break;
                    }
                    After::SetAside => {
                        set_aside = true;
                        break;
                    }
                    After::Pause(pause) => return Ok(Ended::Pause(pause)),
                }
            }
        }
        Ok(Ended::Turn)
    }

    /// Stores what came of work, and says how the lane goes on.
    async fn settle_work(&self, lease: &Lease, work: &Work, outcome: Done) -> Result<After, StoreError> {
        let seq = work.seq;
        match outcome {
            Ok(mut changes) => {
                changes.push(Change::Done { seq });
                self.commit(changes).await?;
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.lane);
                Ok(After::Next)
            }
            Err(Trouble::Wait(need)) => {
                info!(lane = lease.lane, kind = work.kind, need = need.key(), "work waits");
                self.commit(vec![Change::Wait { seq, need }]).await?;
                Ok(After::SetAside)
            }
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Again(_)) => Ok(After::Pause(back_off(1))),
            Err(trouble @ Trouble::Away { .. }) => {
                let Trouble::Away { side, .. } = &trouble else { return Ok(After::Pause(LOOK)) };
                if self.presence(*side).absence().is_none() {
                    warn!(lane = lease.lane, kind = work.kind, %trouble, "a server is away; work waits for it");
                }
                self.presence(*side).away(&trouble);
                Ok(After::Pause(LOOK))
            }
            Err(Trouble::Busy { reason, retry_after }) => {
                let failures = self.count_failure(&lease.lane);
                info!(lane = lease.lane, kind = work.kind, failures, reason, "work is tried again");
                Ok(After::Pause(retry_after.unwrap_or_else(|| back_off(failures)).min(LONGEST_PAUSE)))
            }
            Err(Trouble::Refused(reason)) => {
                let tries = work.attempts + 1;
                warn!(lane = lease.lane, kind = work.kind, tries, reason, "work was refused");
                if tries >= self.settings.tries {
                    self.commit(vec![Change::Park { seq, reason }]).await?;
                    return Ok(After::Next);
                }
                self.commit(vec![Change::Refused { seq, reason }]).await?;
                Ok(After::Pause(back_off(tries)))
            }
        }
    }

    /// How often in a row a lane could not go on.
    fn count_failure(&self, lane: &str) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(lane.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Does one piece of work as a step of its trace. `suspect`: it may have been done already.
    async fn handle(&self, work: &Work, suspect: bool) -> Done {
        let (trace, payload) = Trace::unstamp(&work.payload);
        let trace = trace.unwrap_or_else(Trace::fresh);
        let span = tracing::info_span!("work", trace_id = trace.id(), span_id = trace.span(), kind = work.kind);
        // Of all that may be done the largest counts; a worker does not carry it on its stack.
        trace.scope(Box::pin(self.carry_out(work, payload, suspect)).instrument(span)).await
    }

    async fn carry_out(&self, work: &Work, payload: &str, suspect: bool) -> Done {
        debug!(seq = work.seq, suspect, "work begins");
        match work.kind.as_str() {
            "CareTeam" => self.apply_team(payload).await,
            "CommunicationRequest" => self.apply_request(payload, suspect).await,
            "Communication" => self.speak(payload, suspect).await,
            "Task" => self.apply_task(payload).await,
            "person" => self.apply_person(payload).await,
            "borrower" => self.apply_borrower(payload).await,
            "members" => self.apply_members(payload).await,
            "notice" => self.post_notice(payload).await,
            "gap" => self.fill_gap(payload).await,
            "invitation" => self.answer_invitation(payload).await,
            "command" => self.obey(payload).await,
            "answer" => self.answer(payload, suspect).await,
            "event" => self.listen(payload, suspect).await,
            "receipt" => self.mark_read(payload, work).await,
            "reading" => self.move_tasks(payload).await,
            "written" => self.write_back(payload).await,
            "malformed" => Err(Trouble::Refused("an event that cannot be understood".to_owned())),
            other => Err(Trouble::Refused(format!("no such work: {other}"))),
        }
    }
}

/// How a lane goes on after a piece of work.
enum After {
    /// With the next one.
    Next,
    /// With whatever stands at its head now: the work was set aside.
    SetAside,
    /// After a pause.
    Pause(Duration),
}

/// How a turn ended.
enum Ended {
    /// The lane is empty, or others are next.
    Turn,
    /// It needs a pause.
    Pause(Duration),
}

fn in_future(time: Duration) -> Millis {
    now().saturating_add(Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX))
}

/// The pause after so many failures: from half a second to half a minute, doubled each time, of which a random half
/// is left out so that lanes do not come all at once.
pub(super) fn back_off(failures: u32) -> Duration {
    let full = Duration::from_millis(500).saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let mut byte = [0; 1];
    let random = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    let share = if random.is_ok() { u32::from(byte[0]) } else { 128 };
    full / 2 + full / 2 * share / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_growing() {
        for (failures, least, most) in [(1, 250, 500), (2, 500, 1000), (5, 4000, 8000), (40, 15_000, 30_000)] {
            let pause = back_off(failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
    }
}
