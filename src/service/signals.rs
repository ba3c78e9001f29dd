//! Signals: SIGTERM and SIGINT ask for an orderly stop, SIGHUP for reading files again.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::files;

/// A token that is cancelled at the first SIGTERM or SIGINT. A second one ends the process at once (status 130).
///
/// # Errors
/// When the process cannot listen for signals.
pub fn stop_token() -> Result<CancellationToken, Failure> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !first {
                std::process::exit(130);
            }
            first = false;
            stop.cancel();
        }
    });
    Ok(token)
}

/// The stream of SIGHUPs: each asks for reading certificates and lists again.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn reloads() -> Result<Signal, Failure> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| files::cannot("listen for signals in", std::path::Path::new("this process"), error))
}
