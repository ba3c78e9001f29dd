//! What reaches a homeserver, and what comes back.

use std::{io::Write as _, net::TcpStream, time::Duration};

use care_federation::service::listeners::free_port;

use crate::support::{Network, Received, ask, connect, read_response, read_rest, reply, wait_for};

#[test]
fn a_path_reaches_the_homeserver_byte_for_byte() {
    let network = Network::new();
    for path in
        ["/_matrix/%21a%2Fb", "//_matrix//x", "/?", "/?a=/%zz?b", "/a/../b/./c", "/é%C3", "/%00", "/a;b=c&d", "*"]
    {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let response = network.ask(format!("{method} {path} HTTP/1.1\r\nHost: vvt\r\n\r\n"));
        assert_eq!((response.status, response.text()), (200, "hello"), "{path}");
        assert_eq!(network.vvt.last().line(), format!("{method} {path} HTTP/1.1"));
    }
}

#[test]
fn an_absolute_target_becomes_a_path_and_a_host() {
    let network = Network::new();
    network.ask("GET http://vvt:8008/a?b HTTP/1.1\r\nHost: huisarts\r\n\r\n");
    assert_eq!(network.vvt.last().line(), "GET /a?b HTTP/1.1");
    assert_eq!(network.vvt.last().fields("host"), ["vvt:8008"]);
}

#[test]
fn fields_of_one_connection_stay_there_and_others_pass() {
    let network = Network::new();
    network.ask(
        "GET / HTTP/1.1\r\nHost: vvt\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nAuthorization: Bearer t\r\n\
         X-Other: a\r\nX-Other: b\r\ntraceparent: 00-1-2-01\r\n\r\n",
    );
    let received = network.vvt.last();
    for name in ["connection", "x-mine", "keep-alive", "te", "proxy-connection", "upgrade", "http2-settings"] {
        assert!(received.fields(name).is_empty(), "{name}: {}", received.head);
    }
    assert_eq!(received.fields("x-other"), ["a", "b"]);
    assert_eq!(received.fields("authorization"), ["Bearer t"]);
    assert_eq!(received.fields("traceparent"), ["00-1-2-01"]);
}

#[test]
fn the_proxy_says_who_asked_and_a_client_cannot() {
    let network = Network::new();
    network.ask(
        "GET / HTTP/1.1\r\nHost: VVT:8008\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Request-Id: x\r\n\
         X-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-Port: 1\r\n\r\n",
    );
    let received = network.vvt.last();
    assert_eq!(received.fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(received.fields("x-forwarded-host"), ["VVT:8008"]);
    assert_eq!(received.fields("host"), ["VVT:8008"]);
    assert_eq!(received.fields("x-request-id").len(), 1);
    assert_ne!(received.fields("x-request-id"), ["x"]);
    for name in ["forwarded", "x-real-ip", "x-forwarded-port"] {
        assert!(received.fields(name).is_empty(), "{name}");
    }
}

#[test]
fn requests_on_one_connection_go_where_their_host_says() {
    let network = Network::new();
    let mut stream = connect(network.plain());
    for (host, text) in [("vvt", "hello"), ("huisarts.localhost:8008", "huisarts"), ("vvt.localhost", "hello")] {
        let response = ask(&mut stream, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((response.status, response.text()), (200, text), "{host}");
    }
    let unknown = ask(&mut stream, "GET / HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!((unknown.status, unknown.error_code().as_str()), (404, "M_NOT_FOUND"));
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    let network = Network::new();
    let mut stream = connect(network.plain());
    let one = |host: &str| format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc");
    stream.write_all([one("vvt"), one("huisarts"), one("vvt")].concat().as_bytes()).unwrap();
    let texts: Vec<_> = (0..3).map(|_| read_response(&mut stream, false).text().to_owned()).collect();
    assert_eq!(texts, ["hello", "huisarts", "hello"]);
    assert_eq!(network.vvt.last().body, b"abc");
}

#[test]
fn connections_to_a_homeserver_are_used_again() {
    let network = Network::with(
        |settings| settings.workers = Some(1),
        |_, stream| reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    );
    for _ in 0..5 {
        assert_eq!(network.get("/").status, 200);
    }
    assert!(network.vvt.received().iter().all(|received| received.connection == 0));
}

#[test]
fn bodies_pass_with_their_length_or_in_chunks_with_trailers() {
    let echo = |received: &Received, stream: &mut TcpStream| {
        let length = received.body.len();
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
        reply(stream, &[head.as_bytes(), &received.body, b"\r\n0\r\nX-Sum: 7\r\nContent-Length: 1\r\n\r\n"].concat())
    };
    let network = Network::with(|_| {}, echo);
    let large = vec![b'x'; 300_000];
    let known = format!("PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: {}\r\n\r\n", large.len());
    let response = network.ask([known.as_bytes(), &large].concat());
    assert_eq!(network.vvt.last().fields("content-length"), ["300000"]);
    assert_eq!(response.fields("transfer-encoding"), ["chunked"]);
    assert_eq!(response.body, [large.as_slice(), b"X-Sum: 7"].concat());

    let chunks = "POST / HTTP/1.1\r\nHost: vvt\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nx-end: 1\r\nHost: evil\r\n\r\n";
    network.ask(chunks);
    assert_eq!(network.vvt.last().fields("transfer-encoding"), ["chunked"]);
    assert_eq!(network.vvt.last().body, b"abcdex-end: 1");
}

#[test]
fn an_old_client_gets_a_body_without_chunks() {
    let network = Network::with(
        |_| {},
        |_, stream| reply(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    );
    let mut stream = connect(network.plain());
    let response = ask(&mut stream, "GET / HTTP/1.0\r\nHost: vvt\r\n\r\n");
    assert!(response.fields("transfer-encoding").is_empty());
    assert_eq!((response.text(), response.fields("connection")), ("hi", vec!["close"]));
}

#[test]
fn responses_without_a_body_are_passed_as_such() {
    let network = Network::with(
        |_| {},
        |received, stream| {
            let status = received.line().split(['/', ' ']).nth(2).unwrap();
            let length = if status == "204" { "" } else { "Content-Length: 5\r\n" };
            reply(stream, format!("HTTP/1.1 {status} X\r\n{length}ETag: a\r\n\r\n").as_bytes())
        },
    );
    let mut stream = connect(network.plain());
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
        let response = ask(&mut stream, format!("{method} /{status} HTTP/1.1\r\nHost: vvt\r\n\r\n"));
        assert_eq!((response.status, response.fields("etag")), (status, vec!["a"]));
        assert_eq!(response.fields("content-length").len(), usize::from(status != 204));
    }
}

#[test]
fn a_response_that_ends_with_the_connection_is_passed_in_chunks() {
    let network = Network::with(
        |_| {},
        |_, stream| {
            reply(stream, b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
            false
        },
    );
    let response = network.get("/");
    assert_eq!((response.text(), response.fields("transfer-encoding")), ("until the end", vec!["chunked"]));
}

#[test]
fn early_hints_pass_and_a_continue_is_the_proxy_s_own() {
    let network = Network::with(
        |_| {},
        |_, stream| {
            reply(
                stream,
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            )
        },
    );
    let mut stream = connect(network.plain());
    stream.write_all(b"PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).status, 100);
    stream.write_all(b"abc").unwrap();
    let hints = read_response(&mut stream, false);
    assert_eq!((hints.status, hints.fields("link")), (103, vec!["</a>"]));
    assert_eq!(read_response(&mut stream, false).text(), "ok");
    assert!(network.vvt.last().fields("expect").is_empty());
    assert_eq!(network.vvt.last().body, b"abc");
}

#[test]
fn a_client_that_waits_for_continue_is_refused_before_it_sends() {
    let network = Network::with(|settings| settings.limits.body_bytes = 10, |_, _| false);
    let mut stream = connect(network.plain());
    let head = "PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n";
    let response = ask(&mut stream, head);
    assert_eq!((response.status, response.error_code().as_str()), (413, "M_TOO_LARGE"));
    assert_eq!(read_rest(&mut stream), b"");
}

#[test]
fn a_protocol_change_becomes_a_tunnel() {
    let network = Network::with(
        |_| {},
        |received, stream| {
            assert_eq!(
                (received.fields("upgrade"), received.fields("connection")),
                (vec!["websocket"], vec!["upgrade"])
            );
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ";
            stream.write_all(head.as_bytes()).unwrap();
            let mut byte = [0; 4];
            std::io::Read::read_exact(stream, &mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            false
        },
    );
    let mut stream = connect(network.plain());
    let request = "GET /ws HTTP/1.1\r\nHost: vvt\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping";
    let response = ask(&mut stream, request);
    assert_eq!((response.status, response.fields("upgrade")), (101, vec!["websocket"]));
    assert_eq!(read_rest(&mut stream), b"first ping");
}

#[test]
fn a_homeserver_that_is_down_is_502_at_once() {
    let network = Network::with(
        |settings| {
            let vvt = settings.servers.get_mut("vvt").unwrap();
            vvt.upstream = format!("http://127.0.0.1:{}", free_port().unwrap()).parse().unwrap();
        },
        |_, _| false,
    );
    let mut stream = connect(network.plain());
    for _ in 0..2 {
        let response = ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
        assert_eq!((response.status, response.error_code().as_str()), (502, "M_UNKNOWN"));
        assert_eq!(response.fields("retry-after").len(), 1);
    }
    network.wait_for_metric("federation_proxy_upstream_errors_total{server=\"vvt\",kind=\"connect\"} 2");
}

#[test]
fn a_homeserver_that_breaks_off_or_babbles_is_502() {
    let network = Network::with(
        |_| {},
        |received, stream| {
            if received.line().contains("babble") {
                reply(stream, b"SMTP ready\r\n\r\n");
            }
            false
        },
    );
    for path in ["/break", "/babble"] {
        assert_eq!(network.get(path).status, 502, "{path}");
    }
}

#[test]
fn a_response_that_breaks_off_is_seen_to_be_cut() {
    let network = Network::with(
        |_| {},
        |_, stream| {
            reply(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal");
            false
        },
    );
    let mut stream = connect(network.plain());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
    let all = read_rest(&mut stream);
    assert!(all.ends_with(b"hal\r\n") && !all.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn a_slow_homeserver_is_504() {
    let network = Network::with(
        |settings| settings.limits.request_time = "100ms".parse().unwrap(),
        |_, _| {
            std::thread::sleep(Duration::from_secs(2));
            false
        },
    );
    let response = network.get("/");
    assert_eq!((response.status, response.error_code().as_str()), (504, "M_UNKNOWN"));
}

#[test]
fn a_connection_that_the_homeserver_closed_meanwhile_costs_no_request() {
    // The homeserver closes after each response without saying so.
    let network = Network::with(
        |settings| settings.workers = Some(1),
        |_, stream| {
            reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            false
        },
    );
    let mut stream = connect(network.plain());
    for round in 0..50 {
        let (method, body) = [("GET", ""), ("PUT", "abc"), ("POST", "abc")][round % 3];
        let length = body.len();
        let request = format!("{method} / HTTP/1.1\r\nHost: vvt\r\nContent-Length: {length}\r\n\r\n{body}");
        if method == "POST" {
            // A POST is never sent twice, so that it must not meet the connection while it closes.
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(ask(&mut stream, request).status, 200, "{method} {round}");
    }
    assert_eq!(network.vvt.received().len(), 50);
}

#[test]
fn a_client_that_goes_away_frees_its_homeserver() {
    let (gone, seen) = std::sync::mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let network = Network::with(
        |_| {},
        move |_, stream| {
            // A long poll: it ends when the proxy closes the connection.
            let end = read_rest(stream);
            gone.lock().unwrap().send(end.is_empty()).unwrap();
            false
        },
    );
    let mut stream = connect(network.plain());
    stream.write_all(b"GET /sync HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
    wait_for("the request", || !network.vvt.received().is_empty());
    drop(stream);
    assert!(seen.recv_timeout(crate::support::PATIENCE).unwrap());
}

#[test]
fn a_response_may_begin_before_the_request_has_ended() {
    let network = Network::with(|_| {}, |_, _| false);
    // A homeserver of its own: it answers before it has read the body.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    drop(network);
    let address = listener.local_addr().unwrap();
    let network = Network::with(
        |settings| settings.servers.get_mut("vvt").unwrap().upstream = format!("http://{address}").parse().unwrap(),
        |_, _| false,
    );
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").unwrap();
        let mut request = Vec::new();
        let mut room = [0; 1024];
        while !request.ends_with(b"\r\n0\r\n\r\n") {
            let count = std::io::Read::read(&mut stream, &mut room).unwrap();
            request.extend_from_slice(&room[..count]);
        }
        stream.write_all(b"def").unwrap();
    });
    let mut stream = connect(network.plain());
    stream.write_all(b"POST / HTTP/1.1\r\nHost: vvt\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").unwrap();
    let mut first = [0; 17];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK\r\n");
    stream.write_all(b"2\r\nho\r\n0\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"abcdef") {
        let mut room = [0; 64];
        let count = std::io::Read::read(&mut stream, &mut room).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&rest));
        rest.extend_from_slice(&room[..count]);
    }
    server.join().unwrap();
}

#[test]
fn a_homeserver_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vvt.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let network = Network::with(
        |settings| {
            settings.servers.get_mut("vvt").unwrap().upstream = format!("unix:{}", path.display()).parse().unwrap();
        },
        |_, _| false,
    );
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut room = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut room).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").unwrap();
    });
    assert_eq!(network.get("/").text(), "unix");
}
