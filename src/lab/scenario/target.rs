//! The network that the scenario is played on.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use reqwest::Certificate;
use serde::{Deserialize, Serialize};

use super::fhir::{FHIR, Fhir};
use crate::{
    lab::client::{Reach, Server},
    service::{
        failure::{Failure, Status},
        files,
        secrets::Secret,
        settings,
    },
};

/// Largest file of CA certificates that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// A running network, as `verify --target FILE` reads it. Relative paths start at the file's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The CA certificate(s) that every server must have its certificate from, PEM.
    pub certificate_authority: PathBuf,
    /// The network's HTTP CONNECT listener, `127.0.0.1:3128`. Default: its checks are left out.
    #[serde(default)]
    pub egress: Option<SocketAddr>,
    /// The servers by name; at least two.
    pub servers: BTreeMap<String, TargetServer>,
    /// The FHIR bridge of one of the servers. Default: its checks are left out.
    #[serde(default)]
    pub bridge: Option<BridgeTarget>,
    /// What is needed to play a homeserver outside the network. Default: its checks are left out.
    #[serde(default)]
    pub stranger: Option<StrangerTarget>,
}

/// One homeserver of the network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetServer {
    /// The address for clients and other servers. Default: `https://NAME:8448`.
    #[serde(default)]
    pub address: Option<String>,
    /// Where that address's host is, `127.0.0.1:8448`. Default: the system is asked.
    #[serde(default)]
    pub connect: Option<SocketAddr>,
    /// The address under which `/_synapse/admin` answers. Default: `address`.
    #[serde(default)]
    pub admin_address: Option<String>,
    /// A file with the homeserver's `registration_shared_secret`: users are made with it.
    #[serde(default)]
    pub registration_secret_file: Option<PathBuf>,
    /// A file with an administrator's access token: users are made with it where there is no shared secret.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// Its log file, for the report of a failure.
    #[serde(default)]
    pub log: Option<PathBuf>,
}

/// A FHIR bridge, as care systems reach it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeTarget {
    /// The base address of its FHIR endpoint, `http://127.0.0.1:1234/fhir`.
    pub fhir: String,
    /// A file with the bearer token to show there. Default: none is shown.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The bridge's log file, for the report of a failure.
    #[serde(default)]
    pub log: Option<PathBuf>,
}

/// What is needed to play a homeserver outside the network on this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrangerTarget {
    /// The command that starts a Synapse, without its own arguments.
    pub synapse: Vec<String>,
    /// A certificate of the network's CA, PEM, to be shown under a name that is not in it.
    pub certificate: PathBuf,
    /// The key of that certificate, PEM.
    pub key: PathBuf,
}

/// A target whose files have been read.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) servers: Vec<ReachedServer>,
    pub(super) authority: PathBuf,
    pub(super) roots_pem: String,
    pub(super) egress: Option<SocketAddr>,
    pub(super) bridge: Option<Fhir>,
}

/// One server of it.
#[derive(Debug)]
pub(super) struct ReachedServer {
    /// As clients and other servers reach it.
    pub(super) public: Server,
    /// As its administrator reaches it.
    pub(super) admin: Server,
    pub(super) access: Access,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) connect: Option<SocketAddr>,
}

/// With what users are made.
#[derive(Debug)]
pub(super) enum Access {
    /// The shared secret.
    Shared(Secret),
    /// An administrator's access token.
    Token(Secret),
}

// === impl Target ===

impl Target {
    /// Reads a target from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or says something else; names the line and the key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path, settings::LIMIT)?;
        let mut target: Self = settings::parse_toml(&text, &path.display().to_string())?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let anchor = |file: &mut PathBuf| *file = directory.join(&*file);
        anchor(&mut target.certificate_authority);
        for server in target.servers.values_mut() {
            let files = [&mut server.registration_secret_file, &mut server.admin_token_file, &mut server.log];
            files.into_iter().flatten().for_each(anchor);
        }
        if let Some(bridge) = &mut target.bridge {
            [&mut bridge.token_file, &mut bridge.log].into_iter().flatten().for_each(anchor);
        }
        if let Some(stranger) = &mut target.stranger {
            anchor(&mut stranger.certificate);
            anchor(&mut stranger.key);
        }
        if target.servers.len() < 2 {
            return Err(Failure::new(
                Status::Config,
                format!("{}: servers: two at least are needed to federate", path.display()),
            ));
        }
        Ok(target)
    }

    /// The log file of each server that has one, and of the bridge.
    pub fn logs(&self) -> BTreeMap<String, PathBuf> {
        let servers = self.servers.iter().map(|(name, server)| (name.clone(), server.log.clone()));
        let bridge = self.bridge.iter().map(|bridge| (FHIR.to_owned(), bridge.log.clone()));
        servers.chain(bridge).filter_map(|(name, log)| Some((name, log?))).collect()
    }
}

// === impl Reached ===

impl Reached {
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        let authority = std::path::absolute(&target.certificate_authority)?;
        let roots_pem = files::read_text(&authority, LIMIT)?;
        let roots = Certificate::from_pem_bundle(roots_pem.as_bytes())
            .ok()
            .filter(|roots| !roots.is_empty())
            .ok_or_else(|| Failure::new(Status::Data, format!("{} holds no certificate", authority.display())))?;
        let servers = target.servers.iter().map(|(name, server)| ReachedServer::new(name, server, &roots));
        let servers = servers.collect::<anyhow::Result<Vec<_>>>()?;
        let bridge = target.bridge.as_ref().map(|bridge| Fhir::new(bridge, &roots)).transpose()?;
        Ok(Self { servers, authority, roots_pem, egress: target.egress, bridge })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.public.name.clone()).collect()
    }
}

// === impl ReachedServer ===

impl ReachedServer {
    fn new(name: &str, server: &TargetServer, roots: &[Certificate]) -> anyhow::Result<Self> {
        let address = server.address.clone().unwrap_or_else(|| format!("https://{name}:8448"));
        let reach = Reach { roots: roots.to_vec(), connect: server.connect };
        let public = Server::new(name, &address, &reach)?;
        let admin = match &server.admin_address {
            Some(address) => Server::new(name, address, &Reach { roots: roots.to_vec(), connect: None })?,
            None => public.clone(),
        };
        let access = match (&server.registration_secret_file, &server.admin_token_file) {
            (Some(file), _) => Access::Shared(Secret::read(file)?),
            (None, Some(file)) => Access::Token(Secret::read(file)?),
            (None, None) => {
                let text = format!("servers.{name}: neither registration_secret_file nor admin_token_file is set");
                return Err(Failure::new(Status::Config, text).into());
            }
        };
        let (host, port) = public.place();
        Ok(Self { public, admin, access, host, port, connect: server.connect })
    }

    /// A TCP connection to its public address.
    pub(super) async fn dial(&self) -> std::io::Result<tokio::net::TcpStream> {
        match self.connect {
            Some(address) => tokio::net::TcpStream::connect(address).await,
            None => tokio::net::TcpStream::connect((self.host.as_str(), self.port)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_files_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("target.toml");
        let text = "certificate_authority = \"ca.pem\"\n[servers.a]\nadmin_token_file = \"a.token\"\n[servers.b]\n\
                    [bridge]\nfhir = \"http://127.0.0.1:1234/fhir\"\ntoken_file = \"fhir.token\"\nlog = \"bridge.log\"\n";
        std::fs::write(&path, text).unwrap();
        let target = Target::read(&path).unwrap();
        assert_eq!(target.certificate_authority, directory.path().join("ca.pem"));
        assert_eq!(target.servers["a"].admin_token_file, Some(directory.path().join("a.token")));
        assert_eq!(target.bridge.as_ref().unwrap().token_file, Some(directory.path().join("fhir.token")));
        assert_eq!(target.logs()[FHIR], directory.path().join("bridge.log"));
    }

    #[test]
    fn mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("target.toml");
        for (text, message) in [
            ("certificate_authority = \"x\"\n[servers.a]\n", "two at least"),
            ("certificate_authority = \"x\"\n[servers.a]\nconnect = \"here\"\n", "servers.a.connect"),
            ("certificate_autority = \"x\"\n", "certificate_autority"),
        ] {
            std::fs::write(&path, text).unwrap();
            let failure = Target::read(&path).unwrap_err().to_string();
            assert!(failure.contains(message), "{failure}");
        }
    }
}
