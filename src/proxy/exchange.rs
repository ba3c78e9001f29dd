//! One request and its response, between a client of either protocol and a homeserver.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::{io::AsyncWrite as _, time::Instant};

use super::{
    answer::Answer,
    forward::{Forward, too_large},
    http1::{
        body::{Decoder, Length},
        head::{Field, ResponseHead, read_response},
    },
    io::Timer,
    metrics::UpstreamError,
    upstream::Connection,
    worker::Worker,
};

/// The client's side of one request.
pub(crate) trait Client {
    /// Appends what there is of the request's body; gives whether the body has ended. Nothing is appended at the end
    /// alone.
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<bool, Lost>>;

    /// The fields of the request's trailer section, on the wire, without the empty line; known at the body's end.
    fn trailers(&mut self) -> Vec<u8>;

    /// Ready when the client has gone away while it waits.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes a head that comes before that of the response (1xx).
    fn interim(&mut self, head: &ResponseHead<'_>);

    /// Takes the head of the response.
    fn head(&mut self, head: &ResponseHead<'_>, to_head: bool) -> Result<(), Lost>;

    /// Takes a piece of the response's body. What was taken is written by [`Client::poll_flush`].
    fn data(&mut self, data: &[u8]);

    /// Takes the end of the response, with its trailer section as it came.
    fn end(&mut self, trailers: &[u8]);

    /// Writes what was taken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>>;
}

/// The client cannot be reached any more, or said what is no HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It closed the connection or the stream.
    Gone,
    /// Its body was malformed.
    Malformed(&'static str),
}

/// How an exchange ended.
pub(crate) enum Outcome {
    /// The response was passed on in full.
    Done(StatusCode),
    /// The homeserver changed to another protocol; its connection comes with it.
    Upgraded(Connection),
    /// Nothing was passed on: this is the answer.
    Answer(Answer),
    /// The response broke off, or the client went away, after this status.
    Cut(Option<StatusCode>),
}

/// What is on its way to the homeserver.
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    body: Length,
    /// Whether all of the body is in `bytes`.
    ended: bool,
    /// Bytes of the body that were taken from the client.
    passed: u64,
    most: u64,
    /// Whether all that was sent is still in `bytes`.
    repeatable: bool,
    /// Whether nothing goes out any more, because the homeserver takes no more.
    stopped: bool,
}

/// What can go wrong with a homeserver.
enum Broken {
    /// It closed or reset the connection before a response.
    Closed,
    /// It did not answer in time.
    Slow,
    /// It said something else than HTTP.
    Malformed(&'static str),
    /// The client went away, or its body is malformed, too large or too slow.
    Client(Option<Answer>),
}

/// What stays in memory of a body, so that a request can be sent again.
const REPEATABLE: usize = 32 * 1024;

/// What a chunk's size line takes before its data: eight digits and a line end.
const CHUNK_HEAD: usize = 10;

/// What may be waiting for a client before more is read from the homeserver.
const ENOUGH: usize = 64 * 1024;

/// Carries a request to its homeserver and the response back.
pub(crate) async fn exchange<C: Client>(
    worker: &Worker,
    mut forward: Forward,
    client: &mut C,
    timer: &mut Timer,
) -> Outcome {
    let mut outgoing = Outgoing::new(&mut forward, worker.shared.settings.limits.body_bytes);
    let pool = worker.pool(forward.server);
    let mut kept = pool.take(!forward.idempotent || forward.body != Length::None);
    loop {
        let reused = kept.is_some();
        let mut upstream = match kept.take() {
            Some(connection) => connection,
            None => match pool.connect().await {
                Ok(connection) => connection,
                Err(error) => return Outcome::Answer(unreachable(worker, forward.server, &error)),
            },
        };
        match send(worker, &forward, &mut outgoing, &mut upstream, client, timer).await {
            Ok(head) => return relay(worker, &forward, outgoing, upstream, head, client, timer).await,
            // A connection that was kept may have been closed by the homeserver in the very moment of its use.
            Err(Broken::Closed) if reused && forward.idempotent && outgoing.rewind() => {}
            Err(broken) => return broken.outcome(worker, forward.server),
        }
    }
}

/// What the relay needs to know of a response's head.
struct Started {
    status: StatusCode,
    body: Length,
    keep_alive: bool,
}

/// Sends the request until the head of the response is there and handed to the client.
async fn send<C: Client>(
    worker: &Worker,
    forward: &Forward,
    outgoing: &mut Outgoing,
    upstream: &mut Connection,
    client: &mut C,
    timer: &mut Timer,
) -> Result<Started, Broken> {
    let limits = &worker.shared.settings.limits;
    let (idle, patience, most) = (limits.idle_time.get(), limits.request_time.get(), limits.header_bytes);
    let mut progress = outgoing.progress();
    let mut began = Instant::now();
    poll_fn(|cx| {
        if let Poll::Ready(Err(answer)) = outgoing.poll(cx, upstream, client) {
            return Poll::Ready(Err(Broken::Client(answer)));
        }
        if outgoing.progress() != progress {
            progress = outgoing.progress();
            began = Instant::now();
        }
        loop {
            match upstream.buffer.poll_fill(cx, &mut upstream.socket, most) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Closed)),
                Poll::Pending => break,
            }
            match take_head(forward, upstream, client, most)? {
                Some(started) => return Poll::Ready(Ok(started)),
                None => continue,
            }
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Broken::Client(None)));
        }
        let waits_for_client = outgoing.waits_for_client();
        timer.set(began + if waits_for_client { idle } else { patience });
        ready!(timer.poll_elapsed(cx));
        let slow = if waits_for_client { Broken::Client(Some(slow_body())) } else { Broken::Slow };
        Poll::Ready(Err(slow))
    })
    .await
}

/// Takes heads from what the homeserver said, until that of the response.
fn take_head<C: Client>(
    forward: &Forward,
    upstream: &mut Connection,
    client: &mut C,
    most: usize,
) -> Result<Option<Started>, Broken> {
    while !upstream.buffer.is_empty() {
        let taken = read_response(upstream.buffer.filled(), most, forward.to_head, |head| {
            let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
            if upgraded && !forward.upgrade {
                return Err(Broken::Malformed("it changed the protocol unasked"));
            }
            if head.status.is_informational() && !upgraded {
                // The proxy asks for 100 itself, for clients that wait for it; others are for the client.
                if head.status != StatusCode::CONTINUE {
                    client.interim(head);
                }
                return Ok(None);
            }
            client.head(head, forward.to_head).map_err(|_| Broken::Client(None))?;
            Ok(Some(Started { status: head.status, body: head.body, keep_alive: head.keep_alive }))
        });
        let Some((size, started)) = taken.map_err(Broken::Malformed)? else { return Ok(None) };
        let started = started?;
        upstream.buffer.consume(size);
        if started.is_some() {
            return Ok(started);
        }
    }
    Ok(None)
}

/// Passes the response's body on, while what is left of the request's still goes out.
async fn relay<C: Client>(
    worker: &Worker,
    forward: &Forward,
    mut outgoing: Outgoing,
    mut upstream: Connection,
    head: Started,
    client: &mut C,
    timer: &mut Timer,
) -> Outcome {
    let limits = &worker.shared.settings.limits;
    let (idle, most) = (limits.idle_time.get(), limits.header_bytes);
    let status = head.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return match poll_fn(|cx| client.poll_flush(cx)).await {
            Ok(()) => Outcome::Upgraded(upstream),
            Err(_) => Outcome::Cut(Some(status)),
        };
    }
    let mut decoder = Decoder::new(head.body, most);
    loop {
        let mut taken = 0;
        loop {
            let Ok(step) = decoder.step(upstream.buffer.filled()) else {
                worker.shared.metrics.upstream_failed(forward.server, UpstreamError::Malformed);
                return Outcome::Cut(Some(status));
            };
            let end = step.skip + step.data;
            client.data(upstream.buffer.filled().get(step.skip..end).unwrap_or_default());
            upstream.buffer.consume(end);
            taken += step.data;
            if step.data == 0 || taken >= ENOUGH {
                break;
            }
        }
        if decoder.is_done() {
            break;
        }
        timer.set_in(idle);
        let filled = poll_fn(|cx| {
            let _ = outgoing.poll(cx, &mut upstream, client);
            match client.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Filled::ClientGone),
                Poll::Pending => return timer.poll_elapsed(cx).map(|()| Filled::ClientGone),
            }
            match upstream.buffer.poll_fill(cx, &mut upstream.socket, super::http1::buffer::SIZE) {
                Poll::Ready(Ok(0)) if !decoder.ends_with_connection() => Poll::Ready(Filled::Broken),
                Poll::Ready(Ok(0)) => Poll::Ready(Filled::End),
                Poll::Ready(Ok(_)) => Poll::Ready(Filled::Some),
                Poll::Ready(Err(_)) => Poll::Ready(Filled::Broken),
                Poll::Pending if client.poll_gone(cx).is_ready() => Poll::Ready(Filled::ClientGone),
                Poll::Pending => timer.poll_elapsed(cx).map(|()| Filled::Broken),
            }
        })
        .await;
        match filled {
            Filled::Some => {}
            Filled::End => break,
            Filled::ClientGone => return Outcome::Cut(Some(status)),
            Filled::Broken => {
                worker.shared.metrics.upstream_failed(forward.server, UpstreamError::Closed);
                return Outcome::Cut(Some(status));
            }
        }
    }
    if head.keep_alive && outgoing.is_done() && decoder.is_done() {
        worker.pool(forward.server).put(upstream);
    }
    client.end(decoder.trailers());
    match flush(client, timer, idle).await {
        Ok(()) => Outcome::Done(status),
        Err(_) => Outcome::Cut(Some(status)),
    }
}

/// What came of waiting for more of a response.
enum Filled {
    Some,
    End,
    Broken,
    ClientGone,
}

/// Writes what the client has not yet got, as long as it takes something within a time.
pub(crate) async fn flush<C: Client>(client: &mut C, timer: &mut Timer, idle: std::time::Duration) -> Result<(), Lost> {
    let mut waiting = false;
    poll_fn(|cx| match client.poll_flush(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => {
            if !waiting {
                waiting = true;
                timer.set_in(idle);
            }
            timer.poll_elapsed(cx).map(|()| Err(Lost::Gone))
        }
    })
    .await
}

/// Gives an answer of the proxy itself to the client.
///
/// # Errors
/// When the client does not take it.
pub(crate) async fn answer<C: Client>(
    client: &mut C,
    answer: &Answer,
    to_head: bool,
    timer: &mut Timer,
    idle: std::time::Duration,
) -> Result<(), Lost> {
    let length = answer.body.len().to_string();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut fields = vec![Field { name: "date", value: date.as_bytes() }];
    if answer.status != StatusCode::NO_CONTENT {
        fields.push(Field { name: "content-length", value: length.as_bytes() });
    }
    fields.extend(answer.fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }));
    let bodiless = to_head || answer.body.is_empty();
    let body = if bodiless { Length::None } else { Length::Known(answer.body.len() as u64) };
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let head = ResponseHead { status: answer.status, reason, fields: &fields, body, keep_alive: true };
    client.head(&head, to_head)?;
    if !bodiless {
        client.data(&answer.body);
    }
    client.end(&[]);
    flush(client, timer, idle).await
}

// === impl Outgoing ===

impl Outgoing {
    fn new(forward: &mut Forward, most: u64) -> Self {
        Self {
            bytes: std::mem::take(&mut forward.head),
            sent: 0,
            body: forward.body,
            ended: forward.body == Length::None,
            passed: 0,
            most,
            repeatable: true,
            stopped: false,
        }
    }

    /// Sends what can be sent. Ready when all is sent, or an answer says why not.
    fn poll<C: Client>(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Connection,
        client: &mut C,
    ) -> Poll<Result<(), Option<Answer>>> {
        loop {
            if self.stopped {
                return Poll::Pending;
            }
            // Head and body go out together where the body is there already.
            let early = self.sent == 0 && self.passed == 0;
            if !self.ended && (early || self.sent == self.bytes.len()) {
                match self.poll_take(cx, client) {
                    Poll::Pending if self.sent < self.bytes.len() => {}
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(result) => result?,
                }
            }
            if self.sent == self.bytes.len() {
                if self.ended {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let rest = self.bytes.get(self.sent..).unwrap_or_default();
            match ready!(Pin::new(&mut upstream.socket).poll_write(cx, rest)) {
                Ok(count) if count > 0 => self.sent += count,
                // It takes no more; what it has said already may still be its response.
                _ => self.stopped = true,
            }
        }
    }

    /// Takes a piece of the body from the client.
    fn poll_take<C: Client>(&mut self, cx: &mut Context<'_>, client: &mut C) -> Poll<Result<(), Option<Answer>>> {
        if self.sent == self.bytes.len() && self.bytes.len() >= REPEATABLE {
            self.bytes.clear();
            self.sent = 0;
            self.repeatable = false;
        }
        let start = self.bytes.len();
        let chunked = self.body == Length::Chunked;
        if chunked {
            self.bytes.extend_from_slice(&[b'0'; CHUNK_HEAD]);
        }
        let data = self.bytes.len();
        let polled = client.poll_body(cx, &mut self.bytes);
        let count = self.bytes.len() - data;
        if count == 0 {
            self.bytes.truncate(start);
        } else if chunked {
            let size = format!("{count:08x}\r\n");
            if let Some(place) = self.bytes.get_mut(start..data) {
                place.copy_from_slice(size.as_bytes());
            }
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.passed += count as u64;
        let ended = ready!(polled).map_err(|lost| lost.answer())?;
        if self.passed > self.most {
            return Poll::Ready(Err(Some(too_large(self.most))));
        }
        if ended {
            self.ended = true;
            if chunked {
                self.bytes.extend_from_slice(b"0\r\n");
                let trailers = client.trailers();
                self.bytes.extend_from_slice(&trailers);
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A number that changes whenever something was sent or taken.
    fn progress(&self) -> (u64, usize, bool) {
        (self.passed, self.sent, self.ended)
    }

    fn waits_for_client(&self) -> bool {
        !self.ended && !self.stopped && self.sent == self.bytes.len()
    }

    fn is_done(&self) -> bool {
        self.ended && self.sent == self.bytes.len()
    }

    /// Makes the request ready to be sent once more; false when part of it is gone.
    fn rewind(&mut self) -> bool {
        (self.sent, self.stopped) = (0, false);
        self.repeatable
    }
}

// === impl Broken ===

impl Broken {
    fn outcome(self, worker: &Worker, server: usize) -> Outcome {
        let name = worker.shared.router.servers().get(server).map_or("", |server| server.name.as_str());
        let metrics = &worker.shared.metrics;
        let (status, reason) = match self {
            Self::Client(Some(answer)) => return Outcome::Answer(answer),
            Self::Client(None) => return Outcome::Cut(None),
            Self::Closed => {
                metrics.upstream_failed(server, UpstreamError::Closed);
                (StatusCode::BAD_GATEWAY, format!("the homeserver of {name} broke off the connection"))
            }
            Self::Malformed(what) => {
                metrics.upstream_failed(server, UpstreamError::Malformed);
                tracing::warn!(server = name, what, "a homeserver answered wrongly");
                (StatusCode::BAD_GATEWAY, format!("the homeserver of {name} answered wrongly: {what}"))
            }
            Self::Slow => {
                metrics.upstream_failed(server, UpstreamError::Slow);
                (StatusCode::GATEWAY_TIMEOUT, format!("the homeserver of {name} did not answer in time"))
            }
        };
        Outcome::Answer(Answer::error(status, &reason))
    }
}

/// 502 or 504 for a homeserver that cannot be connected to.
fn unreachable(worker: &Worker, server: usize, error: &io::Error) -> Answer {
    let name = worker.shared.router.servers().get(server).map_or("", |server| server.name.as_str());
    worker.shared.metrics.upstream_failed(server, UpstreamError::Connect);
    tracing::warn!(server = name, %error, "a homeserver cannot be reached");
    let status =
        if error.kind() == io::ErrorKind::TimedOut { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
    Answer::error(status, &format!("the homeserver of {name} cannot be reached")).with("retry-after", "5")
}

fn slow_body() -> Answer {
    Answer::error(StatusCode::REQUEST_TIMEOUT, "the body of the request did not arrive in time")
}

// === impl Lost ===

impl Lost {
    /// The answer, where the client is still there to read it.
    fn answer(self) -> Option<Answer> {
        match self {
            Self::Gone => None,
            Self::Malformed(reason) => Some(Answer::error(StatusCode::BAD_REQUEST, reason)),
        }
    }
}
