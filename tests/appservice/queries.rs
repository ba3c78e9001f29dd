//! What Synapse asks: users, aliases, third-party networks.

use reqwest::Method;
use serde_json::json;

use crate::{
    synapse::NAME,
    world::{number, world},
};

#[tokio::test]
async fn a_room_is_made_when_its_alias_is_asked_for() {
    let world = world();
    let person = world.person("jan").await;
    let number = number();
    let known = format!("/_matrix/client/v3/directory/room/%23_fhir_known-{number}:{NAME}");
    assert!(person.get(&known).await["room_id"].is_string());
    let unknown = format!("/_matrix/client/v3/directory/room/%23_fhir_other-{number}:{NAME}");
    assert_eq!(person.call(Method::GET, &unknown, json!({})).await.0, 404);
    let asked = format!("#_fhir_other-{number}:{NAME}");
    world.service.wait_for("the query", |kept| kept.asked.contains(&asked).then_some(())).await;
}

#[tokio::test]
async fn a_ghost_is_made_when_it_is_invited() {
    let world = world();
    let person = world.person("jan").await;
    for (name, exists) in [("known", true), ("other", false)] {
        let ghost = format!("@_fhir_{name}-{}:{NAME}", number());
        // Synapse asks, and invites whatever the answer is.
        let request = json!({ "invite": [ghost] });
        person.must(Method::POST, "/_matrix/client/v3/createRoom", request).await;
        world.service.wait_for("the query", |kept| kept.asked.contains(&ghost).then_some(())).await;
        let profile = person.call(Method::GET, &format!("/_matrix/client/v3/profile/{ghost}"), json!({})).await;
        assert_eq!(profile.0 == 200, exists, "{ghost}: {}", profile.1);
    }
}

#[tokio::test]
async fn a_person_is_looked_up_in_the_directory() {
    let person = world().person("jan").await;
    let found = person.get("/_matrix/client/v3/thirdparty/user/fhir?uzi=900012345").await;
    assert_eq!(found[0]["userid"], format!("@huisarts:{NAME}"));
    assert_eq!(found[0]["fields"]["uzi"], "900012345");
    let protocols = person.get("/_matrix/client/v3/thirdparty/protocols").await;
    assert_eq!(protocols["fhir"]["user_fields"], json!(["uzi"]));
}
