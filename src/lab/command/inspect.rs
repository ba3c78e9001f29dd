//! What other terminals ask: `status`, `logs`, `down`, `reset`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::Options;
use crate::{
    lab::{
        bridge,
        control::{Lock, Phase, ProgramState, Running},
        logs, setup,
    },
    service::{
        failure::{Failure, Status},
        files,
    },
};

/// Time for a lab to stop: its programs have ten seconds each, at the same time.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Which logs are shown, and how.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// A server's name, `proxy`, or `bridge` [default: all]
    name: Option<String>,
    /// Go on with what is written later, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many lines of each to begin with
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
}

pub(super) async fn status(options: &Options, json: bool) -> anyhow::Result<()> {
    let places = options.places()?;
    let running = Running::read(&places)?;
    if json {
        let lab = running.as_ref().map(serde_json::to_value).transpose()?;
        println!("{}", serde_json::to_string_pretty(&json!({ "state": places.state(), "lab": lab }))?);
    }
    let Some(running) = running else {
        Running::require(&places)?;
        return Ok(());
    };
    if !json {
        show(&running);
    }
    match running.programs.iter().find(|(_, state)| !state.ready) {
        None => Ok(()),
        Some((name, _)) if running.phase == Phase::Starting => {
            Err(Failure::new(Status::Temporary, format!("{name} is still starting")).into())
        }
        Some((name, _)) => Err(Failure::new(Status::Failed, format!("{name} does not serve"))
            .remedy(format!("Its log: {}", places.log(name).display()))
            .into()),
    }
}

fn show(running: &Running) {
    let phase = match running.phase {
        Phase::Starting => "is starting",
        Phase::Up => "is up",
    };
    println!("The lab {phase} (process {}).\n", running.process);
    println!("{:<14} {:<12} {:<10} {:<9} address", "program", "state", "process", "restarts");
    for (name, state) in &running.programs {
        let ProgramState { process, ready, restarts } = state;
        let process = process.map(|process| process.to_string()).unwrap_or_default();
        let state = if *ready { "serves" } else { "not serving" };
        let address = setup::address(&running.network, name).unwrap_or_default();
        println!("{}", format!("{name:<14} {state:<12} {process:<10} {restarts:<9} {address}").trim_end());
    }
}

pub(super) fn logs(options: &Options, asked: &Logs) -> anyhow::Result<()> {
    let places = options.places()?;
    let network = match Running::read(&places)? {
        Some(running) => running.network,
        None => options.network()?,
    };
    let all = setup::logs(&places, &network);
    let chosen: Vec<(String, PathBuf)> = match &asked.name {
        None => all.into_iter().collect(),
        Some(name) => chosen_logs(all, name)?,
    };
    if !chosen.iter().any(|(_, path)| path.exists()) {
        let text = format!("nothing has been logged in {}", places.logs().display());
        return Err(Failure::new(Status::NoInput, text).remedy("Start the network with `federation-lab up`.").into());
    }
    logs::show(chosen, asked.lines, asked.follow)
}

/// The log of a program, or of every bridge for `bridge`.
fn chosen_logs(mut all: BTreeMap<String, PathBuf>, name: &str) -> Result<Vec<(String, PathBuf)>, Failure> {
    if let Some(path) = all.remove(name) {
        return Ok(vec![(name.to_owned(), path)]);
    }
    let known = all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let any_bridge = bridge::program_name("");
    let bridges: Vec<_> =
        all.into_iter().filter(|(program, _)| name == bridge::BRIDGE && program.starts_with(&any_bridge)).collect();
    if bridges.is_empty() {
        return Err(Failure::new(Status::Usage, format!("there is no log of {name:?}"))
            .remedy(format!("There are logs of {known}.")));
    }
    Ok(bridges)
}

pub(super) async fn down(options: &Options) -> anyhow::Result<()> {
    let places = options.places()?;
    let running = Running::require(&places)?;
    running.stop(&places, STOP_PATIENCE).await?;
    println!("The lab has stopped; its state is kept in {}", places.state().display());
    Ok(())
}

pub(super) fn reset(options: &Options, yes: bool) -> anyhow::Result<()> {
    let places = options.places()?;
    if !places.state().exists() {
        println!("There is nothing in {}", places.state().display());
        return Ok(());
    }
    let lock = Lock::take(&places)?;
    if !yes && !confirmed(&format!("Remove all keys, databases, media and logs in {}?", places.state().display()))? {
        return Err(Failure::new(Status::Failed, "nothing was removed").into());
    }
    // Only what the lab made: the directory may have been anybody's.
    let own = [places.authority(), places.state().join("homeservers"), places.bridges(), places.logs()];
    for directory in own.iter().filter(|directory| directory.exists()) {
        fs::remove_dir_all(directory).map_err(|error| files::cannot("remove", directory, error))?;
    }
    for file in [places.users(), places.proxy_settings(), places.running(), places.lock()] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(files::cannot("remove", &file, error).into());
            }
            _ => {}
        }
    }
    drop(lock);
    // It stays when somebody else's files are in it.
    _ = fs::remove_dir(places.state());
    println!("Removed what was in {}; the next start begins anew.", places.state().display());
    Ok(())
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(Status::Usage, "nobody is there to ask").remedy("Give --yes to go ahead.").into());
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
