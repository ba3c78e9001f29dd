//! A client's HTTP/1.1 connection: one task reads a request, carries it, and reads the next.

use std::{
    future::poll_fn,
    io::Write as _,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::Instant,
};

use super::{
    answer::Answer,
    exchange::{self, Client, Lost, Outcome},
    forward::{Caller, Prepared},
    http1::{
        body::{Decoder, Length, trailer_fields},
        buffer::{Buffer, SIZE, keep_output, spare_output},
        head::{
            Bounds, Field, Framing, Refusal, ResponseHead, connection_names_fields, is_hop_by_hop, named, read_request,
        },
    },
    io::{Stream, Timer},
    tunnel,
    worker::{Presence, Worker},
};

/// A connection and what it holds between two steps.
struct Connection {
    stream: Stream,
    read: Buffer,
    /// What is still to be written.
    out: Vec<u8>,
    written: usize,
    /// The body of the request that is being carried.
    body: Decoder,
    /// Whether the client waits for `100 Continue`.
    continues: bool,
    old: bool,
    keep_alive: bool,
    /// Whether the response goes out in chunks.
    chunked: bool,
    /// Whether the client closed its side.
    closed: bool,
    bounds: Bounds,
}

/// What came of waiting for a request.
enum Arrived {
    Request(Box<Prepared>, Framing),
    Refused(Refusal),
    /// The client closed, or there is nothing more to wait for.
    Nothing,
}

/// What may be written on the way to a slow client before it must take some.
const KEPT: usize = SIZE;

/// What is read of a body that nobody wants, so that the client reads the answer and the connection can go on.
const DRAINED: usize = 256 * 1024;

/// How long a closing connection waits for the client to close too.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, caller: Caller, presence: Presence) {
    let limits = &worker.shared.settings.limits;
    let mut timer = Timer::new(Instant::now() + limits.header_time.get());
    let mut connection = Connection::new(stream, Bounds { bytes: limits.header_bytes, fields: limits.header_count });
    loop {
        match connection.next(&worker, &caller, &presence, &mut timer).await {
            Arrived::Nothing => break,
            Arrived::Refused(refusal) => {
                connection.keep_alive = false;
                let refused = Answer::error(refusal.status, refusal.reason);
                let _ = exchange::answer(&mut connection, &refused, false, &mut timer, limits.header_time.get()).await;
                worker.shared.metrics.request(None, refusal.status.as_u16(), std::time::Duration::ZERO);
                break;
            }
            Arrived::Request(prepared, framing) => {
                connection.begin(framing, limits.header_bytes);
                match connection.carry(&worker, *prepared, &mut timer).await {
                    Next::Request => {}
                    Next::Close => break,
                    Next::Cut => return,
                    Next::Tunnel(upstream) => {
                        let (stream, read) = connection.into_parts();
                        let upstream = (Stream::Plain(upstream.socket), upstream.buffer);
                        tunnel::copy((stream, read), upstream, limits.idle_time.get(), &mut timer, &presence).await;
                        return;
                    }
                }
            }
        }
    }
    connection.close(&mut timer).await;
}

/// What follows a request.
enum Next {
    Request,
    /// An orderly close.
    Close,
    /// Close at once: the client must see that the response is not whole.
    Cut,
    Tunnel(super::upstream::Connection),
}

// === impl Connection ===

impl Connection {
    fn new(stream: Stream, bounds: Bounds) -> Self {
        Self {
            stream,
            read: Buffer::default(),
            out: Vec::new(),
            written: 0,
            body: Decoder::new(Length::None, 0),
            continues: false,
            old: false,
            keep_alive: true,
            chunked: false,
            closed: false,
            bounds,
        }
    }

    fn into_parts(self) -> (Stream, Buffer) {
        (self.stream, self.read)
    }

    /// Waits for the next request.
    async fn next(&mut self, worker: &Worker, caller: &Caller, presence: &Presence, timer: &mut Timer) -> Arrived {
        let limits = &worker.shared.settings.limits;
        let mut partial = false;
        // A request may have come together with the one before it.
        let mut fresh = !self.read.is_empty();
        let mut told = false;
        let arrived = poll_fn(|cx| {
            loop {
                if fresh {
                    let read = read_request(self.read.filled(), self.bounds, |head, framing| {
                        let protocol = if framing.old { "HTTP/1.0" } else { "HTTP/1.1" };
                        (Box::new(Prepared::new(worker, caller, head, framing.body, protocol)), framing)
                    });
                    match read {
                        Ok(Some((size, (prepared, framing)))) => {
                            self.read.consume(size);
                            return Poll::Ready(Arrived::Request(prepared, framing));
                        }
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Arrived::Refused(refusal)),
                    }
                    if !partial {
                        partial = true;
                        timer.set_in(limits.header_time.get());
                    }
                }
                if presence.is_stopping() && !partial && !told {
                    // A request may be on its way: it gets its response, with `Connection: close`.
                    told = true;
                    timer.set_in(LINGER);
                }
                match self.read.poll_fill(cx, &mut self.stream, self.bounds.bytes.max(SIZE)) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                        self.closed = true;
                        return Poll::Ready(Arrived::Nothing);
                    }
                    Poll::Ready(Ok(_)) => fresh = true,
                    Poll::Pending => break,
                }
            }
            ready!(timer.poll_elapsed(cx));
            Poll::Ready(if partial {
                let reason = "the head of the request did not arrive in time";
                Arrived::Refused(Refusal { status: StatusCode::REQUEST_TIMEOUT, reason })
            } else {
                Arrived::Nothing
            })
        });
        arrived.await
    }

    fn begin(&mut self, framing: Framing, most: usize) {
        self.body = Decoder::new(framing.body, most);
        self.continues = framing.expects_continue && framing.body != Length::None;
        self.old = framing.old;
        self.keep_alive = framing.keep_alive;
        self.chunked = false;
    }

    /// Carries one request.
    async fn carry(&mut self, worker: &Worker, prepared: Prepared, timer: &mut Timer) -> Next {
        let idle = worker.shared.settings.limits.idle_time.get();
        if worker.is_stopping() {
            self.keep_alive = false;
        }
        let Prepared { record, decision } = prepared;
        let to_head = record.to_head;
        let outcome = match decision {
            Ok(forward) => exchange::exchange(worker, forward, self, timer).await,
            Err(answer) => Outcome::Answer(answer),
        };
        let status = match outcome {
            Outcome::Done(status) => status,
            Outcome::Upgraded(upstream) => {
                worker.finish(&record, Some(StatusCode::SWITCHING_PROTOCOLS));
                return Next::Tunnel(upstream);
            }
            Outcome::Cut(status) => {
                worker.finish(&record, status);
                return Next::Cut;
            }
            Outcome::Answer(mut answer) => {
                // A client that waits for `100 Continue` sends nothing now; the connection cannot be used again
                // because it may send its body all the same.
                self.keep_alive &= !self.continues && self.drain_buffered();
                answer.fields.push(("x-request-id", worker.request_id(record.id).into()));
                if exchange::answer(self, &answer, to_head, timer, idle).await.is_err() {
                    worker.finish(&record, Some(answer.status));
                    return Next::Cut;
                }
                answer.status
            }
        };
        worker.finish(&record, Some(status));
        if !self.keep_alive || !self.body.is_done() {
            return Next::Close;
        }
        timer.set_in(idle);
        Next::Request
    }

    /// Drops what is there of a body that nobody wants; gives whether that was all of it.
    fn drain_buffered(&mut self) -> bool {
        while !self.body.is_done() {
            match self.body.step(self.read.filled()) {
                Ok(step) if step.skip + step.data > 0 => self.read.consume(step.skip + step.data),
                _ => break,
            }
        }
        self.body.is_done()
    }

    /// Closes in order: what was written reaches the client even if it still sends (RFC 9112 section 9.6).
    async fn close(&mut self, timer: &mut Timer) {
        timer.set_in(LINGER);
        let mut drained = 0;
        let mut shut = false;
        poll_fn(|cx| {
            if !shut {
                match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) if !self.closed => shut = true,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return timer.poll_elapsed(cx),
                }
            }
            let mut room = [0; 4096];
            while drained < DRAINED {
                let mut buffer = ReadBuf::new(&mut room);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => drained += buffer.filled().len(),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return timer.poll_elapsed(cx),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    fn write_fields(&mut self, fields: &[Field<'_>], upgraded: bool) {
        let connection = connection_names_fields(fields);
        for field in fields {
            let hop = is_hop_by_hop(field, fields, connection) && !(upgraded && named(field, "upgrade"));
            if hop || named(field, "content-length") {
                continue;
            }
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        }
    }

    fn write_status(&mut self, head: &ResponseHead<'_>) {
        if self.out.capacity() == 0 {
            self.out = spare_output();
        }
        let code = head.status.as_str().as_bytes();
        for part in [b"HTTP/1.1 ", code, b" ", head.reason.as_bytes(), b"\r\n"] {
            self.out.extend_from_slice(part);
        }
    }
}

impl Client for Connection {
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<bool, Lost>> {
        let before = into.len();
        loop {
            while into.len() - before < KEPT {
                let malformed = |error: super::http1::body::Malformed| match error {
                    super::http1::body::Malformed::Chunk => Lost::Malformed("the chunks of the body are malformed"),
                    super::http1::body::Malformed::TooLarge => Lost::Malformed("the trailer section is too large"),
                };
                let step = self.body.step(self.read.filled()).map_err(malformed)?;
                let end = step.skip + step.data;
                into.extend_from_slice(self.read.filled().get(step.skip..end).unwrap_or_default());
                self.read.consume(end);
                if step.data == 0 {
                    break;
                }
            }
            if self.body.is_done() {
                return Poll::Ready(Ok(true));
            }
            if into.len() > before {
                return Poll::Ready(Ok(false));
            }
            if self.continues {
                self.continues = false;
                self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if !self.out.is_empty() {
                let _ = self.poll_flush(cx)?;
            }
            match ready!(self.read.poll_fill(cx, &mut self.stream, SIZE)) {
                Ok(count) if count > 0 => self.continues = false,
                _ => {
                    self.closed = true;
                    return Poll::Ready(Err(Lost::Gone));
                }
            }
        }
    }

    fn trailers(&mut self) -> Vec<u8> {
        let mut room = [httparse::EMPTY_HEADER; 32];
        let mut trailers = Vec::new();
        for field in trailer_fields(self.body.trailers(), &mut room) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                trailers.extend_from_slice(part);
            }
        }
        trailers
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // While a body is still to come, it is the body's reading that notices. What comes after it is the next
        // request, and is kept up to the size of one buffer.
        if !self.body.is_done() || self.read.len() >= SIZE {
            return Poll::Pending;
        }
        while self.read.len() < SIZE {
            match ready!(self.read.poll_fill(cx, &mut self.stream, SIZE)) {
                Ok(count) if count > 0 => {}
                _ => {
                    self.closed = true;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    fn interim(&mut self, head: &ResponseHead<'_>) {
        if !self.old {
            self.write_status(head);
            self.write_fields(head.fields, false);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn head(&mut self, head: &ResponseHead<'_>, to_head: bool) -> Result<(), Lost> {
        let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
        self.write_status(head);
        self.write_fields(head.fields, upgraded);
        match head.body {
            Length::Known(bytes) => {
                let _ = write!(self.out, "content-length: {bytes}\r\n");
            }
            Length::Chunked | Length::UntilClose if self.old => self.keep_alive = false,
            Length::Chunked | Length::UntilClose => {
                self.chunked = true;
                self.out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            }
            Length::None if to_head || head.status == StatusCode::NOT_MODIFIED => {
                // The length that the body would have had.
                for field in head.fields.iter().filter(|field| named(field, "content-length")).take(1) {
                    for part in [b"content-length: ", field.value, b"\r\n"] {
                        self.out.extend_from_slice(part);
                    }
                }
            }
            Length::None => {}
        }
        if upgraded {
            self.out.extend_from_slice(b"connection: upgrade\r\n");
        } else if !self.keep_alive {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn data(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.chunked {
            let _ = write!(self.out, "{:x}\r\n", data.len());
        }
        self.out.extend_from_slice(data);
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self, trailers: &[u8]) {
        if !self.chunked {
            return;
        }
        self.out.extend_from_slice(b"0\r\n");
        let mut room = [httparse::EMPTY_HEADER; 32];
        for field in trailer_fields(trailers, &mut room) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(count) if count > 0 => self.written += count,
                _ => {
                    self.closed = true;
                    return Poll::Ready(Err(Lost::Gone));
                }
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|_| Lost::Gone)?;
        if !self.out.is_empty() {
            keep_output(std::mem::take(&mut self.out));
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size(serve);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
