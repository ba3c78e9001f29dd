//! Who had what: the AuditEvents of clients with tokens.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

/// A server with a patient, a message about them and a practitioner, whose client may do everything.
async fn with_records() -> (Served, String) {
    let (served, token) = secured("system/*.*");
    let message = json!({
        "resourceType": "Communication", "id": "c", "status": "completed", "subject": {"reference": "Patient/p"},
        "payload": [{"contentString": "geheim"}],
    });
    for resource in [patient(), message, json!({"resourceType": "Practitioner", "id": "d"})] {
        let resource: Resource = serde_json::from_value(resource).unwrap();
        served.server.update(resource, crate::fhir::server::Condition::Absent).await.unwrap();
    }
    (served, token)
}

impl Served {
    /// Every record, the oldest first.
    async fn audited(&self) -> Vec<Value> {
        let query = Query::new().with("_sort", "_lastUpdated");
        let page = self.server.search(ResourceType::AuditEvent, &query).await.unwrap();
        page.entries.iter().map(|entry| serde_json::to_value(&entry.resource).unwrap()).collect()
    }
}

fn named(event: &Value) -> Vec<&str> {
    let entities = event["entity"].as_array().unwrap();
    entities.iter().filter_map(|entity| entity["what"]["reference"].as_str()).collect()
}

#[tokio::test]
async fn what_a_client_reads_is_written_down() {
    let (served, token) = with_records().await;
    let own = [("authorization", token.as_str())];
    for (path, subtype, action, versions) in [
        ("/Communication/c", "read", "R", vec!["Patient/p", "Communication/c/_history/1"]),
        ("/Communication/c/_history/1", "vread", "R", vec!["Patient/p", "Communication/c/_history/1"]),
        ("/Patient/p/_history", "history-instance", "R", vec!["Patient/p", "Patient/p/_history/1"]),
        (
            "/Communication?part-of:missing=true&_include=Communication:subject&_elements=status",
            "search-type",
            "E",
            vec!["Patient/p", "Communication/c/_history/1", "Patient/p/_history/1"],
        ),
    ] {
        let before = served.audited().await.len();
        assert_eq!(served.send("GET", path, &own, Body::empty()).await.status, 200, "{path}");
        let audited = served.audited().await;
        assert_eq!(audited.len(), before + 1, "{path}");
        let event = audited.last().unwrap();
        assert_eq!((&event["subtype"][0]["code"], &event["action"]), (&json!(subtype), &json!(action)), "{path}");
        assert_eq!((&event["agent"][0]["name"], &event["agent"][0]["requestor"]), (&json!("a"), &json!(true)));
        assert_eq!(named(event), versions, "{path}");
        assert!(!event.to_string().contains("geheim"));
    }
}

#[tokio::test]
async fn what_a_client_searches_for_is_written_down_wherever_it_stands() {
    let (served, token) = with_records().await;
    let form = [("authorization", token.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let found = served.send("POST", "/Patient/_search", &form, "identifier=s|1&_elements=id").await;
    assert_eq!(found.json()["total"], 1);
    let audited = served.audited().await;
    let query = audited[0]["entity"].as_array().unwrap().iter().find_map(|entity| entity["query"].as_str()).unwrap();
    assert_eq!(String::from_utf8(STANDARD.decode(query).unwrap()).unwrap(), "identifier=s%7C1&_elements=id");
}

#[tokio::test]
async fn what_a_client_writes_is_written_down_whatever_it_wants_back() {
    let (served, token) = with_records().await;
    let headers = [("authorization", token.as_str()), ("prefer", "return=minimal")];
    let task = json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order",
        "for": {"reference": "Patient/p"}});
    assert_eq!(served.put("/Task/t", &headers, &task).await.status, 201);
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": task, "request": {"method": "PUT", "url": "Task/t"}},
        {"request": {"method": "GET", "url": "Communication/c"}},
    ]});
    assert_eq!(served.post("", &headers[..1], &bundle).await.status, 200);
    let audited = served.audited().await;
    assert_eq!((&audited[0]["action"], named(&audited[0])), (&json!("U"), vec!["Task/t/_history/1"]));
    assert_eq!(audited[1]["subtype"][0]["code"], "transaction");
    assert_eq!(named(&audited[1]), ["Patient/p", "Communication/c/_history/1", "Task/t/_history/1"]);
}

#[tokio::test]
async fn what_is_about_no_patient_or_gives_nothing_leaves_no_record() {
    let (served, token) = with_records().await;
    let own = [("authorization", token.as_str())];
    let known = [("authorization", token.as_str()), ("if-none-match", "W/\"1\"")];
    for (path, headers, status) in [
        ("/Practitioner/d", &own[..], 200),
        ("/Patient/nobody", &own[..], 404),
        ("/Patient?identifier=s|2", &own[..], 200),
        ("/Patient/p", &known[..], 304),
        ("/metadata", &own[..], 200),
    ] {
        assert_eq!(served.send("GET", path, headers, Body::empty()).await.status, status, "{path}");
    }
    let record = json!({"resourceType": "AuditEvent", "type": {"code": "x"}, "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"requestor": true}], "source": {"observer": {"display": "o"}}});
    assert_eq!(served.post("/AuditEvent", &own, &record).await.status, 201);
    assert_eq!(served.audited().await.len(), 1, "what the client wrote down itself");
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_given_and_what_was_written_stays() {
    let (served, token) = with_records().await;
    let database = rusqlite::Connection::open(served._directory.path().join("fhir.db")).unwrap();
    let refuse = "CREATE TRIGGER deaf BEFORE INSERT ON version WHEN new.kind = 'AuditEvent'
                  BEGIN SELECT RAISE(ABORT, 'never'); END";
    database.execute_batch(refuse).unwrap();
    let own = [("authorization", token.as_str())];
    let refused = served.send("GET", "/Communication/c", &own, Body::empty()).await;
    assert!(refused.status >= 400 && !refused.text.contains("geheim"), "{}", refused.text);
    let task = json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order"});
    assert_eq!(served.put("/Task/t", &own, &task).await.status, 201);
}

#[tokio::test]
async fn an_open_endpoint_knows_nobody() {
    let served = serve(Access::Open);
    assert_eq!(served.put("/Patient/p", &[], &patient()).await.status, 201);
    assert_eq!(served.get("/Patient/p").await.status, 200);
    assert!(served.audited().await.is_empty());
}
