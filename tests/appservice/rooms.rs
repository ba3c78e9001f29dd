//! Spaces and rooms in versions 10 to 12.

use care_federation::matrix::rooms::{Action, InitialState, Kind, Level, Levels, Plan};
use ruma::{OwnedServerName, RoomAliasId, RoomVersionId};
use serde_json::json;

use crate::{
    synapse::NAME,
    world::{number, world},
};

/// The levels of the mapping for a care team's space.
fn space_levels() -> Levels {
    Levels {
        events_default: 100,
        state_default: 100,
        invite: 75,
        kick: 100,
        ban: 100,
        redact: 100,
        users_default: 25,
        ..Levels::default()
    }
    .with_event("m.room.member", 75)
    .with_event("m.space.child", 50)
}

async fn a_space_with_a_room(version: RoomVersionId) {
    let world = world();
    let (bot, lead) = (world.bot(), world.ghost("lead"));
    let alias = format!("_fhir_careteam-{}", number());
    lead.register().await.unwrap();
    let space = Plan {
        kind: Kind::Space,
        version: Some(version.clone()),
        name: Some("Zorgteam".to_owned()),
        alias: Some(alias.clone()),
        levels: space_levels().with_user(lead.user_id().to_owned(), 100),
        ..Plan::default()
    };
    let made = bot.create_room(&space).await.unwrap();
    assert!(!made.existed);
    let space_id = made.room_id.clone();
    let again = bot.create_room(&space).await.unwrap();
    assert_eq!((again.room_id, again.existed), (space_id.clone(), true), "made twice, there is one");

    let create = bot.state(&space_id, "m.room.create", "").await.unwrap().unwrap();
    assert_eq!((&create["type"], &create["room_version"]), (&json!("m.space"), &json!(version)));
    for (kind, key, value) in [
        ("m.room.history_visibility", "history_visibility", "shared"),
        ("m.room.guest_access", "guest_access", "forbidden"),
        ("m.room.join_rules", "join_rule", "invite"),
        ("m.room.name", "name", "Zorgteam"),
    ] {
        assert_eq!(bot.state(&space_id, kind, "").await.unwrap().unwrap()[key], value, "{kind}");
    }
    let authority = bot.authority(&space_id).await.unwrap();
    let creator = if version == RoomVersionId::V12 { Level::Creator } else { Level::Number(101) };
    assert_eq!(authority.of(bot.user_id()), creator);
    assert_eq!(authority.of(lead.user_id()), Level::Number(100));
    assert_eq!(authority.levels.events["m.space.child"], 50);
    assert_eq!((authority.levels.users_default, authority.levels.events_default), (25, 100));
    assert!(!authority.may(ruma::user_id!("@iemand:elders"), Action::Send("m.room.message")));

    let via = json!({ "via": [NAME] });
    let room = Plan {
        version: Some(version),
        initial_state: vec![InitialState::new("m.space.parent", via.clone()).with_key(space_id.as_str())],
        ..Plan::default()
    };
    let room_id = bot.create_room(&room).await.unwrap().room_id;
    bot.set_state(&space_id, "m.space.child", room_id.as_str(), &via).await.unwrap();
    assert_eq!(bot.state(&room_id, "m.space.parent", space_id.as_str()).await.unwrap(), Some(via));

    // Levels change when the team changes, also where the creator stands above them.
    let mut change = vec![(lead.user_id().to_owned(), 50)];
    if creator == Level::Creator {
        change.push((bot.user_id().to_owned(), 100));
    }
    bot.set_user_levels(&space_id, change.clone()).await.unwrap();
    let authority = bot.authority(&space_id).await.unwrap();
    assert_eq!((authority.of(lead.user_id()), authority.of(bot.user_id())), (Level::Number(50), creator));
    let before = bot.state(&space_id, "m.room.power_levels", "").await.unwrap();
    bot.set_user_levels(&space_id, change).await.unwrap();
    assert_eq!(bot.state(&space_id, "m.room.power_levels", "").await.unwrap(), before);
}

#[tokio::test]
async fn version_10() {
    a_space_with_a_room(RoomVersionId::V10).await;
}

#[tokio::test]
async fn version_11() {
    a_space_with_a_room(RoomVersionId::V11).await;
}

#[tokio::test]
async fn version_12() {
    a_space_with_a_room(RoomVersionId::V12).await;
}

#[tokio::test]
async fn aliases_come_and_go() {
    let (world, number) = (world(), number());
    let bot = world.bot();
    let (one, other) = (
        bot.create_room(&Plan::default()).await.unwrap().room_id,
        bot.create_room(&Plan::default()).await.unwrap().room_id,
    );
    let alias = RoomAliasId::parse(format!("#_fhir_communicationrequest-{number}.=a/b:{NAME}")).unwrap();
    assert_eq!(bot.resolve_alias(&alias).await.unwrap(), None);
    bot.create_alias(&alias, &one).await.unwrap();
    bot.create_alias(&alias, &one).await.unwrap();
    assert!(bot.create_alias(&alias, &other).await.unwrap_err().is_alias_taken());
    let servers = vec![OwnedServerName::try_from(NAME).unwrap()];
    assert_eq!(bot.resolve_alias(&alias).await.unwrap(), Some((one, servers)));
    bot.delete_alias(&alias).await.unwrap();
    bot.delete_alias(&alias).await.unwrap();
    assert_eq!(bot.resolve_alias(&alias).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_else_may_take_an_alias_of_the_namespace() {
    let world = world();
    let person = world.person("jan").await;
    let request = json!({ "room_alias_name": format!("_fhir_careteam-{}", number()) });
    let (status, answer) = person.call(reqwest::Method::POST, "/_matrix/client/v3/createRoom", request).await;
    assert_eq!((status, answer["errcode"].as_str()), (400, Some("M_EXCLUSIVE")), "{answer}");
}
