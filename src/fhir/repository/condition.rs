//! Search parameters as SQL conditions on the table `resource` (R4, 3.1.1.4 and 3.1.1.5).

use std::borrow::Cow;

use super::values::{COMMON, fold, opening};
use crate::{
    fhir::{
        definitions::{Kind, R4, SearchDefinition, SearchKind},
        id::{self, Key},
        instant::{DateTime, Moments, now_micros},
        query::{split, unescape},
        resources::{Issue, IssueType, OperationOutcome, ResourceType},
        server::FhirError,
    },
    service::database::{self, bounded},
};

/// A value that lives as long as its statement.
pub(super) type Value = database::Value<'static>;

/// A piece of SQL with the values of its question marks, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

/// Chains such as `focus.part-of.subject.name` may be so long.
const LONGEST_CHAIN: usize = 4;
/// Alternatives (`a,b,c`) of one parameter.
const MOST_ALTERNATIVES: usize = 500;
/// Alternatives of one parameter that each need a comparison of their own.
const MOST_COMPARISONS: usize = 50;

// === impl Sql ===

impl Sql {
    fn new(text: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Self {
        Self { text: text.into(), values: values.into_iter().collect() }
    }

    /// `(a) word (b) word (c)`.
    pub(super) fn join(pieces: Vec<Self>, word: &str) -> Self {
        let text = pieces.iter().map(|piece| format!("({})", piece.text)).collect::<Vec<_>>().join(word);
        Self { text, values: pieces.into_iter().flat_map(|piece| piece.values).collect() }
    }
}

/// What is wrong with a query.
pub(super) fn refuse(parameter: &str, text: &str) -> FhirError {
    // Only names that are known are repeated whole; the others are cut.
    let name: String = parameter.chars().take(64).collect();
    FhirError::Invalid(OperationOutcome::boxed(Issue::error(
        IssueType::Invalid,
        format!("the search parameter {name}: {text}"),
    )))
}

/// The condition of one parameter, such as `subject:Patient.identifier=…`.
pub(super) fn of(kind: ResourceType, name: &str, value: &str, base: &str) -> Result<Sql, FhirError> {
    chained(kind, name, value, base, 0)
}

fn chained(kind: ResourceType, name: &str, value: &str, base: &str, depth: usize) -> Result<Sql, FhirError> {
    if let Some(reverse) = name.strip_prefix("_has:") {
        return has(kind, reverse, value, base, depth);
    }
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let (plain, modifier) = match first.split_once(':') {
        Some((plain, modifier)) => (plain, Some(modifier)),
        None => (first, None),
    };
    if let Some(rest) = rest {
        return chain(kind, plain, modifier, rest, value, base, depth);
    }
    match plain {
        "_id" => return ids(name, modifier, value),
        "_lastUpdated" => return last_updated(name, modifier, value),
        _ => {}
    }
    let (found, definition) = lookup(kind, plain).ok_or_else(|| refuse(name, "not known for this type"))?;
    let parameter = format!("{kind}.{plain}");
    if modifier == Some("missing") {
        return missing(name, &parameter, found, value);
    }
    let alternatives = split(value, ',');
    let most = match found {
        SearchKind::Token | SearchKind::Reference | SearchKind::Uri => MOST_ALTERNATIVES,
        SearchKind::Date | SearchKind::String => MOST_COMPARISONS,
    };
    if alternatives.len() > most {
        return Err(refuse(name, "too many alternatives"));
    }
    if alternatives.iter().any(|alternative| alternative.is_empty()) {
        return Err(refuse(name, "a value is missing"));
    }
    match found {
        SearchKind::Token => tokens(name, &parameter, modifier, &alternatives, implied(kind, definition)),
        SearchKind::Uri if modifier.is_none() => Ok(uris(&parameter, &alternatives)),
        SearchKind::String => texts(name, &parameter, modifier, &alternatives),
        SearchKind::Date if modifier.is_none() => dates(name, &parameter, &alternatives),
        SearchKind::Reference if modifier == Some("identifier") => {
            tokens(name, &format!("{parameter}:identifier"), None, &alternatives, None)
        }
        SearchKind::Reference => {
            let targets =
                targets(kind, definition, modifier).ok_or_else(|| refuse(name, "cannot refer to this type"))?;
            references(name, &parameter, &targets, &alternatives, base)
        }
        SearchKind::Uri | SearchKind::Date => Err(refuse(name, "this modifier is not supported")),
    }
}

/// How a parameter is compared, and its definition where it is not one that every type has.
pub(super) fn lookup(kind: ResourceType, name: &str) -> Option<(SearchKind, Option<&'static SearchDefinition>)> {
    match R4.search(kind, name) {
        Some(definition) => Some((definition.kind, Some(definition))),
        None => COMMON.iter().find(|(common, ..)| *common == name).map(|(_, kind, _)| (*kind, None)),
    }
}

fn ids(name: &str, modifier: Option<&str>, value: &str) -> Result<Sql, FhirError> {
    if modifier.is_some() {
        return Err(refuse(name, "this modifier is not supported"));
    }
    let ids: Vec<&str> = value.split(',').collect();
    if ids.len() > MOST_ALTERNATIVES {
        return Err(refuse(name, "too many alternatives"));
    }
    if !ids.iter().all(|text| id::is_id(text)) {
        return Err(refuse(name, "not an id"));
    }
    Ok(Sql::new(format!("id IN ({})", marks(ids.len())), ids.into_iter().map(text)))
}

fn last_updated(name: &str, modifier: Option<&str>, value: &str) -> Result<Sql, FhirError> {
    if modifier.is_some() {
        return Err(refuse(name, "this modifier is not supported"));
    }
    if value.split(',').count() > MOST_COMPARISONS {
        return Err(refuse(name, "too many alternatives"));
    }
    let alternatives = value.split(',').map(|value| comparison(name, value, "updated", "updated + 1"));
    Ok(Sql::join(alternatives.collect::<Result<_, _>>()?, " OR "))
}

fn missing(name: &str, parameter: &str, kind: SearchKind, value: &str) -> Result<Sql, FhirError> {
    let word = match value {
        "true" => "NOT IN",
        "false" => "IN",
        _ => return Err(refuse(name, "true or false is required")),
    };
    let table = table(kind);
    let mut inner = Sql::new(format!("SELECT rid FROM {table} WHERE parameter = ?"), [text(parameter)]);
    if kind == SearchKind::Reference {
        inner.text.push_str(" UNION ALL SELECT rid FROM token WHERE parameter = ?");
        inner.values.push(text(&format!("{parameter}:identifier")));
    }
    Ok(Sql::new(format!("rid {word} ({})", inner.text), inner.values))
}

/// The table that holds the values of a parameter.
pub(super) fn table(kind: SearchKind) -> &'static str {
    match kind {
        SearchKind::Token | SearchKind::Uri => "token",
        SearchKind::Reference => "reference",
        SearchKind::Date => "moment",
        SearchKind::String => "text",
    }
}

fn within(table: &str, parameter: &str, word: &str, alternatives: Vec<Sql>) -> Sql {
    let inner = Sql::join(alternatives, " OR ");
    let values = [text(parameter)].into_iter().chain(inner.values);
    Sql::new(format!("rid {word} (SELECT rid FROM {table} WHERE parameter = ? AND ({}))", inner.text), values)
}

fn tokens(
    name: &str,
    parameter: &str,
    modifier: Option<&str>,
    alternatives: &[&str],
    implied: Option<&str>,
) -> Result<Sql, FhirError> {
    let word = match modifier {
        None => "IN",
        Some("not") => "NOT IN",
        Some(_) => return Err(refuse(name, "this modifier is not supported")),
    };
    let (mut codes, mut systems, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for alternative in alternatives {
        let mut parts: Vec<String> = split(alternative, '|').into_iter().map(unescape).collect();
        if let [system, code] = parts.as_mut_slice()
            && implied == Some(system.as_str())
        {
            match code.is_empty() {
                // Whatever code there is, it is of this system.
                true => {
                    systems.push(indexed(""));
                    continue;
                }
                false => system.clear(),
            }
        }
        match parts.as_slice() {
            [code] => codes.push(indexed(code)),
            [system, code] if code.is_empty() && !system.is_empty() => systems.push(indexed(system)),
            [system, code] if !code.is_empty() => pairs.extend([indexed(code), indexed(system)]),
            _ => return Err(refuse(name, "code or system|code is required")),
        }
    }
    // Lists, because SQLite bounds the depth of an expression and so the number of `OR`s.
    let rows = vec!["(?, ?)"; pairs.len() / 2].join(", ");
    let found = [
        Sql::new(format!("code IN ({})", marks(codes.len())), codes),
        Sql::new(format!("system IN ({})", marks(systems.len())), systems),
        Sql::new(format!("(code, system) IN (VALUES {rows})"), pairs),
    ];
    let found = found.into_iter().filter(|found| !found.values.is_empty());
    Ok(within("token", parameter, word, found.collect()))
}

fn uris(parameter: &str, alternatives: &[&str]) -> Sql {
    let found = Sql::new(
        format!("code IN ({})", marks(alternatives.len())),
        alternatives.iter().map(|uri| indexed(&unescape(uri))),
    );
    within("token", parameter, "IN", vec![found])
}

fn texts(name: &str, parameter: &str, modifier: Option<&str>, alternatives: &[&str]) -> Result<Sql, FhirError> {
    let one = |alternative: &&str| {
        let plain = unescape(alternative);
        let folded = opening(&fold(&plain)).to_owned();
        match modifier {
            // What begins with a text lies between it and it with the last character of all behind.
            None => {
                let after = format!("{folded}{}", char::MAX);
                Ok(Sql::new("folded >= ? AND folded < ?", [text(&folded), text(&after)]))
            }
            Some("exact") => Ok(Sql::new("exact = ?", [text(opening(&plain))])),
            Some("contains") => Ok(Sql::new("replace(folded, ?, '') <> folded", [text(&folded)])),
            Some(_) => Err(refuse(name, "this modifier is not supported")),
        }
    };
    Ok(within("text", parameter, "IN", alternatives.iter().map(one).collect::<Result<_, _>>()?))
}

fn dates(name: &str, parameter: &str, alternatives: &[&str]) -> Result<Sql, FhirError> {
    let alternatives = alternatives.iter().map(|value| comparison(name, value, "low", "high"));
    Ok(within("moment", parameter, "IN", alternatives.collect::<Result<_, _>>()?))
}

/// Compares the moments from `low` up to `high` with a date that may have a prefix (R4, 3.1.1.4.7).
fn comparison(name: &str, value: &str, low: &str, high: &str) -> Result<Sql, FhirError> {
    let (prefix, date) = match value.get(..2) {
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_lowercase()) => (prefix, &value[2..]),
        _ => ("eq", value),
    };
    let Moments { start, end } = DateTime::searched(date).ok_or_else(|| refuse(name, "not a date"))?;
    let both = [Value::Integer(start), Value::Integer(end)];
    Ok(match prefix {
        "eq" => Sql::new(format!("{low} >= ? AND {high} <= ?"), both),
        "ne" => Sql::new(format!("{low} < ? OR {high} > ?"), both),
        "gt" => Sql::new(format!("{high} > ?"), [Value::Integer(end)]),
        "lt" => Sql::new(format!("{low} < ?"), [Value::Integer(start)]),
        "ge" => Sql::new(format!("{low} >= ? OR {high} > ?"), both),
        "le" => Sql::new(format!("{low} < ? OR {high} <= ?"), both),
        "sa" => Sql::new(format!("{low} >= ?"), [Value::Integer(end)]),
        "eb" => Sql::new(format!("{high} <= ?"), [Value::Integer(start)]),
        "ap" => {
            let margin = (now_micros().saturating_sub(start)).saturating_abs() / 10;
            let (start, end) = (start.saturating_sub(margin), end.saturating_add(margin));
            Sql::new(format!("{low} < ? AND {high} > ?"), [Value::Integer(end), Value::Integer(start)])
        }
        _ => return Err(refuse(name, "this prefix is not known")),
    })
}

/// The types that a reference parameter may point to.
fn targets(
    kind: ResourceType,
    definition: Option<&SearchDefinition>,
    modifier: Option<&str>,
) -> Option<Vec<ResourceType>> {
    let wanted = match modifier {
        Some(name) => Some(name.parse().ok()?),
        None => None,
    };
    let mut found: Vec<ResourceType> = Vec::new();
    for path in definition.into_iter().flat_map(|definition| &definition.paths) {
        let allowed = match &path.target {
            Some(target) => vec![target.clone()],
            None => allowed_at(kind, &path.steps),
        };
        let all = allowed.is_empty();
        found.extend(ResourceType::ALL.iter().filter(|kind| all || allowed.iter().any(|name| name == kind.as_str())));
    }
    found.sort();
    found.dedup();
    match wanted {
        Some(wanted) => found.contains(&wanted).then(|| vec![wanted]),
        None => Some(found),
    }
}

fn allowed_at(kind: ResourceType, steps: &[String]) -> Vec<String> {
    match R4.member_at(kind, steps).map(|member| &member.kind) {
        Some(Kind::Reference(targets)) => targets.clone(),
        _ => Vec::new(),
    }
}

/// The code system of an element that is a `code`: it is not stored, because R4 implies it (R4, 3.1.1.4.10).
fn implied(kind: ResourceType, definition: Option<&SearchDefinition>) -> Option<&'static str> {
    let path = definition?.paths.first()?;
    R4.member_at(kind, &path.steps)?.system.as_deref()
}

fn references(
    name: &str,
    parameter: &str,
    targets: &[ResourceType],
    alternatives: &[&str],
    base: &str,
) -> Result<Sql, FhirError> {
    let mut wanted = Vec::new();
    for alternative in alternatives {
        let reference = unescape(alternative);
        let reference = reference.strip_prefix(base).unwrap_or(&reference);
        if id::is_id(reference) {
            wanted.extend(targets.iter().map(|target| text(&format!("{target}/{reference}"))));
        } else if let Some(key) = Key::parse(reference) {
            // An absolute reference to another server stays what it is.
            let own = if reference.contains("://") { reference.to_owned() } else { key.to_string() };
            wanted.push(indexed(&own));
        } else if reference.contains(':') {
            wanted.push(indexed(reference));
        } else {
            return Err(refuse(name, "id, Type/id or a URL is required"));
        }
    }
    let found = Sql::new(format!("target IN ({})", marks(wanted.len())), wanted);
    Ok(within("reference", parameter, "IN", vec![found]))
}

fn chain(
    kind: ResourceType,
    name: &str,
    modifier: Option<&str>,
    rest: &str,
    value: &str,
    base: &str,
    depth: usize,
) -> Result<Sql, FhirError> {
    if depth >= LONGEST_CHAIN {
        return Err(refuse(name, "this chain is too long"));
    }
    let Some((SearchKind::Reference, definition)) = lookup(kind, name) else {
        return Err(refuse(name, "only a reference can be followed"));
    };
    let targets = targets(kind, definition, modifier).ok_or_else(|| refuse(name, "cannot refer to this type"))?;
    let mut alternatives = Vec::new();
    let mut last = refuse(name, "nothing that it refers to has such a parameter");
    for target in targets.into_iter().filter(|target| R4.is_stored(*target)) {
        match chained(target, rest, value, base, depth + 1) {
            Ok(found) => {
                let values = [text(target.as_str())].into_iter().chain(found.values);
                let inner = format!("SELECT kind || '/' || id FROM resource WHERE kind = ? AND ({})", found.text);
                alternatives.push(Sql::new(format!("target IN ({inner})"), values));
            }
            Err(error) => last = error,
        }
    }
    if alternatives.is_empty() {
        return Err(last);
    }
    Ok(within("reference", &format!("{kind}.{name}"), "IN", alternatives))
}

/// `_has:Type:reference:parameter`: others refer to it that match (R4, 3.1.1.4.14).
fn has(kind: ResourceType, name: &str, value: &str, base: &str, depth: usize) -> Result<Sql, FhirError> {
    if depth >= LONGEST_CHAIN {
        return Err(refuse("_has", "this chain is too long"));
    }
    let wrong = || refuse("_has", "_has:Type:reference:parameter is required, a reference to this type");
    let mut parts = name.splitn(3, ':');
    let (Some(source), Some(reference), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let source: ResourceType = source.parse().map_err(|_| wrong())?;
    let Some((SearchKind::Reference, definition)) = lookup(source, reference) else { return Err(wrong()) };
    if !targets(source, definition, None).is_some_and(|targets| targets.contains(&kind)) {
        return Err(wrong());
    }
    let found = chained(source, rest, value, base, depth + 1)?;
    let values = [text(&format!("{source}.{reference}")), text(source.as_str())].into_iter().chain(found.values);
    let others = format!("SELECT rid FROM resource WHERE kind = ? AND ({})", found.text);
    let named = format!("SELECT target FROM reference WHERE parameter = ? AND rid IN ({others})");
    Ok(Sql::new(format!("kind || '/' || id IN ({named})"), values))
}

pub(super) fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

/// A text as it stands in an index.
fn indexed(text: &str) -> Value {
    Value::Text(Cow::Owned(bounded(text).into_owned()))
}

/// So many question marks.
pub(super) fn marks(number: usize) -> String {
    vec!["?"; number].join(", ")
}
