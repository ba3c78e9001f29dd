//! The program `federation-ca`.

use std::process::ExitCode;

use care_federation::{pki::command, service::failure};
use clap::Parser as _;

fn main() -> ExitCode {
    failure::finish("federation-ca", command::run(command::Arguments::parse()))
}
