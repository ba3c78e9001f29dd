//! SQLite: a file in write-ahead mode, where a commit is on disk before it is acknowledged.

use std::{
    borrow::Cow,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{
    OpenFlags, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    DatabaseError, Value,
    value::{Row, Source},
};

/// How long one connection waits for another one's lock.
const BUSY: Duration = Duration::from_secs(10);
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 128;

/// Opens the connection that writes.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Each write is a savepoint; what undoes it would go into a file that is made and deleted for it.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    // Not read-only: a reader of a write-ahead log must be able to write its index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

pub(super) fn begin_writing(connection: &rusqlite::Connection) -> Result<i64, DatabaseError> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(error)?;
    Ok(now_micros())
}

/// This machine's clock, in microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn execute(
    connection: &rusqlite::Connection,
    sql: &str,
    values: &[Value<'_>],
) -> Result<u64, DatabaseError> {
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let changed = statement.execute(params_from_iter(values)).map_err(error)?;
    Ok(changed.try_into().unwrap_or(u64::MAX))
}

pub(super) fn query<T, E: From<DatabaseError>>(
    connection: &rusqlite::Connection,
    sql: &str,
    values: &[Value<'_>],
    mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(error)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(error)? {
        found.push(read(&Row(Source::Sqlite(row)))?);
    }
    Ok(found)
}

pub(super) fn value<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<Value<'a>, DatabaseError> {
    let unexpected = || DatabaseError::Unexpected(format!("column {column}"));
    match row.get_ref(column).map_err(error)? {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Integer(number)),
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map(|text| Value::Text(Cow::Borrowed(text))).map_err(|_| unexpected())
        }
        ValueRef::Real(_) | ValueRef::Blob(_) => Err(unexpected()),
    }
}

/// What went wrong, in words without values.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn error(error: rusqlite::Error) -> DatabaseError {
    use rusqlite::ErrorCode as Code;
    let (failure, text) = match &error {
        rusqlite::Error::SqliteFailure(failure, text) => (failure, text),
        // A statement that does not fit the tables.
        rusqlite::Error::SqlInputError { msg, .. } => return DatabaseError::Denied(msg.clone()),
        other => return DatabaseError::Unexpected(other.to_string()),
    };
    let text = text.clone().unwrap_or_else(|| failure.to_string());
    match failure.code {
        Code::DatabaseBusy
        | Code::DatabaseLocked
        | Code::DiskFull
        | Code::SystemIoFailure
        | Code::OutOfMemory
        | Code::FileLockingProtocolFailed
        | Code::OperationInterrupted
        | Code::OperationAborted
        | Code::SchemaChanged => DatabaseError::Hindered(text),
        // `Unknown` is SQLITE_ERROR: the statement does not fit the tables.
        Code::ReadOnly
        | Code::CannotOpen
        | Code::PermissionDenied
        | Code::AuthorizationForStatementDenied
        | Code::Unknown => DatabaseError::Denied(text),
        Code::DatabaseCorrupt | Code::NotADatabase => DatabaseError::Unexpected(text),
        _ => DatabaseError::Refused(text),
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}
