//! People who cannot be invited now, or not at all, and people whose Matrix id is another one than it was: nobody else
//! waits for them, and nobody keeps what is no longer theirs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication, practitioner, request, team},
    world::{Person, SERVER, World, encode, until},
};

async fn becomes(world: &World, room: &str, user: &str, membership: &str) {
    let path = format!("v3/rooms/{}/state/m.room.member/{}", encode(room), encode(user));
    until(&format!("{user} becomes {membership}"), || async {
        (world.bot().try_get(&path).await?["membership"] == membership).then_some(())
    })
    .await;
}

async fn is_said(person: &Person, room: &str, text: &str) {
    until(text, || async { person.texts(room).await.iter().any(|said| said == text).then_some(()) }).await;
}

async fn deactivate(person: &Person) {
    let name = &person.user_id;
    let auth =
        json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": "p" });
    person.call(Method::POST, "v3/account/deactivate", Some(json!({ "auth": auth }))).await;
}

/// Whoever stands behind them in any order takes part, and what is said is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_people_who_cannot_be_invited() {
    let mut world = World::new();
    let (anna, space, room) = begin(&mut world).await;
    // Of a server that nobody knows, and of one who is no more.
    world.put(practitioner("Weg", "@aaa:weg.invalid")).await;
    let carl = world.person("carl").await;
    deactivate(&carl).await;
    world.put(practitioner("Carl", &carl.user_id)).await;
    world.put(practitioner("Dora", &format!("@dora:{SERVER}"))).await;
    let dora = world.person("dora").await;
    let all = ["Practitioner/Weg", "Practitioner/Carl", "Practitioner/Anna", "RelatedPerson/Kees", "Practitioner/Dora"];
    world.put(team(&all)).await;
    for place in [&space, &room] {
        becomes(&world, place, &dora.user_id, "invite").await;
    }
    world.put(communication("m1", "Wie is er?")).await;
    is_said(&anna, &room, "Wie is er?").await;
    // A conversation that is new begins as well.
    world.put(request("t2", "Nog een gesprek.")).await;
    let alias = format!("v3/directory/room/{}", encode(&format!("#_fhir_bridge_communicationrequest-t2:{SERVER}")));
    let second =
        until("there is a room", || async { Some(world.bot().try_get(&alias).await?["room_id"].as_str()?.to_owned()) })
            .await;
    becomes(&world, &second, &dora.user_id, "invite").await;

    // They are tried again, and it is told who is waited for: by homeserver, not by name.
    until("somebody is still to be invited", || async {
        world.log().contains("lane=\"reach CareTeam/Team-1\"").then_some(())
    })
    .await;
    assert!(!world.output(&["status"]).contains("@aaa"), "{}", world.output(&["status"]));
    // When FHIR names them no longer, nobody tries.
    world.put(team(&["Practitioner/Anna", "RelatedPerson/Kees", "Practitioner/Dora"])).await;
    until("nothing is left to do", || async {
        let status: Value = serde_json::from_str(&world.output(&["status", "--json"])).unwrap();
        (status["overview"]["ready"] == json!([0, 0]) && status["overview"]["parked"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_another_matrix_id_takes_part_by_that_one_alone() {
    let mut world = World::new();
    let (anna, space, room) = begin(&mut world).await;
    // Of a conversation without a team she is the one who asked.
    let mut own = request("t2", "Zonder team.");
    own["requester"] = json!({ "reference": "Practitioner/Anna" });
    own["recipient"] = json!([{ "reference": "RelatedPerson/Kees" }]);
    world.put(own).await;
    let alias = format!("v3/directory/room/{}", encode(&format!("#_fhir_bridge_communicationrequest-t2:{SERVER}")));
    let second = until("she is invited there", || async {
        let room = world.bot().try_get(&alias).await?["room_id"].as_str()?.to_owned();
        world
            .bot()
            .try_get(&format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&anna.user_id)))
            .await?;
        Some(room)
    })
    .await;
    anna.join(&second).await;
    let bob = world.person("bob").await;
    anna.call(Method::POST, &format!("v3/rooms/{}/invite", encode(&room)), Some(json!({ "user_id": bob.user_id })))
        .await;
    bob.join(&room).await;

    world.put(practitioner("Anna", &format!("@anna.arts:{SERVER}"))).await;
    let other = world.person("anna.arts").await;
    for place in [&space, &room, &second] {
        becomes(&world, place, &other.user_id, "invite").await;
        becomes(&world, place, &anna.user_id, "leave").await;
    }
    // Whom somebody invited, and FHIR never knew, stays.
    becomes(&world, &room, &bob.user_id, "join").await;
    // With no Matrix id at all it is her ghost that takes part.
    other.join(&room).await;
    world.put(json!({ "resourceType": "Practitioner", "id": "Anna", "name": [{ "text": "Anna" }] })).await;
    becomes(&world, &room, &format!("@_fhir_bridge_practitioner-_anna:{SERVER}"), "join").await;
    becomes(&world, &room, &other.user_id, "leave").await;
    // And back: what she had once is hers again.
    world.put(practitioner("Anna", &anna.user_id)).await;
    becomes(&world, &room, &anna.user_id, "invite").await;
    anna.join(&room).await;
    world.put(communication("m1", "Welkom terug.")).await;
    is_said(&anna, &room, "Welkom terug.").await;
    becomes(&world, &room, &anna.user_id, "join").await;
}
