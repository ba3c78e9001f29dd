use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    message::{self, Facts, Incoming, Mark, Said, Visibility},
    person, reading, thread,
};
use crate::{
    bridge::identity::{Instance, Kind, Names},
    fhir::resources::{CareTeam, Communication, CommunicationRequest, Patient, Payload, Resource, Task},
    matrix::intent::content,
};

/// The care team of the OZO guide's example, with what could betray the patient.
const TEAM: &str = r##"{
  "resourceType": "CareTeam", "id": "CareTeam-H-de-Boer", "status": "active", "name": "Zorgteam van H. de Boer",
  "meta": {"versionId": "1", "lastUpdated": "2024-12-05T16:24:57.767+00:00", "source": "#bHxcc9zOwXaXp92c"},
  "subject": {"reference": "Patient/Patient-H-de-Boer", "type": "Patient", "display": "H. de Boer"},
  "participant": [
    {"member": {"reference": "RelatedPerson/RelatedPerson-Kees-Groot", "type": "RelatedPerson"}},
    {"member": {"reference": "Practitioner/Practitioner-Manu-van-Weel", "type": "Practitioner", "display": "Manu van Weel"},
     "role": [{"coding": [{"system": "http://snomed.info/sct", "code": "158965000"}], "text": "regiebehandelaar"}],
     "onBehalfOf": {"reference": "Organization/Organization-Ziekenhuis-Amsterdam-2"}},
    {"member": {"reference": "Practitioner/Practitioner-Mark-Benson"}, "period": {"end": "2024-12-31"}},
    {"member": {"reference": "CareTeam/another"}}
  ]
}"##;

/// The conversation of the OZO guide's example.
const REQUEST: &str = r#"{
  "resourceType": "CommunicationRequest", "id": "CommunicationRequest-Thread-Example", "status": "active",
  "subject": {"reference": "Patient/Patient-H-de-Boer", "type": "Patient", "display": "H. de Boer"},
  "payload": [
    {"contentString": "Thread created by RelatedPerson"},
    {"contentAttachment": {"contentType": "application/pdf", "url": "https://example.com/data/rapport_fractuur.pdf",
      "title": "rapport_fractuur.pdf", "creation": "3899-06-21T00:00:00+02:00"}}
  ],
  "requester": {"reference": "RelatedPerson/RelatedPerson-Kees-Groot", "type": "RelatedPerson"},
  "recipient": [{"reference": "CareTeam/CareTeam-H-de-Boer", "type": "CareTeam"}]
}"#;

const AT: i64 = 1_764_000_000_000;

fn read<T: crate::fhir::resources::Typed>(text: &str) -> T {
    Resource::from_json(text.as_bytes()).unwrap().to().unwrap()
}

fn text_of(payload: &Payload) -> &str {
    payload.content_string.as_deref().unwrap()
}

#[test]
fn the_guides_team_becomes_members_with_levels() {
    let team: CareTeam = read(TEAM);
    let members = thread::members(&team, &["regiebehandelaar".to_owned()], AT);
    let members: Vec<_> = members.iter().map(|member| (member.person.to_string(), member.level)).collect();
    insta::assert_debug_snapshot!(members, @r#"
    [
        (
            "RelatedPerson/RelatedPerson-Kees-Groot",
            50,
        ),
        (
            "Practitioner/Practitioner-Manu-van-Weel",
            100,
        ),
    ]
    "#);
    // On the last day of his period Mark still takes part.
    assert_eq!(thread::members(&team, &[], 1_735_600_000_000).len(), 3);
}

#[test]
fn the_guides_conversation_becomes_events() {
    let request: CommunicationRequest = read(REQUEST);
    assert_eq!(thread::teams(&request)[0].to_string(), "CareTeam/CareTeam-H-de-Boer");
    assert_eq!(thread::people(&request)[0].to_string(), "RelatedPerson/RelatedPerson-Kees-Groot");
    let contents: Vec<_> =
        message::outgoing(&request.payload).into_iter().map(|outgoing| Value::Object(outgoing.content)).collect();
    insta::assert_json_snapshot!(contents, @r#"
    [
      {
        "msgtype": "m.text",
        "body": "Thread created by RelatedPerson"
      },
      {
        "msgtype": "m.text",
        "body": "rapport_fractuur.pdf\nhttps://example.com/data/rapport_fractuur.pdf"
      }
    ]
    "#);
}

#[test]
fn names_and_state_say_nothing_of_the_patient() {
    let names = Names::new("vvt").unwrap();
    let team = Instance::parse("CareTeam/CareTeam-H-de-Boer").unwrap();
    // The team's own name holds the patient's; it is not used.
    assert_eq!(thread::name("Zorgteam", &team), "Zorgteam CareTeam");
    assert_eq!(names.alias(&team), "#_fhir_bridge_careteam-_care_team-_h-de-_boer:vvt");
    let patient = json!({"resourceType": "Patient", "id": "p", "name": [{"text": "Hendrik CANARY"}],
        "identifier": [{"system": "http://fhir.nl/fhir/NamingSystem/bsn", "value": "999911120"}],
        "telecom": [{"system": "email", "value": "canary@example.org"}]});
    let patient = Resource::from_json(patient.to_string().as_bytes()).unwrap();
    let mapping = person::user_mapping("Patient/p", &person::profile(&patient), Some("x"));
    assert_eq!(mapping, json!({ "fhirRef": "Patient/p" }));
    assert_eq!(person::invite_context(&patient.to::<Patient>().unwrap()), None);
}

#[test]
fn an_invitation_carries_the_pseudonym_alone() {
    let patient = json!({"resourceType": "Patient", "identifier": [
        {"system": "http://fhir.nl/fhir/NamingSystem/bsn", "value": "999911120"},
        {"system": person::PSEUDONYM, "value": "87479412034"}]});
    let patient: Patient = read(&patient.to_string());
    let context = person::invite_context(&patient).unwrap();
    assert!(!context.to_string().contains("999911120"));
    assert_eq!(context["room.subject"]["identifier"][0]["value"], "87479412034");
}

#[test]
fn a_matrix_id_is_read_from_telecom() {
    let practitioner = json!({"resourceType": "Practitioner", "name": [{"use": "old", "text": "Oud"}, {"family": "Janssen", "given": ["H."]}],
    "identifier": [{"system": person::UZI, "value": "123456789"}],
    "telecom": [
        {"system": "email", "value": "dr.janssen@hospital-a.nl"},
        {"system": "other", "value": "no-matrix-id", "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose", "valueString": "matrix-messaging"}]},
        {"system": "other", "value": "@dr.janssen:matrix.hospital-a.nl", "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose", "valueString": "matrix-messaging"}]}
    ]});
    let profile = person::profile(&Resource::from_json(practitioner.to_string().as_bytes()).unwrap());
    assert_eq!(profile.matrix_id.as_deref(), Some("@dr.janssen:matrix.hospital-a.nl"));
    assert_eq!((profile.name.as_deref(), profile.uzi.as_deref()), (Some("H. Janssen"), Some("123456789")));
}

fn said(kind: &str, content: Value) -> Said {
    match message::read(kind, &content, false, None) {
        Incoming::Message { said, .. } | Incoming::Edit { said, .. } => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn formatting_reaches_fhir_and_comes_back() {
    let content = json!({"msgtype": "m.text", "body": "**ja**", "format": "org.matrix.custom.html", "formatted_body": "<strong class=\"x\">ja</strong>"});
    let Said::Text(payload) = said("m.room.message", content) else { panic!() };
    assert_eq!(text_of(&payload), "**ja**");
    let back = message::outgoing(&[payload]).remove(0).content;
    assert_eq!(back["formatted_body"], "<strong>ja</strong>");
}

#[test]
fn an_answer_loses_the_quotation_of_old_clients() {
    let content = json!({"msgtype": "m.text", "body": "> <@anna:vvt> Hoe gaat het?\n> Goed?\n\nGoed!",
        "m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}});
    let Incoming::Message { said: Said::Text(payload), reply_to } =
        message::read("m.room.message", &content, false, None)
    else {
        panic!()
    };
    assert_eq!((text_of(&payload), reply_to.as_deref()), ("Goed!", Some("$1")));
}

#[test]
fn what_cannot_be_carried_is_said_to_be_missing() {
    let cases = [
        ("m.sticker", json!({"body": "zwaai", "url": "mxc://a/b"}), "a sticker", "[a sticker] zwaai"),
        (
            "m.room.encrypted",
            json!({"algorithm": "m.megolm.v1.aes-sha2"}),
            "an encrypted message",
            "[an encrypted message]",
        ),
        ("m.poll.start", json!({"m.poll": {"question": {"body": "Wanneer?"}}}), "a poll", "[a poll] Wanneer?"),
        (
            "m.room.message",
            json!({"msgtype": "m.image", "body": "f.png", "file": {}}),
            "an encrypted file",
            "[an encrypted file] f.png",
        ),
        (
            "m.room.message",
            json!({"msgtype": "x.y", "body": "b"}),
            "a message of the type x.y",
            "[a message of the type x.y] b",
        ),
        (
            "m.room.message",
            json!({"msgtype": "m.text", "body": ":a:", "formatted_body": "<img data-mx-emoticon>"}),
            "a custom emoji",
            "[a custom emoji] :a:",
        ),
        (
            "org.example.thing",
            json!({}),
            "an event of the type org.example.thing",
            "[an event of the type org.example.thing]",
        ),
    ];
    for (kind, content, expected, text) in cases {
        let Said::Missing { what, instead } = said(kind, content) else { panic!("{kind}") };
        assert_eq!((what.as_str(), text_of(&instead)), (expected, text));
    }
    for kind in ["m.call.candidates", "m.poll.response"] {
        assert_eq!(message::read(kind, &json!({}), false, None), Incoming::Nothing);
    }
    assert_eq!(message::read("m.room.topic", &json!({}), true, None), Incoming::Nothing);
}

#[test]
fn an_answer_in_a_thread_answers_its_beginning_unless_it_names_another() {
    let answered = |relation: Value| {
        let content = json!({ "msgtype": "m.text", "body": "Ja.", "m.relates_to": relation });
        match message::read("m.room.message", &content, false, None) {
            Incoming::Message { reply_to, .. } => reply_to,
            other => panic!("{other:?}"),
        }
    };
    let thread = |rest: Value| {
        let mut relation = json!({ "rel_type": "m.thread", "event_id": "$root" });
        relation.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        answered(relation)
    };
    let reply = json!({ "event_id": "$last" });
    assert_eq!(thread(json!({})).as_deref(), Some("$root"));
    assert_eq!(thread(json!({ "m.in_reply_to": reply, "is_falling_back": true })).as_deref(), Some("$root"));
    assert_eq!(thread(json!({ "m.in_reply_to": reply, "is_falling_back": false })).as_deref(), Some("$last"));
    assert_eq!(answered(json!({ "m.in_reply_to": reply })).as_deref(), Some("$last"));
    assert_eq!(answered(json!({ "rel_type": "m.reference", "event_id": "$root" })), None);
}

#[test]
fn a_name_is_shown_without_what_turns_or_breaks_the_line() {
    let shown = |name: &str| person::display_name(name);
    assert_eq!(shown("  Anna\tde\r\nArts ").as_deref(), Some("Anna de Arts"));
    assert_eq!(shown("Kees \u{202e}toorG\u{2069}").as_deref(), Some("Kees toorG"));
    assert_eq!(shown("\u{5e9}\u{5dc}\u{200f}").as_deref(), Some("\u{5e9}\u{5dc}\u{200f}"));
    assert_eq!(shown(&"é".repeat(300)).map(|name| name.chars().count()), Some(200));
    assert_eq!(shown("\u{202e} \0"), None);
}

#[test]
fn no_event_is_larger_than_a_homeserver_takes() {
    let long = |text: String| message::text_payload(&text, None);
    for payload in [
        long("\"".repeat(20_000)),
        long("\u{1}".repeat(20_000)),
        long("a".repeat(100_000)),
        serde_json::from_value(json!({ "contentAttachment": { "title": "\u{1}".repeat(70_000), "data": "aA==" } }))
            .unwrap(),
    ] {
        let outgoing = message::outgoing(&[payload]).remove(0);
        // An edit holds it twice.
        assert!(2 * Value::Object(outgoing.content).to_string().len() < 60_000);
    }
}

#[test]
fn an_edit_without_new_words_is_none() {
    let edit =
        json!({ "msgtype": "m.text", "body": "* Ja.", "m.relates_to": { "rel_type": "m.replace", "event_id": "$1" } });
    assert_eq!(message::read("m.room.message", &edit, false, None), Incoming::Nothing);
}

#[test]
fn the_question_of_a_poll_is_read_in_every_form() {
    for question in [
        json!({ "body": "Wanneer?" }),
        json!({ "m.text": [{ "body": "Wanneer?" }] }),
        json!({ "m.text": "Wanneer?" }),
        json!({ "org.matrix.msc1767.text": "Wanneer?" }),
    ] {
        let Said::Missing { instead, .. } = said("m.poll.start", json!({ "m.poll": { "question": question } })) else {
            panic!("{question}")
        };
        assert_eq!(instead.content_string.as_deref(), Some("[a poll] Wanneer?"), "{question}");
    }
}

#[test]
fn a_file_goes_up_with_its_type_and_a_long_text_as_a_file() {
    let file = json!({"contentAttachment": {"contentType": "image/png", "title": "wond.png", "data": "aGFs\nbG8="}});
    let file: Payload = serde_json::from_value(file).unwrap();
    let long = message::text_payload(&"é".repeat(message::LONGEST_TEXT), None);
    let sent = message::outgoing(&[file, long]);
    assert_eq!(sent[0].content["msgtype"], "m.image");
    assert_eq!(sent[0].upload.as_ref().unwrap().bytes, b"hallo");
    assert_eq!(sent[1].content["msgtype"], "m.file");
    assert_eq!(sent[1].upload.as_ref().unwrap().bytes.len(), 2 * message::LONGEST_TEXT);
}

#[test]
fn an_edit_replaces_and_a_redaction_withdraws() {
    let new = message::outgoing(&[message::text_payload("beter", None)]).remove(0).content;
    let edit = content::edit_of(ruma::event_id!("$1"), Value::Object(new));
    let Incoming::Edit { of, said: Said::Text(payload) } = message::read("m.room.message", &edit, false, None) else {
        panic!()
    };
    assert_eq!((of.as_str(), text_of(&payload)), ("$1", "beter"));
    assert_eq!(edit["body"], "* beter");
    let redaction = message::read("m.room.redaction", &json!({}), false, Some("$1"));
    assert_eq!(redaction, Incoming::Redaction { of: "$1".to_owned() });
}

#[test]
fn a_task_follows_reading() {
    let request = Instance::parse("CommunicationRequest/1").unwrap();
    let owner = Instance::parse("Practitioner/1").unwrap();
    let mut task: Task = reading::task(&request, &owner, None, AT);
    assert!(reading::new_message(&mut task, "Communication/1", false, AT));
    assert_eq!(task.status.as_ref().unwrap().as_str(), "requested");
    assert!(reading::read(&mut task, AT) && !reading::read(&mut task, AT));
    // The same message again does not make it unread.
    assert!(!reading::new_message(&mut task, "Communication/1", false, AT));
    assert!(reading::new_message(&mut task, "Communication/2", true, AT));
    assert_eq!(task.status.as_ref().unwrap().as_str(), "completed");
}

#[test]
fn a_digest_sees_words_and_not_the_order_of_members() {
    let one: Payload =
        serde_json::from_value(json!({"contentString": "a", "_contentString": {"id": "1", "extension": []}})).unwrap();
    let other: Payload =
        serde_json::from_value(json!({"_contentString": {"extension": [], "id": "1"}, "contentString": "a"})).unwrap();
    let digest = |payload: &Payload, visibility| message::digest(std::slice::from_ref(payload), visibility);
    assert_eq!(digest(&one, Visibility::Shown), digest(&other, Visibility::Shown));
    assert_ne!(digest(&one, Visibility::Shown), digest(&one, Visibility::Withdrawn));
    assert_ne!(digest(&one, Visibility::Shown), digest(&message::text_payload("b", None), Visibility::Shown));
}

proptest! {
    #[test]
    fn a_communication_survives_the_way_to_matrix_and_back(
        text in "\\PC{1,200}",
        formatted in proptest::option::of("<b>[a-z]{1,9}</b>"),
        person in "[A-Za-z0-9.-]{1,64}",
        request in "[A-Za-z0-9.-]{1,64}",
        answer in proptest::option::of("[A-Za-z0-9.-]{1,64}"),
        sent in 0_i64..4_000_000_000_000,
    ) {
        let names = Names::new("vvt").unwrap();
        let request = Instance::new(Kind::CommunicationRequest, request).unwrap();
        let sender = Instance::new(Kind::RelatedPerson, person).unwrap();
        let facts = |sender: String, event_id| Facts {
            event_id,
            request: &request,
            subject: None,
            sender: super::literal(sender),
            sent,
            in_response_to: answer.as_ref().map(|id| format!("Communication/{id}")),
        };
        let payload = message::text_payload(&text, formatted.as_deref());
        let before: Communication = message::communication(facts(sender.to_string(), "$1"), vec![payload], None);

        // To Matrix: an event of the sender's ghost. An answer names the event of the Communication that it answers.
        let ghost = names.ghost(&sender);
        let mut content = Value::Object(message::outgoing(&before.payload).remove(0).content);
        if let Some(reference) = before.in_response_to.first().and_then(|answered| answered.reference.as_deref()) {
            let event_id = ruma::OwnedEventId::try_from(format!("$event of {reference}")).unwrap();
            content = content::reply_to(content, &event_id);
        }
        let event = json!({"type": "m.room.message", "sender": ghost, "content": content, "origin_server_ts": sent});

        // And back.
        let read = message::read("m.room.message", &event["content"], false, None);
        let Incoming::Message { said: Said::Text(payload), reply_to } = read else { panic!("{read:?}") };
        let answered = reply_to.map(|event_id| event_id.trim_start_matches("$event of ").to_owned());
        prop_assert_eq!(answered, answer.as_ref().map(|id| format!("Communication/{id}")));
        let sender = names.person_of(event["sender"].as_str().unwrap()).unwrap();
        let after = message::communication(facts(sender.to_string(), "$1"), vec![payload], None);
        prop_assert_eq!(Resource::of(&after), Resource::of(&before));
    }

    #[test]
    fn a_mark_is_read_as_written(id in "[A-Za-z0-9.-]{1,64}", part in 0_u32..9) {
        let mark = Mark { resource: format!("Communication/{id}"), digest: "d".to_owned(), part };
        let mut content = serde_json::Map::new();
        mark.write(&mut content);
        prop_assert_eq!(Mark::read(&Value::Object(content)), Some(mark));
    }

    #[test]
    fn no_event_breaks_the_reading(kind in "m\\.[a-z.]{1,20}", content in "\\PC{0,60}", key in "msgtype|body|url|m.relates_to|info") {
        let content = json!({ key: content, "msgtype": "m.text" });
        let _ = message::read(&kind, &content, false, None);
        let _ = message::read("m.room.message", &content, false, None);
    }
}
