//! The program `fhir-bridge`.

use std::process::ExitCode;

use care_federation::{bridge::command, service::failure};
use clap::Parser as _;

fn main() -> ExitCode {
    failure::finish("fhir-bridge", command::run(command::Arguments::parse()))
}
