//! Queries of the homeserver: users, room aliases and third-party networks.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::Uri,
    response::{IntoResponse as _, Response},
    routing::get,
};
use ruma::{RoomAliasId, UserId};
use serde::Serialize;
use serde_json::json;

use super::{Directory, Fields, Refusal, Unavailable};
use crate::matrix::path;

/// The routes of third-party look-ups, below their prefix.
pub(super) fn lookups<D: Directory>(directory: &Arc<D>) -> Router {
    Router::new()
        .route("/protocol/{protocol}", get(protocol::<D>))
        .route("/location/{protocol}", get(locations::<D>))
        .route("/user/{protocol}", get(users::<D>))
        .route("/location", get(behind_alias::<D>))
        .route("/user", get(behind_user::<D>))
        .with_state(Arc::clone(directory))
}

pub(super) async fn user<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    let user = UserId::parse(segment(&uri)?).map_err(|error| Refusal::parameter(format!("user id: {error}")))?;
    existence(directory.user(&user).await)
}

pub(super) async fn alias<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    let alias = RoomAliasId::parse(segment(&uri)?).map_err(|error| Refusal::parameter(format!("alias: {error}")))?;
    existence(directory.alias(&alias).await)
}

async fn protocol<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    found(directory.protocol(&segment(&uri)?).await)
}

async fn locations<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    found(directory.locations(&segment(&uri)?, fields(&uri)?).await)
}

async fn users<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    found(directory.users(&segment(&uri)?, fields(&uri)?).await)
}

async fn behind_alias<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    let alias = fields(&uri)?.remove("alias").ok_or_else(|| Refusal::parameter("the parameter alias is missing"))?;
    let alias = RoomAliasId::parse(alias).map_err(|error| Refusal::parameter(format!("alias: {error}")))?;
    found(directory.behind_alias(&alias).await.map(Some))
}

async fn behind_user<D: Directory>(State(directory): State<Arc<D>>, uri: Uri) -> Result<Response, Refusal> {
    let user = fields(&uri)?.remove("userid").ok_or_else(|| Refusal::parameter("the parameter userid is missing"))?;
    let user = UserId::parse(user).map_err(|error| Refusal::parameter(format!("userid: {error}")))?;
    found(directory.behind_user(&user).await.map(Some))
}

/// The parameters of a query, percent-decoded. Of one that is given twice the last counts.
pub(super) fn parameters(query: Option<&str>) -> Result<Fields, path::Malformed> {
    let decode = |text: &str| path::decode(&text.replace('+', " "));
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

/// The last segment of the path. Routes read it themselves so that an error is the specification's.
pub(super) fn segment(uri: &Uri) -> Result<String, Refusal> {
    path::last_segment(uri.path()).map_err(|malformed| Refusal::parameter(malformed.to_string()))
}

/// The fields of a look-up: the query without the legacy token.
fn fields(uri: &Uri) -> Result<Fields, Refusal> {
    let mut fields = parameters(uri.query()).map_err(|malformed| Refusal::parameter(malformed.to_string()))?;
    fields.remove("access_token");
    Ok(fields)
}

fn existence(answer: Result<bool, Unavailable>) -> Result<Response, Refusal> {
    found(answer.map(|exists| exists.then(|| json!({}))))
}

fn found<T: Serialize>(answer: Result<Option<T>, Unavailable>) -> Result<Response, Refusal> {
    match answer {
        Ok(Some(content)) => Ok(Json(content).into_response()),
        Ok(None) => Err(Refusal::NOT_FOUND),
        Err(unavailable) => Err(Refusal::unavailable(unavailable.to_string())),
    }
}
