//! A homeserver that is killed between storing an event and answering: it has the event, has forgotten the transaction id,
//! and would take a repetition for another one. Here that happens to everything that the bridge says.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    between,
    scenario::{begin, communication},
    world::{Person, World, free_ports, until},
};

/// Stands between the bridge and its homeserver.
struct Forgetful {
    http: Client,
    homeserver: String,
    /// What was sent, by path, and in which order.
    sent: Mutex<HashSet<String>>,
}

impl Forgetful {
    /// Answers on a port for as long as the test runs.
    async fn before(world: &World, port: u16) {
        let between = Arc::new(Self { http: world.http.clone(), homeserver: world.base(), sent: Mutex::default() });
        between::serve(port, Router::new().fallback(pass_on).with_state(between)).await;
    }
}

/// Passes a call on. What sends an event gets a transaction id that was never seen, and the first answer is lost.
async fn pass_on(State(between): State<Arc<Forgetful>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let sends = request.method() == Method::PUT && (path.contains("/send/") || path.contains("/redact/"));
    let (new_id, is_first) = {
        let mut sent = between.sent.lock().unwrap();
        (if sends { format!("-{}", sent.len()) } else { String::new() }, sends && sent.insert(path.clone()))
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{path}{new_id}{query}");
    match between::pass_on(&between.http, &between.homeserver, &path, request).await {
        Some(answer) if !(is_first && answer.status().is_success()) => answer,
        _ => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// What was said in a room, by whoever said it, and what was withdrawn.
async fn everything(person: &Person, room: &str) -> Vec<String> {
    let said = |event: &Value| match event["type"].as_str()? {
        "m.room.message" => Some(event["content"]["body"].as_str().unwrap_or("(withdrawn)").to_owned()),
        "m.room.redaction" => Some("a redaction".to_owned()),
        _ => None,
    };
    person.timeline(room).await.iter().filter_map(said).collect()
}

/// Waits until something is said: a FHIR server elsewhere may be asked for the newest version alone.
async fn is_said(person: &Person, room: &str, text: &str) {
    until(text, || async { person.texts(room).await.iter().any(|said| said.contains(text)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_bridge_says_is_said_once_to_a_homeserver_that_forgets_what_it_did_not_answer() {
    let mut world = World::new();
    let [port] = free_ports();
    Forgetful::before(&world, port).await;
    world.settings = vec![
        ("FHIR_BRIDGE_HOMESERVER__URL", format!("http://127.0.0.1:{port}")),
        ("FHIR_BRIDGE_HOMESERVER__PATIENCE_SECONDS", "5".to_owned()),
    ];
    let (anna, _, room) = begin(&mut world).await;

    // A message of two parts, an edit of one, a withdrawal.
    let mut message = communication("m1", "Eerste deel");
    message["payload"] = json!([{ "contentString": "Eerste deel" }, { "contentString": "Tweede deel" }]);
    world.put(message.clone()).await;
    is_said(&anna, &room, "Tweede deel").await;
    message["payload"][1]["contentString"] = json!("Tweede deel, beter");
    world.put(message).await;
    world.put(communication("m2", "Een vergissing")).await;
    is_said(&anna, &room, "Een vergissing").await;
    let mut mistake = communication("m2", "Een vergissing");
    mistake["status"] = json!("entered-in-error");
    world.put(mistake).await;

    // What the bridge says itself: of content that is missing, and of what became of a person's words.
    anna.send(&room, "m.poll.start", json!({ "m.poll": { "question": { "body": "Wanneer?" } } })).await;
    anna.say(&room, "Van Anna").await;
    let mut of_anna = until("Anna's words are written down", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.into_iter().find(|communication| communication["payload"][0]["contentString"] == "Van Anna")
    })
    .await;
    // Two corrections of one message are two.
    for text in ["Van Anna, anders", "Van Anna, weer anders"] {
        of_anna["payload"] = json!([{ "contentString": text }]);
        of_anna = world.put(of_anna).await;
        is_said(&anna, &room, &format!("Gewijzigd in het dossier: {text}")).await;
    }
    anna.say(&room, "!fhir hulp").await;
    world.put(communication("last", "Tot slot")).await;
    let wanted = ["Tot slot", "weer anders", "onder vier ogen"];
    until("everything is said", || async {
        let all = everything(&anna, &room).await;
        let is_said = |wanted: &&str| all.iter().any(|text| text.contains(wanted));
        (wanted.iter().all(is_said) && all.iter().any(|text| text.contains("Not all of"))).then_some(())
    })
    .await;
    until("nothing is left to do", || async {
        let status: Value = serde_json::from_str(&world.output(&["status", "--json"])).unwrap();
        (status["overview"]["ready"] == json!([0, 0])).then_some(())
    })
    .await;

    let all = everything(&anna, &room).await;
    let count = |wanted: &str| all.iter().filter(|text| text.contains(wanted)).count();
    let wanted = [
        ("Hoe gaat het", 1),
        ("Eerste deel", 1),
        ("* Tweede deel, beter", 1),
        ("(withdrawn)", 1),
        ("a redaction", 1),
        ("Not all of", 1),
        ("Gewijzigd in het dossier: Van Anna, anders", 1),
        ("Gewijzigd in het dossier: Van Anna, weer anders", 1),
        ("onder vier ogen", 1),
        ("Tot slot", 1),
    ];
    let found = wanted.map(|(text, _)| (text, count(text)));
    assert_eq!(found, wanted, "{all:#?}");
    assert!(world.output(&["status"]).contains("0 parked"));
}
