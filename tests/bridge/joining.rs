//! Somebody of another homeserver joins, over real federation, at the very moment at which something is said.
//!
//! What is stored beside the join is not sent to the newcomer; Synapse notices most of it, the bridge the rest.
//! `BRIDGE_TEST_JOINS` says in how many rooms (12).

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    pruning::{person, put},
    scenario::practitioner,
    world::{PATIENCE, Person, encode, number, until},
};

/// What is said last comes so much later in each room than in the one before, so that some of it meets the join.
const LATER: Duration = Duration::from_millis(8);

/// A conversation of two, without a team.
fn conversation(id: &str) -> Value {
    json!({ "resourceType": "CommunicationRequest", "id": id, "status": "active",
        "subject": { "reference": "Patient/p1" }, "requester": { "reference": "RelatedPerson/Kees" },
        "recipient": [{ "reference": "Practitioner/anna" }], "payload": [{ "contentString": "Bent u daar?" }] })
}

fn last_word(id: &str) -> Value {
    json!({ "resourceType": "Communication", "id": format!("last-{id}"), "status": "completed",
        "partOf": [{ "reference": format!("CommunicationRequest/{id}") }],
        "sender": { "reference": "RelatedPerson/Kees" }, "payload": [{ "contentString": "Tot zo." }] })
}

/// The room of the next invitation. `since`: where the last `/sync` ended; Synapse remembers its answer to the first one.
async fn invitation(person: &Person, since: &mut String) -> String {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let found = person.get(&format!("v3/sync?timeout=1000{since}")).await;
        *since = format!("&since={}", found["next_batch"].as_str().unwrap());
        let invited = found["rooms"]["invite"].as_object().and_then(|rooms| rooms.keys().next().cloned());
        if let Some(room) = invited {
            return room;
        }
    }
    panic!("{} was not invited within {PATIENCE:?}", person.user_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_while_something_is_said_reads_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lab = Lab::new();
    let _up = lab.up();
    let network = lab.network();
    let fhir = format!("http://127.0.0.1:{}/fhir", network.organisations["vvt"].bridge_port.unwrap());
    let http = Client::builder().timeout(PATIENCE).build().unwrap();
    let anna = person(&lab, &http, "anna", network.organisations["huisarts"].homeserver_port).await;
    put(&http, &fhir, &json!({ "resourceType": "Patient", "id": "p1" })).await;
    let patient = json!({ "reference": "Patient/p1" });
    put(&http, &fhir, &json!({ "resourceType": "RelatedPerson", "id": "Kees", "patient": patient })).await;
    put(&http, &fhir, &practitioner("anna", &anna.user_id)).await;

    let (mut rooms, mut since) = (Vec::new(), String::new());
    for number in 0..number("BRIDGE_TEST_JOINS", 12) {
        let id = format!("t{number}");
        put(&http, &fhir, &conversation(&id)).await;
        let room = invitation(&anna, &mut since).await;
        let late = LATER * u32::try_from(number).unwrap();
        let speaks = async {
            tokio::time::sleep(late).await;
            put(&http, &fhir, &last_word(&id)).await;
        };
        // An invitation arrives before the homeserver that sent it has stored it.
        let path = format!("v3/join/{}", encode(&room));
        let joins = until("Anna joins", || async { anna.try_post(&path, &json!({})).await });
        tokio::join!(joins, speaks);
        rooms.push(room);
    }
    for (number, room) in rooms.iter().enumerate() {
        until(&format!("Anna reads what was said in room {number} while she joined"), || async {
            (anna.texts(room).await == ["Bent u daar?", "Tot zo."]).then_some(())
        })
        .await;
    }
}
