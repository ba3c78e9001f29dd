//! Static sites: Element Web, with the headers that its documentation asks for.
//!
//! Element's own advice (element-web `README.md`, "Caching requirements" and "Configuration best practices"): files
//! that say which others to load are asked for again each time, and nobody else may frame the client.

use std::sync::Arc;

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
    router.fallback_service(files).layer(middleware::map_response(secure)).layer(middleware::from_fn(cache))
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
