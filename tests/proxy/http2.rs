//! HTTP/2 clients.

use std::{
    io::{ErrorKind, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Response};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;

use crate::support::{Network, PATIENCE, Received, reply, wait_for};

/// A client's connection, driven by a runtime of its own.
struct Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Client {
    fn new(network: &Network, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self::with(network, name, runtime, &h2::client::Builder::new())
    }

    fn with(network: &Network, name: &str, runtime: Runtime, builder: &h2::client::Builder) -> Self {
        let config = network.authority.client(&[b"h2"]);
        let (address, name) = (network.tls(), ServerName::try_from(name.to_owned()).unwrap());
        let send = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, socket).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (send, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            send
        });
        Self { runtime, send }
    }

    fn ask(&self, request: Request<()>, body: &[Bytes], trailers: Option<HeaderMap>) -> Result<Answer, h2::Error> {
        self.runtime.block_on(async {
            let mut send = self.send.clone().ready().await?;
            let (response, mut out) = send.send_request(request, body.is_empty() && trailers.is_none())?;
            for (index, piece) in body.iter().enumerate() {
                // A server may answer and end the stream before it has the whole body.
                if out.send_data(piece.clone(), index + 1 == body.len() && trailers.is_none()).is_err() {
                    break;
                }
            }
            if let Some(trailers) = trailers {
                out.send_trailers(trailers)?;
            }
            read(response.await?).await
        })
    }

    /// Asks, and waits for no more than the head of the response.
    fn begin(&self, address: &str) -> Response<RecvStream> {
        self.runtime.block_on(async {
            let request = Request::get(address).body(()).unwrap();
            let (response, _) = self.send.clone().ready().await.unwrap().send_request(request, true).unwrap();
            response.await.unwrap()
        })
    }

    fn get(&self, address: &str) -> Answer {
        self.ask(Request::get(address).body(()).unwrap(), &[], None).unwrap()
    }
}

async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = incoming.trailers().await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

fn echo(received: &Received, stream: &mut TcpStream) -> bool {
    let head = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
                        X-Other: 2\r\n\r\n{:x}\r\n",
        received.body.len().max(1)
    );
    let body = if received.body.is_empty() { b"-" } else { received.body.as_slice() };
    reply(stream, &[head.as_bytes(), body, b"\r\n0\r\nx-sum: 7\r\n\r\n"].concat())
}

#[test]
fn requests_share_a_connection_and_reach_the_homeserver_as_http_1() {
    let network = Network::with(|_| {}, echo);
    let client = Client::new(&network, "vvt");
    for path in ["/_matrix/%21a%2Fb?c=%zz", "//x", "/"] {
        let answer = client.get(&format!("https://vvt:8448{path}"));
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"-"[..]));
        assert_eq!(network.vvt.last().line(), format!("GET {path} HTTP/1.1"));
        assert!(answer.headers.get("x-mine").is_none() && answer.headers.get("x-other").is_some());
        assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
    }
    let received = network.vvt.last();
    assert_eq!(received.fields("host"), ["vvt:8448"]);
    assert_eq!(
        (received.fields("x-forwarded-proto"), received.fields("x-forwarded-for")),
        (vec!["https"], vec!["127.0.0.1"])
    );
}

#[test]
fn bodies_pass_with_their_length_or_in_chunks_with_trailers() {
    let network = Network::with(|_| {}, echo);
    let client = Client::new(&network, "vvt");
    let pieces: Vec<_> = (0..40_u8).map(|piece| Bytes::from(vec![piece; 10_000])).collect();
    let put = |length: Option<usize>| {
        let mut request = Request::builder().method(Method::PUT).uri("https://vvt/").body(()).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        request
    };
    let answer = client.ask(put(Some(400_000)), &pieces, None).unwrap();
    assert!(answer.body == pieces.concat());
    assert_eq!(network.vvt.last().fields("content-length"), ["400000"]);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "1".parse().unwrap());
    trailers.insert("authorization", "evil".parse().unwrap());
    client.ask(put(None), &pieces, Some(trailers)).unwrap();
    let received = network.vvt.last();
    assert_eq!(received.fields("transfer-encoding"), ["chunked"]);
    assert!(received.body == [pieces.concat(), b"x-end: 1".to_vec()].concat());
    client.ask(put(None), &[Bytes::new()], None).unwrap();
}

#[test]
fn a_split_cookie_is_put_together() {
    let network = Network::with(|_| {}, echo);
    let request = Request::get("https://vvt/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    Client::new(&network, "vvt").ask(request, &[], None).unwrap();
    assert_eq!(network.vvt.last().fields("cookie"), ["a=1; b=2"]);
}

#[test]
fn a_host_that_differs_is_refused() {
    let network = Network::with(|_| {}, echo);
    let client = Client::new(&network, "vvt");
    assert_eq!(client.get("https://huisarts/").status, 421);
    let ambiguous = Request::get("https://vvt/").header("host", "huisarts").body(()).unwrap();
    assert_eq!(client.ask(ambiguous, &[], None).unwrap().status, 400);
    assert_eq!(client.get("https://vvt/").status, 200);
}

#[test]
fn the_policy_and_discovery_hold_for_http_2_too() {
    let network = Network::with(|settings| settings.policy.members = Some(vec!["huisarts".to_owned()]), echo);
    let client = Client::new(&network, "vvt");
    assert_eq!(client.get("https://vvt/_matrix/federation/v1/event/x").status, 401);
    let signed = Request::get("https://vvt/_matrix/federation/v1/event/x")
        .header("authorization", "X-Matrix origin=huisarts,destination=vvt,key=k,sig=s");
    assert_eq!(client.ask(signed.body(()).unwrap(), &[], None).unwrap().status, 200);
    // The space would be gone on the way, and with it what made this another scheme.
    let padded = Request::get("https://vvt/_matrix/federation/v1/event/x")
        .header("authorization", "X-Matrix origin=huisarts,destination=vvt,key=k,sig=s")
        .header("authorization", " X-Matrix origin=rogue,destination=vvt,key=k,sig=s");
    assert_eq!(client.ask(padded.body(()).unwrap(), &[], None).unwrap().status, 400);
    assert_eq!(client.get("https://vvt/_synapse/admin/x").status, 403);
    assert_eq!(client.get("https://vvt/.well-known/matrix/server").body, br#"{"m.server":"vvt:8448"}"#);
}

#[test]
fn a_large_body_is_413_and_the_connection_goes_on() {
    let network = Network::with(|settings| settings.limits.body_bytes = 50_000, echo);
    let client = Client::new(&network, "vvt");
    let announced = Request::put("https://vvt/").header("content-length", "50001").body(()).unwrap();
    let answer = client.ask(announced, &[Bytes::from(vec![0; 50_001])], None).unwrap();
    assert_eq!(answer.status, 413);
    let streamed = Request::put("https://vvt/").body(()).unwrap();
    let answer = client.ask(streamed, &[Bytes::from(vec![0; 30_000]), Bytes::from(vec![0; 30_000])], None).unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(client.get("https://vvt/").status, 200);
}

#[test]
fn large_heads_are_431() {
    let network = Network::with(|settings| settings.limits.header_count = 10, echo);
    let client = Client::new(&network, "vvt");
    let mut many = Request::get("https://vvt/");
    for index in 0..11 {
        many = many.header(format!("x-{index}"), "y");
    }
    assert_eq!(client.ask(many.body(()).unwrap(), &[], None).unwrap().status, 431);
    let large = Request::get("https://vvt/").header("x", "y".repeat(40_000)).body(()).unwrap();
    assert_eq!(client.ask(large, &[], None).unwrap().status, 431);
}

#[test]
fn a_response_that_breaks_off_resets_the_stream() {
    let network = Network::with(
        |_| {},
        |_, stream| {
            reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            false
        },
    );
    let client = Client::new(&network, "vvt");
    let error = client.ask(Request::get("https://vvt/").body(()).unwrap(), &[], None).err().unwrap();
    assert!(error.is_reset(), "{error}");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let network = Network::with(|settings| settings.limits.streams_per_connection = 10, echo);
    let client = Client::new(&network, "vvt");
    // From its answer on, the client knows how many requests it may have open, and waits with the others.
    assert_eq!(client.get("https://vvt/").status, 200);
    let statuses = client.runtime.block_on(async {
        let asks = (0..100).map(|index| {
            let send = client.send.clone();
            tokio::spawn(async move {
                let request = Request::get(format!("https://vvt/{index}")).body(()).unwrap();
                let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
                response.await.unwrap().status().as_u16()
            })
        });
        futures_util::future::join_all(asks).await
    });
    assert!(statuses.into_iter().all(|status| status.unwrap() == 200));
    assert_eq!(network.vvt.received().len(), 101);
}

#[test]
fn an_idle_connection_is_told_to_go_away() {
    let network = Network::with(|settings| settings.limits.idle_time = "100ms".parse().unwrap(), echo);
    let client = Client::new(&network, "vvt");
    assert_eq!(client.get("https://vvt/").status, 200);
    wait_for("the connection's end", || client.runtime.block_on(async { client.send.clone().ready().await.is_err() }));
}

#[test]
fn open_requests_finish_when_the_proxy_stops() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let network = Network::with(
        |_| {},
        move |received, stream| {
            let _ = wait.lock().unwrap().recv();
            echo(received, stream)
        },
    );
    let client = Client::new(&network, "vvt");
    let asked = client.runtime.spawn({
        let send = client.send.clone();
        async move {
            let request = Request::get("https://vvt/").body(()).unwrap();
            let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
            read(response.await.unwrap()).await.unwrap()
        }
    });
    wait_for("the request", || !network.vvt.received().is_empty());
    let stopping = network.proxy.stopping();
    let stopper = std::thread::spawn(move || network.proxy.stop());
    wait_for("the stop", || stopping.is_cancelled());
    drop(release);
    let answer = client.runtime.block_on(asked).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"-"[..]));
    // Told to go away, the client has closed.
    stopper.join().unwrap();
}

#[test]
fn a_silent_client_does_not_hold_up_the_stop() {
    let network = Network::with(|settings| settings.limits.drain_time = "1h".parse().unwrap(), echo);
    // It acknowledges nothing while nobody waits: this runtime has no thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::with(&network, "vvt", runtime, &h2::client::Builder::new());
    assert_eq!(client.get("https://vvt/").status, 200);
    let stopper = std::thread::spawn(move || network.proxy.stop());
    wait_for("the stop", || stopper.is_finished());
}

/// More than all sockets on the way and all that the proxy may keep can hold.
const ENDLESS: usize = 64 * 1024 * 1024;

/// A homeserver that writes `/endless` until nobody takes it any more, notes how much that was, and ends the response.
fn endless(noted: &Arc<Mutex<Option<usize>>>) -> impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static {
    let noted = Arc::clone(noted);
    move |received, stream| {
        if !received.line().starts_with("GET /endless ") {
            return echo(received, stream);
        }
        reply(stream, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let (piece, mut written) = ([b'x'; 16 * 1024], 0);
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        while written < ENDLESS {
            match stream.write(&piece) {
                Ok(count) => written += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(_) => return false,
            }
        }
        *noted.lock().unwrap() = Some(written);
        false
    }
}

fn patient(window: u32) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(i32::MAX as u32);
    builder
}

#[test]
fn a_response_that_is_not_read_holds_up_its_homeserver_and_no_other_response() {
    let noted = Arc::default();
    let network = Network::with(|_| {}, endless(&noted));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = Client::with(&network, "vvt", runtime, &patient(64 * 1024));
    let unread = client.begin("https://vvt/endless");
    wait_for("the homeserver to be held up", || noted.lock().unwrap().is_some());
    let written = noted.lock().unwrap().unwrap();
    assert!(written < ENDLESS, "{written} bytes");
    for _ in 0..10 {
        assert_eq!(client.get("https://vvt/").body, b"-");
    }
    let answer = client.runtime.block_on(read(unread)).unwrap();
    assert_eq!(answer.body.len(), written);
}

#[test]
fn a_connection_that_is_not_read_holds_up_its_homeserver() {
    let noted = Arc::default();
    let network = Network::with(|_| {}, endless(&noted));
    // Nothing is read while nobody waits: this runtime has no thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::with(&network, "vvt", runtime, &patient(i32::MAX as u32));
    let unread = client.begin("https://vvt/endless");
    wait_for("the homeserver to be held up", || noted.lock().unwrap().is_some());
    let written = noted.lock().unwrap().unwrap();
    assert!(written < ENDLESS, "{written} bytes");
    let answer = client.runtime.block_on(read(unread)).unwrap();
    assert_eq!(answer.body.len(), written);
    assert_eq!(client.get("https://vvt/").body, b"-");
}

#[test]
fn a_piece_of_a_response_arrives_before_there_is_more() {
    let (arrived, awaited) = mpsc::channel::<()>();
    let awaited = Mutex::new(awaited);
    let network = Network::with(
        |_| {},
        move |_, stream| {
            reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
            for piece in [b"a", b"b", b"c"] {
                reply(stream, piece);
                if awaited.lock().unwrap().recv_timeout(PATIENCE).is_err() {
                    return false;
                }
            }
            true
        },
    );
    let client = Client::new(&network, "vvt");
    let mut body = client.begin("https://vvt/").into_body();
    for piece in [b"a", b"b", b"c"] {
        let data = client.runtime.block_on(body.data()).unwrap().unwrap();
        assert_eq!(data.as_ref(), piece);
        arrived.send(()).unwrap();
    }
}
