use std::sync::{Mutex, PoisonError};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse as _, routing::any};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::fhir::{
    client::settings::Settings,
    numbers::Numbers,
    repository::Repository,
    rest::{BODY_LIMIT, Rest, access::Access},
    subscriptions,
};

/// Longer than any of this takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const KINDS: [ResourceType; 2] = [ResourceType::Communication, ResourceType::Task];

/// Our own server as one that is elsewhere, and a bridge's side of it.
struct World {
    repository: Repository,
    client: Client,
    keeper: Keeper,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn listen(router: impl FnOnce(&str) -> Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = router(&base);
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

fn client(base: &str) -> Client {
    Client::new(Settings { base: base.to_owned(), hook_poll_seconds: 7, ..Settings::default() }).unwrap()
}

fn secret() -> Secret {
    Secret::new("0123456789abcdef")
}

fn hook(url: &str) -> Hook {
    Hook::new(url, secret()).unwrap()
}

async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = None;
    let base = listen(|base| {
        let base = format!("{base}/fhir");
        let repository = Repository::open(&directory.path().join("fhir.db"), &base).unwrap();
        opened = Some(repository.clone());
        Rest::new(Arc::new(repository), &base, Access::Open, BODY_LIMIT).router()
    })
    .await;
    let (repository, stop) = (opened.unwrap(), CancellationToken::new());
    let settings = subscriptions::Settings {
        guard: subscriptions::guard::Guard { allow_private: true, hosts: Vec::new() },
        first_pause_milliseconds: 1,
        longest_pause_seconds: 1,
        error_after: 1,
        ..subscriptions::Settings::default()
    };
    tokio::spawn(subscriptions::deliver(repository.clone(), settings, Numbers::default(), stop.clone()));
    let client = client(&format!("{base}/fhir"));
    let url = listen(|url| router(client.clone(), &hook(url), stop.clone())).await;
    let keeper = Keeper { client: client.clone(), hook: hook(&url), kinds: KINDS.to_vec() };
    World { repository, client, keeper, stop, _directory: directory }
}

impl World {
    async fn subscription(&self, kind: ResourceType) -> Subscription {
        let id = self.keeper.hook.id(kind).unwrap();
        self.repository.read(ResourceType::Subscription, &id).await.unwrap().into_typed().unwrap()
    }

    async fn all_become_active(&self) {
        let wait = async {
            let mut changes = self.repository.hints();
            loop {
                let mut active = true;
                for kind in KINDS {
                    active &= self.subscription(kind).await.status == Some(SubscriptionStatus::Active);
                }
                if active {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    /// Looks until all is well: the server serves what was spoiled, too, and may write it between a look's reading and
    /// its writing. The next look tells.
    async fn are_looked_after(&self) {
        let wait = async {
            let mut changes = self.repository.hints();
            while !self.keeper.look().await.unwrap() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    async fn how_many(&self) -> usize {
        self.client.search(ResourceType::Subscription, &Query::new()).await.unwrap().entries.len()
    }
}

async fn hinted(hints: &mut watch::Receiver<u64>) {
    tokio::time::timeout(PATIENCE, hints.changed()).await.unwrap().unwrap();
}

fn message() -> Resource {
    serde_json::from_value(json!({"resourceType": "Communication", "status": "completed"})).unwrap()
}

#[tokio::test]
async fn the_server_is_asked_once_and_says_what_changes() {
    let world = world().await;
    assert!(!world.keeper.look().await.unwrap(), "nobody has called yet");
    assert_eq!(world.client.pace(), None);
    world.all_become_active().await;
    assert!(world.keeper.look().await.unwrap());
    assert_eq!(world.client.pace(), Some(Duration::from_secs(7)));
    // However often it looks, and whoever else looks for the same hook.
    let replica =
        Keeper { client: client(world.client.base()), hook: world.keeper.hook.clone(), kinds: KINDS.to_vec() };
    assert!(replica.look().await.unwrap() && world.keeper.look().await.unwrap());
    assert_eq!(world.how_many().await, KINDS.len());

    let mut hints = world.client.hints();
    hints.mark_unchanged();
    world.repository.create(message(), None).await.unwrap();
    hinted(&mut hints).await;

    // A change that nobody told of: polled as before, until the next call.
    world.client.missed_a_hint();
    assert_eq!(world.client.pace(), None);
    hints.mark_unchanged();
    world.repository.create(message(), None).await.unwrap();
    hinted(&mut hints).await;
    assert!(world.client.pace().is_some());
}

#[tokio::test]
async fn a_subscription_that_is_off_or_ends_or_asks_for_something_else_is_asked_for_again() {
    let world = world().await;
    world.keeper.look().await.unwrap();
    world.all_become_active().await;
    assert!(world.keeper.look().await.unwrap());
    let spoil: [fn(&mut Subscription); 4] = [
        |subscription| subscription.status = Some(SubscriptionStatus::Off),
        |subscription| subscription.criteria = Some("Communication?status=completed".to_owned()),
        |subscription| subscription.end = Some(DateTime::from_micros(now_micros() + DAY)),
        |subscription| {
            subscription.channel.as_mut().unwrap().header = vec![Some("Authorization: Bearer old".to_owned())]
        },
    ];
    for spoil in spoil {
        let mut subscription = world.subscription(ResourceType::Communication).await;
        spoil(&mut subscription);
        world.repository.update(Resource::of(&subscription), Condition::Always).await.unwrap();
        assert!(!world.keeper.look().await.unwrap(), "{subscription:?}");
        assert_eq!(world.client.pace(), None);
        world.are_looked_after().await;
        let found = world.subscription(ResourceType::Communication).await;
        let wanted = world.keeper.hook.subscription(ResourceType::Communication);
        assert!(world.keeper.hook.is_asked_by(&found, &wanted), "{found:?}");
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let world = world().await;
    // An address where nobody listens: the server says `error`, which is asked for again and again.
    let keeper =
        Keeper { hook: hook("http://127.0.0.1:9/fhir-hook"), client: world.client.clone(), kinds: KINDS.to_vec() };
    assert!(!keeper.look().await.unwrap());
    let id = keeper.hook.id(ResourceType::Communication).unwrap();
    let wait = async {
        let mut changes = world.repository.hints();
        loop {
            let found = world.repository.read(ResourceType::Subscription, &id).await.unwrap();
            if found.to::<Subscription>().unwrap().status == Some(SubscriptionStatus::Error) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    let standing = keeper.look_after(ResourceType::Communication).await.unwrap();
    assert!(matches!(standing, Standing::Renewed(_)), "{standing:?}");
}

#[tokio::test]
async fn only_who_knows_the_secret_rings() {
    let client = client("http://127.0.0.1:9");
    let mut hints = client.hints();
    let url = listen(|url| router(client.clone(), &hook(url), CancellationToken::new())).await;
    let http = reqwest::Client::new();
    for (authorization, status) in [
        (None, 401),
        (Some("Bearer 0123456789abcdee"), 401),
        (Some("Bearer "), 401),
        (Some("Basic 0123456789abcdef"), 401),
        (Some("0123456789abcdef"), 401),
        (Some("bearer 0123456789abcdef"), 200),
    ] {
        let mut request = http.post(format!("{url}{PATH}")).body("not read");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        assert!(!hints.has_changed().unwrap(), "a wrong secret rang");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{authorization:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    }
    hinted(&mut hints).await;
    assert_eq!(http.get(format!("{url}{PATH}")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_storm_of_calls_is_one_hint_and_one_more() {
    let client = client("http://127.0.0.1:9");
    let mut hints = client.hints();
    let stop = CancellationToken::new();
    let routes = router(client.clone(), &hook("http://127.0.0.1:9"), stop.clone());
    let began = std::time::Instant::now();
    for _ in 0..500 {
        let call = http::Request::post(PATH).header("authorization", "Bearer 0123456789abcdef");
        let answer = tower::ServiceExt::oneshot(routes.clone(), call.body(axum::body::Body::empty()).unwrap());
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    hinted(&mut hints).await;
    let most = 2 + u64::try_from(began.elapsed().as_millis() / route::PAUSE.as_millis()).unwrap();
    let given = *hints.borrow();
    assert!((1..=most).contains(&given), "{given} hints, at most {most}");
}

/// A server that takes no ids from clients, and keeps headers to itself.
#[tokio::test]
async fn a_server_that_chooses_ids_is_asked_once() {
    let kept: Arc<Mutex<Vec<Value>>> = Arc::default();
    let server = Router::new()
        .route(
            "/Subscription",
            any(|State(kept): State<Arc<Mutex<Vec<Value>>>>, request: axum::extract::Request| async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if parts.method == "POST" {
                    assert!(parts.headers["if-none-exist"].to_str().unwrap().contains("criteria="));
                    let mut made: Value = serde_json::from_slice(&body).unwrap();
                    assert!(made["id"].is_null());
                    made["id"] = format!("s{}", kept.len()).into();
                    made["status"] = "active".into();
                    made["channel"].as_object_mut().unwrap().shift_remove("header");
                    kept.push(made.clone());
                    return (StatusCode::CREATED, made.to_string()).into_response();
                }
                let entries: Vec<_> = kept.iter().map(|resource| json!({ "resource": resource })).collect();
                json!({"resourceType": "Bundle", "type": "searchset", "entry": entries}).to_string().into_response()
            }),
        )
        .route(
            "/Subscription/{id}",
            any(|method: http::Method| async move {
                if method == "PUT" { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::NOT_FOUND }
            }),
        )
        .with_state(Arc::clone(&kept));
    let base = listen(|_| server).await;
    let keeper = Keeper { client: client(&base), hook: hook("https://bridge.example.nl"), kinds: KINDS.to_vec() };
    assert!(keeper.look().await.unwrap() && keeper.look().await.unwrap());
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(kept.len(), KINDS.len());
    assert_eq!(kept[0]["channel"]["endpoint"], "https://bridge.example.nl/fhir-hook");
    assert!(kept[0]["channel"]["payload"].is_null());
}

#[test]
fn addresses_are_checked_and_completed() {
    assert_eq!(hook("https://bridge.example.nl").endpoint(), "https://bridge.example.nl/fhir-hook");
    assert_eq!(hook("https://example.nl/in/front").endpoint(), "https://example.nl/in/front");
    for wrong in ["bridge", "ftp://x/", "https://u:p@x/", "https://x/?a=b", "https://x/#a"] {
        assert!(Hook::new(wrong, secret()).is_err(), "{wrong}");
    }
    assert!(Hook::new("https://x", Secret::new("two words")).is_err());
    let (one, other) = (hook("https://a").id(ResourceType::Task), hook("https://b").id(ResourceType::Task));
    assert!(one.is_some() && one != other);
    assert!(!format!("{:?}", hook("https://a")).contains("0123456789abcdef"));
}
