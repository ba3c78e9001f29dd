//! The Matrix client-server API as a user's client speaks it: plain JSON over HTTP, independent of the bridge's types,
//! so that the scenario checks the network and not our own reading of it.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Certificate, Method, Url};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::service::secrets::Secret;

/// Time to reach a server.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time for one request; longer than the long poll of `/sync`.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Pauses between tries to join.
const JOIN_PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// How long the server holds a `/sync` that has nothing to say.
const POLL_TIME: Duration = Duration::from_secs(10);

/// Why a request did not give what it should.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The server could not be reached, or did not answer in time.
    #[error("{server} did not answer {method} {path}")]
    NoAnswer {
        /// The server's name.
        server: String,
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("{server} answered {method} {path} with {status} {code}: {reason}")]
    Refused {
        /// The server's name.
        server: String,
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The Matrix error code, `-` where the body has none.
        code: String,
        /// The reason in the server's words.
        reason: String,
    },
    /// The answer was not of the expected form.
    #[error("{what} is missing in the answer to {path}")]
    Unexpected {
        /// The request's path.
        path: String,
        /// What was looked for.
        what: String,
    },
    /// Nothing of the kind came in time.
    #[error("{who} did not see {what} within {seconds} s")]
    NotSeen {
        /// The user who waited.
        who: String,
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The address of a server is not one.
    #[error("{0:?} is not an http or https address")]
    Address(String),
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A homeserver as its users reach it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its server name.
    pub name: String,
    base: Url,
    http: reqwest::Client,
}

/// How a server is reached.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Certificates that count as roots; nothing else does.
    pub roots: Vec<Certificate>,
    /// Where the address's host is, instead of asking the system.
    pub connect: Option<SocketAddr>,
}

/// A user who has logged in, with all that `/sync` has shown so far.
#[derive(Debug)]
pub struct Session {
    /// The full Matrix id.
    pub user: String,
    server: Server,
    token: Secret,
    since: Option<String>,
    seen: Vec<Seen>,
}

/// Something that `/sync` showed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The room.
    pub room: String,
    /// Where in the answer it stood.
    pub kind: Kind,
    /// The event.
    pub event: Value,
}

/// The parts of a `/sync` answer that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event in the room's course.
    Timeline,
    /// An invitation's stripped state.
    Invite,
    /// Typing and receipts.
    Ephemeral,
}

// === impl ClientError ===

impl ClientError {
    /// The name of the server that is concerned, where one is.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::NoAnswer { server, .. } | Self::Refused { server, .. } => Some(server),
            Self::NotSeen { who, .. } => who.split_once(':').map(|(_, server)| server),
            Self::Unexpected { .. } | Self::Address(_) | Self::Client(_) => None,
        }
    }

    /// The HTTP status and the Matrix error code of a refusal.
    pub fn refusal(&self) -> Option<(u16, &str)> {
        match self {
            Self::Refused { status, code, .. } => Some((*status, code)),
            _ => None,
        }
    }
}

// === impl Server ===

impl Server {
    /// A server by its base address.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(name: &str, base: &str, reach: &Reach) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(base.to_owned());
        let base = Url::parse(base).map_err(|_| wrong())?;
        let host = base.host_str().ok_or_else(wrong)?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(REQUEST_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(reach.roots.iter().cloned());
        if let Some(address) = reach.connect {
            builder = builder.resolve(host, address);
        }
        let http = builder.build().map_err(ClientError::Client)?;
        Ok(Self { name: name.to_owned(), base, http })
    }

    /// The host and the port of its address.
    pub fn place(&self) -> (String, u16) {
        let host = self.base.host_str().unwrap_or_default().to_owned();
        (host, self.base.port_or_known_default().unwrap_or_default())
    }

    fn no_answer(&self, method: Method, path: &str, source: reqwest::Error) -> ClientError {
        let (server, path) = (self.name.clone(), path.to_owned());
        ClientError::NoAnswer { server, method, path, source: source.without_url() }
    }

    /// A request to a path given in parts, which are percent-encoded: room ids and the like need it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => _ = segments.pop_if_empty().extend(path),
            Err(()) => return Err(ClientError::Address(self.base.to_string())),
        }
        let request = prepare(self.http.request(method.clone(), url.clone()));
        request.send().await.map_err(|source| self.no_answer(method, url.path(), source))
    }

    /// As [`Server::send`], and reads the JSON answer of a success.
    ///
    /// # Errors
    /// When the server does not answer, refuses, or answers something else.
    pub async fn ask(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Value, ClientError> {
        let response = self.send(method.clone(), path, prepare).await?;
        let status = response.status();
        let path = response.url().path().to_owned();
        let text = response.text().await.map_err(|source| self.no_answer(method.clone(), &path, source))?;
        let body = serde_json::from_str::<Value>(&text);
        if status.is_success() {
            return body.map_err(|_| ClientError::Unexpected { path, what: "JSON".to_owned() });
        }
        let field = |key: &str| body.as_ref().ok()?.get(key)?.as_str().map(str::to_owned);
        Err(ClientError::Refused {
            server: self.name.clone(),
            method,
            path,
            status: status.as_u16(),
            code: field("errcode").unwrap_or_else(|| "-".to_owned()),
            reason: field("error").unwrap_or_else(|| text.chars().take(200).collect()),
        })
    }

    /// A plain GET.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn get(&self, path: &[&str]) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, |request| request).await
    }

    /// Makes a user with the homeserver's shared secret (Synapse's admin API, "Shared-Secret Registration").
    ///
    /// # Errors
    /// As [`Server::ask`]; `M_USER_IN_USE` when there is one of that name.
    pub async fn register(
        &self,
        name: &str,
        password: &Secret,
        admin: bool,
        shared: &Secret,
    ) -> Result<(), ClientError> {
        const PATH: [&str; 4] = ["_synapse", "admin", "v1", "register"];
        let answer = self.get(&PATH).await?;
        let nonce = text_at(&answer, "/nonce", PATH.join("/"))?;
        let role = if admin { "admin" } else { "notadmin" };
        let signed = [nonce.as_str(), name, password.expose(), role].join("\0");
        // Synapse prescribes HMAC-SHA1 here.
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, shared.expose().as_bytes());
        let mac: String =
            ring::hmac::sign(&key, signed.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let body =
            json!({ "nonce": nonce, "username": name, "password": password.expose(), "admin": admin, "mac": mac });
        self.ask(Method::POST, &PATH, |request| request.json(&body)).await.map(|_| ())
    }

    /// Makes a user, or sets its password, with an administrator's access token (Synapse's user admin API).
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn create_user(
        &self,
        user: &str,
        password: &Secret,
        admin: bool,
        token: &Secret,
    ) -> Result<(), ClientError> {
        let body = json!({ "password": password.expose(), "admin": admin, "logout_devices": false });
        let path = ["_synapse", "admin", "v2", "users", user];
        self.ask(Method::PUT, &path, |request| request.bearer_auth(token.expose()).json(&body)).await.map(|_| ())
    }

    /// Logs in with a password.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn log_in(&self, name: &str, password: &Secret) -> Result<Session, ClientError> {
        const PATH: [&str; 4] = ["_matrix", "client", "v3", "login"];
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": password.expose(),
            "initial_device_display_name": "federation-lab",
        });
        let answer = self.ask(Method::POST, &PATH, |request| request.json(&body)).await?;
        let field = |pointer: &str| text_at(&answer, pointer, PATH.join("/"));
        Ok(Session {
            user: field("/user_id")?,
            server: self.clone(),
            token: Secret::new(field("/access_token")?),
            since: None,
            seen: Vec::new(),
        })
    }
}

// === impl Session ===

impl Session {
    /// The server that the user belongs to.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The access token.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// A request in the user's name, to a path below `/_matrix`.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn call(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Value, ClientError> {
        let path: Vec<&str> = ["_matrix"].iter().chain(path).copied().collect();
        self.server
            .ask(method, &path, |request| {
                let request = request.bearer_auth(self.token.expose());
                match &body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await
    }

    /// As [`Session::call`], and takes one text out of the answer.
    ///
    /// # Errors
    /// As [`Server::ask`], and when the text is not there.
    pub async fn call_for(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
        pointer: &str,
    ) -> Result<String, ClientError> {
        text_at(&self.call(method, path, body).await?, pointer, path.join("/"))
    }

    /// Joins a room by its id. An invitation arrives before the homeserver that sent it has stored it, so that a refusal
    /// is not the last word.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn join(&self, room: &str) -> Result<(), ClientError> {
        let path = ["client", "v3", "rooms", room, "join"];
        for pause in JOIN_PAUSES {
            match self.call(Method::POST, &path, Some(json!({}))).await {
                Err(ClientError::Refused { status: 403, .. }) => tokio::time::sleep(pause).await,
                answer => return answer.map(|_| ()),
            }
        }
        self.call(Method::POST, &path, Some(json!({}))).await.map(|_| ())
    }

    /// Sends a message event of a type to a room; the event's id.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn send(&self, room: &str, kind: &str, content: Value) -> Result<String, ClientError> {
        let transaction = transaction();
        let path = ["client", "v3", "rooms", room, "send", kind, &transaction];
        self.call_for(Method::PUT, &path, Some(content), "/event_id").await
    }

    /// Sends a text message; the event's id.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn say(&self, room: &str, text: &str) -> Result<String, ClientError> {
        self.send(room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Uploads a file; its `mxc://` address.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn upload(&self, content: bytes::Bytes, name: &str) -> Result<String, ClientError> {
        let path = ["_matrix", "media", "v3", "upload"];
        let answer = self
            .server
            .ask(Method::POST, &path, |request| {
                request
                    .bearer_auth(self.token.expose())
                    .query(&[("filename", name)])
                    .header("Content-Type", "application/octet-stream")
                    .body(content)
            })
            .await?;
        text_at(&answer, "/content_uri", path.join("/"))
    }

    /// Downloads a file of at most `limit` bytes by its `mxc://` address through the user's own server.
    ///
    /// # Errors
    /// As [`Server::ask`], and when the file is larger.
    pub async fn download(&self, address: &str, limit: usize) -> Result<Vec<u8>, ClientError> {
        let unexpected = |what: &str| ClientError::Unexpected { path: address.to_owned(), what: what.to_owned() };
        let (server, id) = address
            .strip_prefix("mxc://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| unexpected("an mxc:// address"))?;
        let path = ["_matrix", "client", "v1", "media", "download", server, id];
        let mut response =
            self.server.send(Method::GET, &path, |request| request.bearer_auth(self.token.expose())).await?;
        if !response.status().is_success() {
            return Err(ClientError::Refused {
                server: self.server.name.clone(),
                method: Method::GET,
                path: response.url().path().to_owned(),
                status: response.status().as_u16(),
                code: "-".to_owned(),
                reason: response.text().await.unwrap_or_default().chars().take(200).collect(),
            });
        }
        let mut content = Vec::new();
        let lost = |source| self.server.no_answer(Method::GET, address, source);
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            content.extend_from_slice(&chunk);
            if content.len() > limit {
                return Err(unexpected("the end of the file"));
            }
        }
        Ok(content)
    }

    /// Waits, by the long poll of `/sync`, until something that `pick` takes has been shown; what was shown before
    /// counts too.
    ///
    /// # Errors
    /// As [`Server::ask`], and [`ClientError::NotSeen`] when `patience` has run out.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut pick: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, ClientError> {
        let until = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            if let Some(found) = self.seen.iter().skip(looked_at).find_map(&mut pick) {
                return Ok(found);
            }
            looked_at = self.seen.len();
            match timeout_at(until, self.poll()).await {
                Ok(polled) => polled?,
                Err(_) => {
                    let (who, what, seconds) = (self.user.clone(), what.to_owned(), patience.as_secs());
                    return Err(ClientError::NotSeen { who, what, seconds });
                }
            }
        }
    }

    /// Waits for an event by its id.
    ///
    /// # Errors
    /// As [`Session::wait_for`].
    pub async fn wait_for_event(&mut self, what: &str, event: &str, patience: Duration) -> Result<Value, ClientError> {
        self.wait_for(what, patience, |seen| {
            (seen.kind == Kind::Timeline && seen.event["event_id"] == event).then(|| seen.event.clone())
        })
        .await
    }

    async fn poll(&mut self) -> Result<(), ClientError> {
        const FILTER: &str = r#"{"room":{"timeline":{"limit":100}},"presence":{"types":[]}}"#;
        let mut query = vec![("filter", FILTER.to_owned())];
        if let Some(since) = &self.since {
            query.push(("since", since.clone()));
            query.push(("timeout", POLL_TIME.as_millis().to_string()));
        }
        let path = ["_matrix", "client", "v3", "sync"];
        let answer = self
            .server
            .ask(Method::GET, &path, |request| request.bearer_auth(self.token.expose()).query(&query))
            .await?;
        self.since = Some(text_at(&answer, "/next_batch", path.join("/"))?);
        for (section, kind, events) in [
            ("invite", Kind::Invite, "/invite_state/events"),
            ("join", Kind::Timeline, "/timeline/events"),
            ("join", Kind::Ephemeral, "/ephemeral/events"),
        ] {
            let Some(rooms) = answer.pointer(&format!("/rooms/{section}")).and_then(Value::as_object) else { continue };
            for (room, content) in rooms {
                let events = content.pointer(events).and_then(Value::as_array).into_iter().flatten();
                self.seen.extend(events.map(|event| Seen { room: room.clone(), kind, event: event.clone() }));
            }
        }
        Ok(())
    }

    /// Closes the user's account for good.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn deactivate(&self, password: &Secret) -> Result<(), ClientError> {
        let identifier = json!({ "type": "m.id.user", "user": self.user });
        let auth = json!({ "type": "m.login.password", "identifier": identifier, "password": password.expose() });
        let path = ["client", "v3", "account", "deactivate"];
        self.call(Method::POST, &path, Some(json!({ "auth": auth, "erase": true }))).await.map(|_| ())
    }
}

/// A new transaction id.
fn transaction() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn text_at(answer: &Value, pointer: &str, path: impl Into<String>) -> Result<String, ClientError> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| ClientError::Unexpected { path: path.into(), what: pointer.trim_start_matches('/').to_owned() })
}
