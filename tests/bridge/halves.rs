//! Rooms of which a homeserver made a half: it gives a room its alias before there is anything in it, and was killed in
//! between.

use rusqlite::{Connection, params};

use crate::{
    scenario::{accept, communication, introduce},
    world::{SERVER, World, until},
};

/// What Synapse has of such a room: that there is to be one, and its alias.
fn leave_half_a_room(database: &Connection, alias: &str) -> String {
    let (room, creator) = (format!("!half-{alias}:{SERVER}"), format!("@_fhir:{SERVER}"));
    let alias = format!("#_fhir_bridge_{alias}:{SERVER}");
    let insert = "INSERT INTO rooms (room_id, is_public, creator, room_version, has_auth_chain_index)
        VALUES (?1, false, ?2, '10', true)";
    database.execute(insert, params![room, creator]).unwrap();
    let insert = "INSERT INTO room_aliases (room_alias, room_id, creator) VALUES (?1, ?2, ?3)";
    database.execute(insert, params![alias, room, creator]).unwrap();
    let insert = "INSERT INTO room_alias_servers (room_alias, server) VALUES (?1, ?2)";
    database.execute(insert, params![alias, SERVER]).unwrap();
    room
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_which_only_the_alias_was_made_is_made_whole() {
    let mut world = World::new();
    world.start_bridge().await;
    world.start_homeserver().await;
    world.connected().await;
    world.kill_homeserver();
    let database = Connection::open(world.path("synapse").join("db")).unwrap();
    let halves = ["careteam-_team-1", "communicationrequest-t1"].map(|alias| leave_half_a_room(&database, alias));
    drop(database);
    introduce(&world).await;
    world.put(communication("m1", "Het gaat goed.")).await;
    world.start_homeserver().await;
    let anna = world.person("anna").await;
    // She is invited to rooms that have the aliases; nobody can be to those that had them.
    until("both are made anew", || async {
        (world.log().matches("for a room that it never made").count() == 2).then_some(())
    })
    .await;
    let (space, room) = accept(&world, &anna).await;
    assert!(!halves.contains(&space) && !halves.contains(&room));
    until("all is said", || async { (anna.texts(&room).await.len() >= 2).then_some(()) }).await;
    anna.say(&room, "Dank je.").await;
    until("it is written down", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.iter().any(|one| one["payload"][0]["contentString"] == "Dank je.").then_some(())
    })
    .await;
    // Nobody was in the first ones, so nobody is told that they are gone.
    assert_eq!(anna.texts(&room).await, ["Hoe gaat het met moeder?", "Het gaat goed.", "Dank je."]);
    let status = world.output(&["status"]);
    assert!(status.contains("0 waiting, 0 parked"), "{status}");
}
