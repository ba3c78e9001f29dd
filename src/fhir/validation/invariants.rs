//! The invariants of R4 that span several members of one element.

use serde_json::{Map, Value};

use crate::fhir::instant::DateTime;

/// Checks the invariants of a data type; `report` gets a sentence for each that is broken.
pub(super) fn element(kind: &str, members: &Map<String, Value>, report: &mut dyn FnMut(&'static str)) {
    let has = |name: &str| members.contains_key(name);
    match kind {
        "Extension" => {
            let has_value = members.keys().any(|name| name.starts_with("value") || name.starts_with("_value"));
            if has_value == has("extension") {
                report("ext-1: an extension has either a value or extensions");
            }
        }
        "Period" => {
            let moments = |name: &str| DateTime::parse(members.get(name)?.as_str()?)?.moments();
            if let (Some(start), Some(end)) = (moments("start"), moments("end"))
                && start.start >= end.end
            {
                report("per-1: the end is before the start");
            }
        }
        "Attachment" if has("data") && !has("contentType") && !has("_contentType") => {
            report("att-1: data needs a contentType");
        }
        "ContactPoint" if has("value") && !has("system") && !has("_system") => {
            report("cpt-2: a value needs a system");
        }
        "Quantity" | "Age" | "Count" | "Distance" | "Duration" if has("code") && !has("system") => {
            report("qty-3: a code needs a system");
        }
        _ => {}
    }
}

/// Checks the invariants of a resource within another one.
pub(super) fn contained(members: &Map<String, Value>, report: &mut dyn FnMut(&'static str)) {
    if members.contains_key("contained") {
        report("dom-2: a contained resource contains no other");
    }
    let meta = members.get("meta");
    if meta.is_some_and(|meta| meta.get("versionId").is_some() || meta.get("lastUpdated").is_some()) {
        report("dom-4: a contained resource has no version");
    }
    if !members.contains_key("id") {
        report("dom-3: a contained resource needs an id, so that something can refer to it");
    }
}
