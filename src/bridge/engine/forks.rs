//! What a homeserver misses of a room while it joins.
//!
//! A homeserver joins in two steps, `make_join` and `send_join`. What is said here between the first and the storing of
//! the join stands beside it, not before it, and is sent only to those who were in the room already. The newcomer learns of
//! it from the next event, which stands behind both (element-hq/synapse#17720); where nobody speaks next, that is never.
//! Synapse looks for such a fork when it answers `send_join`, and misses what is stored a moment later.
//!
//! A look at a room that somebody of elsewhere has joined therefore closes the fork, by an event that no client shows.

use std::collections::HashSet;

use ruma::{EventId, OwnedTransactionId, RoomId, ServerName};
use serde_json::{Value, json};
use tracing::info;

use super::{Engine, Trouble};
use crate::{
    bridge::store::Change,
    matrix::{Event, intent::Outgoing, transaction::Outline},
};

/// The type of the event: no client knows it, so none shows it or counts it as unread.
const TIE: &str = "care-federation.tie";

// === impl Engine ===

impl Engine {
    /// Closes the fork at the newest end of a room beside which somebody joined, once for each join. `newest` are the
    /// events at that end, with those that stand before them.
    pub(super) async fn tie(&self, room: &RoomId, newest: &[Event]) -> Result<Option<Change>, Trouble> {
        let Some(join) = join_beside(newest, self.homeserver.server_name()) else { return Ok(None) };
        let name = format!("tied {room}");
        // An event that is kept from clients may have closed it already; that cannot be seen, now or later.
        if self.store.cursor(&name).await?.as_deref() == Some(join.as_str()) {
            return Ok(None);
        }
        let transaction = OwnedTransactionId::from(format!("tie.{join}"));
        match self
            .homeserver
            .bot()
            .send(room, &Outgoing::event(TIE, json!({}), &transaction))
            .await
            .map_err(Trouble::from)
        {
            Ok(event) => info!(%room, %event, "a homeserver that joined while something was said is told of it"),
            // In a room of others the bridge may not be allowed to; the next who speaks closes the fork.
            Err(Trouble::Refused(reason)) => info!(%room, reason, "a fork in a room cannot be closed"),
            Err(trouble) => return Err(trouble),
        }
        Ok(Some(Change::Cursor { name, value: join.to_string() }))
    }
}

/// The newest join of somebody of another homeserver, if something that this one sent stands beside it, so that nothing
/// stands behind both.
fn join_beside<'a>(newest: &'a [Event], server: &ServerName) -> Option<&'a EventId> {
    let outlines = || newest.iter().filter_map(|event| Some((event, event.outline().ok()?)));
    let followed: HashSet<&EventId> =
        outlines().flat_map(|(_, outline)| outline.prev_events.iter().map(|event| &**event)).collect();
    let ends: Vec<&Outline> =
        outlines().map(|(_, outline)| outline).filter(|outline| !followed.contains(&*outline.event_id)).collect();
    let is_fork = ends.len() > 1 && ends.iter().any(|end| end.sender.server_name() == server);
    let joins_from_elsewhere = |(event, outline): &(&Event, &Outline)| {
        outline.kind == "m.room.member"
            && outline.sender.server_name() != server
            && event.content::<Value>().is_ok_and(|content| content.get("membership") == Some(&json!("join")))
    };
    let join = outlines().find(joins_from_elsewhere).filter(|_| is_fork);
    join.map(|(_, outline)| &*outline.event_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events with those that stand before them, newest first, and the join that is found to be beside something.
    fn beside(events: &[(&str, &str, &[&str])]) -> Option<String> {
        let event = |(name, kind, before): &(&str, &str, &[&str])| {
            let (sender, server) =
                if name.starts_with("far") { ("@anna:huisarts", "huisarts") } else { ("@bot:vvt", "vvt") };
            let id = |name: &&str| format!("${name}");
            let content = if *kind == "join" { json!({ "membership": "join" }) } else { json!({ "body": server }) };
            let mut event = json!({ "event_id": id(name), "room_id": "!room", "sender": sender, "origin_server_ts": 1,
                "type": "m.room.message", "content": content, "prev_events": before.iter().map(id).collect::<Vec<_>>() });
            if *kind == "join" {
                event["type"] = json!("m.room.member");
                event["state_key"] = json!(sender);
            }
            Event::from_json(event.to_string()).unwrap()
        };
        let events: Vec<Event> = events.iter().map(event).collect();
        join_beside(&events, <&ServerName>::try_from("vvt").unwrap()).map(ToString::to_string)
    }

    #[test]
    fn a_message_that_stands_beside_a_join_is_a_fork() {
        let found =
            beside(&[("message", "", &["invite"]), ("far-join", "join", &["invite"]), ("invite", "", &["start"])]);
        assert_eq!(found.as_deref(), Some("$far-join"));
        // Whoever joined may have spoken since.
        let found =
            beside(&[("far-word", "", &["far-join"]), ("message", "", &["invite"]), ("far-join", "join", &["invite"])]);
        assert_eq!(found.as_deref(), Some("$far-join"));
    }

    #[test]
    fn what_stands_before_or_behind_a_join_is_none() {
        assert_eq!(beside(&[("far-join", "join", &["message"]), ("message", "", &["invite"])]), None);
        assert_eq!(beside(&[("message", "", &["far-join"]), ("far-join", "join", &["invite"])]), None);
        let closed = beside(&[
            ("next", "", &["message", "far-join"]),
            ("message", "", &["invite"]),
            ("far-join", "join", &["invite"]),
        ]);
        assert_eq!(closed, None);
    }

    #[test]
    fn homeservers_that_speak_at_once_need_nothing() {
        assert_eq!(beside(&[("message", "", &["start"]), ("far-word", "", &["start"])]), None);
        // Two who join beside each other were sent each other's join.
        assert_eq!(beside(&[("far-join", "join", &["start"]), ("far-other", "join", &["start"])]), None);
    }
}
