//! Rooms that are no more, and users who were sent out of them.
//!
//! A homeserver's admin can delete a room; nobody is told. The bridge notices when the room is used next, for which a
//! look for missed events is enough, or when it is made to leave. The place then gets another room. What was said in
//! the old one is on record in FHIR and is not said again; the conversation goes on in the new one.
//!
//! A homeserver that is killed while it makes a room may leave an alias without a room. The alias goes to another room,
//! once it is certain that nobody is making the first one any more; nobody was ever in that, so nobody is told.
//!
//! A room from which people sent the bridge away is another matter: they had a reason. Its work is parked.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use ruma::{RoomAliasId, RoomId};
use serde_json::{Value, json};
use tracing::warn;

use super::{Done, Engine, Trouble, room_id, work};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        store::{Change, Lease, Need, RoomLink, Side},
    },
    fhir::resources::CommunicationRequest,
    matrix::{self, Intent, intent::Membership, rooms::Action},
};

/// For this long a homeserver may be making a room: longer than that takes when it is busy.
const MAKING: Duration = Duration::from_secs(20);
/// Between two questions whether it has made it.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Why something is not said where the sender may not write.
const CLOSED: &str = "the user who speaks for the sender may not write in the room: the conversation is closed; it is said \
                      when that is active again";
/// Work that is put back at once when a conversation is active again.
const SHUT_OUT: usize = 1000;
/// What is said first in a room that stands for one that is gone.
const REMADE: &str = "Het eerdere gesprek is op deze server verwijderd. Wat er gezegd is staat in het dossier; het \
                      gesprek gaat hier verder. / The earlier room was removed from this server. What was said there \
                      is on record; the conversation goes on here.";

/// What the bridge is to a room.
enum Standing {
    Here,
    Gone,
    SentAway,
}

// === impl Engine ===

impl Engine {
    /// What a refusal really means: perhaps a room that the work needs is gone, or the bridge was sent out of it.
    pub(super) async fn or_gone(&self, lease: &Lease, outcome: Done) -> Done {
        let Err(Trouble::Refused(reason)) = outcome else { return outcome };
        if lease.side != Side::Matrix {
            return Err(Trouble::Refused(reason));
        }
        for link in self.rooms_behind(&lease.lane).await? {
            match self.standing(&room_id(&link.room_id)?).await? {
                Standing::Here => {}
                Standing::Gone => return Err(self.forget(&link).await?),
                Standing::SentAway => {
                    let bot = self.homeserver.bot_id();
                    return Err(Trouble::Hopeless(format!(
                        "{bot} was sent out of the room of {}; invite it there again, then retry",
                        link.place
                    )));
                }
            }
        }
        Err(Trouble::Refused(reason))
    }

    /// The bridge's own user is no longer in a room.
    pub(super) async fn look_at_absence(&self, payload: &str) -> Done {
        let room: String = serde_json::from_str(payload)?;
        if let Some(link) = self.store.place_of(&room).await?
            && matches!(self.standing(&room_id(&link.room_id)?).await?, Standing::Gone)
        {
            return Err(self.forget(&link).await?);
        }
        Ok(Vec::new())
    }

    /// The first words in a room that stands for one that is gone. `suspect`: they may have been said already.
    pub(super) async fn say_remade(&self, payload: &str, suspect: bool) -> Done {
        let before: RoomLink = {
            let (place, room_id): (String, String) = serde_json::from_str(payload)?;
            RoomLink { room_id, place }
        };
        let Some(link) = self.store.room_of(&before.place).await? else {
            return Err(Trouble::Wait(Need::Room(before.place)));
        };
        let name = format!("remade {}", before.room_id);
        self.announce(&room_id(&link.room_id)?, &name, REMADE, suspect).await
    }

    /// Why a user could not say something: banned, they cannot until somebody lifts the ban.
    /// And in a conversation that is closed, until it is open again.
    pub(super) async fn barred(&self, intent: &Intent, room: &RoomId, error: matrix::Error) -> Trouble {
        if !error.is_forbidden() {
            return error.into();
        }
        let bot = self.homeserver.bot();
        if matches!(bot.membership(room, intent.user_id()).await, Ok(Membership::Ban)) {
            return Trouble::Hopeless(
                "the user who speaks for the sender is banned from the room; lift the ban, then retry".to_owned(),
            );
        }
        match bot.authority(room).await {
            Ok(authority) if !authority.may(intent.user_id(), Action::Send("m.room.message")) => {
                Trouble::Hopeless(CLOSED.to_owned())
            }
            _ => error.into(),
        }
    }

    /// Puts back what was not said because the conversation was closed.
    pub(super) async fn say_what_was_shut_out(&self, place: &Instance) -> Done {
        let held = self.store.held_after(Some(vec![place.to_string()]), 0, SHUT_OUT).await?;
        let shut_out = held.iter().filter(|work| work.parked && work.reason == CLOSED);
        Ok(shut_out.map(|work| Change::Retry { seq: Some(work.seq) }).collect())
    }

    /// The rooms that work in a lane needs: its own, and the space around it.
    async fn rooms_behind(&self, lane: &str) -> Result<Vec<RoomLink>, Trouble> {
        // A lane is named after a resource or a room, some with a word before it.
        let name = lane.rsplit(' ').next().unwrap_or_default();
        let own = match self.store.place_of(name).await? {
            Some(link) => Some(link),
            None => self.store.room_of(name).await?,
        };
        let place = own.as_ref().map_or(name, |link| link.place.as_str());
        let space = match Instance::parse(place) {
            Ok(place) if place.kind() == Kind::CommunicationRequest => self.space_of(&place).await?,
            _ => None,
        };
        Ok(own.into_iter().chain(space).collect())
    }

    async fn space_of(&self, request: &Instance) -> Result<Option<RoomLink>, Trouble> {
        let Some(resource) = self.resource_of(request).await? else { return Ok(None) };
        match self.circle(&resource.to::<CommunicationRequest>()?).await?.team {
            Some(team) => Ok(self.store.room_of(&team.to_string()).await?),
            None => Ok(None),
        }
    }

    /// Whether a room that has a place's alias is none to speak in: its homeserver gave it the alias and was killed
    /// before it made the room, or the room was deleted and only its alias stayed.
    ///
    /// # Errors
    /// Busy as long as the homeserver may still be making it.
    pub(super) async fn is_hollow(&self, room: &RoomId) -> Result<bool, Trouble> {
        let is_gone = matches!(self.standing(room).await?, Standing::Gone);
        let mut hollow = self.hollow.lock().unwrap_or_else(PoisonError::into_inner);
        if is_gone && hollow.entry(room.to_owned()).or_insert_with(Instant::now).elapsed() < MAKING {
            let reason = "the homeserver has an alias for a room that it has not made yet".to_owned();
            return Err(Trouble::Busy { reason, retry_after: Some(ASK_AGAIN) });
        }
        hollow.remove(room);
        Ok(is_gone)
    }

    /// Takes the alias of a place from the room that has it.
    pub(super) async fn free_alias(&self, place: &Instance) -> Result<(), Trouble> {
        if let Ok(alias) = <&RoomAliasId>::try_from(self.names.alias(place).as_str()) {
            self.homeserver.bot().delete_alias(alias).await?;
        }
        Ok(())
    }

    async fn standing(&self, room: &RoomId) -> Result<Standing, Trouble> {
        let bot = self.homeserver.bot();
        let event = match bot.state_event(room, "m.room.member", bot.user_id().as_str()).await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Standing::Gone),
            Err(error) if error.is_forbidden() || error.is_not_found() => return Ok(Standing::Gone),
            Err(error) => return Err(error.into()),
        };
        let content: Value = event.content().unwrap_or_default();
        if content.get("membership").is_some_and(|membership| membership == "join") {
            return Ok(Standing::Here);
        }
        // The bridge never leaves by itself: a homeserver that deletes a room makes everybody leave.
        let by_itself = event.outline().is_ok_and(|outline| outline.sender == bot.user_id());
        Ok(if by_itself { Standing::Gone } else { Standing::SentAway })
    }

    /// Gives up a room that is gone, and has another one made for its place. The work that met it tries again.
    async fn forget(&self, link: &RoomLink) -> Result<Trouble, Trouble> {
        if !self.store.head(Side::Fhir, &link.room_id, 1).await?.is_empty() {
            // What was said in it is still being written down, and must be known by its room.
            return Ok(Trouble::Busy {
                reason: "the room is gone; its messages come first".to_owned(),
                retry_after: None,
            });
        }
        warn!(place = link.place, room = link.room_id, "the room is gone from the homeserver; another one is made");
        let bot = self.homeserver.bot();
        if let Ok(place) = Instance::parse(&link.place) {
            self.free_alias(&place).await?;
            if place.kind() == Kind::CommunicationRequest
                && let Some(space) = self.space_of(&place).await?
                && let Err(error) =
                    bot.set_state(&room_id(&space.room_id)?, "m.space.child", &link.room_id, &json!({})).await
            {
                warn!(%error, "the space still names the room that is gone");
            }
        }
        let members = work(Side::Matrix, link.place.as_str(), "members", &link.place)?;
        let remade = work(Side::Matrix, link.place.as_str(), "remade", &(&link.place, &link.room_id))?;
        let unlink = Change::UnlinkRoom { room_id: link.room_id.clone() };
        let mut changes = vec![unlink, Change::Soon(members)];
        if link.place.starts_with(Kind::CommunicationRequest.name()) {
            changes.push(Change::Once { key: format!("remade {}", link.room_id), work: remade });
        }
        self.commit(changes).await?;
        Ok(Trouble::Again(format!("the room of {} was gone", link.place)))
    }
}
