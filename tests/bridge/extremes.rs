//! What FHIR may say and a homeserver does not take as it is: nothing else waits for it, and the room is told what is
//! missing.

use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication},
    world::{Person, SERVER, World, encode, until},
};

async fn event(person: &Person, room: &str, text: &str) -> Value {
    until(text, || async {
        let timeline = person.timeline(room).await;
        timeline
            .into_iter()
            .rev()
            .find(|event| event["content"]["body"].as_str().is_some_and(|body| body.contains(text)))
    })
    .await
}

fn of_parts(id: &str, parts: Value) -> Value {
    let mut message = communication(id, "");
    message["payload"] = parts;
    message
}

fn file(title: &str, data: &str) -> Value {
    json!({ "contentAttachment": { "contentType": "image/png", "title": title, "data": data } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_homeserver_does_not_take_is_shown_as_well_as_it_can_be() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;

    // A name that turns the text around it, breaks its line, and never ends.
    let mut kees = world.get("RelatedPerson/Kees").await.unwrap();
    kees["name"] = json!([{ "text": format!("Kees \u{202e}toorG\n{}", "de Groot ".repeat(60)) }]);
    world.put(kees).await;
    world.put(communication("m1", "Mijn naam is lang.")).await;
    let said = event(&anna, &room, "Mijn naam is lang.").await;
    let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(said["sender"].as_str().unwrap()));
    until("his name is one that can be shown", || async {
        let name = anna.try_get(&member).await?["displayname"].as_str()?.to_owned();
        let is_short = name.starts_with("Kees toorG de Groot") && name.ends_with('…') && name.chars().count() <= 200;
        is_short.then_some(())
    })
    .await;

    // Times that no clock of today shows.
    for (id, sent) in
        [("past", "1066-10-14T00:00:00Z"), ("early", "1970-01-01T00:00:01Z"), ("late", "9999-12-31T23:59:59Z")]
    {
        let mut message = communication(id, &format!("Uit {id}."));
        message["sent"] = json!(sent);
        world.put(message).await;
        event(&anna, &room, &format!("Uit {id}.")).await;
    }

    // A program that says it is a picture, between two texts.
    let parts =
        json!([{ "contentString": "Ervoor." }, file("foto.png", "TVqQAAMAAAAEAAAA"), { "contentString": "Erna." }]);
    world.put(of_parts("m2", parts)).await;
    event(&anna, &room, "Erna.").await;
    let instead = event(&anna, &room, "foto.png").await;
    assert_eq!(instead["content"]["msgtype"], "m.text");
    assert!(instead["content"]["body"].as_str().unwrap().contains("This file was not passed on: "), "{instead}");

    // A file whose name is longer than an event, and words that are twice as long as JSON, as an edit.
    world.put(of_parts("m3", json!([file(&"naam".repeat(20_000), "iVBORw0KGgo=")]))).await;
    assert_eq!(event(&anna, &room, "naamnaam").await["content"]["msgtype"], "m.image");
    world.put(communication("m4", "Kort.")).await;
    event(&anna, &room, "Kort.").await;
    world.put(communication("m4", &"\"".repeat(19_000))).await;
    let edit = event(&anna, &room, "bericht.txt").await;
    assert_eq!(edit["content"]["m.relates_to"]["rel_type"], "m.replace", "{edit}");

    // What somebody said becomes longer on record than an event can be.
    let own = anna.say(&room, "Van Anna.").await;
    let query = format!("Communication?identifier=https://matrix.org/event-id%7C{}", encode(&own));
    let mut written = until("it is written down", || async { world.search(&query).await.pop() }).await;
    written["payload"][0]["contentString"] = json!(format!("Langer. {}", "a".repeat(80_000)));
    world.put(written).await;
    event(&anna, &room, "Gewijzigd in het dossier: Langer.").await;

    // Nothing at all.
    let mut empty = communication("m5", "");
    empty.as_object_mut().unwrap().remove("payload");
    world.put(empty).await;
    world.put(communication("last", "Tot slot.")).await;
    event(&anna, &room, "Tot slot.").await;
    assert!(world.output(&["status"]).contains("0 waiting, 0 parked"), "{}", world.output(&["status"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_in_a_closed_conversation_is_said_when_it_is_open_again() {
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;
    let level = format!("v3/rooms/{}/state/m.room.power_levels/", encode(&room));
    let needed = |wanted: i64| {
        let (anna, level) = (&anna, &level);
        async move { (anna.try_get(level).await?["events"]["m.room.message"] == wanted).then_some(()) }
    };
    let set = async |status: &str| {
        let mut request = world.get("CommunicationRequest/t1").await.unwrap();
        request["status"] = json!(status);
        world.put(request).await;
    };
    set("completed").await;
    until("it is closed", || needed(100)).await;
    for number in 0..3 {
        world.put(communication(&format!("m{number}"), &format!("Te laat {number}."))).await;
    }
    // Each is parked at once and says why; nothing waits behind them.
    let status = until("they are parked", || async {
        let status = world.output(&["status"]);
        status.contains(" 3 parked").then_some(status)
    })
    .await;
    assert!(status.contains("the conversation is closed") && status.contains("(1 tries)"), "{status}");
    set("active").await;
    until("it is open", || needed(25)).await;
    event(&anna, &room, "Te laat 2.").await;
    let texts = anna.texts(&room).await;
    let late: Vec<&String> = texts.iter().filter(|text| text.starts_with("Te laat")).collect();
    assert_eq!(late, ["Te laat 0.", "Te laat 1.", "Te laat 2."]);
    // A professional cannot take the conversation away from the record by putting another room in its place.
    let upgrade = format!("v3/rooms/{}/upgrade", encode(&room));
    assert!(anna.try_post(&upgrade, &json!({ "new_version": "11" })).await.is_none());
    assert_eq!(anna.user_id, format!("@anna:{SERVER}"));
}
