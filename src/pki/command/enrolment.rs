//! `token`, `serve`, `enrol`.

use std::path::{Path, PathBuf};

use clap::Args;
use time::Duration;
use tokio::runtime::Runtime;

use crate::{
    pki::{
        Authority, Clock, LeafProfile, Outcome, PairStore,
        est::{Client, Options, Server, Trust, parse_fingerprint},
        loopback, readable,
    },
    service::{
        failure::{Failure, Status},
        files,
        listeners::{Address, Inherited},
        logs,
        secrets::Secret,
        signals,
    },
};

use super::{Host, group, list, say};

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    host: Host,
    /// How many hours it can be used
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=2160))]
    hours: i64,
    /// Write it to a file that only its owner may read, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen: ADDRESS:PORT, unix:PATH or systemd:NAME; may be given several times
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8449", env = "FEDERATION_CA_LISTEN")]
    listen: Vec<Address>,
    /// The name that hosts call this server by; it must be one that the authority may certify
    #[arg(long, value_name = "NAME", default_value = "localhost", env = "FEDERATION_CA_NAME")]
    name: String,
    /// A further name of this server; may be given several times
    #[arg(long = "san", value_name = "NAME")]
    sans: Vec<String>,
    /// A private address for /healthz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "FEDERATION_CA_ADMIN")]
    admin: Option<Address>,
    /// Also renew the certificates in the directory when they are due
    #[arg(long)]
    renew: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: logs::Format,
    /// What is logged: a filter such as `info` or `debug,hyper=warn`
    #[arg(long, default_value = "info")]
    log_level: String,
}

#[derive(Debug, Args)]
pub(super) struct Enrol {
    #[command(flatten)]
    host: Host,
    /// The enrolment server: https://NAME:PORT
    #[arg(long, value_name = "URL")]
    server: String,
    /// The CA certificate to trust (PEM) [default: ca.pem in the directory, from the last time]
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the CA certificate, for the first contact
    #[arg(long, value_name = "HEX", value_parser = parse_fingerprint)]
    fingerprint: Option<[u8; 32]>,
    /// The file with the one-time token, for the first certificate
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The group that may read the key, by name or number
    #[arg(long, value_parser = group)]
    group: Option<u32>,
    /// Renew also when it is not due
    #[arg(long)]
    force: bool,
}

// === impl Token ===

impl Token {
    pub(super) fn run(self, authority: &Authority) -> Result<(), Failure> {
        let (token, grant) = authority.make_token(&self.host.leaf(), Duration::hours(self.hours))?;
        // Only the token goes to standard output, so that a script can take it.
        eprintln!("A token for one certificate for {}, until {}.", list(&grant.names), readable(grant.expires));
        match &self.out {
            Some(path) => {
                files::write(path, token.expose().as_bytes(), files::SECRET)?;
                eprintln!("It is in {}.", path.display());
            }
            None => say(format_args!("{}\n", token.expose()))?,
        }
        let host = &self.host.name;
        let fingerprint = authority.certificate().fingerprint();
        eprintln!("On the host, with the token in a file that only its owner may read:");
        eprintln!(
            "  federation-ca enrol {host} --server https://NAME:8449 --token-file FILE --fingerprint {fingerprint}"
        );
        Ok(())
    }
}

// === impl Serve ===

impl Serve {
    pub(super) fn run(self, directory: &Path) -> Result<(), Failure> {
        logs::start(self.log_format, &self.log_level)?;
        let mut inherited = Inherited::take();
        let permitted = Authority::open(directory)?.permitted();
        if self.name.parse().is_ok_and(|name| !permitted.allows(&name)) {
            return Err(super::usage(format!(
                "this server cannot be called {}: the authority is confined to {permitted}",
                self.name
            ))
            .remedy("Choose a name below one of those with --name, or add it with `federation-ca init --name NAME`."));
        }
        let leaf = LeafProfile::new(self.name).with_sans(self.sans).with_sans(loopback().map(|name| name.to_string()));
        let options = Options { leaf, listen: self.listen, admin: self.admin, renew: self.renew };
        let server = Server::open(directory, options, &mut inherited)?;
        for address in server.addresses() {
            tracing::info!(%address, "serving enrolment (EST)");
        }
        runtime()?.block_on(async {
            let stop = signals::stop_token()?;
            server.run(stop).await
        })
    }
}

// === impl Enrol ===

impl Enrol {
    pub(super) fn run(self, directory: PathBuf) -> Result<(), Failure> {
        let token = self.token_file.as_deref().map(Secret::read).transpose()?;
        let trust = self.ca.map(Trust::File).or(self.fingerprint.map(Trust::Fingerprint));
        let leaf = self.host.leaf().with_group(self.group);
        let client = Client { directory, server: self.server, trust, leaf, clock: Clock::system() };
        let outcome = runtime()?.block_on(client.enrol(token.as_ref(), self.force))?;
        let certificate = outcome.certificate();
        let (names, until) = (list(certificate.names()), readable(certificate.not_after()));
        match &outcome {
            Outcome::Issued(_) => say(format_args!("Got a certificate for {names}, valid until {until}:\n"))?,
            Outcome::StillValid(_) => say(format_args!(
                "The certificate for {names} is valid until {until} and not due before {}; nothing to do:\n",
                readable(certificate.due())
            ))?,
        }
        let pairs = PairStore::new(client.directory.join("certs"));
        let name = client.leaf.name.to_ascii_lowercase();
        say(format_args!("  {}\n", pairs.certificate_path(&name).display()))?;
        say(format_args!("  {}\n", pairs.key_path(&name).display()))?;
        Ok(())
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| Failure::new(Status::Unavailable, "cannot start the runtime").because(error))
}
