//! The program `federation-proxy`.

use std::process::ExitCode;

use care_federation::{
    proxy::command::{Arguments, run},
    service::failure,
};
use clap::Parser as _;
use mimalloc::MiMalloc;

/// The `h2` crate takes some twenty blocks for a request; with glibc's allocator that is a seventh of all instructions.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    failure::finish("federation-proxy", run(Arguments::parse()))
}
