//! What a request asks for (R4, 3.1.0 the table of interactions).

use http::{Method, StatusCode};

use crate::fhir::{
    definitions::R4,
    id::{Id, is_id},
    resources::{IssueType, ResourceType},
};

/// An interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interaction {
    Capabilities,
    OpenApi,
    Bundle,
    SystemHistory,
    Search(ResourceType),
    SearchByForm(ResourceType),
    Create(ResourceType),
    UpdateWhere(ResourceType),
    TypeHistory(ResourceType),
    Read(ResourceType, Id),
    Update(ResourceType, Id),
    InstanceHistory(ResourceType, Id),
    VersionRead(ResourceType, Id, String),
}

/// Why there is no such interaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoute {
    pub(super) status: StatusCode,
    pub(super) code: IssueType,
    pub(super) text: &'static str,
    /// The methods that there are, for the header `Allow` (RFC 9110, 15.5.6).
    pub(super) allow: Option<&'static str>,
}

/// Finds the interaction for a method and a path below the base.
pub(super) fn of(method: &Method, path: &str) -> Result<Interaction, NoRoute> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match parts.as_slice() {
        [] => choose(*method == Method::POST, Interaction::Bundle, method, "POST"),
        ["metadata"] => choose(reads, Interaction::Capabilities, method, "GET, HEAD"),
        ["openapi.json"] => choose(reads, Interaction::OpenApi, method, "GET, HEAD"),
        ["_history"] => choose(reads, Interaction::SystemHistory, method, "GET, HEAD"),
        [kind, rest @ ..] => of_type(method, reads, stored(kind)?, rest),
    }
}

/// The name of the interaction (R4, restful-interaction) and of the type, for numbers; empty where there is none.
pub(super) fn names(method: &Method, path: &str) -> (&'static str, &'static str) {
    let Ok(interaction) = of(method, path) else { return ("", "") };
    match interaction {
        Interaction::Capabilities => ("capabilities", ""),
        Interaction::OpenApi => ("openapi", ""),
        Interaction::Bundle => ("transaction", "Bundle"),
        Interaction::SystemHistory => ("history-system", ""),
        Interaction::Search(kind) | Interaction::SearchByForm(kind) => ("search-type", kind.as_str()),
        Interaction::Create(kind) => ("create", kind.as_str()),
        Interaction::UpdateWhere(kind) | Interaction::Update(kind, _) => ("update", kind.as_str()),
        Interaction::TypeHistory(kind) => ("history-type", kind.as_str()),
        Interaction::Read(kind, _) => ("read", kind.as_str()),
        Interaction::InstanceHistory(kind, _) => ("history-instance", kind.as_str()),
        Interaction::VersionRead(kind, ..) => ("vread", kind.as_str()),
    }
}

fn of_type(method: &Method, reads: bool, kind: ResourceType, rest: &[&str]) -> Result<Interaction, NoRoute> {
    match rest {
        [] if reads => Ok(Interaction::Search(kind)),
        [] if *method == Method::POST => Ok(Interaction::Create(kind)),
        [] => choose(*method == Method::PUT, Interaction::UpdateWhere(kind), method, "GET, HEAD, POST, PUT"),
        ["_search"] => choose(*method == Method::POST, Interaction::SearchByForm(kind), method, "POST"),
        ["_history"] => choose(reads, Interaction::TypeHistory(kind), method, "GET, HEAD"),
        [id] if reads => Ok(Interaction::Read(kind, legal(id)?)),
        [id] => choose(*method == Method::PUT, Interaction::Update(kind, legal(id)?), method, "GET, HEAD, PUT"),
        [id, "_history"] => choose(reads, Interaction::InstanceHistory(kind, legal(id)?), method, "GET, HEAD"),
        [id, "_history", version] if is_id(version) => {
            choose(reads, Interaction::VersionRead(kind, legal(id)?, (*version).to_owned()), method, "GET, HEAD")
        }
        _ => Err(not_found("there is no such address")),
    }
}

fn choose(fits: bool, interaction: Interaction, method: &Method, allow: &'static str) -> Result<Interaction, NoRoute> {
    if fits {
        return Ok(interaction);
    }
    let text = if *method == Method::DELETE {
        "nothing is deleted here: set the status to entered-in-error or inactive"
    } else {
        "this method is not done here"
    };
    Err(NoRoute { status: StatusCode::METHOD_NOT_ALLOWED, code: IssueType::NotSupported, text, allow: Some(allow) })
}

fn stored(kind: &str) -> Result<ResourceType, NoRoute> {
    let kind = kind.parse().ok().filter(|kind| R4.is_stored(*kind));
    kind.ok_or(NoRoute {
        status: StatusCode::NOT_FOUND,
        code: IssueType::NotSupported,
        text: "this resource type is not kept here",
        allow: None,
    })
}

fn legal(id: &str) -> Result<Id, NoRoute> {
    id.parse().map_err(|_| not_found("not an id: 1 to 64 of A-Z, a-z, 0-9, `-` and `.`"))
}

fn not_found(text: &'static str) -> NoRoute {
    NoRoute { status: StatusCode::NOT_FOUND, code: IssueType::NotFound, text, allow: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interaction_has_its_address() {
        use Interaction::*;
        let kind = ResourceType::Task;
        let id: Id = "a".parse().unwrap();
        for (method, path, found) in [
            ("GET", "/metadata", Capabilities),
            ("GET", "/openapi.json", OpenApi),
            ("POST", "/", Bundle),
            ("POST", "", Bundle),
            ("GET", "/_history", SystemHistory),
            ("GET", "/Task", Search(kind)),
            ("HEAD", "/Task/", Search(kind)),
            ("POST", "/Task", Create(kind)),
            ("PUT", "/Task", UpdateWhere(kind)),
            ("POST", "/Task/_search", SearchByForm(kind)),
            ("GET", "/Task/_history", TypeHistory(kind)),
            ("GET", "/Task/a", Read(kind, id.clone())),
            ("PUT", "/Task/a", Update(kind, id.clone())),
            ("GET", "/Task/a/_history", InstanceHistory(kind, id.clone())),
            ("GET", "/Task/a/_history/2", VersionRead(kind, id, "2".to_owned())),
        ] {
            assert_eq!(of(&method.parse().unwrap(), path), Ok(found), "{method} {path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        for (method, path, status) in [
            ("DELETE", "/Task/a", 405),
            ("PATCH", "/Task/a", 405),
            ("DELETE", "/Task", 405),
            ("GET", "/", 405),
            ("POST", "/metadata", 405),
            ("GET", "/Encounter", 404),
            ("GET", "/Bundle", 404),
            ("GET", "/Task/a_b", 404),
            ("GET", "/Task/a/b", 404),
            ("GET", "/Task/$validate", 404),
        ] {
            assert_eq!(of(&method.parse().unwrap(), path).unwrap_err().status, status, "{method} {path}");
        }
    }
}
