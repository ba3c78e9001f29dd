//! The invariants of R4 that span several members of one element: those of data types, and of the resource types of
//! the mapping.

use serde_json::{Map, Value};

use crate::fhir::{id::Key, instant::DateTime, resources::ResourceType};

/// Checks the invariants of a data type, a backbone element (`CareTeam.participant`) or a resource; `report` gets a
/// sentence for each that is broken.
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
        "AuditEvent.entity" if has("name") && has("query") => {
            report("sev-1: either a name or a query, not both");
        }
        "Bundle.entry" if text(members, "fullUrl").is_some_and(|url| url.contains("/_history/")) => {
            report("bdl-8: a fullUrl names no version");
        }
        "CareTeam.participant" if has("onBehalfOf") => {
            let member = members.get("member").and_then(Value::as_object);
            let key = member.and_then(|member| Key::parse(text(member, "reference")?));
            if key.is_some_and(|key| key.kind != ResourceType::Practitioner) {
                report("ctm-1: only a Practitioner is a member on behalf of somebody");
            }
        }
        "Organization" => organisation(members, report),
        "Patient.contact" if !["name", "telecom", "address", "organization"].into_iter().any(has) => {
            report("pat-1: a contact needs a name, telecom, address or organization");
        }
        "Task" => {
            let moments = |name: &str| DateTime::parse(text(members, name)?)?.moments();
            if let (Some(authored), Some(modified)) = (moments("authoredOn"), moments("lastModified"))
                && modified.end <= authored.start
            {
                report("inv-1: lastModified is before authoredOn");
            }
        }
        _ => {}
    }
}

fn organisation(members: &Map<String, Value>, report: &mut dyn FnMut(&'static str)) {
    if !members.contains_key("name") && !members.contains_key("identifier") {
        report("org-1: a name or an identifier is required");
    }
    let is_home = |name: &str| {
        let list = members.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|one| one.get("use")?.as_str()).any(|usage| usage == "home")
    };
    if is_home("telecom") {
        report("org-2: an organization is not reached at home");
    }
    if is_home("address") {
        report("org-3: an organization has no home address");
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
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
    if meta.is_some_and(|meta| meta.get("security").is_some()) {
        report("dom-5: a contained resource has no security labels");
    }
    if !members.contains_key("id") {
        report("dom-3: a contained resource needs an id, so that something can refer to it");
    }
}
