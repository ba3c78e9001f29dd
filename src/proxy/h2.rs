//! A client's HTTP/2 connection: one task for the connection, one for each request.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response, StatusCode, header};
use tokio::{task::spawn_local, time::Instant};

use super::{
    answer::Answer,
    cork::Corked,
    exchange::{self, Client, Lost, Outcome},
    forward::{Caller, Prepared},
    http1::{
        body::{Length, trailer_fields},
        head::{Field, RequestHead, ResponseHead, connection_names_fields, is_hop_by_hop},
    },
    io::{Stream, Timer},
    repeated,
    settings::MOST_HEADERS,
    worker::{Presence, Worker},
};

/// What a client may send of one body before it is passed on.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What a client may send of all bodies before it is passed on: this bounds the memory of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long a connection that is told to go away may take.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, caller: Caller, presence: Presence) {
    let limits = &worker.shared.settings.limits;
    let mut timer = Timer::new(Instant::now() + limits.header_time.get());
    let corked = Corked::new(stream);
    let mut handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(64 * 1024)
        .handshake::<_, Bytes>(corked.share());
    let begun = poll_fn(|cx| match std::pin::Pin::new(&mut handshake).poll(cx) {
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
        Poll::Pending => match corked.poll_release(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => timer.poll_elapsed(cx).map(|()| None),
        },
    });
    let Some(mut connection) = begun.await else { return };
    let (caller, open) = (Rc::new(caller), Rc::new(Cell::new(0_usize)));
    let idle = limits.idle_time.get();
    let (mut told, mut idle_since) = (false, Instant::now());
    timer.set(idle_since + idle);
    poll_fn(|cx| {
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let counted = Counted::new(&open);
                    let (worker, caller) = (Rc::clone(&worker), Rc::clone(&caller));
                    // In a box of its own: the runtime moves what it spawns several times.
                    spawn_local(Box::pin(serve_request(worker, caller, request, respond, counted)));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if presence.is_stopping() && !told => {
                    told = true;
                    connection.graceful_shutdown();
                    timer.set_in(LINGER);
                }
                Poll::Pending => break,
            }
        }
        // What the system does not take yet, a later turn writes: the task is woken for it.
        if matches!(corked.poll_release(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        if open.get() > 0 {
            idle_since = Instant::now();
        }
        while timer.poll_elapsed(cx).is_ready() {
            let now = Instant::now();
            let patience = if told { LINGER } else { idle };
            if idle_since + patience > now {
                timer.set(idle_since + patience);
            } else if told {
                return Poll::Ready(());
            } else {
                told = true;
                connection.graceful_shutdown();
                timer.set(now + LINGER);
                // The connection writes what it has to say when it is asked for requests.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await;
}

/// One of the open requests of a connection.
struct Counted(Rc<Cell<usize>>);

// === impl Counted ===

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

async fn serve_request(
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    _counted: Counted,
) {
    let idle = worker.shared.settings.limits.idle_time.get();
    let mut timer = Timer::new(Instant::now() + idle);
    let (prepared, continues) = prepare(&worker, &caller, &request);
    let mut client = StreamClient {
        worker: &worker,
        body: request.into_body(),
        continues,
        respond,
        send: None,
        queue: BytesMut::new(),
        trailers: None,
        ended: false,
        finished: false,
    };
    let Prepared { record, decision } = prepared;
    let outcome = match decision {
        Ok(forward) => exchange::exchange(&worker, forward, &mut client, &mut timer).await,
        Err(answer) => Outcome::Answer(answer),
    };
    let status = match outcome {
        Outcome::Done(status) => Some(status),
        // Upgrades are of HTTP/1.1; none is ever asked for here.
        Outcome::Upgraded(_) => None,
        Outcome::Cut(status) => {
            client.reset(Reason::INTERNAL_ERROR);
            status
        }
        Outcome::Answer(mut answer) => {
            answer.fields.push(("x-request-id", worker.request_id(record.id).into()));
            let _ = exchange::answer(&mut client, &answer, record.to_head, &mut timer, idle).await;
            Some(answer.status)
        }
    };
    worker.finish(&record, status);
}

/// Judges a request; gives also whether its client waits for `100 Continue`.
fn prepare(worker: &Worker, caller: &Caller, request: &Request<RecvStream>) -> (Prepared, bool) {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    // Two hosts that differ are one of those messages that two programs read differently (RFC 9113 section 8.3.1).
    let ambiguous = matches!((authority, host), (Some(authority), Some(host)) if authority != host);
    let fields: Vec<Field<'_>> = headers
        .iter()
        .take(MOST_HEADERS)
        .map(|(name, value)| Field { name: name.as_str(), value: value.as_bytes() })
        .collect();
    let head = RequestHead {
        method: request.method().as_str(),
        target: request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        authority: authority.or(host).unwrap_or_default(),
        fields: &fields,
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let takes_body = matches!(head.method, "POST" | "PUT" | "PATCH");
    let body = match (request.body().is_end_stream(), length) {
        (true, _) if takes_body => Length::Known(0),
        (true, _) => Length::None,
        (false, Some(bytes)) => Length::Known(bytes),
        (false, None) => Length::Chunked,
    };
    let mut prepared = Prepared::new(worker, caller, &head, body, "HTTP/2");
    if headers.values().any(|value| is_padded(value.as_bytes())) {
        let reason = "a header field begins or ends with white space";
        prepared.decision = Err(Answer::error(StatusCode::BAD_REQUEST, reason));
    } else if ambiguous || head.authority.contains('@') {
        prepared.decision = Err(Answer::error(StatusCode::BAD_REQUEST, "the request names its host ambiguously"));
    } else if headers.len() > worker.shared.settings.limits.header_count.min(MOST_HEADERS) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        prepared.decision = Err(Answer::error(status, "there are too many header fields"));
    }
    let expects =
        headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    (prepared, expects)
}

/// Whether a value begins or ends with white space, which makes a request malformed (RFC 9113 section 8.2.1): in
/// HTTP/1.1 it would be lost, and the homeserver read another value than was judged here.
fn is_padded(value: &[u8]) -> bool {
    let white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    white(value.first()) || white(value.last())
}

/// The client's side of one HTTP/2 stream.
struct StreamClient<'a> {
    worker: &'a Worker,
    body: RecvStream,
    continues: bool,
    respond: SendResponse<Bytes>,
    /// There once the head of the response is sent, unless it was all.
    send: Option<SendStream<Bytes>>,
    queue: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    finished: bool,
}

// === impl StreamClient ===

impl StreamClient<'_> {
    fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

impl Client for StreamClient<'_> {
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<bool, Lost>> {
        if self.body.is_end_stream() {
            return Poll::Ready(Ok(true));
        }
        if self.continues {
            self.continues = false;
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            let _ = self.respond.send_informational(response);
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                into.extend_from_slice(&data);
                let _ = self.body.flow_control().release_capacity(data.len());
                Poll::Ready(Ok(self.body.is_end_stream()))
            }
            Some(Err(_)) => Poll::Ready(Err(Lost::Gone)),
            None => match ready!(self.body.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.trailers = trailers;
                    Poll::Ready(Ok(true))
                }
                Err(_) => Poll::Ready(Err(Lost::Gone)),
            },
        }
    }

    fn trailers(&mut self) -> Vec<u8> {
        let mut section = Vec::new();
        for (name, value) in self.trailers.take().iter().flatten() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                section.extend_from_slice(part);
            }
        }
        // The same rules as for trailers that came over HTTP/1.1.
        section.extend_from_slice(b"\r\n");
        let mut room = [httparse::EMPTY_HEADER; 32];
        let mut kept = Vec::new();
        for field in trailer_fields(&section, &mut room) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                kept.extend_from_slice(part);
            }
        }
        kept
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }

    fn interim(&mut self, head: &ResponseHead<'_>) {
        let _ = self.respond.send_informational(response(self.worker, head));
    }

    fn head(&mut self, head: &ResponseHead<'_>, _to_head: bool) -> Result<(), Lost> {
        let whole = head.body == Length::None;
        let send = self.respond.send_response(response(self.worker, head), whole).map_err(|_| Lost::Gone)?;
        self.finished = whole;
        self.send = (!whole).then_some(send);
        Ok(())
    }

    fn data(&mut self, data: &[u8]) {
        self.queue.extend_from_slice(data);
    }

    fn end(&mut self, trailers: &[u8]) {
        self.ended = true;
        if !trailers.is_empty() {
            let mut room = [httparse::EMPTY_HEADER; 32];
            let fields: HeaderMap = trailer_fields(trailers, &mut room).filter_map(repeated::read).collect();
            self.trailers = (!fields.is_empty()).then_some(fields);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let Some(send) = self.send.as_mut().filter(|_| !self.finished) else { return Poll::Ready(Ok(())) };
        loop {
            if self.queue.is_empty() {
                if self.ended {
                    self.finished = true;
                    let sent = match self.trailers.take() {
                        Some(trailers) => send.send_trailers(trailers),
                        None => send.send_data(Bytes::new(), true),
                    };
                    sent.map_err(|_| Lost::Gone)?;
                }
                return Poll::Ready(Ok(()));
            }
            send.reserve_capacity(self.queue.len());
            let room = send.capacity().min(self.queue.len());
            if room == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    _ => return Poll::Ready(Err(Lost::Gone)),
                }
            }
            let piece = self.queue.split_to(room).freeze();
            let last = self.queue.is_empty() && self.ended && self.trailers.is_none();
            send.send_data(piece, last).map_err(|_| Lost::Gone)?;
            if last {
                self.finished = true;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn response(worker: &Worker, head: &ResponseHead<'_>) -> Response<()> {
    let mut repeated = worker.repeated.borrow_mut();
    let connection = connection_names_fields(head.fields);
    let mut headers = HeaderMap::with_capacity(head.fields.len());
    for field in head.fields.iter().filter(|field| !is_hop_by_hop(field, head.fields, connection)) {
        if let Some((name, value)) = repeated.field(headers.len(), field) {
            headers.append(name, value);
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_in_flight_is_small() {
        let bytes = size(serve_request);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
