//! What the running network does for its users.

use std::collections::BTreeMap;

use care_federation::lab::client::ClientError;
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{block_on, log_in, server},
    shared,
};

#[test]
fn every_step_of_the_scenario_passes_across_four_organisations() {
    let shared = shared::network();
    let junit = shared.lab.path("report.xml");
    let text = shared.lab.succeed(&["verify", "--json", "--junit", junit.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["servers"], serde_json::json!(["apotheek", "ggz", "huisarts", "vvt"]));
    let steps = report["steps"].as_array().unwrap();
    let not_passed: Vec<&Value> = steps.iter().filter(|step| step["verdict"] != "passed").collect();
    assert!(not_passed.is_empty(), "{not_passed:#?}");
    let mut chapters = BTreeMap::new();
    for step in steps {
        *chapters.entry(step["chapter"].as_str().unwrap()).or_insert(0) += 1;
    }
    let expected = [
        ("A room across the network", 12),
        ("FHIR and Matrix", 19),
        ("Files", 2),
        ("Good-bye", 1),
        ("People", 2),
        ("The servers answer", 4),
        ("What is outside stays outside", 9),
    ];
    assert_eq!(chapters, BTreeMap::from(expected));
    let xml = std::fs::read_to_string(junit).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), steps.len());
    assert!(xml.contains("failures=\"0\""), "{xml}");
}

#[test]
fn a_target_file_takes_the_place_of_the_lab() {
    let shared = shared::network();
    let state = shared.lab.state();
    let token = block_on(async {
        let password = password_of("@admin:vvt");
        let admin = log_in(&shared.network, "@admin:vvt", &password).await;
        admin.token().expose().to_owned()
    });
    care_federation::service::files::write(&shared.lab.path("vvt.token"), token.as_bytes(), 0o600).unwrap();
    let port = shared.network.proxy.federation_port;
    let homeserver = |name: &str| shared.network.organisations[name].homeserver_port;
    let target = format!(
        "certificate_authority = \"state/pki/ca.pem\"
        [servers.vvt]
        address = \"https://vvt:{port}\"
        connect = \"127.0.0.1:{port}\"
        admin_address = \"http://127.0.0.1:{}\"
        admin_token_file = \"vvt.token\"
        [servers.ggz]
        address = \"https://ggz:{port}\"
        connect = \"127.0.0.1:{port}\"
        admin_address = \"http://127.0.0.1:{}\"
        registration_secret_file = \"{}/homeservers/ggz/registration_shared_secret\"",
        homeserver("vvt"),
        homeserver("ggz"),
        state.display(),
    );
    let target = shared.lab.write("target.toml", &target);
    let text = shared.lab.succeed(&["verify", "--target", target.to_str().unwrap()]);
    assert!(text.contains("steps passed, 3 left out") && text.contains("across ggz, vvt."), "{text}");
    assert!(text.contains("the target names no egress"), "{text}");
    assert!(text.contains("the target names no FHIR bridge"), "{text}");
}

#[test]
fn a_step_that_fails_is_named_with_its_cause_and_its_log() {
    let shared = shared::network();
    let port = shared.network.proxy.federation_port;
    let state = shared.lab.state();
    // The CA of nobody: every chain is refused.
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    shared.lab.write("other.pem", &other.cert.pem());
    let mut target = "certificate_authority = \"other.pem\"\n".to_owned();
    for name in ["ggz", "vvt"] {
        target += &format!(
            "[servers.{name}]\naddress = \"https://{name}:{port}\"\nconnect = \"127.0.0.1:{port}\"\n\
             registration_secret_file = \"{0}/homeservers/{name}/registration_shared_secret\"\n\
             log = \"{0}/logs/{name}.log\"\n",
            state.display()
        );
    }
    let target = shared.lab.write("wrong.toml", &target);
    let output = shared.lab.run(&["verify", "--target", target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL") && text.contains("cause: ") && text.contains("UnknownIssuer"), "{text}");
    assert!(text.contains("logs/ggz.log") || text.contains("logs/vvt.log"), "{text}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("“Each server's certificate is from the network's authority” failed"), "{error}");
}

#[test]
fn an_added_user_logs_in_and_keeps_its_password() {
    let shared = shared::network();
    let added = shared.lab.succeed(&["users", "add", "dora@huisarts"]);
    let (user, password) = added.trim().split_once(' ').unwrap();
    assert_eq!(user, "@dora:huisarts");
    let session = block_on(log_in(&shared.network, user, password));
    assert_eq!(session.user, user);
    assert_eq!(shared.lab.succeed(&["users", "add", "@dora:huisarts"]), added);
    let refused = shared.lab.run(&["users", "add", "dora@ziekenhuis"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("It has apotheek, ggz, huisarts, vvt."));
}

#[test]
fn administrators_reach_the_admin_api_only_past_the_proxy() {
    let shared = shared::network();
    block_on(async {
        let path = ["_synapse", "admin", "v1", "register"];
        let refused = server(&shared.network, "vvt").ask(Method::GET, &path, |request| request).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused { status: 403, .. }), "{refused}");
    });
}

#[test]
fn element_is_served_with_its_configuration() {
    let shared = shared::network();
    let port = shared.network.organisations["vvt"].client_port.unwrap();
    let base = format!("http://127.0.0.1:{port}");
    block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = client.get(&base).send().await.unwrap().text().await.unwrap();
        assert!(page.contains("Element stands here"), "{page}");
        let config: Value = client.get(format!("{base}/config.json")).send().await.unwrap().json().await.unwrap();
        let homeserver = format!("http://vvt.localhost:{}", shared.network.proxy.client_port);
        assert_eq!(config["default_server_config"]["m.homeserver"]["base_url"], homeserver);
    });
}

#[test]
fn other_terminals_see_the_network() {
    let shared = shared::network();
    let status = shared.lab.succeed(&["status"]);
    assert!(status.contains("The lab is up") && status.contains("ggz"), "{status}");
    let logs = shared.lab.succeed(&["logs", "vvt", "-n", "3"]);
    assert_eq!(logs.lines().count(), 3, "{logs}");
    let port = shared.network.organisations["vvt"].bridge_port.unwrap();
    let row = status.lines().find(|line| line.starts_with("bridge-vvt")).unwrap();
    assert!(row.ends_with(&format!("http://127.0.0.1:{port}/fhir")), "{row}");
    for name in ["bridge", "bridge-vvt"] {
        let logs = shared.lab.succeed(&["logs", name, "-n", "10000"]);
        assert!(logs.contains("connected with the homeserver"), "{logs}");
    }
    let unknown = shared.lab.run(&["logs", "ziekenhuis"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("There are logs of apotheek, bridge-vvt, ggz,"));
}

#[test]
fn a_second_up_says_that_one_is_running() {
    let shared = shared::network();
    let second = shared.lab.run(&["up"]);
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    let error = String::from_utf8(second.stderr).unwrap();
    let process = shared.lab.status()["process"].to_string();
    assert!(error.contains(&format!("a lab is running already (process {process})")), "{error}");
    let reset = shared.lab.run(&["reset", "--yes"]);
    assert_eq!(reset.status.code(), Some(75), "{reset:?}");
}

fn password_of(user: &str) -> String {
    let list: Vec<Value> = serde_json::from_str(&shared::network().lab.succeed(&["users", "list", "--json"])).unwrap();
    let found = list.iter().find(|entry| entry["user"] == user).unwrap();
    found["password"].as_str().unwrap().to_owned()
}
