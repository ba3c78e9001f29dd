//! What people do with what they said: edits that are none, edits that are withdrawn, edits before the bridge has looked,
//! and answers by whatever reference FHIR gives.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication},
    world::{Person, World, encode, until},
};

fn new_words(of: &str, text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": format!("* {text}"), "m.new_content": { "msgtype": "m.text", "body": text },
        "m.relates_to": { "rel_type": "m.replace", "event_id": of } })
}

/// The Communication of an event says this, and nothing stands between.
async fn says(world: &World, event: &str, text: &str) -> Value {
    let query = format!("Communication?identifier=https://matrix.org/event-id%7C{}", encode(event));
    until(text, || async {
        world.search(&query).await.pop().filter(|found| found["payload"][0]["contentString"] == text)
    })
    .await
}

async fn take_back(person: &Person, room: &str, event: &str, number: u32) {
    let path = format!("v3/rooms/{}/redact/{}/{number}", encode(room), encode(event));
    person.call(Method::PUT, &path, Some(json!({}))).await;
}

async fn nothing_is_left(world: &World) {
    until("nothing is left to do", || async {
        let status: Value = serde_json::from_str(&world.output(&["status", "--json"])).unwrap();
        (status["overview"]["ready"] == json!([0, 0])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_an_edit_for_everybody_is_one_and_a_withdrawn_one_is_none() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    let first = anna.say(&room, "Een").await;
    let edit = anna.send(&room, "m.room.message", new_words(&first, "Twee")).await;
    says(&world, &first, "Twee").await;
    // Clients ignore both of these.
    anna.send(&room, "m.room.message", new_words(&edit, "Drie")).await;
    let mut without_words = new_words(&first, "Vier");
    without_words.as_object_mut().unwrap().remove("m.new_content");
    anna.send(&room, "m.room.message", without_words).await;
    let last = anna.send(&room, "m.room.message", new_words(&first, "Vijf")).await;
    let communication = says(&world, &first, "Vijf").await;
    let history = world.search(&format!("Communication/{}/_history", communication["id"].as_str().unwrap())).await;
    let texts = history.iter().map(|version| version["payload"][0]["contentString"].as_str().unwrap());
    assert!(
        !texts.clone().any(|text| text.contains("Drie") || text.contains("Vier")),
        "{:?}",
        texts.collect::<Vec<_>>()
    );

    // Edits are taken back one by one, and in the end the message says what it first said.
    take_back(&anna, &room, &last, 1).await;
    says(&world, &first, "Twee").await;
    take_back(&anna, &room, &edit, 2).await;
    says(&world, &first, "Een").await;
    nothing_is_left(&world).await;
    let texts = anna.texts(&room).await;
    assert!(!texts.iter().any(|text| text.contains("Gewijzigd")), "{texts:?}");
}

/// What is edited or withdrawn before the bridge has looked at what it wrote itself is not said again by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bridge_wrote_of_somebodys_words_is_no_news_to_them() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    world.kill_bridge();
    let mut edited = Vec::new();
    for number in 0..3 {
        let event = anna.say(&room, &format!("Eerst {number}")).await;
        for text in ["Toen", "Nu"] {
            anna.send(&room, "m.room.message", new_words(&event, &format!("{text} {number}"))).await;
        }
        edited.push(event);
    }
    world.start_bridge().await;
    for (number, event) in edited.iter().enumerate() {
        says(&world, event, &format!("Nu {number}")).await;
    }
    for number in 0..3 {
        let event = anna.say(&room, "Vergeet dit").await;
        take_back(&anna, &room, &event, number).await;
    }
    nothing_is_left(&world).await;
    // FHIR itself is heard all the same.
    let mut changed = says(&world, &edited[0], "Nu 0").await;
    changed["payload"][0]["contentString"] = json!("Anders");
    world.put(changed).await;
    until("the change is told", || async {
        anna.texts(&room).await.contains(&"Gewijzigd in het dossier: Anders".to_owned()).then_some(())
    })
    .await;
    nothing_is_left(&world).await;
    let texts = anna.texts(&room).await;
    assert_eq!(texts.iter().filter(|text| text.contains("Gewijzigd")).count(), 1, "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("Vergeet dit")), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_one_by_whatever_reference_fhir_gives() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    world.put(communication("m1", "Komt u morgen?")).await;
    let absolute = format!("{}/Communication/m1", world.fhir());
    let references = ["Communication/m1".to_owned(), "Communication/m1/_history/1".to_owned(), absolute];
    for (number, reference) in references.iter().enumerate() {
        let mut answer = communication(&format!("a{number}"), &format!("Antwoord {number}"));
        answer["inResponseTo"] = json!([{ "reference": reference }]);
        world.put(answer).await;
    }
    let event = |text: String| {
        let (anna, room) = (&anna, &room);
        async move {
            until(&text, || async {
                anna.timeline(room).await.into_iter().find(|event| event["content"]["body"] == text.as_str())
            })
            .await
        }
    };
    let question = event("Komt u morgen?".to_owned()).await;
    for (number, reference) in references.iter().enumerate() {
        let answer = event(format!("Antwoord {number}")).await;
        let answered = &answer["content"]["m.relates_to"]["m.in_reply_to"]["event_id"];
        assert_eq!(answered, &question["event_id"], "{reference}");
    }
}
