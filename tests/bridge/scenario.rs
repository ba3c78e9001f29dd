//! What the bridge is for, from beginning to end.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Person, SERVER, World, encode, fhir_lacks, until};

/// What must appear nowhere in Matrix but in messages, and in no log.
const BSN: &str = "999911120";
pub(crate) const PATIENT: &str = "Kanarie";

/// The people, the team and the conversation that all tests begin with.
pub(crate) async fn introduce(world: &World) {
    world
        .put(
            json!({ "resourceType": "Patient", "id": "Patient-1", "name": [{ "family": PATIENT, "given": ["Hendrik"] }],
            "identifier": [{ "system": "http://fhir.nl/fhir/NamingSystem/bsn", "value": BSN }] }),
        )
        .await;
    let mut anna = practitioner("Anna", &format!("@anna:{SERVER}"));
    anna["name"] = json!([{ "text": "Anna de Arts" }]);
    world.put(anna).await;
    world
        .put(json!({ "resourceType": "RelatedPerson", "id": "Kees", "patient": { "reference": "Patient/Patient-1" },
            "name": [{ "text": "Kees Groot" }] }))
        .await;
    world.put(team(&["Practitioner/Anna", "RelatedPerson/Kees"])).await;
    world.put(request("t1", "Hoe gaat het met moeder?")).await;
}

/// A professional with a Matrix user of their own.
pub(crate) fn practitioner(id: &str, user: &str) -> Value {
    json!({ "resourceType": "Practitioner", "id": id, "name": [{ "text": id }],
        "telecom": [{ "system": "other", "value": user, "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose", "valueString": "matrix-messaging" }] }] })
}

pub(crate) fn team(members: &[&str]) -> Value {
    let participants: Vec<Value> = members.iter().map(|member| json!({ "member": { "reference": member } })).collect();
    json!({ "resourceType": "CareTeam", "id": "Team-1", "status": "active", "name": format!("Zorgteam {PATIENT}"),
        "subject": { "reference": "Patient/Patient-1", "display": PATIENT }, "participant": participants })
}

pub(crate) fn request(id: &str, text: &str) -> Value {
    json!({ "resourceType": "CommunicationRequest", "id": id, "status": "active",
        "subject": { "reference": "Patient/Patient-1", "display": PATIENT },
        "requester": { "reference": "RelatedPerson/Kees" }, "recipient": [{ "reference": "CareTeam/Team-1" }],
        "payload": [{ "contentString": text }] })
}

pub(crate) fn communication(id: &str, text: &str) -> Value {
    json!({ "resourceType": "Communication", "id": id, "status": "completed", "sent": "2025-12-24T18:30:00.000Z",
        "partOf": [{ "reference": "CommunicationRequest/t1" }], "sender": { "reference": "RelatedPerson/Kees" },
        "payload": [{ "contentString": text }] })
}

/// Anna accepts the invitations to the team's space and the conversation.
pub(crate) async fn accept(world: &World, anna: &Person) -> (String, String) {
    let bot = world.bot();
    let mut rooms = Vec::new();
    for name in ["careteam-_team-1", "communicationrequest-t1"] {
        let alias = format!("v3/directory/room/{}", encode(&format!("#_fhir_bridge_{name}:{SERVER}")));
        let room = until("Anna is invited", || async {
            let room = bot.try_get(&alias).await?["room_id"].as_str()?.to_owned();
            let member = format!("v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&anna.user_id));
            (bot.try_get(&member).await?["membership"] == "invite").then_some(room)
        })
        .await;
        anna.join(&room).await;
        rooms.push(room);
    }
    (rooms.remove(0), rooms.remove(0))
}

/// How most tests begin: the bridge runs, FHIR has the people, the team and the conversation, the homeserver comes, and
/// Anna is in the team's space and in the conversation.
pub(crate) async fn begin(world: &mut World) -> (Person, String, String) {
    world.start_bridge().await;
    introduce(world).await;
    world.start_homeserver().await;
    world.connected().await;
    let anna = world.person("anna").await;
    let (space, room) = accept(world, &anna).await;
    (anna, space, room)
}

fn of_type<'a>(state: &'a [Value], kind: &str) -> Vec<&'a Value> {
    state.iter().filter(|event| event["type"] == kind).collect()
}

fn text_of(communication: &Value) -> &str {
    communication["payload"][0]["contentString"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_both_ways() {
    let mut world = World::new();

    // With nothing there the bridge makes what it needs, takes resources, and says what is missing.
    world.start_bridge().await;
    let (status, text) = world.health().await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("homeserver"), "{text}");
    assert!(world.log().contains("app_service_config_files"), "{}", world.log());
    introduce(&world).await;
    world.put(communication("m1", "Het gaat goed.")).await;

    // The homeserver comes; what was accepted goes on.
    world.start_homeserver().await;
    world.connected().await;
    let anna = world.person("anna").await;
    let (space, room) = accept(&world, &anna).await;
    until("both messages are there", || async { (anna.texts(&room).await.len() == 2).then_some(()) }).await;
    assert_eq!(anna.texts(&room).await, ["Hoe gaat het met moeder?", "Het gaat goed."]);
    let timeline = anna.timeline(&room).await;
    let said = timeline.iter().find(|event| event["content"]["body"] == "Het gaat goed.").unwrap().clone();
    assert_eq!(said["sender"], format!("@_fhir_bridge_relatedperson-_kees:{SERVER}"));
    assert_eq!(said["origin_server_ts"], 1_766_601_000_000_u64);

    in_the_rooms(&anna, &space, &room).await;
    from_matrix(&world, &anna, &room, said["event_id"].as_str().unwrap()).await;
    from_fhir(&world, &anna, &room).await;
    what_cannot_be_carried(&world, &anna, &room).await;
    files(&world, &anna, &room).await;
    rooms_of_people(&world, &anna, &space).await;
    leaving(&world, &anna, &space, &room).await;

    // The commands beside the running bridge.
    let text = world.output(&["reconcile"]);
    assert!(text.contains(" 0 differences"), "{text}");
    assert!(world.output(&["status"]).contains("; 0 waiting, 0 parked"), "{}", world.output(&["status"]));
    assert!(world.output(&["export"]).contains("\"Communication\""));
    assert!(world.output(&["check-config"]).contains("reach each other"));

    for secret in [BSN, PATIENT, "Hoe gaat het", "Het gaat goed"] {
        assert!(!world.log().contains(secret), "the log knows {secret:?}");
    }
}

/// Space and room are what the specification asks, and say nothing of the patient.
async fn in_the_rooms(anna: &Person, space: &str, room: &str) {
    let (in_space, in_room) = (anna.state(space).await, anna.state(room).await);
    assert_eq!(of_type(&in_space, "m.room.create")[0]["content"]["type"], "m.space");
    assert_eq!(of_type(&in_space, "m.space.child")[0]["state_key"], room);
    assert_eq!(of_type(&in_room, "m.space.parent")[0]["state_key"], space);
    let levels = &of_type(&in_room, "m.room.power_levels")[0]["content"];
    assert_eq!(levels["users"][&anna.user_id], 75);
    assert_eq!(levels["users"][format!("@_fhir_bridge_relatedperson-_kees:{SERVER}")], 50);
    assert_eq!(of_type(&in_room, "m.room.join_rules")[0]["content"]["join_rule"], "invite");
    let mapping = of_type(&in_room, "custom.user_mappings");
    assert_eq!(mapping[0]["content"], json!({ "fhirRef": "RelatedPerson/Kees" }));
    let members = of_type(&in_room, "m.room.member");
    assert!(members.iter().any(|event| event["content"]["displayname"] == "Kees Groot"));
    let everything = format!("{in_space:?} {in_room:?}");
    assert!(!everything.contains(BSN) && !everything.contains(PATIENT));
}

/// An answer, an edit, a reading mark and a withdrawal of a person.
async fn from_matrix(world: &World, anna: &Person, room: &str, answered: &str) {
    let written = until("the event id is written back", || async {
        let resource = world.get("Communication/m1").await?;
        resource["identifier"][0]["value"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(written, answered);
    let content = json!({ "msgtype": "m.text", "body": "Fijn, **dank**!", "format": "org.matrix.custom.html",
        "formatted_body": "Fijn, <strong>dank</strong>!", "m.relates_to": { "m.in_reply_to": { "event_id": answered } } });
    let event = anna.send(room, "m.room.message", content).await;
    let of_event = format!("Communication?identifier=https://matrix.org/event-id%7C{}", encode(&event));
    let answer = until("the answer is a Communication", || async { world.search(&of_event).await.pop() }).await;
    assert_eq!(answer["sender"]["reference"], "Practitioner/Anna");
    assert_eq!(answer["partOf"][0]["reference"], "CommunicationRequest/t1");
    assert_eq!(answer["inResponseTo"][0]["reference"], "Communication/m1");
    assert_eq!(answer["subject"]["reference"], "Patient/Patient-1");
    assert_eq!(text_of(&answer), "Fijn, **dank**!");
    assert!(answer["payload"][0]["_contentString"].to_string().contains("<strong>dank</strong>"));

    // Kees has not read it, Anna has.
    let task = |owner: &str| format!("Task?based-on=CommunicationRequest/t1&owner={owner}");
    let focus = format!("Communication/{}", answer["id"].as_str().unwrap());
    let about = |task: &Value, status: &str| task["focus"]["reference"] == focus.as_str() && task["status"] == status;
    for (owner, status) in [("RelatedPerson/Kees", "requested"), ("Practitioner/Anna", "completed")] {
        until("the Tasks follow", || async {
            world.search(&task(owner)).await.first().filter(|task| about(task, status)).map(drop)
        })
        .await;
    }

    // A new message of Kees: Anna reads it.
    world.put(communication("m2", "Komt u morgen?")).await;
    let second = until("the second message is there", || async {
        anna.timeline(room).await.into_iter().find(|event| event["content"]["body"] == "Komt u morgen?")
    })
    .await;
    let unread = |status: &'static str| async move {
        let task = world.search("Task?based-on=CommunicationRequest/t1&owner=Practitioner/Anna").await.pop()?;
        (task["focus"]["reference"] == "Communication/m2" && task["status"] == status).then_some(())
    };
    until("it is unread", || unread("requested")).await;
    anna.read(room, second["event_id"].as_str().unwrap()).await;
    until("it is read", || unread("completed")).await;
    if !fhir_lacks("audit-events") {
        let seen = until("reading is written down", || async { world.search("AuditEvent").await.pop() }).await;
        assert_eq!(seen["agent"][0]["who"]["reference"], "Practitioner/Anna");
        assert!(seen["entity"][0]["what"]["reference"].as_str().unwrap().starts_with("Communication/m2/_history/"));
    }

    let edit = json!({ "msgtype": "m.text", "body": "* Fijn!", "m.new_content": { "msgtype": "m.text", "body": "Fijn!" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": event } });
    anna.send(room, "m.room.message", edit).await;
    until("the edit is a version", || async {
        world.search(&of_event).await.pop().filter(|answer| text_of(answer) == "Fijn!").map(drop)
    })
    .await;
    anna.redact(room, &event).await;
    until("the withdrawal is a status", || async {
        world.search(&of_event).await.pop().filter(|answer| answer["status"] == "entered-in-error").map(drop)
    })
    .await;
    // Nothing of all this came back as a message.
    assert_eq!(anna.texts(room).await.iter().filter(|text| text.contains("Fijn")).count(), 1);
}

/// A new version is an edit, a mistake is a redaction, and somebody unknown is kept by Matrix id.
async fn from_fhir(world: &World, anna: &Person, room: &str) {
    let mut message = world.get("Communication/m2").await.unwrap();
    message["payload"][0]["contentString"] = json!("Komt u overmorgen?");
    world.put(message.clone()).await;
    let edit = until("the new version is an edit", || async {
        anna.timeline(room).await.into_iter().find(|event| event["content"]["body"] == "* Komt u overmorgen?")
    })
    .await;
    assert_eq!(edit["content"]["m.relates_to"]["rel_type"], "m.replace");
    let mut message = world.get("Communication/m2").await.unwrap();
    message["status"] = json!("entered-in-error");
    world.put(message).await;
    let original = edit["content"]["m.relates_to"]["event_id"].clone();
    until("the mistake is withdrawn", || async {
        let timeline = anna.timeline(room).await;
        timeline.into_iter().find(|event| event["event_id"] == original)?["content"]
            .as_object()?
            .is_empty()
            .then_some(())
    })
    .await;

    let bob = world.person("bob").await;
    let invite = json!({ "user_id": bob.user_id });
    anna.call(Method::POST, &format!("v3/rooms/{}/invite", encode(room)), Some(invite)).await;
    bob.join(room).await;
    bob.say(room, "Ik kijk mee.").await;
    let found = until("an unknown sender is kept", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.into_iter().find(|communication| text_of(communication) == "Ik kijk mee.")
    })
    .await;
    assert_eq!(found["sender"]["identifier"]["value"], bob.user_id);
    assert_eq!(found["sender"]["display"], "bob");
}

async fn what_cannot_be_carried(world: &World, anna: &Person, room: &str) {
    let poll = json!({ "m.poll": { "question": { "m.text": [{ "body": "Wanneer?" }], "body": "Wanneer?" } } });
    let event = anna.send(room, "m.poll.start", poll).await;
    let found = until("a poll is said to be missing", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.into_iter().find(|communication| text_of(communication).starts_with("[a poll]"))
    })
    .await;
    assert!(found["note"][0]["text"].as_str().unwrap().contains("missing"));
    until("its sender is told", || async {
        let timeline = anna.timeline(room).await;
        timeline.into_iter().find(|said| {
            said["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event
                && said["content"]["msgtype"] == "m.notice"
        })
    })
    .await;
}

async fn files(world: &World, anna: &Person, room: &str) {
    let mut message = communication("m3", "");
    message["payload"] =
        json!([{ "contentAttachment": { "contentType": "text/plain", "title": "brief.txt", "data": "aGFsbG8=" } }]);
    world.put(message).await;
    let file = until("the attachment is a file", || async {
        anna.timeline(room).await.into_iter().find(|event| event["content"]["msgtype"] == "m.file")
    })
    .await;
    assert_eq!((&file["content"]["body"], &file["content"]["info"]["size"]), (&json!("brief.txt"), &json!(5)));
    // And back: Anna passes the same file on.
    let content = json!({ "msgtype": "m.file", "body": "terug.txt", "url": file["content"]["url"] });
    anna.send(room, "m.room.message", content).await;
    let back = until("the file is an attachment", || async {
        let all = world.search("Communication?part-of=CommunicationRequest/t1").await;
        all.into_iter().find(|communication| communication["payload"][0]["contentAttachment"]["title"] == "terug.txt")
    })
    .await;
    assert_eq!(back["payload"][0]["contentAttachment"]["data"], "aGFsbG8=");
}

/// A room that Anna makes in the team's space becomes a conversation.
async fn rooms_of_people(world: &World, anna: &Person, space: &str) {
    let bot = world.bot().user_id;
    let parent =
        json!({ "type": "m.space.parent", "state_key": space, "content": { "via": [SERVER], "canonical": true } });
    let plan = json!({ "preset": "private_chat", "invite": [bot], "initial_state": [parent] });
    let made = anna.call(Method::POST, "v3/createRoom", Some(plan)).await;
    let room = made["room_id"].as_str().unwrap();
    let query = format!("CommunicationRequest?identifier=https://matrix.org/room-id%7C{}", encode(room));
    let found = until("her room is a conversation", || async { world.search(&query).await.pop() }).await;
    assert_eq!(found["requester"]["reference"], "Practitioner/Anna");
    assert_eq!(found["recipient"][0]["reference"], "CareTeam/Team-1");
    anna.say(room, "Even overleggen.").await;
    let part_of = format!("Communication?part-of=CommunicationRequest/{}", found["id"].as_str().unwrap());
    let said = until("what is said there is a Communication", || async { world.search(&part_of).await.pop() }).await;
    assert_eq!(text_of(&said), "Even overleggen.");
}

/// Who is no longer in the team leaves; a conversation that is completed can be read only.
async fn leaving(world: &World, anna: &Person, space: &str, room: &str) {
    let mut closed = world.get("CommunicationRequest/t1").await.unwrap();
    closed["status"] = json!("completed");
    world.put(closed).await;
    until("the conversation is closed", || async {
        let state = anna.state(room).await;
        (of_type(&state, "m.room.power_levels")[0]["content"]["events"]["m.room.message"] == 100).then_some(())
    })
    .await;
    world.put(team(&["RelatedPerson/Kees"])).await;
    let membership = |room: String| async move {
        let state = world.bot().state(&room).await;
        let member =
            state.into_iter().find(|event| event["type"] == "m.room.member" && event["state_key"] == anna.user_id)?;
        (member["content"]["membership"] == "leave").then_some(())
    };
    until("Anna has left the team", || membership(space.to_owned())).await;
    until("Anna has left the conversation", || membership(room.to_owned())).await;
}
