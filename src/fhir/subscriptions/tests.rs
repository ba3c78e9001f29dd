use std::sync::atomic::{AtomicU16, Ordering};

use axum::{Router, extract::Request, http::StatusCode, routing::any};
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::fhir::{resources::Resource, server::Condition};

/// Longer than any of this takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Hook {
    url: String,
    calls: mpsc::UnboundedReceiver<(HeaderMap, usize)>,
    status: Arc<AtomicU16>,
}

async fn hook() -> Hook {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, calls) = mpsc::unbounded_channel();
    let status = Arc::new(AtomicU16::new(200));
    let answers = Arc::clone(&status);
    let answer = move |request: Request| {
        let (sender, answers) = (sender.clone(), Arc::clone(&answers));
        async move {
            let (parts, body) = request.into_parts();
            let length = axum::body::to_bytes(body, usize::MAX).await.unwrap().len();
            sender.send((parts.headers, length)).unwrap();
            StatusCode::from_u16(answers.load(Ordering::SeqCst)).unwrap()
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(answer))).await });
    Hook { url, calls, status }
}

impl Hook {
    async fn called(&mut self) -> (HeaderMap, usize) {
        tokio::time::timeout(PATIENCE, self.calls.recv()).await.unwrap().unwrap()
    }
}

fn settings() -> Settings {
    Settings {
        guard: Guard { allow_private: true, hosts: Vec::new() },
        first_pause_milliseconds: 1,
        longest_pause_seconds: 1,
        error_after: 2,
        ..Settings::default()
    }
}

fn open() -> (Repository, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Repository::open(&directory.path().join("fhir.db"), "http://localhost/fhir").unwrap(), directory)
}

fn subscription(endpoint: &str) -> Resource {
    serde_json::from_value(json!({
        "resourceType": "Subscription", "id": "s", "status": "requested", "reason": "test",
        "criteria": "Communication?status=completed",
        "channel": {"type": "rest-hook", "endpoint": endpoint, "header": ["Authorization: Bearer x", "X-A: b"]}
    }))
    .unwrap()
}

fn message() -> Resource {
    serde_json::from_value(json!({"resourceType": "Communication", "status": "completed"})).unwrap()
}

/// Waits until the subscription has a status, and an error that holds this text if any.
async fn becomes(repository: &Repository, status: SubscriptionStatus, error: Option<&str>) {
    let wait = async {
        let mut hints = repository.hints();
        loop {
            let read = repository.read(ResourceType::Subscription, &"s".parse().unwrap()).await.unwrap();
            let found: Subscription = read.into_typed().unwrap();
            let says = match (&found.error, error) {
                (Some(said), Some(text)) => said.contains(text),
                (said, text) => said.is_none() && text.is_none(),
            };
            if found.status == Some(status.clone()) && says {
                return;
            }
            hints.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_subscriber_is_called_for_what_matches() {
    let (repository, _directory) = open();
    let mut hook = hook().await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(deliver(repository.clone(), settings(), Numbers::default(), stop.clone()));
    repository.update(subscription(&hook.url), Condition::Always).await.unwrap();
    let (headers, length) = hook.called().await;
    assert_eq!(
        (headers["authorization"].to_str().unwrap(), headers["x-a"].to_str().unwrap(), length),
        ("Bearer x", "b", 0)
    );
    becomes(&repository, SubscriptionStatus::Active, None).await;

    repository.create(message(), None).await.unwrap();
    hook.called().await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_subscriber_that_fails_is_called_again_until_it_answers() {
    let (repository, _directory) = open();
    let hook = hook().await;
    hook.status.store(500, Ordering::SeqCst);
    repository.update(subscription(&hook.url), Condition::Always).await.unwrap();
    repository.create(message(), None).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(deliver(repository.clone(), settings(), Numbers::default(), stop.clone()));
    becomes(&repository, SubscriptionStatus::Error, Some("500")).await;
    // The trouble of today is told, not that of the first day.
    hook.status.store(401, Ordering::SeqCst);
    becomes(&repository, SubscriptionStatus::Error, Some("401")).await;
    hook.status.store(204, Ordering::SeqCst);
    becomes(&repository, SubscriptionStatus::Active, None).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(repository.owed().await.unwrap(), []);
    assert!(hook.calls.len() >= 3);
}

#[tokio::test]
async fn a_hook_inside_the_house_is_not_called() {
    let (repository, _directory) = open();
    let mut hook = hook().await;
    repository.update(subscription(&hook.url), Condition::Always).await.unwrap();
    let stop = CancellationToken::new();
    let strict = Settings { guard: Guard::default(), off_after: 3, ..settings() };
    let task = tokio::spawn(deliver(repository.clone(), strict, Numbers::default(), stop.clone()));
    becomes(&repository, SubscriptionStatus::Off, Some("https")).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(hook.calls.try_recv().is_err());
}

#[test]
fn headers_cannot_shape_the_connection() {
    let read = |line: &str| headers([line.to_owned()].iter());
    assert!(read("X-Token: a:b").is_ok());
    for line in ["Host: x", "no colon", "Content-Length: 3", "a b: c", "X: a\r\nY: b"] {
        assert!(read(line).is_err(), "{line}");
    }
}
