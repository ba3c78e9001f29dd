//! A homeserver and a bridge of a test's own, and the people and systems that talk to them.

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use care_federation::{
    lab::{install::Synapse, places::Places},
    service::listeners::free_port,
};
use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::lab;
pub(crate) use crate::person::{Person, encode};

/// Time for what takes seconds, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The name of the homeserver.
pub(crate) const SERVER: &str = "vvt";

/// A directory with a homeserver and a bridge; both end with it.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) http: Client,
    pub(crate) homeserver_port: u16,
    pub(crate) bridge_port: u16,
    admin_port: u16,
    /// Whether the homeserver loads the registration when it starts.
    pub(crate) knows_bridge: bool,
    /// The version of rooms that the homeserver makes, where it is not the newest.
    pub(crate) room_version: Option<&'static str>,
    /// Further settings of the bridge, as environment variables.
    pub(crate) settings: Vec<(&'static str, String)>,
    homeserver: Option<Child>,
    bridge: Option<Child>,
    fhir_server: FhirServer,
}

/// The FHIR server that a world's bridge works with.
enum FhirServer {
    /// The bridge's own.
    Embedded,
    /// A process of this world's own, on this port: what `$BRIDGE_TEST_FHIR_RUN PORT DIRECTORY` starts, else a second
    /// bridge whose homeserver is nowhere.
    Beside(u16, Option<Child>),
    /// One that runs: `$BRIDGE_TEST_FHIR_SERVER` is its base address. It must be empty, so one test at a time.
    Running(String),
}

// === impl World ===

impl World {
    /// Nothing runs yet. The FHIR server is what the environment says, else the bridge's own.
    pub(crate) fn new() -> Self {
        if variable("BRIDGE_TEST_FHIR_RUN").is_some() {
            return Self::with_fhir_server();
        }
        Self::of(variable("BRIDGE_TEST_FHIR_SERVER").map_or(FhirServer::Embedded, FhirServer::Running))
    }

    /// As [`World::new`], with a FHIR server beside the bridge in any case.
    pub(crate) fn with_fhir_server() -> Self {
        let [port] = free_ports();
        Self::of(FhirServer::Beside(port, None))
    }

    /// For what only the bridge's own FHIR endpoint does, whatever the environment says.
    pub(crate) fn embedded() -> Self {
        Self::of(FhirServer::Embedded)
    }

    fn of(fhir_server: FhirServer) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::Builder::new().prefix("bridge-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let http = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let [homeserver_port, bridge_port, admin_port] = free_ports();
        Self {
            directory,
            http,
            homeserver_port,
            bridge_port,
            admin_port,
            knows_bridge: true,
            room_version: None,
            settings: Vec::new(),
            homeserver: None,
            bridge: None,
            fhir_server,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program with this world's settings in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        // A long campaign goes on with the program that it began with, while another one is built.
        let program = std::env::var_os("BRIDGE_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_fhir-bridge").into());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("FHIR_BRIDGE_STATE_DIRECTORY", self.path("state"))
            .env("FHIR_BRIDGE_LISTEN", format!("[\"127.0.0.1:{}\"]", self.bridge_port))
            .env("FHIR_BRIDGE_ADMIN", format!("[\"127.0.0.1:{}\"]", self.admin_port))
            .env("FHIR_BRIDGE_HOMESERVER__URL", format!("http://127.0.0.1:{}", self.homeserver_port))
            .env("FHIR_BRIDGE_HOMESERVER__SERVER_NAME", SERVER)
            .env("FHIR_BRIDGE_ENGINE__PATROL_SECONDS", "2")
            .env("FHIR_BRIDGE_LOG__LEVEL", "info,care_federation=debug")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command.envs(self.settings.iter().map(|(name, value)| (*name, value)));
        if !matches!(self.fhir_server, FhirServer::Embedded) {
            command.env("FHIR_BRIDGE_FHIR__SERVER__BASE", self.fhir()).env("FHIR_BRIDGE_ENGINE__POLL_SECONDS", "1");
        }
        command
    }

    /// What a command says, which must succeed.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }

    /// Starts the bridge, and the FHIR server before it unless that runs.
    pub(crate) async fn start_bridge(&mut self) {
        self.start_fhir_server().await;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("bridge.log")).unwrap();
        let mut command = lab::guarded(&self.command(&["run"]));
        command.stderr(log).stdout(Stdio::null());
        self.bridge = Some(lab::spawn(command));
        let url = format!("http://127.0.0.1:{}/healthz", self.admin_port);
        until("the bridge serves", || async { self.http.get(&url).send().await.ok().map(drop) }).await;
    }

    /// The private address of the bridge.
    pub(crate) fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Starts the FHIR server of this world's own, if it has one and that does not run.
    pub(crate) async fn start_fhir_server(&mut self) {
        let FhirServer::Beside(port, None) = self.fhir_server else { return };
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("fhir.log")).unwrap();
        let mut command = match variable("BRIDGE_TEST_FHIR_RUN") {
            Some(program) => self.foreign_fhir_server(&program, port),
            None => self.second_bridge(port),
        };
        // A program may start others before it becomes the server; they end with it.
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.fhir_server = FhirServer::Beside(port, Some(lab::spawn(command)));
        let url = format!("{}/metadata", self.fhir());
        let serves = || async { self.http.get(&url).send().await.ok()?.error_for_status().ok().map(drop) };
        until("the FHIR server serves", serves).await;
    }

    fn foreign_fhir_server(&self, program: &str, port: u16) -> Command {
        let directory = self.path("fhir");
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(program);
        command.arg(port.to_string()).arg(directory);
        lab::guarded(&command)
    }

    fn second_bridge(&self, port: u16) -> Command {
        let mut command = self.command(&["run"]);
        command
            .env_remove("FHIR_BRIDGE_FHIR__SERVER__BASE")
            .env("FHIR_BRIDGE_STATE_DIRECTORY", self.path("fhir"))
            .env("FHIR_BRIDGE_LISTEN", format!("[\"127.0.0.1:{port}\"]"))
            .env("FHIR_BRIDGE_ADMIN", "[]")
            .env("FHIR_BRIDGE_HOMESERVER__URL", "http://127.0.0.1:9");
        lab::guarded(&command)
    }

    /// Ends the FHIR server as a power cut would.
    pub(crate) fn kill_fhir_server(&mut self) {
        let FhirServer::Beside(_, process) = &mut self.fhir_server else { panic!("it is not this world's own") };
        kill_group(&mut process.take().unwrap());
    }

    /// Memory of the bridge now and at its peak, in KiB (`VmRSS` and `VmHWM` of proc(5)).
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.bridge.as_ref().unwrap().id())).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (number("VmRSS:"), number("VmHWM:"))
    }

    /// The status and text of the bridge's health.
    pub(crate) async fn health(&self) -> (StatusCode, String) {
        let url = format!("http://127.0.0.1:{}/healthz", self.admin_port);
        let response = self.http.get(&url).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    pub(crate) async fn connected(&self) {
        until("the bridge is connected", || async { (self.health().await.0 == StatusCode::OK).then_some(()) }).await;
    }

    pub(crate) fn has_bridge(&self) -> bool {
        self.bridge.is_some()
    }

    pub(crate) fn has_homeserver(&self) -> bool {
        self.homeserver.is_some()
    }

    pub(crate) fn has_fhir_server(&self) -> bool {
        matches!(self.fhir_server, FhirServer::Beside(_, Some(_)))
    }

    /// Ends the bridge as a power cut would.
    pub(crate) fn kill_bridge(&mut self) {
        let mut bridge = self.bridge.take().unwrap();
        bridge.kill().unwrap();
        bridge.wait().unwrap();
    }

    pub(crate) fn kill_homeserver(&mut self) {
        let mut homeserver = self.homeserver.take().unwrap();
        homeserver.kill().unwrap();
        homeserver.wait().unwrap();
    }

    /// Keeps the bridge from running, or lets it go on, without its noticing.
    pub(crate) fn signal_bridge(&self, signal: Signal) {
        let id = Pid::from_child(self.bridge.as_ref().unwrap());
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Makes a homeserver that is down forget what it was about to push, as one does that is killed at a bad moment:
    /// it notes how far it got before the transaction is stored.
    pub(crate) fn forget_pushes(&self) {
        let database = rusqlite::Connection::open(self.path("synapse").join("db")).unwrap();
        database
            .execute_batch(
                "UPDATE appservice_stream_position SET stream_ordering = (SELECT max(stream_ordering) FROM events);
                 DELETE FROM application_services_txns;",
            )
            .unwrap();
    }

    pub(crate) async fn start_homeserver(&mut self) {
        let directory = self.path("synapse");
        fs::create_dir_all(&directory).unwrap();
        let configuration = self.write_configuration(&directory);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("synapse.out")).unwrap();
        let program = synapse().await;
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg("--config-path").arg(configuration).env("PYTHONNOUSERSITE", "1");
        let mut command = lab::guarded(&command);
        command.current_dir(&directory).stdout(log.try_clone().unwrap()).stderr(log);
        self.homeserver = Some(lab::spawn(command));
        let url = format!("{}/_matrix/client/versions", self.base());
        until("the homeserver serves", || async { self.http.get(&url).send().await.ok().map(drop) }).await;
    }

    fn write_configuration(&self, directory: &Path) -> PathBuf {
        let rate = json!({ "per_second": 10_000, "burst_count": 10_000 });
        let log = json!({ "version": 1, "root": { "level": "WARNING" }, "disable_existing_loggers": false });
        fs::write(directory.join("log.yaml"), log.to_string()).unwrap();
        let registrations: Vec<PathBuf> =
            self.knows_bridge.then(|| self.path("state").join("registration.yaml")).into_iter().collect();
        // JSON is YAML.
        let mut configuration = json!({
            "server_name": SERVER, "report_stats": false, "trusted_key_servers": [],
            "signing_key_path": directory.join("signing.key"), "macaroon_secret_key": "m", "form_secret": "f",
            "registration_shared_secret": "s", "enable_registration": true,
            "enable_registration_without_verification": true,
            "media_store_path": directory.join("media"), "log_config": directory.join("log.yaml"),
            "pid_file": directory.join("pid"),
            "listeners": [{ "port": self.homeserver_port, "bind_addresses": ["127.0.0.1"], "type": "http",
                "resources": [{ "names": ["client"] }] }],
            "database": { "name": "sqlite3", "args": { "database": directory.join("db") } },
            "app_service_config_files": registrations,
            "rc_message": rate, "rc_registration": rate, "rc_joins_per_room": rate, "rc_room_creation": rate,
            "rc_login": { "address": rate, "account": rate, "failed_attempts": rate },
            "rc_joins": { "local": rate, "remote": rate },
            "rc_invites": { "per_room": rate, "per_user": rate, "per_issuer": rate },
        });
        if let Some(version) = self.room_version {
            configuration["default_room_version"] = version.into();
        }
        let path = directory.join("homeserver.yaml");
        fs::write(&path, configuration.to_string()).unwrap();
        path
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.homeserver_port)
    }

    /// Makes a user on the homeserver.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let body = json!({ "username": name, "password": "p", "auth": { "type": "m.login.dummy" } });
        let url = format!("{}/_matrix/client/v3/register", self.base());
        let answer: Value = self.http.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        Person {
            http: self.http.clone(),
            base: self.base(),
            token: answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(),
            user_id: answer["user_id"].as_str().unwrap().to_owned(),
        }
    }

    /// Writes a resource to the FHIR endpoint and returns it as it is there.
    pub(crate) async fn put(&self, resource: Value) -> Value {
        put(&self.http, &self.fhir(), &resource, &[]).await
    }

    /// As [`World::put`], with more headers.
    pub(crate) async fn put_with(&self, resource: Value, headers: &[(&str, &str)]) -> Value {
        put(&self.http, &self.fhir(), &resource, headers).await
    }

    /// Reads from the FHIR endpoint; `None` when it is not there.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("{}/{path}", self.fhir())).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.json().await.ok()
    }

    /// All resources that a search finds, page by page.
    pub(crate) async fn search(&self, query: &str) -> Vec<Value> {
        search(&self.http, &self.fhir(), query).await
    }

    /// The base address of the FHIR server.
    pub(crate) fn fhir(&self) -> String {
        match &self.fhir_server {
            FhirServer::Embedded => format!("http://127.0.0.1:{}/fhir", self.bridge_port),
            FhirServer::Beside(port, _) if variable("BRIDGE_TEST_FHIR_RUN").is_some() => {
                format!("http://127.0.0.1:{port}")
            }
            FhirServer::Beside(port, _) => format!("http://127.0.0.1:{port}/fhir"),
            FhirServer::Running(base) => base.clone(),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("bridge.log")).unwrap_or_default()
    }

    /// The bridge's own token, to look at rooms as it sees them.
    pub(crate) fn bot(&self) -> Person {
        Person {
            http: self.http.clone(),
            base: self.base(),
            token: self.registered("as_token"),
            user_id: format!("@_fhir:{SERVER}"),
        }
    }

    /// Pushes events as the homeserver would.
    pub(crate) async fn push(&self, number: u32, events: Value) -> StatusCode {
        let url = format!("http://127.0.0.1:{}/_matrix/app/v1/transactions/{number}", self.bridge_port);
        let push = self.http.put(url).bearer_auth(self.registered("hs_token")).json(&json!({ "events": events }));
        push.send().await.unwrap().status()
    }

    fn registered(&self, name: &str) -> String {
        let registration = fs::read_to_string(self.path("state").join("registration.yaml")).unwrap();
        let registration: serde_yaml::Value = serde_yaml::from_str(&registration).unwrap();
        registration[name].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.bridge, &mut self.homeserver].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let FhirServer::Beside(_, Some(process)) = &mut self.fhir_server {
            kill_group(process);
        }
        if std::thread::panicking() {
            if std::env::var_os("BRIDGE_TEST_KEEP").is_some() {
                self.directory.disable_cleanup(true);
                eprintln!("--- all is kept in {}", self.directory.path().display());
            }
            let homeserver = fs::read_to_string(self.path("synapse.out")).unwrap_or_default();
            eprintln!("--- the bridge's log\n{}\n--- the homeserver's log\n{homeserver}", self.log());
        }
    }
}

/// Writes a resource to a FHIR server and returns it as it is there.
pub(crate) async fn put(http: &Client, fhir: &str, resource: &Value, headers: &[(&str, &str)]) -> Value {
    let url = format!("{fhir}/{}", place(resource));
    let request = http.put(url).header("content-type", "application/fhir+json").body(resource.to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// All resources that a search on a FHIR server finds, page by page.
pub(crate) async fn search(http: &Client, fhir: &str, query: &str) -> Vec<Value> {
    let mut url = format!("{fhir}/{query}");
    let mut found = Vec::new();
    loop {
        let bundle: Value = http.get(&url).send().await.unwrap().json().await.unwrap();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        found.extend(entries.into_iter().map(|entry| entry["resource"].clone()));
        let links = bundle["link"].as_array().cloned().unwrap_or_default();
        match links.iter().find(|link| link["relation"] == "next") {
            Some(next) => url = next["url"].as_str().unwrap().to_owned(),
            None => return found,
        }
    }
}

/// A number from the environment, for tests that can be made longer.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// Asks until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until so much has arrived in Matrix and in FHIR, for as long as more arrives.
pub(crate) async fn arrived<F: Future<Output = [usize; 2]>>(wanted: [usize; 2], count: impl Fn() -> F) {
    let (mut most, mut since) = ([0; 2], Instant::now());
    loop {
        let asked = Instant::now();
        let there = count().await;
        eprintln!("in Matrix {} of {}, in FHIR {} of {}", there[0], wanted[0], there[1], wanted[1]);
        if there[0] >= wanted[0] && there[1] >= wanted[1] {
            return;
        }
        if there != most {
            (most, since) = (there, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "nothing more arrives: {there:?} of {wanted:?}");
        // Whoever counts long rooms all the time keeps the homeserver from its work.
        tokio::time::sleep(Duration::from_millis(200) + asked.elapsed() * 4).await;
    }
}

/// `Communication/1`.
pub(crate) fn place(resource: &Value) -> String {
    format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the FHIR server is known not to do something; `tests/fhir-elsewhere` says what each lacks.
pub(crate) fn fhir_lacks(what: &str) -> bool {
    variable("FHIR_TEST_LACKS").is_some_and(|lacks| lacks.split(',').any(|lacking| lacking == what))
}

/// Ends a process that leads its group, and all that it started.
fn kill_group(leader: &mut Child) {
    let _ = rustix::process::kill_process_group(Pid::from_child(leader), Signal::KILL);
    let _ = leader.wait();
}

/// Ports that are free now.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    [(); N].map(|()| free_port().unwrap())
}

/// The homeserver's program and its first arguments: `$SYNAPSE_HOMESERVER`, or the lab's own, installed if need be.
async fn synapse() -> Vec<OsString> {
    static FOUND: OnceCell<Vec<OsString>> = OnceCell::const_new();
    let find = || async {
        let places = Places::new(None, None).unwrap();
        Synapse::obtain(&places, &CancellationToken::new()).await.unwrap().command
    };
    FOUND.get_or_init(find).await.clone()
}
