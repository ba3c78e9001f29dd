//! The program as its users meet it: what it says, how it ends, how it serves.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use care_federation::pki::{Authority, LeafProfile, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{Home, openssl, outsider, text, workspace};

/// How a run of the program ended.
#[derive(Debug)]
struct Run {
    status: i32,
    out: String,
    err: String,
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_federation-ca"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.arg("--dir").arg(directory).args(arguments);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Run {
    let output = command(directory, arguments).output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    fn succeeded(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }

    /// Fails with a status, one sentence that holds `what`, and a remedy that holds `remedy`.
    fn failed(&self, status: i32, what: &str, remedy: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let mut lines = self.err.lines();
        let first = lines.next().unwrap();
        assert!(first.starts_with("federation-ca: ") && first.contains(what), "{self:?}");
        assert!(lines.next().is_some_and(|line| line.contains(remedy)) || remedy.is_empty(), "{self:?}");
    }
}

#[test]
fn a_day_in_the_life() {
    let directory = workspace();
    let home = directory.path().join("ca");
    let network = concat!(env!("CARGO_MANIFEST_DIR"), "/nix/network.toml");
    let first = run(&home, &["init", "--network", network]).succeeded();
    assert!(first.contains("Made a certificate authority") && first.contains("apotheek, huisarts, vvt"), "{first}");
    assert!(run(&home, &["init", "--network", network]).succeeded().contains("it stays as it is"));
    assert!(run(&home, &["issue", "vvt", "--san", "vvt.localhost"]).succeeded().starts_with("Issued"));
    assert!(run(&home, &["issue", "VVT"]).succeeded().contains("nothing to do"));
    assert!(run(&home, &["renew"]).succeeded().contains("vvt: not due before"));
    assert!(run(&home, &["renew", "--force", "vvt"]).succeeded().contains("vvt: renewed"));
    assert_eq!(run(&home, &["bundle"]).succeeded(), fs::read_to_string(home.join("ca.pem")).unwrap());
    assert!(run(&home, &["crl"]).succeeded().contains("counts until"));

    let token = run(&home, &["token", "huisarts"]);
    assert!(token.err.contains("--fingerprint"));
    let token = token.succeeded();
    assert_eq!(token.trim_end().len(), 64);
    assert!(!fs::read_to_string(home.join("tokens.json")).unwrap().contains(token.trim_end()));
    let kept = home.join("token");
    assert_eq!(run(&home, &["token", "huisarts", "--out", text(&kept)]).succeeded(), "");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    let shown: Value = serde_json::from_str(&run(&home, &["show", "--json"]).succeeded()).unwrap();
    let states: Vec<_> = shown["certificates"].as_array().unwrap().iter().map(|one| one["state"].as_str()).collect();
    assert_eq!(states, [Some("valid"), Some("valid")]);
    assert_eq!(shown["tokens"].as_array().unwrap().len(), 2);
    let serial = shown["certificates"][0]["serial"].as_str().unwrap();
    assert!(run(&home, &["revoke", serial, "--reason", "superseded"]).succeeded().contains(serial));
    assert!(run(&home, &["revoke", "huisarts"]).err.contains("no certificate was issued"));
    assert!(run(&home, &["revoke", "vvt"]).succeeded().contains("Revoked"));
    let table = run(&home, &["show"]).succeeded();
    assert_eq!(table.matches("revoked").count(), 2, "{table}");
    assert!(run(&home, &["init", "--renew"]).succeeded().contains("now valid until"));
}

#[test]
fn revoking_a_host_ends_its_tokens() {
    let home = Home::new();
    let directory = home.directory.path();
    run(directory, &["issue", "vvt"]).succeeded();
    run(directory, &["token", "vvt"]).succeeded();
    run(directory, &["token", "huisarts"]).succeeded();
    run(directory, &["revoke", "vvt"]).succeeded();
    let left = home.authority.grants().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].names[0].to_string(), "huisarts");
}

#[test]
fn a_host_that_has_only_tokens_is_revoked_too() {
    let home = Home::new();
    let directory = home.directory.path();
    run(directory, &["token", "huisarts"]).succeeded();
    let revoked = run(directory, &["revoke", "huisarts"]);
    assert!(revoked.err.contains("unused tokens have ended"), "{revoked:?}");
    revoked.succeeded();
    assert!(home.authority.grants().unwrap().is_empty());
    run(directory, &["revoke", "huisarts"]).failed(66, "no certificate was issued", "show");
}

#[test]
fn a_key_that_others_could_read_is_replaced() {
    let home = Home::new();
    let directory = home.directory.path();
    run(directory, &["issue", "vvt"]).succeeded();
    let key = home.path("certs/vvt/key.pem");
    for arguments in [["issue", "vvt"].as_slice(), &["renew"]] {
        let before = fs::read(&key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let run = run(directory, arguments);
        assert!(run.err.contains("others have access to the key"), "{run:?}");
        run.succeeded();
        assert_ne!(fs::read(&key).unwrap(), before);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o007, 0);
    }
}

#[test]
fn what_is_no_hosts_is_not_renewed() {
    let home = Home::new();
    run(home.directory.path(), &["issue", "vvt"]).succeeded();
    fs::create_dir(home.path("certs/lost+found")).unwrap();
    assert!(run(home.directory.path(), &["renew"]).succeeded().starts_with("vvt: not due"));
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let home = Home::new();
    let directory = home.directory.path();
    run(directory, &["issue", "evil.example"]).failed(64, "may not certify evil.example", "init --name");
    run(directory, &["issue", "vvt", "--san", "a b"]).failed(64, "\"a b\" is not a host name", "");
    run(directory, &["issue", "127.0.0.1"]).failed(64, "a DNS name is wanted", "");
    run(directory, &["init"]).failed(64, "at least one name", "--name NAME");
    run(directory, &["init", "--name", "*"]).failed(64, "\"*\" is not a host name", "");
    run(directory, &["init", "--name", "vvt", "--crl-url", "ftp://x"]).failed(64, "revocation list", "http://");
    run(directory, &["init", "--network", "/nonexistent"]).failed(66, "cannot read /nonexistent", "");
    run(directory, &["renew", "apotheek"]).failed(66, "there is no certificate for apotheek here", "issue apotheek");
    let both = run(directory, &["renew", "apotheek", "huisarts"]);
    assert_eq!(both.status, 1);
    assert!(
        both.err.ends_with("could not renew apotheek, huisarts\n") && both.err.contains("issue huisarts"),
        "{both:?}"
    );
    let empty = workspace();
    run(empty.path(), &["show"]).failed(66, "there is no certificate authority in", "init --name NAME");
    run(&empty.path().join("none"), &["issue", "vvt"]).failed(66, "there is no certificate authority in", "init");
}

#[test]
fn damaged_files_are_named_with_the_remedy() {
    let spoil = |file: &str, content: &[u8]| {
        let home = Home::new();
        fs::write(home.path(file), content).unwrap();
        run(home.directory.path(), &["issue", "vvt"])
    };
    spoil("ca.key", b"-----BEGIN garbage").failed(65, "ca.key is not a private key", "backup");
    spoil("ca.key", b"").failed(65, "ca.key is not a private key", "backup");
    spoil("ca.key", &[0xff; 100]).failed(74, "cannot read", "");
    spoil("ca.pem", b"").failed(65, "ca.pem is not a certificate", "backup");
    spoil("issued.json", b"{").failed(65, "issued.json is damaged: EOF while parsing an object at line 1", "backup");
    spoil("issued.json", br#"{"version":2,"crl_number":1,"certificates":[]}"#).failed(65, "its version is 2", "backup");

    let other = Home::new();
    let foreign = fs::read(other.path("ca.key")).unwrap();
    spoil("ca.key", &foreign).failed(65, "is not the key of", "one backup");
    other.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let leaf = fs::read(other.path("certs/vvt/cert.pem")).unwrap();
    spoil("ca.pem", &leaf).failed(65, "is not a CA certificate", "backup");

    let home = Home::new();
    fs::write(home.path("tokens.json"), "]").unwrap();
    run(home.directory.path(), &["token", "vvt"]).failed(65, "tokens.json is damaged", "Remove the file");
}

#[test]
fn missing_files_are_named_with_the_remedy() {
    for (file, what) in [("ca.key", "ca.key"), ("issued.json", "issued.json")] {
        let home = Home::new();
        fs::remove_file(home.path(file)).unwrap();
        run(home.directory.path(), &["issue", "vvt"]).failed(66, what, "backup");
        // Nor is a new one made in its place.
        run(home.directory.path(), &["init", "--name", "vvt"]).failed(66, what, "backup");
    }
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let home = Home::new();
    fs::set_permissions(home.path("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
    run(home.directory.path(), &["issue", "vvt"]).failed(78, "can be read by others", "chmod 600");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    run(Path::new("/proc/nothing"), &["init", "--name", "vvt"]).failed(66, "cannot make directory /proc/nothing", "");
    let home = Home::new();
    fs::create_dir_all(home.path("certs/vvt/mine")).unwrap();
    run(home.directory.path(), &["issue", "vvt"]).failed(
        73,
        "is a directory that federation-ca did not make",
        "Move it",
    );
}

/// On a file system of its own, in a user's own mount namespace.
#[test]
fn a_full_disk_is_named_and_changes_nothing() {
    let home = workspace();
    let script = r#"
        mount -t tmpfs -o size=512k none "$1" || exit 99
        "$2" --dir "$1" init --name vvt >/dev/null && "$2" --dir "$1" issue vvt >/dev/null || exit 98
        cp "$1/certs/vvt/cert.pem" "$1/before"
        head -c 1000000 /dev/zero >"$1/fill" 2>/dev/null
        "$2" --dir "$1" renew --force; status=$?
        cmp "$1/certs/vvt/cert.pem" "$1/before" || exit 97
        rm "$1/fill"
        "$2" --dir "$1" renew --force >/dev/null || exit 96
        exit $status
    "#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(home.path())
        .arg(env!("CARGO_BIN_EXE_federation-ca"))
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(99) && !starts_unshare(&output.stderr) => output,
        other => return eprintln!("skipped: no mount namespace for this user here: {other:?}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("cannot write") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("The disk is full"), "{said}");
}

fn starts_unshare(error: &[u8]) -> bool {
    error.starts_with(b"unshare:")
}

#[test]
fn a_group_may_read_the_key_and_keeps_that_over_renewals() {
    let home = Home::new();
    let directory = home.directory.path();
    // A group that this user may always give: its own.
    let group = fs::metadata(directory).unwrap().gid().to_string();
    let key = home.path("certs/vvt/key.pem");
    let mode = || fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    run(directory, &["issue", "vvt"]).succeeded();
    assert_eq!(mode(), 0o600);
    run(directory, &["issue", "vvt", "--group", &group]).succeeded();
    assert_eq!(mode(), 0o640);
    run(directory, &["renew", "--force"]).succeeded();
    assert_eq!(mode(), 0o640);
    fs::write(home.path("certs/vvt/cert.pem"), "").unwrap();
    run(directory, &["renew"]).failed(65, "cert.pem is not a certificate", "federation-ca issue vvt");
    let mended = run(directory, &["issue", "vvt"]);
    assert!(mended.err.contains("the pair in place was damaged and has been replaced"), "{mended:?}");
    assert_eq!(mode(), 0o640);
    let unknown = run(directory, &["issue", "vvt", "--group", "no such group"]);
    assert!(unknown.status != 0 && unknown.err.contains("there is no group"), "{unknown:?}");
}

#[test]
fn output_that_nobody_reads_is_no_mistake_and_a_full_one_is() {
    let home = Home::new();
    let directory = home.directory.path();
    let mut child = command(directory, &["show"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait_with_output().unwrap().status.success());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(directory, &["bundle"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn manual_pages_and_completions_are_made() {
    let directory = workspace();
    run(directory.path(), &["man", text(directory.path())]).succeeded();
    assert!(fs::read_to_string(directory.path().join("federation-ca-enrol.1")).unwrap().contains("token"));
    assert!(run(directory.path(), &["completions", "bash"]).succeeded().contains("federation-ca"));
}

/// The program serving on a Unix socket, as a `Type=notify` unit.
struct Service {
    child: Ended,
    notify: UnixDatagram,
}

impl Service {
    fn start(home: &Home) -> Self {
        let path = home.path("notify");
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let socket = format!("unix:{}", home.path("est").display());
        let admin = format!("unix:{}", home.path("admin").display());
        let child = command(home.directory.path(), &["serve", "--listen", &socket, "--admin", &admin, "--renew"])
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { child: Ended(child), notify };
        service.wait_for("READY=1");
        service
    }

    fn wait_for(&self, word: &str) {
        let mut message = [0; 4096];
        loop {
            let length = self.notify.recv(&mut message).unwrap();
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// What openssl says of the server's certificate.
    fn serial(home: &Home) -> String {
        let output = outsider("openssl")
            .args(["s_client", "-unix", text(&home.path("est")), "-servername", "localhost", "-verify_return_error"])
            .args(["-CAfile", text(&home.path("ca.pem")), "-verify_hostname", "localhost"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let shown = home.path("shown.pem");
        fs::write(&shown, &output.stdout).unwrap();
        openssl(&["x509", "-in", text(&shown), "-noout", "-serial"])
    }

    fn curl(home: &Home, socket: &str, url: &str) -> String {
        let output = outsider("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert", text(&home.path("ca.pem"))])
            .args(["--unix-socket", text(&home.path(socket)), url])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A child process that ends with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_service_reports_reloads_and_stops() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let mut service = Service::start(&home);
    assert!(Service::curl(&home, "est", "https://localhost/.well-known/est/cacerts").len() > 500);
    assert!(Service::curl(&home, "admin", "http://x/healthz").contains("\"ok\""));
    let metrics = Service::curl(&home, "admin", "http://x/metrics");
    assert!(metrics.contains("federation_ca_authority_expiry_seconds"), "{metrics}");

    let before = Service::serial(&home);
    home.authority.renew(&["localhost".to_owned()], true).unwrap();
    service.signal(Signal::HUP);
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    assert_ne!(Service::serial(&home), before);

    // A CA that cannot be read does not stop the service; it says so.
    fs::rename(home.path("ca.key"), home.path("away")).unwrap();
    service.signal(Signal::HUP);
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    assert!(Service::curl(&home, "admin", "http://x/healthz").contains("ca.key"));
    assert!(!Service::serial(&home).is_empty());

    service.signal(Signal::TERM);
    service.wait_for("STOPPING=1");
    assert!(service.child.0.wait().unwrap().success());
}

#[test]
fn a_host_enrols_with_the_program() {
    let home = Home::new();
    let host = workspace();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let mut child = command(home.directory.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let _service = Ended(child);
    let port = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the service ended");
        let entry: Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = entry["address"].as_str() {
            break address.parse::<std::net::SocketAddr>().unwrap().port();
        }
    };
    // The service must be able to write on.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let token = host.path().join("token");
    run(home.directory.path(), &["token", "vvt", "--san", "vvt.localhost", "--out", text(&token)]).succeeded();
    let server = format!("https://localhost:{port}");
    let fingerprint = home.authority.certificate().fingerprint();
    let own = host.path().join("own");
    let first = run(
        &own,
        &[
            "enrol",
            "vvt",
            "--san",
            "vvt.localhost",
            "--server",
            &server,
            "--fingerprint",
            &fingerprint,
            "--token-file",
            text(&token),
        ],
    );
    assert!(first.succeeded().starts_with("Got a certificate for vvt, vvt.localhost"));
    let again = run(&own, &["enrol", "vvt", "--server", &server]).succeeded();
    assert!(again.contains("nothing to do"), "{again}");
    assert!(run(&own, &["enrol", "vvt", "--server", &server, "--force"]).succeeded().starts_with("Got"));
    assert!(home.verify(&own.join("certs/vvt/cert.pem"), &["-verify_hostname", "vvt.localhost"]).status.success());
    run(
        &host.path().join("other"),
        &["enrol", "vvt", "--server", &server, "--ca", text(&home.path("ca.pem")), "--token-file", text(&token)],
    )
    .failed(77, "401", "new one-time token");
}

#[test]
fn a_taken_address_is_named() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = run(home.directory.path(), &["serve", "--listen", &address]);
    assert_eq!(failed.status, 69, "{failed:?}");
    assert!(failed.err.contains(&format!("cannot listen on {address}")), "{failed:?}");
    run(home.directory.path(), &["serve", "--listen", "127.0.0.1:0", "--name", "ca.example"]).failed(
        64,
        "cannot be called ca.example",
        "--name",
    );
    let missing = workspace();
    run(missing.path(), &["serve", "--listen", "127.0.0.1:0"]).failed(66, "there is no certificate authority", "init");
}

#[test]
fn the_systemd_state_directory_is_the_default() {
    let home = Home::new();
    let output = Command::new(env!("CARGO_BIN_EXE_federation-ca"))
        .env_clear()
        .env("STATE_DIRECTORY", home.directory.path())
        .args(["issue", "vvt"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(matches!(home.authority.issue(&LeafProfile::new("vvt")).unwrap(), Outcome::StillValid(_)));
    assert!(Authority::pairs(home.directory.path()).load("vvt").unwrap().is_some());
}
