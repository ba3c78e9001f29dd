//! The configuration of a homeserver: federation verified against the network's CA, and nothing asked outside it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{install::Synapse, program::Program};
use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

/// What distinguishes one homeserver from another.
#[derive(Clone, Debug)]
pub struct Homeserver {
    /// Its server name: the part of a Matrix id after the colon.
    pub name: String,
    /// Where it keeps configuration, keys, database and media.
    pub directory: PathBuf,
    /// Its log file.
    pub log: PathBuf,
    /// Where it listens on 127.0.0.1, plain HTTP.
    pub port: u16,
    /// The address by which its own users reach it.
    pub client_address: String,
    /// The CA certificate that other homeservers are checked against; no other root counts.
    pub authority: PathBuf,
    /// The port of the HTTP CONNECT proxy on 127.0.0.1 through which it reaches the others.
    pub egress_port: u16,
    /// Registration files of application services.
    pub application_services: Vec<PathBuf>,
}

/// `homeserver.yaml`, as far as it differs from Synapse's defaults.
#[derive(Serialize)]
struct Configuration<'a> {
    server_name: &'a str,
    public_baseurl: &'a str,
    report_stats: bool,
    registration_shared_secret_path: PathBuf,
    macaroon_secret_key_path: PathBuf,
    form_secret_path: PathBuf,
    signing_key_path: PathBuf,
    trusted_key_servers: [&'static str; 0],
    suppress_key_server_warning: bool,
    federation_verify_certificates: bool,
    federation_custom_ca_list: [&'a Path; 1],
    ip_range_whitelist: [&'static str; 1],
    https_proxy: String,
    media_store_path: PathBuf,
    max_upload_size: &'static str,
    url_preview_enabled: bool,
    log_config: PathBuf,
    listeners: [Listener; 1],
    database: Database,
    federation: Retries,
    app_service_config_files: &'a [PathBuf],
    rc_message: Rate,
    rc_registration: Rate,
    rc_login: Logins,
    rc_joins: Joins,
    rc_joins_per_room: Rate,
    rc_invites: Invites,
    rc_room_creation: Rate,
    rc_federation: FederationRate,
    rc_media_create: Rate,
}

#[derive(Serialize)]
struct Listener {
    port: u16,
    bind_addresses: [&'static str; 1],
    #[serde(rename = "type")]
    kind: &'static str,
    x_forwarded: bool,
    resources: [Resources; 1],
}

#[derive(Serialize)]
struct Resources {
    names: [&'static str; 2],
}

#[derive(Serialize)]
struct Database {
    name: &'static str,
    args: DatabaseFile,
}

#[derive(Serialize)]
struct DatabaseFile {
    database: PathBuf,
}

/// Retries of what could not be delivered to another server. Synapse's own are made for an internet of strangers:
/// after an outage of 7 s they deliver 16 s later; these in 0.2 s.
#[derive(Serialize)]
struct Retries {
    client_timeout: &'static str,
    max_short_retry_delay: u32,
    max_long_retry_delay: &'static str,
    max_long_retries: u32,
    destination_min_retry_interval: &'static str,
    destination_max_retry_interval: &'static str,
    destination_retry_multiplier: u32,
}

/// Synapse limits even its administrators: ten messages and five log-ins at once. A lab is quicker than that.
#[derive(Clone, Copy, Serialize)]
struct Rate {
    per_second: u32,
    burst_count: u32,
}

#[derive(Serialize)]
struct Logins {
    address: Rate,
    account: Rate,
    failed_attempts: Rate,
}

#[derive(Serialize)]
struct Joins {
    local: Rate,
    remote: Rate,
}

#[derive(Serialize)]
struct Invites {
    per_room: Rate,
    per_user: Rate,
    per_issuer: Rate,
}

#[derive(Serialize)]
struct FederationRate {
    window_size: u32,
    sleep_limit: u32,
    sleep_delay: u32,
    reject_limit: u32,
    concurrent: u32,
}

const GENEROUS: Rate = Rate { per_second: 10_000, burst_count: 10_000 };

/// The logging of one homeserver: one file, put aside at 10 MB, three old ones kept.
const LOGGING: &str = "\
version: 1
formatters:
  precise:
    format: '%(asctime)s %(levelname)s %(name)s: %(request)s: %(message)s'
handlers:
  file:
    class: logging.handlers.RotatingFileHandler
    formatter: precise
    filename: FILE
    maxBytes: 10485760
    backupCount: 3
    encoding: utf8
loggers:
  synapse.storage.SQL:
    level: WARNING
root:
  level: INFO
  handlers: [file]
disable_existing_loggers: false
";

// === impl Homeserver ===

impl Homeserver {
    /// Where its configuration is.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("homeserver.yaml")
    }

    /// Where the shared secret is with which users are made.
    pub fn registration_secret(&self) -> PathBuf {
        self.directory.join("registration_shared_secret")
    }

    /// Writes its configuration and makes the secrets that it does not have yet.
    ///
    /// # Errors
    /// When its directory cannot be written.
    pub fn prepare(&self) -> Result<(), Failure> {
        files::make_directory(&self.directory)?;
        for secret in [self.registration_secret(), self.macaroon_secret(), self.form_secret()] {
            Secret::read_or_make(&secret, 32)?;
        }
        let logging = LOGGING.replace("FILE", &to_yaml(&self.log)?);
        files::write(&self.logging(), logging.as_bytes(), files::PUBLIC)?;
        let configuration = to_yaml(&self.configured())?;
        files::write(&self.configuration(), configuration.as_bytes(), files::PUBLIC)
    }

    /// The program that runs it. What it says before it logs to its own file goes to `output`.
    pub fn program(&self, synapse: &Synapse, output: PathBuf) -> Program {
        let own = ["--config-path".into(), self.configuration().into()];
        Program::new(self.name.clone(), synapse.command.iter().cloned().chain(own))
            .variable("PYTHONNOUSERSITE", "1")
            .offline()
            .output(output)
    }

    fn logging(&self) -> PathBuf {
        self.directory.join("logging.yaml")
    }

    fn macaroon_secret(&self) -> PathBuf {
        self.directory.join("macaroon_secret_key")
    }

    fn form_secret(&self) -> PathBuf {
        self.directory.join("form_secret")
    }

    fn configured(&self) -> Configuration<'_> {
        Configuration {
            server_name: &self.name,
            public_baseurl: &self.client_address,
            report_stats: false,
            registration_shared_secret_path: self.registration_secret(),
            macaroon_secret_key_path: self.macaroon_secret(),
            form_secret_path: self.form_secret(),
            signing_key_path: self.directory.join("signing.key"),
            trusted_key_servers: [],
            suppress_key_server_warning: true,
            federation_verify_certificates: true,
            federation_custom_ca_list: [&self.authority],
            // The other homeservers live on this machine; Synapse calls no private address otherwise.
            ip_range_whitelist: ["127.0.0.0/8"],
            https_proxy: format!("http://127.0.0.1:{}", self.egress_port),
            media_store_path: self.directory.join("media"),
            max_upload_size: "50M",
            url_preview_enabled: false,
            log_config: self.logging(),
            listeners: [Listener {
                port: self.port,
                bind_addresses: ["127.0.0.1"],
                kind: "http",
                x_forwarded: true,
                resources: [Resources { names: ["client", "federation"] }],
            }],
            database: Database {
                name: "sqlite3",
                args: DatabaseFile { database: self.directory.join("homeserver.db") },
            },
            federation: Retries {
                client_timeout: "20s",
                // A bare number is milliseconds; Synapse knows no unit for them.
                max_short_retry_delay: 500,
                max_long_retry_delay: "1s",
                max_long_retries: 600,
                destination_min_retry_interval: "1s",
                destination_max_retry_interval: "2s",
                destination_retry_multiplier: 1,
            },
            app_service_config_files: &self.application_services,
            rc_message: GENEROUS,
            rc_registration: GENEROUS,
            rc_login: Logins { address: GENEROUS, account: GENEROUS, failed_attempts: GENEROUS },
            rc_joins: Joins { local: GENEROUS, remote: GENEROUS },
            rc_joins_per_room: GENEROUS,
            rc_invites: Invites { per_room: GENEROUS, per_user: GENEROUS, per_issuer: GENEROUS },
            rc_room_creation: GENEROUS,
            rc_federation: FederationRate {
                window_size: 1000,
                sleep_limit: 10_000,
                sleep_delay: 10,
                reject_limit: 10_000,
                concurrent: 100,
            },
            rc_media_create: GENEROUS,
        }
    }
}

fn to_yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_yaml::to_string(value)
        .map(|text| text.trim_end().to_owned() + "\n")
        .map_err(|error| Failure::new(Status::Data, "cannot write this configuration as YAML").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homeserver(directory: &Path) -> Homeserver {
        Homeserver {
            name: "vvt".to_owned(),
            directory: directory.join("a: b"),
            log: directory.join("vvt: log"),
            port: 8038,
            client_address: "http://vvt.localhost:8008/".to_owned(),
            authority: directory.join("ca.pem"),
            egress_port: 3128,
            application_services: Vec::new(),
        }
    }

    #[test]
    fn certificates_are_verified_against_the_networks_authority_alone() {
        let directory = tempfile::tempdir().unwrap();
        let vvt = homeserver(directory.path());
        vvt.prepare().unwrap();
        let text = std::fs::read_to_string(vvt.configuration()).unwrap();
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(yaml["federation_verify_certificates"], serde_yaml::Value::Bool(true));
        assert_eq!(yaml["federation_custom_ca_list"][0].as_str(), vvt.authority.to_str());
        assert_eq!(yaml["trusted_key_servers"], serde_yaml::Value::Sequence(Vec::new()));
        assert_eq!(yaml["listeners"][0]["bind_addresses"][0].as_str(), Some("127.0.0.1"));
        let logging = std::fs::read_to_string(vvt.logging()).unwrap();
        let logging: serde_yaml::Value = serde_yaml::from_str(&logging).unwrap();
        assert_eq!(logging["handlers"]["file"]["filename"].as_str(), vvt.log.to_str());
    }

    #[test]
    fn secrets_are_made_once_and_never_stand_in_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let vvt = homeserver(directory.path());
        vvt.prepare().unwrap();
        let secret = Secret::read(&vvt.registration_secret()).unwrap();
        vvt.prepare().unwrap();
        assert_eq!(Secret::read(&vvt.registration_secret()).unwrap(), secret);
        let text = std::fs::read_to_string(vvt.configuration()).unwrap();
        assert!(!text.contains(secret.expose()) && text.contains("registration_shared_secret_path"));
    }
}
