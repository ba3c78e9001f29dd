//! The command line of `federation-proxy`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::{Proxy, settings::Settings};
use crate::service::{
    command::Common,
    failure::{Failure, Status},
    listeners::Inherited,
    logs, signals, systemd,
};

/// TLS-terminating reverse proxy of a Matrix federation: by server name, with a policy on who may federate, and with
/// the network's way out.
///
/// Settings come from a TOML file and from FEDERATION_PROXY_… variables, of which FEDERATION_PROXY_LIMITS__BODY_BYTES
/// is `body_bytes` in the table `limits`. SIGHUP reads certificates and the list of members again, which also happens
/// by itself when they change; SIGTERM stops in order.
#[derive(Debug, Parser)]
#[command(name = "federation-proxy", version, about)]
pub struct Arguments {
    /// The settings file
    #[arg(long, short, global = true, value_name = "FILE", env = "FEDERATION_PROXY_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve until SIGTERM
    Run,
    /// Check the settings, and the files that they name, without serving
    CheckConfig {
        /// Only the settings: not the certificates, keys and lists that they name, which may be on another machine
        #[arg(long)]
        settings_only: bool,
    },
    #[command(flatten)]
    Common(Common),
}

/// Carries the command out.
///
/// # Errors
/// When the settings are wrong or the proxy cannot start.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let load = || Settings::load(arguments.config.as_deref());
    match &arguments.action {
        Action::Run => serve(load()?),
        Action::CheckConfig { settings_only } => {
            let settings = load()?;
            if !settings_only {
                super::check_files(&settings)?;
            }
            println!("The settings are right: {}.", describe(&settings));
            Ok(())
        }
        Action::Common(common) => common.run::<Arguments>(),
    }
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    logs::start(settings.log.format, &settings.log.level)?;
    let what = describe(&settings);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Status::Unavailable, "cannot start the runtime").because(error))?;
    let proxy = runtime.block_on(async {
        // Signals are listened for first, so that one that comes early is not the end.
        let stop = signals::stop_token()?;
        let mut reloads = signals::reloads()?;
        let proxy = Proxy::start(settings, &mut Inherited::take())?;
        let addresses = proxy.addresses();
        tracing::info!(
            tls = ?addresses.tls, plain = ?addresses.plain, egress = ?addresses.egress, admin = ?addresses.admin,
            sites = ?addresses.sites, "serving"
        );
        let beating = CancellationToken::new();
        tokio::spawn(systemd::pat_watchdog(beating.clone()));
        systemd::ready(&what);
        let ended = proxy.stopping();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = ended.cancelled() => break,
                hangup = reloads.recv() => {
                    if hangup.is_some() {
                        systemd::reloading();
                        proxy.reload();
                        systemd::ready(&what);
                    }
                }
            }
        }
        systemd::stopping();
        tracing::info!("stopping: open connections have some time to finish");
        let waited = tokio::task::spawn_blocking(move || proxy.stop());
        let waited = waited.await.map_err(|error| Failure::new(Status::Failed, "the proxy panicked").because(error));
        beating.cancel();
        waited
    });
    Ok(proxy?)
}

fn describe(settings: &Settings) -> String {
    let names: Vec<_> = settings.servers.keys().map(String::as_str).collect();
    let policy = match (&settings.policy.members, &settings.policy.members_file) {
        (None, None) => "any server may federate",
        _ => "only members may federate",
    };
    format!("serving {}; {policy}", if names.is_empty() { "no homeserver".to_owned() } else { names.join(", ") })
}
