//! The command line of `federation-lab`.

mod inspect;
mod programs;
mod running;
mod users;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use super::{install::Synapse, places::Places, ports::Ports};
use crate::service::{
    command::Common,
    failure::{Failure, Status},
    network::Network,
    signals,
};

/// A federated Matrix network of care organisations on this machine, without privileges.
#[derive(Debug, Parser)]
#[command(name = "federation-lab", version, about)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// What all commands share.
#[derive(Clone, Debug, Args)]
struct Options {
    /// Where keys, databases, media and logs are kept [default: ~/.local/state/care-federation/lab]
    #[arg(long, global = true, value_name = "DIRECTORY", env = "FEDERATION_LAB_STATE")]
    state: Option<PathBuf>,
    /// Where Synapse and Element Web are installed [default: ~/.cache/care-federation]
    #[arg(long, global = true, value_name = "DIRECTORY", env = "FEDERATION_LAB_CACHE")]
    cache: Option<PathBuf>,
    /// The declaration of the network [default: nix/network.toml, built in]
    #[arg(long, global = true, value_name = "FILE")]
    network: Option<PathBuf>,
}

/// How the network is started.
#[derive(Clone, Debug, Args)]
struct Start {
    /// Moves all ports up by this number; `auto` takes free ones
    #[arg(long, value_name = "NUMBER|auto", default_value = "0")]
    port_offset: Ports,
    /// A directory with Element Web [default: the pinned release, downloaded once]
    #[arg(long, value_name = "DIRECTORY", env = "ELEMENT_WEB")]
    element: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the network up, prove that federation works, say so, and stop it again
    Demo {
        #[command(flatten)]
        start: Start,
        #[command(flatten)]
        output: verify::Output,
    },
    /// Bring the network up and leave it running until Ctrl-C
    Up(Start),
    /// Stop a network that runs in another terminal
    Down,
    /// Say what runs, where, and whether it is well
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the log of a server, of `proxy`, of `bridge`, or of all
    Logs(inspect::Logs),
    /// Make and list users
    #[command(subcommand)]
    Users(users::Command),
    /// Play the scenario on the running network, or on any other, and report on it
    Verify(verify::Arguments),
    /// Remove all keys, databases, media and logs; the installed programs are kept
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    #[command(flatten)]
    Common(Common),
    /// Install Synapse where that was not done, and print the command that runs it, one argument a line
    #[command(hide = true)]
    Synapse,
    /// Run one of the network's own programs
    #[command(subcommand, hide = true)]
    Program(programs::Command),
}

// === impl Options ===

impl Options {
    fn places(&self) -> Result<Places, Failure> {
        Places::new(self.state.as_deref(), self.cache.as_deref())
    }

    fn network(&self) -> Result<Network, Failure> {
        self.network.as_deref().map_or_else(Network::lab, Network::read)
    }
}

/// Carries out a command.
///
/// # Errors
/// What a person needs to know when it fails, with an exit status.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { options, command } = arguments;
    match command {
        Command::Program(program) => programs::run(program),
        Command::Common(common) => common.run::<Arguments>(),
        Command::Logs(logs) => inspect::logs(&options, &logs),
        Command::Reset { yes } => inspect::reset(&options, yes),
        Command::Demo { start, output } => block_on(async |stop| running::demo(&options, &start, &output, &stop).await),
        Command::Up(start) => block_on(async |stop| running::up(&options, &start, &stop).await),
        Command::Down => block_on(async |_| inspect::down(&options).await),
        Command::Status { json } => block_on(async |_| inspect::status(&options, json).await),
        Command::Synapse => block_on(async |stop| {
            let synapse = Synapse::obtain(&options.places()?, &stop).await?;
            synapse.command.iter().for_each(|argument| println!("{}", argument.display()));
            Ok(())
        }),
        Command::Users(command) => block_on(async |_| users::run(&options, command).await),
        Command::Verify(arguments) => block_on(async |stop| {
            tokio::select! {
                done = verify::run(&options, &arguments) => done,
                () = stop.cancelled() => Err(interrupted().into()),
            }
        }),
    }
}

/// Runs on this thread alone: the kernel ends a child with the thread that started it, and this one lives longest.
fn block_on<F>(work: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    // An error says that a provider is installed already, and there is but one: ring.
    _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Status::Unavailable, "cannot start the program").because(error))?;
    let outcome = runtime.block_on(async { Box::pin(work(signals::stop_token()?)).await });
    // What still blocks a thread, such as waiting for a lock, must not keep the program from its end.
    runtime.shutdown_background();
    outcome
}

fn interrupted() -> Failure {
    Failure::new(Status::Interrupted, "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_runs_inside_is_not_shown() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("demo") && !help.contains("network's own programs"), "{help}");
    }
}
