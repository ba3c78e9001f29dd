//! What the homeserver pushes: stored before it is answered, each event once.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ruma::{
    RoomAliasId, RoomId, UserId,
    thirdparty::{Location, Protocol, User},
};
use serde_json::Value;
use tracing::{debug, warn};

use super::{Engine, Trouble, lookups, marks::Read, work};
use crate::{
    bridge::{
        bot,
        identity::Instance,
        mapping::message::Mark,
        store::{Change, MessageLink, NewWork, Origin, Role, Side, StoreError, now},
    },
    matrix::{
        Event, Transaction,
        server::{Directory, Fields, TransactionSink, Unavailable},
        transaction::{Ephemeral, Outline},
    },
};

/// Takes transactions in.
pub struct Intake(pub Arc<Engine>);

/// Answers the homeserver's questions about users and rooms.
pub struct Guide(pub Arc<Engine>);

impl TransactionSink for Intake {
    async fn accept(&self, transaction: Transaction) -> Result<(), Unavailable> {
        let engine = &self.0;
        let mut changes = Vec::with_capacity(transaction.events.len());
        for event in &transaction.events {
            engine.homeserver.note_member(event);
            changes.extend(engine.take(event));
        }
        changes.extend(engine.looks_after(&transaction.events));
        for data in &transaction.ephemeral {
            changes.extend(engine.take_ephemeral(data));
        }
        debug!(events = transaction.events.len(), "a transaction of the homeserver");
        let stored = match engine.commit(changes).await {
            Err(StoreError::Database(error)) if error.is_about_the_work() => engine.take_apart(&transaction).await,
            stored => stored,
        };
        stored.map_err(|error| {
            warn!(%error, "a transaction could not be stored; the homeserver will send it again");
            engine.missed.store(true, Ordering::Relaxed);
            Unavailable("the bridge could not store the transaction".to_owned())
        })?;
        engine.count_transaction(&transaction.id).await;
        Ok(())
    }
}

impl Directory for Guide {
    async fn user(&self, user: &UserId) -> Result<bool, Unavailable> {
        let Some(person) = self.0.names.person_of(user.as_str()) else { return Ok(false) };
        // Whether the person exists is FHIR's to say; a user is made when they first take part.
        self.0.exists(&person).await.map_err(|trouble| Unavailable(trouble.to_string()))
    }

    async fn alias(&self, alias: &RoomAliasId) -> Result<bool, Unavailable> {
        let Some(place) = self.0.names.place_of(alias.as_str()) else { return Ok(false) };
        let room = self.0.store.room_of(&place.to_string()).await;
        Ok(room.map_err(|error| Unavailable(error.to_string()))?.is_some())
    }

    async fn protocol(&self, protocol: &str) -> Result<Option<Protocol>, Unavailable> {
        Ok((protocol == lookups::PROTOCOL).then(|| lookups::protocol(self.0.names.server())))
    }

    async fn locations(&self, protocol: &str, fields: Fields) -> Result<Option<Vec<Location>>, Unavailable> {
        if protocol != lookups::PROTOCOL {
            return Ok(None);
        }
        self.0.look_up_locations(&fields).await.map(Some).map_err(unavailable)
    }

    async fn users(&self, protocol: &str, fields: Fields) -> Result<Option<Vec<User>>, Unavailable> {
        if protocol != lookups::PROTOCOL {
            return Ok(None);
        }
        self.0.look_up_users(&fields).await.map(Some).map_err(unavailable)
    }

    async fn behind_alias(&self, alias: &RoomAliasId) -> Result<Vec<Location>, Unavailable> {
        self.0.look_behind_alias(alias).await.map_err(unavailable)
    }

    async fn behind_user(&self, user: &UserId) -> Result<Vec<User>, Unavailable> {
        self.0.look_behind_user(user).await.map_err(unavailable)
    }
}

fn unavailable(trouble: Trouble) -> Unavailable {
    Unavailable(trouble.to_string())
}

// === impl Engine ===

impl Engine {
    /// What is to be stored of an event.
    pub(super) fn take(&self, event: &Event) -> Vec<Change> {
        let outline = match event.outline() {
            Ok(outline) => outline,
            Err(error) => return self.take_malformed(event, error),
        };
        let (event_id, room_id) = (outline.event_id.to_string(), outline.room_id.to_string());
        if self.names.is_ours(outline.sender.as_str()) {
            let link = own_link(event, outline).map(Change::LinkMessage);
            let arrival = Change::TakeEvent { event_id, room_id, work: None };
            // The link first: it gives the event its place.
            let absence = self.own_absence(event, outline);
            return link.into_iter().chain([arrival]).chain(absence).collect();
        }
        let work = self.work_for(event, outline);
        vec![Change::TakeEvent { event_id, room_id, work }]
    }

    /// Takes a transaction in piece by piece, because the database refuses something in it and always will: the homeserver
    /// would send it again for ever, and everything behind it would wait. What is refused is named in parked work.
    async fn take_apart(&self, transaction: &Transaction) -> Result<(), StoreError> {
        for event in &transaction.events {
            match self.commit(self.take(event)).await {
                Err(StoreError::Database(error)) if error.is_about_the_work() => {
                    let named =
                        event.outline().map_or("one that cannot be understood", |outline| outline.event_id.as_str());
                    warn!(%error, event = named, "an event cannot be stored; it is named in parked work");
                    self.commit(vec![lost(named)]).await?;
                }
                stored => stored?,
            }
        }
        self.commit(self.looks_after(&transaction.events)).await?;
        for data in &transaction.ephemeral {
            // A receipt that is refused is the newest one until there is a newer one; it is asked for then.
            match self.commit(self.take_ephemeral(data)).await {
                Err(StoreError::Database(error)) if error.is_about_the_work() => warn!(%error, "receipts are refused"),
                stored => stored?,
            }
        }
        Ok(())
    }

    /// A look at a room that the bridge itself has left. It does not do so: somebody deleted the room.
    fn own_absence(&self, event: &Event, outline: &Outline) -> Option<Change> {
        let of_bot = outline.kind == "m.room.member"
            && outline.state_key.as_deref() == Some(&*self.names.bot())
            && event.content::<Value>().ok()?.get("membership")? == "leave";
        let room = outline.room_id.as_str();
        let look = of_bot.then(|| work(Side::Matrix, format!("absence {room}"), "absence", &room))?;
        look.ok().map(Change::Soon)
    }

    /// A look at each room in which something happened: more may have happened than was pushed, the more likely where
    /// people of other homeservers speak.
    fn looks_after(&self, events: &[Event]) -> Vec<Change> {
        let mut rooms: BTreeMap<&RoomId, bool> = BTreeMap::new();
        for outline in events.iter().filter_map(|event| event.outline().ok()) {
            let is_elsewhere = outline.sender.server_name() != self.homeserver.server_name();
            *rooms.entry(&outline.room_id).or_default() |= is_elsewhere;
        }
        let look = |(room, is_elsewhere): (&RoomId, bool)| {
            let room = room.as_str();
            Change::Soon(if is_elsewhere { self.gap_work(room) } else { self.patrol_work(room) })
        };
        rooms.into_iter().map(look).collect()
    }

    /// Numbers that do not grow tell that the homeserver was restarted, and forgot what it was about to push. (Synapse
    /// on SQLite counts from 1 again; on PostgreSQL it goes on.)
    async fn count_transaction(&self, id: &str) {
        let Ok(number) = id.parse::<u64>() else { return };
        let last = self.last_transaction.swap(number, Ordering::Relaxed);
        if number <= last
            && let Err(trouble) = self.look_everywhere().await
        {
            warn!(%trouble, "rooms cannot be searched for missed events now");
        }
    }

    /// The work that an event of somebody else makes.
    fn work_for(&self, event: &Event, outline: &Outline) -> Option<NewWork> {
        let kind = match (outline.kind.as_str(), &outline.state_key) {
            ("m.room.member", Some(user)) if *user == self.names.bot() => "invitation",
            _ if self.follows(outline) => "member",
            ("m.room.member", Some(_)) | ("m.room.encryption", Some(_)) => return None,
            (_, Some(_)) => return None,
            // A command is for the bridge; it is not carried, and waits for nothing that is.
            ("m.room.message", None) if bot::is_command(event) => return self.command_work(event),
            (_, None) => "event",
        };
        let side = if kind == "invitation" { Side::Matrix } else { Side::Fhir };
        Some(NewWork {
            side,
            lane: outline.room_id.to_string(),
            kind,
            payload: self.stamp_event(event),
            delay: Duration::ZERO,
        })
    }

    /// An event that cannot be understood is kept for people to look at.
    fn take_malformed(&self, event: &Event, error: &crate::matrix::transaction::Malformed) -> Vec<Change> {
        warn!(%error, "the homeserver sent an event that cannot be understood; it is kept as parked work");
        let digest = ring::digest::digest(&ring::digest::SHA256, event.json().as_bytes());
        let key: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let work = NewWork {
            side: Side::Fhir,
            lane: "malformed".to_owned(),
            kind: "malformed",
            payload: event.json().to_owned(),
            delay: Duration::ZERO,
        };
        vec![Change::Once { key: format!("malformed {key}"), work }]
    }

    /// Receipts of people; typing and presence are of the moment.
    pub(super) fn take_ephemeral(&self, data: &Ephemeral) -> Vec<Change> {
        let Ephemeral::Receipts { room_id, receipts } = data else { return Vec::new() };
        let of_people =
            receipts.iter().filter(|receipt| !receipt.private && !self.names.is_ours(receipt.user_id.as_str()));
        of_people
            .filter_map(|receipt| {
                let read = Read {
                    user_id: receipt.user_id.to_string(),
                    event_id: receipt.event_id.to_string(),
                    at: receipt.at.map_or_else(now, |at| i64::from(at.get())),
                };
                let work = work(Side::Fhir, room_id.as_str(), "receipt", &read).ok()?;
                Some(Change::Once { key: format!("receipt {room_id} {} {}", read.user_id, read.event_id), work })
            })
            .collect()
    }
}

/// Work for people to look at, about an event that could not be stored.
fn lost(event: &str) -> Change {
    let payload = serde_json::json!({ "event_id": event }).to_string();
    let lane = "malformed".to_owned();
    let work = NewWork { side: Side::Fhir, lane, kind: "unstored", payload, delay: Duration::ZERO };
    Change::Once { key: format!("unstored {event}"), work }
}

/// Which resource an event of the bridge's own is, by the mark in its content.
pub(super) fn own_link(event: &Event, outline: &Outline) -> Option<MessageLink> {
    let content: Value = event.content().ok()?;
    let mark = Mark::read(&content)?;
    let is_edit = content
        .get("m.relates_to")
        .and_then(|relation| relation.get("rel_type"))
        .is_some_and(|kind| kind == "m.replace");
    Some(MessageLink {
        event_id: outline.event_id.to_string(),
        room_id: outline.room_id.to_string(),
        resource: mark.resource,
        part: mark.part,
        role: if is_edit { Role::Edit } else { Role::Message },
        origin: Origin::Fhir,
        digest: mark.digest,
    })
}

/// The lane of a conversation on the Matrix side.
pub(super) fn lane_of(request: &Instance) -> String {
    request.to_string()
}
