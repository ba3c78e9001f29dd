//! Who looks, and what they may see.
//!
//! A viewer is a client with a bearer token and SMART scopes, as at the FHIR endpoint: who may read Communications
//! sees their texts, who may read Practitioners their names, and who may update Communications may put work back. A
//! browser gives the token once and has a session for it; a program sends it as `Authorization: Bearer`.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::html;
use tracing::{info, warn};

use super::{
    Desk,
    visit::{Form, Visit},
};
use crate::{
    bridge::words::Word,
    fhir::{
        resources::ResourceType,
        rest::access::{Access, Right, Scopes},
    },
    service::{failure::Failure, listeners::Address, secrets::Secret},
};

/// The cookie of a session. It goes with requests of the page itself alone.
const COOKIE: &str = "fhir-bridge-viewer";
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(8 * 3600);
/// Sessions that are kept; of more, the oldest ends.
const SESSIONS: usize = 256;

/// Those who may see more than numbers.
pub(super) struct Viewers {
    /// The tokens, where there is a file of them.
    access: Option<Access>,
    /// Whether none but this machine reaches the page: then it shows numbers to everybody.
    private: bool,
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    viewer: Viewer,
    until: Instant,
}

/// Somebody who looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Viewer {
    /// The name of the token, if they have one.
    pub(super) name: Option<String>,
    scopes: Scopes,
    /// The session, for the marks of forms; empty without one.
    pub(super) session: String,
    /// Whether the token came with the request itself: then no browser was tricked into it.
    pub(super) by_header: bool,
    /// Whether they may put parked work back.
    pub(super) may_retry: bool,
}

// === impl Viewers ===

impl Viewers {
    /// The viewers in a file. `None`: there is no file, and others than this machine would see the page.
    ///
    /// # Errors
    /// When the file is wrong.
    pub(super) fn new(file: Option<&Path>, addresses: &[Address]) -> Result<Option<Self>, Failure> {
        let private = Access::new(None, addresses).is_ok();
        let access = match file {
            Some(_) => Some(Access::new(file, addresses)?),
            None if private => None,
            None => return Ok(None),
        };
        Ok(Some(Self { access, private, sessions: Mutex::default() }))
    }

    /// Who sends a request; `None` when they must sign in first.
    pub(super) fn who(&self, headers: &HeaderMap) -> Option<Viewer> {
        if let Some(token) = bearer(headers) {
            return self.known(token).map(|viewer| Viewer { by_header: true, ..viewer });
        }
        if let Some(viewer) = cookie(headers).and_then(|id| self.of_session(id)) {
            return Some(viewer);
        }
        // Where no tokens are set up, this machine's people are trusted with what the command line lets them do.
        self.private.then(|| Viewer { may_retry: self.access.is_none(), ..Viewer::default() })
    }

    /// Whether there is anything to sign in with.
    pub(super) fn has_tokens(&self) -> bool {
        self.access.is_some()
    }

    fn known(&self, token: &str) -> Option<Viewer> {
        let client = self.access.as_ref()?.client(token)?;
        let scopes = client.scopes().clone();
        let may_retry = scopes.allow(Right::Update, Some(ResourceType::Communication));
        Some(Viewer { name: Some(client.name.clone()), scopes, may_retry, ..Viewer::default() })
    }

    fn of_session(&self, id: &str) -> Option<Viewer> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > Instant::now());
        sessions.get(id).map(|session| session.viewer.clone())
    }

    fn begin(&self, viewer: Viewer) -> Result<String, Failure> {
        let id = Secret::random(32)?.expose().to_owned();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(id, _)| id.clone());
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        let viewer = Viewer { session: id.clone(), ..viewer };
        sessions.insert(id.clone(), Session { viewer, until: Instant::now() + SESSION });
        Ok(id)
    }

    fn end(&self, id: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

// === impl Viewer ===

impl Viewer {
    /// Whether they may see what resources of a type say.
    pub(super) fn may_read(&self, kind: ResourceType) -> bool {
        self.scopes.allow(Right::Read, Some(kind))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The form to sign in with.
pub(super) async fn form(visit: Visit) -> Response {
    show_form(&visit, false)
}

fn show_form(visit: &Visit, wrong: bool) -> Response {
    let t = |word| visit.language.say(word);
    let content = html! {
        h1 { (t(Word::SignIn)) }
        p { (t(Word::SignInWhy)) }
        @if visit.desk.viewers.has_tokens() {
            form method="post" action="/sign-in" {
                (visit.mark())
                @if wrong { p.problem role="alert" { (t(Word::WrongToken)) } }
                label for="token" { (t(Word::Token)) }
                input #token type="password" name="token" required autocomplete="current-password";
                button { (t(Word::SignIn)) }
            }
        } @else {
            p { (t(Word::NoTokens)) }
        }
    };
    let status = if wrong { StatusCode::FORBIDDEN } else { StatusCode::OK };
    visit.page(status, Word::SignIn, content)
}

/// A token becomes a session.
pub(super) async fn sign_in(State(desk): State<Arc<Desk>>, visit: Visit, body: Bytes) -> Response {
    let Some(form) = Form::read(&visit, &body) else { return visit.refuse_foreign() };
    let Some(viewer) = desk.viewers.known(form.get("token").unwrap_or_default().trim()) else {
        warn!("somebody tried to sign in to the web page with a token that is not known");
        return show_form(&visit, true);
    };
    info!(viewer = viewer.name, "signed in to the web page");
    match desk.viewers.begin(viewer) {
        Ok(id) => {
            let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", SESSION.as_secs());
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, failure.to_string()).into_response(),
    }
}

/// A session ends.
pub(super) async fn sign_out(State(desk): State<Arc<Desk>>, visit: Visit, body: Bytes) -> Response {
    if Form::read(&visit, &body).is_none() {
        return visit.refuse_foreign();
    }
    desk.viewers.end(&visit.viewer.session);
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}
