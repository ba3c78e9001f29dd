//! The EST server: TLS with a certificate of the authority's own, renewed and reloaded while it runs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::{signal::unix::Signal, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    pki::{Authority, Certificate, LeafProfile, Outcome, Renewal, readable},
    service::{
        admin,
        failure::{Failure, Status, explain},
        listeners::{self, Address, Inherited, Listener},
        signals, systemd,
    },
};

use super::{
    crowd::Crowd,
    door::{Door, Socket},
    routes::{self, Desk},
};

/// Most connections at a time. A network has a few hosts; what comes above waits in the kernel's queue.
const CONNECTIONS: usize = 256;
/// How long the open connections may take to end when the server stops.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How often to look whether certificates or the revocation list are due.
const MAINTENANCE: Duration = Duration::from_secs(3600);

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The names that it is called by. It issues itself a certificate for them.
    pub leaf: LeafProfile,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Where it tells of its health and its metrics, if anywhere.
    pub admin: Option<Address>,
    /// Whether it also renews the certificates in the authority's directory that are due.
    pub renew: bool,
}

/// A server whose sockets are open.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    options: Options,
    listeners: Vec<Listener>,
    admin: Vec<Listener>,
    tls: Arc<ArcSwap<ServerConfig>>,
    problem: Arc<Mutex<Option<String>>>,
    metrics: Metrics,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    enrolments: Family<Enrolment, Counter>,
    authority_expiry: Gauge<u64, AtomicU64>,
    certificate_expiry: Gauge<u64, AtomicU64>,
}

/// What happened to an attempt to enrol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Enrolment {
    operation: &'static str,
    outcome: &'static str,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn count(&self, operation: &'static str, outcome: &'static str) {
        self.enrolments.get_or_create(&Enrolment { operation, outcome }).inc();
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("federation_ca");
        registry.register("enrolments", "Attempts to enrol, by operation and outcome", self.enrolments.clone());
        let text = "When the CA certificate expires, in seconds since 1970";
        registry.register("authority_expiry_seconds", text, self.authority_expiry.clone());
        let text = "When the certificate of the enrolment server expires, in seconds since 1970";
        registry.register("certificate_expiry_seconds", text, self.certificate_expiry.clone());
        registry
    }
}

// === impl Server ===

impl Server {
    /// Opens the authority and the sockets, and issues the server its certificate.
    ///
    /// # Errors
    /// When the authority cannot be used, the names are not permitted, or an address is in use.
    pub fn open(directory: &Path, options: Options, inherited: &mut Inherited) -> Result<Self, Failure> {
        let metrics = Metrics::default();
        let config = prepare(directory, &options, &metrics)?;
        let mut open = Vec::new();
        for address in &options.listen {
            open.extend(listeners::listen(address, inherited)?);
        }
        let admin = match &options.admin {
            Some(address) => listeners::listen(address, inherited)?,
            None => Vec::new(),
        };
        Ok(Self {
            directory: directory.to_owned(),
            options,
            listeners: open,
            admin,
            tls: Arc::new(ArcSwap::new(config)),
            problem: Arc::default(),
            metrics,
        })
    }

    /// The TCP addresses on which it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(socket) => socket.local_addr().ok(),
            Listener::Unix(_) => None,
        };
        self.listeners.iter().filter_map(address).collect()
    }

    /// Serves until `stop`, then lets the open connections end.
    ///
    /// # Errors
    /// When the process cannot use its sockets or listen for signals.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let app = routes::router(Arc::new(Desk::new(&self.directory, self.metrics.clone())));
        let tasks = TaskTracker::new();
        let (slots, crowd) = (Arc::new(Semaphore::new(CONNECTIONS)), Crowd::default());
        for listener in &self.listeners {
            let door = Door {
                socket: Socket::new(listener)?,
                tls: Arc::clone(&self.tls),
                app: app.clone(),
                slots: Arc::clone(&slots),
                crowd: crowd.clone(),
            };
            tasks.spawn(door.accept(stop.clone(), tasks.clone()));
        }
        self.serve_admin(&tasks, &stop)?;
        tasks.spawn(systemd::pat_watchdog(stop.clone()));
        let status = self.listeners.len();
        systemd::ready(&format!("serving enrolment on {status} socket(s)"));
        self.maintain(signals::reloads()?, &stop).await;

        systemd::stopping();
        tasks.close();
        if timeout(STOP_TIME, tasks.wait()).await.is_err() {
            warn!("some connections did not end in time and were cut");
        }
        Ok(())
    }

    /// Renews and reloads, every hour and on SIGHUP, until `stop`.
    async fn maintain(&self, mut reloads: Signal, stop: &CancellationToken) {
        let mut times = tokio::time::interval(MAINTENANCE);
        times.reset();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = times.tick() => {}
                _ = reloads.recv() => {
                    systemd::reloading();
                }
            }
            let (directory, options, metrics) = (self.directory.clone(), self.options.clone(), self.metrics.clone());
            let prepared = tokio::task::spawn_blocking(move || prepare(&directory, &options, &metrics)).await;
            let outcome = prepared.unwrap_or_else(|panicked| {
                Err(Failure::new(Status::Failed, "looking after the certificates failed").because(panicked))
            });
            let problem = match outcome {
                Ok(config) => {
                    self.tls.store(config);
                    None
                }
                Err(failure) => {
                    let sentence = explain("federation-ca", &failure.into());
                    error!(error = sentence, "cannot look after the certificates; the ones in use stay");
                    Some(sentence)
                }
            };
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            systemd::ready("serving enrolment");
        }
    }

    fn serve_admin(&self, tasks: &TaskTracker, stop: &CancellationToken) -> Result<(), Failure> {
        let problem = Arc::clone(&self.problem);
        let health: admin::Health = Arc::new(move || {
            let problem = problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
            problem.map(|sentence| ("certificates".to_owned(), sentence)).into_iter().collect()
        });
        let router = admin::router(Arc::new(self.metrics.registry()), health);
        for listener in &self.admin {
            let (router, stop) = (router.clone(), stop.clone());
            match Socket::new(listener)? {
                Socket::Tcp(socket) => {
                    let server = axum::serve(socket, router).with_graceful_shutdown(stop.cancelled_owned());
                    tasks.spawn(server.into_future());
                }
                Socket::Unix(socket) => {
                    let server = axum::serve(socket, router).with_graceful_shutdown(stop.cancelled_owned());
                    tasks.spawn(server.into_future());
                }
            }
        }
        Ok(())
    }
}

/// Sees to the certificates and the revocation list; returns the TLS settings with what is in place now.
fn prepare(directory: &Path, options: &Options, metrics: &Metrics) -> Result<Arc<ServerConfig>, Failure> {
    let authority = Authority::open(directory)?;
    if options.renew {
        for (name, outcome) in authority.renew_due()? {
            match outcome {
                Ok(Renewal::Renewed(certificate)) => {
                    info!(name, until = readable(certificate.not_after()), "renewed a certificate");
                }
                Ok(Renewal::NotDue(_)) => {}
                Ok(Renewal::Revoked(_)) => debug!(name, "a revoked certificate is not renewed"),
                Err(failure) => warn!(name, error = explain("federation-ca", &failure.into()), "cannot renew"),
            }
        }
    } else {
        authority.keep_crl_fresh()?;
    }
    if let Outcome::Issued(certificate) = authority.issue(&options.leaf)? {
        info!(until = readable(certificate.not_after()), "issued this server its certificate");
    }
    let missing = || Failure::new(Status::Temporary, "the server's own certificate was removed just now");
    let pair = Authority::pairs(directory).load(&options.leaf.name.to_ascii_lowercase())?.ok_or_else(missing)?;
    let seconds = |certificate: &Certificate| u64::try_from(certificate.not_after().unix_timestamp()).unwrap_or(0);
    metrics.authority_expiry.set(seconds(authority.certificate()));
    metrics.certificate_expiry.set(seconds(&pair.certificate));
    server_config(authority.certificate(), &pair)
        .map_err(|error| Failure::new(Status::Failed, "cannot use the server's own certificate").because(error))
}

fn server_config(
    authority: &Certificate,
    pair: &crate::pki::Pair,
) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    // The revocation of a client's certificate is looked up in the record, which is newer than any list.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    // The root is sent too: a client that knows only its fingerprint finds it there.
    let chain = vec![pair.certificate.der().clone(), authority.der().clone()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, pair.key.serialize_der().try_into()?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
