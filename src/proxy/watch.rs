//! Watching certificates and the list of members, and taking them over when they change.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::timeout};

use super::worker::Shared;
use crate::service::admin::{Health, Problems};

/// How long the proxy waits for a change of files to be complete: pairs are written one file after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// How often files are looked at without being told of a change, for file systems that do not tell.
const POLL: Duration = Duration::from_secs(60);

/// Takes changes over until the proxy stops.
pub(crate) async fn run(shared: Arc<Shared>, reload: Arc<Notify>) {
    let mut watcher = watcher(Arc::clone(&reload));
    loop {
        if let Some(watcher) = &mut watcher {
            watch(watcher, &shared);
        }
        // Once they are watched, files are read: a change before that would go unnoticed.
        take_over(&shared);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = timeout(POLL, reload.notified()) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

fn watcher(reload: Arc<Notify>) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            reload.notify_one();
        }
    };
    notify::recommended_watcher(tell)
        .inspect_err(|error| tracing::warn!(%error, "files cannot be watched; they are looked at every minute"))
        .ok()
}

/// Watches the directories of the files: those that the paths name, and those that symbolic links lead to, which can
/// be others after each change.
fn watch(watcher: &mut RecommendedWatcher, shared: &Shared) {
    for directory in directories(shared) {
        if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, directory = %directory.display(), "a directory cannot be watched");
        }
    }
}

fn directories(shared: &Shared) -> BTreeSet<PathBuf> {
    let certificates = shared.certificates.iter().flat_map(|certificates| certificates.files());
    let mut found = BTreeSet::new();
    for file in certificates.chain(shared.policy.file()) {
        let directory = or_here(file.parent().unwrap_or(file));
        if directory.is_symlink() {
            // `certs/vvt/cert.pem`, where `certs/vvt` is a link that is swapped in `certs`.
            found.insert(or_here(directory.parent().unwrap_or(&directory)));
        }
        if let Ok(real) = file.canonicalize() {
            found.extend(real.parent().map(Path::to_owned));
        }
        found.insert(directory);
    }
    found
}

fn or_here(directory: &Path) -> PathBuf {
    if directory == Path::new("") { PathBuf::from(".") } else { directory.to_owned() }
}

/// Reads everything again. What cannot be used leaves the old in place, and says so.
fn take_over(shared: &Shared) {
    for (server, result) in shared.certificates.iter().flat_map(|certificates| certificates.reload()) {
        match result {
            Ok(()) => tracing::info!(server, "took over a new certificate"),
            Err(failure) => {
                let cause = std::error::Error::source(&failure).map(ToString::to_string);
                tracing::warn!(server, %failure, cause, "kept the old certificate: the new one cannot be used");
            }
        }
    }
    for (server, at) in shared.certificates.iter().flat_map(|certificates| certificates.expiries()) {
        shared.metrics.expires(server, at);
    }
    match shared.policy.reload() {
        Ok(Some(members)) => tracing::info!(members, "took over a new list of members"),
        Ok(None) => {}
        Err(failure) => tracing::warn!(%failure, "kept the old list of members: the new one cannot be used"),
    }
}

/// The proxy is well as long as none of its certificates has expired.
pub(crate) fn health(shared: &Arc<Shared>) -> Health {
    let shared = Arc::clone(shared);
    Arc::new(move || -> Problems {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let expired = |at: i64| u64::try_from(at).unwrap_or_default() < now;
        let certificates = shared.certificates.iter().flat_map(|certificates| certificates.expiries());
        let mut problems: Problems = certificates
            .filter(|(_, at)| expired(*at))
            .map(|(server, _)| (server.to_owned(), "the certificate has expired".to_owned()))
            .collect();
        if shared.stop.is_cancelled() {
            problems.push(("proxy".to_owned(), "it is stopping".to_owned()));
        }
        problems
    })
}
