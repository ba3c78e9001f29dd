//! Who is writing: a Communication in preparation shows its sender as typing.
//!
//! A FHIR client that wants it writes a Communication with the status `preparation` when somebody begins to write, and
//! completes it, or gives it up, when they end. Nothing of its content is shown before. Typing is of the moment: it is
//! not stored, does not wait, and a draft that is forgotten stops to show after a while. The other way nothing is
//! written: that somebody types in Matrix is nothing that FHIR knows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Engine, Trouble, room_id};
use crate::{
    bridge::{
        identity::Instance,
        mapping::{message, thread},
        store::now,
    },
    fhir::{
        id::Key,
        resources::{Communication, EventStatus, Resource},
    },
};

/// How long a draft shows after it was last written.
const DRAFT: Duration = Duration::from_secs(5 * 60);
/// How often typing is said again; each time it lasts twice as long.
const AGAIN: Duration = Duration::from_secs(15);

/// Drafts that show.
#[derive(Default)]
pub(super) struct Drafts {
    open: Mutex<HashMap<Key, Draft>>,
    changed: Notify,
}

#[derive(Clone)]
struct Draft {
    request: Instance,
    sender: Instance,
    until: Instant,
}

// === impl Engine ===

impl Engine {
    /// Takes note of a Communication: whether its sender is writing.
    pub(super) fn note_draft(&self, resource: &Resource, communication: &Communication) {
        let Some(key) = resource.key() else { return };
        let mut open = self.drafts.open.lock().unwrap_or_else(PoisonError::into_inner);
        match draft(resource, communication) {
            Some(draft) => drop(open.insert(key, draft)),
            None => match open.get_mut(&key) {
                // It is over; whoever shows it takes it away.
                Some(draft) => draft.until = Instant::now(),
                None => return,
            },
        }
        drop(open);
        self.drafts.changed.notify_one();
    }

    /// Shows who is writing, until `stop`.
    pub(super) async fn show_typing(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let open: Vec<(Key, Draft)> = {
                let open = self.drafts.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.iter().map(|(key, draft)| (key.clone(), draft.clone())).collect()
            };
            for (key, draft) in &open {
                if let Err(trouble) = self.show(key, draft).await {
                    debug!(%trouble, "that somebody is writing cannot be shown");
                }
            }
            let again =
                async { if open.is_empty() { std::future::pending().await } else { tokio::time::sleep(AGAIN).await } };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.drafts.changed.notified() => {}
                () = again => {}
            }
        }
    }

    async fn show(&self, key: &Key, draft: &Draft) -> Result<(), Trouble> {
        // Another replica may have seen the end of it.
        let writing = Instant::now() < draft.until && self.is_in_preparation(key).await?;
        if !writing {
            let mut open = self.drafts.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.remove(key);
        }
        let Some(link) = self.store.room_of(&draft.request.to_string()).await? else { return Ok(()) };
        let intent = self.speaker(&draft.sender).await?;
        Ok(intent.typing(&room_id(&link.room_id)?, writing.then_some(AGAIN * 2)).await?)
    }

    async fn is_in_preparation(&self, key: &Key) -> Result<bool, Trouble> {
        let current = self.fhir.read(key.kind, &key.id).await?;
        Ok(current.to::<Communication>()?.status == Some(EventStatus::Preparation))
    }
}

/// The draft that a Communication is; `None` when it is none, or an old one.
fn draft(resource: &Resource, communication: &Communication) -> Option<Draft> {
    if communication.status != Some(EventStatus::Preparation) {
        return None;
    }
    let written = resource.last_updated().and_then(|written| written.millis()).unwrap_or_else(now);
    let age = Duration::from_millis(u64::try_from(now().saturating_sub(written)).unwrap_or_default());
    let left = DRAFT.checked_sub(age).filter(|left| !left.is_zero())?;
    let sender = communication.sender.as_ref().and_then(thread::instance).filter(|sender| sender.kind().is_person())?;
    Some(Draft { request: message::request_of(communication)?, sender, until: Instant::now() + left })
}
