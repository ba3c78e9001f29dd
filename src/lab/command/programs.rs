//! The network's own programs, run by this executable: `cargo run` builds no other.

use std::ffi::OsString;

use clap::Subcommand;

use crate::{bridge, lab::program, proxy};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Become a program that ends with the lab
    Guard {
        /// The lab's process
        #[arg(long)]
        parent: u32,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// The network's reverse proxy
    FederationProxy(Box<proxy::command::Arguments>),
    /// An organisation's FHIR bridge
    FhirBridge(Box<bridge::command::Arguments>),
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Guard { parent, command } => program::guard(parent, &command),
        Command::FederationProxy(arguments) => proxy::command::run(*arguments),
        Command::FhirBridge(arguments) => bridge::command::run(*arguments),
    }
}
