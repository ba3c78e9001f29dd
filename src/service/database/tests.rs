#[path = "../../../tests/support/postgres.rs"]
pub(crate) mod postgres;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;

const SCHEMA: Schema = Schema {
    name: "trial",
    steps: &["CREATE TABLE note (seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, size INTEGER);"],
};

/// A place for a database of one test.
pub(crate) enum Place {
    /// A directory for SQLite files.
    Sqlite(tempfile::TempDir),
    /// The address of a PostgreSQL database.
    Postgres(String),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(postgres::fresh_database())
    }

    /// What another process finds it by; see [`open_named`].
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Sqlite(directory) => directory.path().display().to_string(),
            Self::Postgres(url) => url.clone(),
        }
    }

    async fn trial(&self) -> Database {
        match self {
            Self::Sqlite(directory) => Database::open(&directory.path().join("trial.db"), SCHEMA, 2, || ()).unwrap(),
            Self::Postgres(url) => Database::connect(&server(url), SCHEMA, Patience::Command, || ()).await.unwrap(),
        }
    }
}

/// A server by its address.
pub(crate) fn server(url: &str) -> Arc<Server> {
    Server::new(&Settings { url: Some(url.to_owned()), connections: 6, ..Settings::default() }).unwrap()
}

/// Each case on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(crate::service::database::tests::Place::sqlite()).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(crate::service::database::tests::Place::postgres()).await })*
        }
    };
}
pub(crate) use on_both;

mod cases {
    use super::{Database, DatabaseError, Place, values};

    on_both! { values_come_back_as_they_were, a_failed_work_takes_nothing_with_it, works_are_done_one_after_the_other }

    async fn names(database: &Database) -> Vec<String> {
        let sql = "SELECT name FROM note ORDER BY name";
        database
            .read(|connection| connection.query(sql, &[], |row| row.get(0)))
            .await
            .map_err(|error: DatabaseError| error)
            .unwrap()
    }

    async fn values_come_back_as_they_were(place: Place) {
        let database = place.trial().await;
        let texts = ["", "a", "B", "Ä", "é'\"\\?", "\u{10ffff}", "{\"a\":\"\\u0000\"}"];
        for (number, text) in texts.into_iter().enumerate() {
            let insert = move |connection: &super::Connection| {
                connection.execute("INSERT INTO note (name, size) VALUES (?2, ?1)", values![number, text])
            };
            assert_eq!(database.write(insert).await.unwrap(), 1);
        }
        // By bytes, whatever the order of the database's own language.
        let mut sorted = texts.map(str::to_owned).to_vec();
        sorted.sort();
        assert_eq!(names(&database).await, sorted);
        let found = database
            .ask(|connection| {
                let sql = "SELECT size, CASE WHEN size > 1 THEN 1 ELSE 0 END, NULL FROM note WHERE name = ?";
                connection.first(sql, values!["B"], |row| {
                    Ok::<_, DatabaseError>((row.get::<i64>(0)?, row.get::<bool>(1)?, row.get::<Option<String>>(2)?))
                })
            })
            .await
            .unwrap();
        assert_eq!(found, Some((2, true, None)));
        let wrong = database.ask(|connection| connection.first("SELECT name FROM note", &[], |row| row.get::<i64>(0)));
        assert!(matches!(wrong.await, Err::<_, DatabaseError>(DatabaseError::Unexpected(_))));
        let refused = database.ask(|connection| connection.exists("SELECT nothing FROM note", &[])).await.unwrap_err();
        assert!(refused.is_final() && !refused.is_about_the_work(), "the table is as it is for all: {refused}");
        assert_eq!(names(&database).await.len(), texts.len());
    }

    async fn a_failed_work_takes_nothing_with_it(place: Place) {
        let database = place.trial().await;
        let insert = |names: &'static [&'static str]| {
            database.write(move |connection| {
                names.iter().try_for_each(|name| {
                    connection.execute("INSERT INTO note (name) VALUES (?)", values![*name]).map(drop)
                })
            })
        };
        let (first, bad, last) = tokio::join!(insert(&["a"]), insert(&["b", "b"]), insert(&["c"]));
        assert!(first.is_ok() && last.is_ok());
        let text = bad.unwrap_err();
        assert!(text.is_final() && text.is_about_the_work(), "{text}");
        // A work that passes over its own mistake has none of its effects either.
        let swallowed = database.write(|connection| {
            connection.execute("INSERT INTO note (name) VALUES ('d')", &[])?;
            let _ = connection.execute("INSERT INTO note (name) VALUES ('a')", &[]);
            Err::<(), _>(DatabaseError::Closed)
        });
        assert_eq!(swallowed.await, Err(DatabaseError::Closed));
        assert_eq!(names(&database).await, ["a", "c"]);
    }

    async fn works_are_done_one_after_the_other(place: Place) {
        // Two processes on one place; each adds one to what it read.
        let both = [place.trial().await, place.trial().await];
        both[0]
            .write(|connection| connection.execute("INSERT INTO note (name, size) VALUES ('n', 0)", &[]))
            .await
            .unwrap();
        let add = |number: usize| {
            let database = both[number % 2].clone();
            tokio::spawn(async move {
                let add = |connection: &super::Connection| {
                    let size: Option<i64> = connection.first("SELECT size FROM note", &[], |row| row.get(0))?;
                    connection.execute("UPDATE note SET size = ?", values![size.unwrap_or(0) + 1])?;
                    Ok::<_, DatabaseError>(connection.now_micros())
                };
                database.write(add).await.unwrap()
            })
        };
        for added in futures_util::future::join_all((0..100).map(add)).await {
            assert!(added.unwrap() > 1_700_000_000_000_000);
        }
        let size = both[0].ask(|connection| connection.first("SELECT size FROM note", &[], |row| row.get::<i64>(0)));
        assert_eq!(size.await.map_err(|error: DatabaseError| error).unwrap(), Some(100));
    }
}

async fn connect(settings: &Settings) -> Result<Database, String> {
    let server = Server::new(settings).map_err(|failure| failure.to_string())?;
    Database::connect(&server, SCHEMA, Patience::Command, || ()).await.map_err(|failure| {
        std::iter::successors(Some(&failure as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    })
}

/// A file with a secret, beside the others of the server.
fn secret(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_elsewhere_is_known_by_its_certificate_and_knows_the_password() {
    let own = postgres::server();
    if own.port == 0 {
        // A server that is somebody else's has certificates that are theirs.
        return;
    }
    let url = postgres::fresh_database();
    let name = url.trim_start_matches("postgresql://postgres@/").split('?').next().unwrap().to_owned();
    postgres::execute(&url, "CREATE ROLE remote LOGIN PASSWORD 'geheim'; GRANT ALL ON SCHEMA public TO remote")
        .unwrap();
    postgres::execute(&url, &format!("GRANT CREATE ON DATABASE {name} TO remote")).unwrap();
    let (_kept, password_file) = secret("geheim\n");
    let (_kept_too, wrong_password) = secret("anders\n");
    let at = |host: &str, options: &str| Settings {
        url: Some(format!("postgresql://remote@{host}:{}/{name}{options}", own.port)),
        password_file: Some(password_file.clone()),
        ca_file: Some(own.directory.join("ca.pem")),
        connections: 4,
        ..Settings::default()
    };
    let database = connect(&at("localhost", "?channel_binding=require")).await.unwrap();
    let sql = "SELECT 1 FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
    assert!(database.ask(|connection| connection.exists(sql, &[])).await.unwrap());
    // By its name only; unless the name is not asked for.
    let refused = connect(&at("127.0.0.1", "")).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(connect(&at("127.0.0.1", "?sslmode=verify-ca")).await.is_ok());
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (_kept_also, other_ca) = secret(&other.cert.pem());
    let refused =
        connect(&Settings { ca_file: Some(other_ca), ..at("localhost", "?sslmode=require") }).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    // Without TLS this server lets nobody in.
    assert!(connect(&at("localhost", "?sslmode=disable")).await.is_err());
    let refused = connect(&Settings { password_file: Some(wrong_password), ..at("localhost", "") }).await.unwrap_err();
    assert!(refused.contains("password authentication failed") && !refused.contains("anders"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_says_means_waiting_trying_mending_or_parking() {
    let url = postgres::fresh_database();
    let database = Database::connect(&server(&url), SCHEMA, Patience::Command, || ()).await.unwrap();
    let says = async |code: &'static str| {
        let raise = format!("DO $$ BEGIN RAISE SQLSTATE '{code}' USING MESSAGE = 'canary'; END $$");
        database.write(move |connection| connection.execute(&raise, &[])).await.unwrap_err()
    };
    for code in ["53100", "53200", "55P03", "58030"] {
        let error = says(code).await;
        assert!(matches!(error, DatabaseError::Hindered(_)) && !error.is_final(), "{code}: {error}");
    }
    for code in ["40001", "40P01", "57014"] {
        let error = says(code).await;
        assert!(matches!(error, DatabaseError::GaveUp(_)) && !error.is_final(), "{code}: {error}");
    }
    for code in ["28P01", "3D000", "42501", "42P01"] {
        let error = says(code).await;
        assert!(matches!(error, DatabaseError::Denied(_)) && !error.is_about_the_work(), "{code}: {error}");
    }
    for code in ["22001", "23505", "54000", "XX001"] {
        let error = says(code).await;
        assert!(error.is_about_the_work() && !error.to_string().contains("canary"), "{code}: {error}");
    }
    // A real one: what is too large for an index. SQLite takes it.
    let letters: String = (0..20_000_u64).map(|n| char::from(b'a' + (n * n * 7919 % 8191 % 26) as u8)).collect();
    let insert =
        move |connection: &Connection| connection.execute("INSERT INTO note (name) VALUES (?)", values![&letters]);
    let error = database.write(insert).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Refused(_)), "{error}");
}

/// Files that this program may not write, and are none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_written_is_no_fault_of_the_work() {
    let place = Place::sqlite();
    let database = place.trial().await;
    let write = |connection: &Connection| {
        connection.batch("PRAGMA query_only = ON")?;
        connection.execute("INSERT INTO note (name) VALUES ('a')", &[])
    };
    let error = database.write(write).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Denied(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_is_made_anew() {
    let url = postgres::fresh_database();
    let database = Database::connect(&server(&url), SCHEMA, Patience::Command, || ()).await.unwrap();
    let insert = || database.write(|connection| connection.execute("INSERT INTO note (name) VALUES ('a')", &[]));
    let broken = database.write(|connection| {
        connection.execute("INSERT INTO note (name) VALUES ('lost')", &[])?;
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[])
    });
    let error = broken.await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(database.absence().is_some());
    assert_eq!(insert().await, Ok(1));
    assert_eq!(database.absence(), None);
    let count = |connection: &Connection| connection.first("SELECT count(*) FROM note", &[], |row| row.get::<i64>(0));
    assert_eq!(database.read(count).await.map_err(|error: DatabaseError| error), Ok(Some(1)));
    // Readers too, also when they are idle.
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> \
                  pg_backend_pid()";
    postgres::execute(&url, others).unwrap();
    while database.read(count).await.is_err_and(|error: DatabaseError| error.is_unreachable()) {}
    assert_eq!(database.read(count).await.map_err(|error: DatabaseError| error), Ok(Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_hangs_in_the_middle_holds_up_others_for_a_while_only() {
    let url = postgres::fresh_database();
    let [hung, other] = [server(&url), server(&url)];
    let hung = Database::connect(&hung, SCHEMA, Patience::Command, || ()).await.unwrap();
    let other = Database::connect(&other, SCHEMA, Patience::Command, || ()).await.unwrap();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (resume, resumed) = std::sync::mpsc::channel::<()>();
    let hanging = tokio::spawn(async move {
        hung.write(move |connection| {
            connection.execute("INSERT INTO note (name) VALUES ('hung')", &[])?;
            // It is bounded; a test need not wait so long.
            let limit =
                connection.first("SHOW idle_in_transaction_session_timeout", &[], |row| row.get::<String>(0))?;
            assert_eq!(limit.as_deref(), Some("15s"));
            connection.execute("SET LOCAL idle_in_transaction_session_timeout TO '100ms'", &[])?;
            begun.send(()).unwrap();
            let _ = resumed.recv();
            Ok::<_, DatabaseError>(())
        })
        .await
    });
    has_begun.await.unwrap();
    let insert = |connection: &Connection| connection.execute("INSERT INTO note (name) VALUES ('other')", &[]);
    assert_eq!(other.write(insert).await, Ok(1));
    resume.send(()).unwrap();
    assert!(hanging.await.unwrap().unwrap_err().is_unreachable());
    let names = |connection: &Connection| connection.query("SELECT name FROM note", &[], |row| row.get::<String>(0));
    assert_eq!(other.read(names).await.map_err(|error: DatabaseError| error), Ok(vec!["other".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_newer_program_are_left_alone() {
    for place in [Place::sqlite(), Place::postgres()] {
        drop(place.trial().await);
        let failure = match &place {
            Place::Sqlite(directory) => {
                let path = directory.path().join("trial.db");
                rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
                Database::open(&path, SCHEMA, 2, || ()).err().unwrap()
            }
            Place::Postgres(url) => {
                postgres::execute(url, "UPDATE trial.schema_step SET done = 99").unwrap();
                Database::connect(&server(url), SCHEMA, Patience::Command, || ()).await.err().unwrap()
            }
        };
        assert!(failure.to_string().contains("newer program"), "{failure}");
    }
}

#[test]
fn long_texts_are_known_by_their_digest() {
    let (long, other) = ("a".repeat(600), "a".repeat(601));
    assert_eq!(bounded("short"), "short");
    assert!(bounded(&long).starts_with("sha256:") && bounded(&long) != bounded(&other));
}
