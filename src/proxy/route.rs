//! Which server a request is for, and whether it goes there or is answered here.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::StatusCode;
use serde_json::json;

use super::{
    answer::Answer,
    http1::head::RequestHead,
    policy::Policy,
    settings::{self, Settings, Upstream, host_of},
};

/// The servers behind the proxy and the names that they answer to.
pub struct Router {
    names: HashMap<String, usize>,
    servers: Vec<Server>,
    policy: Arc<Policy>,
}

/// A server behind the proxy.
pub struct Server {
    /// Its server name.
    pub name: String,
    /// Where it listens.
    pub upstream: Upstream,
    /// `/.well-known/matrix/server`, and `/client`.
    discovery: Answer,
    client_discovery: Answer,
    admin_api: bool,
}

/// The server that a client named in its TLS handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named(Option<usize>);

// === impl Router ===

impl Router {
    /// The routes that settings ask for.
    pub fn new(settings: &Settings, policy: Arc<Policy>) -> Self {
        let mut names = HashMap::new();
        for (index, (name, server)) in settings.servers.iter().enumerate() {
            for host in std::iter::once(host_of(name)).chain(server.hosts.iter().map(String::as_str)) {
                names.insert(host.to_ascii_lowercase(), index);
            }
        }
        let servers = settings.servers.iter().map(|(name, server)| Server::new(name, server)).collect();
        Self { names, servers, policy }
    }

    /// All servers; a server's number is its place.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of a name that a client gave in its TLS handshake. `None` when the name is unknown.
    pub fn named(&self, sni: Option<&str>) -> Option<Named> {
        match sni {
            None => Some(Named(None)),
            Some(name) => self.server_of(name).map(|server| Named(Some(server))),
        }
    }

    /// The server that a `Host` asks for; its port does not matter.
    pub fn server_of(&self, authority: &str) -> Option<usize> {
        let host = host_of(authority);
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut lower = [0; 253];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        self.names.get(str::from_utf8(lower).ok()?).copied()
    }

    /// Routes a request: the number of the server that it goes to, or the answer.
    ///
    /// # Errors
    /// The answer, also where nothing is wrong, and the server that it concerns.
    pub fn route(&self, head: &RequestHead<'_>, named: Named) -> Result<usize, (Option<usize>, Answer)> {
        let asked = self.server_of(head.authority);
        let index = match (asked, named.0) {
            (Some(host), Some(sni)) if host == sni => host,
            (Some(host), None) => host,
            (_, Some(sni)) => {
                let reason = "the host is not the server that the TLS handshake named";
                return Err((Some(sni), Answer::error(StatusCode::MISDIRECTED_REQUEST, reason)));
            }
            (None, None) => return Err((None, Answer::error(StatusCode::NOT_FOUND, "there is no such server here"))),
        };
        let server = self.servers.get(index).ok_or_else(|| (None, Answer::error(StatusCode::NOT_FOUND, "")))?;
        server.judge(head, &self.policy).map_err(|answer| (Some(index), answer))?;
        Ok(index)
    }
}

// === impl Server ===

impl Server {
    fn new(name: &str, settings: &settings::Server) -> Self {
        let found = |content: Option<serde_json::Value>| match content {
            Some(content) => Answer::json(StatusCode::OK, &content),
            None => Answer::error(StatusCode::NOT_FOUND, "this server says nothing of this"),
        };
        let methods = [
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
            ("access-control-allow-headers", "X-Requested-With, Content-Type, Authorization, Date"),
            ("cache-control", "public, max-age=3600"),
        ];
        let answer = |content| methods.iter().fold(found(content), |answer, (name, value)| answer.with(name, *value));
        Self {
            name: name.to_owned(),
            upstream: settings.upstream.clone(),
            discovery: answer(settings.federation.as_ref().map(|place| json!({ "m.server": place }))),
            client_discovery: answer(
                settings.client.as_ref().map(|address| json!({ "m.homeserver": { "base_url": address } })),
            ),
            admin_api: settings.admin_api,
        }
    }

    fn judge(&self, head: &RequestHead<'_>, policy: &Policy) -> Result<(), Answer> {
        match head.method {
            "CONNECT" | "TRACE" => {
                let allowed = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
                return Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "this method is not taken here")
                    .with("allow", allowed));
            }
            _ => {}
        }
        let path = head.target.split('?').next().unwrap_or_default();
        match path {
            "/.well-known/matrix/server" => return Err(discover(&self.discovery, head.method)),
            "/.well-known/matrix/client" => return Err(discover(&self.client_discovery, head.method)),
            _ => {}
        }
        self.judge_reading(path, head, policy)?;
        readings(path).iter().try_for_each(|reading| self.judge_reading(reading, head, policy))
    }

    /// Judges a request by one way to understand its path.
    fn judge_reading(&self, path: &str, head: &RequestHead<'_>, policy: &Policy) -> Result<(), Answer> {
        if is_below(path, "/_synapse") && !self.opens(path) {
            return Err(Answer::forbidden("this part of the server cannot be reached from outside"));
        }
        if is_below(path, "/_matrix/federation") || is_below(path, "/_matrix/key") {
            return policy.judge(path, head.fields, &self.name);
        }
        Ok(())
    }

    /// Of Synapse's own endpoints those for clients are open, and the admin API where it is configured.
    fn opens(&self, path: &str) -> bool {
        is_below(path, "/_synapse/client") || (self.admin_api && is_below(path, "/_synapse/admin"))
    }
}

/// The answer for `.well-known`: as all of the client-server API it can be read and asked about from any origin.
fn discover(answer: &Answer, method: &str) -> Answer {
    match method {
        "GET" | "HEAD" => answer.clone(),
        "OPTIONS" => {
            let fields = answer.fields.iter().filter(|(name, _)| *name != "content-type").cloned().collect();
            Answer { status: StatusCode::NO_CONTENT, fields, body: Cow::Borrowed(b"") }
        }
        _ => {
            Answer::error(StatusCode::METHOD_NOT_ALLOWED, "only GET is known here").with("allow", "GET, HEAD, OPTIONS")
        }
    }
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How else than as it came a homeserver may understand a path: with its segments decoded one by one, as Synapse finds
/// the part of itself that a request is for; without `.` and `..`; decoded before it is split. A request must be allowed
/// by each of them, and by the path as it came, by which Synapse finds the endpoint: there `..` is a segment like any
/// other, so that a path without it would be judged as another request.
pub fn readings(path: &str) -> Vec<String> {
    if !path.contains('%') && !path.contains("//") && !path.contains("/.") {
        return Vec::new();
    }
    let segments: Vec<String> = path.split('/').map(decode).collect();
    let decoded = segments.join("/");
    vec![
        join(segments.iter().map(String::as_str)),
        join(resolve(segments.iter().map(String::as_str)).into_iter()),
        join(resolve(decoded.split('/')).into_iter()),
    ]
}

/// A path of these segments but for empty ones.
fn join<'a>(segments: impl Iterator<Item = &'a str>) -> String {
    segments.filter(|segment| !segment.is_empty()).flat_map(|segment| ["/", segment]).collect()
}

/// The segments without `.`, `..` and what `..` takes back (RFC 3986 section 5.2.4).
fn resolve<'a>(segments: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kept = Vec::new();
    for segment in segments {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    kept
}

/// Percent-decodes a segment; what is no UTF-8 then is replaced, and like nothing that is judged.
fn decode(path: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router() -> Router {
        let mut settings = Settings::default();
        for (name, host) in [("huisarts", "huisarts.localhost"), ("vvt:8448", "vvt.localhost")] {
            let mut server = settings::Server::new("http://127.0.0.1:1".parse().unwrap());
            server.hosts = vec![host.to_owned()];
            server.federation = (name == "huisarts").then(|| "huisarts:8448".parse().unwrap());
            settings.servers.insert(name.to_owned(), server);
        }
        settings.policy.members = Some(vec!["huisarts".to_owned()]);
        Router::new(&settings, Arc::new(Policy::new(settings.policy.clone()).unwrap()))
    }

    fn routed(method: &str, authority: &str, target: &str, sni: Option<&str>) -> Result<usize, u16> {
        let router = router();
        let head = RequestHead { method, target, authority, fields: &[] };
        router.route(&head, router.named(sni).unwrap()).map_err(|(_, answer)| answer.status.as_u16())
    }

    #[test]
    fn hosts_are_found_with_any_port_and_case() {
        for host in ["vvt", "VVT", "vvt:8448", "vvt:1", "vvt.localhost:8008", "vvt."] {
            assert_eq!(routed("GET", host, "/", None), Ok(1), "{host}");
        }
        for host in ["", "other", "vvt:x", "[::1]:8008", "vvt..", &"a".repeat(300)] {
            assert_eq!(routed("GET", host, "/", None), Err(404), "{host}");
        }
    }

    #[test]
    fn a_host_that_differs_from_the_handshake_is_misdirected() {
        assert_eq!(routed("GET", "vvt", "/", Some("vvt")), Ok(1));
        assert_eq!(routed("GET", "vvt.localhost", "/", Some("VVT")), Ok(1));
        assert_eq!(routed("GET", "huisarts", "/", Some("vvt")), Err(421));
        assert_eq!(routed("GET", "unknown", "/", Some("vvt")), Err(421));
        assert_eq!(router().named(Some("unknown")), None);
    }

    #[test]
    fn synapse_s_own_endpoints_are_closed_however_they_are_written() {
        for path in [
            "/_synapse/admin/v1/register",
            "/_synapse/admin",
            "/%5Fsynapse/admin",
            "//_synapse//admin/",
            "/x/../_synapse/admin",
            "/_synapse/client/../admin",
            "/./_synapse/%61dmin?x",
            "/_synapse/metrics",
            "/_synapse",
            "/a%2fb/../_synapse/admin",
            "/%5fsynapse/client/..%2fadmin",
        ] {
            assert_eq!(routed("GET", "vvt", path, None), Err(403), "{path}");
        }
        for path in ["/_synapse/client/x", "/_synapses", "/_matrix/client/versions", "/", "*", "/?/_synapse/admin"] {
            assert_eq!(routed("GET", "vvt", path, None), Ok(1), "{path}");
        }
    }

    #[test]
    fn federation_is_judged_however_it_is_written() {
        for path in [
            "/_matrix/federation/v1/send/1",
            "/_matrix/%66ederation/v2/x",
            "//_matrix/federation/",
            "/_matrix/./federation",
            // Synapse takes the path as it came: all that follows `query` is the kind of query.
            "/_matrix/federation/v1/query/..%2f..%2f..%2f..%2fx",
            "/_matrix/federation/v1/query/%2e%2e/../../../x",
            "/_matrix/federation/v1/query/..%2fversion",
            "/_matrix/federation/v1/version#/",
            "/_matrix/key/../federation/v1/query/x",
        ] {
            assert_eq!(routed("PUT", "vvt", path, None), Err(401), "{path}");
        }
        assert_eq!(routed("GET", "vvt", "/_matrix/federation/v1/version", None), Ok(1));
        for path in ["/_matrix/key/v2/server", "/_matrix/key/v2/query/huisarts%3A8448"] {
            assert_eq!(routed("GET", "vvt", path, None), Ok(1), "{path}");
        }
    }

    #[test]
    fn discovery_is_answered_here() {
        assert_eq!(routed("GET", "huisarts", "/.well-known/matrix/server", None), Err(200));
        assert_eq!(routed("OPTIONS", "huisarts", "/.well-known/matrix/client", None), Err(204));
        assert_eq!(routed("GET", "huisarts", "/.well-known/matrix/client", None), Err(404));
        assert_eq!(routed("POST", "huisarts", "/.well-known/matrix/server", None), Err(405));
        assert_eq!(routed("CONNECT", "huisarts", "/", None), Err(405));
    }

    proptest! {
        #[test]
        fn no_way_to_write_a_path_leads_around_the_policy(
            ways in prop::collection::vec((any::<bool>(), 0..6_usize), "/_matrix/federation/v1/send/1".len())
        ) {
            let slashes = ["/", "//", "/./", "/x/../", "/x/%2e%2E/", "/x/y/%2e./../"];
            let written: String = "/_matrix/federation/v1/send/1".chars().zip(ways).map(|(character, way)| match way {
                (_, slash) if character == '/' => slashes[slash].to_owned(),
                (true, _) => format!("%{:02x}", character as u32),
                (false, _) => character.to_string(),
            }).collect();
            prop_assert_eq!(routed("PUT", "vvt", &written, None), Err(401), "{}", written);
        }

        #[test]
        fn no_host_or_path_makes_the_router_panic(host in ".{0,60}", path in ".{0,60}") {
            let _ = router().server_of(&host);
            let _ = readings(&path);
        }
    }
}
