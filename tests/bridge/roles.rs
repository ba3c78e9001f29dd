//! A professional takes part in a role, and has one Matrix id for all of them.

use serde_json::{Value, json};

use crate::{
    scenario::{accept, communication, introduce, team},
    world::{World, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_professional_says_and_reads_is_that_of_the_role_that_takes_part() {
    let mut world = World::new();
    world.start_bridge().await;
    introduce(&world).await;
    // Both roles have the Matrix id of their practitioner; one of them is in the team.
    for role in ["arts", "bestuurder"] {
        world
            .put(json!({ "resourceType": "PractitionerRole", "id": role, "active": true,
                "practitioner": { "reference": "Practitioner/Anna" } }))
            .await;
    }
    world.put(team(&["PractitionerRole/bestuurder", "RelatedPerson/Kees"])).await;
    world.start_homeserver().await;
    world.connected().await;
    let anna = world.person("anna").await;
    let (_, room) = accept(&world, &anna).await;
    let event = anna.say(&room, "Namens het bestuur.").await;
    let said = until("it is written down", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.into_iter().find(|one| one["payload"][0]["contentString"] == "Namens het bestuur.")
    })
    .await;
    assert_eq!(said["sender"]["reference"], "PractitionerRole/bestuurder");
    let task = |focus: String, status: &'static str| {
        let world = &world;
        async move {
            let query = "Task?based-on=CommunicationRequest/t1&owner=PractitionerRole/bestuurder";
            let task = world.search(query).await.pop()?;
            (task["focus"]["reference"] == focus.as_str() && task["status"] == status).then_some(())
        }
    };
    // She has read what she said herself.
    let own = format!("Communication/{}", said["id"].as_str().unwrap());
    until("her own words are read", || task(own.clone(), "completed")).await;
    world.put(communication("m1", "Dank u.")).await;
    until("the answer is unread", || task("Communication/m1".to_owned(), "requested")).await;
    let answer = until("the answer is there", || async {
        anna.timeline(&room).await.into_iter().find(|event| event["content"]["body"] == "Dank u.")
    })
    .await;
    anna.read(&room, answer["event_id"].as_str().unwrap()).await;
    until("the answer is read", || task("Communication/m1".to_owned(), "completed")).await;
    // An edit is hers as well.
    let edit = json!({ "msgtype": "m.text", "body": "* Verbeterd.", "m.relates_to": { "rel_type": "m.replace", "event_id": event },
        "m.new_content": { "msgtype": "m.text", "body": "Verbeterd." } });
    anna.send(&room, "m.room.message", edit).await;
    until("the edit is a version", || async {
        let now: Value = world.get(&own).await?;
        (now["payload"][0]["contentString"] == "Verbeterd.").then_some(())
    })
    .await;
}
