//! What people ask of the bot in rooms and in a direct chat, and what it does about it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication, request},
    world::{Person, SERVER, World, encode, until},
};

/// Says something and waits for the bot's answer to it.
async fn ask(person: &Person, room: &str, text: &str) -> String {
    let event = person.say(room, text).await;
    answer_to(person, room, &event).await
}

async fn answer_to(person: &Person, room: &str, event: &str) -> String {
    let answer = until("the bot answers", || async { answers(person, room, event).await.into_iter().next() }).await;
    assert_eq!((&answer["content"]["msgtype"], &answer["sender"]), (&json!("m.notice"), &json!(bot())));
    answer["content"]["body"].as_str().unwrap().to_owned()
}

/// The answers to an event.
async fn answers(person: &Person, room: &str, event: &str) -> Vec<Value> {
    let is_answer = |said: &Value| said["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event;
    person.timeline(room).await.into_iter().filter(is_answer).collect()
}

fn bot() -> String {
    format!("@_fhir:{SERVER}")
}

/// A room that a person makes with the bot in it.
async fn room_with_bot(person: &Person) -> String {
    let plan = json!({ "preset": "private_chat", "invite": [bot()] });
    let made = person.call(Method::POST, "v3/createRoom", Some(plan)).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&bot()));
    until("the bot accepts", || async { (person.try_get(&member).await?["membership"] == "join").then_some(()) }).await;
    room
}

async fn texts_in_fhir(world: &World, thread: &str) -> Vec<String> {
    let found = world.search(&format!("Communication?part-of=CommunicationRequest/{thread}")).await;
    found.iter().filter_map(|one| Some(one["payload"][0]["contentString"].as_str()?.to_owned())).collect()
}

async fn says_in(person: &Person, room: &str, text: &str) {
    until(text, || async { person.texts(room).await.iter().any(|said| said == text).then_some(()) }).await;
}

/// What somebody says in a room becomes a Communication of a thread.
async fn is_carried(world: &World, person: &Person, room: &str, thread: &str, text: &str) {
    person.say(room, text).await;
    until(text, || async { texts_in_fhir(world, thread).await.iter().any(|said| said == text).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bot_answers_those_who_may_ask_and_does_it_once() {
    let mut world = World::new();
    world.settings.push(("FHIR_BRIDGE_ENGINE__TRIES", "2".to_owned()));
    let (anna, _, room) = begin(&mut world).await;
    let bob = world.person("bob").await;
    says_in(&anna, &room, "Hoe gaat het met moeder?").await;

    in_a_conversation(&world, &anna, &bob, &room).await;
    killed_in_the_middle(&mut world, &anna, &room).await;
    unlinked_and_linked(&world, &anna, &room).await;
    parked_work(&world, &anna, &room).await;
    in_rooms_of_people(&world, &anna, &bob).await;

    // Commands and answers are nobody's messages: not in FHIR, and no difference.
    let everything = world.search("Communication").await;
    let said = format!("{everything:?}");
    for foreign in ["!fhir", "niveau", "linked", "gekoppeld", "hulp"] {
        assert!(!said.contains(foreign), "{foreign}: {said}");
    }
    let text = world.output(&["reconcile", "CommunicationRequest/t1"]);
    assert!(text.contains(" 0 differences"), "{text}");
}

async fn in_a_conversation(world: &World, anna: &Person, bob: &Person, room: &str) {
    let who = ask(anna, room, "!fhir wie").await;
    assert!(who.contains(&format!("@anna:{SERVER}: Practitioner/Anna")), "{who}");
    assert!(who.contains(": RelatedPerson/Kees"), "{who}");
    let status = ask(anna, room, "!fhir status").await;
    assert!(
        status.contains("linked to CommunicationRequest/t1") && status.contains("FHIR server: reachable"),
        "{status}"
    );
    let both = ask(anna, room, "!fhir dans").await;
    assert!(both.contains("begrijp") && both.contains("understand"), "{both}");
    assert!(ask(anna, room, "!fhir link CommunicationRequest/andere").await.contains("unlink it first"));

    // Somebody of a low level asks what everybody may ask, and changes nothing.
    let invite = json!({ "user_id": bob.user_id });
    anna.call(Method::POST, &format!("v3/rooms/{}/invite", encode(room)), Some(invite)).await;
    bob.join(room).await;
    assert!(ask(bob, room, "!fhir who").await.contains("not known in FHIR"));
    for command in ["!fhir ontkoppel", "!fhir koppel CareTeam/Team-1", "!fhir opnieuw"] {
        let refusal = ask(bob, room, command).await;
        assert!(refusal.contains("niveau 75 nodig"), "{command}: {refusal}");
    }
    // In a conversation plain words are a message, and a command is none.
    is_carried(world, anna, room, "t1", "help").await;
}

/// A command that was given just before the bridge died is done when it is back, and answered once.
async fn killed_in_the_middle(world: &mut World, anna: &Person, room: &str) {
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(anna.say(room, "!fhir stand").await);
        world.kill_bridge();
        world.start_bridge().await;
        world.connected().await;
    }
    for event in &asked {
        answer_to(anna, room, event).await;
    }
    // Whatever would be said twice is said before this answer: they stand in one lane.
    ask(anna, room, "!fhir hulp").await;
    for event in &asked {
        assert_eq!(answers(anna, room, event).await.len(), 1);
    }
}

async fn unlinked_and_linked(world: &World, anna: &Person, room: &str) {
    assert!(ask(anna, room, "!fhir unlink").await.contains("no longer linked to CommunicationRequest/t1"));
    assert!(ask(anna, room, "!fhir unlink").await.contains("not linked"));
    // FHIR goes on; nothing comes, no other room is made, and nothing is lost.
    world.put(communication("m9", "Dit wacht.")).await;
    let mut changed = world.get("CommunicationRequest/t1").await.unwrap();
    changed["priority"] = json!("urgent");
    world.put(changed).await;
    until("it waits", || async { world.output(&["status"]).contains("waits for room").then_some(()) }).await;
    anna.say(room, "Niet voor het dossier.").await;
    assert!(ask(anna, room, "!fhir link CommunicationRequest/none").await.contains("is not in FHIR"));
    assert!(ask(anna, room, "!fhir link").await.contains("Name what you link"));
    assert!(ask(anna, room, "!fhir link CareTeam/Team-1").await.contains("another room"));
    assert!(!anna.texts(room).await.iter().any(|text| text == "Dit wacht."));
    assert!(ask(anna, room, "!fhir koppel CommunicationRequest/t1").await.contains("gekoppeld aan"));
    says_in(anna, room, "Dit wacht.").await;
    is_carried(world, anna, room, "t1", "Weer voor het dossier.").await;
    assert!(!texts_in_fhir(world, "t1").await.iter().any(|text| text == "Niet voor het dossier."));
}

/// A message of a ghost that was banned is parked; when it may speak again, `retry` says it.
async fn parked_work(world: &World, anna: &Person, room: &str) {
    let kees = json!({ "user_id": format!("@_fhir_bridge_relatedperson-_kees:{SERVER}") });
    let change = |action: &str| format!("v3/rooms/{}/{action}", encode(room));
    world.bot().call(Method::POST, &change("ban"), Some(kees.clone())).await;
    world.put(communication("m10", "Ben ik er nog?")).await;
    until("it is parked", || async { world.output(&["status"]).contains(" 1 parked").then_some(()) }).await;
    world.bot().call(Method::POST, &change("unban"), Some(kees.clone())).await;
    world.bot().call(Method::POST, &change("invite"), Some(kees)).await;
    let status = ask(anna, room, "!fhir stand").await;
    assert!(status.contains("geparkeerd: 1"), "{status}");
    assert!(ask(anna, room, "!fhir opnieuw").await.contains("Opnieuw geprobeerd: 1"));
    says_in(anna, room, "Ben ik er nog?").await;
}

async fn in_rooms_of_people(world: &World, anna: &Person, bob: &Person) {
    // In a direct chat no prefix is needed; other programs are not answered.
    let chat = room_with_bot(bob).await;
    assert!(ask(bob, &chat, "hulp").await.contains("ontkoppel"));
    let notice = bob.send(&chat, "m.room.message", json!({ "msgtype": "m.notice", "body": "hulp" })).await;

    // A conversation comes only to those whom FHIR knows there; the room's own level is not enough.
    let mut draft = request("t3", "Nog niet.");
    draft["status"] = json!("draft");
    world.put(draft.clone()).await;
    let refusal = ask(bob, &chat, "link CommunicationRequest/t3").await;
    assert!(refusal.contains("FHIR must know you"), "{refusal}");
    assert!(answers(bob, &chat, &notice).await.is_empty());

    let own = room_with_bot(anna).await;
    anna.say(&own, "Van voor de koppeling.").await;
    assert!(ask(anna, &own, "!fhir link CareTeam/Team-1").await.contains("another room"));
    assert!(ask(anna, &own, "!fhir link CommunicationRequest/t3").await.contains("linked to CommunicationRequest/t3"));
    let linked = world.get("CommunicationRequest/t3").await.unwrap();
    assert_eq!(linked["identifier"][0]["value"], own);
    is_carried(world, anna, &own, "t3", "In mijn eigen ruimte.").await;
    assert_eq!(texts_in_fhir(world, "t3").await, ["In mijn eigen ruimte."]);
    // Its members and levels stay its maker's affair, also when the conversation begins.
    let mut active = world.get("CommunicationRequest/t3").await.unwrap();
    active["status"] = json!("active");
    world.put(active).await;
    says_in(anna, &own, "Nog niet.").await;
    let levels = anna.get(&format!("v3/rooms/{}/state/m.room.power_levels/", encode(&own))).await;
    assert!(levels["users"][bot()].is_null(), "{levels}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bot_shows_itself_as_the_settings_say() {
    let mut world = World::new();
    // It starts without a homeserver, and is named when that comes.
    world.start_bridge().await;
    world.start_homeserver().await;
    world.connected().await;
    let bot = world.bot();
    let profile = format!("v3/profile/{}", encode(&bot.user_id));
    let shown = async |name: &str, avatar: Option<&str>| {
        until("the bot shows itself", || async {
            let profile = bot.try_get(&profile).await?;
            (profile["displayname"] == name && profile["avatar_url"].as_str() == avatar).then_some(())
        })
        .await;
    };
    shown("FHIR-koppeling", None).await;
    world.kill_bridge();
    let picture = format!("mxc://{}/zorgbot", SERVER);
    world.settings.push(("FHIR_BRIDGE_ENGINE__BOT_NAME", "Zorgbot".to_owned()));
    world.settings.push(("FHIR_BRIDGE_ENGINE__BOT_AVATAR", picture.clone()));
    world.start_bridge().await;
    shown("Zorgbot", Some(&picture)).await;
    // Somebody else named it, and the settings leave that to them.
    world.kill_bridge();
    let path = format!("{profile}/displayname");
    bot.call(Method::PUT, &path, Some(json!({ "displayname": "Van ons" }))).await;
    world.settings.push(("FHIR_BRIDGE_ENGINE__BOT_NAME", String::new()));
    world.start_bridge().await;
    world.connected().await;
    shown("Van ons", Some(&picture)).await;
    world.kill_bridge();
    world.settings.push(("FHIR_BRIDGE_ENGINE__BOT_AVATAR", "https://x/y.png".to_owned()));
    let output = world.command(&["check-config", "--offline"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("engine.bot_avatar"), "{output:?}");
}
