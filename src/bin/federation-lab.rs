//! The program `federation-lab`.

use std::process::ExitCode;

use care_federation::{lab::command, service::failure};
use clap::Parser as _;

fn main() -> ExitCode {
    failure::finish("federation-lab", command::run(command::Arguments::parse()))
}
