//! What a database refuses for good, on either side: it is named, the rest goes on, and once the reason is gone it can be
//! put back to work.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication},
    world::{Person, World, until},
};

/// One of the bridge's databases, beside the bridge.
fn database(world: &World, name: &str) -> Connection {
    let database = Connection::open(world.path("state").join(name)).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    database
}

async fn arrives(anna: &Person, room: &str, text: &str) {
    until(text, || async { anna.texts(room).await.iter().any(|said| said == text).then_some(()) }).await;
}

async fn written(world: &World, text: &str) {
    until(text, || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.iter().any(|one| one["payload"][0]["contentString"] == text).then_some(())
    })
    .await;
}

async fn parked(world: &World, wanted: &str) -> String {
    until(wanted, || async {
        let status = world.output(&["status"]);
        status.contains(wanted).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_database_refuses_for_good_holds_up_nothing_else() {
    let mut world = World::embedded();
    let (anna, _, room) = begin(&mut world).await;
    arrives(&anna, &room, "Hoe gaat het met moeder?").await;
    let (fhir, state) = (database(&world, "fhir.sqlite"), database(&world, "bridge.sqlite"));

    // The FHIR side refuses what somebody says. It is no sign that the side is away.
    fhir.execute_batch(
        "CREATE TRIGGER never BEFORE INSERT ON version WHEN new.content LIKE '%Onschrijfbaar%'
         BEGIN SELECT RAISE(ABORT, 'never'); END;",
    )
    .unwrap();
    anna.say(&room, "Onschrijfbaar").await;
    anna.say(&room, "Schrijfbaar").await;
    written(&world, "Schrijfbaar").await;
    let status = parked(&world, " 1 parked").await;
    assert!(status.contains("refused it for good") && !status.contains("Onschrijfbaar"), "{status}");
    assert!(world.health().await.0.is_success(), "{:?}", world.health().await);
    // A client hears that it need not try again, and what it is.
    let url = format!("{}/Communication/x", world.fhir());
    let request = world.http.put(url).header("content-type", "application/fhir+json");
    let refused = request.body(communication("x", "Onschrijfbaar").to_string()).send().await.unwrap();
    assert_eq!(refused.status(), 422);
    let outcome: Value = refused.json().await.unwrap();
    assert_eq!(
        (&outcome["resourceType"], &outcome["issue"][0]["code"]),
        (&json!("OperationOutcome"), &json!("processing"))
    );

    // The state refuses a change of FHIR; what stands before and behind it on the same page goes on.
    state
        .execute_batch(
            "CREATE TRIGGER never BEFORE INSERT ON work WHEN new.payload LIKE '%Onbewaarbaar%'
             BEGIN SELECT RAISE(ABORT, 'never'); END;",
        )
        .unwrap();
    let entry = |id: &str, text: &str| json!({ "resource": communication(id, text), "request": { "method": "PUT", "url": format!("Communication/{id}") } });
    let page = json!({ "resourceType": "Bundle", "type": "transaction",
        "entry": [entry("m1", "Ervoor"), entry("m2", "Onbewaarbaar"), entry("m3", "Erachter")] });
    let post = world.http.post(world.fhir()).header("content-type", "application/fhir+json").body(page.to_string());
    assert!(post.send().await.unwrap().status().is_success());
    arrives(&anna, &room, "Ervoor").await;
    arrives(&anna, &room, "Erachter").await;
    let status = parked(&world, " 2 parked").await;
    assert!(
        status.contains("Communication/m2/_history/1 is in FHIR and not in Matrix") && !status.contains("Onbewaarbaar"),
        "{status}"
    );

    // What FHIR has cannot be read.
    let damage = "CREATE TRIGGER damage AFTER INSERT ON version WHEN new.id = 'm4'
        BEGIN UPDATE version SET content = 'x' || content WHERE seq = new.seq; END;";
    fhir.execute_batch(damage).unwrap();
    world.put(communication("m4", "Beschadigd")).await;
    world.put(communication("m5", "Heel")).await;
    arrives(&anna, &room, "Heel").await;
    let status = parked(&world, " 3 parked").await;
    assert!(status.contains("damaged") && !status.contains("Beschadigd"), "{status}");
    world.connected().await;

    // While the reasons stand, to try again changes nothing.
    world.output(&["retry"]);
    parked(&world, " 3 parked").await;
    fhir.execute_batch("DROP TRIGGER never; DROP TRIGGER damage;").unwrap();
    fhir.execute("UPDATE version SET content = substr(content, 2) WHERE id = 'm4'", []).unwrap();
    state.execute_batch("DROP TRIGGER never").unwrap();
    world.output(&["retry"]);
    arrives(&anna, &room, "Onbewaarbaar").await;
    arrives(&anna, &room, "Beschadigd").await;
    written(&world, "Onschrijfbaar").await;
    parked(&world, " 0 parked").await;
    let texts = anna.texts(&room).await;
    for text in ["Ervoor", "Onbewaarbaar", "Erachter", "Onschrijfbaar", "Beschadigd", "Heel"] {
        assert_eq!(texts.iter().filter(|said| *said == text).count(), 1, "{text}: {texts:?}");
    }
    let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
    let count = all.iter().filter(|one| one["payload"][0]["contentString"] == "Onschrijfbaar").count();
    assert_eq!(count, 1, "{all:?}");
}
