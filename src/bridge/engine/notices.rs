//! What the bridge itself has to say in a room: said once, whoever is killed.
//!
//! A notice is stored as work before it is said, and carries its name in its content. Work that may have been done is
//! looked up in the room by that name; the homeserver's own memory of transaction ids does not outlast it.

use ruma::{OwnedTransactionId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Done, Engine, Trouble, event_id, room_id, work};
use crate::{
    bridge::store::{Change, Side},
    matrix::intent::{Direction, Format, Outgoing, content},
};

/// The key in a notice's content that holds its name.
const MARK: &str = "care-federation.notice";
/// Pages and events on a page that are searched for a notice that may have been said.
const SEARCHED: (usize, u32) = (20, 100);

/// Something that the bridge has to say about an event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Notice {
    pub(super) room_id: String,
    pub(super) text: String,
    pub(super) about: String,
    /// Its name: no two notices share one.
    #[serde(default)]
    pub(super) key: String,
}

/// How a notice is known when it is in the room.
pub(super) struct Known<'a> {
    /// The key in its content.
    pub(super) mark: &'static str,
    /// What stands there.
    pub(super) name: &'a str,
    /// An event that it cannot stand before.
    pub(super) after: Option<&'a str>,
}

// === impl Notice ===

impl Notice {
    /// A notice that answers an event.
    pub(super) fn about(room: &RoomId, event: &str, key: &str, text: String) -> Self {
        Self { room_id: room.to_string(), text, about: event.to_owned(), key: key.to_owned() }
    }

    /// The work of saying it, which is stored once.
    pub(super) fn once(&self) -> Result<Change, Trouble> {
        let work = work(Side::Matrix, self.room_id.as_str(), "notice", self)?;
        Ok(Change::Once { key: self.key.clone(), work })
    }
}

// === impl Engine ===

impl Engine {
    /// Says a notice as an answer to its event. `suspect`: it may have been said already.
    pub(super) async fn post_notice(&self, payload: &str, suspect: bool) -> Done {
        let notice: Notice = serde_json::from_str(payload)?;
        // One that an earlier version stored has no name.
        let name = if notice.key.is_empty() { format!("notice {}", notice.about) } else { notice.key };
        let content = content::reply_to(content::notice(&notice.text), &event_id(&notice.about)?);
        let known = Known { mark: MARK, name: &name, after: Some(&notice.about) };
        self.say_once(&room_id(&notice.room_id)?, content, &known, suspect).await
    }

    /// Says something that stands alone, by its name.
    pub(super) async fn announce(&self, room: &RoomId, name: &str, text: &str, suspect: bool) -> Done {
        let known = Known { mark: MARK, name, after: None };
        self.say_once(room, content::notice(text), &known, suspect).await
    }

    /// Says something of the bridge's own, unless it is there already.
    pub(super) async fn say_once(&self, room: &RoomId, mut content: Value, known: &Known<'_>, suspect: bool) -> Done {
        if suspect && self.is_said(room, known).await? {
            return Ok(Vec::new());
        }
        content[known.mark] = known.name.into();
        let transaction = OwnedTransactionId::from(known.name.replace([' ', '/'], "."));
        self.homeserver.bot().send(room, &Outgoing::message(content, &transaction)).await?;
        Ok(Vec::new())
    }

    async fn is_said(&self, room: &RoomId, known: &Known<'_>) -> Result<bool, Trouble> {
        let (pages, size) = SEARCHED;
        let (bot, mut from) = (self.homeserver.bot(), None);
        for _ in 0..pages {
            let page = bot.messages(room, from.as_deref(), Direction::Backward, size, Format::Client).await?;
            for event in &page.events {
                let Ok(outline) = event.outline() else { continue };
                let content: Value = event.content().unwrap_or_default();
                let is_named = content.get(known.mark).is_some_and(|name| name == known.name);
                if is_named && outline.sender == *bot.user_id() {
                    return Ok(true);
                }
                if known.after.is_some_and(|after| outline.event_id == after) {
                    return Ok(false);
                }
            }
            match page.end {
                Some(end) if !page.events.is_empty() => from = Some(end),
                _ => break,
            }
        }
        Ok(false)
    }
}
