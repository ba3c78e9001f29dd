//! Batches and transactions: each entry needs the right that it would need alone.

use http::StatusCode;
use serde_json::Value;

use super::{
    access::{Right, Scopes},
    done,
    negotiate::Return,
    reply::{Refusal, Reply, bad},
    rights::{follows, need, need_criteria, need_to_find},
};
use crate::fhir::{
    repository::{Ask, criteria},
    resources::{Bundle, BundleEntry, IssueType, Resource},
    server::FhirServer,
};

pub(super) async fn carry_out(
    server: &dyn FhirServer,
    resource: Resource,
    scopes: &Scopes,
    wanted: Return,
) -> Result<Reply, Refusal> {
    if resource.kind() != Some(crate::fhir::resources::ResourceType::Bundle) {
        return Err(bad("a Bundle is required at this address"));
    }
    let bundle: Bundle = resource
        .into_typed()
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, IssueType::Structure, &error.to_string()))?;
    for (number, entry) in bundle.entry.iter().enumerate() {
        if let Some(resource) = &entry.resource {
            need_references(scopes, resource.members().values())?;
            need_criteria(scopes, resource)?;
        }
        // An entry that is no request is refused, or answered as such, by the server behind.
        let Ok(ask) = Ask::read(entry.request.as_ref(), &format!("Bundle.entry[{number}]")) else { continue };
        let (right, kind) = match &ask {
            Ask::Create { kind, unless } => {
                if let Some(query) = unless {
                    need_to_find(scopes, *kind, query)?;
                }
                (Right::Create, *kind)
            }
            Ask::Update { key, .. } => (Right::Update, key.kind),
            Ask::UpdateWhere { kind, query, .. } => {
                need_to_find(scopes, *kind, query)?;
                (Right::Update, *kind)
            }
            Ask::Read { key, .. } => (Right::Read, key.kind),
            Ask::Search { kind, query } => {
                // A search within a bundle may include and follow what it likes, so it needs the right to all.
                if query.parameters().any(|(name, _)| follows(name) || name.contains("include")) {
                    need(scopes, Right::Search, None)?;
                    need(scopes, Right::Read, None)?;
                }
                (Right::Search, *kind)
            }
        };
        need(scopes, right, Some(kind))?;
    }
    let is_write = |entry: &BundleEntry| {
        let method = entry.request.as_ref().and_then(|request| request.method.as_deref());
        matches!(method, Some("POST" | "PUT"))
    };
    let writes: Vec<bool> = bundle.entry.iter().map(is_write).collect();
    let mut answer = server.transact(bundle).await?;
    for (entry, _) in answer.entry.iter_mut().zip(writes).filter(|(_, is_write)| *is_write) {
        return_as(wanted, entry);
    }
    Ok(Reply::of(Resource::of(&answer)))
}

/// Gives back of a write what the client prefers (R4, 3.1.0.1.8).
fn return_as(wanted: Return, entry: &mut BundleEntry) {
    let Some(response) = entry.response.as_mut().filter(|response| response.outcome.is_none()) else { return };
    match wanted {
        Return::Representation => {}
        Return::Minimal => entry.resource = None,
        Return::OperationOutcome => {
            let is_new = response.status.as_deref().is_some_and(|status| status.starts_with("201"));
            response.outcome = Some(done(is_new));
            entry.resource = None;
        }
    }
}

/// A conditional reference (`Patient?identifier=…`) is a search whose answer stands in the resource afterwards.
fn need_references<'a>(scopes: &Scopes, values: impl IntoIterator<Item = &'a Value>) -> Result<(), Refusal> {
    for value in values {
        match value {
            Value::Array(list) => need_references(scopes, list.iter().collect::<Vec<_>>())?,
            Value::Object(members) => {
                if let Some(Value::String(text)) = members.get("reference")
                    && text.contains('?')
                    && let Some((kind, query)) = criteria(text)
                {
                    need_to_find(scopes, kind, &query)?;
                }
                need_references(scopes, members.values().collect::<Vec<_>>())?;
            }
            _ => {}
        }
    }
    Ok(())
}
