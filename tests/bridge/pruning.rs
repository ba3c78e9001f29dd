//! Four people of another homeserver speak at once, over real federation, while a care system writes as much.
//!
//! When 100 or more events of other homeservers wait for one room, Synapse drops all but the newest and pushes no more
//! of them; the bridge finds the rest. `BRIDGE_TEST_EACH` says how much each of the four says (40).

use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    crash::beginning_with,
    lab::Lab,
    scenario::{communication, practitioner},
    world::{self, PATIENCE, Person, arrived, encode, number, search, until},
};

const PEOPLE: [&str; 4] = ["anna", "bram", "carla", "dirk"];

/// Writes a resource.
pub(crate) async fn put(http: &Client, fhir: &str, resource: &Value) {
    world::put(http, fhir, resource, &[]).await;
}

/// Logs a new user of the lab in.
pub(crate) async fn person(lab: &Lab, http: &Client, name: &str, port: u16) -> Person {
    let added = lab.succeed(&["users", "add", &format!("{name}@huisarts")]);
    let password = added.split_whitespace().last().unwrap();
    Person::log_in(http, &format!("http://127.0.0.1:{port}"), name, password).await
}

/// What the resources of the test say: a team of four with a homeserver of their own, and a ghost.
async fn introduce(http: &Client, fhir: &str) {
    let patient = json!({ "resourceType": "Patient", "id": "p1" });
    put(http, fhir, &patient).await;
    put(
        http,
        fhir,
        &json!({ "resourceType": "RelatedPerson", "id": "Kees", "patient": { "reference": "Patient/p1" } }),
    )
    .await;
    let mut members = vec![json!({ "member": { "reference": "RelatedPerson/Kees" } })];
    for name in PEOPLE {
        put(http, fhir, &practitioner(name, &format!("@{name}:huisarts"))).await;
        members.push(json!({ "member": { "reference": format!("Practitioner/{name}") } }));
    }
    let team = json!({ "resourceType": "CareTeam", "id": "t", "status": "active",
        "subject": { "reference": "Patient/p1" }, "participant": members });
    put(http, fhir, &team).await;
    let request = json!({ "resourceType": "CommunicationRequest", "id": "t1", "status": "active",
        "subject": { "reference": "Patient/p1" }, "requester": { "reference": "RelatedPerson/Kees" },
        "recipient": [{ "reference": "CareTeam/t" }], "payload": [{ "contentString": "Hoe gaat het?" }] });
    put(http, fhir, &request).await;
}

/// Accepts the invitations to the space and to the conversation, which is returned.
async fn enter(person: &Person) -> String {
    let mut room = String::new();
    for name in ["careteam-t", "communicationrequest-t1"] {
        let alias = format!("v3/directory/room/{}", encode(&format!("#_fhir_bridge_{name}:vvt")));
        room = until("an invitation is there and accepted", || async {
            let room = person.try_get(&alias).await?["room_id"].as_str()?.to_owned();
            person.try_post(&format!("v3/join/{}", encode(&room)), &json!({})).await.map(|_| room)
        })
        .await;
    }
    room
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_homeserver_dropped_while_four_spoke_is_read_back() {
    let each = usize::try_from(number("BRIDGE_TEST_EACH", 40)).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lab = Lab::new();
    let _up = lab.up();
    let network = lab.network();
    let port = network.organisations["huisarts"].homeserver_port;
    let fhir = format!("http://127.0.0.1:{}/fhir", network.organisations["vvt"].bridge_port.unwrap());
    let http = Client::builder().timeout(PATIENCE).build().unwrap();
    introduce(&http, &fhir).await;
    let mut people = Vec::new();
    for name in PEOPLE {
        people.push(person(&lab, &http, name, port).await);
    }
    let mut room = String::new();
    for person in &people {
        room = enter(person).await;
    }

    let mut speaking = tokio::task::JoinSet::new();
    for (name, person) in PEOPLE.into_iter().zip(people.clone()) {
        let room = room.clone();
        speaking.spawn(async move {
            for number in 0..each {
                person.say(&room, &format!("{name} {number}")).await;
            }
        });
    }
    let to_matrix: Vec<String> = (0..each * PEOPLE.len()).map(|number| format!("fhir {number}")).collect();
    for (number, text) in to_matrix.iter().enumerate() {
        let mut message = communication(&format!("c-{number}"), text);
        message.as_object_mut().unwrap().remove("sent");
        put(&http, &fhir, &message).await;
    }
    while let Some(spoken) = speaking.join_next().await {
        spoken.unwrap();
    }

    let all = each * PEOPLE.len();
    let anna = &people[0];
    arrived([all, all], || async {
        [beginning_with(&anna.texts(&room).await, "fhir ").len(), communications(&http, &fhir).await.len()]
    })
    .await;
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), to_matrix);
    let written = communications(&http, &fhir).await;
    assert_eq!(written.len(), all);
    for name in PEOPLE {
        let said: Vec<String> = (0..each).map(|number| format!("{name} {number}")).collect();
        assert_eq!(beginning_with(&written, &format!("{name} ")), said);
    }
    for line in lab.succeed(&["logs", "bridge-vvt"]).lines().filter(|line| line.contains("events")) {
        eprintln!("{line}");
    }
}

/// What the four said, as FHIR has it, in the order of its times.
async fn communications(http: &Client, fhir: &str) -> Vec<String> {
    let mut found = search(http, fhir, "Communication?part-of=CommunicationRequest/t1&_count=200").await;
    found.sort_by_key(|communication| communication["sent"].as_str().unwrap_or_default().to_owned());
    let text = |communication: &Value| Some(communication["payload"][0]["contentString"].as_str()?.to_owned());
    let of_people = |text: &String| PEOPLE.iter().any(|name| text.starts_with(name));
    found.iter().filter_map(text).filter(of_people).collect()
}
