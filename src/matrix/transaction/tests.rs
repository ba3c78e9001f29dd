use super::*;
use proptest::prelude::*;
use ruma::events::{AnyMessageLikeEvent, AnyStateEvent};

const GOOD: &str = r#"{"type":"m.room.message","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt",
    "origin_server_ts":1700000000000,"content":{"msgtype":"m.text","body":"hallo"},
    "unsigned":{"age":5,"transaction_id":"t1"}}"#;

fn one(event: &str) -> Event {
    let body = format!(r#"{{"events":[{event}]}}"#);
    let mut transaction = Transaction::parse("1", body.as_bytes()).unwrap();
    assert_eq!(transaction.events.len(), 1);
    transaction.events.remove(0)
}

#[test]
fn an_event_is_kept_as_received_and_understood() {
    let event = one(GOOD);
    assert_eq!(event.json(), GOOD);
    let outline = event.outline().unwrap();
    assert_eq!((outline.event_id.as_str(), outline.room_id.as_str()), ("$a", "!r:vvt"));
    assert_eq!(outline.transaction_id(), Some("t1"));
    assert!(!outline.is_redacted() && outline.state_key.is_none());
    assert!(matches!(event.typed().unwrap(), AnyTimelineEvent::MessageLike(AnyMessageLikeEvent::RoomMessage(_))));
    let again = Event::from_json(event.json().to_owned()).unwrap();
    assert_eq!(again.outline().unwrap().sender, "@jan:vvt");
}

#[test]
fn one_bad_event_does_not_fail_the_others() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in [
        "null",
        "7",
        "[]",
        "{}",
        r#"{"type":"m.room.message"}"#,
        r#"{"type":7,"event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt","origin_server_ts":1,"content":{}}"#,
        r#"{"type":"x","event_id":"$a","room_id":"r","sender":"@jan:vvt","origin_server_ts":1,"content":{}}"#,
        r#"{"type":"x\ud800","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt","origin_server_ts":1}"#,
        r#"{"type":"x","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt","origin_server_ts":1e400}"#,
        &deep,
    ] {
        let body = format!(r#"{{"events":[{bad},{GOOD}]}}"#);
        let transaction = Transaction::parse("1", body.as_bytes()).unwrap();
        assert!(transaction.events[0].outline().is_err(), "{bad:.80}");
        assert_eq!(transaction.events[0].json(), bad);
        assert!(transaction.events[1].outline().is_ok());
    }
}

#[test]
fn an_event_with_deep_content_has_an_outline_but_no_type() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let event = one(&GOOD.replace("\"hallo\"", &deep));
    assert!(event.outline().is_ok());
    assert!(event.typed().is_err());
}

#[test]
fn a_room_of_version_12_has_an_id_without_a_server() {
    let event = one(&GOOD.replace("!r:vvt", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"));
    assert!(event.outline().is_ok() && event.typed().is_ok());
}

#[test]
fn state_events_are_typed_with_their_numbers() {
    // serde_json's arbitrary precision must not get in the way of ruma's integers.
    let event =
        one(r#"{"type":"m.room.power_levels","state_key":"","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt",
        "origin_server_ts":1,"content":{"users":{"@jan:vvt":100},"events":{"m.room.message":25},"ban":50,
        "notifications":{"room":50}}}"#);
    assert!(event.outline().unwrap().is_state("m.room.power_levels"));
    let typed = event.typed().unwrap();
    let AnyTimelineEvent::State(AnyStateEvent::RoomPowerLevels(levels)) = typed else { panic!("{typed:?}") };
    assert_eq!(i64::from(levels.power_levels(&ruma::room_version_rules::AuthorizationRules::V11, vec![]).ban), 50);
}

#[test]
fn files_are_typed_with_their_numbers() {
    let event = one(
        r#"{"type":"m.room.message","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt","origin_server_ts":1,
        "content":{"msgtype":"m.image","body":"x.png","url":"mxc://vvt/a","info":{"size":12,"w":3,"h":4,"mimetype":"image/png"},
        "m.relates_to":{"m.in_reply_to":{"event_id":"$b"}}}}"#,
    );
    event.typed().unwrap();
}

#[test]
fn a_redaction_names_its_event_in_every_room_version() {
    let old = r#"{"type":"m.room.redaction","redacts":"$x","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt",
        "origin_server_ts":1,"content":{}}"#;
    let new = r#"{"type":"m.room.redaction","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt",
        "origin_server_ts":1,"content":{"redacts":"$x","reason":"r"}}"#;
    assert_eq!(one(old).redacts().unwrap(), "$x");
    assert_eq!(one(new).redacts().unwrap(), "$x");
    assert_eq!(one(GOOD).redacts(), None);
}

#[test]
fn a_redacted_event_says_so() {
    let event =
        one(r#"{"type":"m.room.message","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt","origin_server_ts":1,
        "content":{},"unsigned":{"redacted_because":{"type":"m.room.redaction"}}}"#);
    assert!(event.outline().unwrap().is_redacted());
}

proptest! {
    #[test]
    fn whatever_an_event_is_it_is_kept_byte_for_byte(texts in proptest::collection::vec(any::<String>(), 0..5), number in any::<f64>()) {
        let odd = serde_json::json!({ "texts": texts, "number": number });
        // With white space, as no serialiser here would write it.
        let odd = serde_json::to_string_pretty(&odd).unwrap();
        let body = format!(r#"{{"events":[{odd} , {GOOD}]}}"#);
        let transaction = Transaction::parse("1", body.as_bytes()).unwrap();
        prop_assert_eq!(transaction.events[0].json(), odd);
        prop_assert!(transaction.events[0].outline().is_err() && transaction.events[1].outline().is_ok());
    }

    #[test]
    fn no_body_is_too_strange(body in any::<Vec<u8>>(), at in 0..GOOD.len(), byte in any::<u8>()) {
        let _ = Transaction::parse("1", &body);
        let mut mangled = format!(r#"{{"events":[{GOOD}]}}"#).into_bytes();
        mangled[at] = byte;
        for event in Transaction::parse("1", &mangled).iter().flat_map(|transaction| &transaction.events) {
            let _ = (event.typed(), event.redacts());
        }
    }
}

/// What the fuzzer begins with, and what it found: files named by what must become of them.
#[test]
fn the_corpus_of_the_fuzzer_is_understood_or_refused() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/transaction");
    let mut tried = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let parsed = Transaction::parse("1", &std::fs::read(&path).unwrap());
        assert_eq!(parsed.is_ok(), name.starts_with("ok-"), "{name}: {parsed:?}");
        for event in parsed.iter().flat_map(|transaction| &transaction.events) {
            let _ = (event.typed(), event.redacts());
            assert_eq!(Event::from_json(event.json().to_owned()).unwrap().json(), event.json(), "{name}");
        }
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_body_that_is_no_transaction_is_refused() {
    for body in [&b""[..], b"[]", b"{}", b"{\"events\":{}}", b"{\"events\":[\"\xff\"]}", b"{\"events\":[]", b"nul"] {
        assert!(Transaction::parse("1", body).is_err(), "{body:?}");
    }
}

#[test]
fn ephemeral_data_is_read_under_both_names_and_the_rest_ignored() {
    let receipt = r#"{"type":"m.receipt","room_id":"!r:vvt","content":{"$a":{"m.read":{"@jan:vvt":{"ts":12,"thread_id":"main"},
        "nobody":{}},"m.other":{"@x:vvt":{}}},"bad":{"m.read":{"@jan:vvt":{}}}}}"#;
    let typing = r#"{"type":"m.typing","room_id":"!r:vvt","content":{"user_ids":["@jan:vvt","x"]}}"#;
    let presence = r#"{"type":"m.presence","sender":"@jan:vvt","content":{"presence":"online"}}"#;
    for name in ["ephemeral", "de.sorunome.msc2409.ephemeral"] {
        let body = format!(
            r#"{{"events":[],"{name}":[{receipt},{typing},{presence},7],"de.sorunome.msc2409.to_device":[{{}}],
            "org.matrix.msc3202.device_lists":{{"changed":[]}}}}"#
        );
        let transaction = Transaction::parse("1", body.as_bytes()).unwrap();
        let [
            Ephemeral::Receipts { receipts, .. },
            Ephemeral::Typing { user_ids, .. },
            Ephemeral::Presence { .. },
            Ephemeral::Other,
        ] = &transaction.ephemeral[..]
        else {
            panic!("{transaction:?}")
        };
        assert_eq!(receipts.len(), 1);
        assert_eq!((receipts[0].event_id.as_str(), receipts[0].private), ("$a", false));
        assert_eq!(receipts[0].thread.as_deref(), Some("main"));
        assert_eq!(receipts[0].at, Some(MilliSecondsSinceUnixEpoch(ruma::uint!(12))));
        assert_eq!(user_ids.len(), 1);
    }
}
