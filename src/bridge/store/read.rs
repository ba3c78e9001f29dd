//! The store's questions as SQL.

use std::{collections::HashSet, time::Duration};

use super::{
    Answer, Change, Held, Lane, Lease, MessageLink, Overview, RoomLink, Side, SqlStore, Store, StoreError, Work,
    apply::message_link,
};
use crate::service::database::{Connection, DatabaseError, Row, values};

/// Held work that is looked at in one piece.
const PIECE: usize = 500;
const MESSAGE: &str = "event_id, room_id, resource, part, role, origin, digest";

// === impl SqlStore ===

impl SqlStore {
    /// Asks one question.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move { Ok(self.database.ask(question).await?) })
    }

    /// One text, if there is one.
    fn text<const N: usize>(&self, sql: &'static str, values: [&str; N]) -> Answer<'_, Option<String>> {
        let values = values.map(str::to_owned);
        self.ask(move |connection| connection.first(sql, &values.each_ref().map(Into::into), |row| row.get(0)))
    }

    fn room(&self, sql: &'static str, value: &str) -> Answer<'_, Option<RoomLink>> {
        let value = value.to_owned();
        self.ask(move |connection| connection.first(sql, values![value], room_link))
    }

    /// The messages that a condition describes.
    fn messages<const N: usize>(&self, condition: &str, values: [&str; N]) -> Answer<'_, Vec<MessageLink>> {
        let (sql, values) = (format!("SELECT {MESSAGE} FROM message WHERE {condition}"), values.map(str::to_owned));
        self.ask(move |connection| connection.query(&sql, &values.each_ref().map(Into::into), message_link))
    }

    fn one_message<const N: usize>(&self, condition: &str, values: [&str; N]) -> Answer<'_, Option<MessageLink>> {
        let found = self.messages(condition, values);
        Box::pin(async move { Ok(found.await?.into_iter().next()) })
    }
}

// === impl Store for SqlStore ===

impl Store for SqlStore {
    fn commit(&self, changes: Vec<Change>) -> Answer<'_, ()> {
        Box::pin(self.write(changes))
    }

    fn claim(&self, side: Side, limit: usize, lasting: Duration) -> Answer<'_, Vec<Lease>> {
        Box::pin(self.lease(side, limit, lasting))
    }

    fn take_duty(&self, duty: &'static str, lasting: Duration) -> Answer<'_, bool> {
        Box::pin(self.duty(duty, lasting))
    }

    fn absence(&self) -> Option<(Duration, String)> {
        self.database.absence()
    }

    fn head(&self, side: Side, lane: &str, limit: usize) -> Answer<'_, Vec<Work>> {
        let lane = lane.to_owned();
        self.ask(move |connection| {
            let sql = "SELECT seq, kind, payload, attempts, CASE WHEN reason IS NULL THEN 0 ELSE 1 END FROM work
                WHERE side = ? AND lane = ? AND state = 0 ORDER BY seq LIMIT ?";
            connection.query(sql, values![side.number(), lane, limit], |row| {
                Ok(Work {
                    seq: row.get(0)?,
                    kind: row.get(1)?,
                    payload: row.get(2)?,
                    attempts: row.get(3)?,
                    tried: row.get(4)?,
                })
            })
        })
    }

    fn work_of(&self, side: Side, lane: &str, kind: &'static str) -> Answer<'_, Vec<String>> {
        let lane = lane.to_owned();
        self.ask(move |connection| {
            let sql = "SELECT payload FROM work WHERE side = ? AND lane = ? AND kind = ? ORDER BY seq";
            connection.query(sql, values![side.number(), lane, kind], |row| row.get(0))
        })
    }

    fn cursor(&self, name: &str) -> Answer<'_, Option<String>> {
        self.text("SELECT value FROM cursor WHERE name = ?", [name])
    }

    fn room_of(&self, place: &str) -> Answer<'_, Option<RoomLink>> {
        self.room("SELECT room_id, place FROM room WHERE place = ?", place)
    }

    fn place_of(&self, room_id: &str) -> Answer<'_, Option<RoomLink>> {
        self.room("SELECT room_id, place FROM room WHERE room_id = ?", room_id)
    }

    fn rooms(&self) -> Answer<'_, Vec<RoomLink>> {
        self.ask(|connection| connection.query("SELECT room_id, place FROM room ORDER BY place", &[], room_link))
    }

    fn message(&self, event_id: &str) -> Answer<'_, Option<MessageLink>> {
        self.one_message("event_id = ?", [event_id])
    }

    fn messages_of(&self, resource: &str) -> Answer<'_, Vec<MessageLink>> {
        self.messages("resource = ? ORDER BY seq", [resource])
    }

    fn messages_in(&self, room_id: &str) -> Answer<'_, Vec<MessageLink>> {
        self.messages("room_id = ? ORDER BY seq", [room_id])
    }

    fn newest_message_at(&self, room_id: &str, event_id: &str) -> Answer<'_, Option<MessageLink>> {
        let before = "room_id = ? AND role = 0 AND seq <= (SELECT seq FROM event WHERE event_id = ?)
            ORDER BY seq DESC LIMIT 1";
        self.one_message(before, [room_id, event_id])
    }

    fn arrived_after(&self, event_id: &str, other: &str) -> Answer<'_, bool> {
        let (event_id, other) = (event_id.to_owned(), other.to_owned());
        self.ask(move |connection| {
            let sql = "SELECT 1 FROM event a, event b WHERE a.event_id = ? AND b.event_id = ? AND a.seq > b.seq";
            connection.exists(sql, values![event_id, other])
        })
    }

    fn room_of_event(&self, event_id: &str) -> Answer<'_, Option<String>> {
        self.text("SELECT room_id FROM event WHERE event_id = ?", [event_id])
    }

    fn knows_event(&self, event_id: &str) -> Answer<'_, bool> {
        let room = self.room_of_event(event_id);
        Box::pin(async move { Ok(room.await?.is_some()) })
    }

    fn unknown_events(&self, event_ids: Vec<String>) -> Answer<'_, Vec<String>> {
        self.ask(move |connection| {
            let mut unknown = Vec::new();
            for event_id in event_ids {
                if !connection.exists("SELECT 1 FROM event WHERE event_id = ?", values![&event_id])? {
                    unknown.push(event_id);
                }
            }
            Ok(unknown)
        })
    }

    fn person_of(&self, user_id: &str) -> Answer<'_, Option<String>> {
        // Two resources may name one user; the choice must not change from call to call.
        self.text("SELECT reference FROM person WHERE user_id = ? ORDER BY reference LIMIT 1", [user_id])
    }

    fn persons_of(&self, user_id: &str) -> Answer<'_, Vec<String>> {
        let user_id = user_id.to_owned();
        self.ask(move |connection| {
            let sql = "SELECT reference FROM person WHERE user_id = ? ORDER BY reference";
            connection.query(sql, values![user_id], |row| row.get(0))
        })
    }

    fn user_of(&self, reference: &str) -> Answer<'_, Option<String>> {
        self.text("SELECT user_id FROM person WHERE reference = ?", [reference])
    }

    fn task_of(&self, request: &str, owner: &str) -> Answer<'_, Option<String>> {
        self.text("SELECT id FROM task WHERE request = ? AND owner = ?", [request, owner])
    }

    fn overview(&self) -> Answer<'_, Overview> {
        let count = |connection: &Connection| {
            let count =
                |sql: &str| Ok::<u64, DatabaseError>(connection.first(sql, &[], |row| row.get(0))?.unwrap_or(0));
            Ok::<_, StoreError>(Overview {
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
        };
        Box::pin(self.database.read(count))
    }

    fn held(&self, limit: usize) -> Answer<'_, Vec<Held>> {
        self.held_after(None, 0, limit)
    }

    fn held_after(&self, lanes: Option<Vec<String>>, after: i64, limit: usize) -> Answer<'_, Vec<Held>> {
        let lanes: Option<HashSet<String>> = lanes.map(|lanes| lanes.into_iter().collect());
        let is_meant = move |held: &Held| lanes.as_ref().is_none_or(|lanes| lanes.contains(&held.lane));
        self.ask(move |connection| {
            // Looked through in pieces: there may be more lanes than a statement takes values.
            let (mut found, mut after) = (Vec::new(), after);
            loop {
                let piece = held_piece(connection, after)?;
                let next = piece.last().map(|held| held.seq);
                found.extend(piece.into_iter().filter(&is_meant));
                match next {
                    Some(seq) if found.len() < limit => after = seq,
                    _ => break,
                }
            }
            found.truncate(limit);
            Ok(found)
        })
    }

    fn lanes(&self, limit: usize) -> Answer<'_, Vec<Lane>> {
        self.ask(move |connection| {
            // Of the lanes that have work, the one whose head came first.
            let sql = "SELECT lane.side, lane.name, ready.size, head.kind, head.attempts, lane.due,
                CASE WHEN lane.owner IS NULL THEN 0 ELSE 1 END
                FROM (SELECT side, lane, count(*) AS size, min(seq) AS first FROM work WHERE state = 0
                    GROUP BY side, lane) AS ready
                JOIN lane ON lane.side = ready.side AND lane.name = ready.lane
                JOIN work AS head ON head.seq = ready.first ORDER BY head.seq LIMIT ?";
            connection.query(sql, values![limit], |row| {
                Ok(Lane {
                    side: if row.get::<i64>(0)? == 0 { Side::Matrix } else { Side::Fhir },
                    name: row.get(1)?,
                    ready: row.get(2)?,
                    kind: row.get(3)?,
                    attempts: row.get(4)?,
                    due: row.get(5)?,
                    leased: row.get(6)?,
                })
            })
        })
    }
}

/// Some held work after a number.
fn held_piece(connection: &Connection, after: i64) -> Result<Vec<Held>, DatabaseError> {
    let sql = "SELECT seq, lane, kind, attempts, CASE state WHEN 1 THEN 'waits for ' || need ELSE reason END,
        CASE state WHEN 2 THEN 1 ELSE 0 END FROM work WHERE state > 0 AND seq > ? ORDER BY seq LIMIT ?";
    connection.query(sql, values![after, PIECE], |row| {
        Ok(Held {
            seq: row.get(0)?,
            lane: row.get(1)?,
            kind: row.get(2)?,
            attempts: row.get(3)?,
            reason: row.get::<Option<String>>(4)?.unwrap_or_default(),
            parked: row.get(5)?,
        })
    })
}

fn room_link(row: &Row<'_>) -> Result<RoomLink, DatabaseError> {
    Ok(RoomLink { room_id: row.get(0)?, place: row.get(1)? })
}
