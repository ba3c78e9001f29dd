//! A PostgreSQL of the tests' own: made for one test process, and gone when that ends, however it ends.
//!
//! Its programs are those in `PATH`, else Debian's (`apt install postgresql`). `FEDERATION_TEST_POSTGRES` names another
//! server instead, as `postgresql://user@host/postgres?…`, whose user may make databases.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use care_federation::service::listeners::free_port;

/// Time for what takes seconds, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server.
pub(crate) struct Postgres {
    /// Directory of its socket, data and certificates; empty for a server that is somebody else's.
    pub(crate) directory: PathBuf,
    /// Its port, for the socket and for TLS on 127.0.0.1.
    #[allow(dead_code, reason = "not every test binary asks for TLS")]
    pub(crate) port: u16,
    /// The address before and after a database's name.
    address: (String, String),
    // The shell at its other end of the pipe ends the server when the pipe closes.
    _life: Option<Child>,
}

/// Whether the server waits for the disk (`fsync`). The machine does not fail during a test, only processes do; a
/// measurement says `on` before it asks for the server.
pub(crate) static FSYNC: OnceLock<&'static str> = OnceLock::new();

/// The server of this test process.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| match env::var("FEDERATION_TEST_POSTGRES") {
        Ok(url) if !url.is_empty() => Postgres::elsewhere(&url),
        _ => Postgres::start(),
    })
}

/// The address of a new, empty database.
pub(crate) fn fresh_database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    // Sorted by another order than that of bytes, so that nothing relies on the database's own.
    let order = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'nl' LOCALE 'C.UTF-8'";
    if execute(&server.url("postgres"), &format!("CREATE DATABASE {name} {order}")).is_err() {
        execute(&server.url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
            .unwrap();
    }
    server.url(&name)
}

/// Carries out statements as the owner of the server.
pub(crate) fn execute(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    // On a thread of its own: the tests have runtimes that must not wait in one another.
    let ran = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            client.batch_execute(&sql).await?;
            drop(client);
            let _ = connection.await;
            Ok(())
        })
    });
    ran.join().unwrap()
}

// === impl Postgres ===

impl Postgres {
    /// The address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.address.0, self.address.1)
    }

    fn elsewhere(url: &str) -> Self {
        let (path, options) =
            url.split_once('?').map_or((url, String::new()), |(path, rest)| (path, format!("?{rest}")));
        let (before, _) = path.rsplit_once('/').expect("FEDERATION_TEST_POSTGRES: postgresql://user@host/database");
        Self { directory: PathBuf::new(), port: 0, address: (format!("{before}/"), options), _life: None }
    }

    fn start() -> Self {
        let programs = programs();
        let directory = tempfile::Builder::new().prefix("pg-").tempdir().unwrap().keep();
        let port = free_port().unwrap();
        let user = Owner::find();
        user.own(&directory);
        let data = directory.join("data");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = user.run(&mut initdb).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        make_certificates(&directory, &user);
        fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n",
        )
        .unwrap();
        let life = start_server(&programs, &directory, port, &user);
        let socket = directory.join(format!(".s.PGSQL.{port}"));
        let options = format!("?host={}&port={port}", directory.display());
        let server =
            Self { directory, port, address: ("postgresql://postgres@/".to_owned(), options), _life: Some(life) };
        let end = Instant::now() + PATIENCE;
        while !socket.exists() || execute(&server.url("postgres"), "SELECT 1").is_err() {
            let log = fs::read_to_string(server.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL does not start: {log}");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

/// Starts the server below a shell that waits for the end of its input, which is that of this process.
fn start_server(programs: &Path, directory: &Path, port: u16, user: &Owner) -> Child {
    let log = fs::File::create(directory.join("log")).unwrap();
    let life = "trap '' INT TERM HUP; \"$@\" <&- & cat >/dev/null; kill -QUIT $!; wait $!; rm -rf \"$0\"";
    let setting = |name: &str, value: &dyn std::fmt::Display| ["-c".to_owned(), format!("{name}={value}")];
    let mut command = Command::new("sh");
    command.arg("-c").arg(life).arg(directory).arg(programs.join("postgres")).arg("-D").arg(directory.join("data"));
    command
        .args(setting("port", &port))
        .args(setting("listen_addresses", &"localhost"))
        .args(setting("unix_socket_directories", &directory.display()))
        .args(setting("fsync", FSYNC.get_or_init(|| "off")))
        .args(setting("max_connections", &300))
        .args(setting("shared_buffers", &"32MB"))
        .args(setting("ssl", &"on"))
        .args(setting("ssl_cert_file", &directory.join("server.pem").display()))
        .args(setting("ssl_key_file", &directory.join("server.key").display()));
    user.run(&mut command).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// An authority, and the server's certificate for the name `localhost`.
fn make_certificates(directory: &Path, user: &Owner) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of the tests");
    fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    fs::write(directory.join("server.pem"), leaf.pem()).unwrap();
    let path = directory.join("server.key");
    fs::write(&path, own.serialize_pem()).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    user.own(&path);
}

/// Who runs the server: PostgreSQL refuses to run as root.
struct Owner(Option<(u32, u32)>);

// === impl Owner ===

impl Owner {
    fn find() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let numbers = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2).map(str::parse);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        };
        Self(Some(numbers("postgres").or_else(|| numbers("nobody")).unwrap_or((65534, 65534))))
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.0 {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn run<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self.0 {
            Some((user, group)) => command.uid(user).gid(group).current_dir("/"),
            None => command,
        }
    }
}

/// The directory of `initdb` and `postgres`: Debian keeps them out of `PATH`.
fn programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let found = debian.into_iter().rev().chain(env::split_paths(&path));
    found.into_iter().find(|place| place.join("initdb").exists() && place.join("postgres").exists()).expect(
        "these tests start a PostgreSQL of their own, and there is none here: apt install postgresql, or name a server \
         with FEDERATION_TEST_POSTGRES=postgresql://user@host/postgres",
    )
}
