//! A search as it will be carried out: conditions, order, page, what to include.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::condition::{self, Sql, Value, lookup, refuse, table, text};
use crate::fhir::{definitions::SearchKind, query::Query, resources::ResourceType, server::FhirError};

/// Entries on a page when nothing is asked.
pub(super) const USUAL_COUNT: u32 = 50;
/// Entries on a page at most.
pub(super) const MOST_COUNT: u32 = 500;
/// Parameters of one query at most; each becomes a condition.
const MOST_PARAMETERS: usize = 50;
/// Keys of an order at most; each becomes a column.
const MOST_KEYS: usize = 16;
/// Values of one statement at most; SQLite takes 32,766.
const MOST_VALUES: usize = 20_000;
/// The parameter that tells where a page begins.
pub(super) const CURSOR: &str = "_cursor";

/// The parameters that say what a page holds, not what matches.
pub(super) const RESULTS: [&str; 8] =
    ["_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude", CURSOR];

/// A search.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) condition: Sql,
    pub(super) sort: Vec<SortKey>,
    pub(super) count: u32,
    pub(super) total: bool,
    pub(super) includes: Vec<Include>,
    pub(super) after: Option<Vec<Value>>,
}

/// One key of the order: an SQL expression on `resource`.
#[derive(Debug)]
pub(super) struct SortKey {
    pub(super) expression: Sql,
    pub(super) descending: bool,
    /// Whether it is a number; else it is a text.
    is_number: bool,
}

/// What comes along with what matches.
#[derive(Debug)]
pub(super) struct Include {
    /// True for `_revinclude`: what refers to the matches; else what they refer to.
    pub(super) reverse: bool,
    /// Which references are followed: a condition on the table `reference`.
    pub(super) references: Sql,
    /// Only this type.
    pub(super) target: Option<ResourceType>,
    /// Whether what was included is followed, too (`:iterate`).
    pub(super) again: bool,
}

// === impl Plan ===

impl Plan {
    /// Reads a query. Parameters that are not known are refused: what a client believes to have asked for, holds.
    pub(super) fn read(kind: ResourceType, query: &Query, base: &str) -> Result<Self, FhirError> {
        if query.parameters().count() > MOST_PARAMETERS {
            return Err(refuse("", "too many parameters"));
        }
        let mut plan = Self {
            condition: Sql::default(),
            sort: Vec::new(),
            count: USUAL_COUNT,
            total: true,
            includes: Vec::new(),
            after: None,
        };
        let mut conditions = vec![Sql { text: "kind = ?".to_owned(), values: vec![text(kind.as_str())] }];
        for (name, value) in query.parameters() {
            match name {
                "_count" => plan.count = count(value)?,
                "_sort" => plan.sort = sort(kind, value)?,
                "_total" => plan.total = total(value)?,
                "_summary" => match value {
                    "count" => plan.count = 0,
                    // Which part of a resource a client gets is a matter of the answer.
                    "true" | "text" | "data" | "false" => {}
                    _ => return Err(refuse(name, "true, text, data, count or false is required")),
                },
                "_elements" => {}
                "_include" | "_include:iterate" | "_include:recurse" => {
                    plan.includes.push(Include::read(name, value, false)?);
                }
                "_revinclude" | "_revinclude:iterate" | "_revinclude:recurse" => {
                    plan.includes.push(Include::read(name, value, true)?);
                }
                CURSOR => plan.after = Some(read_cursor(value).ok_or_else(|| refuse(name, "not a cursor"))?),
                _ => conditions.push(condition::of(kind, name, value, base)?),
            }
        }
        plan.condition = Sql::join(conditions, " AND ");
        if plan.condition.values.len() > MOST_VALUES {
            return Err(refuse("", "too many values altogether"));
        }
        let numbers: Vec<bool> = plan.sort.iter().map(|key| key.is_number).chain([true]).collect();
        let fits = |after: &Vec<Value>| after.iter().map(|key| matches!(key, Value::Integer(_))).eq(numbers);
        if !plan.after.as_ref().is_none_or(fits) {
            return Err(refuse(CURSOR, "of another search"));
        }
        Ok(plan)
    }

    /// The statement for a page: `seq`, `rid` and the sort keys, one row more than the page has.
    pub(super) fn page(&self) -> Sql {
        let mut values = Vec::new();
        let mut columns = String::new();
        for (number, key) in self.sort.iter().enumerate() {
            columns.push_str(&format!(", {} AS k{number}", key.expression.text));
            values.extend(key.expression.values.iter().cloned());
        }
        values.extend(self.condition.values.iter().cloned());
        let mut text =
            format!("SELECT * FROM (SELECT seq, rid{columns} FROM resource WHERE {}) AS found", self.condition.text);
        let mut keys: Vec<(String, bool)> =
            self.sort.iter().enumerate().map(|(number, key)| (format!("k{number}"), key.descending)).collect();
        keys.push(("rid".to_owned(), false));
        if let Some(after) = &self.after {
            let behind = behind(&keys, after);
            text.push_str(&format!(" WHERE {}", behind.text));
            values.extend(behind.values);
        }
        let order = keys.iter().map(|(key, descending)| format!("{key}{}", if *descending { " DESC" } else { "" }));
        text.push_str(&format!(" ORDER BY {} LIMIT ?", order.collect::<Vec<_>>().join(", ")));
        values.push(Value::Integer(i64::from(self.count) + 1));
        Sql { text, values }
    }

    /// The statement that counts all matches.
    pub(super) fn counting(&self) -> Sql {
        Sql {
            text: format!("SELECT count(*) FROM resource WHERE {}", self.condition.text),
            values: self.condition.values.clone(),
        }
    }
}

/// Whether a query of a type may have a parameter, whatever its modifier and chain.
pub(crate) fn is_parameter(kind: ResourceType, name: &str) -> bool {
    let plain = name.split([':', '.']).next().unwrap_or_default();
    RESULTS.contains(&plain) || matches!(plain, "_id" | "_lastUpdated" | "_has") || lookup(kind, plain).is_some()
}

/// `(a > ?) OR (a = ? AND b > ?) …`: what stands behind a row in the order of the keys.
fn behind(keys: &[(String, bool)], after: &[Value]) -> Sql {
    let mut alternatives = Vec::new();
    for (number, (key, descending)) in keys.iter().enumerate() {
        let mut text: String = keys[..number].iter().map(|(key, _)| format!("{key} = ? AND ")).collect();
        text.push_str(&format!("{key} {} ?", if *descending { '<' } else { '>' }));
        alternatives.push(Sql { text, values: after.iter().take(number + 1).cloned().collect() });
    }
    Sql::join(alternatives, " OR ")
}

fn count(value: &str) -> Result<u32, FhirError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("_count", "a whole number is required"));
    }
    // However many are asked for, a page holds so many.
    Ok(value.parse().unwrap_or(MOST_COUNT).min(MOST_COUNT))
}

fn total(value: &str) -> Result<bool, FhirError> {
    match value {
        "none" => Ok(false),
        "estimate" | "accurate" => Ok(true),
        _ => Err(refuse("_total", "none, estimate or accurate is required")),
    }
}

fn sort(kind: ResourceType, value: &str) -> Result<Vec<SortKey>, FhirError> {
    if value.split(',').count() > MOST_KEYS {
        return Err(refuse("_sort", "too many keys"));
    }
    value.split(',').map(|key| sort_key(kind, key)).collect()
}

fn sort_key(kind: ResourceType, key: &str) -> Result<SortKey, FhirError> {
    let (name, descending) = key.strip_prefix('-').map_or((key, false), |name| (name, true));
    let plain = |column: &str| Sql { text: column.to_owned(), values: Vec::new() };
    let mut is_number = name == "_lastUpdated";
    let expression = match name {
        "_id" => plain("id"),
        "_lastUpdated" => plain("updated"),
        _ => {
            let (found, _) = lookup(kind, name).ok_or_else(|| refuse("_sort", "a search parameter is required"))?;
            is_number = found == SearchKind::Date;
            let column = match found {
                SearchKind::Token | SearchKind::Uri => "code",
                SearchKind::Reference => "target",
                SearchKind::Date => "low",
                SearchKind::String => "folded",
            };
            // What has no value comes last going up and, as the least of all, last going down.
            let (choice, nothing) = match (descending, found) {
                (false, SearchKind::Date) => ("min", Value::Integer(i64::MAX)),
                (true, SearchKind::Date) => ("max", Value::Integer(i64::MIN)),
                (false, _) => ("min", text(&char::MAX.to_string())),
                (true, _) => ("max", text("")),
            };
            let parameter = format!("{kind}.{name}");
            let table = table(found);
            Sql {
                text: format!(
                    "coalesce((SELECT {choice}({column}) FROM {table} v WHERE v.rid = resource.rid AND \
                     v.parameter = ?), ?)"
                ),
                values: vec![text(&parameter), nothing],
            }
        }
    };
    Ok(SortKey { expression, descending, is_number })
}

// === impl Include ===

impl Include {
    fn read(name: &str, value: &str, reverse: bool) -> Result<Self, FhirError> {
        let again = name.contains(':');
        let mut parts = value.split(':');
        let (source, parameter, target) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let wrong = || refuse(name, "Type:parameter is required, a reference, or Type:*");
        if parts.next().is_some() {
            return Err(wrong());
        }
        if (source, parameter) == ("*", None) && !reverse {
            let references = Sql { text: "true".to_owned(), values: Vec::new() };
            return Ok(Self { reverse, references, target: None, again });
        }
        let source: ResourceType = source.parse().map_err(|_| wrong())?;
        let references = match parameter {
            Some("*") => {
                // What begins with `Type.`: the character after the dot is the slash.
                let bounds = [format!("{source}."), format!("{source}/")];
                Sql { text: "parameter > ? AND parameter < ?".to_owned(), values: bounds.map(Value::from).into() }
            }
            Some(name) if matches!(lookup(source, name), Some((SearchKind::Reference, _))) => {
                Sql { text: "parameter = ?".to_owned(), values: vec![text(&format!("{source}.{name}"))] }
            }
            _ => return Err(wrong()),
        };
        let target = match target {
            Some(target) => Some(target.parse().map_err(|_| refuse(name, "the target's type is not known"))?),
            None => None,
        };
        Ok(Self { reverse, references, target, again })
    }
}

/// The place of a row in the order, as text for a link.
pub(super) fn write_cursor(keys: &[Value]) -> String {
    let keys: Vec<serde_json::Value> = keys
        .iter()
        .map(|key| match key {
            Value::Integer(number) => (*number).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Null => serde_json::Value::Null,
        })
        .collect();
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::Value::from(keys).to_string())
}

fn read_cursor(text: &str) -> Option<Vec<Value>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let keys: Vec<serde_json::Value> = serde_json::from_slice(&bytes).ok()?;
    keys.into_iter()
        .map(|key| match key {
            serde_json::Value::String(text) => Some(Value::from(text)),
            serde_json::Value::Number(number) => number.as_i64().map(Value::Integer),
            _ => None,
        })
        .collect()
}
