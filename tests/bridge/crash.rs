//! Nothing accepted is lost and nothing is done twice, whoever is killed and whatever comes again.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    scenario::{accept, begin, communication, introduce},
    world::{Person, World, arrived, encode, until},
};

/// The texts that begin with a word, in the order in which they stand.
pub(crate) fn beginning_with<'a>(texts: &'a [String], word: &str) -> Vec<&'a str> {
    texts.iter().map(String::as_str).filter(|text| text.starts_with(word)).collect()
}

pub(crate) async fn communications(world: &World, word: &str) -> Vec<String> {
    let mut found = world.search("Communication?part-of=CommunicationRequest/t1&_count=1000").await;
    found.sort_by_key(|communication| communication["sent"].as_str().unwrap_or_default().to_owned());
    let text = |communication: &Value| Some(communication["payload"][0]["contentString"].as_str()?.to_owned());
    found.iter().filter_map(text).filter(|text| text.starts_with(word)).collect()
}

/// Waits until so many messages that begin with `fhir` are in the room, and so many with `matrix` in FHIR.
pub(crate) async fn settled(world: &World, anna: &Person, room: &str, to_matrix: usize, to_fhir: usize) {
    arrived([to_matrix, to_fhir], || async {
        let there = beginning_with(&anna.texts(room).await, "fhir ").len();
        [there, communications(world, "matrix ").await.len()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_every_message_is_there_once_and_in_order() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;

    let (mut to_matrix, mut to_fhir) = (Vec::new(), Vec::new());
    for round in 0..6 {
        for number in 0..10 {
            let (out, back) = (format!("fhir {round}-{number}"), format!("matrix {round}-{number}"));
            let mut message = communication(&format!("c-{round}-{number}"), &out);
            message.as_object_mut().unwrap().remove("sent");
            world.put(message).await;
            anna.say(&room, &back).await;
            to_matrix.push(out);
            to_fhir.push(back);
        }
        // In the middle of the work, one of them dies.
        if round % 3 == 2 {
            world.kill_homeserver();
            world.start_homeserver().await;
        } else {
            world.kill_bridge();
            world.start_bridge().await;
        }
        world.connected().await;
    }
    settled(&world, &anna, &room, to_matrix.len(), to_fhir.len()).await;
    // A last one in each direction: what would come twice has come by then.
    world.put(communication("last", "fhir last")).await;
    anna.say(&room, "matrix last").await;
    settled(&world, &anna, &room, to_matrix.len() + 1, to_fhir.len() + 1).await;
    to_matrix.push("fhir last".to_owned());
    to_fhir.push("matrix last".to_owned());
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), to_matrix);
    assert_eq!(communications(&world, "matrix ").await, to_fhir);
    assert!(world.output(&["status"]).contains("0 parked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_come_again_under_any_number_are_taken_once() {
    let mut world = World::new();
    world.start_bridge().await;
    // Messages of a conversation that is not there yet wait for it, in their order.
    let early = |number: u32| {
        let mut message = communication(&format!("e-{number}"), &format!("fhir {number}"));
        message.as_object_mut().unwrap().remove("sent");
        message
    };
    for number in 0..5 {
        world.put(early(number)).await;
    }
    introduce(&world).await;
    for number in 5..30 {
        world.put(early(number)).await;
    }
    world.start_homeserver().await;
    world.connected().await;
    let anna = world.person("anna").await;
    let (_, room) = accept(&world, &anna).await;
    anna.say(&room, "matrix 1").await;
    settled(&world, &anna, &room, 30, 1).await;
    let expected: Vec<String> = (0..30).map(|number| format!("fhir {number}")).collect();
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), expected);

    let event = |id: &str, at: u64, text: &str| {
        json!({ "type": "m.room.message", "event_id": id, "room_id": room, "sender": anna.user_id,
            "origin_server_ts": 4_000_000_000_000 + at, "content": { "msgtype": "m.text", "body": text } })
    };
    // The homeserver counts from 1 again, and sends an old event together with a new one.
    let registration = std::fs::read_to_string(world.path("state").join("registration.yaml")).unwrap();
    let registration: serde_yaml::Value = serde_yaml::from_str(&registration).unwrap();
    let token = registration["hs_token"].as_str().unwrap();
    let url = format!("http://127.0.0.1:{}/_matrix/app/v1/transactions/1", world.bridge_port);
    let (second, third) = (event("$a", 0, "matrix 2"), event("$b", 1, "matrix 3"));
    for events in [json!([second]), json!([second, third])] {
        let body = json!({ "events": events });
        for _ in 0..2 {
            let response = world.http.put(&url).bearer_auth(token).json(&body).send().await.unwrap();
            assert!(response.status().is_success());
        }
    }
    let refused = world.http.put(&url).bearer_auth("wrong").json(&json!({ "events": [] })).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    settled(&world, &anna, &room, 0, 3).await;
    assert_eq!(communications(&world, "matrix ").await, ["matrix 1", "matrix 2", "matrix 3"]);
}

/// What never reached the bridge by a transaction is found in the room, and a long absence loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_pushed_is_read_back_and_what_waited_is_delivered() {
    const MISSED: usize = 150;
    const WAITING: usize = 100;
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;

    // A homeserver that does not know the bridge pushes nothing, now or later.
    world.kill_homeserver();
    world.knows_bridge = false;
    let (mut to_matrix, mut to_fhir) = (Vec::new(), Vec::new());
    for number in 0..WAITING {
        let text = format!("fhir {number}");
        let mut message = communication(&format!("w-{number}"), &text);
        message.as_object_mut().unwrap().remove("sent");
        world.put(message).await;
        to_matrix.push(text);
    }
    world.start_homeserver().await;
    for number in 0..MISSED {
        let text = format!("matrix {number}");
        anna.say(&room, &text).await;
        to_fhir.push(text);
    }
    let (_, health) = world.health().await;
    assert!(health.contains("does not know"), "{health}");

    world.kill_homeserver();
    world.knows_bridge = true;
    world.start_homeserver().await;
    world.connected().await;
    settled(&world, &anna, &room, to_matrix.len(), to_fhir.len()).await;
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), to_matrix);
    assert_eq!(communications(&world, "matrix ").await, to_fhir);
    let text = world.output(&["reconcile", "--dry-run"]);
    assert!(text.contains(" 0 differences"), "{text}");
}

/// A homeserver that is killed forgets what it was about to push. Nobody tells the bridge, and what comes later hides it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_homeserver_forgot_is_found_below_what_came_later_and_after_a_restart_that_nobody_noticed() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    let mut said = Vec::new();
    let mut say = async |text: String| {
        anna.say(&room, &text).await;
        said.push(text);
    };
    say("matrix first".to_owned()).await;
    settled(&world, &anna, &room, 0, 1).await;

    world.kill_bridge();
    say("matrix forgotten".to_owned()).await;
    world.kill_homeserver();
    world.forget_pushes();
    world.start_homeserver().await;
    for number in 0..40 {
        say(format!("matrix later {number}")).await;
    }
    world.start_bridge().await;
    world.connected().await;
    settled(&world, &anna, &room, 0, 42).await;

    // The bridge has no work and makes no call while the homeserver is away.
    world.signal_bridge(Signal::STOP);
    for number in 0..3 {
        say(format!("matrix unnoticed {number}")).await;
    }
    world.kill_homeserver();
    world.forget_pushes();
    world.start_homeserver().await;
    world.signal_bridge(Signal::CONT);
    settled(&world, &anna, &room, 0, 45).await;
    assert_eq!(communications(&world, "matrix ").await, said);
}

/// An invitation that was never pushed is found when the homeserver is back, and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_a_homeserver_forgot_is_accepted() {
    let mut world = World::new();
    let (anna, ..) = begin(&mut world).await;
    let bot = world.bot().user_id;

    world.kill_bridge();
    let plan = json!({ "preset": "trusted_private_chat", "is_direct": true, "invite": [bot] });
    let made = anna.call(reqwest::Method::POST, "v3/createRoom", Some(plan)).await;
    let chat = made["room_id"].as_str().unwrap();
    world.kill_homeserver();
    world.forget_pushes();
    world.start_homeserver().await;
    world.start_bridge().await;
    let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(chat), encode(&bot));
    until("the bot is in the room", || async { (anna.try_get(&member).await?["membership"] == "join").then_some(()) })
        .await;
    anna.say(chat, "help").await;
    until("the bot answers", || async {
        anna.texts(chat).await.iter().any(|text| text.contains("who the members are")).then_some(())
    })
    .await;
}
