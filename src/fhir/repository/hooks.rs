//! What subscriptions are owed, kept in the same transaction as the change that they are owed for.

use super::{
    condition::{Sql, Value},
    find::counted,
    plan::Plan,
};
use crate::{
    fhir::{
        id::Id,
        query::Query,
        resources::{Resource, ResourceType, Subscription, SubscriptionStatus},
        server::FhirError,
    },
    service::database::{Connection, DatabaseError, values},
};

/// A subscription that has to be told of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The subscription.
    pub(crate) id: Id,
    /// What it will know of when the call succeeds.
    pub(crate) wanted: i64,
    /// How often the call failed in a row.
    pub(crate) attempts: u32,
    /// When to call, in microseconds since 1970.
    pub(crate) due: i64,
}

/// The type and query of a subscription's criteria, `Communication?status=completed`.
pub(crate) fn criteria(text: &str) -> Option<(ResourceType, Query)> {
    let (kind, query) = text.split_once('?').unwrap_or((text, ""));
    Some((kind.parse().ok()?, Query::parse(query).ok()?))
}

/// Whether criteria can be matched here.
pub(crate) fn can_match(text: &str) -> bool {
    criteria(text).is_some_and(|(kind, query)| {
        crate::fhir::definitions::R4.is_stored(kind) && Plan::read(kind, &query, "").is_ok()
    })
}

/// Takes note of a version that was just written: for the subscriptions that it matches, and, where it is one itself,
/// of what it asks for.
pub(super) fn written(
    connection: &Connection,
    base: &str,
    kind: ResourceType,
    resource: &Resource,
    rid: i64,
    seq: i64,
) -> Result<(), FhirError> {
    if kind == ResourceType::Subscription {
        return subscribe(connection, resource, seq);
    }
    let sql = "SELECT h.id, v.content FROM hook h JOIN resource r ON r.kind = 'Subscription' AND r.id = h.id \
               JOIN version v ON v.seq = r.seq WHERE h.kind = ?";
    let hooks: Vec<(String, String)> =
        connection.query(sql, values![kind.as_str()], |row| Ok::<_, DatabaseError>((row.get(0)?, row.get(1)?)))?;
    for (id, content) in hooks {
        let subscription = Resource::from_json(content.as_bytes()).and_then(Resource::into_typed::<Subscription>);
        let found = subscription.ok().and_then(|subscription| criteria(&subscription.criteria?));
        let Some((kind, query)) = found else { continue };
        let Ok(plan) = Plan::read(kind, &query, base) else { continue };
        let one = Sql { text: "rid = ?".to_owned(), values: vec![Value::Integer(rid)] };
        let plan = Plan { condition: Sql::join(vec![one, plan.condition], " AND "), ..plan };
        if counted(connection, &plan.counting())? > 0 {
            connection.execute("UPDATE hook SET wanted = ? WHERE id = ?", values![seq, id])?;
        }
    }
    Ok(())
}

/// Keeps a hook for a subscription that is to be served, and none for one that is off.
fn subscribe(connection: &Connection, resource: &Resource, seq: i64) -> Result<(), FhirError> {
    let Ok(subscription) = resource.to::<Subscription>() else { return Ok(()) };
    let Some(id) = &subscription.id else { return Ok(()) };
    let kind = subscription.criteria.as_deref().and_then(criteria).map(|(kind, _)| kind);
    let (Some(kind), false) = (kind, subscription.status == Some(SubscriptionStatus::Off)) else {
        connection.execute("DELETE FROM hook WHERE id = ?", values![id.as_str()])?;
        return Ok(());
    };
    // A new subscription, or one that is asked for again, gets a first call: it shows that the endpoint is there.
    let first = if subscription.status == Some(SubscriptionStatus::Requested) { seq } else { 0 };
    connection.execute(
        "INSERT INTO hook (id, kind, wanted) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, \
         wanted = CASE WHEN excluded.wanted > hook.wanted THEN excluded.wanted ELSE hook.wanted END, \
         attempts = CASE WHEN excluded.wanted > 0 THEN 0 ELSE hook.attempts END, \
         due = CASE WHEN excluded.wanted > 0 THEN 0 ELSE hook.due END",
        values![id.as_str(), kind.as_str(), first],
    )?;
    Ok(())
}

/// The subscriptions that are owed a call, the one that is due first before the others.
pub(super) fn owed(connection: &Connection) -> Result<Vec<Owed>, DatabaseError> {
    let sql = "SELECT id, wanted, attempts, due FROM hook WHERE wanted > delivered ORDER BY due LIMIT 1000";
    let rows: Vec<(String, i64, u32, i64)> = connection
        .query(sql, &[], |row| Ok::<_, DatabaseError>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let owed = rows
        .into_iter()
        .filter_map(|(id, wanted, attempts, due)| Some(Owed { id: id.parse().ok()?, wanted, attempts, due }));
    Ok(owed.collect())
}

/// Takes a call over, until when it is another replica's turn. Says no when another one was faster.
pub(super) fn take(connection: &Connection, owed: &Owed, until: i64) -> Result<bool, DatabaseError> {
    let sql = "UPDATE hook SET due = ? WHERE id = ? AND due = ? AND delivered < ?";
    Ok(connection.execute(sql, values![until, owed.id.as_str(), owed.due, owed.wanted])? > 0)
}

/// Takes note of a call that reached its endpoint.
pub(super) fn delivered(connection: &Connection, id: &Id, wanted: i64) -> Result<(), DatabaseError> {
    let sql = "UPDATE hook SET delivered = CASE WHEN delivered > ?1 THEN delivered ELSE ?1 END, attempts = 0, due = 0 \
               WHERE id = ?2";
    connection.execute(sql, values![wanted, id.as_str()]).map(drop)
}

/// Takes note of a call that failed, and of when to try again. Gives how often it failed in a row.
pub(super) fn failed(connection: &Connection, id: &Id, due: i64) -> Result<u32, DatabaseError> {
    let sql = "UPDATE hook SET attempts = attempts + 1, due = ? WHERE id = ? RETURNING attempts";
    Ok(connection.first(sql, values![due, id.as_str()], |row| row.get(0))?.unwrap_or(0))
}
