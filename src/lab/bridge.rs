//! The FHIR bridge of an organisation: its settings, and the registration by which its homeserver knows it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    places::Places,
    program::Program,
    supervisor::{Health, Service},
};
use crate::{
    bridge::command::Settings,
    matrix::Registration,
    service::{
        failure::{Failure, Status},
        files,
        listeners::Address,
        network::{Network, Organisation},
    },
};

/// What the names begin with under which bridges run and log.
pub const BRIDGE: &str = "bridge";

/// The bridge of one organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The server name of its homeserver.
    pub server: String,
    /// Where it keeps settings, registration and state.
    pub directory: PathBuf,
    /// Where homeserver and FHIR clients reach it on 127.0.0.1.
    pub port: u16,
    /// Where health and metrics are on 127.0.0.1.
    pub admin_port: u16,
    /// Where its homeserver listens on 127.0.0.1.
    pub homeserver_port: u16,
}

/// The name under which an organisation's bridge runs and logs.
pub fn program_name(server: &str) -> String {
    format!("{BRIDGE}-{server}")
}

/// The address of the FHIR endpoint at a port of this machine.
pub fn fhir_address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/fhir")
}

/// The bridges of a network: of each organisation that declares one.
pub fn all(places: &Places, network: &Network) -> Vec<Bridge> {
    network.organisations.iter().filter_map(|(name, organisation)| Bridge::of(places, name, organisation)).collect()
}

// === impl Bridge ===

impl Bridge {
    /// The bridge of an organisation, if it has one.
    pub fn of(places: &Places, server: &str, organisation: &Organisation) -> Option<Self> {
        Some(Self {
            server: server.to_owned(),
            directory: places.bridge(server),
            port: organisation.bridge_port?,
            admin_port: organisation.bridge_admin_port()?,
            homeserver_port: organisation.homeserver_port,
        })
    }

    /// The file by which its homeserver knows it.
    pub fn registration(&self) -> PathBuf {
        self.directory.join("registration.yaml")
    }

    /// Writes its settings, and sees to it that the registration says where it listens now; tokens are kept.
    ///
    /// # Errors
    /// When its directory cannot be written, or what stands there is no registration.
    pub fn prepare(&self) -> Result<(), Failure> {
        files::make_directory(&self.directory)?;
        let settings = self.settings()?;
        Registration::read_or_make_at(&self.registration(), &settings.blueprint())?;
        let text = toml::to_string(&settings)
            .map_err(|error| Failure::new(Status::Data, "cannot write the bridge's settings as TOML").because(error))?;
        files::write(&self.settings_file(), text.as_bytes(), files::PUBLIC)
    }

    /// The program to be kept running. It is well once homeserver and bridge reach each other.
    ///
    /// # Errors
    /// When the path of this executable is not known.
    pub fn service(&self, places: &Places) -> Result<Service, Failure> {
        let name = program_name(&self.server);
        let arguments = ["run".into(), "--config".into(), self.settings_file().into()];
        Ok(Service {
            program: Program::own(&name, "fhir-bridge", arguments)?.offline().output(places.log(&name)),
            health: Health { address: loopback(self.admin_port), host: "localhost".to_owned(), path: "/healthz" },
            logs: vec![places.log(&name)],
        })
    }

    fn settings_file(&self) -> PathBuf {
        self.directory.join("fhir-bridge.toml")
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings {
            listen: vec![Address::Tcp(loopback(self.port))],
            admin: vec![Address::Tcp(loopback(self.admin_port))],
            state_directory: Some(self.directory.clone()),
            registration: Some(self.registration()),
            ..Settings::default()
        };
        settings.homeserver.url = format!("http://127.0.0.1:{}", self.homeserver_port);
        settings.homeserver.server_name = self.server.parse().map_err(|error| {
            Failure::new(Status::Config, format!("{:?} is no name for a homeserver", self.server)).because(error)
        })?;
        settings.check()?;
        Ok(settings)
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge() -> (tempfile::TempDir, Bridge) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::new(Some(directory.path()), Some(directory.path())).unwrap();
        let mut bridges = all(&places, &Network::lab().unwrap());
        assert_eq!(bridges.len(), 1);
        (directory, bridges.remove(0))
    }

    #[test]
    fn what_the_bridge_reads_is_what_was_meant() {
        let (_directory, bridge) = bridge();
        bridge.prepare().unwrap();
        let text = std::fs::read_to_string(bridge.settings_file()).unwrap();
        let read: Settings = crate::service::settings::parse_toml(&text, "fhir-bridge.toml").unwrap();
        assert_eq!(read, bridge.settings().unwrap());
        assert_eq!(
            (read.listen[0].to_string(), read.admin[0].to_string()),
            ("127.0.0.1:1234".into(), "127.0.0.1:1235".into())
        );
        assert_eq!(
            (read.homeserver.url.as_str(), read.homeserver.server_name.as_str()),
            ("http://127.0.0.1:8038", "vvt")
        );
        let secret = Registration::read(&bridge.registration()).unwrap().as_token;
        assert!(!text.contains(secret.expose()));
    }

    #[test]
    fn at_another_port_the_registration_moves_and_keeps_its_tokens() {
        let (_directory, mut bridge) = bridge();
        bridge.prepare().unwrap();
        let before = Registration::read(&bridge.registration()).unwrap();
        bridge.port = 2234;
        bridge.prepare().unwrap();
        let after = Registration::read(&bridge.registration()).unwrap();
        assert_eq!(after.url.as_deref(), Some("http://127.0.0.1:2234"));
        assert_eq!(after, Registration { url: after.url.clone(), ..before });
    }
}
