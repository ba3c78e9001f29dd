//! Receipts, typing and presence, read leniently: what cannot be understood is skipped.

use std::collections::BTreeMap;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Deserialize;

/// One piece of ephemeral data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ephemeral {
    /// Users have read up to an event.
    Receipts {
        /// The room.
        room_id: OwnedRoomId,
        /// One for each user and event.
        receipts: Vec<Receipt>,
    },
    /// Who is typing in a room now; empty when nobody is any more.
    Typing {
        /// The room.
        room_id: OwnedRoomId,
        /// The users.
        user_ids: Vec<OwnedUserId>,
    },
    /// Whether a user is there.
    Presence {
        /// The user.
        user_id: OwnedUserId,
        /// `online`, `offline` or `unavailable`.
        presence: String,
    },
    /// Something else, or something broken.
    Other,
}

/// A user has read up to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The newest event that was read.
    pub event_id: OwnedEventId,
    /// Who read it.
    pub user_id: OwnedUserId,
    /// When, if the client said so.
    pub at: Option<MilliSecondsSinceUnixEpoch>,
    /// Whether it is private (`m.read.private`). Homeservers do not send these to others.
    pub private: bool,
    /// The thread that it is for; `None` is the whole room, `main` what is in no thread.
    pub thread: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<OwnedRoomId>,
    sender: Option<OwnedUserId>,
    content: serde_json::Value,
}

// === impl Ephemeral ===

impl Ephemeral {
    /// Reads one piece of data from its JSON.
    pub fn parse(json: &str) -> Self {
        let Ok(wire) = serde_json::from_str::<Wire>(json) else { return Self::Other };
        match (wire.kind.as_str(), wire.room_id, wire.sender) {
            ("m.receipt", Some(room_id), _) => Self::Receipts { room_id, receipts: receipts(wire.content) },
            ("m.typing", Some(room_id), _) => Self::Typing { room_id, user_ids: typing(&wire.content) },
            ("m.presence", _, Some(user_id)) => match wire.content.get("presence").and_then(|word| word.as_str()) {
                Some(presence) => Self::Presence { user_id, presence: presence.to_owned() },
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

fn typing(content: &serde_json::Value) -> Vec<OwnedUserId> {
    let users = content.get("user_ids").and_then(|users| users.as_array());
    users.into_iter().flatten().filter_map(|user| OwnedUserId::try_from(user.as_str()?).ok()).collect()
}

/// `{event: {"m.read": {user: {"ts": …, "thread_id": …}}}}`
fn receipts(content: serde_json::Value) -> Vec<Receipt> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        ts: Option<MilliSecondsSinceUnixEpoch>,
        thread_id: Option<String>,
    }
    type Content = BTreeMap<String, BTreeMap<String, BTreeMap<String, serde_json::Value>>>;
    let content: Content = serde_json::from_value(content).unwrap_or_default();
    let mut found = Vec::new();
    for (event, kinds) in content {
        let Ok(event_id) = OwnedEventId::try_from(event) else { continue };
        for (kind, users) in kinds {
            let private = match kind.as_str() {
                "m.read" => false,
                "m.read.private" => true,
                _ => continue,
            };
            for (user, details) in users {
                let Ok(user_id) = OwnedUserId::try_from(user) else { continue };
                let details: Details = serde_json::from_value(details).unwrap_or_default();
                let event_id = event_id.clone();
                found.push(Receipt { event_id, user_id, at: details.ts, private, thread: details.thread_id });
            }
        }
    }
    found
}
