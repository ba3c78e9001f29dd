//! Starting, stopping, handing over, and what an operator sees.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use care_federation::service::listeners::free_port;

use crate::support::{Backend, Network, ask, connect, read_response, read_rest, reply, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_federation-proxy");

fn ok(stream: &mut std::net::TcpStream) -> bool {
    reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

#[test]
fn open_requests_finish_when_the_proxy_stops() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let network = Network::with(
        |_| {},
        move |_, stream| {
            let _ = wait.lock().unwrap().recv();
            ok(stream)
        },
    );
    let address = network.plain();
    let mut stream = connect(address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
    wait_for("the request", || !network.vvt.received().is_empty());
    let stopping = network.proxy.stopping();
    let stopper = thread::spawn(move || network.proxy.stop());
    wait_for("the stop", || stopping.is_cancelled());
    drop(release);
    let response = read_response(&mut stream, false);
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(read_rest(&mut stream), b"");
    stopper.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn what_does_not_finish_in_time_is_cut() {
    let network = Network::with(
        |settings| settings.limits.drain_time = "50ms".parse().unwrap(),
        |_, stream| {
            read_rest(stream);
            false
        },
    );
    let mut stream = connect(network.plain());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
    wait_for("the request", || !network.vvt.received().is_empty());
    network.proxy.stop();
    assert_eq!(read_rest(&mut stream), b"");
}

#[test]
fn health_and_metrics_are_on_the_private_address() {
    let network = Network::new();
    assert_eq!(network.get("/").status, 200);
    assert_eq!(network.get("/_synapse/admin").status, 403);
    let admin = network.proxy.addresses().admin[0];
    let health = ask(&mut connect(admin), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((health.status, health.text()), (200, r#"{"status":"ok","problems":{}}"#));
    for line in [
        "federation_proxy_requests_total{server=\"vvt\",code=\"2xx\"} 1",
        "federation_proxy_requests_total{server=\"vvt\",code=\"4xx\"} 1",
        "federation_proxy_request_seconds_count{server=\"vvt\"} 2",
        "federation_proxy_requests_open 0",
        "federation_proxy_certificate_expiry_timestamp_seconds{server=\"huisarts\"}",
    ] {
        network.wait_for_metric(line);
    }
}

/// Settings of a program of its own, with one homeserver, that listens on `listen`.
fn settings(directory: &std::path::Path, backend: &Backend, listen: &str) -> std::path::PathBuf {
    let path = directory.join("proxy.toml");
    let text = format!(
        "[listen]\nplain = [{listen:?}]\n[servers.vvt]\nupstream = \"http://{}\"\n[limits]\ndrain_time = \"10s\"\n",
        backend.address
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A running program; dropped, as by a test that fails, it is killed.
struct Program(Child);

// === impl Program ===

impl Program {
    fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program with a listening socket as systemd would: as descriptor 3, under the name `plain`.
fn start_with_socket(settings: &std::path::Path, listener: &TcpListener) -> Program {
    // The shell moves the socket to descriptor 3 and says which process it is for, as systemd does (sd_listen_fds(3)).
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" --config \"$1\" run";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(PROGRAM).arg(settings);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "plain").stderr(Stdio::null());
    Program(command.spawn().unwrap())
}

#[test]
fn a_restart_with_an_inherited_socket_loses_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::new(|_, stream| {
        thread::sleep(Duration::from_millis(1));
        ok(stream)
    });
    let settings = settings(directory.path(), &backend, "systemd:plain");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut program = start_with_socket(&settings, &listener);
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Most connect anew for each request: a connection that was accepted just as the stop came is the hardest case.
        for kept in [true, true, false, false, false, false, false, false] {
            let (stop, count) = (&stop, &count);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    requests(address, kept, stop, count);
                }
            });
        }
        for _ in 0..3 {
            let before = count.load(Relaxed);
            wait_for("requests", || count.load(Relaxed) > before + 50);
            let mut old = std::mem::replace(&mut program, start_with_socket(&settings, &listener));
            old.terminate();
        }
        stop.store(true, Relaxed);
    });
    program.terminate();
}

/// Requests on one connection, until the server says that it closes it or the test ends. Each must be answered.
fn requests(address: SocketAddr, kept: bool, stop: &AtomicBool, count: &AtomicUsize) {
    let mut stream = connect(address);
    while !stop.load(Relaxed) {
        let response = ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
        assert_eq!(response.status, 200);
        count.fetch_add(1, Relaxed);
        if !kept || !response.fields("connection").is_empty() {
            return;
        }
    }
}

fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(PROGRAM).args(arguments).env_remove("FEDERATION_PROXY_CONFIG").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[test]
fn settings_are_checked_with_the_files_they_name() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::new(|_, stream| ok(stream));
    let path = settings(directory.path(), &backend, "127.0.0.1:0");
    let file = path.to_str().unwrap();
    let (status, text) = run(&["check-config", "--config", file]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("serving vvt; any server may federate"), "{text}");
    let right = std::fs::read_to_string(&path).unwrap();
    let authority = crate::support::Authority::new();
    let (pair, other) =
        (authority.issue(directory.path(), "vvt", &["vvt"]), authority.issue(directory.path(), "other", &["vvt"]));
    let with_pair = |certificate: &std::path::Path, key: &std::path::Path| {
        right.replace("[limits]", &format!("certificate = {certificate:?}\nkey = {key:?}\n[limits]"))
    };
    for (wrong, status, message) in [
        (right.replace("drain_time", "drain_tine"), 78, "limits.drain_tine: no such setting"),
        (right.replace("plain", "plane"), 78, "proxy.toml:2: listen.plane: no such setting"),
        (with_pair(&pair.0, &directory.path().join("none")), 66, "cannot read"),
        (with_pair(&pair.0, &other.1), 78, "does not belong to the certificate"),
        (with_pair(&pair.1, &pair.1), 78, "holds no certificate"),
        (right.replace("[limits]", "[policy]\nmembers = [\"a b\"]\n[limits]"), 78, "policy.members: \"a b\""),
    ] {
        std::fs::write(&path, wrong).unwrap();
        let found = run(&["--config", file, "check-config"]);
        assert_eq!(found.0, status, "{}", found.1);
        assert!(found.1.contains(message), "{}", found.1);
    }
}

#[test]
fn a_port_in_use_is_said_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::new(|_, stream| ok(stream));
    let path = settings(directory.path(), &backend, &backend.address.to_string());
    let (status, text) = run(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(status, 69, "{text}");
    assert!(text.contains("cannot listen on") && text.contains("Another program listens there"), "{text}");
}

#[test]
fn the_access_log_holds_no_query() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::new(|_, stream| ok(stream));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let path = settings(directory.path(), &backend, "127.0.0.1:0");
    let text = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0", &address.to_string());
    std::fs::write(&path, text).unwrap();
    let log = directory.path().join("log");
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--config", path.to_str().unwrap()]).env("FEDERATION_PROXY_LOG__FORMAT", "json");
    command.env_remove("RUST_LOG").stderr(std::fs::File::create(&log).unwrap());
    let mut program = Program(command.spawn().unwrap());
    wait_for("the proxy", || std::net::TcpStream::connect(address).is_ok());
    let request = "GET /_matrix/client/v3/sync?access_token=secret HTTP/1.1\r\nHost: vvt\r\n\r\n";
    assert_eq!(ask(&mut connect(address), request).status, 200);
    program.terminate();
    let text = std::fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains("/_matrix/client/v3/sync")).expect("an access line");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((line["status"].as_u64(), line["server"].as_str()), (Some(200), Some("vvt")));
    assert_eq!(backend.last().fields("x-request-id"), [line["id"].as_str().unwrap()]);
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn the_book_names_every_setting_and_its_default() {
    let book = include_str!("../../docs/src/proxy.md");
    let defaults = toml::Table::try_from(care_federation::proxy::settings::Settings::default()).unwrap();
    for (key, value) in defaults["limits"].as_table().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"));
        assert!(book.contains(&format!("| `{key}` | {value} |")), "{key} = {value}");
    }
    for table in ["log", "listen", "policy", "egress"] {
        for key in defaults[table].as_table().unwrap().keys() {
            assert!(book.contains(&format!("| `{table}.{key}` |")), "{table}.{key}");
        }
    }
}
