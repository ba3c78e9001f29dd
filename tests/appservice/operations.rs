//! What the other files leave over: every operation in every room version in use, and what is asked for rather than
//! pushed.

use std::time::Duration;

use care_federation::matrix::{
    intent::{Membership, Outgoing, content},
    rooms::Plan,
    transaction::Ephemeral,
};
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::json;

use crate::{
    synapse::NAME,
    world::{number, transaction_id, world},
};

/// Kicking, redacting and reacting are the same to the caller whatever the room version writes.
async fn in_a_room_of(version: RoomVersionId) {
    let world = world();
    let (person, bot, ghost) = (world.person("jan").await, world.bot(), world.ghost("practitioner"));
    let plan = Plan { version: Some(version), invite: vec![person.user_id().to_owned()], ..Plan::default() };
    let room = bot.create_room(&plan).await.unwrap().room_id;
    person.join(&room).await;
    let event = ghost.send(&room, &Outgoing::message(content::text("fout"), &transaction_id())).await.unwrap();
    let reaction = Outgoing::event("m.reaction", content::reaction(&event, "👍"), &transaction_id());
    let reaction = bot.send(&room, &reaction).await.unwrap();
    let answer = Outgoing::message(content::reply_to(content::text("ja"), &event), &transaction_id());
    ghost.send(&room, &answer).await.unwrap();
    let related = format!("/_matrix/client/v1/rooms/{room}/relations/{event}/m.annotation/m.reaction");
    assert_eq!(person.get(&related).await["chunk"][0]["event_id"], reaction.as_str());
    let redaction = bot.redact(&room, &event, &transaction_id(), Some("vergissing")).await.unwrap();
    // Since version 11 the event stands in the content of its redaction; before it, beside it.
    assert_eq!(world.service.event(&redaction).await.redacts().as_deref(), Some(&*event));
    let seen = person.get(&format!("/_matrix/client/v3/rooms/{room}/event/{event}")).await;
    assert_eq!(seen["content"], json!({}));
    bot.kick(&room, person.user_id(), Some("klaar")).await.unwrap();
    let member = bot.state(&room, "m.room.member", &person.id).await.unwrap().unwrap();
    assert_eq!((&member["membership"], &member["reason"]), (&json!("leave"), &json!("klaar")));
    let members = bot.members(&room).await.unwrap();
    let kicked = members.iter().find(|member| member.user_id == person.user_id()).unwrap();
    assert_eq!((kicked.by.as_str(), kicked.since > 0), (bot.user_id().as_str(), true));
}

#[tokio::test]
async fn every_operation_in_version_10() {
    in_a_room_of(RoomVersionId::V10).await;
}

#[tokio::test]
async fn every_operation_in_version_11() {
    in_a_room_of(RoomVersionId::V11).await;
}

#[tokio::test]
async fn every_operation_in_version_12() {
    in_a_room_of(RoomVersionId::V12).await;
}

#[tokio::test]
async fn what_was_read_is_told_to_who_asks() {
    let world = world();
    let person = world.person("jan").await;
    let (room, bot) = (world.room_with(&person).await, world.bot());
    let mut events = Vec::new();
    for text in ["een", "twee"] {
        events.push(bot.send(&room, &Outgoing::message(content::text(text), &transaction_id())).await.unwrap());
    }
    for event in &events {
        person.must(Method::POST, &format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}"), json!({})).await;
    }
    let found = bot.receipts(&room).await.unwrap();
    let [Ephemeral::Receipts { room_id, receipts }] = &found[..] else { panic!("{found:?}") };
    let of_person: Vec<_> = receipts.iter().filter(|receipt| receipt.user_id == person.user_id()).collect();
    assert_eq!(*room_id, room);
    assert!(matches!(of_person[..], [receipt] if receipt.event_id == events[1] && receipt.at.is_some()), "the newest");
    let elsewhere = world.ghost("patient").receipts(&room).await;
    assert!(elsewhere.unwrap_err().is_forbidden(), "only members may ask");
}

#[tokio::test]
async fn typing_ends_when_it_is_taken_back() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost) = (world.room_with(&person).await, world.ghost("practitioner"));
    ghost.typing(&room, Some(Duration::from_secs(60))).await.unwrap();
    let sync = person.get("/_matrix/client/v3/sync").await;
    let typing = |sync: &serde_json::Value| {
        let events =
            sync["rooms"]["join"][room.as_str()]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().find(|event| event["type"] == "m.typing").map(|event| event["content"]["user_ids"].clone())
    };
    assert_eq!(typing(&sync), Some(json!([ghost.user_id()])));
    ghost.typing(&room, None).await.unwrap();
    let since = sync["next_batch"].as_str().unwrap();
    let sync = person.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={since}")).await;
    assert_eq!(typing(&sync), Some(json!([])));
}

#[tokio::test]
async fn a_ghost_joins_by_alias_and_declines_what_it_does_not_want() {
    let world = world();
    let (person, ghost) = (world.person("jan").await, world.ghost("practitioner"));
    let name = format!("open-{}", number());
    let request = json!({ "preset": "public_chat", "room_alias_name": name });
    let made = person.must(Method::POST, "/_matrix/client/v3/createRoom", request).await;
    let alias = ruma::OwnedRoomOrAliasId::try_from(format!("#{name}:{NAME}")).unwrap();
    let joined = ghost.join(&alias, &[NAME.try_into().unwrap()]).await.unwrap();
    assert_eq!(joined.as_str(), made["room_id"]);

    let made = person.must(Method::POST, "/_matrix/client/v3/createRoom", json!({ "invite": [ghost.user_id()] })).await;
    let room: ruma::OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    ghost.leave(&room, Some("niet voor mij")).await.unwrap();
    let member = person.get(&format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", ghost.user_id())).await;
    assert_eq!((&member["membership"], &member["reason"]), (&json!("leave"), &json!("niet voor mij")));
    assert!(!ghost.joined_rooms().await.unwrap().contains(&room));
    assert_eq!(ghost.homeserver().bot().resolve_alias((&*alias).try_into().unwrap()).await.unwrap().unwrap().0, joined);
    assert_eq!(Membership::Leave, serde_json::from_value(member["membership"].clone()).unwrap());
}
