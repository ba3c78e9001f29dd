//! What a resource can be found by: the values of its search parameters.

use serde_json::{Map, Value};

use crate::fhir::{
    definitions::{R4, SearchDefinition, SearchKind, SearchPath},
    instant::DateTime,
    resources::{Resource, ResourceType},
};

/// One value of a search parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// A code or identifier. An empty `system` means none.
    Token { system: String, code: String },
    /// `Type/id`, with a version where there was one, or a URL.
    Reference(String),
    /// A text.
    Text(String),
    /// A period, in microseconds; see [`crate::fhir::instant::Moments`].
    Moments { low: i64, high: i64 },
}

/// Search parameters that every type has, besides `_id` and `_lastUpdated` (R4, 3.1.1.4).
pub(super) const COMMON: &[(&str, SearchKind, &str)] = &[
    ("_tag", SearchKind::Token, "tag"),
    ("_security", SearchKind::Token, "security"),
    ("_profile", SearchKind::Uri, "profile"),
    ("_source", SearchKind::Uri, "source"),
];

/// All values of a resource, with the names of their parameters. The identifier of a reference is found as
/// `name:identifier`.
///
/// References that begin with `base`, this server's own address with a slash at its end, are kept without it.
pub(super) fn of(kind: ResourceType, resource: &Resource, base: &str) -> Vec<(String, Found)> {
    let mut values = Vec::new();
    for (name, definition) in R4.searches(kind) {
        collect(name, definition, resource.members(), &mut values);
    }
    if let Some(meta) = resource.members().get("meta") {
        for (name, kind, member) in COMMON {
            for value in each(meta.get(*member)) {
                found(name, *kind, None, value, &mut values);
            }
        }
    }
    for (_, value) in &mut values {
        if let Found::Reference(reference) = value
            && let Some(relative) = reference.strip_prefix(base)
        {
            *reference = relative.to_owned();
        }
    }
    values.sort();
    values.dedup();
    values
}

fn collect(name: &str, definition: &SearchDefinition, members: &Map<String, Value>, values: &mut Vec<(String, Found)>) {
    if definition.is_flag {
        let says_so = |path: &SearchPath| ends(path, members).into_iter().any(|value| *value != Value::Bool(false));
        let is_so = Value::Bool(definition.paths.iter().any(says_so));
        return found(name, definition.kind, None, &is_so, values);
    }
    for path in &definition.paths {
        for value in ends(path, members).into_iter().filter(|value| is_of_system(path, value)) {
            found(name, definition.kind, path.target.as_deref(), value, values);
        }
    }
}

/// The values to which a path leads.
fn ends<'a>(path: &SearchPath, members: &'a Map<String, Value>) -> Vec<&'a Value> {
    let Some((first, rest)) = path.steps.split_first() else { return Vec::new() };
    let start = each(members.get(first));
    rest.iter().fold(start, |at, step| at.iter().flat_map(|value| each(value.get(step))).collect())
}

fn each(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

fn is_of_system(path: &SearchPath, value: &Value) -> bool {
    path.system.as_deref().is_none_or(|system| value.get("system").and_then(Value::as_str) == Some(system))
}

fn found(name: &str, kind: SearchKind, target: Option<&str>, value: &Value, values: &mut Vec<(String, Found)>) {
    let mut push = |found| values.push((name.to_owned(), found));
    match kind {
        SearchKind::Token => tokens(value).into_iter().for_each(push),
        SearchKind::Uri => {
            if let Some(uri) = value.as_str() {
                push(Found::Token { system: String::new(), code: uri.to_owned() });
            }
        }
        SearchKind::String => texts(value).into_iter().for_each(|text| push(Found::Text(text))),
        SearchKind::Date => moments(value).into_iter().for_each(push),
        SearchKind::Reference => references(name, target, value, values),
    }
}

/// Codes in all the data types that hold one (R4, 3.1.1.4.10).
fn tokens(value: &Value) -> Vec<Found> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let token = |system: &str, code: &str| vec![Found::Token { system: system.to_owned(), code: code.to_owned() }];
    match value {
        Value::String(code) => token("", code),
        Value::Bool(flag) => token("", if *flag { "true" } else { "false" }),
        Value::Object(members) if members.contains_key("coding") => {
            each(members.get("coding")).into_iter().flat_map(tokens).collect()
        }
        // Coding has a code; Identifier and ContactPoint have a value. A contact point's system is no namespace.
        Value::Object(_) => match (text("code"), text("value")) {
            (Some(code), _) => token(text("system").unwrap_or_default(), code),
            (None, Some(value)) => token(text("system").unwrap_or_default(), value),
            (None, None) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The texts in a string, a name or an address.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Object(members) => {
            let parts = ["text", "family", "given", "prefix", "suffix", "line", "city", "district", "state"];
            let parts = parts.iter().chain(&["postalCode", "country"]);
            let all = parts.flat_map(|part| each(members.get(*part)));
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn moments(value: &Value) -> Vec<Found> {
    let read = |value: Option<&Value>| DateTime::parse(value?.as_str()?)?.moments();
    let found = match value {
        Value::String(_) => read(Some(value)).map(|moments| (moments.start, moments.end)),
        Value::Object(period) => {
            let start = read(period.get("start")).map_or(i64::MIN, |moments| moments.start);
            let end = read(period.get("end")).map_or(i64::MAX, |moments| moments.end);
            Some((start, end))
        }
        _ => None,
    };
    found.map(|(low, high)| Found::Moments { low, high }).into_iter().collect()
}

fn references(name: &str, target: Option<&str>, value: &Value, values: &mut Vec<(String, Found)>) {
    let reference = value.as_str().or_else(|| value.get("reference").and_then(Value::as_str));
    let kind = reference.and_then(type_in);
    let stated = value.get("type").and_then(Value::as_str);
    if target.is_some_and(|target| kind.or(stated).is_some_and(|kind| kind != target)) {
        return;
    }
    if let Some(reference) = reference {
        values.push((name.to_owned(), Found::Reference(reference.to_owned())));
        // A reference to a version is also one to the resource.
        if let Some((resource, _)) = reference.split_once("/_history/") {
            values.push((name.to_owned(), Found::Reference(resource.to_owned())));
        }
    }
    if let Some(identifier) = value.get("identifier") {
        let name = format!("{name}:identifier");
        values.extend(tokens(identifier).into_iter().map(|found| (name.clone(), found)));
    }
}

/// The type that a literal reference names, also one that is not known here.
fn type_in(reference: &str) -> Option<&str> {
    let resource = reference.split_once("/_history/").map_or(reference, |(resource, _)| resource);
    let (before, _) = resource.rsplit_once('/')?;
    let kind = before.rsplit_once('/').map_or(before, |(_, kind)| kind);
    kind.starts_with(|first: char| first.is_ascii_uppercase()).then_some(kind)
}

/// What of a text is found by searches: its first 250 characters, which also fit into an index of PostgreSQL.
pub(super) fn opening(text: &str) -> &str {
    text.char_indices().nth(250).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// A text as it is compared: small letters, no accents (R4, 3.1.1.4.8).
pub(super) fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).map(plain).collect()
}

/// The letter without its accent, for the accents of European languages.
fn plain(letter: char) -> char {
    match letter {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ĥ' | 'ħ' => 'h',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => 'i',
        'ĵ' => 'j',
        'ķ' => 'k',
        'ĺ' | 'ļ' | 'ľ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => 'o',
        'ŕ' | 'ŗ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => 's',
        'ţ' | 'ť' | 'ŧ' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => 'u',
        'ŵ' => 'w',
        'ý' | 'ÿ' | 'ŷ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(value: Value) -> Vec<(String, Found)> {
        let resource: Resource = serde_json::from_value(value).unwrap();
        of(resource.kind().unwrap(), &resource, "http://localhost/fhir/")
    }

    #[test]
    fn values_are_found_in_their_places() {
        let found = values(json!({
            "resourceType": "Communication", "status": "completed", "sent": "2026-11-22",
            "identifier": [{"system": "https://matrix.org/event-id", "value": "$a"}],
            "partOf": [{"reference": "CommunicationRequest/t"}],
            "sender": {"identifier": {"system": "s", "value": "@a:b"}},
            "subject": {"reference": "Patient/p"},
            "medium": [{"coding": [{"system": "m", "code": "c"}], "text": "x"}]
        }));
        let token = |name: &str, system: &str, code: &str| {
            (name.to_owned(), Found::Token { system: system.to_owned(), code: code.to_owned() })
        };
        let reference = |name: &str, target: &str| (name.to_owned(), Found::Reference(target.to_owned()));
        for expected in [
            token("status", "", "completed"),
            token("identifier", "https://matrix.org/event-id", "$a"),
            token("sender:identifier", "s", "@a:b"),
            token("medium", "m", "c"),
            reference("part-of", "CommunicationRequest/t"),
            reference("patient", "Patient/p"),
            reference("subject", "Patient/p"),
        ] {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn a_patient_is_only_a_patient() {
        let found = values(json!({"resourceType": "CareTeam", "subject": {"reference": "Group/g"}}));
        assert!(found.iter().all(|(name, _)| name == "subject"), "{found:?}");
    }

    #[test]
    fn accents_and_capitals_do_not_matter() {
        assert_eq!(fold("Zoë Ångström-ÇELİK"), "zoe angstrom-celi\u{307}k");
    }
}
