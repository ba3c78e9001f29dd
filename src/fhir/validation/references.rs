//! Literal references (R4, 2.3.0.1): relative to this server, absolute, logical, or to a contained resource.

use super::{formats, others};
use crate::fhir::{id::is_id, resources::ResourceType};

const WANTED: &str = "not a reference such as Patient/1, a URL, urn:uuid:… or #id";

/// Checks a reference that is none to a contained resource. `may_ask` says whether it may be a conditional one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(reference: &str, targets: &[String], may_ask: bool) -> Result<(), String> {
    if !formats::is_uri(reference) {
        return Err(WANTED.to_owned());
    }
    if let Some((kind, _)) = reference.split_once('?').filter(|(kind, _)| is_type(kind)) {
        return match may_ask {
            true => points_to(kind, targets),
            false => Err("a conditional reference is resolved in a transaction only".to_owned()),
        };
    }
    let path = match reference.split_once("/_history/") {
        Some((path, version)) if is_id(version) => path,
        Some(_) => return Err(WANTED.to_owned()),
        None => reference,
    };
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    let named = match parts.as_slice() {
        [id, kind] if is_type(kind) && is_id(id) => Some(*kind),
        _ => None,
    };
    match named {
        Some(kind) if has_scheme(reference) || path.split('/').count() == 2 => points_to(kind, targets),
        // The address of anything; whoever follows it will see.
        None if has_scheme(reference) => Ok(()),
        _ => Err(WANTED.to_owned()),
    }
}

fn points_to(kind: &str, targets: &[String]) -> Result<(), String> {
    if targets.is_empty() || targets.iter().any(|target| target == kind) {
        return Ok(());
    }
    Err(format!("must refer to one of {}", targets.join(", ")))
}

fn is_type(name: &str) -> bool {
    name.parse::<ResourceType>().is_ok() || others::is_type(name)
}

/// Whether a URI is absolute (RFC 3986, 3.1).
fn has_scheme(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn references_are_of_their_forms_and_to_allowed_types() {
        let targets = ["Patient".to_owned(), "Group".to_owned()];
        for right in [
            "Patient/1",
            "Group/a.B-c",
            "Patient/1/_history/2",
            "https://x.nl/fhir/Patient/1",
            "https://x.nl/anything?at=all",
            "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
            "urn:oid:1.2.3",
        ] {
            assert_eq!(check(right, &targets, false), Ok(()), "{right}");
        }
        for wrong in [
            "Condition/1",
            "Practitioner/1",
            "https://x.nl/fhir/Condition/1",
            "Nonsense/1",
            "patient/1",
            "Patient/a_b",
            "Patient/1/2",
            "fhir/Patient/1",
            "/Patient/1",
            "Patient",
            "1",
            "Patient/1/_history/",
            "Patient/a b",
            "Patient?identifier=1",
            "?identifier=1",
        ] {
            assert!(check(wrong, &targets, false).is_err(), "{wrong}");
        }
        assert_eq!(check("Patient?identifier=1", &targets, true), Ok(()));
        assert!(check("Condition?identifier=1", &targets, true).is_err());
        assert_eq!(check("Condition/1", &[], false), Ok(()));
    }
}
