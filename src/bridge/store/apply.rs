//! Each change as SQL, inside a transaction that the writer holds.

use std::time::Duration;

use super::{Change, Lease, MessageLink, Millis, Need, NewWork, Origin, Role, RoomLink, Side, StoreError};
use crate::service::database::{Connection, DatabaseError, Row, Value, values};

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Longer than any pause between two tries.
const MUCH_LATER: Duration = Duration::from_secs(60);
const READY: i64 = 0;
const WAITING: i64 = 1;
const PARKED: i64 = 2;

/// Applies one change.
pub(super) fn change(connection: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::Under(lease) => must_hold(connection, lease),
        Change::TakeEvent { event_id, room_id, work } => take_event(connection, event_id, room_id, work.as_ref()),
        Change::Once { key, work } => {
            if is_first(connection, key)? {
                enqueue(connection, work)
            } else {
                Ok(())
            }
        }
        Change::Aside { key, work, reason } => {
            if is_first(connection, key)? {
                let sql = "INSERT INTO work (side, lane, kind, payload, state, reason) VALUES (?, ?, ?, ?, ?, ?)";
                let values = values![work.side.number(), &work.lane, work.kind, &work.payload, PARKED, reason];
                execute(connection, sql, values)?;
            }
            Ok(())
        }
        Change::Soon(work) => soon(connection, work),
        Change::Cursor { name, value } => {
            let sql = "INSERT INTO cursor (name, value) VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            execute(connection, sql, values![name, value])
        }
        Change::LinkRoom(link) => link_room(connection, link),
        Change::UnlinkRoom { room_id } => execute(connection, "DELETE FROM room WHERE room_id = ?", values![room_id]),
        Change::LinkMessage(link) => link_message(connection, link),
        Change::LinkPerson { reference, user_id: Some(user_id) } => {
            let sql = "INSERT INTO person (reference, user_id) VALUES (?, ?)
                ON CONFLICT (reference) DO UPDATE SET user_id = excluded.user_id";
            execute(connection, sql, values![reference, user_id])
        }
        Change::LinkPerson { reference, user_id: None } => {
            execute(connection, "DELETE FROM person WHERE reference = ?", values![reference])
        }
        Change::LinkTask { request, owner, id } => {
            let sql = "INSERT INTO task (request, owner, id) VALUES (?, ?, ?)
                ON CONFLICT (request, owner) DO UPDATE SET id = excluded.id";
            execute(connection, sql, values![request, owner, id])
        }
        Change::Done { seq } => execute(connection, "DELETE FROM work WHERE seq = ?", values![*seq]),
        Change::Refused { seq, reason } => {
            let sql = "UPDATE work SET attempts = attempts + 1, reason = ?2 WHERE seq = ?1";
            execute(connection, sql, values![*seq, reason])
        }
        Change::Wait { seq, need } => wait(connection, *seq, need),
        Change::Park { seq, reason } => {
            let sql = "UPDATE work SET state = ?2, reason = ?3, attempts = attempts + 1 WHERE seq = ?1";
            execute(connection, sql, values![*seq, PARKED, reason])
        }
        Change::Retry { seq } => retry(connection, *seq),
        Change::Renew { lease, lasting } => {
            must_hold(connection, lease)?;
            let sql = "UPDATE lane SET due = ?3 WHERE side = ?1 AND name = ?2";
            execute(connection, sql, values![lease.side.number(), &lease.lane, from_now(connection, *lasting)])
        }
        Change::Release { lease, pause, suspect } => release(connection, lease, *pause, *suspect),
    }
}

/// Leases lanes that are due.
///
/// One transaction writes at a time, so no lane goes to two; a lane that is still leased becomes due when its lease
/// ends, and nobody knows then what its owner did.
pub(super) fn claim(
    connection: &Connection,
    side: Side,
    limit: usize,
    lasting: Duration,
    owner: &str,
) -> Result<Vec<Lease>> {
    let due = "SELECT name, CASE WHEN suspect <> 0 OR owner IS NOT NULL THEN 1 ELSE 0 END FROM lane
        WHERE side = ? AND due <= ? ORDER BY due LIMIT ?";
    let leases = connection.query(due, values![side.number(), now(connection), limit], |row| {
        Ok::<_, DatabaseError>(Lease { side, lane: row.get(0)?, owner: owner.to_owned(), suspect: row.get(1)? })
    })?;
    for lease in &leases {
        let sql = "UPDATE lane SET owner = ?3, due = ?4, suspect = ?5 WHERE side = ?1 AND name = ?2";
        let until = from_now(connection, lasting);
        execute(connection, sql, values![side.number(), &lease.lane, owner, until, lease.suspect])?;
    }
    Ok(leases)
}

/// Takes a duty that nobody has, or keeps it; says whether this owner has it now.
pub(super) fn take_duty(connection: &Connection, duty: &str, owner: &str, lasting: Duration) -> Result<bool> {
    let sql = "INSERT INTO duty (name, owner, due) VALUES (?1, ?2, ?3)
        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, due = excluded.due
        WHERE duty.owner = excluded.owner OR duty.due <= ?4";
    let until = from_now(connection, lasting);
    Ok(connection.execute(sql, values![duty, owner, until, now(connection)])? > 0)
}

/// Ends the leases of a process that is no more. What it was doing may have had its effect.
pub(super) fn release_all(connection: &Connection) -> Result<()> {
    execute(connection, "DELETE FROM duty", &[])?;
    execute(connection, "UPDATE lane SET owner = NULL, due = 0, suspect = 1 WHERE owner IS NOT NULL", &[])?;
    // What seems to be due much later may have been stored before the clock was set back. To look early does no harm.
    let much_later = from_now(connection, MUCH_LATER);
    execute(connection, "UPDATE lane SET due = 0 WHERE due > ?1", values![much_later])
}

/// The clock by which work is due: PostgreSQL's own, so that all replicas mean the same, else one that nobody sets.
fn now(connection: &Connection) -> Millis {
    connection.steady_micros() / 1000
}

fn from_now(connection: &Connection, time: Duration) -> Millis {
    now(connection).saturating_add(Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX))
}

fn execute(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<()> {
    connection.execute(sql, values)?;
    Ok(())
}

/// Refuses what somebody says whose lease was taken over.
fn must_hold(connection: &Connection, lease: &Lease) -> Result<()> {
    let sql = "SELECT 1 FROM lane WHERE side = ? AND name = ? AND owner = ?";
    let holds = connection.exists(sql, values![lease.side.number(), &lease.lane, &lease.owner])?;
    if holds { Ok(()) } else { Err(StoreError::Lost) }
}

/// Whether a key was never seen; it is from now on.
fn is_first(connection: &Connection, key: &str) -> Result<bool> {
    Ok(connection.execute("INSERT INTO seen (key) VALUES (?) ON CONFLICT DO NOTHING", values![key])? > 0)
}

fn take_event(connection: &Connection, event_id: &str, room_id: &str, work: Option<&NewWork>) -> Result<()> {
    let sql = "INSERT INTO event (event_id, room_id) VALUES (?, ?) ON CONFLICT DO NOTHING";
    if connection.execute(sql, values![event_id, room_id])? == 0 {
        return Ok(());
    }
    wake(connection, &Need::Event(event_id.to_owned()))?;
    work.map_or(Ok(()), |work| enqueue(connection, work))
}

fn enqueue(connection: &Connection, work: &NewWork) -> Result<()> {
    let sql = "INSERT INTO work (side, lane, kind, payload) VALUES (?, ?, ?, ?)";
    execute(connection, sql, values![work.side.number(), &work.lane, work.kind, &work.payload])?;
    open_lane(connection, work.side.number(), &work.lane, from_now(connection, work.delay))
}

fn soon(connection: &Connection, work: &NewWork) -> Result<()> {
    // What somebody works on at this moment may have looked already: only work that nobody has begun stands for this.
    let leased = "SELECT 1 FROM lane WHERE side = ? AND name = ? AND owner IS NOT NULL";
    let begun = usize::from(connection.exists(leased, values![work.side.number(), &work.lane])?);
    // Nor does parked work: nobody may ever retry it.
    let standing = "SELECT seq FROM work WHERE side = ? AND lane = ? AND kind = ? AND state <> ? LIMIT 2";
    let these = values![work.side.number(), &work.lane, work.kind, PARKED];
    let standing = connection.query(standing, these, |row| row.get::<i64>(0))?;
    let stands = standing.len() > begun;
    if stands { Ok(()) } else { enqueue(connection, work) }
}

/// A lane with ready work can be claimed; one that stands already keeps its turn, its lease and its back-off.
fn open_lane(connection: &Connection, side: i64, lane: &str, due: Millis) -> Result<()> {
    let sql = "INSERT INTO lane (side, name, due) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    execute(connection, sql, values![side, lane, due])
}

fn link_room(connection: &Connection, link: &RoomLink) -> Result<()> {
    // Place and room are each other's: what either was before, it is no longer.
    execute(connection, "DELETE FROM room WHERE place = ? OR room_id = ?", values![&link.place, &link.room_id])?;
    execute(connection, "INSERT INTO room (place, room_id) VALUES (?, ?)", values![&link.place, &link.room_id])?;
    wake(connection, &Need::Room(link.place.clone()))
}

fn link_message(connection: &Connection, link: &MessageLink) -> Result<()> {
    // An event that the bridge sent has its place from now on, even if its echo comes late.
    let sql = "INSERT INTO event (event_id, room_id) VALUES (?, ?) ON CONFLICT DO NOTHING";
    execute(connection, sql, values![&link.event_id, &link.room_id])?;
    wake(connection, &Need::Event(link.event_id.clone()))?;
    let sql = "INSERT INTO message (event_id, seq, room_id, resource, part, role, origin, digest)
        SELECT event_id, seq, ?2, ?3, ?4, ?5, ?6, ?7 FROM event WHERE event_id = ?1
        ON CONFLICT (event_id) DO UPDATE SET digest = excluded.digest";
    let (role, origin) = (role_number(link.role), origin_number(link.origin));
    let resource = &link.resource;
    execute(connection, sql, values![&link.event_id, &link.room_id, resource, link.part, role, origin, &link.digest])
}

fn wait(connection: &Connection, seq: i64, need: &Need) -> Result<()> {
    // Looked at inside the transaction: what is needed may have come since the worker looked.
    let (sql, value) = match need {
        Need::Room(place) => ("SELECT 1 FROM room WHERE place = ?", place),
        Need::Event(event_id) => ("SELECT 1 FROM event WHERE event_id = ?", event_id),
    };
    if connection.exists(sql, values![value])? {
        return Ok(());
    }
    let sql = "UPDATE work SET state = ?2, need = ?3 WHERE seq = ?1";
    execute(connection, sql, values![seq, WAITING, need.key()])
}

fn wake(connection: &Connection, need: &Need) -> Result<()> {
    let waiting = "SELECT DISTINCT side, lane FROM work WHERE need = ?";
    let lanes = connection.query(waiting, values![need.key()], lane)?;
    if lanes.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE work SET state = ?2, need = NULL WHERE need = ?1 AND state = ?3";
    execute(connection, sql, values![need.key(), READY, WAITING])?;
    lanes.iter().try_for_each(|(side, lane)| open_lane(connection, *side, lane, 0))
}

fn retry(connection: &Connection, seq: Option<i64>) -> Result<()> {
    // All numbers, or the one.
    let (from, to) = seq.map_or((i64::MIN, i64::MAX), |seq| (seq, seq));
    let parked = "SELECT DISTINCT side, lane FROM work WHERE state = ? AND seq BETWEEN ? AND ?";
    let lanes = connection.query(parked, values![PARKED, from, to], lane)?;
    let sql = "UPDATE work SET state = ?, attempts = 0 WHERE state = ? AND seq BETWEEN ? AND ?";
    execute(connection, sql, values![READY, PARKED, from, to])?;
    lanes.iter().try_for_each(|(side, lane)| open_lane(connection, *side, lane, 0))
}

fn lane(row: &Row<'_>) -> Result<(i64, String), DatabaseError> {
    Ok((row.get(0)?, row.get(1)?))
}

fn release(connection: &Connection, lease: &Lease, pause: Duration, suspect: bool) -> Result<()> {
    let (side, lane, owner) = (lease.side.number(), &lease.lane, &lease.owner);
    let ready = "SELECT 1 FROM work WHERE side = ? AND lane = ? AND state = ? LIMIT 1";
    if connection.exists(ready, values![side, lane, READY])? {
        let sql = "UPDATE lane SET owner = NULL, due = ?4, suspect = ?5 WHERE side = ?1 AND name = ?2 AND owner = ?3";
        execute(connection, sql, values![side, lane, owner, from_now(connection, pause), suspect])
    } else {
        let sql = "DELETE FROM lane WHERE side = ? AND name = ? AND owner = ?";
        execute(connection, sql, values![side, lane, owner])
    }
}

fn role_number(role: Role) -> i64 {
    match role {
        Role::Message => 0,
        Role::Edit => 1,
        Role::Redaction => 2,
    }
}

fn origin_number(origin: Origin) -> i64 {
    match origin {
        Origin::Fhir => 0,
        Origin::Matrix => 1,
    }
}

/// Reads one row of the table `message` in the order of its columns without `seq`.
pub(super) fn message_link(row: &Row<'_>) -> Result<MessageLink, DatabaseError> {
    Ok(MessageLink {
        event_id: row.get(0)?,
        room_id: row.get(1)?,
        resource: row.get(2)?,
        part: row.get(3)?,
        role: match row.get::<i64>(4)? {
            0 => Role::Message,
            1 => Role::Edit,
            _ => Role::Redaction,
        },
        origin: if row.get::<i64>(5)? == 0 { Origin::Fhir } else { Origin::Matrix },
        digest: row.get(6)?,
    })
}
