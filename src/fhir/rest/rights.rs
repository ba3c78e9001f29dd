//! Which right a request needs: also where it finds something on the way.

use http::StatusCode;
use serde_json::Value;

use super::{
    access::{Right, Scopes},
    reply::Refusal,
};
use crate::fhir::{
    query::Query,
    repository,
    resources::{IssueType, Resource, ResourceType},
};

/// Refuses what the scopes do not allow.
pub(super) fn need(scopes: &Scopes, right: Right, kind: Option<ResourceType>) -> Result<(), Refusal> {
    if scopes.allow(right, kind) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, IssueType::Forbidden, "the token's scopes do not allow this"))
}

/// A search, and every condition that is one, tells what there is. A chain tells of resources that it passes, too;
/// whoever may search everything may use it.
pub(super) fn need_to_find(scopes: &Scopes, kind: ResourceType, query: &Query) -> Result<(), Refusal> {
    need(scopes, Right::Search, Some(kind))?;
    if query.parameters().any(|(name, _)| follows(name)) {
        need(scopes, Right::Search, None)?;
    }
    Ok(())
}

/// Whether a parameter goes from one resource to another: a chain, or one in reverse (`_has`).
pub(super) fn follows(name: &str) -> bool {
    name.contains('.') || name.starts_with("_has:")
}

/// The criteria of a subscription are a search: its calls tell when there is something that matches.
pub(super) fn need_criteria(scopes: &Scopes, resource: &Resource) -> Result<(), Refusal> {
    let criteria = resource.members().get("criteria").and_then(Value::as_str);
    match criteria.filter(|_| resource.kind() == Some(ResourceType::Subscription)).and_then(repository::criteria) {
        Some((kind, query)) => need_to_find(scopes, kind, &query),
        None => Ok(()),
    }
}
