//! Calls against a homeserver that says what a test wants it to say.

use super::*;
use std::{collections::VecDeque, sync::Mutex, time::Duration};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use ruma::{OwnedTransactionId, event_id, room_id, user_id};
use serde_json::{Value, json};

use crate::{
    matrix::{
        Event,
        intent::{Invitation, Outgoing, content},
        media::Upload,
        registration::Blueprint,
        rooms::Plan,
    },
    service::secrets::Secret,
};

const TOKEN: &str = "the-as-token";

/// What was asked, and what is answered: the first script entry whose path part fits, used up; else success.
#[derive(Default)]
struct Script {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<VecDeque<(&'static str, u16, Value)>>,
}

#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    query: String,
    authorised: bool,
    body: Vec<u8>,
}

impl Seen {
    fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 1 << 20).await else { return StatusCode::BAD_REQUEST.into_response() };
    let path = parts.uri.path().to_owned();
    let authorised = parts.headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    let seen = Seen {
        method: parts.method.to_string(),
        path: path.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        authorised,
        body: body.to_vec(),
    };
    script.seen.lock().unwrap().push(seen);
    let mut answers = script.answers.lock().unwrap();
    let Some(at) = answers.iter().position(|(part, ..)| path.contains(part)) else {
        return unscripted(&script, &path);
    };
    let Some((_, status, body)) = answers.remove(at) else { return StatusCode::NOT_FOUND.into_response() };
    let status = StatusCode::from_u16(status).unwrap();
    match body.get("retry_header") {
        Some(seconds) => (status, [("retry-after", seconds.as_str().unwrap().to_owned())], "busy").into_response(),
        None => (status, axum::Json(body)).into_response(),
    }
}

/// Success; but a user can be registered only once.
fn unscripted(script: &Script, path: &str) -> Response {
    if !path.ends_with("/register") {
        return axum::Json(json!({})).into_response();
    }
    let seen = script.seen.lock().unwrap();
    let same = |other: &&Seen| other.path == path && Some(&other.body) == seen.last().map(|last| &last.body);
    match seen.iter().filter(same).count() {
        1 => axum::Json(json!({ "user_id": "@made:vvt" })).into_response(),
        _ => (StatusCode::BAD_REQUEST, axum::Json(taken())).into_response(),
    }
}

fn taken() -> Value {
    json!({ "errcode": "M_USER_IN_USE", "error": "taken" })
}

struct Fake {
    script: Arc<Script>,
    homeserver: Homeserver,
}

fn registration() -> Registration {
    let mut registration = Registration::generate(&Blueprint::default()).unwrap();
    registration.as_token = Secret::new(TOKEN);
    registration
}

fn homeserver(url: String) -> Homeserver {
    let settings = Settings { url, patience_seconds: 5, answer_seconds: 2, media_bytes: 100, ..Settings::default() };
    Homeserver::new(settings, registration()).unwrap()
}

async fn fake(answers: &[(&'static str, u16, Value)]) -> Fake {
    let script = Arc::new(Script::default());
    script.answers.lock().unwrap().extend(answers.iter().cloned());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Fake { script, homeserver: homeserver(url) }
}

impl Fake {
    fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

fn forbidden() -> Value {
    json!({ "errcode": "M_FORBIDDEN", "error": "no" })
}

fn hallo(id: &str) -> Outgoing {
    Outgoing::message(content::text("hallo"), &OwnedTransactionId::from(id))
}

const GHOST: &str = "@_fhir_bridge_practitioner-1:vvt";

fn ghost() -> OwnedUserId {
    OwnedUserId::try_from(GHOST).unwrap()
}

#[tokio::test]
async fn a_ghost_is_registered_once_and_then_acts() {
    let fake = fake(&[
        ("/register", 400, taken()),
        ("/send/", 200, json!({ "event_id": "$1" })),
        ("/send/", 200, json!({ "event_id": "$2" })),
    ])
    .await;
    let intent = fake.homeserver.intent(&ghost()).unwrap();
    let room = room_id!("!r:vvt");
    let at = ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::try_from(1_700_000_000_000_u64).unwrap());
    assert_eq!(intent.send(room, &hallo("one").at(at)).await.unwrap(), "$1");
    assert_eq!(intent.send(room, &hallo("two")).await.unwrap(), "$2");
    let seen = fake.seen();
    assert_eq!(
        fake.lines(),
        [
            "POST /_matrix/client/v3/register",
            "PUT /_matrix/client/v3/rooms/!r:vvt/send/m.room.message/one",
            "PUT /_matrix/client/v3/rooms/!r:vvt/send/m.room.message/two",
        ]
    );
    assert!(seen.iter().all(|request| request.authorised), "the as_token goes in the header");
    assert!(seen[1].query.contains("ts=1700000000000") && seen[1].query.contains("user_id=%40_fhir_bridge_"));
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(
        body,
        json!({ "username": "_fhir_bridge_practitioner-1", "type": "m.login.application_service", "inhibit_login": true })
    );
}

#[tokio::test]
async fn a_ghost_that_the_homeserver_lost_is_registered_again() {
    let fake = fake(&[
        ("/register", 200, json!({ "user_id": GHOST })),
        ("/register", 200, json!({ "user_id": GHOST })),
        ("/typing/", 200, json!({})),
        ("/typing/", 403, forbidden()),
        ("/typing/", 200, json!({})),
    ])
    .await;
    let (intent, room) = (fake.homeserver.intent(&ghost()).unwrap(), room_id!("!r:vvt"));
    intent.typing(room, None).await.unwrap();
    intent.typing(room, None).await.unwrap();
    let registered = || fake.lines().iter().filter(|line| line.ends_with("/register")).count();
    assert_eq!(registered(), 2);
    // It is known now: what is refused is refused.
    fake.script.answers.lock().unwrap().extend([("/typing/", 403, forbidden()), ("/join/", 403, forbidden())]);
    assert!(intent.typing(room, None).await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn others_are_not_acted_for() {
    let fake = fake(&[]).await;
    for user in [user_id!("@jan:vvt"), user_id!("@_fhir_bridge_x:huisarts")] {
        assert!(matches!(fake.homeserver.intent(user), Err(Error::NotOurs(_))));
    }
}

#[tokio::test]
async fn busy_and_broken_homeservers_are_asked_again() {
    let busy = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": 20 });
    let fake = fake(&[
        ("/receipt/", 429, busy),
        ("/receipt/", 429, json!({ "retry_header": "0" })),
        ("/receipt/", 502, json!("not a Matrix error")),
    ])
    .await;
    fake.homeserver.bot().mark_read(room_id!("!r:vvt"), event_id!("$1")).await.unwrap();
    assert_eq!(fake.lines().iter().filter(|line| line.contains("/receipt/")).count(), 4);
}

/// A homeserver that is killed between storing an event and answering has forgotten its transaction id when it is back.
#[tokio::test]
async fn what_may_have_been_sent_is_not_sent_again_by_itself() {
    let busy = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": 20 });
    let fake = fake(&[
        ("/send/", 429, busy.clone()),
        ("/send/", 502, json!("not a Matrix error")),
        ("/redact/", 429, busy),
        ("/redact/", 503, json!({})),
    ])
    .await;
    let (bot, room) = (fake.homeserver.bot(), room_id!("!r:vvt"));
    let sent = bot.send(room, &hallo("one")).await.unwrap_err();
    let redacted = bot.redact(room, event_id!("$1"), &OwnedTransactionId::from("two"), None).await.unwrap_err();
    assert!(sent.is_temporary() && redacted.is_temporary(), "{sent}, {redacted}");
    // Too many requests, and none of them was looked at: that is certain, and may be repeated.
    for (path, transaction) in [("/send/", "/one"), ("/redact/", "/two")] {
        let calls: Vec<_> = fake.seen().into_iter().filter(|seen| seen.path.contains(path)).collect();
        assert_eq!(calls.len(), 2, "{path}");
        assert!(calls.iter().all(|call| call.path.ends_with(transaction)), "with the same transaction id");
    }
}

#[tokio::test]
async fn a_wait_longer_than_patience_is_left_to_the_caller() {
    let busy = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": 3_600_000 });
    let fake = fake(&[("/send/", 429, busy)]).await;
    let error = fake.homeserver.bot().send(room_id!("!r:vvt"), &hallo("one")).await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn a_room_without_alias_is_not_made_twice() {
    let fake = fake(&[("/createRoom", 502, json!({}))]).await;
    let plan = Plan { version: Some(ruma::RoomVersionId::V12), ..Plan::default() };
    let error = fake.homeserver.bot().create_room(&plan).await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(fake.lines().iter().filter(|line| line.contains("createRoom")).count(), 1);
}

#[tokio::test]
async fn a_room_with_an_alias_is_found_again() {
    let fake = fake(&[
        ("/createRoom", 502, json!({})),
        ("/createRoom", 400, json!({ "errcode": "M_ROOM_IN_USE", "error": "taken" })),
        ("/directory/room/", 200, json!({ "room_id": "!made", "servers": ["vvt"] })),
    ])
    .await;
    let alias = Some("_fhir_bridge_careteam-1".to_owned());
    let plan = Plan { version: Some(ruma::RoomVersionId::V12), alias, ..Plan::default() };
    let made = fake.homeserver.bot().create_room(&plan).await.unwrap();
    assert!(made.existed);
    assert_eq!(made.room_id, "!made");
    assert_eq!(fake.lines().last().unwrap(), "GET /_matrix/client/v3/directory/room/%23_fhir_bridge_careteam-1:vvt");
}

#[tokio::test]
async fn a_ghost_that_is_not_in_the_room_is_invited_and_joins() {
    let fake = fake(&[
        ("/send/", 403, forbidden()),
        ("/join/", 403, forbidden()),
        ("/state/m.room.member", 200, json!({ "event_id": "$i" })),
        ("/join/", 200, json!({ "room_id": "!r:vvt" })),
        ("/send/", 200, json!({ "event_id": "$1" })),
    ])
    .await;
    let intent = fake.homeserver.intent(&ghost()).unwrap();
    assert_eq!(intent.send(room_id!("!r:vvt"), &hallo("one")).await.unwrap(), "$1");
    let invite = fake.seen().into_iter().find(|seen| seen.path.contains("/state/")).unwrap();
    assert!(invite.query.is_empty(), "the bot invites as itself");
    assert_eq!(serde_json::from_slice::<Value>(&invite.body).unwrap(), json!({ "membership": "invite" }));
    let sends: Vec<_> = fake.lines().into_iter().filter(|line| line.contains("/send/")).collect();
    assert_eq!(sends.len(), 2);
}

#[tokio::test]
async fn a_banned_ghost_is_told_what_was_refused() {
    let fake = fake(&[
        ("/send/", 403, forbidden()),
        ("/join/", 403, forbidden()),
        ("/state/m.room.member", 403, forbidden()),
        ("/state/m.room.member", 200, json!({ "membership": "ban" })),
    ])
    .await;
    let intent = fake.homeserver.intent(&ghost()).unwrap();
    let error = intent.send(room_id!("!r:vvt"), &hallo("one")).await.unwrap_err();
    assert!(error.is_forbidden());
    assert!(error.refused().unwrap().path.contains("/send/"), "{error:?}");
}

#[tokio::test]
async fn an_invitation_carries_its_fields_and_stays_when_it_is_there() {
    let fake = fake(&[
        ("/state/m.room.member", 200, json!({ "event_id": "$i" })),
        ("/state/m.room.member", 403, forbidden()),
        ("/state/m.room.member", 200, json!({ "membership": "join" })),
        ("/state/m.room.member", 403, forbidden()),
        ("/state/m.room.member", 200, json!({ "membership": "ban" })),
    ])
    .await;
    let (bot, room, user) = (fake.homeserver.bot(), room_id!("!r:vvt"), user_id!("@jan:huisarts"));
    let mut invitation = Invitation { reason: Some("zorg".to_owned()), ..Invitation::default() };
    invitation.fields.insert("nl-ta-chat.invite.context".to_owned(), json!({ "version": 1.0 }));
    bot.invite(room, user, &invitation).await.unwrap();
    let sent: Value = serde_json::from_slice(&fake.seen().last().unwrap().body).unwrap();
    assert_eq!(sent["membership"], "invite");
    assert_eq!(sent["nl-ta-chat.invite.context"], json!({ "version": 1 }), "events hold integers only");
    bot.invite(room, user, &invitation).await.unwrap();
    assert!(bot.invite(room, user, &invitation).await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn a_join_names_the_servers_that_know_the_room() {
    let fake = fake(&[("/join/", 200, json!({ "room_id": "!v12room" }))]).await;
    let via = [ruma::owned_server_name!("huisarts"), ruma::owned_server_name!("apotheek:8448")];
    let room = fake.homeserver.bot().join(room_id!("!v12room").into(), &via).await.unwrap();
    assert_eq!(room, "!v12room");
    let query = fake.seen().pop().unwrap().query;
    assert!(query.contains("via=huisarts&via=apotheek%3A8448"), "{query}");
}

#[tokio::test]
async fn leaving_twice_is_leaving() {
    let gone = json!({ "errcode": "M_NOT_FOUND", "error": "" });
    let fake = fake(&[("/leave", 403, forbidden()), ("/state/", 404, gone)]).await;
    fake.homeserver.bot().leave(room_id!("!r:vvt"), None).await.unwrap();
}

#[tokio::test]
async fn what_is_remembered_follows_member_events() {
    let fake = fake(&[]).await;
    let room = room_id!("!r:vvt");
    let event = |membership: &str| {
        let json = json!({ "type": "m.room.member", "state_key": GHOST, "event_id": "$m", "room_id": room,
            "sender": "@_fhir:vvt", "origin_server_ts": 1, "content": { "membership": membership } });
        Event::from_json(json.to_string()).unwrap()
    };
    let intent = fake.homeserver.intent(&ghost()).unwrap();
    fake.homeserver.note_member(&event("join"));
    intent.ensure_joined(room, &[]).await.unwrap();
    assert!(fake.seen().is_empty(), "nothing needs to be asked");
    fake.homeserver.note_member(&event("leave"));
    let _ = intent.ensure_joined(room, &[]).await;
    assert!(fake.lines().iter().any(|line| line.contains("/join/")));
}

#[tokio::test]
async fn answers_that_make_no_sense_are_named() {
    let fake = fake(&[("/send/", 200, json!({ "event": "$1" }))]).await;
    let error = fake.homeserver.bot().send(room_id!("!r:vvt"), &hallo("one")).await.unwrap_err();
    assert!(matches!(&error, Error::Answer { path, .. } if path.contains("/send/")), "{error:?}");
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn requests_and_errors_do_not_show_tokens() {
    let request = ruma::api::client::account::whoami::v3::Request::new();
    let request = homeserver("http://127.0.0.1:1".to_owned()).prepare(None, request).unwrap();
    assert!(!format!("{request:?}").contains(TOKEN), "{request:?}");
    let fake = fake(&[("/send/", 401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "who?" }))]).await;
    let error = fake.homeserver.bot().send(room_id!("!r:vvt"), &hallo("one")).await.unwrap_err();
    assert!(error.is_unknown_token());
    assert!(!format!("{error} {error:?}").contains(TOKEN));
    let down = homeserver("http://127.0.0.1:1".to_owned());
    let settings = Settings { patience_seconds: 0, ..down.settings().clone() };
    let down = Homeserver::new(settings, registration()).unwrap();
    let error = down.bot().send(room_id!("!r:vvt"), &hallo("one")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_temporary());
    assert!(!format!("{error} {error:?}").contains(TOKEN));
}

#[tokio::test]
async fn a_homeserver_that_does_not_answer_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = Settings { url, answer_seconds: 1, patience_seconds: 0, ..Settings::default() };
    let silent = Homeserver::new(settings, registration()).unwrap();
    assert!(matches!(silent.bot().mark_read(room_id!("!r:vvt"), event_id!("$a")).await, Err(Error::TimedOut { .. })));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    for url in ["", "127.0.0.1:8008", "ftp://x", "http//x"] {
        let settings = Settings { url: url.to_owned(), ..Settings::default() };
        let failure = Homeserver::new(settings, registration()).err().unwrap();
        assert!(failure.to_string().contains("is not a URL"), "{failure}");
    }
}

#[tokio::test]
async fn the_diagnosis_is_in_words() {
    let versions = || ("/versions", 200, json!({ "versions": ["v1.11"] }));
    let me = || ("/whoami", 200, json!({ "user_id": "@_fhir:vvt" }));
    let refuse = |status: u16, body: Value| vec![versions(), me(), ("/ping", status, body)];
    let error = |code: &str| json!({ "errcode": code, "error": "said so" });
    for (answers, expected) in [
        (vec![("/versions", 404, json!({}))], "what answers is not a Matrix homeserver"),
        (vec![("/versions", 200, json!({ "versions": [] }))], "what answers is not a Matrix homeserver"),
        (vec![("/versions", 503, json!({}))], "the homeserver does not answer"),
        (vec![versions(), ("/whoami", 401, error("M_UNKNOWN_TOKEN"))], "the homeserver does not know this application"),
        (vec![versions(), ("/whoami", 200, json!({ "user_id": "@_fhir:huisarts" }))], "the homeserver is not vvt"),
        (
            refuse(200, json!({ "duration_ms": 7 })),
            "the homeserver and the application service reach each other (7 ms)",
        ),
        (refuse(403, error("M_FORBIDDEN")), "the homeserver knows the as_token as that of an application service"),
        (refuse(400, error("M_URL_NOT_SET")), "the registration that the homeserver has loaded has no url"),
        (
            refuse(502, error("M_CONNECTION_FAILED")),
            "the homeserver cannot connect to the application service: said so",
        ),
        (refuse(504, error("M_CONNECTION_TIMEOUT")), "the application service did not answer the homeserver in time"),
        (
            refuse(502, json!({ "errcode": "M_BAD_STATUS", "error": "x", "status": 403, "body": "{}" })),
            "the homeserver calls with another hs_token",
        ),
        (
            refuse(502, json!({ "errcode": "M_BAD_STATUS", "error": "x", "status": 418, "body": "tea\u{1b}[0m" })),
            "the homeserver called the url of the registration and was answered 418: tea[0m",
        ),
        (refuse(404, error("M_UNRECOGNIZED")), "the ping failed: the homeserver is older than Matrix 1.7"),
    ] {
        let fake = fake(&answers).await;
        let diagnosis = fake.homeserver.diagnose().await;
        assert!(diagnosis.to_string().starts_with(expected), "{diagnosis}\n{expected}");
        assert_eq!(diagnosis.is_fine(), diagnosis.remedy(&fake.homeserver).is_none());
        assert_eq!(diagnosis.is_fine(), diagnosis.failure(&fake.homeserver).is_none());
    }
    let down = homeserver("http://127.0.0.1:1".to_owned()).diagnose().await;
    assert!(matches!(down, Diagnosis::HomeserverDown(_)) && down.is_temporary(), "{down:?}");
}

fn upload_answers() -> Vec<(&'static str, u16, Value)> {
    vec![
        ("/media/config", 200, json!({ "m.upload.size": 1000 })),
        ("/upload", 200, json!({ "content_uri": "mxc://vvt/a" })),
    ]
}

#[tokio::test]
async fn a_file_is_uploaded_with_its_name_and_length() {
    let fake = fake(&upload_answers()).await;
    let intent = fake.homeserver.intent(&ghost()).unwrap();
    let upload = Upload::new("Text/Plain; charset=utf-8", "hallo").named("brief & zo.txt");
    assert_eq!(intent.upload(upload).await.unwrap(), "mxc://vvt/a");
    let last = fake.seen().pop().unwrap();
    assert!(last.authorised);
    assert_eq!(last.body, b"hallo");
    assert!(last.query.ends_with("&filename=brief%20%26%20zo.txt"), "{}", last.query);
}

#[tokio::test]
async fn files_that_are_too_large_or_not_what_they_say_are_not_sent() {
    let fake = fake(&[]).await;
    let bot = fake.homeserver.bot();
    let attempt = async |upload: Upload| {
        fake.script.answers.lock().unwrap().extend(upload_answers());
        bot.upload(upload).await.unwrap_err()
    };
    let large = attempt(Upload::new("text/plain", vec![b'x'; 101])).await;
    assert!(matches!(large, Error::TooLarge { limit: 100, .. }), "{large:?}");
    let disguised = attempt(Upload::new("image/png", &b"MZ\x90\x00 not a picture"[..])).await;
    assert!(matches!(disguised, Error::Disguised { .. }), "{disguised:?}");
    for size in [3, 50] {
        let error = attempt(Upload { size, ..Upload::new("text/plain", "hallo") }).await;
        assert!(matches!(error, Error::Source(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_download_is_limited() {
    let long = "x".repeat(200);
    let answers = [("/media/download/vvt/long", 200, json!(long)), ("/media/download/vvt/short", 200, json!("y"))];
    let fake = fake(&answers).await;
    let bot = fake.homeserver.bot();
    let error = bot.download(ruma::mxc_uri!("mxc://vvt/long")).await.err().unwrap();
    assert!(matches!(error, Error::TooLarge { limit: 100, .. }), "{error:?}");
    let short = bot.download(ruma::mxc_uri!("mxc://vvt/short")).await.unwrap();
    assert_eq!(short.content_type, "application/json");
    assert_eq!(short.bytes().await.unwrap(), "\"y\"");
}
