//! The network: discovery, who may come in, and where homeservers may go.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use care_federation::proxy::settings::{Settings, Unauthenticated};

use crate::support::{Network, Response, ask, connect, reply, wait_for};

fn ok(stream: &mut std::net::TcpStream) -> bool {
    reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn discovery_is_answered_with_cors() {
    let network = Network::new();
    let server = network.get("/.well-known/matrix/server");
    assert_eq!((server.status, server.text()), (200, r#"{"m.server":"vvt:8448"}"#));
    let client = network.get("/.well-known/matrix/client");
    assert_eq!(client.text(), r#"{"m.homeserver":{"base_url":"https://vvt:8448"}}"#);
    for response in [&server, &client] {
        assert_eq!(response.fields("access-control-allow-origin"), ["*"]);
        assert_eq!(response.fields("content-type"), ["application/json"]);
    }
    let asked = network.ask("OPTIONS /.well-known/matrix/client HTTP/1.1\r\nHost: vvt\r\nOrigin: http://x\r\n\r\n");
    assert_eq!((asked.status, asked.fields("access-control-allow-methods").len()), (204, 1));
    let head = network.ask("HEAD /.well-known/matrix/client HTTP/1.1\r\nHost: vvt\r\n\r\n");
    assert_eq!((head.status, head.fields("content-length").len()), (200, 1));
    assert!(network.vvt.received().is_empty());
}

#[test]
fn the_admin_api_is_closed_unless_configured() {
    let network = Network::new();
    let closed = network.get("/_synapse/admin/v1/register");
    assert_eq!((closed.status, closed.error_code().as_str()), (403, "M_FORBIDDEN"));
    assert_eq!(closed.fields("x-request-id").len(), 1);
    let open = |settings: &mut Settings| settings.servers.get_mut("vvt").unwrap().admin_api = true;
    let network = Network::with(open, |_, stream| ok(stream));
    assert_eq!(network.get("/_synapse/admin/v1/register").status, 200);
    assert_eq!(network.get("/_synapse/replication").status, 403);
}

fn members(settings: &mut Settings) {
    settings.policy.members = Some(vec!["vvt".to_owned(), "huisarts".to_owned()]);
}

fn send(network: &Network, authorization: &str) -> Response {
    let head = "PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\nHost: vvt:8448\r\nContent-Length: 2\r\n";
    network.ask(format!("{head}{authorization}\r\n{{}}"))
}

#[test]
fn members_federate_and_others_do_not() {
    let network = Network::with(members, |_, stream| ok(stream));
    let signed = |origin: &str, destination: &str| {
        let header = format!("X-Matrix origin=\"{origin}\",destination=\"{destination}\",key=\"ed25519:a\",sig=\"x\"");
        send(&network, &format!("Authorization: {header}\r\n"))
    };
    assert_eq!(signed("huisarts", "vvt").status, 200);
    for (origin, destination, reason) in [("rogue", "vvt", "not a member"), ("huisarts", "apotheek", "another server")]
    {
        let refused = signed(origin, destination);
        assert_eq!((refused.status, refused.error_code().as_str()), (403, "M_FORBIDDEN"));
        assert!(refused.text().contains(reason), "{}", refused.text());
    }
    let unsigned = send(&network, "");
    assert_eq!((unsigned.status, unsigned.error_code().as_str()), (401, "M_UNAUTHORIZED"));
    assert_eq!(unsigned.fields("www-authenticate"), ["X-Matrix"]);
    assert_eq!(network.vvt.received().len(), 1);
    network.wait_for_metric("federation_proxy_policy_refusals_total{server=\"vvt\"} 3");
}

#[test]
fn what_needs_no_signature_is_open_unless_closed() {
    let paths = ["/_matrix/key/v2/server", "/_matrix/federation/v1/version", "/_matrix/federation/v1/openid/userinfo"];
    let network = Network::with(members, |_, stream| ok(stream));
    assert!(paths.iter().all(|path| network.get(path).status == 200));
    let close = |settings: &mut Settings| {
        members(settings);
        settings.policy.closed = vec![Unauthenticated::Keys, Unauthenticated::Version, Unauthenticated::OpenidUserinfo];
    };
    let network = Network::with(close, |_, stream| ok(stream));
    assert!(paths.iter().all(|path| network.get(path).status == 403));
    assert_eq!(network.get("/_matrix/client/versions").status, 200);
}

#[test]
fn without_a_list_everybody_federates() {
    let network = Network::new();
    assert_eq!(send(&network, "").status, 200);
}

#[test]
fn a_changed_list_of_members_counts_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("members");
    std::fs::write(&list, "vvt\n").unwrap();
    let network = Network::with(|settings| settings.policy.members_file = Some(list.clone()), |_, stream| ok(stream));
    let header = "Authorization: X-Matrix origin=huisarts,key=k,sig=s\r\n";
    assert_eq!(send(&network, header).status, 403);
    std::fs::write(&list, "vvt\nhuisarts\n").unwrap();
    wait_for("the new member", || send(&network, header).status == 200);
    std::fs::write(&list, "vvt\n").unwrap();
    wait_for("the member to be gone", || send(&network, header).status == 403);
}

#[test]
fn a_tunnel_ends_with_the_membership_and_no_other_does() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("members");
    std::fs::write(&list, "vvt\nhuisarts\n").unwrap();
    let network = Network::with(
        |settings| {
            settings.policy.members_file = Some(list.clone());
            for name in ["huisarts:8448", "vvt:8448"] {
                settings.egress.targets.insert(name.parse().unwrap(), address.parse().unwrap());
            }
        },
        |_, stream| ok(stream),
    );
    let open = |member: &str| {
        let mut stream = connect(network.egress());
        stream.write_all(format!("CONNECT {member}:8448 HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 39]).unwrap();
        (stream, endpoint.accept().unwrap().0)
    };
    let (mut leaving, mut its_end) = open("huisarts");
    let (mut staying, mut other_end) = open("vvt");
    let shorter = directory.path().join("shorter");
    std::fs::write(&shorter, "vvt\n").unwrap();
    std::fs::rename(&shorter, &list).unwrap();
    assert_eq!(leaving.read(&mut [0]).unwrap(), 0);
    assert_eq!(its_end.read(&mut [0]).unwrap(), 0);
    staying.write_all(b"ping").unwrap();
    let mut ping = [0; 4];
    other_end.read_exact(&mut ping).unwrap();
    assert_eq!(&ping, b"ping");
    assert_eq!(ask(&mut connect(network.egress()), "CONNECT huisarts:8448 HTTP/1.1\r\n\r\n").status, 403);
}

/// A member's endpoint that says something to whoever connects, and the settings that name it.
fn with_endpoint() -> (Network, std::net::SocketAddr) {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in endpoint.incoming().flatten() {
            std::thread::spawn(move || {
                let mut ping = [0; 4];
                if stream.read_exact(&mut ping).is_ok() {
                    let _ = stream.write_all(&[b"you said ", &ping[..]].concat());
                }
            });
        }
    });
    let network = Network::with(
        |settings| {
            members(settings);
            let targets = &mut settings.egress.targets;
            for name in ["huisarts:8448", "stranger:8448", "matrix.huisarts.nl:443"] {
                targets.insert(name.parse().unwrap(), address.to_string().parse().unwrap());
            }
            targets.insert("vvt:8448".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
            settings.egress.delegates.insert("matrix.huisarts.nl".to_owned(), "huisarts".to_owned());
        },
        |_, stream| ok(stream),
    );
    (network, address)
}

/// Homeservers keep tunnels for later: no stop waits for those.
#[test]
fn a_tunnel_is_answered_and_then_ends_when_the_proxy_stops() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap().to_string();
    let network = Network::with(
        |settings| {
            settings.egress.targets.insert("huisarts:8448".parse().unwrap(), address.parse().unwrap());
            settings.limits.drain_time = "1h".parse().unwrap();
        },
        |_, stream| ok(stream),
    );
    let open = || {
        let mut stream = connect(network.egress());
        stream.write_all(b"CONNECT huisarts:8448 HTTP/1.1\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 39]).unwrap();
        let mut its_end = endpoint.accept().unwrap().0;
        stream.write_all(b"ping").unwrap();
        its_end.read_exact(&mut [0; 4]).unwrap();
        (stream, its_end)
    };
    let ((mut asking, mut to_answer), (mut kept, mut quiet)) = (open(), open());
    quiet.write_all(b"pong").unwrap();
    kept.read_exact(&mut [0; 4]).unwrap();
    let stopper = std::thread::spawn(move || network.proxy.stop());
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    to_answer.write_all(b"pong").unwrap();
    asking.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(asking.read(&mut [0]).unwrap(), 0);
    stopper.join().unwrap();
}

#[test]
fn the_egress_leads_to_members_federation_ports() {
    let (network, _) = with_endpoint();
    for target in ["huisarts:8448", "HUISARTS:8448", "matrix.huisarts.nl:443"] {
        let mut stream = connect(network.egress());
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = [0; 39];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 Connection established\r\n\r\n", "{target}");
        stream.write_all(b"ping").unwrap();
        assert_eq!(crate::support::read_rest(&mut stream), b"you said ping");
    }
    network.wait_for_metric("federation_proxy_tunnels_total{result=\"opened\"} 3");
}

#[test]
fn the_egress_leads_nowhere_else() {
    let (network, address) = with_endpoint();
    let own = network.plain();
    for target in [
        "huisarts:8449".to_owned(),
        "huisarts:22".to_owned(),
        "stranger:8448".to_owned(),
        "matrix.org:443".to_owned(),
        "localhost:8448".to_owned(),
        "169.254.169.254:80".to_owned(),
        "[::1]:8448".to_owned(),
        address.to_string(),
        own.to_string(),
    ] {
        let response = ask(&mut connect(network.egress()), format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((response.status, response.error_code().as_str()), (403, "M_FORBIDDEN"), "{target}");
    }
    network.wait_for_metric("federation_proxy_tunnels_total{result=\"refused\"} 9");
    for (request, status) in [
        ("GET http://huisarts:8448/ HTTP/1.1\r\nHost: huisarts\r\n\r\n", 405),
        ("CONNECT huisarts HTTP/1.1\r\n\r\n", 400),
        ("CONNECT huisarts:0 HTTP/1.1\r\n\r\n", 400),
        ("CONNECT huisarts:8448 HTTP/1.1\r\n\r\nsmuggled", 400),
        ("nonsense\r\n\r\n", 400),
        ("CONNECT vvt:8448 HTTP/1.1\r\n\r\n", 502),
    ] {
        assert_eq!(ask(&mut connect(network.egress()), request).status, status, "{request:?}");
    }
    let large = format!("CONNECT huisarts:8448 HTTP/1.1\r\nX: {}", "x".repeat(8192));
    assert_eq!(ask(&mut connect(network.egress()), large).status, 431);
}
