//! Logical ids and references to resources.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::resources::ResourceType;

/// Longest id (R4, 2.24.0.1 `id`).
pub const LONGEST_ID: usize = 64;

/// A logical id: 1 to 64 of `A-Z a-z 0-9 - .` (R4, 2.24.0.1 `id`). Ids are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id(String);

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 1 to 64 of A-Z, a-z, 0-9, `-` and `.`")]
pub struct NotAnId;

// === impl Id ===

impl Id {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(NotAnId) }
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        if is_id(&text) { Ok(Self(text)) } else { Err(NotAnId) }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a legal id.
pub fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// A resource of a known type on one server: `Type/id`, or one version of it: `Type/id/_history/version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The type.
    pub kind: ResourceType,
    /// The id.
    pub id: Id,
    /// The version, where one is meant.
    pub version: Option<String>,
}

// === impl Key ===

impl Key {
    /// The key of a resource, whatever its version.
    pub fn new(kind: ResourceType, id: Id) -> Self {
        Self { kind, id, version: None }
    }

    /// Reads a reference: relative (`Patient/1`), version-specific, or absolute below any base
    /// (`https://x/fhir/Patient/1`). `None` for everything else: fragments, `urn:uuid:…`, unknown types.
    pub fn parse(reference: &str) -> Option<Self> {
        let (path, version) = match reference.split_once("/_history/") {
            Some((path, version)) if is_id(version) => (path, Some(version.to_owned())),
            Some(_) => return None,
            None => (reference, None),
        };
        let (before, id) = path.rsplit_once('/')?;
        let kind = before.rsplit_once('/').map_or(before, |(base, kind)| if base.contains("://") { kind } else { "" });
        Some(Self { kind: kind.parse().ok()?, id: id.parse().ok()?, version })
    }

    /// The key without its version.
    #[must_use]
    pub fn any_version(&self) -> Self {
        Self { version: None, ..self.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)?;
        match &self.version {
            Some(version) => write!(f, "/_history/{version}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_in_all_their_forms() {
        for (reference, key) in [
            ("Patient/1", Some("Patient/1")),
            ("https://x.nl/fhir/Patient/a.B-c", Some("Patient/a.B-c")),
            ("Communication/1/_history/2", Some("Communication/1/_history/2")),
            ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", None),
            ("#contained", None),
            ("x/Patient/1", None),
            ("Nonsense/1", None),
            ("Patient/", None),
            ("Patient/a b", None),
            ("Patient/1/_history/", None),
        ] {
            assert_eq!(Key::parse(reference).map(|key| key.to_string()).as_deref(), key, "{reference}");
        }
    }

    #[test]
    fn ids_have_at_most_64_characters() {
        assert!(is_id(&"a".repeat(64)) && !is_id(&"a".repeat(65)) && !is_id("") && !is_id("a_b"));
    }
}
