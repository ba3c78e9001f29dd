//! Heads of requests and responses (RFC 9112 sections 2 to 6).

use std::mem::MaybeUninit;

use http::StatusCode;

use super::body::Length;
use crate::proxy::settings::MOST_HEADERS;

/// A header field: its name as it was written, and its value.
pub type Field<'a> = httparse::Header<'a>;

/// The head of a request, whatever version of HTTP it came in.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, byte for byte.
    pub target: &'a str,
    /// The host, and perhaps a port, that the client asks for.
    pub authority: &'a str,
    /// All fields, also those that are only for this connection.
    pub fields: &'a [Field<'a>],
}

/// What the head of an HTTP/1 request says about the connection and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    pub(crate) body: Length,
    /// Whether the connection can carry another request.
    pub(crate) keep_alive: bool,
    /// Whether the client speaks HTTP/1.0, which has no chunks.
    pub(crate) old: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Why a request's head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong, for people.
    pub reason: &'static str,
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

// === impl Refusal ===

impl Refusal {
    const fn bad(reason: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
    }

    const fn too_large(reason: &'static str) -> Self {
        Self { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason }
    }
}

/// Reads the head of an HTTP/1 request at the front of `input` and hands it to `use_head`, with the bytes that it
/// took. `None` when more input is needed.
///
/// # Errors
/// When it is not a head, or one that two programs could read differently.
pub fn read_request<T>(
    input: &[u8],
    bounds: Bounds,
    use_head: impl FnOnce(&RequestHead<'_>, Framing) -> T,
) -> Result<Option<(usize, T)>, Refusal> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let room = room.get_mut(..bounds.fields).unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    let size = match request.parse_with_uninit_headers(input, room) {
        Ok(httparse::Status::Complete(size)) if size <= bounds.bytes => size,
        Ok(httparse::Status::Partial) if input.len() < bounds.bytes => return Ok(None),
        Ok(_) => return Err(Refusal::too_large("the head of the request is too large")),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::too_large("there are too many header fields")),
        Err(httparse::Error::Version) => {
            return Err(Refusal {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "this is not HTTP/1.1 or HTTP/1.0",
            });
        }
        Err(_) => return Err(Refusal::bad("this is not a well-formed HTTP request")),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Refusal::bad("this is not a well-formed HTTP request"));
    };
    let fields = &*request.headers;
    let framing = framing(method, version, fields)?;
    let (authority, target) = authority(method, target, version, fields)?;
    let head = RequestHead { method, target, authority, fields };
    Ok(Some((size, use_head(&head, framing))))
}

/// Where a body ends and whether the connection goes on (RFC 9112 sections 6.3 and 9.3).
fn framing(method: &str, version: u8, fields: &[Field<'_>]) -> Result<Framing, Refusal> {
    let old = version == 0;
    let mut framing = Framing { body: Length::None, keep_alive: !old, old, expects_continue: false };
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        // The length of a name is a cheap first test: most fields fail it.
        match field.name.len() {
            6 if named(field, "expect") => match field.value {
                value if value.eq_ignore_ascii_case(b"100-continue") => framing.expects_continue = !old,
                _ => {
                    return Err(Refusal {
                        status: StatusCode::EXPECTATION_FAILED,
                        reason: "the only expectation known is 100-continue",
                    });
                }
            },
            10 if named(field, "connection") => {
                for option in options(field.value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        framing.keep_alive = false;
                    }
                }
            }
            14 if named(field, "content-length") => {
                if length.is_some() {
                    return Err(Refusal::bad("there is more than one Content-Length"));
                }
                length = Some(decimal(field.value).ok_or(Refusal::bad("Content-Length is not a number"))?);
            }
            17 if named(field, "transfer-encoding") => {
                if chunked || old || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::bad("the only Transfer-Encoding known is chunked, once, in HTTP/1.1"));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    framing.body = match (length, chunked) {
        (Some(_), true) => return Err(Refusal::bad("there is both a Content-Length and a Transfer-Encoding")),
        (Some(0), false) if !takes_body(method) => Length::None,
        (Some(bytes), false) => Length::Known(bytes),
        (None, true) => Length::Chunked,
        (None, false) => Length::None,
    };
    Ok(framing)
}

/// Whether a body is usual for the method, so that its absence is worth telling (`Content-Length: 0`).
fn takes_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// The host that is asked for, and path and query (RFC 9112 section 3.2).
fn authority<'a>(
    method: &str,
    target: &'a str,
    version: u8,
    fields: &'a [Field<'a>],
) -> Result<(&'a str, &'a str), Refusal> {
    let mut hosts = fields.iter().filter(|field| named(field, "host"));
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::bad("there is more than one Host")),
        (Some(field), None) => str::from_utf8(field.value).map_err(|_| Refusal::bad("the Host is not a host name"))?,
        (None, None) if version == 0 => "",
        (None, None) => return Err(Refusal::bad("there is no Host")),
    };
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((host, target));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(|scheme| &target[scheme.len()..])
        .ok_or(Refusal::bad("the request's target is neither a path nor an address"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match path {
        _ if authority.contains('@') => Err(Refusal::bad("an address with a user name is not taken")),
        "" => Ok((authority, "/")),
        path if path.starts_with('/') => Ok((authority, path)),
        _ => Err(Refusal::bad("the address has no path")),
    }
}

/// The head of a response from a homeserver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'a str,
    pub(crate) fields: &'a [Field<'a>],
    /// Where the body ends on this message's way to the client.
    pub(crate) body: Length,
    /// Whether the connection to the homeserver can carry another request.
    pub(crate) keep_alive: bool,
}

/// Reads the head of a response; `None` when more input is needed. `to_head` says that it answers a HEAD request.
///
/// # Errors
/// A sentence on what is wrong with it.
pub(crate) fn read_response<T>(
    input: &[u8],
    most: usize,
    to_head: bool,
    use_head: impl FnOnce(&ResponseHead<'_>) -> T,
) -> Result<Option<(usize, T)>, &'static str> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let size = match config.parse_response_with_uninit_headers(&mut response, input, &mut room) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if input.len() < most => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head of its response is too large"),
        Err(_) => return Err("its response is not HTTP/1.1"),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("its status is not one")?;
    let fields = &*response.headers;
    let (mut length, mut chunked, mut keep_alive) = (None, false, response.version == Some(1));
    for field in fields {
        match field.name.len() {
            10 if named(field, "connection") => {
                keep_alive &= !options(field.value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            14 if named(field, "content-length") => {
                let bytes = decimal(field.value).ok_or("its Content-Length is not a number")?;
                if length.replace(bytes).is_some_and(|before| before != bytes) {
                    return Err("it gave two lengths");
                }
            }
            17 if named(field, "transfer-encoding") => {
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its Transfer-Encoding is not chunked");
                }
                chunked = true;
            }
            _ => {}
        }
    }
    let bodiless = to_head || status.is_informational() || matches!(status.as_u16(), 204 | 304);
    let body = match (length, chunked) {
        _ if bodiless => Length::None,
        (Some(_), true) => return Err("it gave a length and chunks"),
        (Some(bytes), false) => Length::Known(bytes),
        (None, true) => Length::Chunked,
        (None, false) => Length::UntilClose,
    };
    keep_alive &= body != Length::UntilClose;
    let head = ResponseHead { status, reason: response.reason.unwrap_or_default(), fields, body, keep_alive };
    Ok(Some((size, use_head(&head))))
}

/// Whether a field has a name, in any case.
pub(crate) fn named(field: &Field<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

/// The options of a `Connection` field.
pub(crate) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Whether a field is only for one connection and not passed on (RFC 9110 section 7.6.1), `Connection` and those that
/// it names included.
pub(crate) fn is_hop_by_hop(field: &Field<'_>, fields: &[Field<'_>], connection: bool) -> bool {
    let listed = match field.name.len() {
        2 => named(field, "te"),
        7 => named(field, "upgrade"),
        10 => named(field, "connection") || named(field, "keep-alive"),
        14 => named(field, "http2-settings"),
        16 => named(field, "proxy-connection"),
        17 => named(field, "transfer-encoding"),
        _ => false,
    };
    listed
        || connection
            && fields
                .iter()
                .filter(|other| named(other, "connection"))
                .any(|other| options(other.value).any(|option| option.eq_ignore_ascii_case(field.name.as_bytes())))
}

/// Whether any `Connection` field names others, so that [`is_hop_by_hop`] must look.
pub(crate) fn connection_names_fields(fields: &[Field<'_>]) -> bool {
    fields.iter().filter(|field| named(field, "connection")).any(|field| {
        options(field.value)
            .any(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"))
    })
}

/// A number of digits alone: no sign, no space.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { bytes: 1024, fields: 8 };

    fn read(input: &str) -> Result<Option<(String, String, Framing)>, Refusal> {
        let taken = read_request(input.as_bytes(), BOUNDS, |head, framing| {
            (head.authority.to_owned(), head.target.to_owned(), framing)
        })?;
        Ok(taken.map(|(_, taken)| taken))
    }

    #[test]
    fn a_target_is_taken_as_it_stands() {
        for target in ["/", "/a%21b%2F", "//a//b", "/?", "/a?b=/c?d", "/%zz", "/é"] {
            let (host, path, _) = read(&format!("GET {target} HTTP/1.1\r\nHost: vvt\r\n\r\n")).unwrap().unwrap();
            assert_eq!((host.as_str(), path.as_str()), ("vvt", target));
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_host() {
        let (host, path, _) = read("GET HTTP://vvt:8008/a?b HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
        assert_eq!((host.as_str(), path.as_str()), ("vvt:8008", "/a?b"));
        assert_eq!(read("GET http://vvt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap().1, "/");
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for lines in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: ",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding : chunked",
            "Host: other",
            "X: a\r\n folded",
            "X: a\rb",
            "X: a\0b",
            "X y: z",
        ] {
            let refusal = read(&format!("POST / HTTP/1.1\r\nHost: vvt\r\n{lines}\r\n\r\n")).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{lines:?}");
        }
        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: v\r\n\r\n",
            "GET http://u@v/ HTTP/1.1\r\nHost: v\r\n\r\n",
        ] {
            assert_eq!(read(request).unwrap_err().status, StatusCode::BAD_REQUEST, "{request:?}");
        }
        let chunks_in_1_0 = "POST / HTTP/1.0\r\nHost: vvt\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(chunks_in_1_0).unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn heads_over_a_bound_are_431() {
        let many = format!("GET / HTTP/1.1\r\nHost: v\r\n{}\r\n", "a: b\r\n".repeat(8));
        let large = format!("GET / HTTP/1.1\r\nHost: v\r\na: {}", "b".repeat(1024));
        for input in [many.clone(), large.clone(), large + "\r\n\r\n"] {
            assert_eq!(read(&input).unwrap_err().status.as_u16(), 431);
        }
    }

    #[test]
    fn other_versions_and_expectations_have_their_status() {
        assert_eq!(read("GET / HTTP/2.0\r\nHost: v\r\n\r\n").unwrap_err().status.as_u16(), 505);
        assert_eq!(read("GET / HTTP/1.1\r\nHost: v\r\nExpect: 2\r\n\r\n").unwrap_err().status.as_u16(), 417);
    }

    #[test]
    fn a_connection_goes_on_unless_one_side_says_otherwise() {
        let keep = |version: &str, line: &str| {
            read(&format!("GET / HTTP/{version}\r\nHost: v\r\n{line}\r\n")).unwrap().unwrap().2.keep_alive
        };
        assert!(keep("1.1", ""));
        assert!(!keep("1.1", "Connection: x, Close\r\n"));
        assert!(!keep("1.0", ""));
    }

    #[test]
    fn a_response_s_body_ends_where_rfc_9112_says() {
        let length = |head: &str, to_head| {
            read_response(head.as_bytes(), 1024, to_head, |head| (head.body, head.keep_alive))
                .map(|taken| taken.unwrap().1)
        };
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((Length::Known(5), true)));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok((Length::None, true)));
        assert_eq!(length("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", false), Ok((Length::None, true)));
        assert_eq!(length("HTTP/1.1 204 x\r\n\r\n", false), Ok((Length::None, true)));
        assert_eq!(length("HTTP/1.1 200\r\n\r\n", false), Ok((Length::UntilClose, false)));
        assert_eq!(length("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok((Length::Known(5), false)));
        assert!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false).is_err());
        assert!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false).is_err());
    }

    proptest! {
        #[test]
        fn no_input_makes_a_parser_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_request(&input, BOUNDS, |_, framing| framing);
            let _ = read_response(&input, 1024, false, |head| head.body);
        }

        #[test]
        fn a_head_is_read_the_same_whatever_follows_it(path in "/[!-~]{0,30}", rest in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut input = format!("GET {path} HTTP/1.1\r\nhost: vvt\r\n\r\n").into_bytes();
            let size = input.len();
            input.extend_from_slice(&rest);
            let taken = read_request(&input, BOUNDS, |head, _| head.target.to_owned()).unwrap();
            prop_assert_eq!(taken, Some((size, path)));
        }
    }
}
