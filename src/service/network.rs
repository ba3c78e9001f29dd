//! The declaration of the network: which organisations there are and where they listen.
//!
//! `nix/network.toml` is the lab's; the same format describes any other network.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{failure::Failure, settings};

/// The lab's declaration, built in so that the programs need no file beside them.
pub const LAB: &str = include_str!("../../nix/network.toml");

/// A network of organisations that federate behind one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Where the proxy listens.
    pub proxy: ProxyPorts,
    /// The organisations by server name: the part of a Matrix id after the colon, and a DNS name.
    pub organisations: BTreeMap<String, Organisation>,
}

/// The ports of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyPorts {
    /// TLS, by server name: federation and clients.
    pub federation_port: u16,
    /// TLS, where other homeservers look for `.well-known/matrix/server` first.
    pub discovery_port: u16,
    /// Plain HTTP by `Host`, for browsers on this machine.
    pub client_port: u16,
    /// HTTP CONNECT for the homeservers' own calls to the network.
    pub egress_port: u16,
}

/// One organisation of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// The name that people see.
    pub display_name: String,
    /// Where its homeserver listens, plain HTTP, behind the proxy.
    pub homeserver_port: u16,
    /// Where its Element Web is served, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Where its FHIR bridge listens, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_port: Option<u16>,
    /// Where that bridge's health and metrics are, if not at the port after [`Organisation::bridge_port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_admin_port: Option<u16>,
}

// === impl Organisation ===

impl Organisation {
    /// Where the health and metrics of its FHIR bridge are, if it has one: as declared, else the port after the
    /// bridge's own. `None` also where there is no port after it.
    pub fn bridge_admin_port(&self) -> Option<u16> {
        let bridge = self.bridge_port?;
        self.bridge_admin_port.or_else(|| bridge.checked_add(1))
    }
}

// === impl Network ===

impl Network {
    /// The lab's own network.
    ///
    /// # Errors
    /// Never for the declaration as committed; a test holds that.
    pub fn lab() -> Result<Self, Failure> {
        settings::parse_toml(LAB, "nix/network.toml")
    }

    /// Reads a declaration from a file.
    ///
    /// # Errors
    /// When the file cannot be read or is not a declaration; names file, line and key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = super::files::read_text(path, settings::LIMIT)?;
        settings::parse_toml(&text, &path.display().to_string())
    }

    /// The server names of all organisations, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.organisations.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_has_the_three_organisations_of_the_original() {
        let lab = Network::lab().unwrap();
        assert_eq!(lab.names().collect::<Vec<_>>(), ["apotheek", "huisarts", "vvt"]);
        assert_eq!(lab.proxy.federation_port, 8448);
        assert_eq!(lab.organisations["vvt"].client_port, Some(8003));
    }

    #[test]
    fn a_wrong_declaration_is_refused_with_its_line() {
        let wrong = LAB.replace("homeserver_port = 8028", "homeserver_port = \"8028\"");
        let failure = settings::parse_toml::<Network>(&wrong, "network.toml").unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("network.toml:16") && text.contains("organisations.huisarts.homeserver_port"), "{text}");
    }
}
