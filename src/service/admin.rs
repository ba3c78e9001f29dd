//! The private address of a daemon: `/healthz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Map, Value, json};

/// What is wrong at the moment: a word for the part and a sentence for people. Empty when all is well.
pub type Problems = Vec<(String, String)>;

/// A daemon's own check of its health.
pub type Health = Arc<dyn Fn() -> Problems + Send + Sync>;

/// The routes `/healthz` (200 or 503, JSON) and `/metrics` (OpenMetrics text 1.0).
pub fn router(registry: Arc<Registry>, health: Health) -> Router {
    Router::new()
        .route("/healthz", get(show_health).with_state(health))
        .route("/metrics", get(show_metrics).with_state(registry))
}

async fn show_health(State(health): State<Health>) -> Response {
    let problems = health();
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if problems.is_empty() { "ok" } else { "failing" };
    let problems: Map<String, Value> = problems.into_iter().map(|(part, sentence)| (part, sentence.into())).collect();
    (status, Json(json!({ "status": word, "problems": problems }))).into_response()
}

async fn show_metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
