//! People who are found through a care directory, and people who look for them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    scenario::{PATIENT, accept, communication, introduce, request},
    world::{Person, SERVER, World, encode, until},
};

const UZI: &str = "http://fhir.nl/fhir/NamingSystem/uzi-nr-pers";
const URA: &str = "http://fhir.nl/fhir/NamingSystem/ura";

fn point(purpose: &str, value: &str) -> Value {
    json!([{ "system": "other", "value": value, "extension": [{
        "url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose", "valueString": purpose }] }])
}

/// A professional as the bridge's own FHIR server knows them: by number alone.
fn professional(id: &str, name: &str, uzi: &str) -> Value {
    json!({ "resourceType": "Practitioner", "id": id, "name": [{ "text": name }],
        "identifier": [{ "system": UZI, "value": uzi }] })
}

/// What the directory knows: an organisation, its homeserver, and one who works there.
async fn register(directory: &World, id: &str, name: &str, uzi: &str, user: &str) {
    directory
        .put(json!({ "resourceType": "Organization", "id": "kade", "name": "De Kade",
            "identifier": [{ "system": URA, "value": "00001111" }], "telecom": point("matrix-homeserver", SERVER) }))
        .await;
    directory.put(professional(id, name, uzi)).await;
    directory
        .put(json!({ "resourceType": "PractitionerRole", "id": format!("{id}-kade"), "active": true,
            "practitioner": { "reference": format!("Practitioner/{id}") },
            "organization": { "reference": "Organization/kade" }, "telecom": point("matrix-messaging", user) }))
        .await;
}

async fn membership(world: &World, room: &str, user: &str) -> Option<String> {
    let path = format!("v3/rooms/{}/state/m.room.member/{}", encode(room), encode(user));
    Some(world.bot().try_get(&path).await?["membership"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_found_in_a_directory_elsewhere() {
    let (mut world, mut directory) = (World::new(), World::with_fhir_server());
    world.settings = vec![
        ("FHIR_BRIDGE_DIRECTORY__BASE", directory.fhir()),
        ("FHIR_BRIDGE_DIRECTORY__CACHE_SECONDS", "1".to_owned()),
        ("FHIR_BRIDGE_DIRECTORY__ATTEMPTS", "1".to_owned()),
    ];
    world.start_bridge().await;
    introduce(&world).await;
    world.put(professional("Anna", "Anna de Arts", "900000001")).await;
    // Bob takes part in a role, and is known here by his card alone.
    world
        .put(json!({ "resourceType": "PractitionerRole", "id": "bob", "organization": { "identifier": {
            "system": URA, "value": "00001111" } }, "practitioner": { "identifier": { "system": UZI,
            "value": "900000002" }, "display": "Bob" } }))
        .await;
    let members = ["Practitioner/Anna", "RelatedPerson/Kees", "PractitionerRole/bob"];
    world.put(crate::scenario::team(&members)).await;
    world.start_homeserver().await;
    world.connected().await;
    let (anna, bob) = (world.person("anna").await, world.person("bob").await);

    // While the directory is away nobody is taken for another, and nothing fails.
    until("the bridge asks the directory", || async {
        world.log().contains("the care directory does not answer").then_some(())
    })
    .await;
    assert!(world.output(&["status"]).contains("0 parked"), "{}", world.output(&["status"]));
    directory.start_fhir_server().await;
    register(&directory, "anna", "Anna de Arts", "900000001", &anna.user_id).await;
    let (space, room) = accept(&world, &anna).await;
    anna.say(&room, "Ik ben gevonden.").await;
    let said = until("what Anna says is hers", || async {
        world.search("Communication?part-of=CommunicationRequest/t1&sender=Practitioner/Anna").await.pop()
    })
    .await;
    assert_eq!(said["payload"][0]["contentString"], "Ik ben gevonden.");

    // The directory does not know Bob yet: his ghost takes part, and says by which numbers he is known.
    let ghost = format!("@_fhir_bridge_practitionerrole-bob:{SERVER}");
    let mapping = format!("v3/rooms/{}/state/custom.user_mappings/{}", encode(&space), encode(&ghost));
    let mapping = until("Bob's ghost says who he is", || async { anna.try_get(&mapping).await }).await;
    assert_eq!(mapping, json!({ "fhirRef": "PractitionerRole/bob", "uziNr": "900000002", "uraNr": "00001111" }));
    register(&directory, "bob", "Bob Jansen", "900000002", &bob.user_id).await;
    until("Bob himself is invited", || async {
        (membership(&world, &space, &bob.user_id).await? == "invite").then_some(())
    })
    .await;

    look_up(&world, &anna, &bob).await;
}

/// A number of a citizen, as a canary: it must be in no log, no state and on no page.
const BSN: &str = "999911120";

fn by_number(system: &str, value: &str) -> Value {
    json!({ "identifier": { "system": system, "value": value } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_are_named_by_number_alone_take_part() {
    let (mut world, mut directory) = (World::new(), World::with_fhir_server());
    world.settings = vec![
        ("FHIR_BRIDGE_DIRECTORY__BASE", directory.fhir()),
        ("FHIR_BRIDGE_DIRECTORY__CACHE_SECONDS", "1".to_owned()),
        ("FHIR_BRIDGE_ENGINE__TRIES", "1".to_owned()),
    ];
    directory.start_fhir_server().await;
    world.start_bridge().await;
    introduce(&world).await;
    let mut anna = crate::scenario::practitioner("Anna", &format!("@anna:{SERVER}"));
    anna["identifier"] = json!([{ "system": UZI, "value": "900000001" }]);
    world.put(anna).await;
    let bob = format!("@bob:{SERVER}");
    register(&directory, "bob", "Bob Jansen", "900000002", &bob).await;
    world
        .put(json!({ "resourceType": "RelatedPerson", "id": "Kees", "patient": { "reference": "Patient/Patient-1" },
            "name": [{ "text": "Kees Groot" }], "identifier": [{ "system": "urn:oid:2.16.840.1.113883.2.4.6.3",
            "value": BSN }] }))
        .await;
    // Anna by her card, spelt as an OID; Bob, whom only the directory knows; Kees, who has the patient's number by
    // mistake, by type; an organisation that nobody knows yet.
    let mut kees = by_number("http://fhir.nl/fhir/NamingSystem/bsn", BSN);
    kees["type"] = json!("RelatedPerson");
    let mut team = crate::scenario::team(&[]);
    let members = [
        by_number("urn:oid:2.16.528.1.1007.3.1", "900000001"),
        by_number(UZI, "900000002"),
        kees.clone(),
        by_number(URA, "00002222"),
    ];
    team["participant"] = members.map(|member| json!({ "member": member })).into_iter().collect();
    let team = world.put(team).await;
    let mut said = communication("m1", "Ik heb een nummer.");
    said["sender"] = kees;
    world.put(said).await;
    let mut nobody = communication("m2", "Wie ben ik?");
    nobody["sender"] = by_number("http://fhir.nl/fhir/NamingSystem/bsn", "999990019");
    world.put(nobody).await;
    world.start_homeserver().await;
    world.connected().await;
    let (anna, bob) = (world.person("anna").await, world.person("bob").await);
    let (space, room) = accept(&world, &anna).await;

    // Everybody who is known takes part; what a known person says is theirs.
    until("Bob is invited", || async { (membership(&world, &space, &bob.user_id).await? == "invite").then_some(()) })
        .await;
    let kees = format!("@_fhir_bridge_relatedperson-_kees:{SERVER}");
    assert_eq!(membership(&world, &space, &kees).await.as_deref(), Some("join"));
    until("Kees speaks", || async {
        anna.timeline(&room)
            .await
            .into_iter()
            .find(|event| event["content"]["body"] == "Ik heb een nummer." && event["sender"] == kees.as_str())
    })
    .await;
    bob.join(&room).await;
    bob.say(&room, "Ik sta in het adresboek.").await;
    let sender = until("what Bob says names him by number", || async {
        let found = world.search("Communication?part-of=CommunicationRequest/t1").await;
        Some(found.into_iter().find(|found| found["payload"][0]["contentString"] == "Ik sta in het adresboek.")?["sender"].clone())
    })
    .await;
    assert_eq!(sender["identifier"], json!({ "system": UZI, "value": "900000002" }));
    assert_eq!((&sender["type"], &sender["reference"]), (&json!("Practitioner"), &Value::Null));
    let of_bob = |task: &Value| task["owner"]["identifier"] == json!({ "system": UZI, "value": "900000002" });
    until("Bob has a Task", || async {
        let tasks = world.search("Task?based-on=CommunicationRequest/t1").await;
        (tasks.into_iter().filter(of_bob).count() == 1).then_some(())
    })
    .await;

    // Who is not known is said by system, never by number.
    let status = until("two are parked", || async {
        let status = world.output(&["status"]);
        status.contains("2 parked").then_some(status)
    })
    .await;
    assert!(status.contains(&format!("no Organization is known by the identifier that is given in the system {URA}")));
    assert!(status.contains("the sender: no Patient or RelatedPerson is known by"), "{status}");
    assert!(!anna.texts(&room).await.contains(&"Wie ben ik?".to_owned()));
    // They come to be known: the organisation takes part by itself, and nothing of it stays parked.
    world
        .put(json!({ "resourceType": "Organization", "id": "kade", "name": "De Kade",
            "identifier": [{ "system": URA, "value": "00002222" }] }))
        .await;
    let kade = format!("@_fhir_bridge_organization-kade:{SERVER}");
    until("the organisation takes part", || async {
        (membership(&world, &space, &kade).await? == "join" && world.output(&["status"]).contains("1 parked"))
            .then_some(())
    })
    .await;
    // Of two with one number nobody is taken for the other.
    for id in ["p1", "p2"] {
        world
            .put(json!({ "resourceType": "Patient", "id": id, "identifier": [{
                "system": "http://fhir.nl/fhir/NamingSystem/bsn", "value": "999990019" }] }))
            .await;
    }
    world.output(&["retry"]);
    let several = || async { world.output(&["status"]).contains("more than one Patient").then_some(()) };
    until("there are several", several).await;

    // Nothing was written into the team, and no number of a citizen got out.
    assert_eq!(world.get("CareTeam/Team-1").await.unwrap()["meta"]["versionId"], team["meta"]["versionId"]);
    for (room, whole) in [(&space, anna.state(&space).await), (&room, anna.state(&room).await)] {
        let whole = json!(whole).to_string();
        assert!(!whole.contains(BSN) && !whole.contains("999990019"), "{room}: {whole}");
    }
    let log = world.log() + &status;
    assert!(!log.contains(BSN) && !log.contains("999990019"), "{log}");
}

/// Look-ups from an ordinary client.
async fn look_up(world: &World, anna: &Person, bob: &Person) {
    let protocols = anna.get("v3/thirdparty/protocols").await;
    assert_eq!(protocols["fhir"]["user_fields"], json!(["uzi", "ura", "name"]));
    assert_eq!(protocols["fhir"]["instances"][0]["network_id"], SERVER);

    let users = |query: &str| {
        let path = format!("v3/thirdparty/user/fhir?{query}");
        async move { anna.get(&path).await.as_array().cloned().unwrap() }
    };
    let ids = |found: Vec<Value>| -> Vec<String> {
        found.iter().map(|user| user["userid"].as_str().unwrap().to_owned()).collect()
    };
    let found = users("uzi=900000001").await;
    assert_eq!(found[0]["userid"], anna.user_id);
    let fields = json!({ "uzi": "900000001", "ura": "00001111", "name": "Anna de Arts", "homeserver": SERVER });
    assert_eq!((&found[0]["protocol"], &found[0]["fields"]), (&json!("fhir"), &fields));
    assert_eq!(ids(users("ura=00001111").await), [anna.user_id.clone(), bob.user_id.clone()]);
    assert_eq!(ids(users("name=Bob").await), std::slice::from_ref(&bob.user_id));
    // Who is in no directory, but cares professionally, is reached through a ghost.
    world.put(professional("carla", "Carla Koper", "900000003")).await;
    assert_eq!(ids(users("uzi=900000003").await), [format!("@_fhir_bridge_practitioner-carla:{SERVER}")]);
    // Patients and those close to them are found by nobody.
    for query in [format!("name={PATIENT}"), "name=Kees".to_owned(), "uzi=1".to_owned(), "name=A".to_owned()] {
        assert_eq!(ids(users(&query).await), [""; 0], "{query}");
    }

    let locations = anna.get("v3/thirdparty/location/fhir?careteam=Team-1").await;
    assert_eq!(locations[0]["alias"], format!("#_fhir_bridge_careteam-_team-1:{SERVER}"));
    let alias = format!("#_fhir_bridge_communicationrequest-t1:{SERVER}");
    let locations = anna.get("v3/thirdparty/location/fhir?communicationrequest=t1").await;
    assert_eq!(locations[0]["alias"], alias.as_str());
    assert_eq!(anna.get("v3/thirdparty/location/fhir?communicationrequest=t2").await, json!([]));
}

/// What Synapse does not ask on behalf of a client, a homeserver may ask all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridges_own_server_is_a_directory() {
    let mut world = World::new();
    world.start_bridge().await;
    introduce(&world).await;
    // A role borrows from practitioner and organisation, whoever comes first.
    world
        .put(json!({ "resourceType": "PractitionerRole", "id": "role", "organization": { "reference": "Organization/kade" },
            "practitioner": { "reference": "Practitioner/dora" } }))
        .await;
    world.put(crate::scenario::team(&["Practitioner/Anna", "PractitionerRole/role"])).await;
    world.start_homeserver().await;
    world.connected().await;
    let (anna, dora) = (world.person("anna").await, world.person("dora").await);
    let (space, _) = accept(&world, &anna).await;
    world
        .put(json!({ "resourceType": "Organization", "id": "kade", "name": "De Kade",
            "identifier": [{ "system": URA, "value": "00001111" }] }))
        .await;
    let mut practitioner = professional("dora", "Dora", "900000004");
    practitioner["telecom"] = point("matrix-messaging", &dora.user_id);
    world.put(practitioner).await;
    until("Dora is invited in her role", || async {
        (membership(&world, &space, &dora.user_id).await? == "invite").then_some(())
    })
    .await;
    world.put(request("t2", "Wie is er?")).await;

    let registration = std::fs::read_to_string(world.path("state").join("registration.yaml")).unwrap();
    let registration: serde_yaml::Value = serde_yaml::from_str(&registration).unwrap();
    assert_eq!(registration["protocols"][0].as_str(), Some("fhir"));
    let ask = |path: String| {
        let url = format!("http://127.0.0.1:{}/_matrix/app/v1/thirdparty/{path}", world.bridge_port);
        let request = world.http.request(Method::GET, url).bearer_auth(registration["hs_token"].as_str().unwrap());
        async move {
            let response = request.send().await.unwrap();
            (response.status(), response.json::<Value>().await.unwrap())
        }
    };
    let (status, found) = ask(format!("user?userid={}", encode(&dora.user_id))).await;
    assert_eq!((status, &found[0]["fields"]["uzi"]), (StatusCode::OK, &json!("900000004")));
    let kees = format!("@_fhir_bridge_relatedperson-_kees:{SERVER}");
    assert_eq!(ask(format!("user?userid={}", encode(&kees))).await.1, json!([]));
    let alias = format!("#_fhir_bridge_careteam-_team-1:{SERVER}");
    assert_eq!(ask(format!("location?alias={}", encode(&alias))).await.1[0]["fields"]["careteam"], "Team-1");
    for other in ["protocol/irc", "user/irc?uzi=1", "location/irc?careteam=1"] {
        assert_eq!(ask(other.to_owned()).await.0, StatusCode::NOT_FOUND, "{other}");
    }
}
