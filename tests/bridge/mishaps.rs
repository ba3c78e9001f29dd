//! What goes wrong around the bridge: rooms that are deleted, users who are banned, records that are merged, tokens
//! that are changed, clocks that are set.

use reqwest::{Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication, request, team},
    world::{Person, SERVER, World, encode, until},
};

/// Deletes a room as an admin of the homeserver does, and waits until that is done.
async fn delete_room(world: &World, room: &str) {
    let url = format!("{}/_synapse/admin", world.base());
    let nonce: Value = world.http.get(format!("{url}/v1/register")).send().await.unwrap().json().await.unwrap();
    let (nonce, name) =
        (nonce["nonce"].as_str().unwrap(), format!("admin{}", room.len() + usize::from(room.as_bytes()[1])));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"s");
    let mac = hmac::sign(&key, format!("{nonce}\0{name}\0p\0admin").as_bytes());
    let mac: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let admin = json!({ "nonce": nonce, "username": name, "password": "p", "admin": true, "mac": mac });
    let made: Value =
        world.http.post(format!("{url}/v1/register")).json(&admin).send().await.unwrap().json().await.unwrap();
    let token = made["access_token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let request = world.http.delete(format!("{url}/v2/rooms/{}", encode(room))).bearer_auth(&token);
    let started: Value =
        request.json(&json!({ "purge": true, "block": false })).send().await.unwrap().json().await.unwrap();
    let status = format!("{url}/v2/rooms/delete_status/{}", started["delete_id"].as_str().unwrap());
    until("the room is deleted", || async {
        let answer: Value = world.http.get(&status).bearer_auth(&token).send().await.ok()?.json().await.ok()?;
        (answer["status"] == "complete").then_some(())
    })
    .await;
}

/// The room behind an alias when it is another than the one that was.
async fn another_room(world: &World, name: &str, before: &str) -> String {
    let alias = format!("v3/directory/room/{}", encode(&format!("#_fhir_bridge_{name}:{SERVER}")));
    until("there is another room", || async {
        let room = world.bot().try_get(&alias).await?["room_id"].as_str()?.to_owned();
        (room != before).then_some(room)
    })
    .await
}

async fn invited(world: &World, room: &str, user: &str) {
    until(&format!("{user} is invited"), || async { (member(world, room, user).await? == "invite").then_some(()) })
        .await;
}

async fn member(world: &World, room: &str, user: &str) -> Option<Value> {
    let path = format!("v3/rooms/{}/state/m.room.member/{}", encode(room), encode(user));
    Some(world.bot().try_get(&path).await?["membership"].clone())
}

async fn arrives(person: &Person, room: &str, text: &str) {
    until(&format!("{text:?} is said"), || async {
        person.texts(room).await.iter().any(|said| said == text).then_some(())
    })
    .await;
}

async fn written(world: &World, text: &str) -> Value {
    until(&format!("{text:?} is written down"), || async {
        let all = world.search("Communication?_count=200").await;
        all.into_iter().find(|communication| communication["payload"][0]["contentString"] == text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_an_admin_deletes_is_made_anew() {
    let mut world = World::new();
    let (anna, space, room) = begin(&mut world).await;
    world.put(communication("m1", "In het eerste gesprek.")).await;
    arrives(&anna, &room, "In het eerste gesprek.").await;
    anna.say(&room, "Ook in het eerste.").await;
    written(&world, "Ook in het eerste.").await;

    delete_room(&world, &room).await;
    world.put(communication("m2", "In het tweede gesprek.")).await;
    let second = another_room(&world, "communicationrequest-t1", &room).await;
    invited(&world, &second, &anna.user_id).await;
    anna.join(&second).await;
    arrives(&anna, &second, "In het tweede gesprek.").await;
    let texts = anna.texts(&second).await;
    assert_eq!(texts[0], "Hoe gaat het met moeder?", "it begins as it began: {texts:?}");
    until("the bridge says what has happened", || async {
        anna.texts(&second).await.iter().any(|text| text.contains("was removed from this server")).then_some(())
    })
    .await;
    // What was said before is on record, and changes there find no room to be said in unless they say more.
    assert!(!anna.texts(&second).await.iter().any(|text| text.contains("eerste")), "{texts:?}");
    // Nor is it read there any more.
    world
        .put(json!({ "resourceType": "Task", "id": "of-kees", "status": "completed", "intent": "order",
            "basedOn": [{ "reference": "CommunicationRequest/t1" }], "focus": { "reference": "Communication/m1" },
            "owner": { "reference": "RelatedPerson/Kees" } }))
        .await;
    let mut message = world.get("Communication/m1").await.unwrap();
    message["payload"][0]["contentString"] = json!("Verbeterd.");
    world.put(message).await;
    arrives(&anna, &second, "Verbeterd.").await;
    anna.say(&second, "Ik ben er weer.").await;
    written(&world, "Ik ben er weer.").await;

    // The space, too.
    delete_room(&world, &space).await;
    let mut team = world.get("CareTeam/Team-1").await.unwrap();
    team["name"] = json!("Andere naam");
    world.put(team).await;
    let space = another_room(&world, "careteam-_team-1", &space).await;
    invited(&world, &space, &anna.user_id).await;
    anna.join(&space).await;
    until("space and room name each other", || async {
        let child = format!("v3/rooms/{}/state/m.space.child/{}", encode(&space), encode(&second));
        let parent = format!("v3/rooms/{}/state/m.space.parent/{}", encode(&second), encode(&space));
        anna.try_get(&child).await.and(anna.try_get(&parent).await)
    })
    .await;
    assert!(world.output(&["status"]).contains("0 waiting, 0 parked"), "{}", world.output(&["status"]));
    assert!(world.log().contains("the room is gone from the homeserver"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_or_sent_away_says_nothing_until_somebody_acts() {
    let mut world = World::new();
    let (anna, space, room) = begin(&mut world).await;
    arrives(&anna, &room, "Hoe gaat het met moeder?").await;
    let kees = format!("@_fhir_bridge_relatedperson-_kees:{SERVER}");
    let (bot, about) = (world.bot(), json!({ "user_id": kees }));
    bot.call(Method::POST, &format!("v3/rooms/{}/ban", encode(&room)), Some(about.clone())).await;
    world.put(communication("m1", "Van Kees.")).await;
    let mut of_anna = communication("m2", "Van Anna.");
    of_anna["sender"] = json!({ "reference": "Practitioner/Anna" });
    world.put(of_anna).await;
    // Others go on at once.
    arrives(&anna, &room, "Van Anna.").await;
    let status = world.output(&["status"]);
    assert!(status.contains("1 parked") && status.contains("banned from the room"), "{status}");
    bot.call(Method::POST, &format!("v3/rooms/{}/unban", encode(&room)), Some(about)).await;
    world.output(&["retry"]);
    arrives(&anna, &room, "Van Kees.").await;

    // Anna sends the bridge out of a room that she made herself.
    let parent = json!({ "type": "m.space.parent", "state_key": space, "content": { "via": [SERVER] } });
    let plan = json!({ "preset": "private_chat", "invite": [bot.user_id], "initial_state": [parent] });
    let made = anna.call(Method::POST, "v3/createRoom", Some(plan)).await;
    let own = made["room_id"].as_str().unwrap();
    let query = format!("CommunicationRequest?identifier=https://matrix.org/room-id%7C{}", encode(own));
    let of_room = until("her room is a conversation", || async { world.search(&query).await.pop() }).await;
    let about = json!({ "user_id": bot.user_id });
    anna.call(Method::POST, &format!("v3/rooms/{}/kick", encode(own)), Some(about.clone())).await;
    let mut message = communication("m3", "Hoort u mij?");
    let conversation = format!("CommunicationRequest/{}", of_room["id"].as_str().unwrap());
    message["partOf"] = json!([{ "reference": conversation }]);
    message["sender"] = json!({ "reference": "Practitioner/Anna" });
    world.put(message).await;
    until("its work is parked, and says why", || async {
        world.output(&["status"]).contains("was sent out of the room").then_some(())
    })
    .await;
    anna.call(Method::POST, &format!("v3/rooms/{}/invite", encode(own)), Some(about)).await;
    until("the bridge is back", || async { (member(&world, own, &bot.user_id).await? == "join").then_some(()) }).await;
    let ghost = json!({ "user_id": format!("@_fhir_bridge_practitioner-_anna:{SERVER}") });
    anna.call(Method::POST, &format!("v3/rooms/{}/invite", encode(own)), Some(ghost)).await;
    world.output(&["retry"]);
    arrives(&anna, own, "Hoort u mij?").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_merged_renamed_and_alike() {
    let mut world = World::new();
    let (anna, space, room) = begin(&mut world).await;
    let same = json!([{ "system": "http://example.nl/teams", "value": "7" }]);
    let mut first = team(&["Practitioner/Anna", "RelatedPerson/Kees", "Patient/Patient-1"]);
    first["identifier"] = same.clone();
    world.put(first.clone()).await;
    let ghost = |name: &str| format!("@_fhir_bridge_{name}:{SERVER}");
    until("the patient takes part", || async {
        (member(&world, &space, &ghost("patient-_patient-1")).await? == "join").then_some(())
    })
    .await;

    // Two teams of one identifier are two teams.
    first["id"] = json!("Team-2");
    world.put(first).await;
    let other = another_room(&world, "careteam-_team-2", &space).await;
    invited(&world, &other, &anna.user_id).await;

    // A name changes while another process of the bridge runs than the one that gave it.
    world.kill_bridge();
    world.start_bridge().await;
    world.connected().await;
    let mut kees = world.get("RelatedPerson/Kees").await.unwrap();
    kees["name"] = json!([{ "text": "Kees de Groot-Smit" }]);
    world.put(kees).await;
    until("Kees is called as he is", || async {
        let path = format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&ghost("relatedperson-_kees")));
        (anna.try_get(&path).await?["displayname"] == "Kees de Groot-Smit").then_some(())
    })
    .await;

    // The patient's record is replaced by another one.
    world.put(json!({ "resourceType": "Patient", "id": "Patient-2", "name": [{ "text": "Kanarie" }] })).await;
    let mut merged = world.get("Patient/Patient-1").await.unwrap();
    merged["active"] = json!(false);
    merged["link"] = json!([{ "other": { "reference": "Patient/Patient-2" }, "type": "replaced-by" }]);
    world.put(merged).await;
    for place in [&space, &room] {
        until("the record that remains takes part", || async {
            let (old, new) = (ghost("patient-_patient-1"), ghost("patient-_patient-2"));
            (member(&world, place, &new).await? == "join" && member(&world, place, &old).await? == "leave")
                .then_some(())
        })
        .await;
    }
    let mut message = communication("m1", "Ik ben dezelfde.");
    message["sender"] = json!({ "reference": "Patient/Patient-1" });
    world.put(message).await;
    arrives(&anna, &room, "Ik ben dezelfde.").await;
    let said =
        anna.timeline(&room).await.into_iter().find(|event| event["content"]["body"] == "Ik ben dezelfde.").unwrap();
    assert_eq!(said["sender"], ghost("patient-_patient-2"));
    assert!(world.output(&["status"]).contains("0 parked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_changed_and_clocks_are_set() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    arrives(&anna, &room, "Hoe gaat het met moeder?").await;

    // Both tokens are new, and the homeserver is the first to know them.
    let path = world.path("state").join("registration.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let registration: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let changed = ["as_token", "hs_token"].iter().fold(text.clone(), |text, token| {
        let old = registration[*token].as_str().unwrap();
        text.replace(old, &old.chars().rev().collect::<String>())
    });
    assert_ne!(changed, text);
    std::fs::write(&path, changed).unwrap();
    world.kill_homeserver();
    world.start_homeserver().await;
    world.put(communication("m1", "Met het oude token aangenomen.")).await;
    let health = until("the bridge says what is wrong", || async {
        let (status, text) = world.health().await;
        (status == StatusCode::SERVICE_UNAVAILABLE && text.contains("as_token")).then_some(text)
    })
    .await;
    assert!(!health.contains(registration["as_token"].as_str().unwrap()), "{health}");
    anna.say(&room, "Met het oude token gezegd.").await;
    world.kill_bridge();
    world.start_bridge().await;
    world.connected().await;
    arrives(&anna, &room, "Met het oude token aangenomen.").await;
    written(&world, "Met het oude token gezegd.").await;

    // Work was stored by a clock that is three hours ahead, as it seems when the clock is set back.
    world.kill_homeserver();
    world.put(communication("m2", "Van straks.")).await;
    world.put(request("t2", "Ook van straks.")).await;
    let database = rusqlite::Connection::open(world.path("state").join("bridge.sqlite")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    until("both are stored", || async {
        let stored = |text: &str| {
            let query = "SELECT count(*) FROM work WHERE instr(payload, ?) > 0";
            database.query_row(query, [text], |row| row.get::<_, i64>(0)).unwrap() > 0
        };
        (stored("Van straks.") && stored("Ook van straks.")).then_some(())
    })
    .await;
    world.kill_bridge();
    database.execute("UPDATE lane SET due = (unixepoch() + 3 * 3600) * 1000", []).unwrap();
    drop(database);
    world.start_homeserver().await;
    world.start_bridge().await;
    arrives(&anna, &room, "Van straks.").await;
    assert!(world.output(&["status"]).contains("0 parked"));
}

/// What the database refuses for good holds up nobody: it is parked with the reason, and a part that was done is not done
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_is_parked_and_named() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    let database = rusqlite::Connection::open(world.path("state").join("bridge.sqlite")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER a BEFORE DELETE ON work WHEN old.payload LIKE '%Ongehoord%' BEGIN SELECT RAISE(ABORT, 'a'); END;
             CREATE TRIGGER b BEFORE INSERT ON event WHEN new.event_id = '$b' BEGIN SELECT RAISE(ABORT, 'b'); END;",
        )
        .unwrap();

    // It is said, but that it was said cannot be stored.
    world.put(communication("m1", "Ongehoord")).await;
    world.put(communication("m2", "Gewoon")).await;
    arrives(&anna, &room, "Gewoon").await;
    let status = world.output(&["status"]);
    assert!(status.contains("1 parked") && status.contains("the database refused"), "{status}");

    // A transaction with an event that cannot be stored.
    let event = |id: &str, text: &str| {
        json!({ "type": "m.room.message", "event_id": id, "room_id": room, "sender": anna.user_id,
            "origin_server_ts": 4_000_000_000_000_u64, "content": { "msgtype": "m.text", "body": text } })
    };
    let events = json!([event("$a", "Voor"), event("$b", "Onmogelijk"), event("$c", "Na")]);
    assert_eq!(world.push(1, events).await, StatusCode::OK);
    written(&world, "Voor").await;
    written(&world, "Na").await;
    let named = until("the event is named", || async {
        let status = world.output(&["status"]);
        status.contains("2 parked").then_some(status)
    })
    .await;
    assert!(named.contains("refused the event $b") && !named.contains("Onmogelijk"), "{named}");

    database.execute_batch("DROP TRIGGER a; DROP TRIGGER b;").unwrap();
    world.output(&["retry"]);
    until("only the event is parked", || async { world.output(&["status"]).contains("1 parked").then_some(()) }).await;
    world.put(communication("m3", "Tot slot")).await;
    arrives(&anna, &room, "Tot slot").await;
    let texts = anna.texts(&room).await;
    assert_eq!(texts.iter().filter(|text| *text == "Ongehoord").count(), 1, "{texts:?}");
}
