//! The tables of the repository.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

/// How long a connection waits for another one's lock. The writer is alone, so only a checkpoint or a backup can hold it.
const BUSY: Duration = Duration::from_secs(10);

/// The schema, one step for each version. A step that was released is never changed.
const STEPS: &[&str] = &[r"
    -- Every version of every resource, in the order of writing. Nothing here is ever changed or deleted.
    CREATE TABLE version (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        method TEXT NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (kind, id, version)
    ) STRICT;
    CREATE INDEX version_kind ON version (kind, seq);
    CREATE INDEX version_updated ON version (updated);

    -- The newest version of each resource. `rid` never changes.
    CREATE TABLE resource (
        rid INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES version (seq),
        updated INTEGER NOT NULL,
        UNIQUE (kind, id)
    ) STRICT;
    CREATE INDEX resource_updated ON resource (kind, updated);

    -- What the newest versions can be found by. `parameter` is `Type.name`.
    CREATE TABLE token (
        parameter TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, code, system, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX token_rid ON token (rid, parameter);
    CREATE TABLE reference (
        parameter TEXT NOT NULL, target TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, target, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reference_rid ON reference (rid, parameter);
    CREATE TABLE text (
        parameter TEXT NOT NULL, folded TEXT NOT NULL, exact TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, folded, exact, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX text_rid ON text (rid, parameter);
    CREATE TABLE moment (
        parameter TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, low, high, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX moment_rid ON moment (rid, parameter);

    -- Who is told of changes. A call has no content, so one number says all that is owed: changes up to `wanted`
    -- were found to match, and the endpoint knows of those up to `delivered`.
    CREATE TABLE hook (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        wanted INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX hook_kind ON hook (kind);
"];

/// Opens the connection that writes, and brings the tables up to date.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(128);
    let done: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(0);
    if done > STEPS.len() {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "the database has version {done}; this program knows {}",
            STEPS.len()
        )));
    }
    for (number, step) in STEPS.iter().enumerate().skip(done) {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {}; COMMIT;", number + 1))?;
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}
