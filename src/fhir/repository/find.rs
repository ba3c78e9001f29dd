//! Searches, histories, and what changed: everything that gives more than one resource.

use std::collections::HashSet;

use super::{
    condition::{Sql, Value, marks, text},
    plan::{self, Include, Plan},
    store::{Store, content, current, damaged, parse},
};
use crate::{
    fhir::{
        id::Key,
        instant::DateTime,
        query::Query,
        resources::{Resource, ResourceType},
        server::{Entry, FhirError, HistoryOf, Mode, Page, PageLink},
    },
    service::database::{Column, Connection, DatabaseError, Row, values},
};

/// Resources that are included on a page at most.
const MOST_INCLUDED: i64 = 1000;

impl Store {
    /// A page of a search.
    pub(super) fn search(&self, connection: &Connection, kind: ResourceType, query: &Query) -> Result<Page, FhirError> {
        let plan = Plan::read(kind, query, &self.base)?;
        let total = if plan.total || plan.count == 0 { Some(counted(connection, &plan.counting())?) } else { None };
        if plan.count == 0 {
            return Ok(Page { total, ..Page::default() });
        }
        let mut rows = rows(connection, &plan)?;
        let size = usize::try_from(plan.count).unwrap_or(usize::MAX);
        let has_more = rows.len() > size;
        rows.truncate(size);
        let next = rows.last().filter(|_| has_more).map(|last| {
            let query = query.clone().without(plan::CURSOR).with(plan::CURSOR, plan::write_cursor(&last.keys));
            PageLink(format!("{kind}?{query}"))
        });
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            entries.push(Entry { resource: content(connection, row.seq)?, mode: Mode::Match, by_post: false });
        }
        let matches = rows.iter().zip(&entries).filter_map(|(row, entry)| {
            let key = entry.resource.key()?;
            Some(Held { rid: row.rid, key })
        });
        let included = included(connection, &plan, matches.collect())?;
        entries.extend(included.into_iter().map(|resource| Entry { resource, mode: Mode::Include, by_post: false }));
        Ok(Page { total, entries, next })
    }

    /// A page of a history, newest first.
    pub(super) fn history(
        &self,
        connection: &Connection,
        of: HistoryOf<'_>,
        since: Option<&DateTime>,
        count: Option<u32>,
        before: Option<i64>,
    ) -> Result<Page, FhirError> {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        let mut add = |text: &str, value: Value| {
            conditions.push(text.to_owned());
            values.push(value);
        };
        let path = match of {
            HistoryOf::System => String::new(),
            HistoryOf::Type(kind) => format!("{kind}/"),
            HistoryOf::Instance(kind, id) => format!("{kind}/{id}/"),
        };
        if let HistoryOf::Type(kind) | HistoryOf::Instance(kind, _) = of {
            add("kind = ?", text(kind.as_str()));
        }
        if let HistoryOf::Instance(kind, id) = of {
            current(connection, kind, id)?.ok_or_else(|| FhirError::not_found(&Key::new(kind, id.clone())))?;
            add("id = ?", text(id.as_str()));
        }
        if let Some(since) = since {
            let moments = since.moments().ok_or_else(|| super::condition::refuse("_since", "not an instant"))?;
            add("updated >= ?", Value::Integer(moments.start));
        }
        let all = Sql { text: conditions.join(" AND "), values: values.clone() };
        let filter = if all.text.is_empty() { "true" } else { &all.text };
        let total = counted(connection, &Sql { text: format!("SELECT count(*) FROM version WHERE {filter}"), values })?;
        let count = count.unwrap_or(plan::USUAL_COUNT).min(plan::MOST_COUNT);
        let mut values = all.values;
        values.push(Value::Integer(before.unwrap_or(i64::MAX)));
        values.push(Value::Integer(i64::from(count) + 1));
        let statement =
            format!("SELECT seq, content, method FROM version WHERE {filter} AND seq < ? ORDER BY seq DESC LIMIT ?");
        let mut rows: Vec<(i64, String, String)> = connection
            .query(&statement, &values, |row| Ok::<_, DatabaseError>((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let size = usize::try_from(count).unwrap_or(usize::MAX);
        let has_more = rows.len() > size && size > 0;
        rows.truncate(size);
        let since = since.map(|since| format!("_since={}&", crate::fhir::query::encode(since.as_str())));
        let next = rows.last().filter(|_| has_more).map(|(seq, ..)| {
            let since = since.unwrap_or_default();
            PageLink(format!("{path}_history?{since}_count={count}&{}={seq}", plan::CURSOR))
        });
        let entries = rows.iter().map(|(_, content, method)| {
            Ok(Entry { resource: parse(content)?, mode: Mode::Match, by_post: method == "POST" })
        });
        Ok(Page { total: Some(total), entries: entries.collect::<Result<_, FhirError>>()?, next })
    }

    /// Versions after a number, oldest first, with their numbers. Of one that cannot be read, its key: others must not
    /// wait behind it.
    pub(super) fn after(
        &self,
        connection: &Connection,
        kinds: &[ResourceType],
        seq: i64,
        limit: u32,
    ) -> Result<Vec<Numbered>, FhirError> {
        let statement = format!(
            "SELECT seq, kind, id, version, content FROM version WHERE seq > ? AND kind IN ({}) ORDER BY seq LIMIT ?",
            marks(kinds.len())
        );
        let kinds = kinds.iter().map(|kind| text(kind.as_str()));
        let values = [Value::Integer(seq)].into_iter().chain(kinds).chain([Value::Integer(i64::from(limit))]);
        connection.query(&statement, &values.collect::<Vec<_>>(), |row| {
            let content = row.get::<String>(4).map_err(FhirError::from).and_then(|content| parse(&content));
            let version = match content {
                Ok(resource) => Ok(resource),
                Err(_) => {
                    let (kind, id): (String, String) = (row.get(1)?, row.get(2)?);
                    let (kind, id) = (kind.parse().map_err(|_| damaged())?, id.parse().map_err(|_| damaged())?);
                    Err(Key { kind, id, version: Some(row.get::<i64>(3)?.to_string()) })
                }
            };
            Ok::<_, FhirError>((row.get(0)?, version))
        })
    }

    /// The number of the newest version of all.
    pub(super) fn newest(&self, connection: &Connection) -> Result<i64, FhirError> {
        let newest: Option<Option<i64>> =
            connection.first("SELECT max(seq) FROM version", &[], |row| row.get(0)).map_err(FhirError::from)?;
        Ok(newest.flatten().unwrap_or(0))
    }
}

/// A version with its number, or its key where it cannot be read.
pub(super) type Numbered = (i64, Result<Resource, Key>);

/// A row of a search: where its content is, and its place in the order.
pub(super) struct Match {
    pub(super) seq: i64,
    pub(super) rid: i64,
    pub(super) keys: Vec<Value>,
}

pub(super) fn rows(connection: &Connection, plan: &Plan) -> Result<Vec<Match>, FhirError> {
    let page = plan.page();
    let keys = plan.sort.len();
    Ok(connection.query(&page.text, &page.values, |row| {
        let rid: i64 = row.get(1)?;
        let mut found = (0..keys).map(|number| row.get(number + 2)).collect::<Result<Vec<Value>, DatabaseError>>()?;
        found.push(Value::Integer(rid));
        Ok::<_, DatabaseError>(Match { seq: row.get(0)?, rid, keys: found })
    })?)
}

/// The first two columns of a row.
fn pair<A: Column, B: Column>(row: &Row<'_>) -> Result<(A, B), DatabaseError> {
    Ok((row.get(0)?, row.get(1)?))
}

pub(super) fn counted(connection: &Connection, statement: &Sql) -> Result<u64, DatabaseError> {
    Ok(connection.first(&statement.text, &statement.values, |row| row.get(0))?.unwrap_or(0))
}

/// The first column of all rows.
fn first_of_all<T: Column>(
    connection: &Connection,
    statement: &str,
    values: &[Value],
) -> Result<Vec<T>, DatabaseError> {
    connection.query(statement, values, |row| row.get(0))
}

/// A resource on a page, and where it is.
struct Held {
    rid: i64,
    key: Key,
}

/// What comes along with the matches: in the first round with them, then, where it is asked for, with what came along
/// in the round before.
fn included(connection: &Connection, plan: &Plan, matches: Vec<Held>) -> Result<Vec<Resource>, FhirError> {
    let most = usize::try_from(MOST_INCLUDED).unwrap_or(usize::MAX);
    let mut seen: HashSet<Key> = matches.iter().map(|held| held.key.clone()).collect();
    let (mut found, mut round, mut is_first) = (Vec::new(), matches, true);
    while !round.is_empty() {
        let mut next = Vec::new();
        for include in plan.includes.iter().filter(|include| is_first || include.again) {
            for (rid, seq) in include_one(connection, include, &round)? {
                let resource = content(connection, seq)?;
                let Some(key) = resource.key() else { continue };
                if (is_first || found.len() < most) && seen.insert(key.clone()) {
                    next.push(Held { rid, key });
                    found.push(resource);
                }
            }
        }
        (round, is_first) = (next, false);
    }
    Ok(found)
}

/// `rid` and `seq` of what one include finds for some resources.
fn include_one(connection: &Connection, include: &Include, of: &[Held]) -> Result<Vec<(i64, i64)>, FhirError> {
    let mut found = Vec::new();
    let mut parameters = include.references.values.clone();
    let which = &include.references.text;
    if include.reverse {
        let statement = format!(
            "SELECT rid, seq FROM resource WHERE rid IN (SELECT rid FROM reference WHERE {which} AND target IN ({})) \
             ORDER BY rid LIMIT {MOST_INCLUDED}",
            marks(of.len())
        );
        parameters.extend(of.iter().map(|held| text(&held.key.to_string())));
        return Ok(connection.query(&statement, &parameters, pair)?);
    }
    let statement = format!(
        "SELECT DISTINCT target FROM reference WHERE {which} AND rid IN ({}) ORDER BY target LIMIT {MOST_INCLUDED}",
        marks(of.len())
    );
    parameters.extend(of.iter().map(|held| Value::Integer(held.rid)));
    let targets: Vec<String> = first_of_all(connection, &statement, &parameters)?;
    let wanted = |key: &Key| include.target.is_none_or(|target| target == key.kind) && key.version.is_none();
    // An absolute reference points to another server, even where its end looks like one of ours.
    let own = targets.iter().filter(|target| !target.contains("://"));
    for key in own.filter_map(|target| Key::parse(target)).filter(wanted) {
        let sql = "SELECT rid, seq FROM resource WHERE kind = ? AND id = ?";
        let row: Option<(i64, i64)> = connection.first(sql, values![key.kind.as_str(), key.id.as_str()], pair)?;
        found.extend(row);
    }
    Ok(found)
}
