//! PostgreSQL: sessions of one server, used from threads that may block.

mod address;
mod passwords;
mod tls;

use std::{borrow::Cow, cell::RefCell, collections::HashMap, error::Error as _, fmt, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Statement,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

pub use address::Settings;

use self::{passwords::Passwords, tls::Tls};
use super::{
    DatabaseError, Schema, Value,
    value::{Row, Source},
};
use crate::service::failure::{Failure, Status};

/// Prepared statements that a session keeps; when there are more, all are forgotten.
const STATEMENTS: usize = 256;
/// How much longer than the server's own limit an answer is waited for, before the connection counts as broken.
const GRACE: Duration = Duration::from_secs(5);
/// How long a transaction may stand still, in seconds: a replica that hangs in the middle lets go of its lock.
const STANDSTILL: u64 = 15;

/// A PostgreSQL server, or several of which one takes writes.
pub struct Server {
    config: tokio_postgres::Config,
    passwords: Passwords,
    tls: Tls,
    place: String,
    limit: Duration,
    readers: usize,
    // A thread of its own: sessions are used from threads that block, whatever runtime those who ask are on.
    runtime: Option<Runtime>,
}

/// One session.
pub(super) struct Session {
    client: tokio_postgres::Client,
    statements: RefCell<HashMap<String, Statement>>,
    broken: RefCell<Option<String>>,
    /// The number of the lock under which its schema is written.
    lock: i64,
    server: Arc<Server>,
}

// === impl Server ===

impl Server {
    /// Prepares connections; makes none.
    ///
    /// # Errors
    /// When the settings are wrong, or a file that they name cannot be read.
    pub fn new(settings: &Settings) -> Result<Arc<Self>, Failure> {
        let address = settings.address()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("postgres").enable_all().build().map_err(
                |error| Failure::new(Status::Unavailable, "cannot start the database's thread").because(error),
            )?;
        Ok(Arc::new(Self {
            passwords: Passwords::of(settings),
            tls: address.tls,
            place: address.place,
            config: address.config,
            limit: Duration::from_secs(settings.statement_seconds),
            // Two parts of the program, each with a writer of its own.
            readers: (settings.connections.saturating_sub(2) / 2).max(1),
            runtime: Some(runtime),
        }))
    }

    pub(super) fn readers(&self) -> usize {
        self.readers
    }

    /// Opens a session for a schema. Blocks.
    pub(super) fn open(self: &Arc<Self>, schema: &Schema) -> Result<Session, DatabaseError> {
        let connected = async {
            let client = self.connect().await?;
            client.batch_execute(&self.greeting(schema)).await.map_err(|error| describe(&error))?;
            Ok(client)
        };
        let client = self.wait(connected)?;
        Ok(Session {
            client,
            statements: RefCell::default(),
            broken: RefCell::default(),
            lock: schema.lock(),
            server: Arc::clone(self),
        })
    }

    async fn connect(&self) -> Result<tokio_postgres::Client, DatabaseError> {
        let mut config = self.config.clone();
        let password = self.passwords.read(&config).map_err(|failure| DatabaseError::Denied(failure.to_string()))?;
        if let Some(password) = password {
            config.password(password.expose());
        }
        let (client, connection) = config.connect(self.tls.clone()).await.map_err(|error| describe(&error))?;
        tokio::spawn(async move {
            // An error here is one of the statement that was under way, which tells it.
            let _ = connection.await;
        });
        let sound = client
            .query_one("SELECT current_setting('server_encoding'), current_setting('transaction_read_only')", &[])
            .await
            .map_err(|error| describe(&error))?;
        match (sound.get(0), sound.get(1)) {
            ("UTF8", "off") => Ok(client),
            ("UTF8", _) => Err(DatabaseError::Unreachable("the server is a standby that takes no writes".to_owned())),
            (other, _) => Err(DatabaseError::Denied(format!("its encoding is {other}; UTF8 is needed"))),
        }
    }

    /// What a session begins with. Durability may be stricter than asked for, never less.
    fn greeting(&self, schema: &Schema) -> String {
        format!(
            "SET search_path TO {}; SET statement_timeout TO '{}s'; SET idle_in_transaction_session_timeout TO \
             '{STANDSTILL}s'; SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'",
            schema.name,
            self.limit.as_secs()
        )
    }

    /// Waits for an answer on a thread that may block.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
        let runtime = self.runtime.as_ref().ok_or(DatabaseError::Closed)?;
        let patience = self.limit + GRACE;
        runtime.block_on(async {
            let late = |_| DatabaseError::Unreachable(format!("no answer within {} s", patience.as_secs()));
            tokio::time::timeout(patience, answer).await.map_err(late)?
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // May happen on a thread of another runtime, which must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

// === impl Session ===

impl Session {
    /// Why it cannot be used any more, if so.
    pub(super) fn broken(&self) -> Option<String> {
        let known = self.broken.borrow().clone();
        known.or_else(|| self.client.is_closed().then(|| "the connection was closed".to_owned()))
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, DatabaseError> {
        let statement = self.statement(sql)?;
        self.wait(self.client.execute(&statement, &parameters(values)))
    }

    pub(super) fn query<T, E: From<DatabaseError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let statement = self.statement(sql)?;
        let rows = self.wait(self.client.query(&statement, &parameters(values)))?;
        rows.iter().map(|row| read(&Row(Source::Postgres(row)))).collect()
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        self.wait(self.client.batch_execute(sql))
    }

    /// Begins a transaction in which nobody else writes to the schema, and gives the server's clock.
    ///
    /// The lock is a statement of its own, so that the next one sees what was committed before it was given. It ends
    /// after the commit can be seen.
    pub(super) fn begin_writing(&self) -> Result<i64, DatabaseError> {
        self.batch(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({})", self.lock))?;
        let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let found = self.query(clock, &[], |row| row.get(0))?;
        found.first().copied().ok_or_else(|| DatabaseError::Unexpected("no clock".to_owned()))
    }

    fn statement(&self, sql: &str) -> Result<Statement, DatabaseError> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.wait(self.client.prepare(&with_numbers(sql)))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DatabaseError> {
        let answer = self.server.wait(async { answer.await.map_err(|error| describe(&error)) });
        if let Err(DatabaseError::Unreachable(reason)) = &answer {
            *self.broken.borrow_mut() = Some(reason.clone());
        }
        answer
    }
}

/// `?` and `?1` as `$1`.
fn with_numbers(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut number = 0;
    let mut letters = sql.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '?' if letters.peek().is_some_and(char::is_ascii_digit) => text.push('$'),
            '?' => {
                number += 1;
                text.push_str(&format!("${number}"));
            }
            other => text.push(other),
        }
    }
    text
}

fn parameters<'a>(values: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

pub(super) fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value<'_>, DatabaseError> {
    let kind = row.columns().get(column).map(|column| column.type_().clone());
    let unexpected = || DatabaseError::Unexpected(format!("column {column}"));
    let found = match kind.ok_or_else(unexpected)? {
        Type::INT8 => row.try_get::<_, Option<i64>>(column).map(Value::from),
        Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|number| number.map(i64::from).into()),
        Type::BOOL => row.try_get::<_, Option<bool>>(column).map(|flag| flag.map(i64::from).into()),
        _ => row.try_get::<_, Option<&str>>(column).map(Value::from),
    };
    found.map_err(|_| unexpected())
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), &Type::INT8) => number.to_sql(kind, out),
            (Value::Integer(number), &Type::INT4) => i32::try_from(*number)?.to_sql(kind, out),
            (Value::Integer(number), &Type::BOOL) => (*number != 0).to_sql(kind, out),
            (Value::Text(text), &Type::TEXT | &Type::VARCHAR | &Type::NAME) => without_zeroes(text).to_sql(kind, out),
            _ => Err(format!("a value of another type than {kind}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// PostgreSQL's texts hold no zero bytes.
fn without_zeroes(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// What went wrong, in words without values: a server's message may repeat one, its number and names do not.
fn describe(error: &tokio_postgres::Error) -> DatabaseError {
    let Some(said) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        let is_io = error.source().is_some_and(|cause| cause.is::<io::Error>());
        // Also a name that is not known yet, and a certificate that does not fit: both may be mended there.
        return if is_io || error.is_closed() || text.starts_with("error c") || text.contains("TLS") {
            DatabaseError::Unreachable(text)
        } else {
            DatabaseError::Refused(text)
        };
    };
    let code = said.code().code();
    let names = [said.table(), said.constraint()].into_iter().flatten().map(|name| format!(", {name}"));
    let text = format!("error {code}{}", names.collect::<String>());
    match code.get(..2).unwrap_or_default() {
        // Connections, shut-down and start-up: these messages are of the server, not of values.
        "08" => DatabaseError::Unreachable(said.message().to_owned()),
        "57" if *said.code() != SqlState::QUERY_CANCELED => DatabaseError::Unreachable(said.message().to_owned()),
        // A server that became a standby, and a session that was ended because it stood still.
        _ if ["25006", "25P03"].contains(&code) => DatabaseError::Unreachable(said.message().to_owned()),
        "53" if *said.code() == SqlState::TOO_MANY_CONNECTIONS => DatabaseError::Unreachable(said.message().to_owned()),
        "28" | "3D" | "42" => DatabaseError::Denied(format!("{} ({code})", said.message())),
        // A serialization failure, a deadlock, a statement that took longer than it may.
        "40" | "57" => DatabaseError::GaveUp(format!("{} ({code})", said.message())),
        "53" | "55" | "58" => DatabaseError::Hindered(format!("{} ({code})", said.message())),
        "XX" => DatabaseError::Unexpected(text),
        // 21, 22, 23, 44, 54: values and rules.
        _ => DatabaseError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_get_numbers() {
        assert_eq!(with_numbers("a = ? AND b IN (?, ?)"), "a = $1 AND b IN ($2, $3)");
        assert_eq!(with_numbers("a = ?2 AND b = ?1 OR ?12"), "a = $2 AND b = $1 OR $12");
    }
}
