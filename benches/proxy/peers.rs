//! The proxies that are compared, how each is configured and started.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    load::{self, Target},
    options::Options,
    process::Process,
};

/// How long a peer may take until it answers for every name.
const START: Duration = Duration::from_secs(15);

/// One of the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// federation-proxy, as `cargo bench` built it
    FederationProxy,
    /// nginx
    Nginx,
    /// haproxy
    Haproxy,
    /// caddy
    Caddy,
}

/// What a peer's configuration is filled in with.
pub type Words = BTreeMap<&'static str, String>;

// === impl Peer ===

impl Peer {
    /// All of them, ours first.
    pub const ALL: [Self; 4] = [Self::FederationProxy, Self::Nginx, Self::Haproxy, Self::Caddy];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::FederationProxy => "federation-proxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
        }
    }

    /// Where the program is, if it is on this machine; `ours` in place of the one that cargo built.
    pub fn program(self, ours: Option<&Path>) -> Option<PathBuf> {
        if self == Self::FederationProxy {
            return Some(ours.unwrap_or(Path::new(env!("CARGO_BIN_EXE_federation-proxy"))).to_owned());
        }
        // Debian keeps nginx and haproxy where only root's PATH looks.
        let path = env::var_os("PATH").unwrap_or_default();
        let places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        places.map(|place| place.join(self.name())).find(|program| program.is_file())
    }

    /// What the program says of its version.
    pub fn version(self, program: &Path) -> Result<String> {
        let argument = match self {
            Self::FederationProxy => "--version",
            Self::Nginx | Self::Haproxy => "-v",
            Self::Caddy => "version",
        };
        let output = Command::new(program).arg(argument).output().context("cannot ask for the version")?;
        // nginx says it on standard error.
        let text = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
        // "nginx version: nginx/1.22.1", "HAProxy version 2.6.12-1 2026/10/17 - …", "2.6.2", "federation-proxy 0.1.0"
        let found = line.split([' ', '/']).find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(found.unwrap_or("unknown").to_owned())
    }

    /// The configuration with `@WORDS@` in it, and the name of its file.
    fn template(self) -> (&'static str, &'static str) {
        match self {
            Self::FederationProxy => (include_str!("peers/federation-proxy.toml"), "federation-proxy.toml"),
            Self::Nginx => (include_str!("peers/nginx.conf"), "nginx.conf"),
            Self::Haproxy => (include_str!("peers/haproxy.cfg"), "haproxy.cfg"),
            Self::Caddy => (include_str!("peers/Caddyfile"), "Caddyfile"),
        }
    }

    fn arguments(self, directory: &Path, file: &Path) -> Vec<String> {
        let (directory, file) = (directory.display().to_string(), file.display().to_string());
        let arguments: &[&str] = match self {
            Self::FederationProxy => &["--config", &file, "run"],
            Self::Nginx => &["-p", &directory, "-c", &file],
            Self::Haproxy => &["-db", "-f", &file],
            Self::Caddy => &["run", "--adapter", "caddyfile", "--config", &file],
        };
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    /// Starts the peer and waits until it answers for every name with the right upstream's words.
    pub async fn start(
        self,
        program: &Path,
        directory: &Path,
        words: &Words,
        target: &Target,
        options: &Options,
    ) -> Result<Process> {
        let (template, name) = self.template();
        let file = directory.join(name);
        fs::write(&file, fill(template, words)?)?;
        let log = directory.join(format!("{}.out", self.name()));
        let mut process =
            Process::start(program, &self.arguments(directory, &file), &options.under, options.proxy_core(), &log)?;
        let answered = tokio::time::timeout(START, answers(&mut process, target)).await;
        answered.context("it did not answer in time").flatten().map_err(|error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            error.context(format!("{} did not start; it said: {}", self.name(), said.trim()))
        })?;
        Ok(process)
    }
}

async fn answers(process: &mut Process, target: &Target) -> Result<()> {
    loop {
        match tokio::net::TcpStream::connect(target.address).await {
            Ok(_) => return load::prove(target).await,
            Err(_) if process.is_running() => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(_) => bail!("it stopped"),
        }
    }
}

/// Replaces `@WORD@`; a word that is not known is a mistake in the template.
fn fill(template: &str, words: &Words) -> Result<String> {
    let mut text = template.to_owned();
    for (word, value) in words {
        text = text.replace(&format!("@{word}@"), value);
    }
    // Comments may name the mark itself.
    let left = text.lines().find(|line| !line.trim_start().starts_with('#') && line.contains('@'));
    match left {
        Some(line) => bail!("nothing to fill in for {line:?}"),
        None => Ok(text),
    }
}

/// A free port on the loopback interface.
pub fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
