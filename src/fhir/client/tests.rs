use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, response::IntoResponse, routing::any};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    settings::{ChangesBy, Smart},
    *,
};
use crate::fhir::{
    repository::Repository,
    rest::{BODY_LIMIT, Rest, access::Access},
};

/// A server on a port of its own; it ends with the test's runtime.
async fn listen(router: impl FnOnce(&str) -> Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/fhir", listener.local_addr().unwrap());
    let router = router(&base);
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

async fn embedded(access: Access) -> (String, Repository, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fhir.db");
    let mut opened = None;
    let base = listen(|base| {
        let repository = Repository::open(&path, base).unwrap();
        opened = Some(repository.clone());
        Rest::new(Arc::new(repository), base, access, BODY_LIMIT).router()
    })
    .await;
    (base, opened.unwrap(), directory)
}

fn client(base: &str) -> Client {
    Client::new(Settings { base: base.to_owned(), ..Settings::default() }).unwrap()
}

fn message(event: &str) -> Resource {
    let digits: Value = serde_json::from_str("1.10").unwrap();
    serde_json::from_value(json!({
        "resourceType": "Communication", "status": "completed",
        "identifier": [{"system": "https://matrix.org/event-id", "value": event}],
        "extension": [{"url": "http://x", "valueDecimal": digits}],
    }))
    .unwrap()
}

#[tokio::test]
async fn the_client_does_what_the_repository_does() {
    let (base, _repository, _directory) = embedded(Access::Open).await;
    let client = client(&base);
    let statement = client.capabilities().await.unwrap();
    assert_eq!(check::shortcomings(&statement, &[ResourceType::Communication, ResourceType::Subscription]), []);

    let unless = Query::identifier("https://matrix.org/event-id", "$a|b,c");
    let made = client.create(message("$a|b,c"), Some(&unless)).await.unwrap();
    assert_eq!(made.effect, Effect::Created);
    let again = client.create(message("$a|b,c"), Some(&unless)).await.unwrap();
    assert_eq!((again.effect, &again.resource), (Effect::Unchanged, &made.resource));
    let id = made.resource.id().unwrap();
    let read = client.read(ResourceType::Communication, &id).await.unwrap();
    assert!(read.to_json().contains("1.10"));

    let mut changed = read.clone();
    changed.members_mut().insert("status".into(), "entered-in-error".into());
    let updated = client.update(changed.clone(), Condition::VersionIs("1")).await.unwrap();
    assert_eq!(updated.resource.version(), Some("2"));
    assert!(matches!(client.update(changed, Condition::VersionIs("1")).await, Err(FhirError::VersionConflict(_))));
    let mut mine = message("mine");
    mine.set_id(&"mine".parse().unwrap());
    assert_eq!(client.update(mine.clone(), Condition::Absent).await.unwrap().effect, Effect::Created);
    assert!(matches!(client.update(mine, Condition::Absent).await, Err(FhirError::VersionConflict(_))));
    assert_eq!(client.vread(ResourceType::Communication, &id, "1").await.unwrap(), made.resource);
    let absent = client.read(ResourceType::Communication, &"absent".parse().unwrap()).await.unwrap_err();
    assert_eq!(absent.to_string(), "Communication/absent is not there");
    let wrong = client.search(ResourceType::Communication, &Query::new().with("nonsense", "1")).await.unwrap_err();
    assert!(matches!(wrong, FhirError::Invalid(_)), "{wrong}");

    let long = Query::new().with("_id", vec![id.as_str(); 100].join(","));
    assert_eq!(client.search(ResourceType::Communication, &long).await.unwrap().entries.len(), 1);
    let history = client.history(HistoryOf::Instance(ResourceType::Communication, &id), None, None).await.unwrap();
    assert_eq!(history.entries.len(), 2);
}

#[tokio::test]
async fn changes_come_once_and_wholly_both_ways() {
    let (base, repository, _directory) = embedded(Access::Open).await;
    for changes_by in [ChangesBy::Search, ChangesBy::History] {
        let client = Client::new(Settings { base: base.clone(), changes_by, ..Settings::default() }).unwrap();
        let kinds = [ResourceType::Communication, ResourceType::Task];
        let (mut cursor, mut seen) = (None, Vec::new());
        for round in 0..2 {
            let texts: Vec<_> = (0..120).map(|number| format!("{round}/{number}")).collect();
            let creates = texts.iter().map(|text| repository.create(message(text), None));
            assert!(futures_util::future::join_all(creates).await.iter().all(Result::is_ok));
            loop {
                let changes = client.changes(&kinds, cursor.as_ref(), 60).await.unwrap();
                assert!(changes.resources.len() <= 260, "{}", changes.resources.len());
                seen.extend(changes.resources.iter().map(|resource| resource.versioned_key().unwrap()));
                cursor = Some(changes.next);
                if !changes.more {
                    break;
                }
            }
        }
        let total =
            repository.search(ResourceType::Communication, &Query::new().with("_count", "0")).await.unwrap().total;
        assert_eq!(u64::try_from(seen.len()).unwrap(), total.unwrap(), "{changes_by:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(u64::try_from(seen.len()).unwrap(), total.unwrap(), "{changes_by:?}");
    }
}

/// Status, headers, body.
type Prepared = (u16, Vec<(&'static str, String)>, Value);

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<Prepared>>>,
    requests: Arc<Mutex<Vec<(String, HeaderMap, String)>>>,
}

/// A server that gives prepared answers, the last one again and again.
async fn scripted(answers: Vec<Prepared>) -> (String, Script) {
    let script = Script { answers: Arc::new(Mutex::new(answers)), ..Script::default() };
    let state = script.clone();
    let answer = |State(script): State<Script>, request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        let bytes: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        script.requests.lock().unwrap().push((format!("{} {}", parts.method, parts.uri), parts.headers, text));
        let mut answers = script.answers.lock().unwrap();
        let (status, headers, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        let mut response = (axum::http::StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    };
    let base = listen(|_| Router::new().fallback(any(answer)).with_state(state)).await;
    (base, script)
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_where_that_is_safe() {
    let resource = json!({"resourceType": "Task", "id": "a"});
    let busy = (503, vec![("retry-after", "0".to_owned())], json!({}));
    let (base, script) = scripted(vec![busy.clone(), busy.clone(), (200, vec![], resource)]).await;
    let id: Id = "a".parse().unwrap();
    assert!(client(&base).read(ResourceType::Task, &id).await.is_ok());
    assert_eq!(script.requests.lock().unwrap().len(), 3);

    let (base, script) = scripted(vec![busy]).await;
    let error = client(&base).create(message("x"), None).await.unwrap_err();
    assert!(error.is_temporary() && error.retry_after().is_some());
    assert_eq!(script.requests.lock().unwrap().len(), 1);
    assert!(client(&base).create(message("x"), Some(&Query::identifier("s", "x"))).await.is_err());
    assert_eq!(script.requests.lock().unwrap().len(), 4);

    let closed = client("http://127.0.0.1:1/fhir").create(message("secret"), None).await.unwrap_err();
    assert!(closed.is_temporary() && !closed.to_string().contains("secret"), "{closed}");
}

#[tokio::test]
async fn a_write_that_says_only_where_is_read_back() {
    let place = vec![("location", "http://inner/fhir/Task/a/_history/1".to_owned())];
    let task = json!({"resourceType": "Task", "id": "a", "status": "requested"});
    let (base, script) =
        scripted(vec![(201, place, json!({"resourceType": "OperationOutcome"})), (200, vec![], task.clone())]).await;
    let written = client(&base).create(serde_json::from_value(task).unwrap(), None).await.unwrap();
    assert_eq!((written.effect, written.resource.id().unwrap().as_str()), (Effect::Created, "a"));
    assert_eq!(script.requests.lock().unwrap()[1].0, "GET /fhir/Task/a");
}

#[tokio::test]
async fn a_token_goes_to_no_other_server() {
    let page = json!({"resourceType": "Bundle", "type": "searchset",
        "link": [{"relation": "next", "url": "http://evil.example:81/fhir?_getpages=1"}]});
    let (base, script) = scripted(vec![(200, vec![], page)]).await;
    let client = client(&base);
    let next = client.search(ResourceType::Task, &Query::new()).await.unwrap().next.unwrap();
    client.follow(&next).await.unwrap();
    assert_eq!(script.requests.lock().unwrap()[1].0, "GET /fhir?_getpages=1");
    let (moved, script) = scripted(vec![(302, vec![("location", base)], json!({}))]).await;
    assert!(
        Client::new(Settings { base: moved, ..Settings::default() })
            .unwrap()
            .search(ResourceType::Task, &Query::new())
            .await
            .is_err()
    );
    assert_eq!(script.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn smart_backend_services_log_in_once_and_again_when_refused() {
    use ring::{
        rand::SystemRandom,
        signature::{self, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey},
    };
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("key.pem");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    crate::service::files::write(&key_file, key.serialize_pem().as_bytes(), 0o600).unwrap();
    let public = EcdsaKeyPair::from_pkcs8(
        &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        &key.serialize_der(),
        &SystemRandom::new(),
    )
    .unwrap()
    .public_key()
    .as_ref()
    .to_vec();

    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    let token = move |body: String| {
        let (counter, public) = (Arc::clone(&counter), public.clone());
        async move {
            let form = Query::parse(&body).unwrap();
            let assertion = form.get("client_assertion").unwrap();
            let (signed, signature) = assertion.rsplit_once('.').unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, &public)
                .verify(signed.as_bytes(), &signature)
                .unwrap();
            let claims = BASE64_URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("bridge"), Some("bridge")));
            assert!(claims["aud"].as_str().unwrap().ends_with("/token"));
            let number = counter.fetch_add(1, Ordering::SeqCst);
            axum::Json(json!({"access_token": format!("token-{number}"), "expires_in": 3600}))
        }
    };
    let read = |headers: HeaderMap| async move {
        // The first token ends early.
        match headers["authorization"].to_str().unwrap() {
            "Bearer token-1" => axum::Json(json!({"resourceType": "Task", "id": "a"})).into_response(),
            _ => axum::http::StatusCode::UNAUTHORIZED.into_response(),
        }
    };
    let base = listen(|base| {
        let origin = base.trim_end_matches("/fhir").to_owned();
        let configuration = move || async move { axum::Json(json!({"token_endpoint": format!("{origin}/token")})) };
        Router::new()
            .route("/token", axum::routing::post(token))
            .route("/fhir/.well-known/smart-configuration", axum::routing::get(configuration))
            .route("/fhir/Task/a", axum::routing::get(read))
    })
    .await;
    let smart = Smart { client_id: "bridge".into(), key_file, scope: "system/*.rs".into(), ..Smart::default() };
    let client = Client::new(Settings { base, smart: Some(smart), ..Settings::default() }).unwrap();
    let id: Id = "a".parse().unwrap();
    for _ in 0..3 {
        client.read(ResourceType::Task, &id).await.unwrap();
    }
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

#[test]
fn wrong_settings_are_named() {
    for base in ["", "fhir.example.nl", "ftp://x"] {
        let failure = Client::new(Settings { base: base.into(), ..Settings::default() }).unwrap_err();
        assert!(failure.to_string().contains("base"), "{failure}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.pem");
    crate::service::files::write(&path, b"nothing", 0o600).unwrap();
    let base = "http://127.0.0.1/fhir".to_owned();
    for settings in [
        Settings { ca_file: Some(path.clone()), ..Settings::default() },
        Settings { certificate_file: Some(path.clone()), ..Settings::default() },
        Settings { smart: Some(Smart { key_file: path.clone(), ..Smart::default() }), ..Settings::default() },
    ] {
        let failure = Client::new(Settings { base: base.clone(), ..settings }).unwrap_err();
        assert!(failure.to_string().contains("none.pem"), "{failure}");
    }
}
