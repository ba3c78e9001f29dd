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
    bridge::store::{Change, Lease, Side, StoreError, Work},
    service::trace::Trace,
};

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
            let asked = Instant::now();
            let claimed = match limit {
                0 => Ok(Vec::new()),
                limit => self.store.claim(side, limit, self.settings.lease()).await,
            };
            let leases = claimed.unwrap_or_else(|error| {
                // A database that is away was spoken of already.
                if self.store.absence().is_none() {
                    warn!(%error, "no work can be claimed");
                }
                Vec::new()
            });
            let found = !leases.is_empty();
            for lease in leases {
                let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
                let (engine, stop) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    engine.work_on(lease, asked, stop).await;
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
    async fn work_on(&self, lease: Lease, taken: Instant, stop: CancellationToken) {
        let (pause, suspect) = tokio::select! {
            // Looked at first: a process that stood still must not go on with a lane that is another's by now.
            biased;
            () = self.keep(&lease, taken) => return warn!(lane = lease.lane, "the lease ended; others take the lane"),
            ended = self.take_turn(&lease, &stop) => match ended {
                Ok(Ended::Turn) => (Duration::ZERO, false),
                Ok(Ended::Pause(pause)) => (pause, true),
                Err(StoreError::Lost) => return warn!(lane = lease.lane, "another replica took the lane over"),
                Err(error) => {
                    warn!(%error, lane = lease.lane, "the state store failed; the lane waits");
                    // One that is away is asked after anyway.
                    let is_away = self.store.absence().is_some();
                    (if is_away { LOOK } else { back_off(self.count_failure(&lease.lane)) }, true)
                }
            },
        };
        let release = Change::Release { lease, pause, suspect };
        if let Err(error) = self.store.commit(vec![release]).await {
            warn!(%error, "a lease could not be given back; it runs out");
        }
    }

    /// Renews a lease, which was taken at some moment, for as long as it is polled; comes back when it is lost.
    async fn keep(&self, lease: &Lease, taken: Instant) {
        let lasting = self.settings.lease();
        let (mut until, mut pause) = (taken + lasting, lasting / 3);
        loop {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            if asked >= until {
                return;
            }
            let renew = Change::Renew { lease: lease.clone(), lasting };
            match tokio::time::timeout_at(until.into(), self.store.commit(vec![renew])).await {
                Ok(Ok(())) => (until, pause) = (asked + lasting, lasting / 3),
                Ok(Err(StoreError::Lost)) | Err(_) => return,
                // The store is away; there is time until the lease ends.
                Ok(Err(StoreError::Database(_))) => pause = LOOK,
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
                // What was refused, or parked after a part of it, may have had some effect.
                let outcome = self.handle(&work, suspect || work.tried).await;
                done += 1;
                let outcome = Box::pin(self.or_gone(lease, outcome)).await;
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
        let outcome = match outcome {
            Ok(mut changes) => {
                changes.push(Change::Done { seq });
                self.commit_under(lease, changes).await.map_err(Trouble::from)
            }
            Err(trouble) => Err(trouble),
        };
        match outcome.map_err(Trouble::weighed) {
            Ok(()) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.lane);
                Ok(After::Next)
            }
            Err(Trouble::Wait(need)) => {
                info!(lane = lease.lane, kind = work.kind, need = need.key(), "work waits");
                self.commit_under(lease, vec![Change::Wait { seq, need }]).await?;
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
            Err(Trouble::Hopeless(reason)) => {
                warn!(lane = lease.lane, kind = work.kind, reason, "work is parked until somebody acts");
                self.commit_under(lease, vec![Change::Park { seq, reason }]).await?;
                Ok(After::Next)
            }
            Err(Trouble::Refused(reason)) => {
                let tries = work.attempts + 1;
                warn!(lane = lease.lane, kind = work.kind, tries, reason, "work was refused");
                if tries >= self.settings.tries {
                    self.commit_under(lease, vec![Change::Park { seq, reason }]).await?;
                    return Ok(After::Next);
                }
                self.commit_under(lease, vec![Change::Refused { seq, reason }]).await?;
                Ok(After::Pause(back_off(tries)))
            }
        }
    }

    /// Stores what came of work, unless another replica has the lane by now.
    async fn commit_under(&self, lease: &Lease, mut changes: Vec<Change>) -> Result<(), StoreError> {
        changes.insert(0, Change::Under(lease.clone()));
        self.commit(changes).await
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
        // In a box of its own: all kinds of work are one large future.
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
            "reach" => self.reach(payload).await,
            "participants" => self.look_for_participants(payload).await,
            "notice" => self.post_notice(payload, suspect).await,
            "gap" => self.fill_gap(payload).await,
            "invitations" => self.catch_up_on_invitations().await,
            "invitation" => self.answer_invitation(payload).await,
            "command" => self.obey(payload).await,
            "answer" => self.answer(payload, suspect).await,
            "member" => self.follow_member(payload).await,
            "receipts" => self.catch_up_on_receipts(payload).await,
            "absence" => self.look_at_absence(payload).await,
            "remade" => self.say_remade(payload, suspect).await,
            "turn" => self.take_turn_of_time(payload),
            "event" => self.listen(payload, suspect).await,
            "receipt" => self.mark_read(payload, work).await,
            "reading" => self.move_tasks(payload).await,
            "written" => self.write_back(payload).await,
            "unstored" => Err(unstored(payload)),
            "malformed" => Err(Trouble::Refused("an event that cannot be understood".to_owned())),
            other => Err(Trouble::Refused(format!("no such work: {other}"))),
        }
    }
}

/// An event that the database would not take in.
fn unstored(payload: &str) -> Trouble {
    let event: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
    let named = event.get("event_id").and_then(serde_json::Value::as_str).unwrap_or("?");
    Trouble::Hopeless(format!("the database refused the event {named}; it is in the room, and not on record"))
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
