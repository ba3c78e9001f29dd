//! What a server lacks of what the bridge would like, and how the bridge copes.

use crate::fhir::resources::{CapabilityStatement, ResourceType, exchange::ResourceCapabilities};

/// Something that a server does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortcoming {
    /// What is missing.
    pub what: String,
    /// What is done without it.
    pub instead: &'static str,
    /// Whether the bridge cannot work at all.
    pub fatal: bool,
}

/// Compares what a server says about itself with what is needed for these types.
pub fn shortcomings(statement: &CapabilityStatement, kinds: &[ResourceType]) -> Vec<Shortcoming> {
    let mut found = Vec::new();
    let mut add = |what: String, instead: &'static str, fatal: bool| found.push(Shortcoming { what, instead, fatal });
    let version = statement.fhir_version.as_deref().unwrap_or("no version");
    if !version.starts_with("4.0") {
        add(format!("FHIR R4: it speaks {version}"), "nothing can be done: choose an R4 end point", true);
    }
    let resources = || statement.interface.iter().flat_map(|interface| &interface.resource);
    for kind in kinds {
        let Some(resource) = resources().find(|found| found.kind.as_deref() == Some(kind.as_str())) else {
            let fatal = matches!(kind, ResourceType::Communication | ResourceType::CommunicationRequest);
            add(kind.to_string(), "what needs this type is left out", fatal);
            continue;
        };
        of_type(*kind, resource, &mut add);
    }
    found
}

fn of_type(kind: ResourceType, resource: &ResourceCapabilities, add: &mut impl FnMut(String, &'static str, bool)) {
    let can = |code: &str| resource.interaction.iter().any(|found| found.code.as_deref() == Some(code));
    if !can("read") || !can("search-type") {
        add(format!("reading and searching {kind}"), "the bridge cannot follow this type", true);
    }
    if kind == ResourceType::Subscription {
        if !can("create") {
            add("making Subscriptions".to_owned(), "the server is polled", false);
        }
        return;
    }
    if !can("history-type") {
        add(format!("the history of {kind}"), "only the newest versions are seen, by _lastUpdated", false);
    }
    if resource.update_create != Some(true) {
        add(format!("ids of the client's choice for {kind}"), "resources are made with If-None-Exist", false);
    }
    if resource.conditional_create != Some(true) {
        add(format!("conditional create of {kind}"), "the bridge searches first, and makes one at a time", false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{capability, instant::DateTime};

    #[test]
    fn our_own_server_lacks_nothing() {
        let statement = capability::statement("http://x", false, &DateTime::from_micros(0)).into_typed().unwrap();
        let kinds: Vec<_> = crate::fhir::definitions::R4.stored().collect();
        assert_eq!(shortcomings(&statement, &kinds), []);
    }

    #[test]
    fn what_is_missing_is_named() {
        let statement =
            CapabilityStatement { fhir_version: Some("5.0.0".to_owned()), ..CapabilityStatement::default() };
        let found = shortcomings(&statement, &[ResourceType::Communication, ResourceType::Task]);
        assert_eq!(found.iter().map(|found| found.fatal).collect::<Vec<_>>(), [true, true, false]);
    }
}
