use serde_json::{Value, json};

use super::*;
use crate::fhir::{repository::Repository, server::Condition};

const UZI: &str = person::UZI;
const URA: &str = person::URA;

fn point(purpose: &str, value: &str) -> Value {
    json!({ "system": "other", "value": value, "extension": [{
        "url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose", "valueString": purpose }] })
}

/// A directory with two organisations and one physician who works for both.
async fn directory() -> (tempfile::TempDir, Directory) {
    let place = tempfile::tempdir().unwrap();
    let repository = Repository::open(&place.path().join("fhir.db"), "http://localhost/fhir").unwrap();
    let practice = json!({ "resourceType": "Organization", "id": "practice", "name": "Huisartsen De Kade",
        "identifier": [{ "system": URA, "value": "1111" }], "telecom": [point("matrix-homeserver", "huisarts")] });
    let hospital = json!({ "resourceType": "Organization", "id": "hospital", "name": "Ziekenhuis Oost",
        "identifier": [{ "system": URA, "value": "2222" }] });
    let ward = json!({ "resourceType": "Organization", "id": "ward", "name": "Huidzorg",
        "partOf": { "reference": "Organization/hospital" } });
    let endpoint = json!({ "resourceType": "Endpoint", "id": "e", "status": "active", "address": "https://oost.example",
        "connectionType": { "system": "http://x", "code": "matrix-homeserver" }, "payloadType": [{ "text": "chat" }],
        "managingOrganization": { "reference": "Organization/hospital" } });
    let anna = json!({ "resourceType": "Practitioner", "id": "anna", "name": [{ "text": "Anna de Arts", "family": "Arts" }],
        "identifier": [{ "system": UZI, "value": "900" }] });
    let gone = json!({ "resourceType": "Practitioner", "id": "gone", "active": false,
        "identifier": [{ "system": UZI, "value": "901" }], "telecom": [point("matrix-messaging", "@gone:x")] });
    let role = |id: &str, organization: &str, user: &str, active: bool| {
        json!({ "resourceType": "PractitionerRole", "id": id, "active": active,
            "practitioner": { "reference": "Practitioner/anna" },
            "organization": { "reference": format!("Organization/{organization}") },
            "telecom": [point("matrix-messaging", user)] })
    };
    let all = [
        practice,
        hospital,
        ward,
        endpoint,
        anna,
        gone,
        role("r1", "practice", "@anna:huisarts", true),
        role("r2", "ward", "@anna:oost.example", true),
        role("r0", "practice", "@old:huisarts", false),
    ];
    for resource in all {
        repository.update(serde_json::from_value(resource).unwrap(), Condition::Always).await.unwrap();
    }
    (place, Directory::own(Arc::new(repository)))
}

fn users(listings: &[Listing]) -> Vec<&str> {
    listings.iter().filter_map(|listing| listing.matrix_id.as_deref()).collect()
}

#[tokio::test]
async fn a_professional_is_found_by_the_card_in_every_role() {
    let (_place, directory) = directory().await;
    let found = directory.find(&Wanted::professional("900")).await.unwrap();
    assert_eq!(users(&found), ["@anna:huisarts", "@anna:oost.example"]);
    let at_the_ward = listing::best(&found, Some("2222")).unwrap();
    assert_eq!(at_the_ward.matrix_id.as_deref(), Some("@anna:oost.example"));
    // Number and homeserver are those of the hospital that the ward belongs to.
    assert_eq!(at_the_ward.homeserver.as_deref(), Some("oost.example"));
    assert_eq!(at_the_ward.name.as_deref(), Some("Anna de Arts"));
    assert_eq!(users(&directory.find(&Wanted::professional("901")).await.unwrap()), [""; 0], "not active");
    assert!(directory.find(&Wanted::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_organisation_is_found_by_its_number_with_those_who_work_there() {
    let (_place, directory) = directory().await;
    let found = directory.find(&Wanted::organization("1111")).await.unwrap();
    let resources: Vec<&str> = found.iter().map(|listing| listing.resource.as_str()).collect();
    assert_eq!(resources, ["Organization/practice", "Practitioner/anna"]);
    assert!(found.iter().all(|listing| listing.homeserver.as_deref() == Some("huisarts")));
    let both = Wanted { uzi: Some("900".to_owned()), ..Wanted::organization("2222") };
    assert_eq!(users(&directory.find(&both).await.unwrap()), ["@anna:oost.example"]);
}

#[tokio::test]
async fn names_are_found_by_their_beginning() {
    let (_place, directory) = directory().await;
    let named = |name: &str| Wanted { name: Some(name.to_owned()), ..Wanted::default() };
    let found = directory.find(&named("hui")).await.unwrap();
    let names: Vec<_> = found.iter().filter_map(|listing| listing.name.as_deref()).collect();
    assert_eq!(names, ["Huisartsen De Kade", "Huidzorg"]);
    assert_eq!(directory.find(&named("arts")).await.unwrap().len(), 2, "Anna in two roles");
}
