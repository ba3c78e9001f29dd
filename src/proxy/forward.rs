//! What a request becomes on its way to a homeserver.

use std::{io::Write as _, net::IpAddr, time::Instant};

use http::StatusCode;

use super::{
    answer::Answer,
    gate::{self, Full, Permit, RETRY_AFTER},
    http1::{
        body::Length,
        head::{Field, RequestHead, connection_names_fields, is_hop_by_hop, named, options},
    },
    route::Named,
    worker::Worker,
};

/// Who is at the other end of a connection.
pub(crate) struct Caller {
    /// The address as `X-Forwarded-For` gives it; empty for a Unix socket.
    pub(crate) forwarded_for: String,
    /// The server that the TLS handshake named.
    pub(crate) named: Named,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    pub(crate) connection: gate::Connection,
}

/// A request that was read, judged and made ready.
pub(crate) struct Prepared {
    pub(crate) record: Record,
    pub(crate) decision: Result<Forward, Answer>,
}

/// A request as it goes to a homeserver.
pub(crate) struct Forward {
    /// The number of the server.
    pub(crate) server: usize,
    /// The head, with the empty line that ends it; the exchange takes it.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Length,
    /// Whether the method is HEAD, so that the response has no body.
    pub(crate) to_head: bool,
    /// Whether the request may be sent twice (RFC 9110 section 9.2.2).
    pub(crate) idempotent: bool,
    /// Whether the client asks for another protocol on this connection.
    pub(crate) upgrade: bool,
    pub(crate) _permit: Permit,
}

/// What the access log and the metrics tell of a request.
pub(crate) struct Record {
    /// Different for each request of this process.
    pub(crate) id: u64,
    pub(crate) server: Option<usize>,
    pub(crate) start: Instant,
    /// Whether the method is HEAD, so that the response has no body.
    pub(crate) to_head: bool,
    /// What only the access log tells.
    pub(crate) line: Option<Box<Line>>,
}

/// What only the access log tells of a request. No query: it can hold an access token.
pub(crate) struct Line {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) protocol: &'static str,
}

// === impl Caller ===

impl Caller {
    pub(crate) fn new(address: Option<IpAddr>, named: Named, secure: bool, connection: gate::Connection) -> Self {
        let forwarded_for = address.map(|address| address.to_string()).unwrap_or_default();
        Self { forwarded_for, named, secure, connection }
    }
}

// === impl Prepared ===

impl Prepared {
    /// Judges a request and makes it ready.
    pub(crate) fn new(
        worker: &Worker,
        caller: &Caller,
        head: &RequestHead<'_>,
        body: Length,
        protocol: &'static str,
    ) -> Self {
        let shared = &worker.shared;
        let line = shared.settings.log.access.then(|| Box::new(Line::new(head, protocol)));
        let mut record =
            Record { id: worker.next_id(), server: None, start: Instant::now(), to_head: head.method == "HEAD", line };
        let decision = match shared.router.route(head, caller.named) {
            Err((server, answer)) => {
                record.server = server;
                if matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
                    shared.metrics.refused_by_policy(server);
                }
                Err(answer)
            }
            Ok(server) => {
                record.server = Some(server);
                Forward::new(worker, caller, head, body, server, record.id)
            }
        };
        Self { record, decision }
    }
}

// === impl Forward ===

impl Forward {
    fn new(
        worker: &Worker,
        caller: &Caller,
        head: &RequestHead<'_>,
        body: Length,
        server: usize,
        id: u64,
    ) -> Result<Self, Answer> {
        let most = worker.shared.settings.limits.body_bytes;
        if matches!(body, Length::Known(bytes) if bytes > most) {
            return Err(too_large(most));
        }
        let permit =
            worker.shared.gate.request(&caller.connection).map_err(|full| too_many(full, "requests in flight"))?;
        let upgrade = if body == Length::None { upgrade_of(head) } else { None };
        Ok(Self {
            server,
            head: write_head(worker, caller, head, body, upgrade, id),
            body,
            to_head: head.method == "HEAD",
            idempotent: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
            upgrade: upgrade.is_some(),
            _permit: permit,
        })
    }
}

/// 413.
pub(crate) fn too_large(most: u64) -> Answer {
    let reason = format!("the body is larger than {most} bytes");
    Answer::error(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}

/// 503, or 429 where it is one address that asks too much.
pub(crate) fn too_many(full: Full, what: &str) -> Answer {
    match full {
        Full::Proxy => {
            Answer::later(StatusCode::SERVICE_UNAVAILABLE, &format!("there are too many {what}"), RETRY_AFTER)
        }
        Full::Address => Answer::later(
            StatusCode::TOO_MANY_REQUESTS,
            &format!("there are too many {what} from this address"),
            RETRY_AFTER,
        ),
    }
}

/// The protocol that the client wants to change to. HTTP/2 in plain text (`h2c`) is not passed on: it would carry
/// requests past every check.
fn upgrade_of<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    let wanted = head.fields.iter().find(|field| named(field, "upgrade"))?.value;
    let asked = head.fields.iter().filter(|field| named(field, "connection"));
    let asked = asked.flat_map(|field| options(field.value)).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let smuggles = options(wanted).any(|protocol| protocol.len() >= 3 && protocol[..3].eq_ignore_ascii_case(b"h2c"));
    (asked && !smuggles).then_some(wanted)
}

fn write_head(
    worker: &Worker,
    caller: &Caller,
    head: &RequestHead<'_>,
    body: Length,
    upgrade: Option<&[u8]>,
    id: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    for part in [head.method.as_bytes(), b" ", head.target.as_bytes(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    push(&mut out, b"host", head.authority.as_bytes());
    let connection = connection_names_fields(head.fields);
    let mut cookies = 0;
    for field in head.fields {
        if is_ours(field) || is_hop_by_hop(field, head.fields, connection) {
            continue;
        }
        if field.name.len() == 6 && named(field, "cookie") {
            cookies += 1;
            continue;
        }
        push(&mut out, field.name.as_bytes(), field.value);
    }
    if cookies > 0 {
        // HTTP/2 may split the field (RFC 9113 section 8.2.3); HTTP/1.1 has it once.
        out.extend_from_slice(b"cookie: ");
        for (index, field) in head.fields.iter().filter(|field| named(field, "cookie")).enumerate() {
            out.extend_from_slice(if index > 0 { b"; " } else { b"" });
            out.extend_from_slice(field.value);
        }
        out.extend_from_slice(b"\r\n");
    }
    if !caller.forwarded_for.is_empty() {
        push(&mut out, b"x-forwarded-for", caller.forwarded_for.as_bytes());
    }
    push(&mut out, b"x-forwarded-proto", if caller.secure { b"https" } else { b"http" });
    push(&mut out, b"x-forwarded-host", head.authority.as_bytes());
    // Writing to a vector cannot fail.
    let _ = write!(out, "x-request-id: {}{id:x}\r\n", worker.shared.id_prefix);
    match (body, upgrade) {
        (Length::Known(bytes), _) => {
            let _ = write!(out, "content-length: {bytes}\r\n");
        }
        (Length::Chunked, _) => push(&mut out, b"transfer-encoding", b"chunked"),
        (_, Some(protocol)) => {
            push(&mut out, b"connection", b"upgrade");
            push(&mut out, b"upgrade", protocol);
        }
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Fields that the proxy writes itself, so that a client's own are left out.
fn is_ours(field: &Field<'_>) -> bool {
    match field.name.len() {
        4 => named(field, "host"),
        6 => named(field, "expect"),
        9 => named(field, "forwarded") || named(field, "x-real-ip"),
        12 => named(field, "x-request-id"),
        14 => named(field, "content-length"),
        15.. => field.name.as_bytes()[..12].eq_ignore_ascii_case(b"x-forwarded-"),
        _ => false,
    }
}

// === impl Line ===

impl Line {
    fn new(head: &RequestHead<'_>, protocol: &'static str) -> Self {
        let path = head.target.split('?').next().unwrap_or_default();
        Self { method: head.method.to_owned(), host: head.authority.to_owned(), path: path.to_owned(), protocol }
    }
}
