//! Where the server calls: one address, one secret, and no more than a few looks a second however often it is called.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::post};
use http::{HeaderMap, StatusCode, header};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Hook;
use crate::{fhir::client::Client, service::secrets::Secret};

/// The path of the route.
pub const PATH: &str = "/fhir-hook";
/// Between two hints: a storm of calls makes one, and one more after it.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

struct Bell {
    secret: Secret,
    rung: Arc<Notify>,
    /// Whether it was said that somebody calls with a wrong secret.
    said: AtomicBool,
}

/// The route for the calls of `hook`; the hints reach the client until `stop`.
///
/// A body is not read: with an empty payload there is none, and what a server sends nevertheless is not believed.
pub fn router(client: Client, hook: &Hook, stop: CancellationToken) -> Router {
    let rung = Arc::new(Notify::new());
    tokio::spawn(pass_on(client, Arc::clone(&rung), stop));
    let bell = Bell { secret: hook.secret.clone(), rung, said: AtomicBool::new(false) };
    Router::new().route(PATH, post(called)).with_state(Arc::new(bell))
}

async fn called(State(bell): State<Arc<Bell>>, headers: HeaderMap) -> impl IntoResponse {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    if given.is_some_and(|given| bell.secret.matches(given)) {
        bell.rung.notify_one();
        return (StatusCode::OK, HeaderMap::new());
    }
    if !bell.said.swap(true, Ordering::Relaxed) {
        tracing::warn!("somebody calls {PATH} without the secret of the subscriptions; this is said once");
    }
    let challenge = HeaderMap::from_iter([(
        header::WWW_AUTHENTICATE,
        http::HeaderValue::from_static("Bearer realm=\"fhir-hook\""),
    )]);
    (StatusCode::UNAUTHORIZED, challenge)
}

/// A hint at once, and then none for a moment; what comes meanwhile is one hint after it.
async fn pass_on(client: Client, rung: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = rung.notified() => client.hint(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
