//! Static sites: Element Web, with the headers that its documentation asks for.
//!
//! Element's own advice (element-web `README.md`, "Caching requirements" and "Configuration best practices"): files
//! that say which others to load are asked for again each time, and nobody else may frame the client.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
    middleware::{self, Next},
    routing::get,
};
use http_body_util::BodyExt as _;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::services::ServeDir;

use super::{
    answer::Answer,
    forward::too_many,
    gate::{self, Gate},
    io::{Patient, Socket, Watched},
    settings::{Limits, StaticSite},
    worker::{EXHAUSTED, Shared, is_of_one_connection, refuse},
};

/// What Element's documentation asks of every answer.
const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Files below this directory have a name that changes with their content.
const HASHED: &str = "/bundles/";

/// The times of files that have none: that of the Nix store, and that of archives without times.
const TIMELESS: [&str; 2] = ["Thu, 01 Jan 1970 00:00:01 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"];

/// The routes of a site.
pub fn router(site: &StaticSite) -> Router {
    let files = ServeDir::new(&site.root).precompressed_gzip().precompressed_br();
    let mut router = Router::new();
    if let Some(config) = &site.config {
        // TOML holds nothing that JSON cannot.
        let text = serde_json::to_string_pretty(config).unwrap_or_default();
        let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
        router = router.route("/config.json", get(answer));
    }
    let router = router.fallback_service(files).layer(middleware::map_response(secure));
    validated(router, store_tag(&site.root)).layer(middleware::from_fn(cache))
}

fn validated(router: Router, tag: Option<HeaderValue>) -> Router {
    router.layer(middleware::from_fn(move |request, next| validate(tag.clone(), request, next)))
}

/// What stands for the content of all files below a directory of the Nix store: its path.
fn store_tag(root: &Path) -> Option<HeaderValue> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    HeaderValue::from_str(&format!("\"{}\"", root.strip_prefix("/nix/store").ok()?.display())).ok()
}

/// Keeps a time that says nothing out of the question whether a file has changed: in the Nix store all have the same,
/// so that by it an upgraded client would never be loaded. There the tag tells.
async fn validate(tag: Option<HeaderValue>, mut request: Request, next: Next) -> Response<Body> {
    let timeless = |value: &HeaderValue| value.to_str().is_ok_and(|time| TIMELESS.contains(&time));
    if request.headers().get(header::IF_MODIFIED_SINCE).is_some_and(timeless) {
        request.headers_mut().remove(header::IF_MODIFIED_SINCE);
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if response.headers().get(header::LAST_MODIFIED).is_some_and(timeless) {
        response.headers_mut().remove(header::LAST_MODIFIED);
        if let Some(tag) = tag {
            if response.status() == StatusCode::OK && known.as_ref() == Some(&tag) {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response.headers_mut().remove(header::CONTENT_LENGTH);
                *response.body_mut() = Body::empty();
            }
            response.headers_mut().insert(header::ETAG, tag);
        }
    }
    response
}

async fn secure(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().extend(SECURITY.map(|(name, value)| (Some(name), value)));
    response
}

async fn cache(request: Request, next: Next) -> Response<Body> {
    let hashed = request.uri().path().starts_with(HASHED);
    // `config.HOST.json` is asked for before `config.json`; it is an answer that there is none.
    let mut response = next.run(request).await;
    let value = match response.status() {
        StatusCode::OK | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT if hashed => {
            "public, max-age=31536000, immutable"
        }
        _ => "no-cache",
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    response
}

/// Serves a router on a listener until the proxy stops: bounded as all connections are, and cut by the caller after the
/// drain time.
pub(crate) async fn serve(
    listener: Watched,
    router: Router,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections at the moment");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        match gate.connection(address) {
            Ok(place) => {
                let routes = bounded(router.clone(), Arc::clone(&gate), place);
                connections.spawn(serve_connection(
                    socket,
                    routes,
                    shared.settings.limits.clone(),
                    shared.stop.clone(),
                ));
            }
            Err(full) => {
                shared.metrics.connections_refused.inc();
                refuse(&socket, &too_many(full, "connections").to_message());
            }
        }
    }
}

/// The routes for one connection, whose place at the gate they keep, with a place for each request until all of its
/// response is sent.
fn bounded(router: Router, gate: Arc<Gate>, place: gate::Connection) -> Router {
    let place = Arc::new(place);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let permit = gate.request(&place);
        async move {
            match permit {
                Ok(permit) => next.run(request).await.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _held = &permit;
                        frame
                    }))
                }),
                Err(full) => response(too_many(full, "requests in flight")),
            }
        }
    }))
}

fn response(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body.into_owned()));
    *response.status_mut() = answer.status;
    for (name, value) in answer.fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn serve_connection(socket: Socket, routes: Router, limits: Limits, stop: CancellationToken) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.idle_time.get()).max_headers(limits.header_count);
    let socket = Patient::new(socket, limits.idle_time.get());
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn files_of_the_nix_store_are_told_apart_by_their_path() {
        let file = || async { ([(header::LAST_MODIFIED, TIMELESS[0])], "code") };
        let root = Path::new("/nix/store/0abc-element-web-1.12.25");
        let routes = validated(Router::new().route("/a.js", get(file)), store_tag(root));
        let asked = async |known: &str| {
            let request = Request::get("/a.js").header(header::IF_NONE_MATCH, known).body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            assert!(!response.headers().contains_key(header::LAST_MODIFIED));
            assert_eq!(response.headers()[header::ETAG], "\"0abc-element-web-1.12.25\"");
            response.status()
        };
        assert_eq!(asked("\"0abc-element-web-1.12.25\"").await, StatusCode::NOT_MODIFIED);
        assert_eq!(asked("\"0abc-element-web-1.12.24\"").await, StatusCode::OK);
        assert_eq!(store_tag(Path::new("/usr/share/element-web")), None);
    }
}
