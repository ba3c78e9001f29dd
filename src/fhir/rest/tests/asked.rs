//! What clients ask for besides the interaction itself: parts, preferences, forms of headers.

use super::*;

async fn with_patients() -> Served {
    let served = serve(Access::Open);
    for (id, name) in [("a", "Jansen"), ("b", "Pietersen")] {
        let patient = json!({"resourceType": "Patient", "id": id, "active": true, "name": [{"text": name}],
            "photo": [{"title": "x"}], "text": {"status": "generated", "div": "<div>x</div>"}});
        assert_eq!(served.put(&format!("/Patient/{id}"), &[], &patient).await.status, 201);
    }
    served
}

fn names(resource: &Value) -> Vec<&str> {
    resource.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_client_gets_the_part_that_it_asks_for() {
    let served = with_patients().await;
    let read = served.get("/Patient/a?_elements=name").await;
    assert_eq!((read.header("etag"), names(&read.json())), ("W/\"1\"", vec!["resourceType", "id", "meta", "name"]));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for page in [
        served.get("/Patient?_summary=true&_count=1").await,
        served.send("POST", "/Patient/_search", &form, "_summary=true&_count=1").await,
        served.get("/Patient/_history?_summary=true&_count=1").await,
    ] {
        let mut page = page.json();
        for _ in 0..2 {
            let entry = &page["entry"][0];
            assert_eq!(names(&entry["resource"]), ["resourceType", "id", "meta", "active", "name"], "{page}");
            assert_eq!(entry["resource"]["meta"]["tag"][0]["code"], "SUBSETTED");
            assert!(page["link"][0]["url"].as_str().unwrap().contains("_summary=true"));
            let Some(next) = page["link"][1]["url"].as_str() else { break };
            page = served.get(next.strip_prefix("http://127.0.0.1:1234/fhir").unwrap()).await.json();
        }
    }
    assert_eq!(
        served.get("/Patient?_summary=text").await.json()["entry"][0]["resource"]["text"]["status"],
        "generated"
    );
    assert!(served.get("/Patient?_summary=count").await.json()["entry"].is_null());
    for wrong in ["/Patient?_summary=x", "/Patient/a?_summary=x", "/Patient/_history?_summary=x"] {
        assert_eq!(served.get(wrong).await.status, 400, "{wrong}");
    }
    // Written back, a part would take the place of the whole.
    let mut part = read.json();
    part["name"][0]["text"] = "De Vries".into();
    let refused = served.put("/Patient/a", &[], &part).await;
    assert_eq!((refused.status, refused.json()["issue"][0]["expression"][0].as_str()), (422, Some("Patient.meta.tag")));
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "PUT", "url": "Patient/a"}, "resource": part}]});
    assert_eq!(served.post("", &[], &bundle).await.status, 422);
}

#[tokio::test]
async fn unknown_parameters_are_passed_over_for_those_who_prefer_that() {
    let served = with_patients().await;
    let query = "/Patient?name=jan&nonsense=1&_text=x";
    assert_eq!(served.get(query).await.status, 400);
    let strict = [("prefer", "handling=strict")];
    assert_eq!(served.send("GET", query, &strict, Body::empty()).await.status, 400);
    let lenient = [("prefer", "return=minimal, handling=lenient")];
    let found = served.send("GET", query, &lenient, Body::empty()).await.json();
    assert_eq!(
        (&found["total"], &found["link"][0]["url"]),
        (&json!(1), &json!("http://127.0.0.1:1234/fhir/Patient?name=jan"))
    );
    // What is known and asked wrongly is an error all the same.
    for wrong in ["/Patient?name:nonsense=x", "/Patient?birthdate=x", "/Patient?_sort=nonsense"] {
        assert_eq!(served.send("GET", wrong, &lenient, Body::empty()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_bundle_gives_back_what_is_preferred() {
    let served = with_patients().await;
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Practitioner"}, "resource": {"resourceType": "Practitioner"}},
        {"request": {"method": "GET", "url": "Patient/a"}}]});
    for (preference, written) in
        [("return=representation", "Practitioner"), ("return=minimal", ""), ("return=OperationOutcome", "")]
    {
        let answer = served.post("", &[("prefer", preference)], &bundle).await.json();
        let [made, read] = answer["entry"].as_array().unwrap().as_slice() else { panic!("{answer}") };
        assert_eq!(made["resource"]["resourceType"].as_str().unwrap_or_default(), written, "{preference}");
        let outcome = made["response"]["outcome"]["issue"][0]["diagnostics"].as_str();
        assert_eq!(outcome, (preference == "return=OperationOutcome").then_some("created"));
        assert!(made["response"]["location"].as_str().unwrap().starts_with("Practitioner/"));
        assert_eq!(read["resource"]["id"], "a", "{preference}");
        let resource: Resource = serde_json::from_value(answer).unwrap();
        crate::fhir::validation::validate(&resource).unwrap();
    }
}

#[tokio::test]
async fn headers_are_read_as_clients_write_them() {
    let served = serve(Access::Open);
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": "http://x?y=1", "value": "1"}]});
    let mut statuses = Vec::new();
    for unless in [
        "identifier=http://x?y=1|1",
        "?identifier=http://x?y=1|1",
        "Patient?identifier=http://x?y=1|1",
        "http://127.0.0.1:1234/fhir/Patient?identifier=http://x?y=1%7C1",
    ] {
        statuses.push(served.post("/Patient", &[("if-none-exist", unless)], &patient).await.status);
    }
    assert_eq!(statuses, [201, 200, 200, 200]);
    for query in ["?_format=application/fhir+json", "?_lastUpdated=ge2020-01-01T00:00:00+01:00"] {
        assert_eq!(served.get(&format!("/Patient{query}")).await.json()["total"], 1, "{query}");
    }
    assert_eq!(served.get("/Patient/_history?_since=2020-01-01T00:00:00+01:00").await.json()["total"], 1);
    let bare = served.send("POST", "/Patient/_search?identifier=1", &[], Body::empty()).await;
    assert_eq!(bare.json()["total"], 1);
    assert_eq!(served.send("POST", "/Patient/_search", &[], "identifier=1").await.status, 415);
    let packed = served.post("/Patient", &[("content-encoding", "gzip")], &patient).await;
    assert_eq!((packed.status, packed.header("accept-encoding")), (415, "identity"));
}

#[tokio::test]
async fn a_subscription_asks_for_the_right_to_search() {
    let (served, token) = secured("system/Subscription.cruds system/Communication.s");
    let authorization = [("authorization", token.as_str())];
    let subscription = |criteria: &str| {
        json!({"resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": criteria,
            "channel": {"type": "rest-hook", "endpoint": "https://x.nl/hook"}})
    };
    for (criteria, status) in [
        ("Communication?status=completed", 201),
        ("Patient?identifier=s|1", 403),
        ("Communication?subject:Patient.identifier=s|1", 403),
    ] {
        let mut subscription = subscription(criteria);
        assert_eq!(served.post("/Subscription", &authorization, &subscription).await.status, status, "{criteria}");
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            {"request": {"method": "POST", "url": "Subscription"}, "resource": subscription}]});
        let status_of_all = if status == 403 { 403 } else { 200 };
        assert_eq!(served.post("", &authorization, &bundle).await.status, status_of_all, "{criteria}");
        subscription["id"] = "mine".into();
        assert_eq!(served.put("/Subscription/mine", &authorization, &subscription).await.status, status, "{criteria}");
    }
}
