use super::*;
use ruma::{owned_user_id, user_id};

fn request(version: RoomVersionId) -> Value {
    let plan = Plan {
        kind: Kind::Space,
        name: Some("Zorgteam".to_owned()),
        alias: Some("_fhir_bridge_careteam-1".to_owned()),
        additional_creators: vec![owned_user_id!("@lead:vvt")],
        levels: Levels { events_default: 100, state_default: 100, users_default: 25, ..Levels::default() }
            .with_event("m.space.child", 50)
            .with_user(owned_user_id!("@lead:vvt"), 100)
            .with_user(owned_user_id!("@nurse:vvt"), 75),
        initial_state: vec![InitialState::new("m.room.join_rules", json!({ "join_rule": "knock" }))],
        ..Plan::default()
    };
    let request = plan.request(user_id!("@_fhir:vvt"), &version).unwrap();
    json!({
        "creation": request.creation_content,
        "levels": request.power_level_content_override,
        "state": request.initial_state,
        "version": request.room_version,
    })
}

#[test]
fn creators_are_users_before_version_12() {
    for version in [RoomVersionId::V10, RoomVersionId::V11] {
        let made = request(version);
        assert_eq!(made["levels"]["users"], json!({ "@_fhir:vvt": 101, "@lead:vvt": 101, "@nurse:vvt": 75 }));
        assert_eq!(made["creation"], json!({ "type": "m.space" }));
    }
}

#[test]
fn creators_stand_above_the_levels_since_version_12() {
    let made = request(RoomVersionId::V12);
    assert_eq!(made["levels"]["users"], json!({ "@nurse:vvt": 75 }));
    assert_eq!(made["creation"], json!({ "type": "m.space", "additional_creators": ["@lead:vvt"] }));
    assert_eq!(made["levels"]["events"], json!({ "m.space.child": 50 }));
    assert_eq!(made["levels"]["users_default"], 25);
}

#[test]
fn given_state_wins_over_the_plans_own() {
    let state = request(RoomVersionId::V12)["state"].clone();
    let rules: Vec<_> = state.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.join_rules").collect();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["content"]["join_rule"], "knock");
    assert_eq!(state.as_array().unwrap().len(), 3);
}

#[test]
fn a_creator_before_version_12_stands_above_all_that_is_needed_and_all_others() {
    let bot = user_id!("@_fhir:vvt");
    let of = |levels: Levels| levels.with_creators([bot].into_iter()).of(bot);
    assert_eq!(of(Levels::default()), 101);
    assert_eq!(of(Levels { ban: 150, ..Levels::default() }), 150);
    assert_eq!(of(Levels::default().with_user(owned_user_id!("@lead:vvt"), 200)), 201);
}

#[test]
fn authority_knows_creators_and_needs() {
    let levels = Levels { users_default: 25, ..Levels::default() }
        .with_event("m.room.message", 25)
        .with_event("m.room.name", 75)
        .with_user(owned_user_id!("@nurse:vvt"), 75);
    let (bot, nurse, patient) = (user_id!("@_fhir:vvt"), user_id!("@nurse:vvt"), user_id!("@patient:vvt"));
    let new = Authority::new(&RoomVersionId::V12, [bot.to_owned()], levels.clone());
    assert_eq!(new.of(bot), Level::Creator);
    assert!(new.may(bot, Action::Ban) && new.may(nurse, Action::SetState("m.room.name")));
    assert!(new.may(patient, Action::Send("m.room.message")) && !new.may(patient, Action::SetState("m.room.name")));
    assert!(!new.may(patient, Action::Redact) && new.may(patient, Action::Invite));
    let old = Authority::new(&RoomVersionId::V11, [bot.to_owned()], levels);
    assert_eq!(old.of(bot), Level::Number(25));
}

#[test]
fn levels_have_the_defaults_of_the_specification() {
    let levels: Levels = serde_json::from_value(json!({ "users": { "@a:b": 100 } })).unwrap();
    assert_eq!((levels.ban, levels.invite, levels.events_default, levels.state_default), (50, 0, 0, 50));
}

#[test]
fn an_unknown_version_is_taken_for_a_new_one() {
    assert!(creators_are_privileged(&RoomVersionId::try_from("99").unwrap()));
    assert!(creators_are_privileged(&RoomVersionId::V12) && !creators_are_privileged(&RoomVersionId::V11));
}
