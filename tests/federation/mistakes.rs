//! What is missing or in the way is said in one sentence, with the remedy.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use rustix::process::Signal;

use super::lab::{Lab, Running};

/// Runs a command that must fail; its exit status and what it said.
fn fail(command: &mut Command) -> (i32, String) {
    let (status, said) = Running::start(command).end();
    assert!(!status.success(), "{said}");
    (status.code().unwrap(), said)
}

fn up(lab: &Lab) -> Command {
    let element = lab.element();
    lab.command(&["up", "--port-offset", "auto", "--element", element.to_str().unwrap()])
}

/// With an empty cache, so that Synapse has to be installed.
fn fresh_up(lab: &Lab) -> Command {
    let mut command = up(lab);
    command.arg("--cache").arg(lab.path("cache")).env_remove("SYNAPSE_HOMESERVER");
    command
}

fn script(path: &Path, content: &str) {
    fs::write(path, format!("#!/bin/sh\n{content}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let lab = Lab::new();
    // Below all other ports of the network, so that it is looked at first, whoever holds the others on this machine.
    let taken = (1024..1234).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let declaration = super::lab::TWO.replace("8008", &port.to_string());
    let declaration = lab.write("taken.toml", &declaration);
    let (status, said) = fail(&mut lab.command(&["--network", declaration.to_str().unwrap(), "up"]));
    assert_eq!(status, 69, "{said}");
    assert!(said.contains(&format!("port {port} (the proxy's client port) is in use by ")), "{said}");
    assert!(said.contains(&format!("(process {})", std::process::id())) && said.contains("--port-offset"), "{said}");
}

#[test]
fn no_python_is_said() {
    let lab = Lab::new();
    let empty = lab.path("empty");
    fs::create_dir(&empty).unwrap();
    let (status, said) = fail(fresh_up(&lab).env("PATH", &empty).env_remove("PYTHON"));
    assert_eq!(status, 69, "{said}");
    assert!(said.contains("there is no Python 3 on this machine") && said.contains("apt install python3"), "{said}");
}

#[test]
fn no_venv_module_is_said() {
    let lab = Lab::new();
    let python = lab.path("python3");
    script(&python, "printf '3\\n11\\nunable\\n/usr/bin/python3\\n'");
    let (_, said) = fail(fresh_up(&lab).env("PYTHON", &python));
    assert!(said.contains("cannot make virtual environments") && said.contains("apt install python3-venv"), "{said}");
}

#[test]
fn an_old_python_is_said() {
    let lab = Lab::new();
    let python = lab.path("python3");
    script(&python, "printf '3\\n9\\nable\\n/usr/bin/python3\\n'");
    let (_, said) = fail(fresh_up(&lab).env("PYTHON", &python));
    assert!(said.contains("is Python 3.9; Synapse needs 3.10 or newer"), "{said}");
}

#[test]
fn no_network_is_said() {
    let lab = Lab::new();
    // Port 1 of this machine: nobody listens there.
    let mut command = fresh_up(&lab);
    command.env("PIP_INDEX_URL", "http://127.0.0.1:1/simple").env("PIP_NO_CACHE_DIR", "1");
    for variable in ["PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"] {
        command.env_remove(variable);
    }
    let (status, said) = fail(&mut command);
    assert_eq!(status, 69, "{said}");
    assert!(said.contains("the package index cannot be reached") && said.contains("PIP_INDEX_URL"), "{said}");
    assert_no_remains(&lab);
}

#[test]
fn a_full_disk_is_said() {
    let lab = Lab::new();
    // No file may grow beyond 200 KB: writing fails as on a full disk, with "File too large".
    let up = fresh_up(&lab);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 400; exec \"$@\"", "sh"]).arg(up.get_program()).args(up.get_args());
    limited.env_remove("SYNAPSE_HOMESERVER").env("PIP_NO_CACHE_DIR", "1");
    let (status, said) = fail(&mut limited);
    assert_eq!(status, 74, "{said}");
    assert!(said.contains("the disk is full: Synapse cannot be installed") && said.contains("--cache"), "{said}");
    assert_no_remains(&lab);
}

#[test]
fn an_interrupted_installation_leaves_nothing() {
    let lab = Lab::new();
    // An index that takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let index = format!("http://{}/simple", silent.local_addr().unwrap());
    let start = || {
        let mut command = fresh_up(&lab);
        command.env("PIP_INDEX_URL", &index).env("PIP_NO_CACHE_DIR", "1").env_remove("PIP_FIND_LINKS");
        let running = Running::start(&command);
        // pip is at work now.
        let pip = silent.accept().unwrap();
        (running, pip)
    };

    let (killed, _pip) = start();
    killed.signal(Signal::KILL);
    killed.end();
    lab.wait_for_silence();

    // The next one removes what the killed one left.
    let (interrupted, _pip) = start();
    interrupted.signal(Signal::INT);
    let (status, said) = interrupted.end();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted while installing Synapse"), "{said}");
    assert!(lab.processes().is_empty());
    assert_no_remains(&lab);
}

/// Nothing half-made is kept.
fn assert_no_remains(lab: &Lab) {
    let left: Vec<_> = fs::read_dir(lab.path("cache")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["synapse.lock"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let lab = Lab::new();
    let file = lab.write("file", "");
    let (_, said) = fail(up(&lab).arg("--cache").arg(file.join("cache")).env_remove("SYNAPSE_HOMESERVER"));
    assert!(said.contains(&format!("cannot make directory {}", file.join("cache").display())), "{said}");
}

#[test]
fn a_synapse_that_is_not_there_is_named() {
    let lab = Lab::new();
    let (status, said) = fail(up(&lab).env("SYNAPSE_HOMESERVER", "/nonexistent/synapse"));
    assert_eq!(status, 66, "{said}");
    assert!(said.contains("SYNAPSE_HOMESERVER=/nonexistent/synapse is no file"), "{said}");
}

#[test]
fn a_homeserver_that_does_not_start_is_named_with_its_log() {
    let lab = Lab::new();
    let synapse = lab.path("synapse");
    script(&synapse, "echo 'the database is broken' >&2; exit 3");
    let (status, said) = fail(up(&lab).env("SYNAPSE_HOMESERVER", &synapse));
    assert_eq!(status, 69, "{said}");
    assert!(said.contains("ended before it served (exit status 3): the database is broken"), "{said}");
    assert!(said.contains("Its log: ") && said.contains("/state/logs/"), "{said}");
    assert!(lab.processes().is_empty());
}

#[test]
fn a_mistake_in_the_declaration_is_named_with_its_line() {
    let lab = Lab::new();
    let wrong = lab.write("wrong.toml", &super::lab::TWO.replace("homeserver_port = 8028", "homeserver_prt = 8028"));
    let (status, said) = fail(&mut lab.command(&["--network", wrong.to_str().unwrap(), "up"]));
    assert_eq!(status, 78, "{said}");
    assert!(said.contains("wrong.toml:9: organisations.huisarts.homeserver_prt: no such setting"), "{said}");
}

#[test]
fn lost_passwords_are_named_with_the_remedy() {
    let lab = Lab::new();
    let up = lab.up();
    up.signal(Signal::TERM);
    up.end();
    let users = lab.state().join("users.json");
    fs::write(&users, "{").unwrap();
    let (status, said) = fail(&mut lab.command(&["users", "list"]));
    assert!(status == 65 && said.contains("users.json is not a list of users") && said.contains("reset"), "{said}");
    fs::remove_file(&users).unwrap();
    let (status, said) = lab.start().end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("exists already with a password") && said.contains("federation-lab reset"), "{said}");
}
