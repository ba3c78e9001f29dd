//! What stands between a bridge and its homeserver, and passes calls on as it likes.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::header::{AUTHORIZATION, CONTENT_TYPE},
    response::Response,
};
use reqwest::Client;

/// Serves on a port for as long as the test runs.
pub(crate) async fn serve(port: u16, routes: Router) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
}

/// Passes a call on, with another path and query; `None` when the homeserver does not answer.
pub(crate) async fn pass_on(http: &Client, homeserver: &str, path: &str, request: Request) -> Option<Response> {
    let (parts, body) = request.into_parts();
    let mut call = http.request(parts.method, format!("{homeserver}{path}"));
    for name in [AUTHORIZATION, CONTENT_TYPE] {
        call = parts.headers.get(&name).into_iter().fold(call, |call, value| call.header(&name, value));
    }
    let answer = call.body(to_bytes(body, usize::MAX).await.unwrap()).send().await.ok()?;
    let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    let mut passed = Response::new(Body::from(answer.bytes().await.ok()?));
    *passed.status_mut() = status;
    passed.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    Some(passed)
}
