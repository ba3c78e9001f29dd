//! The web page on the admin address: what the bridge carries, what stands still, and both sides of a conversation.
//!
//! | module | its part |
//! |---|---|
//! | [`viewers`] | who looks, and what they may see |
//! | [`visit`] | one request: host, viewer, language; and its answer, with the headers that guard it |
//! | [`layout`] | what all pages share |
//! | [`overview`] | health, queue and throughput |
//! | [`places`] | organisations, care teams, conversations |
//! | [`thread`] | both sides of a conversation, by [`align`] |
//! | [`compare`] | both sides compared and repaired |
//! | [`work`] | lanes, parked work and retry |
//! | [`pulse`] | samples for the graph, and the stream that says that something changed |
//! | [`seal`] | what comes back from a browser unchanged, or not at all |
//!
//! Pages are made here and need neither scripts nor the network; a small script fetches a page anew when the stream
//! says so. Without a token a page shows ids, counts, states and times: no names, no texts, no Matrix ids of people.

mod align;
mod compare;
mod layout;
mod overview;
mod places;
mod pulse;
mod seal;
mod thread;
mod viewers;
mod visit;
mod work;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::header,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::engine::Engine;
use crate::service::{failure::Failure, listeners::Address};
use pulse::Pulse;
use seal::Seal;
use viewers::Viewers;

/// Largest form that is read, in bytes.
const FORM_BYTES: usize = 4096;
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");
const ICON: &str = include_str!("icon.svg");

/// The web page on the admin address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether there is a page.
    pub enabled: bool,
    /// File with the tokens of viewers and their scopes, in the form of `fhir.tokens_file`. Without it nobody sees
    /// names or texts, and there is a page only where none but this machine reaches the admin address.
    pub viewers_file: Option<PathBuf>,
    /// Names under which browsers reach the page, besides addresses and `localhost`.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, viewers_file: None, hosts: Vec::new() }
    }
}

/// What the pages are made from.
pub struct Desk {
    engine: Arc<Engine>,
    viewers: Viewers,
    pulse: Pulse,
    comparisons: compare::Comparisons,
    seal: Seal,
    hosts: Vec<String>,
    stop: CancellationToken,
}

// === impl Desk ===

impl Desk {
    /// The page of an engine, if there is to be one at these addresses.
    ///
    /// # Errors
    /// When the file of viewers is wrong.
    pub fn new(
        engine: Arc<Engine>,
        settings: &Settings,
        addresses: &[Address],
        stop: CancellationToken,
    ) -> Result<Option<Arc<Self>>, Failure> {
        if !settings.enabled || addresses.is_empty() {
            return Ok(None);
        }
        let Some(viewers) = Viewers::new(settings.viewers_file.as_deref(), addresses)? else {
            warn!(
                "there is no web page: the admin address can be reached from elsewhere, and page.viewers_file is not set"
            );
            return Ok(None);
        };
        let hosts = settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let seal = Seal::new()?;
        let (pulse, comparisons) = (Pulse::default(), compare::Comparisons::default());
        Ok(Some(Arc::new(Self { engine, viewers, pulse, comparisons, seal, hosts, stop })))
    }

    /// Takes a sample of the bridge's numbers.
    pub fn note(&self, overview: &super::store::Overview) {
        let away = super::store::Side::BOTH.map(|side| self.engine.presence(side).absence().is_some());
        self.pulse.note(super::store::now(), overview, away);
    }
}

/// The pages.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/organisations", get(places::organisations))
        .route("/teams", get(places::teams))
        .route("/teams/{id}", get(places::team))
        .route("/threads", get(places::threads))
        .route("/threads/{id}", get(thread::show))
        .route("/threads/{id}/compare", post(compare::thread))
        .route("/comparisons", post(compare::everything))
        .route("/comparisons/{number}", get(compare::show))
        .route("/queue", get(work::show))
        .route("/queue/retry", post(work::retry))
        .route("/sign-in", get(viewers::form).post(viewers::sign_in))
        .route("/sign-out", post(viewers::sign_out))
        .route("/live", get(pulse::stream))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .with_state(desk)
        .route("/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/live.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
