//! The interactions as work on one connection. Whoever calls has opened a transaction.

use super::{
    find::rows,
    plan::{self, Plan},
    values::{self, Found, fold, opening},
};
use crate::{
    fhir::{
        id::{Id, Key},
        instant::DateTime,
        query::Query,
        resources::{Issue, IssueType, OperationOutcome, Resource, ResourceType},
        server::{Condition, Effect, FhirError, Written},
    },
    service::database::{Connection, DatabaseError, Value, bounded, values},
};

/// What the interactions need to know besides the database.
#[derive(Debug, Clone)]
pub(super) struct Store {
    /// This server's own address with a slash at its end.
    pub(super) base: String,
}

/// The newest version of a resource as it is stored.
pub(super) struct Current {
    rid: i64,
    version: i64,
    resource: Resource,
}

// === impl Store ===

impl Store {
    pub(super) fn read(&self, connection: &Connection, kind: ResourceType, id: &Id) -> Result<Resource, FhirError> {
        let found = current(connection, kind, id)?;
        found.map(|found| found.resource).ok_or_else(|| FhirError::not_found(&Key::new(kind, id.clone())))
    }

    pub(super) fn vread(
        &self,
        connection: &Connection,
        kind: ResourceType,
        id: &Id,
        version: &str,
    ) -> Result<Resource, FhirError> {
        let absent = || {
            let key = Key { kind, id: id.clone(), version: Some(version.to_owned()) };
            FhirError::not_found(&key)
        };
        // Only the number's one way of being written is a version: not 01 and not +1.
        let number: i64 = version.parse().map_err(|_| absent())?;
        if number.to_string() != version {
            return Err(absent());
        }
        let sql = "SELECT content FROM version WHERE kind = ? AND id = ? AND version = ?";
        let content: Option<String> =
            connection.first(sql, values![kind.as_str(), id.as_str(), number], |row| row.get(0))?;
        parse(&content.ok_or_else(absent)?)
    }

    /// Makes a resource, unless one matches already.
    pub(super) fn create(
        &self,
        connection: &Connection,
        resource: Resource,
        unless: Option<&Query>,
    ) -> Result<Written, FhirError> {
        let kind = kind_of(&resource)?;
        if let Some(query) = unless
            && let Some(resource) = self.one_that_matches(connection, kind, query)?
        {
            return Ok(Written { resource, effect: Effect::Unchanged });
        }
        let id = new_id(next_moment(connection)?)?;
        self.make(connection, resource, &id)
    }

    /// Makes a resource with an id that was made up for it.
    pub(super) fn make(&self, connection: &Connection, resource: Resource, id: &Id) -> Result<Written, FhirError> {
        self.insert(connection, resource, id, None, "POST")
    }

    /// Makes a resource with its own id, or its next version.
    pub(super) fn update(
        &self,
        connection: &Connection,
        resource: Resource,
        only_if: Condition<'_>,
    ) -> Result<Written, FhirError> {
        let kind = kind_of(&resource)?;
        let id =
            resource.id().ok_or_else(|| invalid(IssueType::Required, "an id is required", &format!("{kind}.id")))?;
        let found = current(connection, kind, &id)?;
        let newest = found.as_ref().map(|found| found.version.to_string());
        if !only_if.holds(newest.as_deref()) {
            return Err(conflict(match only_if {
                Condition::Absent => "the resource is there already",
                _ => "the newest version is not the one in If-Match",
            }));
        }
        match found {
            None => self.insert(connection, resource, &id, None, "PUT"),
            Some(found) if found.resource.says_the_same_as(&resource) => {
                Ok(Written { resource: found.resource, effect: Effect::Unchanged })
            }
            Some(_) if kind == ResourceType::AuditEvent => {
                Err(FhirError::NotSupported("an AuditEvent is never changed".to_owned()))
            }
            Some(found) => self.insert(connection, resource, &id, Some(&found), "PUT"),
        }
    }

    /// Updates the one resource that matches, or makes one (R4, 3.1.0.4.3).
    pub(super) fn update_where(
        &self,
        connection: &Connection,
        mut resource: Resource,
        query: &Query,
        only_if: Condition<'_>,
    ) -> Result<Written, FhirError> {
        let kind = kind_of(&resource)?;
        let (id, only_if) = self.aim(connection, kind, query, resource.id(), only_if)?;
        match id {
            Some(id) => {
                resource.set_id(&id);
                self.update(connection, resource, only_if)
            }
            None => self.create(connection, resource, None),
        }
    }

    /// Which resource a conditional update is for, and under which condition: the one that matches; else the one with
    /// the id that the client gives, which must be new; else one with an id that is still to be made up.
    pub(super) fn aim<'a>(
        &self,
        connection: &Connection,
        kind: ResourceType,
        query: &Query,
        own: Option<Id>,
        only_if: Condition<'a>,
    ) -> Result<(Option<Id>, Condition<'a>), FhirError> {
        match (self.one_that_matches(connection, kind, query)?.and_then(|found| found.id()), own) {
            (Some(found), Some(own)) if found != own => {
                Err(invalid(IssueType::Invalid, "not the id of the resource that matches", &format!("{kind}.id")))
            }
            (Some(found), _) => Ok((Some(found), only_if)),
            (None, _) if !only_if.holds(None) => Err(conflict("nothing matches, and If-Match wants a version")),
            (None, own) => Ok((own, Condition::Absent)),
        }
    }

    /// The one resource that matches, or none.
    pub(super) fn one_that_matches(
        &self,
        connection: &Connection,
        kind: ResourceType,
        query: &Query,
    ) -> Result<Option<Resource>, FhirError> {
        let criteria = query.parameters().filter(|(name, _)| !matches!(*name, "_format" | "_pretty"));
        if criteria.clone().count() == 0 {
            return Err(invalid(IssueType::Invalid, "a condition needs a search parameter", kind.as_str()));
        }
        if criteria.clone().any(|(name, _)| plan::RESULTS.contains(&name)) {
            return Err(invalid(IssueType::Invalid, "a condition has no parameters for pages", kind.as_str()));
        }
        let query = criteria.fold(Query::new(), |query, (name, value)| query.with(name, value)).with("_count", "1");
        let rows = rows(connection, &Plan::read(kind, &query, &self.base)?)?;
        match rows.as_slice() {
            [] => Ok(None),
            [row] => content(connection, row.seq).map(Some),
            _ => Err(FhirError::MultipleMatches(OperationOutcome::boxed(Issue::error(
                IssueType::MultipleMatches,
                "several resources match the condition",
            )))),
        }
    }

    fn insert(
        &self,
        connection: &Connection,
        mut resource: Resource,
        id: &Id,
        previous: Option<&Current>,
        method: &str,
    ) -> Result<Written, FhirError> {
        let kind = kind_of(&resource)?;
        let updated = next_moment(connection)?;
        let version = previous.map_or(1, |previous| previous.version + 1);
        resource.set_id(id);
        resource.set_version(&version.to_string(), &DateTime::from_micros(updated));
        let sql =
            "INSERT INTO version (kind, id, version, updated, method, content) VALUES (?, ?, ?, ?, ?, ?) RETURNING seq";
        let content = resource.to_json();
        let seq = number(connection, sql, values![kind.as_str(), id.as_str(), version, updated, method, content])?;
        let rid = match previous {
            Some(previous) => {
                let sql = "UPDATE resource SET seq = ?, updated = ? WHERE rid = ?";
                connection.execute(sql, values![seq, updated, previous.rid])?;
                previous.rid
            }
            None => {
                let sql = "INSERT INTO resource (kind, id, seq, updated) VALUES (?, ?, ?, ?) RETURNING rid";
                number(connection, sql, values![kind.as_str(), id.as_str(), seq, updated])?
            }
        };
        index(connection, rid, kind, &values::of(kind, &resource, &self.base), previous.is_some())?;
        super::hooks::written(connection, &self.base, kind, &resource, rid, seq)?;
        let effect = if previous.is_some() { Effect::Updated } else { Effect::Created };
        Ok(Written { resource, effect })
    }
}

/// The type of a resource that can be kept.
fn kind_of(resource: &Resource) -> Result<ResourceType, FhirError> {
    let kind = resource.kind().filter(|kind| crate::fhir::definitions::R4.is_stored(*kind));
    kind.ok_or_else(|| FhirError::NotSupported("this resource type is not kept here".to_owned()))
}

pub(super) fn current(connection: &Connection, kind: ResourceType, id: &Id) -> Result<Option<Current>, FhirError> {
    let sql = "SELECT r.rid, v.version, v.content FROM resource r JOIN version v ON v.seq = r.seq \
               WHERE r.kind = ? AND r.id = ?";
    let found: Option<(i64, i64, String)> = connection.first(sql, values![kind.as_str(), id.as_str()], |row| {
        Ok::<_, DatabaseError>((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    found.map(|(rid, version, content)| Ok(Current { rid, version, resource: parse(&content)? })).transpose()
}

pub(super) fn parse(content: &str) -> Result<Resource, FhirError> {
    Resource::from_json(content.as_bytes()).map_err(|_| damaged())
}

/// Something is stored that cannot be read.
pub(super) fn damaged() -> FhirError {
    FhirError::Damaged("what is stored cannot be read".to_owned())
}

pub(super) fn content(connection: &Connection, seq: i64) -> Result<Resource, FhirError> {
    let sql = "SELECT content FROM version WHERE seq = ?";
    let content: Option<String> = connection.first(sql, values![seq], |row| row.get(0))?;
    parse(&content.unwrap_or_default())
}

/// The one number that a statement gives.
fn number(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<i64, DatabaseError> {
    let number = connection.first(sql, values, |row| row.get(0))?;
    number.ok_or_else(|| DatabaseError::Unexpected("a statement gave nothing".to_owned()))
}

/// A moment that is after every version's: the clock's, unless the clock went back.
fn next_moment(connection: &Connection) -> Result<i64, DatabaseError> {
    let last: Option<i64> =
        connection.first("SELECT updated FROM version ORDER BY seq DESC LIMIT 1", &[], |row| row.get(0))?;
    let now = connection.now_micros();
    Ok(last.map_or(now, |last| now.max(last + 1)))
}

/// A UUID of version 7 (RFC 9562, 5.7): ids grow with time, to the microsecond.
fn new_id(micros: i64) -> Result<Id, FhirError> {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut random = [0_u8; 8];
    let failed = |_| FhirError::Unavailable("no randomness".to_owned());
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    let (millis, rest) = (micros.div_euclid(1000), micros.rem_euclid(1000));
    let random = u64::from_be_bytes(random);
    let text = format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        (millis >> 16) & 0xffff_ffff,
        millis & 0xffff,
        rest,
        0x8000 | (random >> 50),
        random & 0xffff_ffff_ffff
    );
    text.parse().map_err(|_| FhirError::Unavailable("the clock is out of bounds".to_owned()))
}

/// An id for the entry with this number of a transaction: later entries have greater ids.
pub(super) fn id_for(connection: &Connection, number: usize) -> Result<Id, FhirError> {
    new_id(next_moment(connection)?.saturating_add(i64::try_from(number).unwrap_or(0)))
}

fn index(
    connection: &Connection,
    rid: i64,
    kind: ResourceType,
    found: &[(String, Found)],
    replaces: bool,
) -> Result<(), DatabaseError> {
    if replaces {
        for table in ["token", "reference", "text", "moment"] {
            connection.execute(&format!("DELETE FROM {table} WHERE rid = ?"), values![rid])?;
        }
    }
    for (name, value) in found {
        let parameter = format!("{kind}.{name}");
        match value {
            Found::Token { system, code } => connection.execute(
                "INSERT INTO token (parameter, code, system, rid) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                &[parameter.into(), Value::Text(bounded(code)), Value::Text(bounded(system)), rid.into()],
            )?,
            Found::Reference(target) => connection.execute(
                "INSERT INTO reference (parameter, target, rid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                &[parameter.into(), Value::Text(bounded(target)), rid.into()],
            )?,
            Found::Text(exact) => connection.execute(
                "INSERT INTO text (parameter, folded, exact, rid) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values![parameter, opening(&fold(exact)), opening(exact), rid],
            )?,
            Found::Moments { low, high } => connection.execute(
                "INSERT INTO moment (parameter, low, high, rid) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values![parameter, *low, *high, rid],
            )?,
        };
    }
    Ok(())
}

pub(super) fn invalid(code: IssueType, text: &str, path: &str) -> FhirError {
    let issue = Issue::error(code, text);
    FhirError::Invalid(OperationOutcome::boxed(if path.is_empty() { issue } else { issue.at(path) }))
}

fn conflict(text: &str) -> FhirError {
    FhirError::VersionConflict(OperationOutcome::boxed(Issue::error(IssueType::Conflict, text)))
}
