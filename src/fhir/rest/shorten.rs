//! Parts of resources, for clients that ask for less: `_summary` and `_elements` (R4, 3.1.1.5.8 and 3.1.1.5.9).

use serde_json::{Map, Value, json};

use super::reply::{Refusal, bad};
use crate::fhir::{
    definitions::{R4, Structure},
    query::Query,
    resources::{OperationOutcome, Resource, Typed as _},
};

/// The parameters that ask for parts.
pub(super) const PARAMETERS: [&str; 2] = ["_summary", "_elements"];

/// Which part of each resource a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// What HL7 marks as the summary.
    Summary,
    /// The narrative.
    Text,
    /// All but the narrative.
    Data,
    /// These elements.
    Elements(Vec<String>),
}

// === impl Part ===

impl Part {
    /// What a query asks for. `_summary=count` is a matter of the search.
    pub(super) fn of(query: &Query) -> Result<Self, Refusal> {
        let summary = match query.get("_summary") {
            None | Some("false" | "count") => Self::Whole,
            Some("true") => Self::Summary,
            Some("text") => Self::Text,
            Some("data") => Self::Data,
            Some(_) => return Err(bad("_summary is true, text, data, count or false")),
        };
        let Some(list) = query.get("_elements") else { return Ok(summary) };
        let first_of = |name: &str| name.trim().split('.').next().unwrap_or_default().to_owned();
        let list: Vec<String> = list.split(',').map(first_of).collect();
        match list.iter().any(String::is_empty) {
            true => Err(bad("_elements names elements, with commas between them")),
            false => Ok(Self::Elements(list)),
        }
    }

    /// The part of a resource; of a bundle, that of each resource in it. Outcomes stay whole.
    pub(super) fn take(&self, resource: &mut Resource) {
        if *self == Self::Whole || resource.type_name() == OperationOutcome::TYPE.as_str() {
            return;
        }
        if resource.type_name() != "Bundle" {
            return self.cut(resource.members_mut());
        }
        let entries = resource.members_mut().get_mut("entry").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let inner = entry.get_mut("resource").and_then(Value::as_object_mut);
            if let Some(members) =
                inner.filter(|members| members.get("resourceType") != Some(&"OperationOutcome".into()))
            {
                self.cut(members);
            }
        }
    }

    fn cut(&self, members: &mut Map<String, Value>) {
        let name = members.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        let Some(structure) = R4.structure(name) else { return };
        members.retain(|name, _| self.keeps(structure, name.strip_prefix('_').unwrap_or(name)));
        mark(members);
    }

    /// Whether the part has a member. What identifies the resource and what must be there is in all of them.
    fn keeps(&self, structure: &Structure, name: &str) -> bool {
        if matches!(name, "resourceType" | "id" | "meta") {
            return true;
        }
        let Some(member) = structure.member(name) else { return false };
        let is_required = structure.required().iter().any(|required| required.element == member.element);
        is_required
            || match self {
                Self::Whole => true,
                Self::Summary => member.summary,
                Self::Text => name == "text",
                Self::Data => name != "text",
                Self::Elements(list) => list.contains(&member.element) || list.iter().any(|listed| listed == name),
            }
    }
}

/// Says in a resource that it is not whole, so that nobody stores it as such (R4, 3.1.1.5.8).
fn mark(members: &mut Map<String, Value>) {
    let meta = members.entry("meta").or_insert_with(|| json!({}));
    let Some(meta) = meta.as_object_mut() else { return };
    let tags = meta.entry("tag").or_insert_with(|| json!([]));
    if let Some(tags) = tags.as_array_mut() {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
        tags.push(json!({"system": system, "code": "SUBSETTED"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(query: &str, of: Value) -> Vec<String> {
        let mut resource: Resource = serde_json::from_value(of).unwrap();
        Part::of(&Query::parse(query).unwrap()).unwrap().take(&mut resource);
        crate::fhir::validation::validate(&resource).unwrap();
        resource.members().keys().filter(|name| *name != "resourceType").cloned().collect()
    }

    #[test]
    fn a_part_has_what_was_asked_for_and_what_must_be_there() {
        let task = json!({
            "resourceType": "Task", "id": "t", "meta": {"versionId": "1", "tag": [{"code": "x"}]},
            "text": {"status": "generated", "div": "<div>x</div>"}, "status": "requested", "_status": {"id": "s"},
            "intent": "order", "description": "long", "note": [{"text": "x"}], "for": {"reference": "Patient/p"}
        });
        let whole = ["id", "meta", "text", "status", "_status", "intent", "description", "note", "for"];
        let must = ["id", "meta", "status", "_status", "intent"];
        let with = |more: &[&str]| {
            let kept = |name: &&str| must.contains(name) || more.contains(name);
            whole.into_iter().filter(kept).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(part("", task.clone()), whole);
        assert_eq!(part("_summary=false", task.clone()), whole);
        assert_eq!(part("_summary=text", task.clone()), with(&["text"]));
        assert_eq!(part("_summary=data", task.clone()), with(&["description", "note", "for"]));
        assert_eq!(part("_summary=true", task.clone()), with(&["description", "for"]));
        assert_eq!(part("_elements=note,for.reference,nonsense", task), with(&["note", "for"]));
        let patient = json!({"resourceType": "Patient", "deceasedBoolean": false, "active": true});
        assert_eq!(part("_elements=deceased", patient), ["deceasedBoolean", "meta"]);
        for wrong in ["_summary=x", "_summary=x&_elements=note", "_elements=", "_elements=note,,for"] {
            assert!(Part::of(&Query::parse(wrong).unwrap()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_whole_says_so() {
        let mut patient: Resource = serde_json::from_value(json!({"resourceType": "Patient"})).unwrap();
        Part::Summary.take(&mut patient);
        assert_eq!(patient.members()["meta"]["tag"][0]["code"], "SUBSETTED");
    }
}
