//! What types cannot say: that the settings fit together.

use std::{collections::BTreeMap, path::Path};

use super::{PREFIX, Settings, values::is_name};
use crate::service::{
    failure::{Failure, Status},
    settings,
};

/// Most header fields that can be asked for: the parser's room for them is on the stack.
pub(crate) const MOST_HEADERS: usize = 256;

// === impl Settings ===

impl Settings {
    /// Loads and checks the settings.
    ///
    /// # Errors
    /// A [`Failure`] with status `Config` that names the file, line or variable, and the key.
    pub fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let loaded: Self = settings::load(PREFIX, file, ())?;
        loaded.check()?;
        Ok(loaded)
    }

    /// Checks what the types of the settings cannot say.
    ///
    /// # Errors
    /// A [`Failure`] with status `Config` that names the key.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_listeners()?;
        self.check_servers()?;
        self.check_sites()?;
        self.check_network()?;
        self.check_limits()
    }

    /// The server whose certificate goes to a client that names none.
    pub fn default_certificate(&self) -> Option<&str> {
        let first = || self.servers.iter().find(|(_, server)| server.certificate.is_some()).map(|(name, _)| name);
        self.default_server.as_ref().or_else(first).map(String::as_str)
    }

    fn check_listeners(&self) -> Result<(), Failure> {
        let listen = &self.listen;
        if listen.tls.is_empty() && listen.plain.is_empty() && listen.egress.is_empty() && self.static_sites.is_empty()
        {
            return Err(wrong("listen", "nothing to listen on")
                .remedy("Set listen.tls, listen.plain or listen.egress, for example tls = [\"[::]:8448\"]."));
        }
        if !listen.tls.is_empty() && self.default_certificate().is_none() {
            return Err(wrong("listen.tls", "no server has a certificate"));
        }
        if !listen.plain.is_empty() && self.servers.is_empty() {
            return Err(wrong("listen.plain", "there are no servers"));
        }
        let everywhere = [&listen.tls, &listen.plain, &listen.egress, &listen.admin];
        let sites = self.static_sites.values().map(|site| &site.listen);
        let mut seen = std::collections::HashSet::new();
        for address in everywhere.into_iter().chain(sites).flatten() {
            let any_port = matches!(address, crate::service::listeners::Address::Tcp(tcp) if tcp.port() == 0);
            if !any_port && !seen.insert(address) {
                return Err(wrong("listen", format!("{address} is there twice")));
            }
        }
        if self.workers == Some(0) || self.workers.is_some_and(|workers| workers > 1024) {
            return Err(wrong("workers", "expected 1 to 1024"));
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), Failure> {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        for (name, server) in &self.servers {
            let key = |field: &str| format!("servers.{name}{}{field}", if field.is_empty() { "" } else { "." });
            if server.certificate.is_some() != server.key.is_some() {
                return Err(wrong(&key(""), "`certificate` and `key` go together; one of them is missing"));
            }
            for host in std::iter::once(host_of(name)).chain(server.hosts.iter().map(String::as_str)) {
                if !is_name(host) {
                    return Err(wrong(&key("hosts"), format!("{host:?} is not a host name without a port")));
                }
                if let Some(other) = owners.insert(host.to_ascii_lowercase(), name) {
                    return Err(wrong(&key("hosts"), format!("{host:?} belongs to {other:?} already")));
                }
            }
            let is_address = |client: &String| client.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some());
            if server.client.as_ref().is_some_and(|client| !is_address(client)) {
                return Err(wrong(&key("client"), "expected an address such as https://vvt:8448"));
            }
        }
        match &self.default_server {
            Some(name) if self.servers.get(name).is_none_or(|server| server.certificate.is_none()) => {
                Err(wrong("default_server", format!("{name:?} is not a server with a certificate")))
            }
            _ => Ok(()),
        }
    }

    fn check_sites(&self) -> Result<(), Failure> {
        for (name, site) in &self.static_sites {
            if site.listen.is_empty() {
                return Err(wrong(&format!("static_sites.{name}.listen"), "nothing to listen on"));
            }
            if !site.root.is_dir() {
                return Err(wrong(
                    &format!("static_sites.{name}.root"),
                    format!("{} is not a directory", site.root.display()),
                ));
            }
        }
        Ok(())
    }

    fn check_network(&self) -> Result<(), Failure> {
        for name in self.policy.members.iter().flatten() {
            if !is_server_name(name) {
                return Err(wrong("policy.members", format!("{name:?} is not a server name")));
            }
        }
        for (host, member) in &self.egress.delegates {
            if !is_name(host) || !is_server_name(member) {
                return Err(wrong(
                    "egress.delegates",
                    format!("{host:?} = {member:?} is not a host and a server name"),
                ));
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let limits = &self.limits;
        let bounds = [
            ("header_bytes", limits.header_bytes, 1024, 1024 * 1024),
            ("header_count", limits.header_count, 1, MOST_HEADERS),
            ("connections", limits.connections, 1, 1 << 22),
            ("connections_per_address", limits.connections_per_address, 1, 1 << 22),
            ("requests", limits.requests, 1, 1 << 22),
            ("requests_per_address", limits.requests_per_address, 1, 1 << 22),
            ("streams_per_connection", limits.streams_per_connection as usize, 1, 10_000),
            ("handshakes_per_second", limits.handshakes_per_second as usize, 1, 10_000_000),
            ("idle_upstream_connections", limits.idle_upstream_connections, 0, 65_536),
            ("tunnels", limits.tunnels, 1, 1 << 22),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(wrong(&format!("limits.{key}"), format!("expected {least} to {most}, found {value}")));
            }
        }
        Ok(())
    }
}

/// The host of a server name, which may have a port (Matrix specification, appendix "Server name").
pub(crate) fn host_of(server_name: &str) -> &str {
    match server_name.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => server_name,
    }
}

/// Whether a text can be a server name: a host, and perhaps a port.
pub(crate) fn is_server_name(text: &str) -> bool {
    let host = host_of(text);
    is_name(host)
        || host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.contains(':'))
}

fn wrong(key: &str, problem: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Config, format!("{key}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        [listen]
        tls = ["[::]:8448"]
        plain = ["127.0.0.1:8008"]
        [servers.vvt]
        upstream = "http://127.0.0.1:8038"
        certificate = "cert.pem"
        key = "key.pem"
        hosts = ["vvt.localhost"]
        federation = "vvt:8448"
        client = "https://vvt:8448"
        [policy]
        members = ["vvt", "huisarts"]
        closed = ["openid-userinfo"]
        [egress.targets]
        "vvt:8448" = "127.0.0.1:8448"
        [limits]
        header_time = "5s"
    "#;

    fn checked(text: &str) -> Result<Settings, Failure> {
        let parsed: Settings = settings::parse_toml(text, "p.toml")?;
        parsed.check().map(|()| parsed)
    }

    #[test]
    fn the_example_is_right_and_survives_writing() {
        let example = checked(EXAMPLE).unwrap();
        let written = toml::to_string(&example).unwrap();
        assert_eq!(checked(&written).unwrap(), example);
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, message) in [
            (
                "hosts = [\"vvt.localhost\"]",
                "hosts = [\"VVT\"]",
                "servers.vvt.hosts: \"VVT\" belongs to \"vvt\" already",
            ),
            ("key = \"key.pem\"", "", "servers.vvt: `certificate` and `key` go together"),
            ("\"5s\"", "5", "p.toml:18: limits.header_time: expected a string"),
            ("\"5s\"", "\"5\"", "p.toml:18: limits.header_time: \"5\" is not a time"),
            ("header_time", "header_tim", "p.toml:18: limits.header_tim: no such setting"),
            ("openid-userinfo", "all", "policy.closed"),
            ("http://127.0.0.1:8038", "127.0.0.1:8038", "is not an upstream"),
            ("127.0.0.1:8008", "[::]:8448", "listen: [::]:8448 is there twice"),
            ("[listen]", "default_server = \"x\"\n[listen]", "default_server: \"x\" is not a server with"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let failure = checked(&EXAMPLE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(failure.contains(message), "{failure}");
        }
    }
}
