//! The store's questions as SQL.

use rusqlite::{OptionalExtension as _, Result, Row, params};

use super::{
    Answer, Change, Held, Lane, Lease, MessageLink, Millis, Overview, RoomLink, Side, Sqlite, Store, Work,
    apply::{message_link, text},
};

const MESSAGE: &str = "event_id, room_id, resource, part, role, origin, digest";

// === impl Store for Sqlite ===

impl Store for Sqlite {
    fn commit(&self, changes: Vec<Change>) -> Answer<'_, ()> {
        Box::pin(self.write(changes))
    }

    fn claim(&self, side: Side, limit: usize, now: Millis, until: Millis) -> Answer<'_, Vec<Lease>> {
        Box::pin(self.lease(side, limit, now, until))
    }

    fn head(&self, side: Side, lane: &str, limit: usize) -> Answer<'_, Vec<Work>> {
        let lane = lane.to_owned();
        self.read(move |connection| {
            let sql = "SELECT seq, kind, payload, attempts FROM work
                WHERE side = ?1 AND lane = ?2 AND state = 0 ORDER BY seq LIMIT ?3";
            let work = |row: &Row<'_>| {
                Ok(Work { seq: row.get(0)?, kind: row.get(1)?, payload: row.get(2)?, attempts: row.get(3)? })
            };
            connection.prepare_cached(sql)?.query_map(params![side.number(), lane, limit as i64], work)?.collect()
        })
    }

    fn cursor(&self, name: &str) -> Answer<'_, Option<String>> {
        let name = name.to_owned();
        self.read(move |connection| text(connection, "SELECT value FROM cursor WHERE name = ?1", [name]))
    }

    fn room_of(&self, place: &str) -> Answer<'_, Option<RoomLink>> {
        let place = place.to_owned();
        self.read(move |connection| {
            let sql = "SELECT room_id, place FROM room WHERE place = ?1";
            connection.prepare_cached(sql)?.query_row([place], room_link).optional()
        })
    }

    fn place_of(&self, room_id: &str) -> Answer<'_, Option<RoomLink>> {
        let room_id = room_id.to_owned();
        self.read(move |connection| {
            let sql = "SELECT room_id, place FROM room WHERE room_id = ?1";
            connection.prepare_cached(sql)?.query_row([room_id], room_link).optional()
        })
    }

    fn rooms(&self) -> Answer<'_, Vec<RoomLink>> {
        self.read(move |connection| {
            let sql = "SELECT room_id, place FROM room ORDER BY place";
            connection.prepare_cached(sql)?.query_map([], room_link)?.collect()
        })
    }

    fn message(&self, event_id: &str) -> Answer<'_, Option<MessageLink>> {
        let event_id = event_id.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {MESSAGE} FROM message WHERE event_id = ?1");
            connection.prepare_cached(&sql)?.query_row([event_id], message_link).optional()
        })
    }

    fn messages_of(&self, resource: &str) -> Answer<'_, Vec<MessageLink>> {
        let resource = resource.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {MESSAGE} FROM message WHERE resource = ?1 ORDER BY seq");
            connection.prepare_cached(&sql)?.query_map([resource], message_link)?.collect()
        })
    }

    fn messages_in(&self, room_id: &str) -> Answer<'_, Vec<MessageLink>> {
        let room_id = room_id.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {MESSAGE} FROM message WHERE room_id = ?1 ORDER BY seq");
            connection.prepare_cached(&sql)?.query_map([room_id], message_link)?.collect()
        })
    }

    fn newest_message_at(&self, room_id: &str, event_id: &str) -> Answer<'_, Option<MessageLink>> {
        let (room_id, event_id) = (room_id.to_owned(), event_id.to_owned());
        self.read(move |connection| {
            let sql = format!(
                "SELECT {MESSAGE} FROM message WHERE room_id = ?1 AND role = 0
                 AND seq <= (SELECT seq FROM event WHERE event_id = ?2) ORDER BY seq DESC LIMIT 1"
            );
            connection.prepare_cached(&sql)?.query_row([room_id, event_id], message_link).optional()
        })
    }

    fn arrived_after(&self, event_id: &str, other: &str) -> Answer<'_, bool> {
        let (event_id, other) = (event_id.to_owned(), other.to_owned());
        self.read(move |connection| {
            let sql = "SELECT 1 FROM event a, event b WHERE a.event_id = ?1 AND b.event_id = ?2 AND a.seq > b.seq";
            connection.prepare_cached(sql)?.exists([event_id, other])
        })
    }

    fn room_of_event(&self, event_id: &str) -> Answer<'_, Option<String>> {
        let event_id = event_id.to_owned();
        self.read(move |connection| text(connection, "SELECT room_id FROM event WHERE event_id = ?1", [event_id]))
    }

    fn knows_event(&self, event_id: &str) -> Answer<'_, bool> {
        let event_id = event_id.to_owned();
        self.read(move |connection| {
            connection.prepare_cached("SELECT 1 FROM event WHERE event_id = ?1")?.exists([event_id])
        })
    }

    fn unknown_events(&self, event_ids: Vec<String>) -> Answer<'_, Vec<String>> {
        self.read(move |connection| {
            let mut known = connection.prepare_cached("SELECT 1 FROM event WHERE event_id = ?1")?;
            let mut unknown = Vec::new();
            for event_id in event_ids {
                if !known.exists([&event_id])? {
                    unknown.push(event_id);
                }
            }
            Ok(unknown)
        })
    }

    fn person_of(&self, user_id: &str) -> Answer<'_, Option<String>> {
        let user_id = user_id.to_owned();
        self.read(move |connection| {
            // Two resources may name one user; the choice must not change from call to call.
            let sql = "SELECT reference FROM person WHERE user_id = ?1 ORDER BY reference LIMIT 1";
            text(connection, sql, [user_id])
        })
    }

    fn user_of(&self, reference: &str) -> Answer<'_, Option<String>> {
        let reference = reference.to_owned();
        self.read(move |connection| text(connection, "SELECT user_id FROM person WHERE reference = ?1", [reference]))
    }

    fn task_of(&self, request: &str, owner: &str) -> Answer<'_, Option<String>> {
        let (request, owner) = (request.to_owned(), owner.to_owned());
        self.read(move |connection| {
            text(connection, "SELECT id FROM task WHERE request = ?1 AND owner = ?2", [request, owner])
        })
    }

    fn overview(&self) -> Answer<'_, Overview> {
        self.read(|connection| {
            let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
            let count = |sql: &str| count(sql).map(i64::unsigned_abs);
            Ok(Overview {
                ready: [
                    count("SELECT count(*) FROM work WHERE state = 0 AND side = 0")?,
                    count("SELECT count(*) FROM work WHERE state = 0 AND side = 1")?,
                ],
                waiting: count("SELECT count(*) FROM work WHERE state = 1")?,
                parked: count("SELECT count(*) FROM work WHERE state = 2")?,
                rooms: count("SELECT count(*) FROM room")?,
                messages: count("SELECT count(*) FROM message")?,
                events: count("SELECT count(*) FROM event")?,
            })
        })
    }

    fn held(&self, limit: usize) -> Answer<'_, Vec<Held>> {
        self.held_after(None, 0, limit)
    }

    fn held_after(&self, lanes: Option<Vec<String>>, after: i64, limit: usize) -> Answer<'_, Vec<Held>> {
        // A list as one value; SQLite reads it as a table.
        let lanes = lanes.map(|lanes| serde_json::Value::from(lanes).to_string());
        self.read(move |connection| {
            let sql = "SELECT seq, lane, kind, attempts, CASE state WHEN 1 THEN 'waits for ' || need ELSE reason END,
                state = 2 FROM work WHERE state > 0 AND seq > ?1
                AND (?2 IS NULL OR lane IN (SELECT value FROM json_each(?2))) ORDER BY seq LIMIT ?3";
            let held = |row: &Row<'_>| {
                Ok(Held {
                    seq: row.get(0)?,
                    lane: row.get(1)?,
                    kind: row.get(2)?,
                    attempts: row.get(3)?,
                    reason: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
                    parked: row.get(5)?,
                })
            };
            connection.prepare_cached(sql)?.query_map(params![after, lanes, limit as i64], held)?.collect()
        })
    }

    fn lanes(&self, limit: usize) -> Answer<'_, Vec<Lane>> {
        self.read(move |connection| {
            // Of the lanes that have work, the one whose head came first; SQLite takes kind and attempts from the row
            // that has the minimum.
            let sql = "SELECT lane.side, lane.name, count(*), work.kind, work.attempts, lane.due,
                lane.owner IS NOT NULL, min(work.seq) AS head
                FROM lane JOIN work ON work.side = lane.side AND work.lane = lane.name AND work.state = 0
                GROUP BY lane.side, lane.name ORDER BY head LIMIT ?1";
            let lane = |row: &Row<'_>| {
                Ok(Lane {
                    side: if row.get::<_, i64>(0)? == 0 { Side::Matrix } else { Side::Fhir },
                    name: row.get(1)?,
                    ready: row.get::<_, i64>(2)?.unsigned_abs(),
                    kind: row.get(3)?,
                    attempts: row.get(4)?,
                    due: row.get(5)?,
                    leased: row.get(6)?,
                })
            };
            connection.prepare_cached(sql)?.query_map([limit as i64], lane)?.collect()
        })
    }
}

fn room_link(row: &Row<'_>) -> Result<RoomLink> {
    Ok(RoomLink { room_id: row.get(0)?, place: row.get(1)? })
}
