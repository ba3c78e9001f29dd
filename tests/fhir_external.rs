//! The FHIR client against a server that is not ours.
//!
//! `FHIR_TEST_SERVER=https://… cargo test --test fhir_external` uses a server that runs;
//! `HFS=…/run` instead starts one for the tests: a program that is called with a port and an empty directory and then
//! serves FHIR R4 on that port of 127.0.0.1. The tests write to the server and leave there what they wrote.
//!
//! `FHIR_TEST_LACKS` names what the server is known not to do, so that the rest is tested all the same: `validation`,
//! `type-history`, `pages` (links to the next one), `rollback` (of a transaction). `tests/fhir-elsewhere` sets it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use care_federation::{
    fhir::{
        client::{
            Client,
            check::shortcomings,
            hooks::{self, Hook},
            settings::{ChangesBy, Settings},
        },
        id::Id,
        query::Query,
        resources::{Bundle, Communication, Resource, ResourceType},
        server::{Condition, Effect, FhirError, FhirServer as _, HistoryOf},
    },
    service::{listeners::free_port, secrets::Secret},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long a server may take to start.
const STARTING: Duration = Duration::from_secs(60);

/// A server to test against; one that was started for the test ends with it.
struct Server {
    base: String,
    process: Option<(Child, tempfile::TempDir)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn server() -> Server {
    if let Ok(base) = env::var("FHIR_TEST_SERVER") {
        return Server { base, process: None };
    }
    let Ok(program) = env::var("HFS") else {
        panic!(
            "no FHIR server to test against: set FHIR_TEST_SERVER to a base address, or HFS to a program that starts one"
        )
    };
    let port = free_port().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new(&program)
        .arg(port.to_string())
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("HFS={program} cannot be started: {error}"));
    let server = Server { base: format!("http://127.0.0.1:{port}"), process: Some((child, directory)) };
    let client = client(&server, ChangesBy::Search);
    let until = Instant::now() + STARTING;
    while let Err(error) = client.capabilities().await {
        assert!(Instant::now() < until, "the server does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server
}

fn client(server: &Server, changes_by: ChangesBy) -> Client {
    Client::new(Settings { base: server.base.clone(), changes_by, ..Settings::default() }).unwrap()
}

fn resource(value: Value) -> Resource {
    serde_json::from_value(value).unwrap()
}

/// Whether the server is known not to do something.
fn lacks(what: &str) -> bool {
    env::var("FHIR_TEST_LACKS").is_ok_and(|all| all.split(',').any(|lack| lack.trim() == what))
}

/// Something that no earlier run wrote.
fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{}", now.as_nanos())
}

const EVENT: &str = "https://matrix.org/event-id";

fn message(event: &str, thread: &str, sent: &str) -> Resource {
    resource(json!({
        "resourceType": "Communication", "status": "completed", "sent": sent,
        "identifier": [{"system": EVENT, "value": event}],
        "partOf": [{"reference": format!("CommunicationRequest/{thread}")}],
        "payload": [{"contentString": "hallo 👋, | $ en \\"}]
    }))
}

async fn thread(client: &Client, id: &str) {
    let request = json!({"resourceType": "CommunicationRequest", "id": id, "status": "active"});
    client.update(resource(request), Condition::Always).await.unwrap();
}

#[tokio::test]
async fn the_bridge_can_work_with_it() {
    let server = server().await;
    let statement = client(&server, ChangesBy::Search).capabilities().await.unwrap();
    let kinds = [
        ResourceType::CareTeam,
        ResourceType::CommunicationRequest,
        ResourceType::Communication,
        ResourceType::Task,
        ResourceType::Patient,
        ResourceType::Practitioner,
        ResourceType::RelatedPerson,
        ResourceType::Subscription,
    ];
    let lacks = shortcomings(&statement, &kinds);
    println!("{lacks:#?}");
    assert!(lacks.iter().all(|lack| !lack.fatal), "{lacks:#?}");
}

#[tokio::test]
async fn resources_are_made_changed_and_read() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let (request, event) = (unique("t"), unique("$event:huisarts"));
    thread(&client, &request).await;
    let unless = Query::identifier(EVENT, &event);
    let made = client.create(message(&event, &request, "2026-11-22T10:00:00Z"), Some(&unless)).await.unwrap();
    assert_eq!(made.effect, Effect::Created);
    let again = client.create(message(&event, &request, "2026-11-22T10:00:00Z"), Some(&unless)).await.unwrap();
    assert_eq!(again.resource.id(), made.resource.id());

    let id = made.resource.id().unwrap();
    let read = client.read(ResourceType::Communication, &id).await.unwrap();
    let typed: Communication = read.to().unwrap();
    assert_eq!(typed.payload[0].content_string.as_deref(), Some("hallo 👋, | $ en \\"));
    let version = read.version().unwrap().to_owned();
    let mut changed = read;
    changed.members_mut().insert("status".into(), "entered-in-error".into());
    let updated = client.update(changed.clone(), Condition::VersionIs(&version)).await.unwrap();
    assert_ne!(updated.resource.version(), Some(version.as_str()));
    let stale = client.update(changed, Condition::VersionIs(&version)).await;
    assert!(matches!(stale, Err(FhirError::VersionConflict(_))), "{stale:?}");
    let first = client.vread(ResourceType::Communication, &id, &version).await.unwrap();
    assert_eq!(first.to::<Communication>().unwrap().status, typed.status);
    let history = client.history(HistoryOf::Instance(ResourceType::Communication, &id), None, None).await.unwrap();
    assert_eq!(history.entries.len(), 2);
    let absent = client.read(ResourceType::Communication, &unique("absent").parse().unwrap()).await;
    assert!(matches!(absent, Err(FhirError::NotFound(_))), "{absent:?}");
    let wrong = client.create(resource(json!({"resourceType": "Communication", "nonsense": 1})), None).await;
    if lacks("validation") {
        // Kept as it came, and given back so: whoever reads it must cope.
        assert_eq!(wrong.unwrap().resource.members().get("nonsense"), Some(&json!(1)));
    } else {
        assert!(matches!(wrong, Err(FhirError::Invalid(_))), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_hundred_messages_are_found_on_their_pages() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let request = unique("t");
    thread(&client, &request).await;
    let event = unique("$e");
    let creates = (0..100).map(|number| {
        let (client, request, event) = (client.clone(), request.clone(), format!("{event}-{number}"));
        async move {
            let sent = format!("2026-11-22T10:{:02}:{:02}Z", number / 60, number % 60);
            client.create(message(&event, &request, &sent), Some(&Query::identifier(EVENT, &event))).await.unwrap()
        }
    });
    join_all(creates).await;
    let mut query = Query::new().with("part-of", format!("CommunicationRequest/{request}")).with("_sort", "sent");
    if !lacks("pages") {
        query = query.with("_count", "30");
    }
    let mut page = client.search(ResourceType::Communication, &query).await.unwrap();
    let mut sent = Vec::new();
    loop {
        sent.extend(page.matches().map(|found| found.to::<Communication>().unwrap().sent.unwrap().to_string()));
        let Some(next) = page.next else { break };
        page = client.follow(&next).await.unwrap();
    }
    assert_eq!(sent.len(), 100);
    assert!(sent.is_sorted(), "{sent:?}");
}

/// A conditional create may race on a server; a PUT to an id of our own choice must not.
#[tokio::test]
async fn one_id_is_one_resource_however_many_write_it_at_once() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let (request, id, event) = (unique("t"), unique("m"), unique("$e"));
    thread(&client, &request).await;
    let writes = (0..16).map(|_| {
        let (client, mut message) = (client.clone(), message(&event, &request, "2026-11-22T10:00:00Z"));
        message.set_id(&id.parse::<Id>().unwrap());
        async move { client.update(message, Condition::Always).await }
    });
    assert!(join_all(writes).await.iter().any(Result::is_ok));
    let found = client.search(ResourceType::Communication, &Query::identifier(EVENT, &event)).await.unwrap();
    assert_eq!(found.matches().count(), 1);
}

#[tokio::test]
async fn a_transaction_ties_its_resources_together() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let uuid = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520";
    let bundle: Bundle = resource(json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": uuid, "request": {"method": "POST", "url": "CommunicationRequest"},
            "resource": {"resourceType": "CommunicationRequest", "status": "active"}},
        {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239521",
            "request": {"method": "POST", "url": "Communication"},
            "resource": {"resourceType": "Communication", "status": "completed", "partOf": [{"reference": uuid}]}}
    ]}))
    .into_typed()
    .unwrap();
    let answer = client.transact(bundle).await.unwrap();
    let location = answer.entry[1].response.as_ref().unwrap().location.clone().unwrap();
    let id: Id = location.split("/_history").next().unwrap().rsplit('/').next().unwrap().parse().unwrap();
    let written: Communication = client.read(ResourceType::Communication, &id).await.unwrap().into_typed().unwrap();
    assert_eq!(written.part_of[0].key().unwrap().kind, ResourceType::CommunicationRequest);
}

/// A transaction of which one entry fails: all or nothing, or, on a server without rollback, at least an error.
#[tokio::test]
async fn a_transaction_that_fails_says_so() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let (kept, absent) = (unique("kept"), unique("absent"));
    let bundle: Bundle = resource(json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "PUT", "url": format!("CommunicationRequest/{kept}")},
            "resource": {"resourceType": "CommunicationRequest", "id": kept, "status": "active"}},
        {"request": {"method": "GET", "url": format!("CommunicationRequest/{absent}")}}
    ]}))
    .into_typed()
    .unwrap();
    let failed = match client.transact(bundle).await {
        Err(_) => true,
        // Taken for a batch: the entry says it alone.
        Ok(answer) => {
            let mut responses = answer.entry.iter().filter_map(|entry| entry.response.as_ref()?.status.as_deref());
            lacks("rollback") && responses.any(|status| status.starts_with('4'))
        }
    };
    assert!(failed);
    let found = client.read(ResourceType::CommunicationRequest, &kept.parse().unwrap()).await;
    assert!(lacks("rollback") || matches!(found, Err(FhirError::NotFound(_))), "{found:?}");
}

/// Every server takes a Subscription of the bridge, once; one that does not serve it never says that it is active.
#[tokio::test]
async fn a_hook_is_asked_for_once() {
    let server = server().await;
    let client = client(&server, ChangesBy::Search);
    let url = format!("https://bridge.example.nl/{}", unique("hook"));
    let hook = Hook::new(&url, Secret::new("0123456789abcdef")).unwrap();
    for _ in 0..2 {
        let stop = CancellationToken::new();
        let keeping = hooks::keep(client.clone(), hook.clone(), &[ResourceType::Communication], stop.clone());
        let asked = async {
            let until = Instant::now() + STARTING;
            loop {
                let query = Query::new().with("url", &url);
                let found = client.search(ResourceType::Subscription, &query).await.unwrap();
                if !found.entries.is_empty() || Instant::now() > until {
                    stop.cancel();
                    return found.entries.len();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        assert_eq!(futures_util::future::join(keeping, asked).await.1, 1);
        assert_eq!(client.pace(), None);
    }
}

#[tokio::test]
async fn no_change_is_missed_while_others_write() {
    let server = server().await;
    for changes_by in [ChangesBy::Search, ChangesBy::History] {
        if changes_by == ChangesBy::History && lacks("type-history") {
            continue;
        }
        let client = client(&server, changes_by);
        let kinds = [ResourceType::Communication];
        let request = unique("t");
        thread(&client, &request).await;
        let mut cursor = None;
        loop {
            let changes = client.changes(&kinds, cursor.as_ref(), 500).await.unwrap();
            cursor = Some(changes.next);
            if !changes.more {
                break;
            }
        }
        let writes = async {
            for number in 0..60 {
                let event = format!("{request}-{number}");
                client.create(message(&event, &request, "2026-11-22T10:00:00Z"), None).await.unwrap();
            }
        };
        let (mut events, until) = (Vec::new(), Instant::now() + STARTING);
        let reads = async {
            while events.len() < 60 {
                assert!(Instant::now() < until, "only {} of 60 changes were seen by {changes_by:?}", events.len());
                let changes = client.changes(&kinds, cursor.as_ref(), 20).await.unwrap();
                for resource in &changes.resources {
                    let message: Communication = resource.to().unwrap();
                    let event = message.identifier.first().and_then(|identifier| identifier.value.clone());
                    events.extend(event.filter(|event| event.starts_with(&request) && !events.contains(event)));
                }
                cursor = Some(changes.next);
            }
        };
        futures_util::future::join(writes, reads).await;
    }
}
