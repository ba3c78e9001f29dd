//! The Application Service API: what the homeserver calls (Matrix specification, "Application Service API").
//!
//! A transaction is answered with 200 only after its [`TransactionSink`] has made it durable; on any other answer the
//! homeserver sends the same transaction again, in order, after 2, 4, 8 … seconds.

mod gate;
mod queries;
mod refusal;
mod transactions;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use axum::{
    Json, Router, middleware,
    routing::{get, post, put},
};
use ruma::{
    RoomAliasId, UserId,
    thirdparty::{Location, Protocol, User},
};
use serde_json::{Value, json};

pub use refusal::Refusal;

use super::transaction::Transaction;
use crate::service::secrets::Secret;

/// What is done with a transaction.
pub trait TransactionSink: Send + Sync + 'static {
    /// Makes a transaction durable. It is answered with 200 when this returns `Ok`.
    ///
    /// The same transaction can come twice, the same event can come in two transactions, and two transactions can
    /// have one id: de-duplicate by event id. This runs to its end even if the homeserver hangs up meanwhile.
    fn accept(&self, transaction: Transaction) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What the homeserver asks about. What is not implemented does not exist.
pub trait Directory: Send + Sync + 'static {
    /// Whether a user of the namespace exists; it is made by this call if it should.
    fn user(&self, user: &UserId) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Whether a room alias of the namespace exists; it is made by this call if it should.
    fn alias(&self, alias: &RoomAliasId) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// What can be looked up in a third-party network.
    fn protocol(&self, _protocol: &str) -> impl Future<Output = Result<Option<Protocol>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// Rooms of a third-party network by its fields; `None` if there is no such network.
    fn locations(
        &self,
        _protocol: &str,
        _fields: Fields,
    ) -> impl Future<Output = Result<Option<Vec<Location>>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// Users of a third-party network by its fields; `None` if there is no such network.
    fn users(
        &self,
        _protocol: &str,
        _fields: Fields,
    ) -> impl Future<Output = Result<Option<Vec<User>>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// What stands behind a room alias.
    fn behind_alias(&self, _alias: &RoomAliasId) -> impl Future<Output = Result<Vec<Location>, Unavailable>> + Send {
        async { Ok(Vec::new()) }
    }

    /// What stands behind a user.
    fn behind_user(&self, _user: &UserId) -> impl Future<Output = Result<Vec<User>, Unavailable>> + Send {
        async { Ok(Vec::new()) }
    }
}

/// The fields of a third-party look-up.
pub type Fields = BTreeMap<String, String>;

/// Something could not be stored or looked up now. The homeserver is told to try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Bounds on what a caller may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body: usize,
    /// Requests in hand at a time; more are answered with 429.
    pub requests: usize,
    /// Time for a body to arrive.
    pub reading: Duration,
    /// Wrong credentials in a burst before they are answered with 429; one more is allowed each second.
    pub wrong_credentials: u32,
}

impl Default for Limits {
    /// 64 MiB: a transaction has at most 100 events of 64 KiB and ephemeral data, and media never comes this way.
    /// Synapse gives an application service 60 s.
    fn default() -> Self {
        Self { body: 64 << 20, requests: 64, reading: Duration::from_secs(50), wrong_credentials: 20 }
    }
}

/// The routes of the Application Service API, current and legacy.
///
/// Every route needs the `hs_token`, in the `Authorization` header or, from homeservers before Matrix 1.4, in the
/// query. What does not exist is answered with 404 or 405 and `M_UNRECOGNIZED`.
pub fn router<S: TransactionSink, D: Directory>(
    hs_token: Secret,
    sink: Arc<S>,
    directory: Arc<D>,
    limits: Limits,
) -> Router {
    let gate = Arc::new(gate::Gate::new(hs_token, &limits));
    let transactions = put(transactions::receive::<S>).with_state((sink, limits));
    let user = get(queries::user::<D>).with_state(Arc::clone(&directory));
    let alias = get(queries::alias::<D>).with_state(Arc::clone(&directory));
    let lookups = queries::lookups(&directory);
    Router::new()
        .route("/_matrix/app/v1/transactions/{txn_id}", transactions.clone())
        .route("/_matrix/app/v1/users/{user_id}", user.clone())
        .route("/_matrix/app/v1/rooms/{room_alias}", alias.clone())
        .route("/_matrix/app/v1/ping", post(ping))
        .nest("/_matrix/app/v1/thirdparty", lookups.clone())
        .nest("/_matrix/app/unstable/thirdparty", lookups)
        .route("/transactions/{txn_id}", transactions)
        .route("/users/{user_id}", user)
        .route("/rooms/{room_alias}", alias)
        .route_layer(middleware::from_fn_with_state(gate, gate::guard))
        .method_not_allowed_fallback(|| async { Refusal::METHOD })
        .fallback(|| async { Refusal::PATH })
}

/// The homeserver calls this when the application service asked it to.
async fn ping() -> Json<Value> {
    Json(json!({}))
}

#[cfg(test)]
mod tests;
