//! Batches and transactions: each entry needs the right that it would need alone.

use http::StatusCode;

use super::{
    access::{Right, Scopes},
    need,
    reply::{Refusal, Reply, bad},
};
use crate::fhir::{
    repository::Ask,
    resources::{Bundle, IssueType, Resource},
    server::FhirServer,
};

pub(super) async fn carry_out(server: &dyn FhirServer, resource: Resource, scopes: &Scopes) -> Result<Reply, Refusal> {
    if resource.kind() != Some(crate::fhir::resources::ResourceType::Bundle) {
        return Err(bad("a Bundle is required at this address"));
    }
    let bundle: Bundle = resource
        .into_typed()
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, IssueType::Structure, &error.to_string()))?;
    for (number, entry) in bundle.entry.iter().enumerate() {
        // An entry that is no request is refused, or answered as such, by the server behind.
        let Ok(ask) = Ask::read(entry.request.as_ref(), &format!("Bundle.entry[{number}]")) else { continue };
        let (right, kind) = match &ask {
            Ask::Create { kind, unless } => {
                if unless.is_some() {
                    need(scopes, Right::Search, Some(*kind))?;
                }
                (Right::Create, *kind)
            }
            Ask::Update { key, .. } => (Right::Update, key.kind),
            Ask::UpdateWhere { kind, .. } => {
                need(scopes, Right::Search, Some(*kind))?;
                (Right::Update, *kind)
            }
            Ask::Read { key } => (Right::Read, key.kind),
            Ask::Search { kind, query } => {
                // A search within a bundle may include and follow what it likes, so it needs the right to all.
                if query.parameters().any(|(name, _)| name.contains('.') || name.contains("include")) {
                    need(scopes, Right::Search, None)?;
                    need(scopes, Right::Read, None)?;
                }
                (Right::Search, *kind)
            }
        };
        need(scopes, right, Some(kind))?;
    }
    Ok(Reply::of(Resource::of(&server.transact(bundle).await?)))
}
