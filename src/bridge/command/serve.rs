//! `fhir-bridge run`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    time::Duration,
};

use axum::Router;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    registration,
    settings::{self, Settings},
};
use crate::{
    bridge::{
        directory::Directory,
        engine::{Engine, FOLLOWED, Guide, Intake},
        page::{self, Desk},
        store::{Mode, Overview, Side, SqlStore, Store},
    },
    fhir::{
        client::{
            self, Client,
            hooks::{self, Hook},
        },
        numbers as fhir_numbers,
        repository::Repository,
        rest::{Rest, access::Access},
        server::FhirServer,
        subscriptions,
        traced::Traced,
    },
    matrix::{
        Homeserver, Registration,
        registration::Origin,
        server::{self, Limits},
    },
    service::{
        admin,
        database::Server,
        failure::Failure,
        files, listeners,
        listeners::{Address, Inherited, Listener},
        logs,
        secrets::Secret,
        signals, systemd,
    },
};

/// How often the numbers for metrics are read.
const COUNTING: Duration = Duration::from_secs(2);
/// How often the embedded repository is measured: its types are counted one by one.
const MEASURING: Duration = Duration::from_secs(30);
/// How long requests in hand may take when the program stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// Random bytes of the secret for the calls of a FHIR server elsewhere.
const HOOK_SECRET: usize = 32;

/// What the bridge is made of.
pub(super) struct Parts {
    pub(super) engine: Arc<Engine>,
    pub(super) store: Arc<dyn Store>,
    pub(super) fhir: Arc<dyn FhirServer>,
    /// The embedded repository, unless the FHIR server is elsewhere.
    pub(super) repository: Option<Repository>,
    /// The client of the FHIR server elsewhere.
    pub(super) elsewhere: Option<Client>,
    pub(super) registration: Registration,
    pub(super) origin: Origin,
}

// === impl Parts ===

impl Parts {
    /// Opens everything; asks no server but the database.
    ///
    /// # Errors
    /// When a file cannot be opened or the settings do not fit together.
    pub(super) async fn open(settings: &Settings, mode: Mode) -> Result<Self, Failure> {
        let state = settings.state()?;
        files::make_directory(&state)?;
        let (registration, origin) = Registration::read_or_make(&settings.registration_file()?, &settings.blueprint())?;
        let homeserver = Homeserver::new(settings.homeserver.clone(), registration.clone())?;
        let shared = settings.database.url.as_ref().map(|_| Server::new(&settings.database)).transpose()?;
        let store: Arc<dyn Store> = Arc::new(match &shared {
            Some(server) => SqlStore::connect(server, mode).await?,
            None => SqlStore::open(&settings::state_file(&state), mode).await?,
        });
        let base = &settings.fhir_base();
        let (fhir, repository, elsewhere): (Arc<dyn FhirServer>, _, _) = match &settings.fhir.server {
            Some(elsewhere) => {
                let client = Client::new(elsewhere.clone())?;
                (Arc::new(client.clone()), None, Some(client))
            }
            None => {
                let repository = match &shared {
                    Some(server) => Repository::connect(server, base, mode.patience()).await?,
                    None => Repository::open(&settings::fhir_file(&state), base)?,
                };
                (Arc::new(Traced::new(Arc::new(repository.clone()))), Some(repository), None)
            }
        };
        let directory = Directory::elsewhere(&settings.directory)?;
        let engine =
            Engine::new(settings.engine.clone(), Arc::clone(&store), homeserver, Arc::clone(&fhir), directory)?;
        Ok(Self { engine, store, fhir, repository, elsewhere, registration, origin })
    }
}

/// Serves until a signal.
pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    logs::start(settings.log.format, &settings.log.level)?;
    let parts = Parts::open(&settings, Mode::Serve).await?;
    if !parts.engine.show_papers().await? {
        warn!(
            "the bridge that started before on this state had another registration; if it was changed, restart all \
             replicas, else give all of them the same file"
        );
    }
    let stop = signals::stop_token()?;
    let mut inherited = Inherited::take();
    let hook = hook(&settings)?;
    let registry = Numbers::default();
    let public = public_routes(&settings, &parts, hook.as_ref(), &registry.fhir, &stop)?;
    let desk = Desk::new(Arc::clone(&parts.engine), &settings.page, &settings.admin, stop.clone())?;
    let mut private = admin::router(Arc::new(registry.registry()), health(&parts.engine));
    if let Some(desk) = &desk {
        private = private.merge(page::router(Arc::clone(desk)));
    }

    let mut servers = Vec::new();
    let homeserver = homeserver_routes(&parts);
    for (addresses, routes) in
        [(&settings.listen, public), (&settings.homeserver_listen, homeserver), (&settings.admin, private)]
    {
        for address in addresses {
            for listener in listeners::listen(address, &mut inherited)? {
                servers.push(tokio::spawn(serve(listener, address.clone(), routes.clone(), stop.clone())));
            }
        }
    }
    if parts.origin == Origin::Made {
        // On standard error like the log, but as lines that can be copied.
        eprintln!("{}", registration::instructions(&settings.registration_file()?));
    }
    let base = settings.fhir.server.as_ref().map_or_else(|| settings.fhir_base(), |elsewhere| elsewhere.base.clone());
    info!(fhir = base, "serving");
    systemd::ready("serving");
    let helpers = [
        tokio::spawn(attend_fhir(
            Arc::clone(&parts.fhir),
            parts.repository.clone(),
            settings.clone(),
            registry.fhir.clone(),
            stop.clone(),
        )),
        tokio::spawn(keep_hook(parts.elsewhere.clone(), hook, stop.clone())),
        tokio::spawn(systemd::pat_watchdog(stop.clone())),
        tokio::spawn(count(Arc::clone(&parts.store), registry, desk, stop.clone())),
        tokio::spawn({
            let (engine, stop) = (Arc::clone(&parts.engine), stop.clone());
            async move { engine.watch_homeserver(stop).await }
        }),
    ];
    let again = settings.directory.cached_for().max(Duration::from_secs(1));
    let directory = tokio::spawn({
        let (engine, stop) = (Arc::clone(&parts.engine), stop.clone());
        async move { engine.watch_directory(again, stop).await }
    });
    Arc::clone(&parts.engine).run(stop.clone()).await;
    systemd::stopping();
    for server in servers {
        if tokio::time::timeout(FAREWELL, server).await.is_err() {
            warn!("requests in hand were cut off");
        }
    }
    for helper in helpers.into_iter().chain([directory]) {
        let _ = helper.await;
    }
    info!("stopped");
    Ok(())
}

/// The Application Service API, for the homeserver.
fn homeserver_routes(parts: &Parts) -> Router {
    let intake = Arc::new(Intake(Arc::clone(&parts.engine)));
    let guide = Arc::new(Guide(Arc::clone(&parts.engine)));
    server::router(parts.registration.hs_token.clone(), intake, guide, Limits::default())
}

/// The Application Service API, and the embedded FHIR endpoint beside it.
fn public_routes(
    settings: &Settings,
    parts: &Parts,
    hook: Option<&Hook>,
    numbers: &fhir_numbers::Numbers,
    stop: &CancellationToken,
) -> Result<Router, Failure> {
    let routes = homeserver_routes(parts);
    if let (Some(client), Some(hook)) = (&parts.elsewhere, hook) {
        return Ok(routes.merge(hooks::router(client.clone(), hook, stop.clone())));
    }
    if parts.repository.is_none() {
        return Ok(routes);
    }
    let access = Access::new(settings.fhir.tokens_file.as_deref(), &settings.listen)?;
    let fhir = Rest::new(Arc::clone(&parts.fhir), &settings.fhir_base(), access, settings.fhir.body_bytes);
    Ok(routes.merge(fhir.auditing(settings.fhir.audit).counting(numbers.clone()).router()))
}

/// Where a FHIR server elsewhere is asked to call, with a secret that is made if there is none.
fn hook(settings: &Settings) -> Result<Option<Hook>, Failure> {
    let Some(elsewhere) = &settings.fhir.server else { return Ok(None) };
    let Some(url) = &elsewhere.hook_url else { return Ok(None) };
    let secret = match &elsewhere.hook_secret_file {
        Some(path) => Secret::read(path)?,
        None => Secret::read_or_make(&settings.state()?.join("fhir-hook-secret"), HOOK_SECRET)?,
    };
    Hook::new(url, secret).map(Some)
}

/// Has a FHIR server elsewhere say what changes.
async fn keep_hook(client: Option<Client>, hook: Option<Hook>, stop: CancellationToken) {
    if let (Some(client), Some(hook)) = (client, hook) {
        hooks::keep(client, hook, &FOLLOWED, stop).await;
    }
}

/// What belongs to the FHIR side while the bridge runs: hooks of the embedded endpoint, or a look at what a server
/// elsewhere can do.
async fn attend_fhir(
    fhir: Arc<dyn FhirServer>,
    repository: Option<Repository>,
    settings: Settings,
    numbers: fhir_numbers::Numbers,
    stop: CancellationToken,
) {
    let Some(repository) = repository else { return say_shortcomings(fhir.as_ref()).await };
    let file = settings.state().ok().map(|state| settings::fhir_file(&state));
    let measuring = measure(fhir, file, numbers.clone(), stop.clone());
    let delivering = subscriptions::deliver(repository, settings.fhir.hooks, numbers, stop);
    if let (Err(error), ()) = tokio::join!(delivering, measuring) {
        warn!(%error, "subscribers are not told of changes");
    }
}

/// Counts what the embedded repository keeps, now and then.
async fn measure(
    fhir: Arc<dyn FhirServer>,
    file: Option<PathBuf>,
    numbers: fhir_numbers::Numbers,
    stop: CancellationToken,
) {
    loop {
        numbers.measure(fhir.as_ref(), file.as_deref()).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MEASURING) => {}
        }
    }
}

async fn say_shortcomings(fhir: &dyn FhirServer) {
    match fhir.capabilities().await {
        Ok(statement) => {
            for shortcoming in client::check::shortcomings(&statement, &FOLLOWED) {
                warn!("the FHIR server lacks {}: {}", shortcoming.what, shortcoming.instead);
            }
        }
        Err(error) => warn!(%error, "the FHIR server does not say what it can do"),
    }
}

/// Which side is away, in words.
fn health(engine: &Arc<Engine>) -> admin::Health {
    let engine = Arc::clone(engine);
    Arc::new(move || {
        let absent = |side: Side| engine.presence(side).absence().map(|absence| (side, absence));
        let sentence = |(side, absence): (Side, crate::bridge::engine::Absence)| {
            let part = if side == Side::Matrix { "homeserver" } else { "fhir" };
            (part.to_owned(), format!("{} (for {} s)", absence.reason, absence.since.elapsed().as_secs()))
        };
        let database = engine
            .store()
            .absence()
            .map(|(time, reason)| ("database".to_owned(), format!("{reason} (for {} s)", time.as_secs())));
        Side::BOTH.into_iter().filter_map(absent).map(sentence).chain(database).collect()
    })
}

async fn serve(listener: Listener, address: Address, routes: Router, stop: CancellationToken) {
    let until = stop.clone();
    let served = match listener {
        Listener::Tcp(socket) => match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => axum::serve(socket, routes).with_graceful_shutdown(until.cancelled_owned()).await,
            Err(error) => Err(error),
        },
        Listener::Unix(socket) => match tokio::net::UnixListener::from_std(socket) {
            Ok(socket) => axum::serve(socket, routes).with_graceful_shutdown(until.cancelled_owned()).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = served {
        warn!(%address, %error, "a listener ended; the program stops");
        stop.cancel();
    }
}

/// The numbers that `/metrics` shows.
#[derive(Clone, Default)]
struct Numbers {
    work: Family<Vec<(&'static str, &'static str)>, Gauge<i64, AtomicI64>>,
    rooms: Gauge,
    messages: Gauge,
    events: Gauge,
    fhir: fhir_numbers::Numbers,
    last: Arc<Mutex<Overview>>,
}

// === impl Numbers ===

impl Numbers {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("fhir_bridge");
        registry.register("work", "Work by state: ready for a side, waiting, parked", self.work.clone());
        registry.register("rooms", "Spaces and rooms that stand for a resource", self.rooms.clone());
        registry.register("message_events", "Events that belong to a resource", self.messages.clone());
        registry.register("events", "Events that were taken in", self.events.clone());
        self.fhir.register(&mut registry);
        registry
    }

    fn show(&self, overview: Overview) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let states = [
            ("matrix", overview.ready[0]),
            ("fhir", overview.ready[1]),
            ("waiting", overview.waiting),
            ("parked", overview.parked),
        ];
        for (state, count) in states {
            self.work.get_or_create(&vec![("state", state)]).set(number(count));
        }
        self.rooms.set(number(overview.rooms));
        self.messages.set(number(overview.messages));
        self.events.set(number(overview.events));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = overview;
    }
}

async fn count(store: Arc<dyn Store>, numbers: Numbers, desk: Option<Arc<Desk>>, stop: CancellationToken) {
    loop {
        match store.overview().await {
            Ok(overview) => {
                if let Some(desk) = &desk {
                    desk.note(&overview);
                }
                numbers.show(overview);
            }
            Err(error) => warn!(%error, "the state cannot be counted"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNTING) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::store::{Change, RoomLink};
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use tower::ServiceExt as _;

    async fn status(routes: &Router, path: &str) -> StatusCode {
        routes.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap().status()
    }

    /// A bridge on a state of its own or one that is shared, with a registration file of its own.
    async fn on(state: &std::path::Path, url: Option<&str>, registration: &Registration, server: &str) -> Arc<Engine> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registration.yaml");
        registration.write(&path).unwrap();
        let mut settings = Settings { state_directory: Some(state.to_owned()), ..Settings::default() };
        settings.registration = Some(path);
        settings.database.url = url.map(str::to_owned);
        settings.homeserver.server_name = server.try_into().unwrap();
        Parts::open(&settings, Mode::Serve).await.unwrap().engine
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn replicas_that_do_not_work_with_the_same_are_told() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = crate::service::database::tests::postgres::fresh_database();
        for url in [Some(url.as_str()), None] {
            let state = tempfile::tempdir().unwrap();
            let own = Registration::generate(&Settings::default().blueprint()).unwrap();
            let rotated = own.with_fresh_tokens().unwrap();
            let mut narrow = own.clone();
            narrow.namespaces.aliases.clear();
            // Who comes first is right, and so is who comes with the same; a change is told once by each that brings it.
            for (registration, is_same) in
                [(&own, true), (&own, true), (&rotated, false), (&rotated, true), (&narrow, false), (&own, false)]
            {
                let engine = on(state.path(), url, registration, "vvt").await;
                assert_eq!(engine.show_papers().await.unwrap(), is_same);
            }
            // Until there is a room, whoever sets the bridge up may still decide whose it is.
            on(state.path(), url, &own, "apotheek").await.show_papers().await.unwrap();
            let engine = on(state.path(), url, &own, "vvt").await;
            engine.show_papers().await.unwrap();
            let link = RoomLink { place: "CareTeam/1".to_owned(), room_id: "!1:vvt".to_owned() };
            engine.store().commit(vec![Change::LinkRoom(link)]).await.unwrap();
            drop(engine);
            let stranger = on(state.path(), url, &own, "huisarts").await;
            let refused = stranger.show_papers().await.unwrap_err().to_string();
            assert!(refused.contains("another homeserver than huisarts"), "{refused}");
            drop(stranger);
            // It left no trace.
            assert!(on(state.path(), url, &own, "vvt").await.show_papers().await.unwrap());
        }
    }

    #[tokio::test]
    async fn the_homeserver_alone_is_served_no_fhir() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { state_directory: Some(directory.path().to_owned()), ..Settings::default() };
        let parts = Parts::open(&settings, Mode::Serve).await.unwrap();
        let homeserver = homeserver_routes(&parts);
        let public =
            public_routes(&settings, &parts, None, &fhir_numbers::Numbers::default(), &CancellationToken::new())
                .unwrap();
        assert_eq!(status(&public, "/fhir/metadata").await, StatusCode::OK);
        assert_eq!(status(&homeserver, "/fhir/metadata").await, StatusCode::NOT_FOUND);
        // Without the homeserver's token; what is asked for is there on both.
        for routes in [&public, &homeserver] {
            assert_eq!(status(routes, "/_matrix/app/v1/users/x").await, StatusCode::UNAUTHORIZED);
        }
    }
}
