//! The command line of `federation-ca`.

mod authority;
mod enrolment;
mod show;

use std::{
    env, fmt,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

use crate::service::{
    command::Common,
    failure::{Failure, Status},
    files, logs,
};

use super::{Authority, HostName, LeafProfile};

/// The network's certificate authority: makes it, issues, renews and revokes certificates, and lets hosts enrol
#[derive(Debug, Parser)]
#[command(name = "federation-ca", version, about)]
pub struct Arguments {
    /// The directory with the keys and certificates [default: $STATE_DIRECTORY, else ~/.local/state/care-federation/ca]
    #[arg(long, value_name = "DIR", env = "FEDERATION_CA_DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the authority, or add names to it; what is there already stays
    Init(authority::Init),
    /// See to it that a host has a valid key and certificate here
    Issue(authority::Issue),
    /// Renew the certificates that are due: those that have lived two thirds of their life
    Renew(authority::Renew),
    /// Revoke a certificate, or all of a host, and sign the revocation list anew
    Revoke(authority::Revoke),
    /// Sign the revocation list anew
    Crl,
    /// Show the authority and what it issued
    Show(show::Show),
    /// Print the CA certificate, which everyone who verifies needs
    Bundle,
    /// Make a one-time token with which a host can enrol
    Token(enrolment::Token),
    /// Serve enrolment over EST (RFC 7030)
    Serve(enrolment::Serve),
    /// Get this host a certificate from an authority elsewhere, or renew it when it is due
    Enrol(enrolment::Enrol),
    #[command(flatten)]
    Common(Common),
}

/// A host and its further names.
#[derive(Debug, Args)]
struct Host {
    /// The host: a DNS name
    name: String,
    /// A further DNS name or IP address; may be given several times
    #[arg(long = "san", value_name = "NAME")]
    sans: Vec<String>,
}

// === impl Host ===

impl Host {
    fn leaf(&self) -> LeafProfile {
        LeafProfile::new(&self.name).with_sans(self.sans.iter().cloned())
    }
}

/// Carries a command out.
///
/// # Errors
/// With the sentence for the user and the exit status.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place(arguments.dir);
    if !matches!(arguments.command, Command::Serve(_)) {
        // What is not as it should be, on standard error; `serve` logs as it is told to.
        logs::start(logs::Format::Text, "warn")?;
    }
    match arguments.command {
        Command::Init(init) => init.run(&place.authority()?)?,
        Command::Issue(issue) => issue.run(&place.open()?)?,
        Command::Renew(renew) => renew.run(&place.open()?)?,
        Command::Revoke(revoke) => revoke.run(&place.open()?)?,
        Command::Crl => authority::sign_crl(&place.open()?)?,
        Command::Show(show) => show.run(&place.open()?)?,
        Command::Bundle => say(format_args!("{}", place.open()?.certificate_pem()?))?,
        Command::Token(token) => token.run(&place.open()?)?,
        Command::Serve(serve) => serve.run(&place.authority()?)?,
        Command::Enrol(enrol) => enrol.run(place.host()?)?,
        Command::Common(common) => common.run::<Arguments>()?,
    }
    Ok(())
}

/// Where the keys and certificates are.
struct Place(Option<PathBuf>);

// === impl Place ===

impl Place {
    fn open(&self) -> Result<Authority, Failure> {
        Authority::open(&self.authority()?)
    }

    /// The directory of an authority.
    fn authority(&self) -> Result<PathBuf, Failure> {
        self.or_default("ca")
    }

    /// The directory of a host that enrols elsewhere.
    fn host(&self) -> Result<PathBuf, Failure> {
        self.or_default("certificates")
    }

    fn or_default(&self, name: &str) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.0 {
            return Ok(directory.clone());
        }
        // systemd.exec(5): several state directories come with colons between them.
        let given = env::var("STATE_DIRECTORY").unwrap_or_default();
        match given.split(':').next() {
            Some(first) if !first.is_empty() => Ok(PathBuf::from(first)),
            _ => Ok(files::user_directory(files::Base::State)?.join(name)),
        }
    }
}

/// Prints to standard output. A reader that has gone away, as `head` does, is no mistake.
fn say(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Status::Io, "cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

/// The number of a group, given by number or by its name in `/etc/group`.
fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").map_err(|error| format!("cannot read /etc/group: {error}"))?;
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        if name == text { fields.nth(1)?.parse().ok() } else { None }
    });
    number.ok_or_else(|| format!("there is no group {text:?} in /etc/group; a number can be given too"))
}

/// Names with commas between them.
fn list(names: &[HostName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Status::Usage, what)
}
