//! The routes as a homeserver meets them: over TCP, with reqwest.

use super::*;
use std::{net::SocketAddr, sync::Mutex};

use ruma::{owned_room_alias_id, owned_user_id, thirdparty::ProtocolInit};
use serde_json::Value;
use tokio::sync::Semaphore;

const TOKEN: &str = "the-hs-token";
const EVENT: &str = r#"{"type":"m.room.message","event_id":"$a","room_id":"!r:vvt","sender":"@jan:vvt",
    "origin_server_ts":1,"content":{"msgtype":"m.text","body":"hallo"}}"#;

/// Keeps what it is given; refuses while `refuse` says why.
struct Store {
    accepted: Mutex<Vec<Transaction>>,
    refuse: Mutex<Option<&'static str>>,
    entered: Semaphore,
    hold: Semaphore,
    holding: bool,
}

/// Limits that a test can reach.
fn small() -> Limits {
    Limits { body: 4096, requests: 4, reading: Duration::from_millis(200), wrong_credentials: 1000 }
}

impl Default for Store {
    fn default() -> Self {
        let none = || Semaphore::new(0);
        Self { accepted: Mutex::default(), refuse: Mutex::default(), entered: none(), hold: none(), holding: false }
    }
}

impl TransactionSink for Store {
    async fn accept(&self, transaction: Transaction) -> Result<(), Unavailable> {
        self.entered.add_permits(1);
        if self.holding {
            self.hold.acquire().await.unwrap().forget();
        }
        let refuse = *self.refuse.lock().unwrap();
        match refuse {
            Some("panic") => panic!("as a test asks"),
            Some(reason) => Err(Unavailable(reason.to_owned())),
            None => {
                self.accepted.lock().unwrap().push(transaction);
                Ok(())
            }
        }
    }
}

struct Book;

impl Directory for Book {
    async fn user(&self, user: &UserId) -> Result<bool, Unavailable> {
        match user.localpart() {
            "_fhir_bridge_broken" => Err(Unavailable("the store is down".to_owned())),
            localpart => Ok(localpart == "_fhir_bridge_practitioner-1"),
        }
    }

    async fn alias(&self, alias: &RoomAliasId) -> Result<bool, Unavailable> {
        Ok(alias == "#_fhir_bridge_careteam-1/a:vvt")
    }

    async fn protocol(&self, protocol: &str) -> Result<Option<Protocol>, Unavailable> {
        let init = ProtocolInit {
            user_fields: vec!["uzi".to_owned()],
            location_fields: Vec::new(),
            icon: String::new(),
            field_types: BTreeMap::new(),
            instances: Vec::new(),
        };
        Ok((protocol == "fhir").then(|| init.into()))
    }

    async fn users(&self, protocol: &str, fields: Fields) -> Result<Option<Vec<User>>, Unavailable> {
        let user = User::new(owned_user_id!("@jan:huisarts"), protocol.to_owned(), fields);
        Ok((protocol == "fhir").then(|| vec![user]))
    }

    async fn behind_alias(&self, alias: &RoomAliasId) -> Result<Vec<Location>, Unavailable> {
        assert_eq!(alias, "#a+b:vvt");
        Ok(vec![Location::new(owned_room_alias_id!("#a:vvt"), "fhir".to_owned(), BTreeMap::new())])
    }
}

struct Served {
    base: String,
    address: SocketAddr,
    store: Arc<Store>,
    client: reqwest::Client,
}

async fn serve(store: Store, limits: Limits) -> Served {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Arc::new(store);
    let router = router(Secret::new(TOKEN), Arc::clone(&store), Arc::new(Book), limits);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Served { base: format!("http://{address}"), address, store, client: reqwest::Client::new() }
}

async fn served() -> Served {
    serve(Store::default(), small()).await
}

impl Served {
    async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base)).body(body);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    async fn authorised(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.call(method, path, Some(&format!("Bearer {TOKEN}")), body).await
    }

    fn accepted(&self) -> usize {
        self.store.accepted.lock().unwrap().len()
    }
}

fn transaction() -> String {
    format!(r#"{{"events":[{EVENT}]}}"#)
}

#[tokio::test]
async fn a_transaction_is_handed_over_before_it_is_answered() {
    let served = served().await;
    let (status, body) = served.authorised("PUT", "/_matrix/app/v1/transactions/a%2F1", transaction()).await;
    assert_eq!((status, body), (200, json!({})));
    let accepted = served.store.accepted.lock().unwrap();
    assert_eq!(accepted[0].id, "a/1");
    assert_eq!(accepted[0].events[0].json(), EVENT);
}

#[tokio::test]
async fn numbers_that_start_again_hide_nothing() {
    // Synapse on SQLite counts from 1 again after a restart: another transaction with a number that was seen.
    let served = served().await;
    for body in [transaction(), transaction().replace("$a", "$b")] {
        assert_eq!(served.authorised("PUT", "/_matrix/app/v1/transactions/1", body).await.0, 200);
    }
    let accepted = served.store.accepted.lock().unwrap();
    let ids = accepted.iter().map(|transaction| transaction.events[0].outline().unwrap().event_id.as_str());
    assert_eq!(ids.collect::<Vec<_>>(), ["$a", "$b"]);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_stored_is_asked_for_again() {
    let served = served().await;
    for reason in ["disk full", "panic"] {
        *served.store.refuse.lock().unwrap() = Some(reason);
        let (status, body) = served.authorised("PUT", "/_matrix/app/v1/transactions/1", transaction()).await;
        assert_eq!((status, body["errcode"].as_str()), (503, Some("M_UNKNOWN")), "{reason}");
    }
    *served.store.refuse.lock().unwrap() = None;
    assert_eq!(served.authorised("PUT", "/_matrix/app/v1/transactions/1", transaction()).await.0, 200);
    assert_eq!(served.accepted(), 1);
}

#[tokio::test]
async fn a_transaction_is_stored_to_the_end_when_the_homeserver_hangs_up() {
    use tokio::io::AsyncWriteExt as _;
    let store = Store { holding: true, ..Store::default() };
    let served = serve(store, small()).await;
    let body = transaction();
    let mut connection = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "PUT /transactions/1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // The sink is reached (it waits), then the caller goes.
    served.store.entered.acquire().await.unwrap().forget();
    drop(connection);
    served.store.hold.add_permits(1);
    let stored = async {
        while served.accepted() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.unwrap();
}

#[tokio::test]
async fn every_route_needs_the_token() {
    let served = served().await;
    for (method, path) in [
        ("PUT", "/_matrix/app/v1/transactions/1"),
        ("PUT", "/transactions/1"),
        ("GET", "/_matrix/app/v1/users/%40a%3Avvt"),
        ("GET", "/users/%40a%3Avvt"),
        ("GET", "/_matrix/app/v1/rooms/%23a%3Avvt"),
        ("GET", "/rooms/%23a%3Avvt"),
        ("POST", "/_matrix/app/v1/ping"),
        ("GET", "/_matrix/app/v1/thirdparty/protocol/fhir"),
        ("GET", "/_matrix/app/v1/thirdparty/user/fhir"),
        ("GET", "/_matrix/app/v1/thirdparty/user"),
        ("GET", "/_matrix/app/v1/thirdparty/location/fhir"),
        ("GET", "/_matrix/app/v1/thirdparty/location"),
        ("GET", "/_matrix/app/unstable/thirdparty/protocol/fhir"),
    ] {
        let (status, body) = served.call(method, path, None, transaction()).await;
        assert_eq!((status, body["errcode"].as_str()), (401, Some("M_MISSING_TOKEN")), "{path}");
        for wrong in ["Bearer wrong", "Bearer", "Bearer ", "Basic the-hs-token", "the-hs-token"] {
            let (status, body) = served.call(method, path, Some(wrong), transaction()).await;
            assert_eq!((status, body["errcode"].as_str()), (403, Some("M_FORBIDDEN")), "{path} {wrong}");
        }
        let (status, _) = served.call(method, &format!("{path}?access_token=wrong"), None, "{}").await;
        assert_eq!(status, 403, "{path}");
    }
    assert_eq!(served.accepted(), 0);
}

#[tokio::test]
async fn the_legacy_paths_and_the_token_in_the_query_work() {
    let served = served().await;
    let query = format!("?access_token={TOKEN}");
    assert_eq!(served.call("PUT", &format!("/transactions/1{query}"), None, transaction()).await.0, 200);
    let user = format!("/users/%40_fhir_bridge_practitioner-1%3Avvt{query}");
    assert_eq!(served.call("GET", &user, None, "").await, (200, json!({})));
    let lookup = format!("/_matrix/app/unstable/thirdparty/user/fhir{query}&uzi=1");
    let (status, body) = served.call("GET", &lookup, None, "").await;
    assert_eq!(status, 200);
    assert_eq!(body[0]["fields"], json!({ "uzi": "1" }), "the token is no field");
    // A wrong header is not mended by a right query.
    assert_eq!(served.call("GET", &user, Some("Bearer wrong"), "").await.0, 403);
    assert_eq!(served.call("GET", &user, Some("bearer the-hs-token"), "").await.0, 200);
}

#[tokio::test]
async fn too_many_wrong_credentials_are_slowed_down_and_right_ones_are_not() {
    let served = serve(Store::default(), Limits { wrong_credentials: 3, ..small() }).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(served.call("POST", "/_matrix/app/v1/ping", Some("Bearer wrong"), "{}").await.0);
    }
    assert_eq!(statuses[..3], [403, 403, 403]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
    assert_eq!(served.authorised("POST", "/_matrix/app/v1/ping", "{}").await, (200, json!({})));
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_errors_of_the_specification() {
    let served = served().await;
    for (method, path, expected) in [
        ("GET", "/", 404),
        ("GET", "/_matrix/app/v2/users/x", 404),
        ("GET", "/_matrix/app/v1/transactions", 404),
        ("PUT", "/_matrix/app/v1/transactions/1/2", 404),
        ("GET", "/_matrix/app/v1/transactions/1", 405),
        ("POST", "/_matrix/app/v1/users/%40a%3Avvt", 405),
        ("GET", "/_matrix/app/v1/ping", 405),
        ("DELETE", "/_matrix/app/v1/thirdparty/user", 405),
    ] {
        let (status, body) = served.authorised(method, path, "{}").await;
        assert_eq!((status, body["errcode"].as_str()), (expected, Some("M_UNRECOGNIZED")), "{method} {path}");
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_in_words() {
    let served = served().await;
    for (body, expected) in [
        (&b""[..], "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b"{\"events\":[\"\xff\"]}", "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"{}", "M_BAD_JSON"),
        (b"{\"events\":7}", "M_BAD_JSON"),
    ] {
        let (status, answer) = served.authorised("PUT", "/_matrix/app/v1/transactions/1", body).await;
        assert_eq!((status, answer["errcode"].as_str()), (400, Some(expected)), "{}", String::from_utf8_lossy(body));
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(served.accepted(), 0);
}

#[tokio::test]
async fn deep_nesting_is_kept_and_does_not_break_anything() {
    let served = served().await;
    let deep = format!(r#"{{"events":[{}{}]}}"#, "[".repeat(2000), "]".repeat(2000));
    assert_eq!(served.authorised("PUT", "/transactions/1", deep).await.0, 200);
    assert!(served.store.accepted.lock().unwrap()[0].events[0].outline().is_err());
}

#[tokio::test]
async fn large_bodies_are_refused_announced_or_not() {
    let served = served().await;
    let large = vec![b' '; 5000];
    let (status, body) = served.authorised("PUT", "/transactions/1", large.clone()).await;
    assert_eq!((status, body["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
    let chunks = large.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let (status, body) = served.authorised("PUT", "/transactions/1", streamed).await;
    assert_eq!((status, body["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let served = served().await;
    let body = reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    assert_eq!(served.authorised("PUT", "/transactions/1", body).await.0, 408);
}

#[tokio::test]
async fn more_requests_than_places_are_told_when_to_come_back() {
    let store = Store { holding: true, ..Store::default() };
    let served = serve(store, Limits { requests: 1, ..small() }).await;
    let first = served.authorised("PUT", "/transactions/1", transaction());
    let second = async {
        // Whichever of the two comes second is refused; it does not matter which.
        let answer = served.authorised("PUT", "/transactions/2", transaction()).await;
        served.store.hold.add_permits(1);
        answer
    };
    let first = async {
        let answer = first.await;
        served.store.hold.add_permits(1);
        answer
    };
    let (one, other) = tokio::join!(first, second);
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
    let refused = if one.0 == 429 { one.1 } else { other.1 };
    assert_eq!(refused["errcode"], "M_LIMIT_EXCEEDED");
    assert!(refused["retry_after_ms"].is_number());
}

#[tokio::test]
async fn queries_are_answered() {
    let served = served().await;
    for (path, expected) in [
        ("/_matrix/app/v1/users/%40_fhir_bridge_practitioner-1%3Avvt", 200),
        ("/_matrix/app/v1/users/@_fhir_bridge_practitioner-1:vvt", 200),
        ("/_matrix/app/v1/users/%40nobody%3Avvt", 404),
        ("/_matrix/app/v1/users/%40_fhir_bridge_broken%3Avvt", 503),
        ("/_matrix/app/v1/users/nobody", 400),
        ("/_matrix/app/v1/users/%4", 400),
        ("/_matrix/app/v1/users/%ff", 400),
        ("/_matrix/app/v1/rooms/%23_fhir_bridge_careteam-1%2Fa%3Avvt", 200),
        ("/_matrix/app/v1/rooms/%23other%3Avvt", 404),
        ("/_matrix/app/v1/rooms/other", 400),
        ("/_matrix/app/v1/thirdparty/protocol/fhir", 200),
        ("/_matrix/app/v1/thirdparty/protocol/irc", 404),
        ("/_matrix/app/v1/thirdparty/user/fhir?uzi=%31", 200),
        ("/_matrix/app/v1/thirdparty/user/irc", 404),
        ("/_matrix/app/v1/thirdparty/location/fhir", 404),
        ("/_matrix/app/v1/thirdparty/location?alias=%23a%2Bb%3Avvt", 200),
        ("/_matrix/app/v1/thirdparty/location", 400),
        ("/_matrix/app/v1/thirdparty/location?alias=x", 400),
        ("/_matrix/app/v1/thirdparty/user?userid=%40a%3Avvt", 200),
        ("/_matrix/app/v1/thirdparty/user?userid=x", 400),
    ] {
        let (status, body) = served.authorised("GET", path, "").await;
        assert_eq!(status, expected, "{path}: {body}");
        assert_eq!(status == 200, body.get("errcode").is_none(), "{path}: {body}");
    }
}
