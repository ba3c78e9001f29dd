//! The web page, asked by plain HTTP as a browser or a program would.

use std::{fs, os::unix::fs::PermissionsExt as _};

use reqwest::{RequestBuilder, Response, StatusCode, header, redirect};
use serde_json::json;

use crate::{
    scenario::{begin, communication},
    world::{SERVER, World, encode, fhir_lacks, until},
};

/// Tokens of one who may see everything and put work back, and of one who may only count.
const NURSE: &str = "0123456789abcdef0123456789abcdef";
const CLERK: &str = "fedcba9876543210fedcba9876543210";

/// A client that stays where it is sent to, and the page's address.
struct Browser {
    http: reqwest::Client,
    base: String,
}

impl Browser {
    fn new(world: &World) -> Self {
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { http, base: world.admin() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).form(form)
    }

    /// The text of a page that must be there.
    async fn page(&self, path: &str) -> String {
        let response = self.get(path).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }
}

/// The value of the first hidden field of a name.
fn field(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    page.split_once(&start).unwrap_or_else(|| panic!("{name} is not in {page}")).1.split('"').next().unwrap().to_owned()
}

fn header_of(response: &Response, name: header::HeaderName) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// An event that cannot be understood is parked work.
async fn park(world: &World, browser: &Browser, number: u32) {
    assert_eq!(world.push(number, json!([{ "type": "m.room.message", "number": number }])).await, StatusCode::OK);
    let parked = || async { browser.page("/queue").await.contains("name=\"number\"").then_some(()) };
    until("the work is parked", parked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_guarded_and_speaks_both_languages() {
    let mut world = World::new();
    world.settings.push(("FHIR_BRIDGE_ENGINE__TRIES", "1".to_owned()));
    world.start_bridge().await;
    let browser = Browser::new(&world);

    // Nothing from elsewhere, nothing inline, nothing kept; health and metrics stand beside it.
    let response = browser.get("/").header("accept-language", "nl-NL,nl;q=0.9").send().await.unwrap();
    let policy = header_of(&response, header::CONTENT_SECURITY_POLICY);
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header_of(&response, header::CACHE_CONTROL), "no-store");
    assert_eq!(header_of(&response, header::CONTENT_LANGUAGE), "nl");
    let dutch = response.text().await.unwrap();
    assert!(dutch.contains("lang=\"nl\"") && dutch.contains("Wachtrij") && !dutch.contains("Queue"), "{dutch}");
    assert!(browser.page("/").await.contains("Queue"));
    for (path, kind) in [("/style.css", "text/css"), ("/live.js", "text/javascript")] {
        let response = browser.get(path).send().await.unwrap();
        assert!(header_of(&response, header::CONTENT_TYPE).starts_with(kind), "{path}");
    }
    assert!(browser.page("/metrics").await.contains("fhir_bridge_work"));
    for path in ["/threads/nothing", "/teams/nothing", "/threads/a%20b", "/nothing"] {
        assert_eq!(browser.get(path).send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
    let gone = browser.get("/threads?from=bnVsbA.bnVsbA").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::GONE);

    // A name that another site made lead here is not served (DNS rebinding).
    let foreign = browser.get("/").header("host", "evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::MISDIRECTED_REQUEST);

    // Retry is the page's own alone.
    park(&world, &browser, 1).await;
    let page = browser.page("/queue").await;
    let (mark, number) = (field(&page, "mark"), field(&page, "number"));
    let form = [("mark", mark.as_str()), ("number", number.as_str())];
    for refused in [
        browser.post("/queue/retry", &form).header("origin", "http://evil.example"),
        browser.post("/queue/retry", &form).header("origin", "null"),
        browser.post("/queue/retry", &form).header("sec-fetch-site", "same-site"),
        browser.post("/queue/retry", &form[1..]),
        browser.post("/queue/retry", &[("mark", "AAAA"), ("number", &number)]),
    ] {
        assert_eq!(refused.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    assert!(!world.log().contains("put back from the web page"));
    let done = browser.post("/queue/retry", &form).header("origin", &browser.base).send().await.unwrap();
    assert_eq!((done.status(), header_of(&done, header::LOCATION)), (StatusCode::SEE_OTHER, "/queue".to_owned()));
    // It was tried, and is parked again.
    let refusals = || async { (world.log().matches("work was refused").count() == 2).then_some(()) };
    until("the work was tried again", refusals).await;
    let too_much = browser.post("/queue/retry", &[("mark", &"x".repeat(10_000))]).send().await.unwrap();
    assert_eq!(too_much.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_others_reach_needs_a_token() {
    let mut world = World::new();
    let port = world.admin().rsplit(':').next().unwrap().to_owned();
    world.settings.push(("FHIR_BRIDGE_ADMIN", format!("[\"0.0.0.0:{port}\"]")));
    world.start_bridge().await;
    let browser = Browser::new(&world);
    assert_eq!(browser.get("/").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert!(world.log().contains("there is no web page"), "{}", world.log());
    world.kill_bridge();

    viewers(&mut world);
    world.start_bridge().await;
    let away = browser.get("/queue").send().await.unwrap();
    assert_eq!((away.status(), header_of(&away, header::LOCATION)), (StatusCode::SEE_OTHER, "/sign-in".to_owned()));
    assert_eq!(browser.get("/live").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(browser.page("/sign-in").await.contains("name=\"token\""));
    let wrong = browser.get("/").bearer_auth("nonsense").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(browser.get("/").bearer_auth(CLERK).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_compared_and_repaired_from_the_page() {
    let mut world = World::new();
    world.settings.push(("FHIR_BRIDGE_ENGINE__TRIES", "1".to_owned()));
    viewers(&mut world);
    let (anna, _, room) = begin(&mut world).await;
    world.put(communication("m1", "Alles goed.")).await;
    let browser = Browser::new(&world);

    // What is parked because nobody knew its sender is missing in Matrix.
    let uzi = "http://fhir.nl/fhir/NamingSystem/uzi-nr-pers";
    let missing = async |id: &str, number: &str| {
        let mut missing = communication(id, "Nu pas gehoord.");
        missing["sender"] = json!({ "identifier": { "system": uzi, "value": number } });
        world.put(missing).await;
        until("it is parked", || async { world.output(&["status"]).contains("1 parked").then_some(()) }).await;
        world
            .put(json!({ "resourceType": "Practitioner", "id": format!("Dr-{number}"), "name": [{ "text": "Dr" }],
                "identifier": [{ "system": uzi, "value": number }] }))
            .await;
    };
    missing("m2", "900000009").await;

    // Only who may, and only from the page itself.
    let anonymous = browser.page("/threads/t1").await;
    assert!(!anonymous.contains("/compare\"") && anonymous.contains("Sign in to compare"), "{anonymous}");
    assert!(!browser.page("/").await.contains("action=\"/comparisons\""));
    for (path, token, status) in [
        ("/threads/t1/compare", None, StatusCode::FORBIDDEN),
        ("/threads/t1/compare", Some(CLERK), StatusCode::FORBIDDEN),
        ("/comparisons", Some(CLERK), StatusCode::FORBIDDEN),
        ("/comparisons", Some("nonsense"), StatusCode::UNAUTHORIZED),
    ] {
        let request = browser.post(path, &[]);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        assert_eq!(request.send().await.unwrap().status(), status, "{path} {token:?}");
    }
    let mark = field(&browser.page("/sign-in").await, "mark");
    let signed_in = browser.post("/sign-in", &[("mark", &mark), ("token", NURSE)]).send().await.unwrap();
    let cookie = header_of(&signed_in, header::SET_COOKIE).split(';').next().unwrap().to_owned();
    let as_nurse =
        async |path: &str| browser.get(path).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    let press = async |path: &str, mark: &str, origin: &str| {
        let form = [("mark", mark)];
        browser.post(path, &form).header("cookie", &cookie).header("origin", origin).send().await.unwrap()
    };
    let mark = field(&as_nurse("/threads/t1").await, "mark");
    for (mark, origin) in [("AAAA", browser.base.as_str()), (&mark, "http://evil.example")] {
        let refused = press("/threads/t1/compare", mark, origin).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{mark} {origin}");
    }
    assert!(!world.log().contains("compared from the web page"));
    assert_eq!(press("/threads/a%20b/compare", &mark, &browser.base).await.status(), StatusCode::NOT_FOUND);

    // One conversation: the answer is the page of what was found, and it is repaired.
    let done = press("/threads/t1/compare", &mark, &browser.base).await;
    assert_eq!(
        (done.status(), header_of(&done, header::LOCATION)),
        (StatusCode::SEE_OTHER, "/comparisons/1".to_owned())
    );
    let page = as_nurse("/comparisons/1").await;
    assert!(
        page.contains("Differences: 1") && page.contains("Communication/m2") && page.contains("only in FHIR"),
        "{page}"
    );
    assert!(page.contains(">done<") && page.contains("/threads/t1"), "{page}");
    until("what was missing is said", || async {
        anna.texts(&room).await.contains(&"Nu pas gehoord.".to_owned()).then_some(())
    })
    .await;
    until("the page says so", || async { as_nurse("/comparisons/1").await.contains(">repaired<").then_some(()) }).await;

    // Everything, in the background; there is one such comparison at a time.
    world.output(&["retry"]);
    until("nothing is parked", || async { world.output(&["status"]).contains("0 parked").then_some(()) }).await;
    missing("m3", "900000010").await;
    let overview = as_nurse("/").await;
    assert!(overview.contains("action=\"/comparisons\""), "{overview}");
    let done = press("/comparisons", &field(&overview, "mark"), &browser.base).await;
    assert_eq!(header_of(&done, header::LOCATION), "/comparisons/2");
    let page = until("everything was compared", || async {
        let page = as_nurse("/comparisons/2").await;
        page.contains(">done<").then_some(page)
    })
    .await;
    assert!(
        page.contains("Differences: 1") && page.contains("Communication/m3") && page.contains("everything"),
        "{page}"
    );
    assert!(as_nurse("/").await.contains("href=\"/comparisons/2\""));
    // What is compared is numbers and states, for everybody who sees the page.
    let anonymous = browser.page("/comparisons/2").await;
    assert!(anonymous.contains("Communication/m3") && !anonymous.contains("gehoord"), "{anonymous}");
    for path in ["/comparisons/99", "/comparisons/-1"] {
        assert!(browser.get(path).send().await.unwrap().status().is_client_error(), "{path}");
    }

    // A side that is away is said to be so, and nothing is a difference.
    world.kill_homeserver();
    let done = press("/threads/t1/compare", &mark, &browser.base).await;
    let page = as_nurse(&header_of(&done, header::LOCATION)).await;
    assert!(page.contains("not finished") && page.contains("Differences: 0"), "{page}");
}

/// Sets up the two viewers.
fn viewers(world: &mut World) {
    let path = world.path("viewers.toml");
    let client = |name: &str, token: &str, scopes: &str| {
        format!("[[client]]\nname = \"{name}\"\ntoken = \"{token}\"\nscopes = \"{scopes}\"\n")
    };
    let nurse = client("nurse", NURSE, "system/Communication.ru system/Practitioner.r");
    fs::write(&path, nurse + &client("clerk", CLERK, "system/Organization.r")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    world.settings.push(("FHIR_BRIDGE_PAGE__VIEWERS_FILE", path.display().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_stand_beside_each_other_and_texts_need_a_token() {
    let mut world = World::new();
    viewers(&mut world);
    let (anna, _, room) = begin(&mut world).await;
    world.put(json!({ "resourceType": "Organization", "id": "vvt", "name": "Thuiszorg <b>Vet</b>" })).await;
    world.put(communication("m1", "Het gaat <i>goed</i>.")).await;
    let event = anna.say(&room, "Fijn om te horen.").await;
    let of_event = format!("Communication?identifier=https://matrix.org/event-id%7C{}", encode(&event));
    let answer = until("the answer is a Communication", || async { world.search(&of_event).await.pop() }).await;
    // One that says it is an event that is not there, and edits of what is no message and of what was never said.
    let mut lost = communication("lost", "Verdwenen.");
    lost["identifier"] = json!([{ "system": "https://matrix.org/event-id", "value": "$gone" }]);
    world.put(lost).await;
    let edit_of = |event: &str| {
        json!({ "msgtype": "m.text", "body": "* x", "m.new_content": { "msgtype": "m.text", "body": "x" },
            "m.relates_to": { "rel_type": "m.replace", "event_id": event } })
    };
    let begun = anna.state(&room).await.into_iter().find(|event| event["type"] == "m.room.create").unwrap();
    let stray = anna.send(&room, "m.room.message", edit_of(begun["event_id"].as_str().unwrap())).await;
    let waiting = json!([{ "type": "m.room.message", "event_id": "$waits", "room_id": room, "sender": anna.user_id,
        "origin_server_ts": 1, "content": edit_of("$never") }]);
    assert_eq!(world.push(9000, waiting).await, StatusCode::OK);

    let browser = Browser::new(&world);
    let thread = until("three messages are on both sides", || async {
        let page = browser.page("/threads/t1").await;
        (page.matches("both sides").count() == 3 && page.contains("waits for event $never")).then_some(page)
    })
    .await;
    // Ids, states and times for everybody; each difference with its word.
    for there in ["CommunicationRequest/t1", "Communication/m1", &event, answer["id"].as_str().unwrap(), &stray] {
        assert!(thread.contains(there), "{there}: {thread}");
    }
    assert!(thread.contains("Differences on this page: 2"), "{thread}");
    assert!(thread.contains("only in FHIR") && thread.contains("only in Matrix"), "{thread}");
    // Names and texts for nobody without a token.
    let team = browser.page("/teams/Team-1").await;
    assert!(team.contains("Practitioner/Anna") && team.contains("/threads/t1"), "{team}");
    let organisations = browser.page("/organisations").await;
    assert!(organisations.contains("Organization/vvt"));
    for page in [&thread, &team, &organisations, &browser.page("/threads").await, &browser.page("/queue").await] {
        for hidden in ["goed", "Fijn", "moeder", "Verdwenen", "Anna de Arts", "Kanarie", "@anna", "Thuiszorg"] {
            assert!(!page.contains(hidden), "{hidden}: {page}");
        }
        assert!(!page.contains("action=\"/queue/retry\""), "{page}");
    }
    let seen = world.search("AuditEvent").await;
    assert!(!seen.iter().any(|event| event["agent"][0]["altId"] == "nurse"), "{seen:?}");
    texts(&world, &browser).await;

    // With the homeserver away the page says so, and calls nothing a difference.
    world.kill_homeserver();
    let page = browser.page("/threads/t1").await;
    assert!(page.contains("Differences on this page: 0") && page.contains("cannot be read now"), "{page}");
    assert!(world.get("Communication/m1").await.is_some(), "{SERVER}");
}

/// Who has a token sees what it allows, and that is written down.
async fn texts(world: &World, browser: &Browser) {
    let as_clerk = |path: &str| browser.get(path).bearer_auth(CLERK).send();
    let organisations = as_clerk("/organisations").await.unwrap().text().await.unwrap();
    assert!(organisations.contains("Thuiszorg &lt;b&gt;Vet&lt;/b&gt;"), "{organisations}");
    assert!(!as_clerk("/threads/t1").await.unwrap().text().await.unwrap().contains("goed"));
    let refused = browser.post("/queue/retry", &[]).bearer_auth(CLERK).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);

    // A browser signs in with a form, and goes on with a cookie that scripts and other sites do not have.
    let mark = field(&browser.page("/sign-in").await, "mark");
    let wrong = browser.post("/sign-in", &[("mark", &mark), ("token", "nonsense")]).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    let signed_in = browser.post("/sign-in", &[("mark", &mark), ("token", NURSE)]).send().await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let cookie = header_of(&signed_in, header::SET_COOKIE);
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let as_nurse = |path: &str| browser.get(path).header("cookie", &cookie).send();
    let thread = as_nurse("/threads/t1").await.unwrap().text().await.unwrap();
    for there in ["Het gaat &lt;i&gt;goed&lt;/i&gt;.", "Fijn om te horen.", "Hoe gaat het met moeder?", "Verdwenen."] {
        assert!(thread.contains(there), "{there}: {thread}");
    }
    assert!(as_nurse("/teams/Team-1").await.unwrap().text().await.unwrap().contains("Anna de Arts"));
    if !fhir_lacks("audit-events") {
        let audit = world.search("AuditEvent").await;
        let seen: Vec<_> = audit.iter().filter(|event| event["agent"][0]["altId"] == "nurse").collect();
        assert_eq!(seen.len(), 1, "{audit:?}");
        let what = seen[0]["entity"][0]["what"]["reference"].as_str().unwrap();
        assert!(what.starts_with("CommunicationRequest/t1/_history/"), "{what}");
    }

    // The mark of a page belongs to its viewer; signing out ends the session.
    let foreign = browser.post("/sign-out", &[("mark", &mark)]).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let mark = field(&thread, "mark");
    let out = browser.post("/sign-out", &[("mark", &mark)]).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    assert!(!as_nurse("/threads/t1").await.unwrap().text().await.unwrap().contains("Fijn"));
    for secret in [NURSE, CLERK, "Fijn om te horen"] {
        assert!(!world.log().contains(secret), "the log knows {secret:?}");
    }
}
