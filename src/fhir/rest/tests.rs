use http::Method;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{negotiate::FHIR_JSON, *};
use crate::fhir::repository::Repository;

#[test]
fn who_comes_at_a_bad_time_hears_when_to_come_again() {
    let away = reply::Refusal::from(crate::fhir::server::FhirError::Unavailable("storage".to_owned())).0;
    assert_eq!((away.status.as_u16(), away.headers["retry-after"].to_str().unwrap()), (503, "5"));
    let refused = reply::Refusal::from(crate::fhir::server::FhirError::Refused("storage".to_owned())).0;
    assert_eq!((refused.status.as_u16(), refused.headers.get("retry-after")), (422, None));
}

struct Served {
    router: Router,
    server: Arc<Repository>,
    numbers: Numbers,
    _directory: tempfile::TempDir,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
}

fn serve(access: Access) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let base = "http://127.0.0.1:1234/fhir";
    let repository = Repository::open(&directory.path().join("fhir.db"), base).unwrap();
    let (server, numbers) = (Arc::new(repository), Numbers::default());
    let rest = Rest::new(server.clone(), base, access, 10_000).counting(numbers.clone());
    Served { router: rest.router(), server, numbers, _directory: directory }
}

fn secured(scopes: &str) -> (Served, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.toml");
    let token = "0123456789abcdef0123456789abcdef".to_owned();
    let text = format!("[[client]]\nname = \"a\"\ntoken = \"{token}\"\nscopes = \"{scopes}\"\n");
    crate::service::files::write(&path, text.as_bytes(), crate::service::files::SECRET).unwrap();
    (serve(Access::new(Some(&path), &[]).unwrap()), format!("Bearer {token}"))
}

impl Served {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
        let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(format!("/fhir{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Got { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], Body::empty()).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Got {
        let headers: Vec<_> =
            [("content-type", "application/fhir+json")].into_iter().chain(headers.iter().copied()).collect();
        self.send("POST", path, &headers, body.to_string()).await
    }

    async fn put(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Got {
        let headers: Vec<_> =
            [("content-type", "application/fhir+json")].into_iter().chain(headers.iter().copied()).collect();
        self.send("PUT", path, &headers, body.to_string()).await
    }
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

fn patient() -> Value {
    json!({"resourceType": "Patient", "id": "p", "identifier": [{"system": "s", "value": "1"}], "name": [{"text": "Jan"}]})
}

#[tokio::test]
async fn a_resource_lives_through_its_interactions() {
    let served = serve(Access::Open);
    let made = served.post("/Patient", &[("if-none-exist", "identifier=s|1")], &patient()).await;
    assert_eq!((made.status, made.header("etag")), (201, "W/\"1\""));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("http://127.0.0.1:1234/fhir/Patient/{id}/_history/1"));
    let again = served.post("/Patient", &[("if-none-exist", "identifier=s|1")], &patient()).await;
    assert_eq!((again.status, again.json()["id"].as_str()), (200, Some(id.as_str())));

    let read = served.get(&format!("/Patient/{id}")).await;
    assert_eq!((read.status, read.header("content-type")), (200, FHIR_JSON));
    let etag = served.send("GET", &format!("/Patient/{id}"), &[("if-none-match", "W/\"1\"")], Body::empty()).await;
    assert_eq!((etag.status, etag.text.as_str()), (304, ""));
    let since = [("if-modified-since", read.header("last-modified"))];
    assert_eq!(served.send("GET", &format!("/Patient/{id}"), &since, Body::empty()).await.status, 304);
    assert_eq!(served.send("HEAD", &format!("/Patient/{id}"), &[], Body::empty()).await.status, 200);

    let mut changed = read.json();
    changed["active"] = true.into();
    let stale = served.put(&format!("/Patient/{id}"), &[("if-match", "W/\"9\"")], &changed).await;
    assert_eq!(stale.status, 412);
    for (headers, status) in [
        (vec![("if-match", "W/\"9\", W/\"8\"")], 412),
        (vec![("if-match", "")], 412),
        (vec![("if-none-match", "*")], 412),
        (vec![("if-none-match", "W/\"1\"")], 400),
        (vec![("if-match", "*"), ("if-none-match", "*")], 400),
    ] {
        assert_eq!(served.put(&format!("/Patient/{id}"), &headers, &changed).await.status, status, "{headers:?}");
        if headers.len() == 1 && headers[0].0 == "if-match" {
            assert_eq!(served.put("/Patient?identifier=s|1", &headers, &changed).await.status, status, "{headers:?}");
        }
    }
    assert_eq!(
        served
            .put("/Patient/nobody", &[("if-match", "*")], &json!({"resourceType": "Patient", "id": "nobody"}))
            .await
            .status,
        412
    );
    let same = [("if-match", "W/\"9\""), ("if-match", "\"1\"")];
    assert_eq!(served.put(&format!("/Patient/{id}"), &same, &read.json()).await.status, 200);
    assert_eq!(served.put(&format!("/Patient/{id}"), &[("if-match", "*")], &read.json()).await.status, 200);
    let updated =
        served.put(&format!("/Patient/{id}"), &[("if-match", "W/\"1\""), ("prefer", "return=minimal")], &changed).await;
    assert_eq!((updated.status, updated.header("etag"), updated.text.as_str()), (200, "W/\"2\"", ""));
    let by_search = served.put("/Patient?identifier=s|1", &[("prefer", "return=OperationOutcome")], &changed).await;
    assert_eq!((by_search.status, by_search.json()["resourceType"].as_str()), (200, Some("OperationOutcome")));
    let chosen =
        served.put("/Patient/mine", &[("if-none-match", "*")], &json!({"resourceType": "Patient", "id": "mine"})).await;
    assert_eq!(chosen.status, 201);
    let history = served.get("/Patient/mine/_history").await.json();
    let entry = &history["entry"][0];
    assert_eq!((&entry["request"]["method"], &entry["request"]["url"]), (&json!("PUT"), &json!("Patient/mine")));
    assert_eq!(entry["response"]["status"], "201 Created");
    assert_eq!(served.get("/Patient?_count=99999999999").await.status, 200);

    let history = served.get(&format!("/Patient/{id}/_history")).await.json();
    assert_eq!((history["total"].as_u64(), history["entry"][1]["request"]["method"].as_str()), (Some(2), Some("POST")));
    assert_eq!(served.get(&format!("/Patient/{id}/_history/1")).await.status, 200);
    assert_eq!(served.get("/_history?_count=2").await.json()["link"][1]["relation"], "next");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let found = served.send("POST", "/Patient/_search", &form, "name=jan&_format=json").await.json();
    assert_eq!((found["total"].as_u64(), found["type"].as_str()), (Some(1), Some("searchset")));
    let bundle: Resource = serde_json::from_value(found).unwrap();
    crate::fhir::validation::validate(&bundle).unwrap();
}

#[tokio::test]
async fn paging_links_can_be_followed() {
    let served = serve(Access::Open);
    for _ in 0..5 {
        served.post("/Task", &[], &json!({"resourceType": "Task", "status": "requested", "intent": "order"})).await;
    }
    for first in ["/Task?_count=2&status=requested", "/Task/_history?_count=2&_since=2000-01-01T00:00:00%2B00:00"] {
        let (mut path, mut seen) = (first.to_owned(), 0);
        loop {
            let page = served.get(&path).await.json();
            seen += page["entry"].as_array().unwrap().len();
            let links = page["link"].as_array().unwrap();
            let Some(next) = links.iter().find(|link| link["relation"] == "next") else { break };
            path = next["url"].as_str().unwrap().strip_prefix("http://127.0.0.1:1234/fhir").unwrap().to_owned();
        }
        assert_eq!(seen, 5, "{first}");
    }
}

#[tokio::test]
async fn bad_requests_get_an_outcome() {
    let served = serve(Access::Open);
    let json_type = ("content-type", "application/fhir+json");
    let deep = format!("{{\"resourceType\":\"Patient\",\"a\":{}", "[".repeat(5_000));
    let mut answers = Vec::new();
    for (method, path, headers, body) in [
        ("POST", "/Patient", vec![json_type], b"{\"resourceType\": \"Patient\", 999990019".to_vec()),
        ("POST", "/Patient", vec![json_type], b"\"\xff\xfe\"".to_vec()),
        ("POST", "/Patient", vec![json_type], b"[]".to_vec()),
        (
            "POST",
            "/Patient",
            vec![json_type],
            b"{\"resourceType\": \"Patient\", \"active\": true, \"active\": false}".to_vec(),
        ),
        ("POST", "/Patient", vec![json_type], b"{}".to_vec()),
        ("POST", "/Patient", vec![json_type], b"".to_vec()),
        ("POST", "/Patient", vec![json_type], b"{\"resourceType\": \"Task\"}".to_vec()),
        ("POST", "/Patient", vec![json_type], b"{\"resourceType\": \"Patient\", \"nonsense\": 1}".to_vec()),
        ("POST", "/Patient", vec![json_type], deep.into_bytes()),
        ("POST", "/Patient", vec![json_type], vec![b' '; 20_000]),
        ("POST", "/Patient", vec![("content-type", "application/fhir+xml")], b"<Patient/>".to_vec()),
        ("POST", "/Patient", vec![], b"{}".to_vec()),
        ("PUT", "/Patient/a", vec![json_type], b"{\"resourceType\": \"Patient\", \"id\": \"b\"}".to_vec()),
        (
            "POST",
            "/Patient",
            vec![json_type, ("if-none-exist", "nonsense=1")],
            b"{\"resourceType\": \"Patient\"}".to_vec(),
        ),
        ("GET", "/Patient/a", vec![], vec![]),
        ("GET", "/Patient/a", vec![("accept", "application/fhir+xml")], vec![]),
        ("GET", "/Patient?name=%zz", vec![], vec![]),
        ("GET", "/Patient?nonsense=1", vec![], vec![]),
        ("GET", "/Patient/_history?_at=2026", vec![], vec![]),
        ("GET", "/Encounter", vec![], vec![]),
        ("DELETE", "/Patient/a", vec![], vec![]),
        ("PATCH", "/Patient/a", vec![], vec![]),
        ("POST", "/", vec![json_type], b"{\"resourceType\": \"Bundle\", \"type\": \"collection\"}".to_vec()),
        ("GET", "/Patient/a", vec![("host", "evil.example")], vec![]),
    ] {
        let got = served.send(method, path, &headers, body).await;
        let outcome = got.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{method} {path}");
        assert!(!got.text.contains("999990019"), "{}", got.text);
        let issue = &outcome["issue"][0];
        let place = issue["expression"][0].as_str().unwrap_or_default();
        answers.push(format!(
            "{} {method} {path}: {} {place} {}",
            got.status,
            issue["code"].as_str().unwrap(),
            issue["diagnostics"].as_str().unwrap()
        ));
    }
    insta::assert_json_snapshot!(answers);
}

#[tokio::test]
async fn tokens_open_what_their_scopes_say() {
    let (served, bearer) = secured("system/Patient.read system/Task.cu system/Communication.rs");
    let with = |path: &'static str| {
        let headers = [("authorization", bearer.clone())];
        let served = &served;
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            served.send("GET", path, &headers, Body::empty()).await.status
        }
    };
    assert_eq!(served.get("/metadata").await.status, 200);
    assert_eq!(served.get("/openapi.json").await.status, 200);
    for path in ["/Patient", "/Patient/a", "/_history", "/Patient/_history"] {
        let got = served.get(path).await;
        assert_eq!((got.status, got.header("www-authenticate")), (401, "Bearer realm=\"fhir\""), "{path}");
        let wrong = served.send("GET", path, &[("authorization", "Bearer wrong")], Body::empty()).await;
        assert_eq!(wrong.status, 401);
    }
    assert_eq!((with("/Patient").await, with("/Patient/a").await), (200, 404));
    assert_eq!((with("/Task").await, with("/Task/a").await, with("/_history").await), (403, 403, 403));
    assert_eq!(with("/Communication?patient.identifier=s|1").await, 403);
    assert_eq!(with("/Communication?_has:Task:focus:status=draft").await, 403);
    let authorised = [("authorization", bearer.as_str())];
    let task = json!({"resourceType": "Task", "status": "requested", "intent": "order"});
    assert_eq!(served.post("/Task", &authorised, &task).await.status, 201);
    assert_eq!(served.post("/Patient", &authorised, &patient()).await.status, 403);
    let conditional = [authorised[0], ("if-none-exist", "identifier=1")];
    assert_eq!(served.post("/Task", &conditional, &task).await.status, 403);
    let bundle = |method: &str, url: &str| json!({"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": method, "url": url}}]});
    assert_eq!(served.post("/", &authorised, &bundle("GET", "Task/a")).await.status, 403);
    assert_eq!(
        served.post("/", &authorised, &bundle("GET", "Communication?_include=Communication:patient")).await.status,
        403
    );
    assert_eq!(served.post("/", &authorised, &bundle("GET", "Patient?name=x")).await.status, 200);
}

#[tokio::test]
async fn what_may_not_be_read_is_not_included() {
    let (served, bearer) = secured("system/Communication.crs system/Patient.c");
    let authorised = [("authorization", bearer.as_str())];
    let id = served.post("/Patient", &authorised, &patient()).await.json()["id"].as_str().unwrap().to_owned();
    let message = json!({"resourceType": "Communication", "status": "completed", "subject": {"reference": format!("Patient/{id}")}});
    served.post("/Communication", &authorised, &message).await;
    let found = served.send("GET", "/Communication?_include=Communication:patient", &authorised, Body::empty()).await;
    assert_eq!(found.json()["entry"].as_array().unwrap().len(), 1);
}

#[test]
fn only_loopback_names_are_loopback() {
    for host in ["127.0.0.1:1234", "localhost", "[::1]:1234", "vvt.localhost:8008", "127.1.2.3"] {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["localhost.evil.nl", "evil.nl:1234", "10.0.0.1", "[2001:db8::1]", ""] {
        assert!(!is_loopback(host), "{host}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_what_they_are() {
    let served = serve(Access::Open);
    assert_eq!(served.post("/Patient", &[], &patient()).await.status, 201);
    assert_eq!(served.get("/Patient/none-of-these").await.status, 404);
    assert_eq!(served.get("/Patient?name=Kanarie").await.status, 200);
    assert_eq!(served.get("/Nonsense/Kanarie").await.status, 404);
    let file = served._directory.path().join("fhir.db");
    served.numbers.measure(&*served.server, Some(&file)).await;
    let mut registry = prometheus_client::registry::Registry::default();
    served.numbers.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"fhir_requests_total{interaction="create",type="Patient",status="201"} 1"#,
        r#"fhir_requests_total{interaction="read",type="Patient",status="404"} 1"#,
        r#"fhir_requests_total{interaction="search-type",type="Patient",status="200"} 1"#,
        r#"fhir_requests_total{interaction="",type="",status="404"} 1"#,
        r#"fhir_request_duration_seconds_count{interaction="create"} 1"#,
        r#"fhir_resources{type="Patient"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("Kanarie"));
    let size = text.lines().find_map(|line| line.strip_prefix("fhir_store_size_bytes ")).unwrap();
    assert!(size.parse::<u64>().unwrap() > 4096, "{size}");
}

#[tokio::test]
async fn an_answer_names_its_trace() {
    let served = serve(Access::Open);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let got = served.send("GET", "/metadata", &[("traceparent", parent)], Body::empty()).await;
    assert!(got.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_ne!(got.header("traceparent"), parent);
    let got = served.send("GET", "/metadata", &[("traceparent", "00-no")], Body::empty()).await;
    assert_eq!(got.header("traceparent").len(), parent.len());
}

#[tokio::test]
async fn what_may_not_be_searched_is_not_found_by_conditions() {
    let (served, token) = secured("system/Communication.crus");
    for (id, resource) in [
        ("p", json!({ "resourceType": "Patient", "id": "p", "identifier": [{ "system": "s", "value": "1" }] })),
        (
            "c",
            json!({ "resourceType": "Communication", "id": "c", "status": "completed", "identifier": [{
            "system": "s", "value": "2" }], "subject": { "reference": "Patient/p" } }),
        ),
    ] {
        let resource = Resource::from_json(resource.to_string().as_bytes()).unwrap();
        served.server.update(resource, crate::fhir::server::Condition::Always).await.unwrap_or_else(|_| panic!("{id}"));
    }
    let of = |reference: &str| json!({ "resourceType": "Communication", "status": "completed", "subject": { "reference": reference } });
    let plain = of("Patient/p");
    let bundle = |kind: &str, request: Value, resource: &Value| json!({ "resourceType": "Bundle", "type": kind, "entry": [{ "request": request, "resource": resource }] });
    let chain = "subject:Patient.identifier=s|1";
    let authorization = [("authorization", token.as_str())];

    // A conditional reference says who has the number, in any depth.
    let post = json!({ "method": "POST", "url": "Communication" });
    let deep = json!({ "resourceType": "Communication", "status": "completed", "payload": [{
        "contentReference": { "reference": "Patient?identifier=s|1" } }] });
    for kind in ["transaction", "batch"] {
        for resource in [&of("Patient?identifier=s|1"), &of("Communication?subject:Patient.identifier=s|1"), &deep] {
            let got = served.post("", &authorization, &bundle(kind, post.clone(), resource)).await;
            assert_eq!(got.status, 403, "{kind} {resource}: {}", got.text);
        }
        for request in [
            json!({ "method": "POST", "url": "Communication", "ifNoneExist": chain }),
            json!({ "method": "PUT", "url": format!("Communication?{chain}") }),
        ] {
            let got = served.post("", &authorization, &bundle(kind, request, &plain)).await;
            assert_eq!(got.status, 403, "{kind}: {}", got.text);
        }
    }
    // So does a chain in any other condition.
    let both = [authorization[0], ("if-none-exist", chain)];
    assert_eq!(served.post("/Communication", &both, &plain).await.status, 403);
    let put = format!("/Communication?{}", chain.replace('|', "%7C"));
    let headers = [authorization[0], ("content-type", "application/fhir+json")];
    assert_eq!(served.send("PUT", &put, &headers, plain.to_string()).await.status, 403);

    // Conditions on what may be searched hold as before.
    let own = bundle("transaction", post, &{
        let mut answer = plain.clone();
        answer["inResponseTo"] = json!([{ "reference": "Communication?identifier=s|2" }]);
        answer
    });
    let got = served.post("", &authorization, &own).await;
    assert_eq!(got.json()["entry"][0]["resource"]["inResponseTo"][0]["reference"], "Communication/c", "{}", got.text);
}

mod asked;
mod audited;
