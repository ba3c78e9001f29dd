//! From SQLite files to PostgreSQL: whoever starts small may grow.

use serde_json::Value;

use crate::{
    postgres,
    scenario::{begin, communication},
    world::{World, encode, until},
};

/// What a command says that must fail.
fn refused(world: &World, arguments: &[&str]) -> String {
    let output = world.command(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn quiet(world: &World) {
    let is_quiet = || async { world.output(&["status"]).contains("0 for Matrix, 0 for FHIR").then_some(()) };
    until("nothing is to be done", is_quiet).await;
}

/// All that the FHIR endpoint remembers: every version of every resource.
async fn history(world: &World) -> Vec<Value> {
    let mut versions = world.search("_history?_count=100").await;
    versions.sort_by_key(|version| version["meta"]["lastUpdated"].to_string() + &version["id"].to_string());
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_moves_to_postgresql_with_all_that_it_knows() {
    let mut world = World::embedded();
    let database = postgres::fresh_database();
    let into = ["move", "--to", database.as_str()];
    let nothing = refused(&world, &into);
    assert!(nothing.contains("there is no state"), "{nothing}");
    let (anna, _, room) = begin(&mut world).await;
    world.put(communication("m1", "Voor de verhuizing.")).await;
    let told = anna.say(&room, "Dit ook.").await;
    let of_event = format!("Communication?identifier=https://matrix.org/event-id%7C{}", encode(&told));
    until("it is a Communication", || async { world.search(&of_event).await.pop() }).await;
    let read = || async { (anna.texts(&room).await.len() == 3).then_some(()) };
    until("all is said", read).await;

    // Not beside a running bridge, and not without knowing where to.
    let running = refused(&world, &into);
    assert!(running.contains("another fhir-bridge serves from"), "{running}");
    assert!(refused(&world, &["move"]).contains("--to"));
    quiet(&world).await;
    let before = history(&world).await;
    world.kill_bridge();
    let status = world.output(&["status"]);
    // What is said and written meanwhile is for the bridge to find.
    anna.say(&room, "Onderweg.").await;

    let moved = world.output(&into);
    assert!(moved.contains("bridge.room: 2 rows") && moved.contains("fhir.version: "), "{moved}");
    assert!(moved.contains("[database]") && moved.contains(&format!("url = {database:?}")), "{moved}");
    let twice = refused(&world, &into);
    assert!(twice.contains("something is in") && twice.contains("already"), "{twice}");
    assert_eq!(world.output(&["status"]), status, "the files are as they were");
    world.settings.push(("FHIR_BRIDGE_DATABASE__URL", database.clone()));
    assert_eq!(world.output(&["status"]), status, "and the same is in the database");

    world.start_bridge().await;
    world.connected().await;
    assert_eq!(history(&world).await[..before.len()], before[..]);
    world.put(communication("m2", "Na de verhuizing.")).await;
    anna.say(&room, "Alles is over.").await;
    until("both sides go on", || async {
        let said = world.search("Communication?part-of=CommunicationRequest/t1").await;
        (anna.texts(&room).await.len() == 6 && said.len() == 5).then_some(())
    })
    .await;
    let texts = anna.texts(&room).await;
    for text in ["Voor de verhuizing.", "Dit ook.", "Onderweg.", "Na de verhuizing.", "Alles is over."] {
        assert_eq!(texts.iter().filter(|said| *said == text).count(), 1, "{text}: {texts:?}");
    }
    quiet(&world).await;
    let compared = world.output(&["reconcile", "--dry-run"]);
    assert!(compared.contains(" 0 differences"), "{compared}");
}
