//! Who takes part, as time goes by and people come and go; what they read while the bridge is away; who is writing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use care_federation::fhir::instant::DateTime;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenario::{accept, begin, communication, introduce, practitioner, request, team},
    world::{Person, SERVER, World, encode, until},
};

fn in_future(time: Duration) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
    DateTime::from_millis(i64::try_from(since.as_millis()).unwrap()).as_str().to_owned()
}

async fn member(world: &World, room: &str, user: &str) -> Option<Value> {
    let path = format!("v3/rooms/{}/state/m.room.member/{}", encode(room), encode(user));
    world.bot().try_get(&path).await
}

async fn becomes(world: &World, room: &str, user: &str, membership: &str) -> Value {
    until(&format!("{user} becomes {membership}"), || async {
        member(world, room, user).await.filter(|content| content["membership"] == membership)
    })
    .await
}

async fn invite(by: &Person, room: &str, user: &str) {
    by.call(Method::POST, &format!("v3/rooms/{}/invite", encode(room)), Some(json!({ "user_id": user }))).await;
}

/// The participants of the team that are a person.
fn parts<'a>(team: &'a Value, person: &str) -> Vec<&'a Value> {
    let all = team["participant"].as_array().unwrap();
    all.iter().filter(|participant| participant["member"]["reference"] == person).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_follows_its_space_where_it_should() {
    let mut world = World::new();
    world.settings = vec![("FHIR_BRIDGE_ENGINE__TEAM_FOLLOWS_SPACE", "true".to_owned())];
    let (anna, space, room) = begin(&mut world).await;
    world.put(practitioner("dora", &format!("@dora:{SERVER}"))).await;
    let (dora, eve) = (world.person("dora").await, world.person("eve").await);
    let before = world.search("CareTeam/Team-1/_history").await.len();

    // Nobody knows Eve in FHIR; she stays, and the team is as it was.
    for user in [&eve, &dora] {
        invite(&anna, &space, &user.user_id).await;
        user.join(&space).await;
    }
    let joined = until("Dora is in the team", || async {
        let team = world.get("CareTeam/Team-1").await?;
        (parts(&team, "Practitioner/dora").len() == 1).then_some(team)
    })
    .await;
    assert!(parts(&joined, "Practitioner/dora")[0]["period"]["start"].is_string());
    assert_eq!(joined["participant"].as_array().unwrap().len(), 3);
    becomes(&world, &room, &dora.user_id, "invite").await;
    dora.join(&room).await;
    dora.say(&room, "Ik doe mee.").await;
    until("what Dora says is hers", || async {
        world.search("Communication?part-of=CommunicationRequest/t1&sender=Practitioner/dora").await.pop()
    })
    .await;
    // One version for one joining: Anna's joining, and the bridge's own invitations, made none.
    assert_eq!(world.search("CareTeam/Team-1/_history").await.len(), before + 1);
    assert_eq!(member(&world, &space, &eve.user_id).await.unwrap()["membership"], "join");

    dora.call(Method::POST, &format!("v3/rooms/{}/leave", encode(&space)), Some(json!({}))).await;
    let left = until("Dora's part has ended", || async {
        let team = world.get("CareTeam/Team-1").await?;
        let ended = parts(&team, "Practitioner/dora")[0]["period"]["end"].is_string();
        ended.then_some(team)
    })
    .await;
    let content = becomes(&world, &room, &dora.user_id, "leave").await;
    assert!(content["reason"].as_str().unwrap().contains("No longer a participant"));
    // She comes back: another part, beside the one that ended.
    invite(&anna, &space, &dora.user_id).await;
    dora.join(&space).await;
    until("Dora is in the team again", || async {
        let team = world.get("CareTeam/Team-1").await?;
        let parts = parts(&team, "Practitioner/dora");
        (parts.len() == 2 && parts[0] == crate::attendance::parts(&left, "Practitioner/dora")[0]).then_some(())
    })
    .await;
    assert!(world.output(&["status"]).contains("0 parked"));
}

/// Somebody joins or leaves, and before the bridge hears of it, somebody else who does not know of it rewrites the team.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_or_goes_while_others_rewrite_the_team_is_not_sent_away_or_fetched_back() {
    let mut world = World::with_fhir_server();
    world.settings = vec![("FHIR_BRIDGE_ENGINE__TEAM_FOLLOWS_SPACE", "true".to_owned())];
    let (anna, space, _) = begin(&mut world).await;
    world.put(practitioner("dora", &format!("@dora:{SERVER}"))).await;
    let dora = world.person("dora").await;
    invite(&anna, &space, &dora.user_id).await;

    for (membership, path) in [("join", "join"), ("leave", "leave")] {
        world.kill_bridge();
        dora.call(Method::POST, &format!("v3/rooms/{}/{path}", encode(&space)), Some(json!({}))).await;
        world.kill_homeserver();
        world.forget_pushes();
        let mut team = world.get("CareTeam/Team-1").await.unwrap();
        team["name"] = json!(format!("Herschreven na {membership}"));
        world.put(team).await;
        world.start_homeserver().await;
        world.start_bridge().await;
        until("the team has followed", || async {
            let team = world.get("CareTeam/Team-1").await?;
            let parts = parts(&team, "Practitioner/dora");
            (parts.len() == 1 && parts[0]["period"]["end"].is_null() == (membership == "join")).then_some(())
        })
        .await;
        // What the bridge makes of the team as it is now comes before what it makes of a later version.
        let mut team = world.get("CareTeam/Team-1").await.unwrap();
        team["participant"].as_array_mut().unwrap().push(json!({ "member": { "reference": "Patient/Patient-1" } }));
        if membership == "join" {
            world.put(team).await;
            becomes(&world, &space, &format!("@_fhir_bridge_patient-_patient-1:{SERVER}"), "join").await;
        }
        let history = dora_in(&anna, &space, &dora.user_id).await;
        assert_eq!(history.last().unwrap(), membership, "{history:?}");
        assert!(!history[1..].contains(&"invite".to_owned()), "the bridge asked her back: {history:?}");
    }
}

/// What somebody was to a room, from the beginning on.
async fn dora_in(by: &Person, room: &str, user: &str) -> Vec<String> {
    let of_user = |event: &Value| event["type"] == "m.room.member" && event["state_key"] == user;
    let timeline = by.timeline(room).await;
    timeline.iter().filter(|event| of_user(event)).map(|event| text(&event["content"]["membership"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_part_has_ended_has_no_part_in_the_conversation_unless_named_there() {
    let mut world = World::new();
    world.start_bridge().await;
    introduce(&world).await;
    world.put(practitioner("dora", &format!("@dora:{SERVER}"))).await;
    let mut with_dora = request("t1", "Hoe gaat het met moeder?");
    with_dora["recipient"] = json!([{ "reference": "CareTeam/Team-1" }, { "reference": "Practitioner/dora" }]);
    world.put(with_dora).await;
    world.start_homeserver().await;
    world.connected().await;
    let (anna, dora) = (world.person("anna").await, world.person("dora").await);
    let (space, room) = accept(&world, &anna).await;
    becomes(&world, &room, &dora.user_id, "invite").await;
    dora.join(&room).await;

    // Anna's part ends in a moment: nobody has to write anything then.
    let mut ending = team(&["Practitioner/Anna", "RelatedPerson/Kees", "Practitioner/dora"]);
    ending["participant"][0]["period"] = json!({ "end": in_future(Duration::from_secs(4)) });
    ending["participant"][2]["period"] = json!({ "start": "2020", "end": "2021-03-04" });
    world.put(ending.clone()).await;
    let content = becomes(&world, &space, &anna.user_id, "leave").await;
    assert!(content["reason"].as_str().unwrap().contains("Deelname"), "{content}");
    becomes(&world, &room, &anna.user_id, "leave").await;
    assert_eq!(member(&world, &room, &dora.user_id).await.unwrap()["membership"], "join");
    assert_eq!(member(&world, &space, &dora.user_id).await, None, "she was never in the space");

    // The team is no more. Kees began the conversation as a member of it; Dora is named by the conversation.
    ending["status"] = json!("inactive");
    world.put(ending).await;
    let kees = format!("@_fhir_bridge_relatedperson-_kees:{SERVER}");
    becomes(&world, &room, &kees, "leave").await;
    becomes(&world, &space, &kees, "leave").await;
    assert_eq!(member(&world, &room, &dora.user_id).await.unwrap()["membership"], "join");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_while_the_bridge_is_away_and_who_is_writing() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    world.put(communication("m1", "Lees dit.")).await;
    let message = until("the message is there", || async {
        anna.timeline(&room).await.into_iter().find(|event| event["content"]["body"] == "Lees dit.")
    })
    .await;
    let task = |status: &'static str| {
        let world = &world;
        async move {
            let task = world.search("Task?based-on=CommunicationRequest/t1&owner=Practitioner/Anna").await.pop()?;
            (task["focus"]["reference"] == "Communication/m1" && task["status"] == status).then_some(())
        }
    };
    until("it is unread", || task("requested")).await;

    world.kill_bridge();
    anna.read(&room, message["event_id"].as_str().unwrap()).await;
    world.start_bridge().await;
    let task = |status: &'static str| {
        let world = &world;
        async move {
            let task = world.search("Task?based-on=CommunicationRequest/t1&owner=Practitioner/Anna").await.pop()?;
            (task["focus"]["reference"] == "Communication/m1" && task["status"] == status).then_some(())
        }
    };
    until("it is read", || task("completed")).await;
    // It was asked for: Synapse repeats the transaction without it.
    let asked = format!("receipts were asked for room=\"{room}\" receipts=1");
    assert!(world.log().contains(&asked), "the receipt was asked for");

    writing(&world, &anna, &room).await;
}

/// Kees begins to write, and sends it.
async fn writing(world: &World, anna: &Person, room: &str) {
    let kees = format!("@_fhir_bridge_relatedperson-_kees:{SERVER}");
    let filter = json!({ "room": { "ephemeral": { "types": ["m.typing"] }, "rooms": [room] } }).to_string();
    let typing = |since: String| {
        let path = format!("v3/sync?timeout=1000&since={since}&filter={}", encode(&filter));
        async move {
            let sync = anna.get(&path).await;
            let events = sync["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
            let users = events.last().map(|event| event["content"]["user_ids"].clone());
            (sync["next_batch"].as_str().unwrap().to_owned(), users)
        }
    };
    let mut since = anna.get("v3/sync?timeout=0").await["next_batch"].as_str().unwrap().to_owned();
    let mut wait_for = async |wanted: Value| loop {
        let (next, users) = typing(since.clone()).await;
        since = next;
        if users == Some(wanted.clone()) {
            break;
        }
    };
    let mut draft = communication("m2", "Ik ga nog even…");
    draft["status"] = json!("preparation");
    world.put(draft).await;
    tokio::time::timeout(Duration::from_secs(60), wait_for(json!([kees]))).await.expect("Kees is seen to type");
    assert!(!anna.texts(room).await.iter().any(|text| text.contains("nog even")), "a draft is not shown");
    world.put(communication("m2", "Ik ga nog even langs.")).await;
    tokio::time::timeout(Duration::from_secs(60), wait_for(json!([]))).await.expect("Kees types no longer");
    until("the message is there", || async {
        anna.texts(room).await.contains(&"Ik ga nog even langs.".to_owned()).then_some(())
    })
    .await;
    // Given up: nothing was said, and nobody types.
    let mut draft = communication("m3", "Of toch niet");
    draft["status"] = json!("preparation");
    world.put(draft.clone()).await;
    tokio::time::timeout(Duration::from_secs(60), wait_for(json!([kees]))).await.expect("Kees is seen to type again");
    draft["status"] = json!("stopped");
    world.put(draft).await;
    tokio::time::timeout(Duration::from_secs(60), wait_for(json!([]))).await.expect("Kees has given up");
    assert!(!anna.texts(room).await.iter().any(|text| text.contains("toch niet")));
}
