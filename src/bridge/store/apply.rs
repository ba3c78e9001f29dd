//! Each change as SQL, inside a transaction that the writer holds.

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{Change, Lease, MessageLink, Millis, Need, NewWork, Origin, Role, RoomLink, Side, tick};

/// Longer than any pause between two tries.
const MUCH_LATER: Millis = 60_000;
const READY: i64 = 0;
const WAITING: i64 = 1;
const PARKED: i64 = 2;

/// Applies one change.
pub(super) fn change(connection: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::TakeEvent { event_id, room_id, work } => take_event(connection, event_id, room_id, work.as_ref()),
        Change::Once { key, work } => {
            if execute(connection, "INSERT OR IGNORE INTO seen (key) VALUES (?1)", [key])? == 0 {
                return Ok(());
            }
            enqueue(connection, work)
        }
        Change::Soon(work) => soon(connection, work),
        Change::Cursor { name, value } => {
            execute(connection, "INSERT OR REPLACE INTO cursor (name, value) VALUES (?1, ?2)", [name, value]).map(drop)
        }
        Change::LinkRoom(link) => link_room(connection, link),
        Change::UnlinkRoom { room_id } => {
            execute(connection, "DELETE FROM room WHERE room_id = ?1", [room_id]).map(drop)
        }
        Change::LinkMessage(link) => link_message(connection, link),
        Change::LinkPerson { reference, user_id: Some(user_id) } => {
            let sql = "INSERT OR REPLACE INTO person (reference, user_id) VALUES (?1, ?2)";
            execute(connection, sql, [reference, user_id]).map(drop)
        }
        Change::LinkPerson { reference, user_id: None } => {
            execute(connection, "DELETE FROM person WHERE reference = ?1", [reference]).map(drop)
        }
        Change::LinkTask { request, owner, id } => {
            let sql = "INSERT OR REPLACE INTO task (request, owner, id) VALUES (?1, ?2, ?3)";
            execute(connection, sql, [request, owner, id]).map(drop)
        }
        Change::Done { seq } => execute(connection, "DELETE FROM work WHERE seq = ?1", [seq]).map(drop),
        Change::Refused { seq, reason } => {
            let sql = "UPDATE work SET attempts = attempts + 1, reason = ?2 WHERE seq = ?1";
            execute(connection, sql, params![seq, reason]).map(drop)
        }
        Change::Wait { seq, need } => wait(connection, *seq, need),
        Change::Park { seq, reason } => {
            let sql = "UPDATE work SET state = ?2, reason = ?3, attempts = attempts + 1 WHERE seq = ?1";
            execute(connection, sql, params![seq, PARKED, reason]).map(drop)
        }
        Change::Retry { seq } => retry(connection, *seq),
        Change::Renew { lease, until } => {
            let sql = "UPDATE lane SET due = ?4 WHERE side = ?1 AND name = ?2 AND owner = ?3";
            execute(connection, sql, params![lease.side.number(), lease.lane, lease.owner, until]).map(drop)
        }
        Change::Release { lease, next_try, suspect } => release(connection, lease, *next_try, *suspect),
    }
}

/// Leases lanes that are due.
pub(super) fn claim(
    connection: &Connection,
    side: Side,
    limit: usize,
    now: Millis,
    until: Millis,
    owner: &str,
) -> Result<Vec<Lease>> {
    let mut due = connection.prepare_cached(
        "SELECT name, suspect OR owner IS NOT NULL FROM lane WHERE side = ?1 AND due <= ?2 ORDER BY due LIMIT ?3",
    )?;
    let found = due
        .query_map(params![side.number(), now, limit as i64], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))
        })?
        .collect::<Result<Vec<_>>>()?;
    for (lane, suspect) in &found {
        let sql = "UPDATE lane SET owner = ?3, due = ?4, suspect = ?5 WHERE side = ?1 AND name = ?2";
        execute(connection, sql, params![side.number(), lane, owner, until, suspect])?;
    }
    Ok(found.into_iter().map(|(lane, suspect)| Lease { side, lane, owner: owner.to_owned(), suspect }).collect())
}

/// Ends the leases of a process that is no more. What it was doing may have had its effect.
pub(super) fn release_all(connection: &Connection) -> Result<()> {
    execute(connection, "UPDATE lane SET owner = NULL, due = 0, suspect = 1 WHERE owner IS NOT NULL", [])?;
    // What seems to be due much later may have been stored before the clock was set back. To look early does no harm.
    execute(connection, "UPDATE lane SET due = 0 WHERE due > ?1", [tick().saturating_add(MUCH_LATER)]).map(drop)
}

fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<usize> {
    connection.prepare_cached(sql)?.execute(values)
}

fn take_event(connection: &Connection, event_id: &str, room_id: &str, work: Option<&NewWork>) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO event (event_id, room_id) VALUES (?1, ?2)";
    if execute(connection, sql, [event_id, room_id])? == 0 {
        return Ok(());
    }
    wake(connection, &Need::Event(event_id.to_owned()))?;
    work.map_or(Ok(()), |work| enqueue(connection, work))
}

fn enqueue(connection: &Connection, work: &NewWork) -> Result<()> {
    let sql = "INSERT INTO work (side, lane, kind, payload) VALUES (?1, ?2, ?3, ?4)";
    execute(connection, sql, params![work.side.number(), work.lane, work.kind, work.payload])?;
    open_lane(connection, work.side.number(), &work.lane, work.not_before)
}

fn soon(connection: &Connection, work: &NewWork) -> Result<()> {
    // What somebody works on at this moment may have looked already: only work that nobody has begun stands for this.
    let sql = "SELECT count(*) > (SELECT count(*) FROM lane WHERE side = ?1 AND name = ?2 AND owner IS NOT NULL)
        FROM (SELECT 1 FROM work WHERE side = ?1 AND lane = ?2 AND kind = ?3 LIMIT 2)";
    let stands: bool = connection
        .prepare_cached(sql)?
        .query_row(params![work.side.number(), work.lane, work.kind], |row| row.get(0))?;
    if stands { Ok(()) } else { enqueue(connection, work) }
}

/// A lane with ready work can be claimed; one that stands already keeps its turn, its lease and its back-off.
fn open_lane(connection: &Connection, side: i64, lane: &str, due: Millis) -> Result<()> {
    let sql = "INSERT INTO lane (side, name, due) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    execute(connection, sql, params![side, lane, due]).map(drop)
}

fn link_room(connection: &Connection, link: &RoomLink) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO room (place, room_id) VALUES (?1, ?2)";
    execute(connection, sql, [&link.place, &link.room_id])?;
    wake(connection, &Need::Room(link.place.clone()))
}

fn link_message(connection: &Connection, link: &MessageLink) -> Result<()> {
    // An event that the bridge sent has its place from now on, even if its echo comes late.
    let sql = "INSERT OR IGNORE INTO event (event_id, room_id) VALUES (?1, ?2)";
    execute(connection, sql, [&link.event_id, &link.room_id])?;
    wake(connection, &Need::Event(link.event_id.clone()))?;
    let sql = "INSERT INTO message (event_id, seq, room_id, resource, part, role, origin, digest)
        SELECT ?1, seq, ?2, ?3, ?4, ?5, ?6, ?7 FROM event WHERE event_id = ?1
        ON CONFLICT (event_id) DO UPDATE SET digest = excluded.digest";
    let (role, origin) = (role_number(link.role), origin_number(link.origin));
    let values = params![link.event_id, link.room_id, link.resource, link.part, role, origin, link.digest];
    execute(connection, sql, values).map(drop)
}

fn wait(connection: &Connection, seq: i64, need: &Need) -> Result<()> {
    // Looked at inside the transaction: what is needed may have come since the worker looked.
    let (sql, value) = match need {
        Need::Room(place) => ("SELECT 1 FROM room WHERE place = ?1", place),
        Need::Event(event_id) => ("SELECT 1 FROM event WHERE event_id = ?1", event_id),
    };
    if connection.prepare_cached(sql)?.exists([value])? {
        return Ok(());
    }
    let sql = "UPDATE work SET state = ?2, need = ?3 WHERE seq = ?1";
    execute(connection, sql, params![seq, WAITING, need.key()]).map(drop)
}

fn wake(connection: &Connection, need: &Need) -> Result<()> {
    let mut waiting = connection.prepare_cached("SELECT DISTINCT side, lane FROM work WHERE need = ?1")?;
    let lanes = waiting
        .query_map([need.key()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
        .collect::<Result<Vec<_>>>()?;
    if lanes.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE work SET state = ?2, need = NULL WHERE need = ?1 AND state = ?3";
    execute(connection, sql, params![need.key(), READY, WAITING])?;
    lanes.iter().try_for_each(|(side, lane)| open_lane(connection, *side, lane, 0))
}

fn retry(connection: &Connection, seq: Option<i64>) -> Result<()> {
    let mut parked = connection
        .prepare_cached("SELECT DISTINCT side, lane FROM work WHERE state = ?1 AND (?2 IS NULL OR seq = ?2)")?;
    let lanes = parked
        .query_map(params![PARKED, seq], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
        .collect::<Result<Vec<_>>>()?;
    let sql = "UPDATE work SET state = ?1, attempts = 0 WHERE state = ?2 AND (?3 IS NULL OR seq = ?3)";
    execute(connection, sql, params![READY, PARKED, seq])?;
    lanes.iter().try_for_each(|(side, lane)| open_lane(connection, *side, lane, 0))
}

fn release(connection: &Connection, lease: &Lease, next_try: Millis, suspect: bool) -> Result<()> {
    let side = lease.side.number();
    let ready = connection
        .prepare_cached("SELECT 1 FROM work WHERE side = ?1 AND lane = ?2 AND state = ?3 LIMIT 1")?
        .exists(params![side, lease.lane, READY])?;
    if ready {
        let sql = "UPDATE lane SET owner = NULL, due = ?4, suspect = ?5 WHERE side = ?1 AND name = ?2 AND owner = ?3";
        execute(connection, sql, params![side, lease.lane, lease.owner, next_try, suspect]).map(drop)
    } else {
        let sql = "DELETE FROM lane WHERE side = ?1 AND name = ?2 AND owner = ?3";
        execute(connection, sql, params![side, lease.lane, lease.owner]).map(drop)
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
pub(super) fn message_link(row: &rusqlite::Row<'_>) -> Result<MessageLink> {
    Ok(MessageLink {
        event_id: row.get(0)?,
        room_id: row.get(1)?,
        resource: row.get(2)?,
        part: row.get(3)?,
        role: match row.get::<_, i64>(4)? {
            0 => Role::Message,
            1 => Role::Edit,
            _ => Role::Redaction,
        },
        origin: if row.get::<_, i64>(5)? == 0 { Origin::Fhir } else { Origin::Matrix },
        digest: row.get(6)?,
    })
}

/// One text, if there is one.
pub(super) fn text(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Option<String>> {
    connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}
