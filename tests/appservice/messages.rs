//! Messages both ways: times, edits, redactions, reactions, receipts; and transactions that must come again.

use std::time::Duration;

use care_federation::matrix::{
    intent::{Outgoing, content},
    transaction::Ephemeral,
};
use reqwest::Method;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use serde_json::{Value, json};

use crate::{
    service::REFUSED_ONCE,
    world::{transaction_id, world},
};

#[tokio::test]
async fn a_message_of_the_past_has_its_time_and_is_sent_once() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("patient"));
    let at = MilliSecondsSinceUnixEpoch(UInt::try_from(1_600_000_000_123_u64).unwrap());
    let outgoing = Outgoing::message(content::formatted("oud nieuws", "<b>oud</b> nieuws"), &transaction_id()).at(at);
    let event = ghost.send(&room, &outgoing).await.unwrap();
    assert_eq!(ghost.send(&room, &outgoing).await.unwrap(), event, "the same transaction id is the same event");
    let received = world.service.event(&event).await;
    assert_eq!(received.outline().unwrap().origin_server_ts, at);
    assert_eq!(received.content::<Value>().unwrap()["formatted_body"], "<b>oud</b> nieuws");
}

#[tokio::test]
async fn replies_edits_reactions_and_redactions_arrive() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("patient"));
    let question = person.say(&room, "hoe gaat het?").await;
    let send = async |kind: &str, content: Value| {
        ghost.send(&room, &Outgoing::event(kind, content, &transaction_id())).await.unwrap()
    };
    let answer = send("m.room.message", content::reply_to(content::text("slecht"), &question)).await;
    let edit = send("m.room.message", content::edit_of(&answer, content::text("goed"))).await;
    let reaction = send("m.reaction", content::reaction(&question, "👍")).await;
    let path = |event: &ruma::EventId| format!("/_matrix/client/v3/rooms/{room}/event/{event}");
    let seen = person.get(&path(&answer)).await;
    assert_eq!(seen["content"]["m.relates_to"]["m.in_reply_to"]["event_id"], question.as_str());
    assert_eq!(seen["unsigned"]["m.relations"]["m.replace"]["event_id"], edit.as_str());
    assert_eq!(person.get(&path(&reaction)).await["content"]["m.relates_to"]["key"], "👍");
    let redaction = ghost.redact(&room, &answer, &transaction_id(), Some("vergissing")).await.unwrap();
    assert_eq!(person.get(&path(&answer)).await["content"], json!({}));
    assert_eq!(world.service.event(&redaction).await.redacts().as_deref(), Some(&*answer));
    assert!(ghost.event(&room, &answer).await.unwrap().unwrap().outline().unwrap().is_redacted());
}

#[tokio::test]
async fn receipts_and_typing_come_as_ephemeral_data() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("practitioner"));
    let event = ghost.send(&room, &Outgoing::message(content::text("gelezen?"), &transaction_id())).await.unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
    person.must(Method::POST, &path, json!({})).await;
    let read = |data: &Ephemeral| match data {
        Ephemeral::Receipts { room_id, receipts } if *room_id == room => {
            receipts.iter().find(|receipt| receipt.event_id == event && receipt.user_id == person.id).cloned()
        }
        _ => None,
    };
    let receipt = world.service.wait_for("the receipt", |kept| kept.ephemeral().find_map(read)).await;
    assert!(receipt.at.is_some() && !receipt.private);
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", person.id);
    person.must(Method::PUT, &path, json!({ "typing": true, "timeout": 30_000 })).await;
    let types = |data: &Ephemeral| match data {
        Ephemeral::Typing { room_id, user_ids } => {
            (*room_id == room && user_ids.iter().any(|user| *user == person.id)).then_some(())
        }
        _ => None,
    };
    world.service.wait_for("typing", |kept| kept.ephemeral().find_map(types)).await;
}

#[tokio::test]
async fn a_ghosts_receipt_and_typing_are_seen() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("practitioner"));
    let event = person.say(&room, "dag").await;
    ghost.mark_read(&room, &event).await.unwrap();
    ghost.typing(&room, Some(Duration::from_secs(30))).await.unwrap();
    let sync = person.get("/_matrix/client/v3/sync").await;
    let ephemeral = sync["rooms"]["join"][room.as_str()]["ephemeral"]["events"].to_string();
    assert!(ephemeral.contains("m.typing") && ephemeral.contains(ghost.user_id().as_str()), "{ephemeral}");
    assert!(ephemeral.contains("m.receipt") && ephemeral.contains(event.as_str()), "{ephemeral}");
    ghost.typing(&room, None).await.unwrap();
}

#[tokio::test]
async fn a_refused_transaction_comes_again_and_is_accepted_once() {
    let world = world();
    let person = world.person("jan").await;
    let room = world.room_with(&person).await;
    let event = person.say(&room, REFUSED_ONCE).await;
    let refused = world.service.wait_for("the refusal", |kept| kept.refused.first().cloned()).await;
    // A ping that succeeds makes Synapse send at once what waits; without it, it waits 2, 4, 8 … seconds.
    world.homeserver().ping().await.unwrap();
    world.service.event(&event).await;
    let same = |kept: &crate::service::Kept| {
        let found = kept.transactions.iter().find(|transaction| {
            transaction.events.iter().any(|found| found.outline().is_ok_and(|outline| outline.event_id == event))
        });
        found.map(|transaction| transaction.id.clone())
    };
    assert_eq!(world.service.wait_for("the transaction", same).await, refused, "it keeps its number");
    let later = person.say(&room, "daarna").await;
    world.service.event(&later).await;
    assert_eq!(world.service.times(&event), 1);
}
