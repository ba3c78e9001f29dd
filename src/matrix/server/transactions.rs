//! Taking in transactions.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::header,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::{Limits, Refusal, TransactionSink, Unavailable, queries::segment};
use crate::{matrix::Transaction, service::trace::Trace};

/// `PUT …/transactions/{txnId}`: answered with 200 only when the sink has made it durable.
pub(super) async fn receive<S: TransactionSink>(
    State((sink, limits)): State<(Arc<S>, Limits)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let id = segment(request.uri())?;
    let trace = Trace::of_request(request.headers());
    let body = read(request, &limits).await?;
    let transaction = understand(&id, &body)?;
    drop(body);
    let (events, ephemeral) = (transaction.events.len(), transaction.ephemeral.len());
    store(sink, transaction, trace).await.map_err(|unavailable| {
        tracing::warn!(transaction = id, events, reason = %unavailable, "not stored; the homeserver will send it again");
        Refusal::unavailable(format!("not stored, send it again: {unavailable}"))
    })?;
    tracing::debug!(transaction = id, events, ephemeral, "accepted");
    Ok(Json(json!({})))
}

async fn read(request: Request, limits: &Limits) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limits.body as u64) {
        return Err(Refusal::too_large(limits.body));
    }
    let collecting = Limited::<Body>::new(request.into_body(), limits.body).collect();
    match tokio::time::timeout(limits.reading, collecting).await {
        Err(_) => Err(Refusal::SLOW),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(limits.body)),
        Ok(Err(error)) => Err(Refusal::not_json(format!("the body broke off: {error}"))),
    }
}

fn understand(id: &str, body: &[u8]) -> Result<Transaction, Refusal> {
    Transaction::parse(id, body).map_err(|malformed| {
        // Logged loudly: the homeserver will try this one transaction for ever, and the ones behind it wait.
        tracing::error!(transaction = id, bytes = body.len(), reason = %malformed, "cannot read a transaction");
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() && std::str::from_utf8(body).is_ok() {
            Refusal::bad_json(malformed.to_string())
        } else {
            Refusal::not_json(malformed.to_string())
        }
    })
}

/// In a task of its own: axum drops a request's future when the caller hangs up, but a half-made store helps nobody.
async fn store<S: TransactionSink>(sink: Arc<S>, transaction: Transaction, trace: Trace) -> Result<(), Unavailable> {
    let span = tracing::info_span!("transaction", trace_id = trace.id(), span_id = trace.span());
    let storing = async move { sink.accept(transaction).await };
    let storing = tokio::spawn(trace.scope(storing).instrument(span));
    storing.await.unwrap_or_else(|_| Err(Unavailable("storing it failed unexpectedly".to_owned())))
}
