//! Settings of `federation-proxy`: one TOML file, `FEDERATION_PROXY_…` variables, and arguments.
//!
//! Unknown keys are errors. Times are texts with a unit (`500ms`, `10s`, `2m`, `1h`), sizes are bytes.

mod check;
mod limits;
mod values;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::check::{MOST_HEADERS, host_of, is_server_name};
pub use self::{
    limits::Limits,
    values::{HostPort, Period, Upstream},
};
use crate::service::{listeners::Address, logs::Format};

/// Prefix of the environment variables that are settings.
pub const PREFIX: &str = "FEDERATION_PROXY_";

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where log lines go.
    pub log: Log,
    /// Threads that carry traffic, each with its own connections. Default: one for each core that this process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The server whose certificate a client gets that names none (no SNI). Default: the first in alphabetical order
    /// that has a certificate. Such a client is routed by its `Host` all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_server: Option<String>,
    /// Where to listen.
    pub listen: Listen,
    /// The homeservers behind this proxy, by server name: the part of a Matrix id after the colon.
    pub servers: BTreeMap<String, Server>,
    /// Directories that are served as they are, such as Element Web, by a name for logs and metrics.
    pub static_sites: BTreeMap<String, StaticSite>,
    /// Who may federate with the servers behind this proxy.
    pub policy: Policy,
    /// What the homeservers behind this proxy may reach.
    pub egress: Egress,
    /// Bounds on what a client may take.
    pub limits: Limits,
}

/// Where log lines go and how much there is of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `auto` (the journal under systemd, else text), `text`, `json` or `journald`. Default: `auto`.
    pub format: Format,
    /// A filter such as `info` or `info,federation_proxy=debug`. Default: `info`.
    pub level: String,
    /// Whether each request gets a line. It never holds a query string, so no access token. Default: true.
    pub access: bool,
}

/// Where to listen. Each is a list of `127.0.0.1:8008`, `[::]:8448` (both address families), `unix:/path` or
/// `systemd:NAME` (a socket unit's `FileDescriptorName=`). All are empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// TLS, by server name: federation (8448), discovery (443) and clients.
    pub tls: Vec<Address>,
    /// Plain HTTP, by `Host`: browsers on this machine (8008).
    pub plain: Vec<Address>,
    /// HTTP CONNECT for the homeservers' `https_proxy` (3128). Keep it private.
    pub egress: Vec<Address>,
    /// `/healthz` and `/metrics`. Keep it private.
    pub admin: Vec<Address>,
}

/// A homeserver behind this proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it listens: `http://127.0.0.1:8038` or `unix:/run/synapse/vvt.sock`.
    pub upstream: Upstream,
    /// Its certificate and the chain up to the CA, PEM. A relative path is looked for in `$CREDENTIALS_DIRECTORY`
    /// first. Without a certificate the server is only reachable in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The key of the certificate, PEM. Found as the certificate is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Further names that it answers to, beside its server name, without port: in SNI and in `Host`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What `/.well-known/matrix/server` says: `name:port`. Default: nothing, the answer is 404.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<HostPort>,
    /// The base address that `/.well-known/matrix/client` gives, such as `https://vvt:8448`. Default: nothing (404).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Whether `/_synapse/admin` can be reached through the proxy. Default: false, the answer is 403.
    #[serde(default)]
    pub admin_api: bool,
}

/// A directory that is served as it is, with the headers that Element Web's documentation asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticSite {
    /// Where to listen, plain HTTP, as in [`Listen`].
    pub listen: Vec<Address>,
    /// The directory.
    pub root: PathBuf,
    /// What `/config.json` answers. Default: the file in the directory, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<toml::Table>,
}

/// Who may federate with the servers behind this proxy. Without `members` and `members_file` everybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Server names of the network's members. Default: not set. An empty list admits nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
    /// A file with more members, watched: one server name a line, `#` starts a comment; or a declaration of the
    /// network such as `network.toml`, whose organisations are the members. Default: not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_file: Option<PathBuf>,
    /// What the specification leaves unauthenticated and this network closes. Default: nothing.
    pub closed: Vec<Unauthenticated>,
}

/// An endpoint between servers that needs no signature by the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unauthenticated {
    /// `/_matrix/key`: a server's signing keys. Members need them too, so closing this stops federation over this
    /// address.
    Keys,
    /// `/_matrix/federation/v1/version`.
    Version,
    /// `/_matrix/federation/v1/openid/userinfo`: asked by services to which a user gave an OpenID token.
    OpenidUserinfo,
    /// `/_matrix/federation/v1/3pid/onbind`: told by identity servers.
    ThirdPartyOnbind,
}

/// What the homeservers behind this proxy may reach through HTTP CONNECT. Everything else is refused with 403.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// The members' federation endpoints: the name and port that a homeserver asks for, and where that is. Either an
    /// address (`"vvt:8448" = "127.0.0.1:8448"`), or a name and port that the system resolves at each connection.
    /// A target whose host is not a member at the moment is refused. Empty by default.
    pub targets: BTreeMap<HostPort, HostPort>,
    /// Hosts that act for a member under another name, because of `.well-known/matrix/server`: `host = "member"`.
    /// Empty by default.
    pub delegates: BTreeMap<String, String>,
}

// === impl Log ===

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::default(), level: "info".to_owned(), access: true }
    }
}

// === impl Server ===

impl Server {
    /// A server with nothing but an upstream.
    pub fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            certificate: None,
            key: None,
            hosts: Vec::new(),
            federation: None,
            client: None,
            admin_api: false,
        }
    }
}
