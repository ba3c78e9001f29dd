//! Starting and stopping the proxy.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, mpsc::sync_channel},
    thread::{self, JoinHandle},
};

use prometheus_client::registry::Registry;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    certificates::Certificates,
    egress::Targets,
    gate::Gate,
    io::Watched,
    metrics::Metrics,
    policy::Policy,
    route::Router,
    settings::{Limits, Settings, StaticSite},
    sites, watch,
    worker::{self, Arrival, Door, Role, Shared},
};
use crate::service::{
    admin,
    failure::{Failure, Status},
    listeners::{self, Address, Inherited, Listener},
};

/// A running proxy.
pub struct Proxy {
    addresses: Addresses,
    stop: CancellationToken,
    reload: Arc<Notify>,
    threads: Vec<JoinHandle<()>>,
}

/// Where a proxy listens, TCP alone, with the ports that the system chose.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// TLS.
    pub tls: Vec<SocketAddr>,
    /// Plain HTTP.
    pub plain: Vec<SocketAddr>,
    /// HTTP CONNECT.
    pub egress: Vec<SocketAddr>,
    /// Health and metrics.
    pub admin: Vec<SocketAddr>,
    /// Static sites, by name.
    pub sites: BTreeMap<String, Vec<SocketAddr>>,
}

/// Listeners that are not for the workers.
struct Aside {
    admin: Vec<Listener>,
    sites: Vec<(StaticSite, Vec<Listener>)>,
}

/// Open connections to the admin address.
const ADMIN_CONNECTIONS: usize = 64;

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy on threads of its own and returns when it serves.
    ///
    /// # Errors
    /// When settings, certificates, lists or listeners cannot be used.
    pub fn start(settings: Settings, inherited: &mut Inherited) -> Result<Self, Failure> {
        settings.check()?;
        raise_descriptor_limit();
        let mut addresses = Addresses::default();
        let mut doors = Vec::new();
        for (role, wanted, found) in [
            (Role::Tls, &settings.listen.tls, &mut addresses.tls),
            (Role::Plain, &settings.listen.plain, &mut addresses.plain),
            (Role::Egress, &settings.listen.egress, &mut addresses.egress),
        ] {
            doors.extend(open(wanted, inherited, found)?.into_iter().map(|listener| Door { role, listener }));
        }
        let admin = open(&settings.listen.admin, inherited, &mut addresses.admin)?;
        let mut site_listeners = Vec::new();
        for (name, site) in &settings.static_sites {
            let found = addresses.sites.entry(name.clone()).or_default();
            site_listeners.push((site.clone(), open(&site.listen, inherited, found)?));
        }
        let workers = settings.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let (shared, registry) = share(settings, workers)?;
        let mut proxy =
            Self { addresses, stop: shared.stop.clone(), reload: Arc::new(Notify::new()), threads: Vec::new() };
        let aside = Aside { admin, sites: site_listeners };
        // A proxy that cannot start stops what it has started.
        match proxy.start_threads(&shared, registry, &doors, workers, aside) {
            Ok(()) => Ok(proxy),
            Err(failure) => {
                proxy.stop();
                Err(failure)
            }
        }
    }

    fn start_threads(
        &mut self,
        shared: &Arc<Shared>,
        registry: Registry,
        doors: &[Door],
        workers: usize,
        aside: Aside,
    ) -> Result<(), Failure> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel::<Arrival>()).unzip();
        for (index, receiver) in receivers.into_iter().enumerate() {
            let doors = doors.iter().map(Door::try_clone).collect::<Result<Vec<_>, _>>()?;
            let (shared, others) = (Arc::clone(shared), senders.clone());
            self.spawn(format!("worker-{index}"), move || {
                if let Err(failure) = worker::run(Arc::clone(&shared), index, doors, receiver, others) {
                    tracing::error!(%failure, "a worker ended");
                    shared.stop.cancel();
                }
            })?;
        }
        let (started, starting) = sync_channel(1);
        let (shared, reload) = (Arc::clone(shared), Arc::clone(&self.reload));
        self.spawn("control".to_owned(), move || {
            let result = Builder::new_current_thread().enable_all().build().map_err(cannot_start);
            match result {
                Ok(runtime) => control(&runtime, &shared, registry, aside, &reload, &started),
                Err(failure) => drop(started.send(Err(failure))),
            }
        })?;
        starting.recv().unwrap_or_else(|_| Err(Failure::new(Status::Failed, "the control thread ended at its start")))
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let thread = thread::Builder::new().name(name).spawn(work).map_err(cannot_start)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Reads certificates and the list of members again, soon.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// A token that is cancelled when the proxy stops, also by itself.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops: no new connections, the open ones finish or are cut after the drain time. Returns when all has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Door ===

impl Door {
    fn try_clone(&self) -> Result<Self, Failure> {
        let listener = match &self.listener {
            Listener::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            Listener::Unix(listener) => listener.try_clone().map(Listener::Unix),
        };
        Ok(Self { role: self.role, listener: listener.map_err(cannot_start)? })
    }
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::new(Status::Unavailable, "the system does not let the proxy start").because(error)
}

fn open(wanted: &[Address], inherited: &mut Inherited, found: &mut Vec<SocketAddr>) -> Result<Vec<Listener>, Failure> {
    let mut all = Vec::new();
    for address in wanted {
        for listener in listeners::listen(address, inherited)? {
            if let Listener::Tcp(tcp) = &listener {
                // What is accepted has this option of its listener.
                let _ = socket2::SockRef::from(tcp).set_tcp_nodelay(true);
                found.extend(tcp.local_addr());
            }
            all.push(listener);
        }
    }
    Ok(all)
}

fn share(settings: Settings, workers: usize) -> Result<(Arc<Shared>, Registry), Failure> {
    let policy = Arc::new(Policy::new(settings.policy.clone())?);
    let gate = Arc::new(Gate::new(&settings.limits));
    let router = Router::new(&settings, Arc::clone(&policy));
    let names = router.servers().iter().map(|server| server.name.as_str());
    let (metrics, registry) = Metrics::new(names, Arc::clone(&gate));
    let (certificates, tls) = if settings.listen.tls.is_empty() {
        (None, None)
    } else {
        let certificates = Arc::new(Certificates::read(&settings)?);
        let tls = certificates.server_config()?;
        (Some(certificates), Some(Arc::new(tls)))
    };
    for (server, at) in certificates.iter().flat_map(|certificates| certificates.expiries()) {
        metrics.expires(server, at);
    }
    let shared = Shared {
        router,
        targets: Targets::new(&settings.egress, Arc::clone(&policy)),
        policy,
        gate,
        metrics,
        certificates,
        tls,
        id_prefix: crate::service::secrets::Secret::random(4)?.expose().to_owned() + "-",
        stop: CancellationToken::new(),
        loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        settings,
    };
    Ok((Arc::new(shared), registry))
}

/// Everything beside the traffic: health, metrics, static sites, and watching files.
fn control(
    runtime: &Runtime,
    shared: &Arc<Shared>,
    registry: Registry,
    aside: Aside,
    reload: &Arc<Notify>,
    started: &std::sync::mpsc::SyncSender<Result<(), Failure>>,
) {
    runtime.block_on(async {
        let connections = TaskTracker::new();
        let (stop, limits) = (&shared.stop, &shared.settings.limits);
        let health = watch::health(shared);
        let admin_routes = admin::router(Arc::new(registry), health);
        // An operator gets in also when the proxy is full.
        let own = Arc::new(Gate::new(&Limits { connections: ADMIN_CONNECTIONS, ..limits.clone() }));
        let routed = aside.admin.into_iter().map(|listener| (listener, admin_routes.clone(), Arc::clone(&own)));
        let mut all: Vec<_> = routed.collect();
        for (site, listeners) in aside.sites {
            let routes = sites::router(&site);
            all.extend(listeners.into_iter().map(|listener| (listener, routes.clone(), Arc::clone(&shared.gate))));
        }
        for (listener, routes, gate) in all {
            match Watched::new(listener) {
                Ok(listener) => {
                    let connections = connections.clone();
                    tokio::spawn(sites::serve(listener, routes, Arc::clone(shared), gate, connections));
                }
                Err(error) => {
                    let _ = started.send(Err(cannot_start(error)));
                    return;
                }
            }
        }
        tokio::spawn(watch::run(Arc::clone(shared), Arc::clone(reload)));
        let _ = started.send(Ok(()));
        stop.cancelled().await;
        connections.close();
        let _ = tokio::time::timeout(limits.drain_time.get(), connections.wait()).await;
    });
}

/// Each connection takes a descriptor, and a second one to its homeserver; the soft limit of most systems is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}
