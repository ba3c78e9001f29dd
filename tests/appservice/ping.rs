//! What is wrong is said in words.

use care_federation::{matrix::homeserver::Diagnosis, service::secrets::Secret};

use crate::{service::connection, world::world};

#[tokio::test]
async fn both_directions_work() {
    let diagnosis = world().homeserver().diagnose().await;
    assert!(diagnosis.is_fine(), "{diagnosis}");
}

#[tokio::test]
async fn the_homeserver_calls_with_another_token() {
    let (url, registration) = (&world().synapse.url, &world().wrong_token);
    let homeserver = connection(url, registration);
    let diagnosis = homeserver.diagnose().await;
    assert_eq!(diagnosis, Diagnosis::WrongToken);
    assert!(diagnosis.remedy(&homeserver).unwrap().contains("restart the homeserver"));
}

#[tokio::test]
async fn the_service_is_not_reachable_from_the_homeserver() {
    let homeserver = connection(&world().synapse.url, &world().unreachable);
    let diagnosis = homeserver.diagnose().await;
    assert!(matches!(diagnosis, Diagnosis::Unreachable(_)), "{diagnosis:?}");
    assert!(diagnosis.remedy(&homeserver).unwrap().contains("http://127.0.0.1:1,"));
}

#[tokio::test]
async fn the_registration_has_no_url() {
    let diagnosis = connection(&world().synapse.url, &world().silent).diagnose().await;
    assert_eq!(diagnosis, Diagnosis::NoUrl);
}

#[tokio::test]
async fn the_registration_is_not_loaded() {
    let mut registration = world().right.clone();
    registration.as_token = Secret::random(32).unwrap();
    assert_eq!(connection(&world().synapse.url, &registration).diagnose().await, Diagnosis::NotRegistered);
    // The original's instructions say hs_token here; with it the homeserver answers 401.
    registration.as_token = world().right.hs_token.clone();
    assert_eq!(connection(&world().synapse.url, &registration).diagnose().await, Diagnosis::NotRegistered);
}

#[tokio::test]
async fn the_id_was_changed_after_the_homeserver_read_it() {
    let mut registration = world().right.clone();
    registration.id = "renamed".to_owned();
    assert_eq!(connection(&world().synapse.url, &registration).diagnose().await, Diagnosis::OtherService);
}

#[tokio::test]
async fn the_server_has_another_name() {
    let right = world().homeserver();
    let settings = care_federation::matrix::homeserver::Settings {
        server_name: ruma::owned_server_name!("elders.test"),
        ..right.settings().clone()
    };
    let homeserver = care_federation::matrix::Homeserver::new(settings, world().right.clone()).unwrap();
    let diagnosis = homeserver.diagnose().await;
    assert!(matches!(diagnosis, Diagnosis::OtherName { .. }), "{diagnosis:?}");
    assert!(diagnosis.remedy(&homeserver).unwrap().contains("zorg.test"));
}

#[tokio::test]
async fn versions_and_capabilities_are_told() {
    let homeserver = world().homeserver();
    assert!(homeserver.versions().await.unwrap().contains(&"v1.11".to_owned()));
    assert_eq!(homeserver.whoami().await.unwrap(), homeserver.bot_id());
    assert_eq!(homeserver.bot().default_room_version().await.unwrap().as_str(), "12");
}
