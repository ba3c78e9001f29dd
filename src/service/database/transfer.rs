//! A move from SQLite files to PostgreSQL: everything in one transaction, or nothing.
//!
//! The files stay as they are. While it lasts, nobody else writes on either side. Rows go over as they are, numbers
//! that are given out go on behind the last one, and both sides are counted before the transaction ends.

use std::{path::PathBuf, sync::Arc};

use super::{Backend, Connection, DatabaseError, Schema, Server, Value, schema::Outdated, values};
use crate::service::failure::{Failure, Status};

/// Rows of one statement at most.
const ROWS: usize = 500;
/// Bytes of text of one statement, roughly: a row may be larger by itself.
const BYTES: usize = 1 << 20;

/// One part of the program whose tables move.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its tables.
    pub schema: Schema,
    /// The file in which they are; it must exist.
    pub file: PathBuf,
    /// Tables of which nothing goes over: they say who does what at present, and nobody does anything.
    pub passing: &'static [&'static str],
}

/// A table that went over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// `schema.table`.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// Why nothing went over.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error("{0} is not empty")]
    NotEmpty(String),
    #[error("{table} has {here} rows in the file, and {there} arrived")]
    Miscounted { table: String, here: u64, there: u64 },
    #[error(transparent)]
    Outdated(#[from] Outdated),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Whether it was committed nobody knows.
    #[error("{0}, in the moment of the commit")]
    Unsure(DatabaseError),
}

/// Moves all parts into the schemas of one database, which must be empty. Says what is there now.
///
/// # Errors
/// When a file or the database cannot be used, when something is in the database already, or when what arrived is not
/// what left. Then the database is as it was.
pub async fn transfer(parts: Vec<Part>, server: &Arc<Server>) -> Result<Vec<Moved>, Failure> {
    let (to, place) = (Arc::clone(server), server.to_string());
    let carried = tokio::task::spawn_blocking(move || carry(&parts, &to)).await;
    let carried = carried.unwrap_or(Err(Hindrance::Database(DatabaseError::Closed)));
    carried.map_err(|hindrance| match hindrance {
        Hindrance::NotEmpty(_) => Failure::new(Status::Data, format!("something is in {place} already"))
            .because(hindrance)
            .remedy("Name an empty database; what is there is not overwritten."),
        Hindrance::Unsure(_) => {
            Failure::new(Status::Unavailable, format!("it is not known whether {place} has it now"))
                .because(hindrance)
                .remedy("Run the same again: it says that something is there already, if so.")
        }
        Hindrance::Database(DatabaseError::Unreachable(_)) => {
            Failure::new(Status::Unavailable, format!("nothing was moved to {place}")).because(hindrance)
        }
        _ => Failure::new(Status::Data, format!("nothing was moved to {place}")).because(hindrance),
    })
}

fn carry(parts: &[Part], server: &Arc<Server>) -> Result<Vec<Moved>, Hindrance> {
    let mut sources = Vec::new();
    for part in parts {
        let source = Backend::Sqlite(part.file.clone()).open_writer()?;
        part.schema.migrate(&source)?;
        // Nobody writes to the file until this connection ends.
        source.begin_writing()?;
        sources.push(source);
        let prepared = Backend::Postgres(Arc::clone(server), part.schema).open_writer()?;
        part.schema.migrate(&prepared)?;
    }
    let Some(first) = parts.first() else { return Ok(Vec::new()) };
    let target = Backend::Postgres(Arc::clone(server), first.schema).open_writer()?;
    target.begin_writing()?;
    for part in &parts[1..] {
        target.query("SELECT pg_advisory_xact_lock(?)", values![part.schema.lock()], |_| Ok::<_, DatabaseError>(()))?;
    }
    // An error ends the connection, and with it the transaction.
    let mut moved = Vec::new();
    for (part, source) in parts.iter().zip(&sources) {
        moved.extend(Carrier { part, source, target: &target }.carry()?);
    }
    match target.batch("COMMIT") {
        Ok(()) => Ok(moved),
        Err(error @ DatabaseError::Unreachable(_)) => Err(Hindrance::Unsure(error)),
        Err(error) => Err(error.into()),
    }
}

/// Carries one part.
struct Carrier<'a> {
    part: &'a Part,
    source: &'a Connection,
    target: &'a Connection,
}

// === impl Carrier ===

impl Carrier<'_> {
    fn carry(&self) -> Result<Vec<Moved>, Hindrance> {
        // In the order in which they were made: none refers to a later one.
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid";
        let tables: Vec<String> = self.source.query(sql, &[], |row| row.get::<String>(0))?;
        for table in &tables {
            if self.target.exists(&format!("SELECT 1 FROM {} LIMIT 1", self.there(table)), &[])? {
                return Err(Hindrance::NotEmpty(self.name(table)));
            }
        }
        let kept = tables.iter().filter(|table| !self.part.passing.contains(&table.as_str()));
        kept.map(|table| self.carry_table(table)).collect()
    }

    fn carry_table(&self, table: &str) -> Result<Moved, Hindrance> {
        let columns: Vec<String> =
            self.source.query("SELECT name FROM pragma_table_info(?)", values![table], |row| row.get::<String>(0))?;
        let names = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
        let into = format!("INSERT INTO {} ({names}) VALUES ", self.there(table));
        let mut batch = Batch { into, width: columns.len(), values: Vec::new(), bytes: 0 };
        self.source.query(&format!("SELECT {names} FROM {}", quoted(table)), &[], |row| {
            for column in 0..batch.width {
                batch.add(row.get::<Value<'static>>(column)?);
            }
            if batch.is_full() { batch.send(self.target) } else { Ok::<_, DatabaseError>(()) }
        })?;
        batch.send(self.target)?;
        let count = |connection: &Connection, place: &str| {
            connection.first(&format!("SELECT count(*) FROM {place}"), &[], |row| row.get::<u64>(0))
        };
        let here = count(self.source, &quoted(table))?.unwrap_or_default();
        let there = count(self.target, &self.there(table))?.unwrap_or_default();
        if here != there {
            return Err(Hindrance::Miscounted { table: self.name(table), here, there });
        }
        self.go_on_counting(table)?;
        Ok(Moved { table: self.name(table), rows: there })
    }

    /// Numbers that the database gives out go on behind the last one, also where that row is gone.
    fn go_on_counting(&self, table: &str) -> Result<(), DatabaseError> {
        let sql = "SELECT column_name::text FROM information_schema.columns
            WHERE table_schema = ? AND table_name = ? AND is_identity = 'YES'";
        let given: &[Value<'_>] = values![self.part.schema.name, table];
        let Some(column) = self.target.first(sql, given, |row| row.get::<String>(0))? else { return Ok(()) };
        let newest = format!("SELECT max({}) FROM {}", quoted(&column), quoted(table));
        let newest: Option<i64> = self.source.first(&newest, &[], |row| row.get(0))?.flatten();
        let remembered = match self.source.exists("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'", &[])? {
            true => self
                .source
                .first("SELECT seq FROM sqlite_sequence WHERE name = ?", values![table], |row| row.get::<i64>(0))?,
            false => None,
        };
        if let Some(last) = newest.max(remembered).filter(|last| *last > 0) {
            let sql = "SELECT setval(pg_get_serial_sequence(?, ?)::regclass, ?)";
            self.target.query(sql, values![self.there(table), column, last], |_| Ok::<_, DatabaseError>(()))?;
        }
        Ok(())
    }

    fn there(&self, table: &str) -> String {
        format!("{}.{}", quoted(self.part.schema.name), quoted(table))
    }

    fn name(&self, table: &str) -> String {
        format!("{}.{table}", self.part.schema.name)
    }
}

/// Rows that go over in one statement.
struct Batch {
    into: String,
    /// Values of a row.
    width: usize,
    values: Vec<Value<'static>>,
    bytes: usize,
}

// === impl Batch ===

impl Batch {
    fn add(&mut self, value: Value<'static>) {
        if let Value::Text(text) = &value {
            self.bytes += text.len();
        }
        self.values.push(value);
    }

    fn is_full(&self) -> bool {
        self.values.len() >= ROWS * self.width || self.bytes >= BYTES
    }

    fn send(&mut self, target: &Connection) -> Result<(), DatabaseError> {
        if self.values.is_empty() {
            return Ok(());
        }
        let row = format!("({})", vec!["?"; self.width].join(", "));
        let rows = vec![row; self.values.len() / self.width].join(", ");
        target.execute(&format!("{}{rows}", self.into), &self.values)?;
        self.values.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::postgres, *};
    use crate::service::database::{Database, Patience, tests::server};

    const SCHEMAS: [Schema; 2] = [
        Schema {
            name: "one",
            steps: &["CREATE TABLE note (seq INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT, size INTEGER);
                CREATE TABLE duty (name TEXT PRIMARY KEY) WITHOUT ROWID;"],
        },
        Schema {
            name: "two",
            steps: &["CREATE TABLE version (seq INTEGER PRIMARY KEY, content TEXT NOT NULL) STRICT;
                CREATE TABLE latest (seq INTEGER NOT NULL REFERENCES version (seq)) STRICT;"],
        },
    ];

    /// Two files, with more than one statement takes.
    async fn files(directory: &std::path::Path) -> Vec<Part> {
        let parts: Vec<Part> = SCHEMAS
            .iter()
            .map(|schema| Part { schema: *schema, file: directory.join(schema.name), passing: &["duty"] })
            .collect();
        let [one, two] = [0, 1].map(|at| Database::open(&parts[at].file, SCHEMAS[at], 1, || ()).unwrap());
        one.write(|connection| {
            for number in 0..1201_i64 {
                let text = (number % 3 != 0).then(|| format!("É{number}"));
                connection.execute("INSERT INTO note (text, size) VALUES (?, ?)", values![text, number])?;
            }
            connection.execute("DELETE FROM note WHERE seq = 1201", &[])?;
            connection.execute("INSERT INTO duty (name) VALUES ('feed')", &[])
        })
        .await
        .unwrap();
        two.write(|connection| {
            let large = "x".repeat(BYTES);
            for _ in 0..3 {
                connection.execute("INSERT INTO version (content) VALUES (?)", values![&large])?;
            }
            connection.execute("INSERT INTO latest (seq) VALUES (3)", &[])
        })
        .await
        .map_err(|error: DatabaseError| error)
        .unwrap();
        parts
    }

    async fn number(database: &Database, sql: &'static str) -> i64 {
        let asked = database.ask(move |connection| connection.first(sql, &[], |row| row.get::<i64>(0))).await;
        asked.map_err(|error: DatabaseError| error).unwrap().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_goes_over_once_and_counting_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (parts, url) = (files(directory.path()).await, postgres::fresh_database());
        let moved = transfer(parts.clone(), &server(&url)).await.unwrap();
        let moved: Vec<_> = moved.iter().map(|moved| (moved.table.as_str(), moved.rows)).collect();
        assert_eq!(moved, [("one.note", 1200), ("two.version", 3), ("two.latest", 1)]);
        let one = Database::connect(&server(&url), SCHEMAS[0], Patience::Command, || ()).await.unwrap();
        assert_eq!(number(&one, "SELECT count(*) FROM note WHERE text = 'É' || size").await, 800);
        assert_eq!(number(&one, "SELECT count(*) FROM note WHERE text IS NULL AND seq = size + 1").await, 400);
        assert_eq!(number(&one, "SELECT count(*) FROM duty").await, 0);
        let next = |connection: &Connection| {
            connection.first("INSERT INTO note (size) VALUES (0) RETURNING seq", &[], |row| row.get::<i64>(0))
        };
        let next: Result<_, DatabaseError> = one.write(next).await;
        assert_eq!(next.unwrap(), Some(1202), "a number that was given out is not given out again");

        let again = transfer(parts.clone(), &server(&url)).await.unwrap_err().to_string();
        assert!(again.contains("already"), "{again}");
        let kept = Database::open(&parts[0].file, SCHEMAS[0], 1, || ()).unwrap();
        assert_eq!(number(&kept, "SELECT count(*) FROM note").await, 1200);
        assert_eq!(number(&kept, "SELECT count(*) FROM duty").await, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_go_over_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let (parts, url) = (files(directory.path()).await, postgres::fresh_database());
        // SQLite keeps a text in a column of numbers, if the table is not strict.
        let broken = Database::open(&parts[0].file, SCHEMAS[0], 1, || ()).unwrap();
        let broke: Result<_, DatabaseError> =
            broken.write(|connection| connection.execute("INSERT INTO note (size) VALUES ('much')", &[])).await;
        broke.unwrap();
        let parts = vec![parts[1].clone(), parts[0].clone()];
        let failed = transfer(parts.clone(), &server(&url)).await.unwrap_err().to_string();
        assert!(failed.contains("nothing was moved") && !failed.contains("much"), "{failed}");
        let two = Database::connect(&server(&url), SCHEMAS[1], Patience::Command, || ()).await.unwrap();
        assert_eq!(number(&two, "SELECT count(*) FROM version").await, 0);
        let mended: Result<_, DatabaseError> =
            broken.write(|connection| connection.execute("DELETE FROM note WHERE size = 'much'", &[])).await;
        mended.unwrap();
        transfer(parts, &server(&url)).await.unwrap();
        assert_eq!(number(&two, "SELECT count(*) FROM version").await, 3);
    }
}
