//! Settings of the bridge.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    bridge::{directory, engine, page},
    fhir::{client, subscriptions},
    matrix::{homeserver, registration::Blueprint},
    service::{
        database,
        failure::{Failure, Status},
        files::{self, Base},
        listeners::Address,
        logs,
    },
};

/// Where the bridge listens unless it is told otherwise.
const STANDARD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1234);

/// All settings of `fhir-bridge`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where homeserver and FHIR clients reach the bridge.
    pub listen: Vec<Address>,
    /// Where the homeserver alone reaches the bridge, when it is on another host or in a container. FHIR is not served
    /// there, so that it may be another address than a loopback one without tokens for FHIR clients.
    pub homeserver_listen: Vec<Address>,
    /// Private address of health, metrics and web page; none when empty.
    pub admin: Vec<Address>,
    /// Directory of registration, state and embedded FHIR repository. By default systemd's `$STATE_DIRECTORY`, else
    /// `fhir-bridge` in the user's state directory.
    pub state_directory: Option<PathBuf>,
    /// The registration file that the homeserver has loaded. By default `registration.yaml` in the state directory;
    /// it is made if it is not there.
    pub registration: Option<PathBuf>,
    /// The address at which the homeserver reaches the bridge, for a registration that is made. By default the first
    /// in `homeserver_listen`, else in `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// PostgreSQL instead of SQLite files in the state directory; several bridges may share it.
    pub database: database::Settings,
    /// The homeserver.
    pub homeserver: homeserver::Settings,
    /// The FHIR side.
    pub fhir: FhirSettings,
    /// The care directory, where it is not the FHIR server itself.
    pub directory: directory::Settings,
    /// How work is done.
    pub engine: engine::Settings,
    /// The web page on the admin address.
    pub page: page::Settings,
    /// What is logged, and how.
    pub log: Logging,
}

/// The FHIR side: an embedded endpoint, or a server elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FhirSettings {
    /// A FHIR server elsewhere, instead of the embedded endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<client::settings::Settings>,
    /// The embedded endpoint's address as clients call it. By default `/fhir` at the first in `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// File with the tokens of clients and their scopes. Without it, everybody on this machine may use the endpoint,
    /// and it must not listen on another address than a loopback one.
    pub tokens_file: Option<PathBuf>,
    /// Whether what these clients read and write is written down as AuditEvents.
    pub audit: bool,
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// How the embedded endpoint calls the rest-hooks of its subscribers.
    pub hooks: subscriptions::Settings,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `auto`, `text`, `json` or `journald`.
    pub format: logs::Format,
    /// A level or filter, such as `info` or `info,care_federation=debug`.
    pub level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp(STANDARD)],
            homeserver_listen: Vec::new(),
            admin: vec![Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1235)))],
            state_directory: None,
            registration: None,
            url: None,
            database: database::Settings::default(),
            // The engine tries again itself, and looks first whether a call had its effect.
            homeserver: homeserver::Settings { patience_seconds: 0, ..homeserver::Settings::default() },
            fhir: FhirSettings::default(),
            directory: directory::Settings::default(),
            engine: engine::Settings::default(),
            page: page::Settings::default(),
            log: Logging::default(),
        }
    }
}

impl Default for FhirSettings {
    fn default() -> Self {
        Self {
            server: None,
            base: None,
            tokens_file: None,
            audit: true,
            body_bytes: 70 << 20,
            hooks: subscriptions::Settings::default(),
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: logs::Format::Auto, level: "info".to_owned() }
    }
}

// === impl Settings ===

impl Settings {
    /// Checks what a type alone does not say.
    ///
    /// # Errors
    /// A [`Failure`] that names the setting.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |text: &str| Err(Failure::new(Status::Config, text));
        if self.listen.is_empty() {
            return refuse("listen: at least one address is needed");
        }
        if self.engine.workers == 0 || self.engine.workers > 256 {
            return refuse("engine.workers: expected 1 to 256");
        }
        if self.engine.tries == 0 {
            return refuse("engine.tries: expected 1 or more");
        }
        if self.engine.lease_seconds < 3 {
            return refuse("engine.lease_seconds: expected 3 or more");
        }
        let is_picture = |avatar: &String| ruma::OwnedMxcUri::from(avatar.as_str()).is_valid();
        if !self.engine.bot_avatar.as_ref().is_none_or(is_picture) {
            return refuse("engine.bot_avatar: expected mxc://server/id");
        }
        let is_address = |uri: http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
        if !self.fhir_base().parse().is_ok_and(is_address) {
            return refuse("fhir.base: expected an address such as http://127.0.0.1:1234/fhir");
        }
        self.database.check()?;
        if self.engine.poll_seconds == 0 {
            return refuse("engine.poll_seconds: expected 1 or more");
        }
        if self.engine.patrol_seconds == 0 {
            return refuse("engine.patrol_seconds: expected 1 or more");
        }
        Ok(())
    }

    /// The state directory.
    ///
    /// # Errors
    /// When neither the setting nor the environment tells one.
    pub fn state(&self) -> Result<PathBuf, Failure> {
        match (&self.state_directory, env::var_os("STATE_DIRECTORY")) {
            (Some(directory), _) => Ok(directory.clone()),
            // systemd names several with colons; the first is the service's own.
            (None, Some(given)) => Ok(env::split_paths(&given).next().unwrap_or_default()),
            (None, None) => Ok(files::user_directory(Base::State)?.join("fhir-bridge")),
        }
    }

    /// The registration file.
    ///
    /// # Errors
    /// As [`Settings::state`].
    pub fn registration_file(&self) -> Result<PathBuf, Failure> {
        match &self.registration {
            Some(path) => Ok(path.clone()),
            None => Ok(self.state()?.join("registration.yaml")),
        }
    }

    /// The address at which the homeserver reaches the bridge.
    pub fn url(&self) -> String {
        self.url.clone().unwrap_or_else(|| reached(self.homeserver_listen.iter().chain(&self.listen)))
    }

    /// The embedded FHIR endpoint's address as clients call it.
    pub fn fhir_base(&self) -> String {
        self.fhir.base.clone().unwrap_or_else(|| format!("{}/fhir", reached(&self.listen)))
    }

    /// What a registration is made from.
    pub fn blueprint(&self) -> Blueprint {
        Blueprint { url: self.url(), ..Blueprint::default() }
    }
}

/// How a program on this machine reaches the first of these addresses that has a port.
fn reached<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> String {
    let with_port = |address: &Address| match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) | Address::Inherited(_) => None,
    };
    let mut first = addresses.into_iter().find_map(with_port).unwrap_or(STANDARD);
    if first.ip().is_unspecified() {
        first.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{first}")
}

/// The database of links and work in a state directory.
pub(super) fn state_file(directory: &Path) -> PathBuf {
    directory.join("bridge.sqlite")
}

/// The database of the embedded repository in a state directory.
pub(super) fn fhir_file(directory: &Path) -> PathBuf {
    directory.join("fhir.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_is_reached_where_it_listens_unless_told_otherwise() {
        let reached = |listen: &[&str], homeserver_listen: &[&str]| {
            let addresses =
                |texts: &[&str]| texts.iter().map(|text| Address::try_from((*text).to_owned()).unwrap()).collect();
            let settings = Settings {
                listen: addresses(listen),
                homeserver_listen: addresses(homeserver_listen),
                ..Settings::default()
            };
            (settings.url(), settings.fhir_base())
        };
        let pair = |url: &str, base: &str| (url.to_owned(), base.to_owned());
        assert_eq!(reached(&["127.0.0.1:1234"], &[]), pair("http://127.0.0.1:1234", "http://127.0.0.1:1234/fhir"));
        assert_eq!(
            reached(&["unix:/run/bridge", "[::1]:8080"], &["10.0.0.5:99"]),
            pair("http://10.0.0.5:99", "http://[::1]:8080/fhir")
        );
        assert_eq!(reached(&["[::]:8080"], &[]), pair("http://127.0.0.1:8080", "http://127.0.0.1:8080/fhir"));
        assert_eq!(
            reached(&["systemd:fhir"], &["unix:/run/as"]),
            pair("http://127.0.0.1:1234", "http://127.0.0.1:1234/fhir")
        );
        let mut told = Settings { url: Some("http://bridge:1".to_owned()), ..Settings::default() };
        told.fhir.base = Some("https://fhir.vvt.example/fhir".to_owned());
        assert_eq!((told.url(), told.fhir_base()), pair("http://bridge:1", "https://fhir.vvt.example/fhir"));
    }

    #[test]
    fn a_base_that_clients_cannot_call_is_refused() {
        let mut settings = Settings::default();
        settings.check().unwrap();
        for base in ["nonsense", "127.0.0.1:1234/fhir", "ftp://vvt/fhir", "http://vvt/fhir?a=b", ""] {
            settings.fhir.base = Some(base.to_owned());
            let refused = settings.check().unwrap_err().to_string();
            assert!(refused.starts_with("fhir.base: expected an address"), "{base}: {refused}");
        }
    }
}
