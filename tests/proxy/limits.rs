//! What a client may take, and what it is told beyond that.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use crate::support::{Network, Response, ask, connect, read_response, read_rest, reply, wait_for};

fn ok(stream: &mut std::net::TcpStream) -> bool {
    reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

fn told(response: &Response) -> (u16, String) {
    (response.status, response.error_code())
}

#[test]
fn heads_that_two_programs_could_read_differently_are_refused() {
    let network = Network::new();
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "Host: huisarts",
        " folded: x",
        "X: \0",
    ] {
        let mut stream = connect(network.plain());
        let response =
            ask(&mut stream, format!("POST / HTTP/1.1\r\nHost: vvt\r\n{lines}\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"));
        assert_eq!(told(&response), (400, "M_UNKNOWN".to_owned()), "{lines:?}");
        // What follows is not taken for a request.
        assert_eq!(read_rest(&mut stream), b"", "{lines:?}");
    }
    for request in ["GET / HTTP/1.1\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\r\n\r\n"] {
        assert_eq!(network.ask(request).status, 400, "{request:?}");
    }
    assert_eq!(network.ask("GET / HTTP/3.0\r\nHost: vvt\r\n\r\n").status, 505);
    assert_eq!(network.ask("GET /a b HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 505);
    assert_eq!(network.ask("GET / HTTP/1.1\r\nHost: vvt\r\nExpect: tea\r\n\r\n").status, 417);
    assert!(network.vvt.received().is_empty());
}

#[test]
fn malformed_chunks_are_refused_and_end_the_connection() {
    let network = Network::new();
    for chunks in ["x\r\n", "3\r\nabcX", "3\nabc\r\n", "3;\n\r\n"] {
        let mut stream = connect(network.plain());
        let head = "POST / HTTP/1.1\r\nHost: vvt\r\nTransfer-Encoding: chunked\r\n\r\n";
        let response = ask(&mut stream, [head, chunks].concat());
        assert_eq!(told(&response), (400, "M_UNKNOWN".to_owned()), "{chunks:?}");
        assert_eq!(read_rest(&mut stream), b"");
    }
    assert!(network.vvt.received().iter().all(|received| received.body.is_empty()));
}

#[test]
fn a_large_head_is_431() {
    let network = Network::with(|settings| settings.limits.header_count = 10, |_, stream| ok(stream));
    let large = format!("GET / HTTP/1.1\r\nHost: vvt\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: vvt\r\n{}\r\n", "x: y\r\n".repeat(10));
    for request in [large, many] {
        assert_eq!(told(&network.ask(request)), (431, "M_TOO_LARGE".to_owned()));
    }
    let nearly = format!("GET / HTTP/1.1\r\nHost: vvt\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    assert_eq!(network.ask(nearly).status, 200);
}

#[test]
fn a_slow_head_is_408_and_a_silent_connection_is_closed() {
    let network = Network::with(
        |settings| {
            settings.limits.header_time = "100ms".parse().unwrap();
            settings.limits.idle_time = "100ms".parse().unwrap();
        },
        |_, stream| ok(stream),
    );
    let mut slow = connect(network.plain());
    assert_eq!(told(&ask(&mut slow, "GET / HTTP/1.1\r\nHos")), (408, "M_UNKNOWN".to_owned()));
    assert_eq!(read_rest(&mut connect(network.plain())), b"");
    let mut idle = connect(network.plain());
    assert_eq!(ask(&mut idle, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
    assert_eq!(read_rest(&mut idle), b"");
}

#[test]
fn a_head_that_trickles_in_does_not_hold_the_connection() {
    let network =
        Network::with(|settings| settings.limits.header_time = "200ms".parse().unwrap(), |_, stream| ok(stream));
    let mut stream = connect(network.plain());
    let mut refused = false;
    // Each byte comes well within the time for a head; the whole does not.
    for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 2000)) {
        std::thread::sleep(Duration::from_millis(2));
        if stream.write_all(&[*byte]).is_err() {
            refused = true;
            break;
        }
    }
    assert!(refused);
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let network =
        Network::with(|settings| settings.limits.idle_time = "100ms".parse().unwrap(), |_, stream| ok(stream));
    let response = network.ask("PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(told(&response), (408, "M_UNKNOWN".to_owned()));
}

#[test]
fn a_large_body_is_413_by_its_length_and_by_its_bytes() {
    let network = Network::with(|settings| settings.limits.body_bytes = 100_000, |_, stream| ok(stream));
    let announced = network.ask("PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: 100001\r\n\r\n");
    assert_eq!(told(&announced), (413, "M_TOO_LARGE".to_owned()));
    assert!(network.vvt.received().is_empty());

    let mut stream = connect(network.plain());
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut request = b"PUT / HTTP/1.1\r\nHost: vvt\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..20 {
            request.extend_from_slice(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).as_bytes());
        }
        let _ = writer.write_all(&request);
    });
    assert_eq!(told(&read_response(&mut stream, false)), (413, "M_TOO_LARGE".to_owned()));
    sender.join().unwrap();

    let fits = [b"PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: 100000\r\n\r\n".as_slice(), &[b'x'; 100_000]].concat();
    assert_eq!(network.ask(fits).status, 200);
}

#[test]
fn fifty_megabytes_pass_both_ways() {
    let size = 50 * 1024 * 1024;
    let network = Network::with(
        |_| {},
        |received, stream| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", received.body.len());
            reply(stream, head.as_bytes()) && reply(stream, &received.body)
        },
    );
    let mut request = format!("PUT / HTTP/1.1\r\nHost: vvt\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    let start = request.len();
    let pattern: Vec<u8> = (0..=250).collect();
    request.extend(pattern.repeat(size / pattern.len() + 1));
    request.truncate(start + size);
    let mut stream = network.connect_tls(Some("vvt")).unwrap();
    let response = ask(&mut stream, &request);
    assert!(response.body == request[start..], "{} bytes came back", response.body.len());
}

#[test]
fn a_client_that_does_not_read_holds_no_more_than_buffers() {
    let (sent, seen) = std::sync::mpsc::channel();
    let sent = std::sync::Mutex::new(sent);
    let network = Network::with(
        |settings| settings.limits.idle_time = "300ms".parse().unwrap(),
        move |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
            let mut count = 0_usize;
            while count < 1_000_000_000 {
                match stream.write(&[b'x'; 65536]) {
                    Ok(written) => count += written,
                    Err(_) => break,
                }
            }
            sent.lock().unwrap().send(count).unwrap();
            false
        },
    );
    let mut stream = connect(network.plain());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
    // The homeserver is held back by the client, and freed when the client is given up.
    let count = seen.recv_timeout(crate::support::PATIENCE).unwrap();
    assert!(count < 100_000_000, "{count}");
}

#[test]
fn requests_in_flight_are_bounded() {
    for (change, status) in [
        ((|limits| limits.requests = 2) as fn(&mut care_federation::proxy::settings::Limits), 503),
        (|limits| limits.requests_per_address = 2, 429),
    ] {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let network = Network::with(
            |settings| change(&mut settings.limits),
            move |received, stream| {
                if received.line().contains("wait") {
                    let _ = wait.lock().unwrap().recv();
                }
                ok(stream)
            },
        );
        let mut waiting = [connect(network.plain()), connect(network.plain())];
        for stream in &mut waiting {
            stream.write_all(b"GET /wait HTTP/1.1\r\nHost: vvt\r\n\r\n").unwrap();
        }
        wait_for("both requests", || network.vvt.received().len() == 2);
        let mut stream = connect(network.plain());
        let response = ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
        assert_eq!(told(&response), (status, "M_LIMIT_EXCEEDED".to_owned()));
        assert_eq!(response.fields("retry-after"), ["1"]);
        drop(release);
        for stream in &mut waiting {
            assert_eq!(read_response(stream, false).status, 200);
        }
        // The place is given back, and the refused connection goes on.
        wait_for("a free place", || ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status == 200);
    }
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    for (all, by_address, status) in [(3, 100, 503), (100, 3, 429)] {
        let network = Network::with(
            |settings| {
                settings.limits.connections = all;
                settings.limits.connections_per_address = by_address;
            },
            |_, stream| ok(stream),
        );
        let mut kept: Vec<_> = (0..3).map(|_| connect(network.plain())).collect();
        for stream in &mut kept {
            assert_eq!(ask(stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
        }
        let refused = read_response(&mut connect(network.plain()), false);
        assert_eq!(told(&refused), (status, "M_LIMIT_EXCEEDED".to_owned()));
        assert_eq!(connect(network.tls()).read(&mut [0]).unwrap_or(0), 0);
        kept.pop();
        wait_for("a free place", || {
            let mut stream = connect(network.plain());
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
            read_rest_start(&mut stream).starts_with("HTTP/1.1 200")
        });
    }
}

fn read_rest_start(stream: &mut std::net::TcpStream) -> String {
    let mut start = [0; 12];
    let _ = stream.read_exact(&mut start);
    String::from_utf8_lossy(&start).into_owned()
}

#[test]
fn a_flood_of_connections_leaves_the_proxy_serving() {
    let network = Network::with(|settings| settings.limits.connections = 50, |_, stream| ok(stream));
    for _ in 0..4 {
        let flood: Vec<_> = (0..200).map(|_| connect(network.plain())).collect();
        drop(flood);
    }
    wait_for("an answer", || {
        let mut stream = connect(network.plain());
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
        read_rest_start(&mut stream).starts_with("HTTP/1.1 200")
    });
}

#[test]
fn an_answer_to_an_unread_body_reaches_the_client() {
    let network = Network::new();
    let mut stream = connect(network.plain());
    let body = vec![b'x'; 200_000];
    let head = format!("PUT /_synapse/admin/x HTTP/1.1\r\nHost: vvt\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || drop(writer.write_all(&body)));
    assert_eq!(told(&read_response(&mut stream, false)), (403, "M_FORBIDDEN".to_owned()));
    sender.join().unwrap();
}
