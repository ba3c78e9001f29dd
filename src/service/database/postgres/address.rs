//! Where PostgreSQL is, how it is trusted, and with how many connections.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::Tls;
use crate::service::failure::{Failure, Status};

/// How long a connection may take to come about, unless the address says so.
const CONNECTING: Duration = Duration::from_secs(10);
/// After how much silence the other side is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Fewest connections: for each of two parts one that writes and one that reads.
const FEWEST: usize = 4;

/// A PostgreSQL database, in place of SQLite files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address: `postgresql:///bridge?host=/run/postgresql` or `postgresql://user@db.example.nl/bridge`. Without it
    /// state is kept in SQLite files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with the password. Without it `$PGPASSFILE` is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The authorities that the server's certificate may come from (PEM). Without it, those of this system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Connections at most.
    pub connections: usize,
    /// How long a statement may take, in seconds.
    pub statement_seconds: u64,
}

/// An address as it is used.
pub(super) struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: Tls,
    /// For people: without a password.
    pub(super) place: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, password_file: None, ca_file: None, connections: 10, statement_seconds: 30 }
    }
}

// === impl Settings ===

impl Settings {
    /// Checks what a type alone does not say.
    ///
    /// # Errors
    /// A [`Failure`] that names the setting.
    pub fn check(&self) -> Result<(), Failure> {
        if self.connections < FEWEST {
            return Err(refuse(format!("connections: expected {FEWEST} or more")));
        }
        if !(1..=3600).contains(&self.statement_seconds) {
            return Err(refuse("statement_seconds: expected 1 to 3600"));
        }
        match &self.url {
            Some(_) => self.address().map(drop),
            None => Ok(()),
        }
    }

    /// Reads the address and prepares what it needs.
    pub(super) fn address(&self) -> Result<Address, Failure> {
        let url = self.url.as_deref().ok_or_else(|| refuse("url: an address is needed"))?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refuse("url: expected postgresql://…"));
        }
        let (url, mode) = split_mode(url);
        // The parser's own words may repeat what it read; only where it stopped is told.
        let mut config: tokio_postgres::Config = url
            .parse()
            .map_err(|_| refuse("url: not an address of PostgreSQL, or an option that is not known here"))?;
        if config.get_password().is_some() {
            return Err(refuse("url: a password must not stand in the address")
                .remedy("Put it into a file of mode 0600 and name that in database.password_file."));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("url: a host or the directory of a socket is needed (?host=/run/postgresql)"));
        }
        let is_remote = !config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let tls = match mode.as_deref() {
            _ if !is_remote => Tls::none(),
            Some("disable") => Tls::none(),
            mode => Tls::verified(mode, self.ca_file.as_deref())?,
        };
        config
            .ssl_mode(if tls.is_none() { SslMode::Disable } else { SslMode::Require })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE / 3)
            .keepalives_retries(3)
            .tcp_user_timeout(KEEPALIVE * 2);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTING);
        }
        if config.get_application_name().is_none() {
            config.application_name("fhir-bridge");
        }
        let place = place(&config);
        Ok(Address { config, tls, place })
    }
}

/// Takes `sslmode` out of an address: the parser does not know all of its values.
fn split_mode(url: &str) -> (String, Option<String>) {
    let Some((before, options)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (modes, rest): (Vec<&str>, Vec<&str>) = options.split('&').partition(|option| option.starts_with("sslmode="));
    let mode = modes.last().and_then(|mode| mode.split_once('=')).map(|(_, mode)| mode.to_owned());
    (format!("{before}?{}", rest.join("&")), mode)
}

/// Who and where, for people.
fn place(config: &tokio_postgres::Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<String> = hosts.chain(config.get_hostaddrs().iter().map(ToString::to_string)).collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("its user's own");
    format!("{name} on {}", hosts.join(", "))
}

pub(super) fn refuse(text: impl AsRef<str>) -> Failure {
    Failure::new(Status::Config, format!("database.{}", text.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, Failure> {
        Settings { url: Some(url.to_owned()), ..Settings::default() }.address()
    }

    #[test]
    fn an_address_says_where_and_never_with_which_password() {
        let found = address("postgresql:///bridge?host=/run/postgresql").unwrap();
        assert!(found.tls.is_none());
        assert_eq!(found.place, "bridge on /run/postgresql");
        let found = address("postgres://anna@db.example.nl:5433/bridge?sslmode=disable").unwrap();
        assert!(found.tls.is_none());
        assert_eq!((found.place.as_str(), found.config.get_ports()), ("bridge on db.example.nl", &[5433][..]));
        for (wrong, word) in [
            ("postgres://anna:geheim@db/bridge", "password"),
            ("postgres:///bridge", "host"),
            ("postgres://db/bridge?sslmode=prefer", "sslmode"),
            ("postgres://db/bridge?sslmode=require", "ca_file"),
            ("postgres://db/bridge?nonsense=1", "not known"),
            ("host=/run/postgresql", "postgresql://"),
        ] {
            let failure = address(wrong).err().unwrap();
            assert!(failure.to_string().contains(word), "{wrong}: {failure}");
            assert!(!format!("{failure:?}").contains("geheim"));
        }
    }
}
