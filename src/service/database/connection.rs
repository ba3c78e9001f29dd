//! One connection, to either database, with the few calls that statements need.

use std::{cell::Cell, sync::OnceLock, time::Instant};

use super::{DatabaseError, Value, postgres, sqlite, value::Row};

/// A connection inside a transaction. Statements are written once for both databases: `?` or `?1` for values,
/// `ON CONFLICT`, `RETURNING`; see [`super`] for what they must keep to.
pub struct Connection {
    pub(super) kind: Kind,
    /// The moment at which the transaction began, in microseconds since 1970.
    began: Cell<i64>,
}

/// Which database it is.
pub(super) enum Kind {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Session),
}

// === impl Connection ===

impl Connection {
    pub(super) fn sqlite(connection: rusqlite::Connection) -> Self {
        Self { kind: Kind::Sqlite(connection), began: Cell::new(0) }
    }

    pub(super) fn postgres(session: postgres::Session) -> Self {
        Self { kind: Kind::Postgres(session), began: Cell::new(0) }
    }

    /// Carries out a statement; gives how many rows it changed.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, DatabaseError> {
        match &self.kind {
            Kind::Sqlite(connection) => sqlite::execute(connection, sql, values),
            Kind::Postgres(session) => session.execute(sql, values),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn query<T, E: From<DatabaseError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        match &self.kind {
            Kind::Sqlite(connection) => sqlite::query(connection, sql, values, read),
            Kind::Postgres(session) => session.query(sql, values, read),
        }
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn first<T, E: From<DatabaseError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        Ok(self.query(sql, values, read)?.into_iter().next())
    }

    /// Whether a query gives a row.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn exists(&self, sql: &str, values: &[Value<'_>]) -> Result<bool, DatabaseError> {
        Ok(self.first(sql, values, |_| Ok::<_, DatabaseError>(()))?.is_some())
    }

    /// The moment at which the transaction that writes began, in microseconds since 1970: by the clock of PostgreSQL,
    /// so that replicas agree, or by that of this machine.
    pub fn now_micros(&self) -> i64 {
        self.began.get()
    }

    /// The present moment for what is due, in microseconds since 1970: by the clock of PostgreSQL, so that replicas
    /// agree, or by one that goes on evenly when somebody sets that of this machine.
    ///
    /// Work that is due by a clock that was set back would wait for hours; leases by one that was set ahead would end
    /// while they are in use.
    pub fn steady_micros(&self) -> i64 {
        static BEGIN: OnceLock<(Instant, i64)> = OnceLock::new();
        if let Kind::Postgres(_) = self.kind {
            return self.now_micros();
        }
        let (begin, at) = BEGIN.get_or_init(|| (Instant::now(), sqlite::now_micros()));
        at.saturating_add(i64::try_from(begin.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Carries out `work` and undoes whatever it wrote; gives what it found.
    ///
    /// # Errors
    /// Those of `work`, and what the database says.
    pub fn rehearse<T, E: From<DatabaseError>>(&self, work: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        self.batch("SAVEPOINT rehearsal")?;
        let done = work(self);
        self.batch("ROLLBACK TO SAVEPOINT rehearsal; RELEASE SAVEPOINT rehearsal")?;
        done
    }

    /// Statements without values.
    pub(super) fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        match &self.kind {
            Kind::Sqlite(connection) => connection.execute_batch(sql).map_err(sqlite::error),
            Kind::Postgres(session) => session.batch(sql),
        }
    }

    /// Why it cannot be used any more, if so.
    pub(super) fn broken(&self) -> Option<String> {
        match &self.kind {
            Kind::Sqlite(_) => None,
            Kind::Postgres(session) => session.broken(),
        }
    }

    /// Begins the one transaction that writes: nobody else writes until it ends.
    pub(super) fn begin_writing(&self) -> Result<(), DatabaseError> {
        let now = match &self.kind {
            Kind::Sqlite(connection) => sqlite::begin_writing(connection)?,
            Kind::Postgres(session) => session.begin_writing()?,
        };
        self.began.set(now);
        Ok(())
    }

    /// Begins a transaction that sees one state of the database.
    pub(super) fn begin_reading(&self) -> Result<(), DatabaseError> {
        self.batch(match &self.kind {
            Kind::Sqlite(_) => "BEGIN",
            Kind::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })
    }
}
