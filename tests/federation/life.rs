//! The life of a network: starting, stopping, dying, coming back.

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    client::{block_on, log_in},
    lab::{Lab, Running, is_empty, wait_until},
};

fn process_of(lab: &Lab, program: &str) -> Pid {
    let number = lab.status()["programs"][program]["process"].as_i64().unwrap();
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

#[test]
fn demo_proves_the_network_and_leaves_nothing_running() {
    let lab = Lab::new();
    let element = lab.element();
    let demo = lab.command(&["demo", "--port-offset", "auto", "--element", element.to_str().unwrap()]);
    let (status, said) = Running::start(&demo).end();
    assert!(status.success(), "{said}");
    assert!(said.contains("All 46 steps passed") && said.contains("across apotheek, huisarts, vvt."), "{said}");
    assert!(lab.processes().is_empty());
}

#[test]
fn state_survives_down_and_sudden_death_and_reset_removes_it() {
    let lab = Lab::new();
    let up = lab.up();
    let added = lab.succeed(&["users", "add", "dora@vvt"]);
    let (user, password) = added.trim().split_once(' ').unwrap();
    let words = json!({ "msgtype": "m.text", "body": "Tot morgen" });
    let (room, event) = block_on(async {
        let session = log_in(&lab.network(), user, password).await;
        let path = ["client", "v3", "createRoom"];
        let room = session.call_for(Method::POST, &path, Some(json!({})), "/room_id").await.unwrap();
        let event = session.send(&room, "m.room.message", words.clone()).await.unwrap();
        (room, event)
    });
    assert!(lab.succeed(&["down"]).contains("has stopped"));
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
    assert!(lab.processes().is_empty());

    let up = lab.up();
    block_on(async {
        let session = log_in(&lab.network(), user, password).await;
        let path = ["client", "v3", "rooms", &room, "event", &event];
        assert_eq!(session.call(Method::GET, &path, None).await.unwrap()["content"], words);
    });

    up.signal(Signal::KILL);
    up.end();
    lab.wait_for_silence();
    let status = lab.run(&["status"]);
    assert_eq!(status.status.code(), Some(69), "{status:?}");
    assert_eq!(lab.status(), Value::Null);

    let up = lab.up();
    up.signal(Signal::TERM);
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
    lab.succeed(&["reset", "--yes"]);
    assert!(is_empty(&lab.state()));
}

#[test]
fn what_crashes_is_started_again() {
    let lab = Lab::new();
    let mut up = lab.up();
    for program in ["vvt", "proxy", "bridge-vvt"] {
        let before = process_of(&lab, program);
        kill_process(before, Signal::KILL).unwrap();
        up.wait_for(&format!("{program} ended by itself (killed by signal 9); starting it again"));
        up.wait_for(&format!("{program}: serves after"));
        wait_until("the status tells of the restart", || {
            let state = &lab.status()["programs"][program];
            state["restarts"] == 1 && state["ready"] == true
        });
        assert_ne!(process_of(&lab, program), before);
    }
    let report: Value = serde_json::from_str(&lab.succeed(&["verify", "--json"])).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["chapter"] == "FHIR and Matrix"), "{report:#}");
    assert!(steps.iter().all(|step| step["verdict"] == "passed"), "{report:#}");
    up.signal(Signal::INT);
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
    assert!(lab.processes().is_empty());
}

#[test]
fn an_error_with_certificates_does_not_end_the_network() {
    let lab = Lab::new();
    let up = lab.up();
    up.signal(Signal::TERM);
    up.end();
    let mut up = lab.start();
    up.wait_for("Starting ");
    // They were in order when the network started, and are looked at again while it runs.
    std::fs::write(lab.state().join("pki/issued.json"), "{").unwrap();
    up.wait_for("issued.json is damaged");
    up.wait_for("Put the file back from a backup");
    lab.succeed(&["status"]);
    lab.succeed(&["down"]);
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
}

#[test]
fn a_status_that_cannot_be_written_is_written_later() {
    let lab = Lab::new();
    let mut up = lab.up();
    let (proxy, status) = (process_of(&lab, "proxy"), lab.state().join("running.json"));
    std::fs::remove_file(&status).unwrap();
    std::fs::create_dir(&status).unwrap();
    kill_process(proxy, Signal::KILL).unwrap();
    up.wait_for("status: cannot write");
    up.wait_for("proxy: serves after");
    std::fs::remove_dir(&status).unwrap();
    wait_until("the status tells of the restart", || {
        let state = &lab.status()["programs"]["proxy"];
        state["restarts"] == 1 && state["ready"] == true
    });
    lab.succeed(&["down"]);
    let (status, said) = up.end();
    assert!(status.success(), "{said}");
}

#[test]
fn an_interrupted_start_leaves_nothing_running() {
    let lab = Lab::new();
    let element = lab.element();
    let arguments = ["--port-offset", "auto", "--element", element.to_str().unwrap()];
    for (command, moment) in [("up", "Starting "), ("demo", "ok ")] {
        let mut starting = Running::start(&lab.command(&[&[command], &arguments[..]].concat()));
        starting.wait_for(moment);
        starting.signal(Signal::INT);
        let (status, said) = starting.end();
        assert_eq!(status.code(), Some(130), "{command}: {said}");
        assert!(lab.processes().is_empty(), "{command}: {said}");
    }
}
