//! What the embedded server can do, told from the tables that it works by.

use serde_json::{Value, json};

use super::{
    definitions::{FHIR_VERSION, Kind, R4},
    instant::DateTime,
    resources::{Resource, ResourceType},
};

/// The CapabilityStatement (R4, 2.13). `base` is the server's address without a slash at its end; `secured` says
/// whether bearer tokens are asked for.
pub fn statement(base: &str, secured: bool, since: &DateTime) -> Resource {
    let mut rest = json!({
        "mode": "server",
        "resource": R4.stored().map(resource).collect::<Vec<_>>(),
        "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
    });
    if secured {
        let service = json!({
            // No code: there is no authorization server here that would give tokens out.
            "text": "Bearer tokens, agreed upon beforehand, with scopes as SMART writes them",
        });
        rest["security"] = json!({"cors": false, "service": [service]});
    }
    let mut statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": since.as_str(),
        "kind": "instance",
        "software": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "The embedded FHIR endpoint of the bridge to Matrix", "url": base},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "rest": [rest],
    });
    match statement.as_object_mut().map(std::mem::take).map(Resource::try_from) {
        Some(Ok(resource)) => resource,
        _ => Resource::of(&super::resources::CapabilityStatement::default()),
    }
}

fn resource(kind: ResourceType) -> Value {
    let changes = if kind == ResourceType::AuditEvent { &[][..] } else { &["update"][..] };
    let interactions = ["read", "vread", "create", "search-type", "history-type", "history-instance"];
    let interactions = interactions.iter().chain(changes).map(|code| json!({"code": code}));
    let own = R4.searches(kind).map(|(name, search)| json!({"name": name, "type": search.kind.as_str()}));
    let common = [("_id", "token"), ("_lastUpdated", "date"), ("_profile", "uri"), ("_security", "token")];
    let common = common.iter().chain(&[("_source", "uri"), ("_tag", "token")]);
    let common = common.map(|(name, kind)| json!({"name": name, "type": kind}));
    let includes: Vec<String> = references(kind).map(|name| format!("{kind}:{name}")).collect();
    let reverse: Vec<String> = R4
        .stored()
        .flat_map(|source| references(source).map(move |name| (source, name)).collect::<Vec<_>>())
        .filter(|(source, name)| points_to(*source, name, kind))
        .map(|(source, name)| format!("{source}:{name}"))
        .collect();
    let mut described = json!({
        "type": kind.as_str(),
        "profile": format!("http://hl7.org/fhir/StructureDefinition/{kind}"),
        "interaction": interactions.collect::<Vec<_>>(),
        "versioning": "versioned-update",
        "readHistory": true,
        "updateCreate": true,
        "conditionalCreate": true,
        "conditionalRead": "full-support",
        "conditionalUpdate": kind != ResourceType::AuditEvent,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical"],
        "searchParam": common.chain(own).collect::<Vec<_>>(),
    });
    if kind == ResourceType::AuditEvent {
        described["documentation"] = "PUT makes one with an id of the client's; none is ever changed.".into();
    }
    for (name, list) in [("searchInclude", includes), ("searchRevInclude", reverse)] {
        if !list.is_empty() {
            described[name] = list.into();
        }
    }
    described
}

fn references(kind: ResourceType) -> impl Iterator<Item = &'static str> {
    use super::definitions::SearchKind;
    R4.searches(kind).filter(|(_, search)| search.kind == SearchKind::Reference).map(|(name, _)| name)
}

/// Whether a reference parameter may point to a type.
fn points_to(source: ResourceType, name: &str, target: ResourceType) -> bool {
    let paths = R4.search(source, name).map_or(&[][..], |search| &search.paths);
    paths.iter().any(|path| match &path.target {
        Some(only) => only == target.as_str(),
        None => match R4.member_at(source, &path.steps).map(|member| &member.kind) {
            Some(Kind::Reference(targets)) => targets.is_empty() || targets.iter().any(|name| name == target.as_str()),
            _ => false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_valid_and_names_what_there_is() {
        let statement = statement("http://127.0.0.1:1234/fhir", true, &DateTime::from_micros(0));
        crate::fhir::validation::validate(&statement).unwrap();
        let typed: crate::fhir::resources::CapabilityStatement = statement.to().unwrap();
        let resources = &typed.interface[0].resource;
        assert_eq!(resources.len(), 13);
        let audit = resources.iter().find(|found| found.kind.as_deref() == Some("AuditEvent")).unwrap();
        assert!(!audit.interaction.iter().any(|found| found.code.as_deref() == Some("update")));
    }
}
