//! The program `fhir-bridge`: its commands and settings.

mod inspect;
mod registration;
mod relocate;
mod serve;
mod settings;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

pub use settings::{FhirSettings, Logging, Settings};

use crate::service::{command::Common, failure::Failure, settings as loading};

/// What the environment variables of the settings begin with.
pub const PREFIX: &str = "FHIR_BRIDGE_";

/// Carries care teams, conversations and messages between FHIR and Matrix, both ways
///
/// Without a configuration it makes a registration for the homeserver, keeps its state in SQLite and serves an
/// embedded FHIR R4 endpoint at http://127.0.0.1:1234/fhir.
#[derive(Debug, Parser)]
#[command(name = "fhir-bridge", version)]
pub struct Arguments {
    /// Settings file (TOML); FHIR_BRIDGE_… variables and options win over it
    #[arg(long, short, global = true, value_name = "FILE", env = "FHIR_BRIDGE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Settings that can be given on the command line.
#[derive(Clone, Debug, Default, Args, Serialize)]
struct Options {
    /// Directory of registration, state and embedded FHIR repository
    #[arg(long, global = true, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// Registration file that the homeserver has loaded
    #[arg(long, global = true, value_name = "FILE")]
    registration: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Run,
    /// Make the registration file if it is not there, and say what to put into homeserver.yaml
    Registration {
        /// Where one is there that names another `url` than the settings, write that into it; its tokens stay
        #[arg(long)]
        readdress: bool,
    },
    /// Check settings and registration, and whether homeserver and bridge reach each other
    CheckConfig {
        /// Do not ask the homeserver
        #[arg(long)]
        offline: bool,
    },
    /// Show what is linked, what is to be done, and what somebody must look at
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put parked work back to its place
    Retry {
        /// Number of the work, as `status` shows it; without it, all
        number: Option<i64>,
    },
    /// Compare both sides, print the differences and repair them
    Reconcile {
        /// One team or conversation, for example CommunicationRequest/1; without it, everything
        resource: Option<String>,
        /// Only print
        #[arg(long)]
        dry_run: bool,
    },
    /// Write what the bridge knows as lines of JSON: rooms, messages and their resources
    Export,
    /// Move state and embedded FHIR repository from SQLite files to an empty PostgreSQL, while no bridge runs
    Move {
        /// Address, such as postgresql://user@db.example.nl/bridge; without it, that of the settings
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
        /// File with its password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Authorities that its certificate may come from (PEM)
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    #[command(flatten)]
    Common(Common),
}

/// Runs the program.
///
/// # Errors
/// What a person needs to know; see [`crate::service::failure::finish`].
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let command = arguments.command.unwrap_or(Command::Run);
    if let Command::Common(common) = &command {
        return common.run::<Arguments>();
    }
    let settings = load(arguments.config.as_deref(), &arguments.options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Run => serve::run(settings).await,
            Command::Registration { readdress } => registration::make(&settings, readdress),
            Command::CheckConfig { offline } => inspect::check(&settings, offline).await,
            Command::Status { json } => inspect::status(&settings, json).await,
            Command::Retry { number } => inspect::retry(&settings, number).await,
            Command::Reconcile { resource, dry_run } => {
                inspect::reconcile(&settings, resource.as_deref(), !dry_run).await
            }
            Command::Export => inspect::export(&settings).await,
            Command::Move { to, password_file, ca_file } => {
                relocate::relocate(&settings, relocate::Destination { url: to, password_file, ca_file }).await
            }
            Command::Common(_) => Ok(()),
        }
    })
}

fn load(file: Option<&std::path::Path>, options: &Options) -> Result<Settings, Failure> {
    let settings: Settings = loading::load(PREFIX, file, options)?;
    settings.check()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_means_run() {
        let arguments = Arguments::try_parse_from(["fhir-bridge", "--state-directory", "/x"]).unwrap();
        assert!(arguments.command.is_none());
        assert_eq!(arguments.options.state_directory.as_deref(), Some(std::path::Path::new("/x")));
    }
}
