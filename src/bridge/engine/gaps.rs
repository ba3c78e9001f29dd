//! Events that the homeserver did not push, found and read back.
//!
//! When 100 or more events of other homeservers wait for one room, Synapse drops all but the newest. They never reach
//! an application service; `/messages` has them. And a homeserver that is killed forgets what it was about to push:
//! Synapse notes how far it got before the transaction is stored (seen as two of sixty events lost in a crash test).
//!
//! So after events of other homeservers, and in every conversation after the homeserver was away, the room is read
//! backwards until a page holds nothing new and every event before it (`prev_events`) is known.

use std::{collections::HashSet, time::Duration};

use ruma::RoomId;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Done, Engine, Trouble, room_id};
use crate::{
    bridge::{
        identity::Kind,
        store::{Change, NewWork, Side, now},
    },
    matrix::{
        Event,
        intent::{Direction, Format},
    },
};

/// Events on the first page: mostly there is nothing to find.
const FIRST_PAGE: u32 = 20;
/// Events on further pages.
const PAGE: u32 = 200;
/// Pages that are read back at most in one look.
const PAGES: usize = 200;
/// Looks in a row while the homeserver still fetches what it lacks itself.
const LOOKS: u32 = 10;

/// A look for missed events.
#[derive(Debug, Serialize, Deserialize)]
struct Look {
    room_id: String,
    number: u32,
}

// === impl Engine ===

impl Engine {
    /// A look at a room, some time after the event that made it.
    pub(super) fn gap_work(&self, room: &str, number: u32) -> NewWork {
        let look = Look { room_id: room.to_owned(), number };
        NewWork {
            side: Side::Matrix,
            lane: format!("gap {room}"),
            kind: "gap",
            payload: serde_json::to_string(&look).unwrap_or_default(),
            delay: Duration::from_secs(self.settings.gap_seconds),
        }
    }

    /// Looks at every conversation: after an absence nobody knows what was not pushed.
    pub(super) async fn look_everywhere(&self) -> Result<(), Trouble> {
        let rooms = self.store.rooms().await?;
        let conversations = rooms.iter().filter(|link| link.place.starts_with(Kind::CommunicationRequest.name()));
        let looks: Vec<Change> = conversations.map(|link| Change::Soon(self.gap_work(&link.room_id, 0))).collect();
        for some in looks.chunks(1000) {
            self.store.commit(some.to_vec()).await?;
        }
        Ok(())
    }

    /// Reads a room back until nothing is missing.
    pub(super) async fn fill_gap(&self, payload: &str) -> Done {
        let look: Look = serde_json::from_str(payload)?;
        let room = room_id(&look.room_id)?;
        if self.store.place_of(room.as_str()).await?.is_none() {
            return Ok(Vec::new());
        }
        let (missed, unknown_before) = self.missed(&room).await?;
        if !missed.is_empty() {
            warn!(%room, events = missed.len(), "events that the homeserver did not push were read back");
        }
        let again = (!missed.is_empty() || unknown_before) && look.number < LOOKS;
        let mut changes: Vec<Change> = missed.iter().flat_map(|event| self.take(event)).collect();
        // What was taken asks for a look of its own; this one counts, so it stands instead.
        changes.retain(|change| !matches!(change, Change::Soon(_)));
        if again {
            let key = format!("gap {room} {} {}", look.number + 1, now());
            changes.push(Change::Once { key, work: self.gap_work(room.as_str(), look.number + 1) });
        } else if unknown_before {
            info!(%room, "the homeserver itself does not know all events of the room");
        }
        Ok(changes)
    }

    /// The events that did not arrive, oldest first, and whether the homeserver seems to lack some as well.
    pub(super) async fn missed(&self, room: &RoomId) -> Result<(Vec<Event>, bool), Trouble> {
        let bot = self.homeserver.bot();
        let (mut from, mut missed) = (None, Vec::new());
        let (mut seen, mut before) = (HashSet::new(), HashSet::new());
        for number in 0..PAGES {
            let limit = if number == 0 { FIRST_PAGE } else { PAGE };
            let page = bot.messages(room, from.as_deref(), Direction::Backward, limit, Format::Federation).await?;
            if page.events.is_empty() {
                break;
            }
            let mut ids = Vec::new();
            for outline in page.events.iter().filter_map(|event| event.outline().ok()) {
                seen.insert(outline.event_id.to_string());
                before.extend(outline.prev_events.iter().map(ToString::to_string));
                ids.push(outline.event_id.to_string());
            }
            let unknown: HashSet<String> = self.store.unknown_events(ids).await?.into_iter().collect();
            let is_new =
                |event: &Event| event.outline().is_ok_and(|outline| unknown.contains(outline.event_id.as_str()));
            missed.extend(page.events.into_iter().filter(is_new));
            before.retain(|event| !seen.contains(event));
            let unknown_before = self.store.unknown_events(before.iter().cloned().collect()).await?;
            if unknown.is_empty() && unknown_before.is_empty() {
                missed.reverse();
                return Ok((missed, false));
            }
            match page.end {
                Some(end) => from = Some(end),
                None => break,
            }
        }
        before.retain(|event| !seen.contains(event));
        let unknown_before = self.store.unknown_events(before.into_iter().collect()).await?;
        missed.reverse();
        Ok((missed, !unknown_before.is_empty()))
    }
}
