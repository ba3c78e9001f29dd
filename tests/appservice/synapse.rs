//! One Synapse for all tests of this program, with application services of several kinds.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use care_federation::{matrix::Registration, service::listeners::free_port};

/// The server's name.
pub(crate) const NAME: &str = "zorg.test";
/// Largest file that this homeserver takes.
pub(crate) const UPLOAD_LIMIT: u64 = 1 << 20;

/// Runs a command as long as somebody holds its standard input, and removes a directory after it.
const KEEPER: &str =
    r#"directory=$1; shift; "$@" </dev/null & child=$!; cat; kill "$child"; wait "$child"; rm -rf -- "$directory""#;

/// A running Synapse. It ends with this process, however that ends.
pub(crate) struct Synapse {
    pub(crate) url: String,
    _process: Child,
}

impl Synapse {
    /// Starts Synapse and waits until it serves.
    pub(crate) fn start(command: &[String], services: &[&Registration]) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let port = free_port().unwrap();
        let configuration = configure(&directory, port, services);
        let socket = directory.join("notify");
        let ready = UnixDatagram::bind(&socket).unwrap();
        ready.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        // The shell ends Synapse, and removes its files, when this process no longer holds its standard input.
        let process = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&directory)
            .args(command)
            .arg("-c")
            .arg(&configuration)
            .env("NOTIFY_SOCKET", &socket)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut message = [0; 256];
        loop {
            let length = ready.recv(&mut message).expect("Synapse did not say that it is ready");
            if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
                break;
            }
        }
        Self { url: format!("http://127.0.0.1:{port}"), _process: process }
    }
}

fn configure(directory: &Path, port: u16, services: &[&Registration]) -> PathBuf {
    let mut files = String::new();
    for (number, registration) in services.iter().enumerate() {
        let path = directory.join(format!("service-{number}.yaml"));
        registration.write(&path).unwrap();
        files.push_str(&format!("  - {}\n", path.display()));
    }
    let here = directory.display();
    let limits: String = ["rc_message", "rc_registration"]
        .iter()
        .map(|limit| format!("{limit}: {{per_second: 1000, burst_count: 1000}}\n"))
        .chain(["rc_invites", "rc_joins", "rc_login"].iter().map(|limit| {
            let parts: &[&str] = match *limit {
                "rc_invites" => &["per_room", "per_user", "per_issuer"],
                "rc_joins" => &["local", "remote"],
                _ => &["address", "account", "failed_attempts"],
            };
            let parts: String =
                parts.iter().map(|part| format!("  {part}: {{per_second: 1000, burst_count: 1000}}\n")).collect();
            format!("{limit}:\n{parts}")
        }))
        .collect();
    let text = format!(
        "server_name: {NAME}\n\
         report_stats: false\n\
         bcrypt_rounds: 4\n\
         presence: {{enabled: false}}\n\
         pid_file: {here}/pid\n\
         media_store_path: {here}/media\n\
         signing_key_path: {here}/signing.key\n\
         log_config: {here}/log.yaml\n\
         macaroon_secret_key: test\n\
         registration_shared_secret: test\n\
         trusted_key_servers: []\n\
         enable_registration: true\n\
         enable_registration_without_verification: true\n\
         max_upload_size: {UPLOAD_LIMIT}\n\
         dynamic_thumbnails: true\n\
         listeners: [{{port: {port}, bind_addresses: [127.0.0.1], type: http, resources: [{{names: [client]}}]}}]\n\
         database: {{name: sqlite3, args: {{database: {here}/db}}}}\n\
         {limits}\
         app_service_config_files:\n{files}"
    );
    let log = format!(
        "version: 1\n\
         handlers: {{file: {{class: logging.FileHandler, filename: {here}/log}}}}\n\
         root: {{level: WARNING, handlers: [file]}}\n\
         disable_existing_loggers: false\n"
    );
    std::fs::write(directory.join("log.yaml"), log).unwrap();
    let path = directory.join("homeserver.yaml");
    std::fs::write(&path, text).unwrap();
    let random = care_federation::service::secrets::Secret::random(32).unwrap();
    // Synapse would make its key itself; made here, one start is enough. (ed25519, unpadded base64.)
    let seed: Vec<u8> = random.expose().bytes().take(32).collect();
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, seed);
    std::fs::write(directory.join("signing.key"), format!("ed25519 a_test {key}\n")).unwrap();
    path
}
