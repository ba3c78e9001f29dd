//! The program `federation-proxy`.

use std::process::ExitCode;

use care_federation::{
    proxy::command::{Arguments, run},
    service::failure,
};
use clap::Parser as _;

fn main() -> ExitCode {
    failure::finish("federation-proxy", run(Arguments::parse()))
}
