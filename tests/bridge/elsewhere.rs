//! A bridge whose FHIR server is elsewhere: the embedded endpoint of a second bridge, which calls its hook.

use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    scenario::{accept, communication, introduce},
    traces::trace_ids,
    world::{World, until},
};

/// A bridge that serves FHIR and knows no homeserver.
async fn fhir_server() -> World {
    let mut server = World::embedded();
    server.settings = vec![("FHIR_BRIDGE_FHIR__HOOKS__GUARD__ALLOW_PRIVATE", "true".to_owned())];
    server.start_bridge().await;
    server
}

/// A bridge that all but never looks by itself: what it learns, it learns from calls of its hook.
fn bridge_of(server: &World) -> World {
    let mut world = World::embedded();
    let port = world.bridge_port;
    world.settings = vec![
        ("FHIR_BRIDGE_FHIR__SERVER__BASE", server.fhir()),
        ("FHIR_BRIDGE_FHIR__SERVER__HOOK_URL", format!("http://127.0.0.1:{port}")),
        ("FHIR_BRIDGE_FHIR__SERVER__HOOK_POLL_SECONDS", "100000".to_owned()),
        ("FHIR_BRIDGE_ENGINE__POLL_SECONDS", "100000".to_owned()),
    ];
    world
}

async fn subscriptions(server: &World) -> Vec<Value> {
    server.search("Subscription").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fhir_server_elsewhere_calls_the_bridge() {
    let server = fhir_server().await;
    let mut world = bridge_of(&server);
    world.start_bridge().await;
    let all_active = || async {
        let found = subscriptions(&server).await;
        (found.len() == 9 && found.iter().all(|subscription| subscription["status"] == "active")).then_some(found)
    };
    let asked = until("all subscriptions are active", all_active).await;
    assert!(asked.iter().all(|subscription| subscription["channel"]["payload"].is_null()));

    // Nobody else rings, and the secret is in no log.
    let hook = format!("http://127.0.0.1:{}/fhir-hook", world.bridge_port);
    let call = |secret: &str| world.http.post(&hook).header("authorization", secret.to_owned()).send();
    assert_eq!(call("Bearer wrong").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let header = asked[0]["channel"]["header"][0].as_str().unwrap().split_once(": ").unwrap().1.to_owned();
    assert_eq!(call(&header).await.unwrap().status(), StatusCode::OK);
    assert!(!world.log().contains(header.strip_prefix("Bearer ").unwrap()));

    // A conversation that is written there is read here, by hints alone.
    introduce(&server).await;
    server.put(communication("m1", "Het gaat goed.")).await;
    world.start_homeserver().await;
    world.connected().await;
    let anna = world.person("anna").await;
    let (_, room) = accept(&world, &anna).await;
    until("both messages are there", || async { (anna.texts(&room).await.len() == 2).then_some(()) }).await;
    anna.say(&room, "Fijn om te horen").await;
    let answered = || async {
        let found = server.search("Communication?part-of=CommunicationRequest/t1").await;
        found.into_iter().find(|found| found["payload"][0]["contentString"] == "Fijn om te horen")
    };
    until("the answer is at the FHIR server", answered).await;
    // The answer came in the trace of the work that wrote it.
    let wrote: Vec<_> = trace_ids(&server.log(), "method=PUT");
    let worked = trace_ids(&world.log(), "kind=\"event\"");
    assert!(worked.iter().any(|id| wrote.contains(id)), "{worked:?} {wrote:?}");

    // After a restart nothing is asked for twice, and what was written meanwhile is found.
    world.kill_bridge();
    server.put(communication("m2", "Geschreven toen de brug weg was.")).await;
    world.start_bridge().await;
    until("what was missed is there", || async { (anna.texts(&room).await.len() == 4).then_some(()) }).await;
    assert_eq!(subscriptions(&server).await.len(), 9);
    server.put(communication("m3", "En nog een.")).await;
    until("the last message is there", || async { (anna.texts(&room).await.len() == 5).then_some(()) }).await;
}
