//! W3C Trace Context: from a FHIR request to a Matrix event, and back.

use serde_json::{Value, json};

use crate::{
    scenario::{begin, communication},
    world::{World, until},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The traces of the lines of a log that hold a mark.
pub(crate) fn trace_ids(log: &str, mark: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains(mark));
    lines.filter_map(|line| Some(line.split_once("trace_id=\"")?.1.get(..32)?.to_owned())).collect()
}

fn trace_of(event: &Value) -> Vec<&str> {
    event["content"]["care-federation.trace"]["traceparent"].as_str().unwrap().split('-').collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_from_fhir_to_matrix_and_back() {
    let mut world = World::embedded();
    let (anna, _, room) = begin(&mut world).await;
    let (state, wrong) = ("vendor=a b,other=1", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01");
    world.put_with(communication("m1", "Met spoor"), &[("traceparent", PARENT), ("tracestate", state)]).await;
    world.put_with(communication("m2", "Zonder spoor"), &[("traceparent", wrong), ("tracestate", state)]).await;
    until("the messages are there", || async { (anna.texts(&room).await.len() == 3).then_some(()) }).await;

    // The message is another step of the trace that wrote it; a wrong header began a new trace.
    let timeline = anna.timeline(&room).await;
    let said = |text: &str| timeline.iter().find(|event| event["content"]["body"] == text).unwrap();
    let with = trace_of(said("Met spoor"));
    assert_eq!((with[0], with[1], with[3]), ("00", TRACE, "01"));
    assert_ne!(with[2], "b7ad6b7169203331");
    assert_eq!(said("Met spoor")["content"]["care-federation.trace"]["tracestate"], state);
    let without = trace_of(said("Zonder spoor"));
    assert!(without[1] != TRACE && without[1].len() == 32);
    assert!(said("Zonder spoor")["content"]["care-federation.trace"]["tracestate"].is_null());

    // The answer goes on in it, and so does the record of who read it; the state of others is in no log.
    let answered = said("Met spoor")["event_id"].as_str().unwrap();
    let answer = json!({ "msgtype": "m.text", "body": "Gezien",
        "m.relates_to": { "m.in_reply_to": { "event_id": answered } } });
    anna.send(&room, "m.room.message", answer).await;
    anna.say(&room, "Iets anders").await;
    let texts = || async {
        let found = world.search("Communication?part-of=CommunicationRequest/t1").await;
        (found.len() == 4).then_some(())
    };
    until("both are Communications", texts).await;
    let worked = trace_ids(&world.log(), "kind=\"event\"");
    assert!(worked.iter().any(|id| id == TRACE) && worked.iter().any(|id| id != TRACE), "{worked:?}");
    anna.read(&room, answered).await;
    let audits = || async { world.search("AuditEvent").await.into_iter().next() };
    let audit = until("the reading is written down", audits).await;
    let trace = audit["extension"].as_array().unwrap();
    assert!(trace.iter().all(|extension| extension["url"].as_str().unwrap().contains("/ozo-")), "{audit}");
    assert!(!world.log().contains("vendor=a b"));
}
