//! Events that the homeserver did not push, found and read back.
//!
//! Synapse does not push everything:
//! * When 100 or more events of other homeservers wait for one room, it drops all but the newest. `/messages` has them.
//! * When it is killed it forgets what it was about to push: it notes how far it got before the transaction is stored.
//! * After a restart it goes on pushing only when something new happens, anywhere.
//!
//! None of this can be seen in what it does push, and what comes later hides it. So the bridge keeps, for every
//! conversation, a place in the homeserver's stream up to which it knows everything. A *look* reads the room forwards
//! from there, takes what is not known, and moves the place on. There is one in every conversation when the homeserver
//! is back from an absence or was restarted, soon after events of other homeservers, and some time after any event.
//!
//! What stands before an event (`prev_events`) and is not known was dropped: the room is read backwards until it is
//! found. What is found so late has no place in the stream of its own.
//!
//! Rooms that stand for nothing are looked at as well, since people speak with the bot there: direct chats above all.
//! What was said before the bridge came is not its business, so nothing is wanted that stands further back. Where no
//! place is known, the newest page is read, and of that what is not older than a command may be.

use std::{collections::HashSet, time::Duration};

use ruma::RoomId;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Done, Engine, Trouble, obey::STALE, room_id, work};
use crate::{
    bridge::{
        identity::Kind,
        store::{Change, NewWork, Side, now},
    },
    matrix::{
        Error, Event,
        intent::{Direction, Format},
        transaction::Outline,
    },
};

/// Events on the first page: mostly there is nothing to find.
const FIRST_PAGE: u32 = 20;
/// Events on further pages.
const PAGE: u32 = 200;
/// Pages that are read back at most in one look.
const PAGES: usize = 200;
/// Rooms among which invitations are asked for: the homeserver tells of all of them at once.
const INVITED_AMONG: usize = 2000;
/// Looks in a row while the homeserver still fetches what it lacks itself.
const LOOKS: u32 = 10;

/// A look for missed events.
#[derive(Debug, Serialize, Deserialize)]
struct Look {
    room_id: String,
    number: u32,
    /// Events that others name as standing before them.
    #[serde(default)]
    wanted: Vec<String>,
}

// === impl Engine ===

impl Engine {
    /// Looks at every conversation: after an absence nobody knows what was not pushed.
    pub(super) async fn look_everywhere(&self) -> Result<(), Trouble> {
        let rooms = self.store.rooms().await?;
        let mut looks = vec![Change::Soon(work(Side::Matrix, "invitations", "invitations", &())?)];
        for link in &rooms {
            let is_conversation = link.place.starts_with(Kind::CommunicationRequest.name());
            if is_conversation || self.settings.team_follows_space {
                looks.push(Change::Soon(self.gap_work(&link.room_id)));
            }
            if is_conversation {
                looks.push(Change::Soon(self.receipts_work(&link.room_id)?));
            }
        }
        for some in looks.chunks(1000) {
            self.commit(some.to_vec()).await?;
        }
        Ok(())
    }

    /// Looks at the rooms in which the bridge's own user is without their standing for anything, and takes the
    /// invitations that it has not answered; which ones are known, the store knows.
    ///
    /// Ghosts need none of this: they accept when they have something to say.
    pub(super) async fn catch_up_on_invitations(&self) -> Done {
        let rooms = self.store.rooms().await?;
        let known: HashSet<&str> = rooms.iter().map(|link| link.room_id.as_str()).collect();
        let joined = self.homeserver.bot().joined_rooms().await?;
        let others = joined.iter().map(|room| room.as_str()).filter(|room| !known.contains(room));
        let mut changes: Vec<Change> = others.map(|room| Change::Soon(self.gap_work(room))).collect();
        if rooms.len() > INVITED_AMONG {
            let rooms = rooms.len();
            info!(rooms, "the homeserver is not asked for invitations that it did not push: there are too many rooms");
            return Ok(changes);
        }
        match self.homeserver.bot().invitations().await {
            Ok(found) => changes.extend(found.iter().flat_map(|event| self.take(event))),
            Err(error @ Error::Unreachable { .. }) => return Err(error.into()),
            Err(error) => info!(%error, "the homeserver does not tell of invitations that it did not push"),
        }
        Ok(changes)
    }

    /// A look at a room soon: something may be missing.
    pub(super) fn gap_work(&self, room: &str) -> NewWork {
        self.look_for(room, 0, Vec::new())
    }

    /// A look at a room some time after an event that was pushed.
    pub(super) fn patrol_work(&self, room: &str) -> NewWork {
        let soon = self.gap_work(room);
        NewWork { lane: format!("patrol {room}"), delay: Duration::from_secs(self.settings.patrol_seconds), ..soon }
    }

    fn look_for(&self, room: &str, number: u32, wanted: Vec<String>) -> NewWork {
        let look = Look { room_id: room.to_owned(), number, wanted };
        NewWork {
            side: Side::Matrix,
            lane: format!("gap {room}"),
            kind: "gap",
            payload: serde_json::to_string(&look).unwrap_or_default(),
            delay: Duration::from_secs(self.settings.gap_seconds),
        }
    }

    /// Looks at a room until nothing is missing.
    pub(super) async fn fill_gap(&self, payload: &str) -> Done {
        let look: Look = serde_json::from_str(payload)?;
        let room = room_id(&look.room_id)?;
        if self.store.place_of(room.as_str()).await?.is_none() {
            return self.look_for_words(&room).await;
        }
        let name = place_in(&room);
        let place = self.store.cursor(&name).await?;
        // The next look begins where this one began: nothing falls between them.
        let bot = self.homeserver.bot();
        let newest = bot.messages(&room, None, Direction::Backward, FIRST_PAGE, Format::Federation).await?;
        let mut wanted = look.wanted;
        let is_known = match place {
            Some(place) => self.read_on(&room, place, &mut wanted).await?,
            None => false,
        };
        let mut changes = vec![Change::Cursor { name, value: in_stream(newest.start) }];
        changes.extend(self.tie(&room, &newest.events).await?);
        if is_known && wanted.is_empty() {
            return Ok(changes);
        }
        let (missed, wanted) = self.read_back(&room, wanted, !is_known).await?;
        if !missed.is_empty() {
            warn!(%room, events = missed.len(), "events that the homeserver did not push were read back");
        }
        changes.extend(missed.iter().flat_map(|event| self.take(event)));
        if (!missed.is_empty() || !wanted.is_empty()) && look.number < LOOKS {
            let key = format!("gap {room} {} {}", look.number + 1, now());
            changes.push(Change::Once { key, work: self.look_for(room.as_str(), look.number + 1, wanted) });
        } else if !wanted.is_empty() {
            info!(%room, "the homeserver itself does not know all events of the room");
        }
        Ok(changes)
    }

    /// Looks at a room that stands for nothing, for words that are meant for the bot.
    async fn look_for_words(&self, room: &RoomId) -> Done {
        if !self.is_in(room).await? {
            return Ok(Vec::new());
        }
        let name = place_in(room);
        let place = self.store.cursor(&name).await?;
        let limit = if place.is_some() { FIRST_PAGE } else { PAGE };
        let newest = self.homeserver.bot().messages(room, None, Direction::Backward, limit, Format::Client).await?;
        let is_known = match place {
            Some(place) => self.read_on(room, place, &mut Vec::new()).await?,
            None => false,
        };
        let mut changes = vec![Change::Cursor { name, value: in_stream(newest.start) }];
        if !is_known {
            let (mut missed, _) = self.sort_out(&newest.events).await?;
            missed.retain(|event| event.outline().is_ok_and(is_fresh));
            changes.extend(missed.into_iter().rev().flat_map(|event| self.take(event)));
        }
        Ok(changes)
    }

    /// Takes what is not known of a room from a place in the stream on, and adds what stands before it to `wanted`.
    /// `false`: the homeserver does not know the place.
    async fn read_on(&self, room: &RoomId, place: String, wanted: &mut Vec<String>) -> Result<bool, Trouble> {
        let bot = self.homeserver.bot();
        let (mut from, mut taken) = (place, 0);
        loop {
            let page = bot.messages(room, Some(&from), Direction::Forward, PAGE, Format::Federation).await;
            let page = match page.map_err(Trouble::from) {
                Err(Trouble::Refused(reason)) => {
                    warn!(%room, reason, "the homeserver does not know the place up to which a room was read");
                    return Ok(false);
                }
                page => page?,
            };
            // In the order in which they stand in the room: what stands before an event is on a page before, or known.
            let (missed, before) = self.sort_out(&page.events).await?;
            taken += missed.len();
            wanted.extend(before);
            self.commit(missed.into_iter().flat_map(|event| self.take(event)).collect()).await?;
            match page.end {
                Some(end) if !page.events.is_empty() && end != from => from = end,
                _ => break,
            }
        }
        if taken > 0 {
            info!(%room, events = taken, "events were read that had not been pushed");
        }
        Ok(true)
    }

    /// Of a page of events those that are not known, and what stands before them all and is neither here nor known.
    async fn sort_out<'a>(&self, events: &'a [Event]) -> Result<(Vec<&'a Event>, Vec<String>), Trouble> {
        let outlines = || events.iter().filter_map(|event| event.outline().ok());
        let ids: Vec<String> = outlines().map(|outline| outline.event_id.to_string()).collect();
        let here: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let before: HashSet<String> = outlines()
            .flat_map(|outline| outline.prev_events.iter().map(ToString::to_string))
            .filter(|event| !here.contains(event.as_str()))
            .collect();
        let before = self.store.unknown_events(before.into_iter().collect()).await?;
        let unknown: HashSet<String> = self.store.unknown_events(ids).await?.into_iter().collect();
        let is_new = |event: &&Event| event.outline().is_ok_and(|outline| unknown.contains(outline.event_id.as_str()));
        Ok((events.iter().filter(is_new).collect(), before))
    }

    /// The events that did not arrive, oldest first, and those that the homeserver seems to lack as well. `all`: from
    /// the beginning of the room on, else from where nothing is missing any more.
    async fn read_back(
        &self,
        room: &RoomId,
        wanted: Vec<String>,
        all: bool,
    ) -> Result<(Vec<Event>, Vec<String>), Trouble> {
        let bot = self.homeserver.bot();
        let (mut from, mut missed) = (None, Vec::new());
        let mut seen = HashSet::new();
        let mut wanted: HashSet<String> = wanted.into_iter().collect();
        for number in 0..PAGES {
            let limit = if number == 0 && !all { FIRST_PAGE } else { PAGE };
            let page = bot.messages(room, from.as_deref(), Direction::Backward, limit, Format::Federation).await?;
            let (new, before) = self.sort_out(&page.events).await?;
            let outlines = page.events.iter().filter_map(|event| event.outline().ok());
            seen.extend(outlines.map(|outline| outline.event_id.to_string()));
            let is_quiet = new.is_empty();
            missed.extend(new.into_iter().cloned());
            wanted.extend(before);
            wanted.retain(|event| !seen.contains(event));
            if !all && is_quiet && wanted.is_empty() {
                break;
            }
            match page.end {
                Some(end) if !page.events.is_empty() => from = Some(end),
                _ => break,
            }
        }
        missed.reverse();
        let wanted = self.store.unknown_events(wanted.into_iter().collect()).await?;
        Ok((missed, wanted))
    }
}

/// Whether something was said so lately that a command is still done.
fn is_fresh(outline: &Outline) -> bool {
    now() - i64::from(outline.origin_server_ts.get()) <= STALE
}

/// The name of the cursor that says up to where a room is known.
pub(super) fn place_in(room: &RoomId) -> String {
    format!("room {room}")
}

/// The place in the order of arrival that a place in a room stands for.
///
/// Synapse's tokens for `/messages` (`t358-522_0_0`) name a depth in the room and a place in the stream, and reading on
/// from them leaves out what came later and stands deeper: what people of other homeservers say while more is said here.
/// From `s522_0_0` on everything is read that arrived later. Tokens of other homeservers are used as they are.
pub(super) fn in_stream(token: String) -> String {
    let stream = |token: &str| {
        let (depth, rest) = token.strip_prefix('t')?.split_once('-')?;
        let place = rest.split('_').next()?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number(depth) && is_number(place)).then(|| format!("s{rest}"))
    };
    stream(&token).unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::in_stream;

    #[test]
    fn a_place_in_a_room_of_synapse_becomes_one_in_its_stream() {
        assert_eq!(in_stream("t358-522_0_0".to_owned()), "s522_0_0");
        for other in ["s522_0_0", "t358", "t1-m5~2.7_0", "token-1_0"] {
            assert_eq!(in_stream(other.to_owned()), other);
        }
    }
}
