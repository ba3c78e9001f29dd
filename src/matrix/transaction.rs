//! What a homeserver pushes: events exactly as received with what a bridge needs of them, and ephemeral data.
//!
//! One event that cannot be understood does not fail the others: a homeserver would send the same transaction for
//! ever. It arrives as an [`Event`] whose [`Event::outline`] is an error, so that it can be kept and reported.

mod ephemeral;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, events::AnyTimelineEvent, serde::Raw};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

pub use ephemeral::{Ephemeral, Receipt};

/// One push of the homeserver.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The homeserver's number for it. A retry has the same; after a restart on SQLite numbers start again.
    pub id: String,
    /// Events in the order in which the homeserver sent them.
    pub events: Vec<Event>,
    /// Receipts, typing and presence. Nothing that matters may rest on them: an outage loses them.
    pub ephemeral: Vec<Ephemeral>,
}

/// One event: its JSON as received, and what was understood of it.
#[derive(Clone, Debug)]
pub struct Event {
    raw: Raw<AnyTimelineEvent>,
    outline: Result<Box<Outline>, Malformed>,
}

/// Why an event, or a transaction, could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// What every event says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Outline {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type, for example `m.room.message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Present for state events only.
    #[serde(default)]
    pub state_key: Option<String>,
    /// When it was sent, by its sender's clock.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// The events before it. Present only where the federation format was asked for (see `Intent::messages`).
    #[serde(default)]
    pub prev_events: Vec<OwnedEventId>,
    #[serde(default)]
    redacts: Option<String>,
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Unsigned {
    transaction_id: Option<String>,
    redacted_because: Option<serde::de::IgnoredAny>,
}

// === impl Transaction ===

impl Transaction {
    /// Reads the body of a transaction.
    ///
    /// # Errors
    /// When the body as a whole is not the JSON of a transaction.
    pub fn parse(id: &str, body: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Body {
            events: Vec<Box<RawValue>>,
            ephemeral: Option<Vec<Box<RawValue>>>,
            // Homeservers before Matrix 1.13 (MSC2409).
            #[serde(rename = "de.sorunome.msc2409.ephemeral")]
            unstable_ephemeral: Option<Vec<Box<RawValue>>>,
        }
        let body: Body = serde_json::from_slice(body).map_err(|error| Malformed(error.to_string()))?;
        let ephemeral = body.ephemeral.or(body.unstable_ephemeral).unwrap_or_default();
        Ok(Self {
            id: id.to_owned(),
            events: body.events.into_iter().map(Event::new).collect(),
            ephemeral: ephemeral.iter().map(|data| Ephemeral::parse(data.get())).collect(),
        })
    }
}

// === impl Event ===

impl Event {
    /// An event from its JSON.
    pub fn new(json: Box<RawValue>) -> Self {
        let outline = serde_json::from_str(json.get()).map_err(|error| Malformed(error.to_string()));
        Self { raw: Raw::from_json(json), outline }
    }

    /// An event from JSON that was kept, for example in a store.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_json(text: String) -> Result<Self, serde_json::Error> {
        Ok(Self::new(RawValue::from_string(text)?))
    }

    /// The JSON, byte for byte as received.
    pub fn json(&self) -> &str {
        self.raw.json().get()
    }

    /// What the event says of itself.
    ///
    /// # Errors
    /// When it lacks what every event has, or an id in it is not legal.
    pub fn outline(&self) -> Result<&Outline, &Malformed> {
        self.outline.as_deref()
    }

    /// The event as ruma's type for it; unknown types are custom events.
    ///
    /// # Errors
    /// When the content does not fit its type.
    pub fn typed(&self) -> Result<AnyTimelineEvent, serde_json::Error> {
        self.raw.deserialize()
    }

    /// The event as ruma's unparsed type.
    pub fn raw(&self) -> &Raw<AnyTimelineEvent> {
        &self.raw
    }

    /// The content as a type of the caller's choice.
    ///
    /// # Errors
    /// When the content does not fit the type, or there is none.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        #[derive(Deserialize)]
        struct Holder<T> {
            content: T,
        }
        serde_json::from_str::<Holder<T>>(self.json()).map(|holder| holder.content)
    }

    /// The event that this one redacts: in `content` since room version 11, beside it before.
    pub fn redacts(&self) -> Option<OwnedEventId> {
        #[derive(Deserialize)]
        struct Content {
            redacts: Option<String>,
        }
        let outline = self.outline().ok().filter(|outline| outline.kind == "m.room.redaction")?;
        let inside = self.content::<Content>().ok().and_then(|content| content.redacts);
        OwnedEventId::try_from(inside.or_else(|| outline.redacts.clone())?).ok()
    }
}

// === impl Outline ===

impl Outline {
    /// Whether this is a state event of a type with an empty state key.
    pub fn is_state(&self, kind: &str) -> bool {
        self.kind == kind && self.state_key.as_deref() == Some("")
    }

    /// The transaction id that the sender gave it, if this service sent it.
    pub fn transaction_id(&self) -> Option<&str> {
        self.unsigned.transaction_id.as_deref()
    }

    /// Whether its content was removed.
    pub fn is_redacted(&self) -> bool {
        self.unsigned.redacted_because.is_some()
    }
}

#[cfg(test)]
mod tests;
