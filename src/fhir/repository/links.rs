//! The links between the resources of a transaction (R4, 3.1.0.11.3): `fullUrl`s become the places that the resources
//! get, wherever a link may stand; conditional references become what matches.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::fhir::{
    definitions::{Kind, R4},
    id::Key,
    resources::Resource,
};

/// What stands for what.
#[derive(Clone, Default)]
pub(super) struct Links {
    places: HashMap<String, String>,
    conditions: HashMap<String, String>,
}

/// What the members of an element are, of which not all types are known.
type Structure = Option<&'static crate::fhir::definitions::Structure>;

// === impl Links ===

impl Links {
    /// Takes note of the place of a resource; false when something else has the same `fullUrl`.
    pub(super) fn place(&mut self, full_url: &str, key: &Key) -> bool {
        self.places.insert(full_url.to_owned(), key.to_string()).is_none()
    }

    /// Takes note of what matches a conditional reference.
    pub(super) fn settle(&mut self, condition: &str, key: &Key) {
        self.conditions.insert(condition.to_owned(), key.to_string());
    }

    /// Puts places where `fullUrl`s stand. A relative reference is one below the base of the entry's own `fullUrl`,
    /// where that is the address of a resource (R4, 2.36.4.1). Gives the conditional references that are left.
    pub(super) fn rewrite(&self, resource: &mut Resource, full_url: Option<&str>) -> Vec<String> {
        let mut left = Vec::new();
        let base = full_url.and_then(|url| {
            let key = Key::parse(url).filter(|_| url.contains("://"))?;
            url.strip_suffix(&key.to_string())
        });
        let structure = R4.structure(resource.type_name());
        each_link(structure, resource.members_mut(), &mut |link, is_reference| {
            let absolute = base.filter(|_| is_reference).map(|base| format!("{base}{link}"));
            let found = self.places.get(link.as_str()).or_else(|| self.places.get(absolute.as_ref()?));
            let found = found.or_else(|| self.conditions.get(link.as_str()).filter(|_| is_reference));
            if let Some(place) = found {
                place.clone_into(link);
            } else if is_reference && link.contains('?') && super::hooks::criteria(link).is_some() {
                left.push(link.clone());
            }
        });
        left
    }
}

/// Calls `change` for each text that may be a link: references, which it is told, elements of the types uri, url, oid
/// and uuid, and the links of a narrative. A canonical is none.
fn each_link(structure: Structure, members: &mut Map<String, Value>, change: &mut impl FnMut(&mut String, bool)) {
    for (name, value) in members {
        let member = structure.and_then(|structure| structure.member(name));
        match member.map(|member| &member.kind) {
            Some(Kind::Primitive(kind)) => match kind.as_str() {
                "uri" | "url" | "oid" | "uuid" => each_text(value, &mut |text| change(text, false)),
                "xhtml" => each_text(value, &mut |text| in_narrative(text, change)),
                // What a Reference holds is declared as a string.
                _ if name == "reference" => each_text(value, &mut |text| change(text, true)),
                _ => {}
            },
            Some(Kind::Resource) => each_object(value, &mut |members| {
                let kind = members.get("resourceType").and_then(Value::as_str).unwrap_or_default();
                each_link(R4.structure(kind), members, change);
            }),
            Some(kind) => {
                let structure = R4.structure(kind.name());
                each_object(value, &mut |members| each_link(structure, members, change));
            }
            // The extensions of a primitive; or a member of a type that is not known.
            None if name == "reference" && value.is_string() => each_text(value, &mut |text| change(text, true)),
            None => {
                let structure = if name.starts_with('_') { R4.structure("Element") } else { None };
                each_object(value, &mut |members| each_link(structure, members, change));
            }
        }
    }
}

fn each_text(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(list) => list.iter_mut().for_each(|value| each_text(value, change)),
        _ => {}
    }
}

fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => change(members),
        Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, change)),
        _ => {}
    }
}

/// Changes what `href` and `src` name in a narrative.
fn in_narrative(text: &mut String, change: &mut impl FnMut(&mut String, bool)) {
    let (mut written, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some((at, quote)) = next_link(rest) {
        let (before, after) = rest.split_at(at);
        let end = after.find(quote).unwrap_or(after.len());
        let (link, behind) = after.split_at(end);
        let mut link = link.to_owned();
        change(&mut link, false);
        written.push_str(before);
        written.push_str(&link);
        rest = behind;
    }
    written.push_str(rest);
    *text = written;
}

/// Where the value of the next `href="…"` or `src='…'` begins, and its quote.
fn next_link(text: &str) -> Option<(usize, char)> {
    let names = ["href=\"", "href='", "src=\"", "src='"];
    let found = names.iter().filter_map(|name| Some((text.find(name)? + name.len(), name))).min()?;
    Some((found.0, found.1.chars().last()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UUID: &str = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520";

    #[test]
    fn a_link_is_rewritten_wherever_one_may_stand() {
        let write = |link: &str| {
            let resource = json!({
                "resourceType": "Communication", "status": "completed",
                "_status": {"extension": [{"url": "http://x", "valueReference": {"reference": link}}]},
                "identifier": [{"system": "urn:ietf:rfc:3986", "value": UUID}],
                "instantiatesUri": ["http://x", link],
                "instantiatesCanonical": [UUID],
                "extension": [{"url": "http://x", "valueUuid": link}, {"url": "http://y", "valueString": UUID}],
                "text": {"status": "generated", "div":
                    format!("<div><a href=\"{link}\">{UUID}</a><img src='{link}'/><a href=\"#x\">y</a></div>")},
                "contained": [
                    {"resourceType": "Provenance", "id": "v", "target": [{"reference": link}]},
                    {"resourceType": "Task", "id": "t", "focus": {"reference": link}}
                ],
                "payload": [{"contentAttachment": {"url": link}}, {"contentReference": {"reference": link}}]
            });
            serde_json::from_value::<Resource>(resource).unwrap()
        };
        let mut links = Links::default();
        assert!(links.place(UUID, &Key::parse("Task/1").unwrap()));
        assert!(!links.place(UUID, &Key::parse("Task/2").unwrap()));
        links.place(UUID, &Key::parse("Task/1").unwrap());
        let mut resource = write(UUID);
        links.rewrite(&mut resource, None);
        assert_eq!(resource, write("Task/1"));
    }

    #[test]
    fn a_relative_reference_is_one_beside_its_own_entry() {
        let mut links = Links::default();
        links.place("https://x.nl/fhir/Patient/1", &Key::parse("Patient/new").unwrap());
        for (full_url, found) in [
            (Some("https://x.nl/fhir/Task/7"), "Patient/new"),
            (Some("https://y.nl/fhir/Task/7"), "Patient/1"),
            (Some(UUID), "Patient/1"),
            (None, "Patient/1"),
        ] {
            let task = json!({"resourceType": "Task", "for": {"reference": "Patient/1"}});
            let mut task: Resource = serde_json::from_value(task).unwrap();
            links.rewrite(&mut task, full_url);
            assert_eq!(task.members()["for"]["reference"], found, "{full_url:?}");
        }
    }
}
