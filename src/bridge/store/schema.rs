//! The tables.

use crate::service::database::Schema;

/// The tables of the bridge's state.
pub const SCHEMA: Schema = Schema { name: "bridge", steps: &STEPS };

/// Steps to the present tables. A step that was released is never changed; a new one is added.
const STEPS: [&str; 2] = [
    "
    -- How far each stream was read.
    CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    -- Keys of work that was taken in once.
    CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
    -- Every event that was taken in, in the order of arrival.
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        room_id TEXT NOT NULL
    );
    -- Work. state: 0 ready, 1 waiting, 2 parked. What is done is gone.
    CREATE TABLE work (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        side INTEGER NOT NULL,
        lane TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload TEXT NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        need TEXT,
        reason TEXT
    );
    CREATE INDEX work_by_lane ON work (side, lane, state, seq);
    CREATE INDEX work_by_state ON work (state, side, seq);
    CREATE INDEX work_by_need ON work (need) WHERE need IS NOT NULL;
    -- Lanes with ready work. A leased lane is due again when its lease ends.
    CREATE TABLE lane (
        side INTEGER NOT NULL,
        name TEXT NOT NULL,
        due INTEGER NOT NULL,
        owner TEXT,
        suspect INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (side, name)
    ) WITHOUT ROWID;
    CREATE INDEX lane_by_due ON lane (side, due);
    CREATE TABLE room (place TEXT PRIMARY KEY, room_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;
    -- seq is that of the event, so that the newest message before an event is found at once.
    CREATE TABLE message (
        event_id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        room_id TEXT NOT NULL,
        resource TEXT NOT NULL,
        part INTEGER NOT NULL,
        role INTEGER NOT NULL,
        origin INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX message_by_resource ON message (resource, seq);
    CREATE INDEX message_by_room ON message (room_id, seq);
    CREATE TABLE person (reference TEXT PRIMARY KEY, user_id TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX person_by_user ON person (user_id);
    CREATE TABLE task (request TEXT, owner TEXT, id TEXT NOT NULL, PRIMARY KEY (request, owner)) WITHOUT ROWID;
",
    "
    -- What only one replica does at a time, such as looking for changes.
    CREATE TABLE duty (name TEXT PRIMARY KEY, owner TEXT NOT NULL, due INTEGER NOT NULL) WITHOUT ROWID;
",
];
