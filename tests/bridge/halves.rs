//! Rooms of which a homeserver made a half: it gives a room its alias before there is anything in it, and was killed in
//! between, or is slow.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use reqwest::Client;
use rusqlite::{Connection, params};
use serde_json::json;

use crate::{
    between,
    scenario::{accept, communication, introduce},
    world::{SERVER, World, free_ports, until},
};

/// Stands between the bridge and a homeserver that is slow to make rooms: their aliases are there at once, the answers
/// are lost, and until they are made nobody is in them.
struct Slow {
    http: Client,
    homeserver: String,
    /// The rooms that were made, without their sigil: clients may encode it in a path, or not.
    made: Mutex<Vec<String>>,
    is_done: AtomicBool,
}

// === impl Slow ===

impl Slow {
    async fn before(world: &World, port: u16) -> Arc<Self> {
        let (http, homeserver) = (world.http.clone(), world.base());
        let slow = Arc::new(Self { http, homeserver, made: Mutex::default(), is_done: AtomicBool::new(false) });
        between::serve(port, Router::new().fallback(answer).with_state(Arc::clone(&slow))).await;
        slow
    }

    /// Whether a path is about a room that is not made yet.
    fn is_half(&self, path: &str) -> bool {
        !self.is_done.load(Ordering::Relaxed) && self.made.lock().unwrap().iter().any(|room| path.contains(room))
    }
}

fn bare(room: &str) -> String {
    room.trim_start_matches('!').to_owned()
}

async fn answer(State(slow): State<Arc<Slow>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    if slow.is_half(&path) {
        // What Synapse says of a room that has an alias and no events.
        let error = json!({ "errcode": "M_FORBIDDEN", "error": "User not in room, and room previews are disabled" });
        return (StatusCode::FORBIDDEN, Json(error)).into_response();
    }
    let makes = path.contains("/createRoom");
    let Some(answer) = between::pass_on(&slow.http, &slow.homeserver, &path, request).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if !makes || !answer.status().is_success() {
        return answer;
    }
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let room: serde_json::Value = serde_json::from_slice(&body).unwrap();
    slow.made.lock().unwrap().push(bare(room["room_id"].as_str().unwrap()));
    StatusCode::GATEWAY_TIMEOUT.into_response()
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_a_slow_homeserver_makes_after_all_is_the_one_that_is_used() {
    let mut world = World::new();
    let [port] = free_ports();
    let slow = Slow::before(&world, port).await;
    world.settings = vec![("FHIR_BRIDGE_HOMESERVER__URL", format!("http://127.0.0.1:{port}"))];
    world.start_bridge().await;
    introduce(&world).await;
    world.put(communication("m1", "Het gaat goed.")).await;
    world.start_homeserver().await;
    until("the bridge waits for the first room", || async {
        world.log().contains("has an alias for a room that it has not made yet").then_some(())
    })
    .await;
    let anna = world.person("anna").await;
    slow.is_done.store(true, Ordering::Relaxed);
    let (space, room) = accept(&world, &anna).await;
    until("all is said", || async { (anna.texts(&room).await.len() >= 2).then_some(()) }).await;
    assert_eq!(anna.texts(&room).await, ["Hoe gaat het met moeder?", "Het gaat goed."]);
    // No other one was made in its place, and nobody was told of one that is gone.
    assert_eq!(*slow.made.lock().unwrap(), [bare(&space), bare(&room)]);
    assert!(!world.log().contains("that it never made"));
    assert!(world.output(&["status"]).contains("0 waiting, 0 parked"), "{}", world.output(&["status"]));
}
