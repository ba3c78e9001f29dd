//! A team's lead in every room version: given the lead, put lower again, and sent out.

use serde_json::{Value, json};

use crate::{
    scenario::{begin, team},
    world::{Person, World, encode, until},
};

async fn levels(person: &Person, room: &str) -> Option<Value> {
    person.try_get(&format!("v3/rooms/{}/state/m.room.power_levels/", encode(room))).await
}

async fn stands_at(world: &World, rooms: &[&String], user: &str, level: i64) {
    for room in rooms {
        until(&format!("{user} stands at {level}"), || async {
            (levels(&world.bot(), room).await?["users"][user] == level).then_some(())
        })
        .await;
    }
}

async fn a_lead_comes_and_goes(version: &'static str) {
    let mut world = World::new();
    world.room_version = Some(version);
    let (anna, space, room) = begin(&mut world).await;
    let of_room = anna.get(&format!("v3/rooms/{}/state/m.room.create/", encode(&room))).await;
    assert_eq!(of_room["room_version"], version);
    let everybody = team(&["Practitioner/Anna", "RelatedPerson/Kees"]);
    let mut led = everybody.clone();
    led["participant"][0]["role"] = json!([{ "text": "regiebehandelaar" }]);
    for (wanted, level) in [(&led, 100), (&everybody, 75), (&led, 100)] {
        world.put(wanted.clone()).await;
        stands_at(&world, &[&space, &room], &anna.user_id, level).await;
    }
    world.put(team(&["RelatedPerson/Kees"])).await;
    for place in [&space, &room] {
        let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(place), encode(&anna.user_id));
        until("she is sent out", || async {
            (world.bot().try_get(&member).await?["membership"] == "leave").then_some(())
        })
        .await;
    }
    assert!(world.output(&["status"]).contains("0 waiting, 0 parked"), "{}", world.output(&["status"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_version_10() {
    a_lead_comes_and_goes("10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_version_11() {
    a_lead_comes_and_goes("11").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_version_12() {
    a_lead_comes_and_goes("12").await;
}
