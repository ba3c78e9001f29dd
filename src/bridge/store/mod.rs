//! What the bridge must not forget: work that was accepted, and which resource is which room, event and user.
//!
//! A change is data ([`Change`]); a list of changes is one unit that is durable as a whole or not at all. So one
//! trait serves an embedded database and a shared one, and the engine reads as a list of facts.
//!
//! Several replicas may share the store. Each claim has an owner of its own, and a unit that begins with
//! [`Change::Under`] counts only while that owner holds the lane: what a replica says whose lease was taken over is
//! not stored. Leases end by the store's clock.
//!
//! Work stands in *lanes*. A lane is what must stay in order: everything for one room in one direction. A lane is
//! leased to one worker at a time; lanes run in parallel. Work that waits for something that is not there yet is set
//! aside and keeps its place. Parked work is out of the lane until somebody retries it.

mod apply;
mod read;
mod schema;
mod sql;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use thiserror::Error;

pub use schema::SCHEMA;
pub use sql::{Mode, SqlStore};

use crate::service::database::{DatabaseError, bounded};

/// Milliseconds since 1970 in UTC.
pub type Millis = i64;

/// What a store answers, in its own time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The present moment.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// Why the store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database did not do it: it is away, its disk is full, its file is damaged.
    #[error("the state store failed: {0}")]
    Database(#[from] DatabaseError),
    /// Somebody else holds the lane by now: nothing of the unit was stored.
    #[error("the lease on the lane was taken over")]
    Lost,
}

/// Which side of the bridge work has its effect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Side {
    /// Work that changes Matrix: it waits while the homeserver is away.
    Matrix,
    /// Work that changes FHIR: it waits while the FHIR server is away.
    Fhir,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A resource that the bridge sent to Matrix.
    Fhir,
    /// An event that the bridge wrote to FHIR.
    Matrix,
}

/// What an event does to a Communication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the message, or one of its payloads.
    Message,
    /// It replaces a payload.
    Edit,
    /// It withdraws the message.
    Redaction,
}

/// What work waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The room of this resource, `CommunicationRequest/1`.
    Room(String),
    /// The event of this id.
    Event(String),
}

/// Work to be stored.
#[derive(Clone, Debug)]
pub struct NewWork {
    /// Which side it changes.
    pub side: Side,
    /// The lane in which it keeps its order.
    pub lane: String,
    /// What it is, for the engine and for people.
    pub kind: &'static str,
    /// What the engine needs to do it, as JSON.
    pub payload: String,
    /// How long it is left alone; matters for a lane that was empty.
    pub delay: Duration,
}

/// Work that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its number; the order in its lane.
    pub seq: i64,
    /// What it is.
    pub kind: String,
    /// What the engine needs to do it.
    pub payload: String,
    /// How often it was refused.
    pub attempts: u32,
    /// Whether it was ever refused or parked, also if somebody has it retried: part of it may have been done.
    pub tried: bool,
}

/// A lane that this owner alone may work on until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which side.
    pub side: Side,
    /// The lane's name.
    pub lane: String,
    /// Who holds it: one claim of one process.
    pub owner: String,
    /// Whether the work at its head may have had its effect already: the last attempt ended without an answer.
    pub suspect: bool,
}

/// A fact to be stored. Each is idempotent: storing it twice is storing it once.
#[derive(Clone, Debug)]
pub enum Change {
    /// The unit counts only while this lease is held, else it fails with [`StoreError::Lost`].
    Under(Lease),
    /// An event arrived. If it is new, `work` is stored with it.
    TakeEvent {
        /// The event.
        event_id: String,
        /// Its room.
        room_id: String,
        /// What is to be done about it.
        work: Option<NewWork>,
    },
    /// Work to be done once: a second one with the same key is ignored for ever.
    Once {
        /// What makes it the same work.
        key: String,
        /// The work.
        work: NewWork,
    },
    /// Work that is parked from its beginning, once: what it is about could not be taken in.
    Aside {
        /// What makes it the same work.
        key: String,
        /// The work, for when somebody retries it.
        work: NewWork,
        /// Why, without patient data.
        reason: String,
    },
    /// Work to be done soon, unless such work is waiting in its lane and nobody has begun it.
    Soon(NewWork),
    /// How far a stream was read.
    Cursor {
        /// The stream.
        name: String,
        /// The place in it.
        value: String,
    },
    /// A room stands for a resource. Wakes what waits for it.
    LinkRoom(RoomLink),
    /// A room stands for a resource no longer.
    UnlinkRoom {
        /// The room.
        room_id: String,
    },
    /// An event belongs to a Communication.
    LinkMessage(MessageLink),
    /// A person has a Matrix user; no user when the resource names none any more.
    LinkPerson {
        /// `Practitioner/1`.
        reference: String,
        /// The user, if there is one.
        user_id: Option<String>,
    },
    /// The Task that tells what a person has read of a conversation.
    LinkTask {
        /// `CommunicationRequest/1`.
        request: String,
        /// `Practitioner/1`.
        owner: String,
        /// The Task's id.
        id: String,
    },
    /// Work is done.
    Done {
        /// Its number.
        seq: i64,
    },
    /// Work was refused and stays where it is.
    Refused {
        /// Its number.
        seq: i64,
        /// Why, without patient data.
        reason: String,
    },
    /// Work is set aside until something is there; it stays in the lane if that is there already.
    Wait {
        /// Its number.
        seq: i64,
        /// What it waits for.
        need: Need,
    },
    /// Work is taken out of its lane until somebody retries it.
    Park {
        /// Its number.
        seq: i64,
        /// Why, without patient data.
        reason: String,
    },
    /// Parked work goes back to its place; all of it when no number is given.
    Retry {
        /// Its number.
        seq: Option<i64>,
    },
    /// The lease lasts longer, if it is still held; else [`StoreError::Lost`].
    Renew {
        /// The lease.
        lease: Lease,
        /// How long from now.
        lasting: Duration,
    },
    /// The lease ends.
    Release {
        /// The lease.
        lease: Lease,
        /// How long the lane is left alone.
        pause: Duration,
        /// Whether the head's last attempt ended without an answer.
        suspect: bool,
    },
}

/// Which room is which resource.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RoomLink {
    /// The room or space.
    pub room_id: String,
    /// `CareTeam/1` or `CommunicationRequest/1`.
    pub place: String,
}

/// Which event is which Communication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLink {
    /// The event.
    pub event_id: String,
    /// Its room.
    pub room_id: String,
    /// The id of the Communication (or `CommunicationRequest/1` for the first message of a conversation).
    pub resource: String,
    /// Which of its payloads, from 0.
    pub part: u32,
    /// What the event does.
    pub role: Role,
    /// Who was first.
    pub origin: Origin,
    /// What both sides agreed on last; see `mapping::message::digest`.
    pub digest: String,
}

/// What is in the store, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Overview {
    /// Work that can be done, by side: Matrix, FHIR.
    pub ready: [u64; 2],
    /// Work that waits for something that is not there yet.
    pub waiting: u64,
    /// Work that somebody must look at.
    pub parked: u64,
    /// Spaces and rooms.
    pub rooms: u64,
    /// Messages with their resource.
    pub messages: u64,
    /// Events that were taken in.
    pub events: u64,
}

/// Parked or waiting work, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Its number.
    pub seq: i64,
    /// Its lane.
    pub lane: String,
    /// What it is.
    pub kind: String,
    /// How often it was refused.
    pub attempts: u32,
    /// What it waits for, or why it is parked.
    pub reason: String,
    /// Whether somebody must look at it; else it waits.
    pub parked: bool,
}

/// A lane with work to be done, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lane {
    /// Which side its work changes.
    pub side: Side,
    /// Its name.
    pub name: String,
    /// Work in it that is ready.
    pub ready: u64,
    /// What stands at its head.
    pub kind: String,
    /// How often that was refused.
    pub attempts: u32,
    /// When it is tried next, or when the lease of whoever works on it ends.
    pub due: Millis,
    /// Whether somebody works on it.
    pub leased: bool,
}

/// The state of the bridge.
pub trait Store: Send + Sync + 'static {
    /// Stores all changes, durably, or none.
    fn commit(&self, changes: Vec<Change>) -> Answer<'_, ()>;
    /// Leases up to `limit` lanes of a side that are due.
    fn claim(&self, side: Side, limit: usize, lasting: Duration) -> Answer<'_, Vec<Lease>>;
    /// Whether this process has a duty that only one has at a time: it takes what nobody has, and keeps what it has.
    fn take_duty(&self, duty: &'static str, lasting: Duration) -> Answer<'_, bool>;
    /// Since when and why the database does not answer, if so.
    fn absence(&self) -> Option<(Duration, String)>;
    /// The work at the head of a lane, in order.
    fn head(&self, side: Side, lane: &str, limit: usize) -> Answer<'_, Vec<Work>>;
    /// The payloads of all work of a kind in a lane, also of what waits or is parked, in order.
    fn work_of(&self, side: Side, lane: &str, kind: &'static str) -> Answer<'_, Vec<String>>;
    /// How far a stream was read.
    fn cursor(&self, name: &str) -> Answer<'_, Option<String>>;
    /// The room of a resource.
    fn room_of(&self, place: &str) -> Answer<'_, Option<RoomLink>>;
    /// The resource of a room.
    fn place_of(&self, room_id: &str) -> Answer<'_, Option<RoomLink>>;
    /// Every linked room, in the order of their resources.
    fn rooms(&self) -> Answer<'_, Vec<RoomLink>>;
    /// What an event is.
    fn message(&self, event_id: &str) -> Answer<'_, Option<MessageLink>>;
    /// The events of a resource, in the order in which they arrived.
    fn messages_of(&self, resource: &str) -> Answer<'_, Vec<MessageLink>>;
    /// The events of a room that belong to a resource, in the order in which they arrived.
    fn messages_in(&self, room_id: &str) -> Answer<'_, Vec<MessageLink>>;
    /// The newest message that stands in a room at or before an event; `None` too when the event is unknown.
    fn newest_message_at(&self, room_id: &str, event_id: &str) -> Answer<'_, Option<MessageLink>>;
    /// Whether one event arrived after another; `false` when either is unknown.
    fn arrived_after(&self, event_id: &str, other: &str) -> Answer<'_, bool>;
    /// The room in which an event was taken in.
    fn room_of_event(&self, event_id: &str) -> Answer<'_, Option<String>>;
    /// Whether an event was taken in.
    fn knows_event(&self, event_id: &str) -> Answer<'_, bool>;
    /// Those of these events that were not taken in, in their order.
    fn unknown_events(&self, event_ids: Vec<String>) -> Answer<'_, Vec<String>>;
    /// The person that a Matrix user is; of several the first by name.
    fn person_of(&self, user_id: &str) -> Answer<'_, Option<String>>;
    /// Everybody whom a Matrix user takes part for, by name: a practitioner in several roles, for example.
    fn persons_of(&self, user_id: &str) -> Answer<'_, Vec<String>>;
    /// The Matrix user of a person.
    fn user_of(&self, reference: &str) -> Answer<'_, Option<String>>;
    /// The id of the Task of a person in a conversation.
    fn task_of(&self, request: &str, owner: &str) -> Answer<'_, Option<String>>;
    /// Numbers for people and metrics.
    fn overview(&self) -> Answer<'_, Overview>;
    /// Parked and waiting work, oldest first.
    fn held(&self, limit: usize) -> Answer<'_, Vec<Held>>;
    /// Parked and waiting work behind a number, oldest first: of these lanes, or of all.
    fn held_after(&self, lanes: Option<Vec<String>>, after: i64, limit: usize) -> Answer<'_, Vec<Held>>;
    /// Lanes with ready work, the longest wait first.
    fn lanes(&self, limit: usize) -> Answer<'_, Vec<Lane>>;
}

// === impl Side ===

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::Matrix, Self::Fhir];

    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Matrix => 0,
            Self::Fhir => 1,
        }
    }

    /// The side's name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matrix => "Matrix",
            Self::Fhir => "FHIR",
        }
    }
}

// === impl Need ===

impl Need {
    /// The need as a text, for the database and for people.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Room(place) => format!("room {}", bounded(place)),
            Self::Event(event_id) => format!("event {}", bounded(event_id)),
        }
    }
}
