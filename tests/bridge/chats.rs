//! What people say to the bot in rooms that stand for nothing, and a homeserver that is killed forgets to push.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Person, World, encode, until};

/// The answers to an event.
async fn answers(person: &Person, room: &str, event: &str) -> usize {
    let is_answer = |said: &&Value| said["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event;
    person.timeline(room).await.iter().filter(is_answer).count()
}

async fn answered(person: &Person, room: &str, event: &str) {
    until("the bot answers", || async { (answers(person, room, event).await > 0).then_some(()) }).await;
}

/// A room with the bot in it.
async fn room_with_bot(world: &World, person: &Person, others: &[&str]) -> String {
    let bot = world.bot().user_id;
    let invited: Vec<&str> = others.iter().copied().chain([bot.as_str()]).collect();
    let plan = json!({ "preset": "private_chat", "invite": invited });
    let made = person.call(Method::POST, "v3/createRoom", Some(plan)).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&bot));
    until("the bot accepts", || async { (person.try_get(&member).await?["membership"] == "join").then_some(()) }).await;
    room
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_a_homeserver_forgot_are_answered_once_wherever_they_were_given() {
    let mut world = World::new();
    // No patrol helps: what is found is found because the homeserver was away.
    world.settings.push(("FHIR_BRIDGE_ENGINE__PATROL_SECONDS", "3600".to_owned()));
    world.start_bridge().await;
    world.start_homeserver().await;
    world.connected().await;
    let (bob, carla) = (world.person("bob").await, world.person("carla").await);
    // A chat in which something was said, one in which nothing was, and a room of several.
    let spoken = room_with_bot(&world, &bob, &[]).await;
    let first = bob.say(&spoken, "hulp").await;
    answered(&bob, &spoken, &first).await;
    let silent = room_with_bot(&world, &bob, &[]).await;
    let shared = room_with_bot(&world, &bob, &[&carla.user_id]).await;
    carla.join(&shared).await;

    let mut asked = Vec::new();
    for round in 0..2 {
        world.kill_bridge();
        for (room, text) in [(&spoken, "stand"), (&silent, "wie"), (&shared, "!fhir hulp")] {
            asked.push((room, bob.say(room, text).await));
        }
        let small_talk = carla.say(&shared, "hulp").await;
        world.kill_homeserver();
        world.forget_pushes();
        world.start_homeserver().await;
        // What comes later hides it.
        asked.push((&spoken, bob.say(&spoken, &format!("hulp {round}")).await));
        world.start_bridge().await;
        for (room, event) in &asked {
            answered(&bob, room, event).await;
        }
        assert_eq!(answers(&bob, &shared, &small_talk).await, 0);
    }

    // A command of two days ago is not for today, however it comes.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let old = json!({ "type": "m.room.message", "event_id": "$old", "room_id": spoken, "sender": bob.user_id,
        "origin_server_ts": u64::try_from(now.as_millis()).unwrap() - 2 * 86_400_000,
        "content": { "msgtype": "m.text", "body": "hulp" } });
    assert_eq!(world.push(1_000_000, json!([old])).await, StatusCode::OK);
    // A room that the bot was sent out of is no trouble.
    let kick = json!({ "user_id": world.bot().user_id });
    bob.call(Method::POST, &format!("v3/rooms/{}/kick", encode(&silent)), Some(kick)).await;
    world.kill_bridge();
    world.start_bridge().await;
    world.connected().await;
    let last = bob.say(&spoken, "hulp").await;
    answered(&bob, &spoken, &last).await;
    assert_eq!(answers(&bob, &spoken, "$old").await, 0);
    for (room, event) in asked.iter().filter(|(room, _)| **room != silent) {
        assert_eq!(answers(&bob, room, event).await, 1);
    }
    assert!(world.output(&["status"]).contains("0 parked"), "{}", world.output(&["status"]));
}
