//! The application service that is tried: it keeps what it is sent, and answers queries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use care_federation::{
    matrix::{
        Event, Homeserver, Registration, Transaction,
        homeserver::Settings,
        rooms::Plan,
        server::{self, Directory, Fields, Limits, TransactionSink, Unavailable},
        transaction::Ephemeral,
    },
    service::secrets::Secret,
};
use ruma::{
    OwnedUserId, RoomAliasId, UserId,
    thirdparty::{Protocol, ProtocolInit, User},
};
use tokio::sync::watch;

use crate::synapse::NAME;

/// What a test waits for at most. Far more than it takes, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A message with this text is refused the first time it comes.
pub(crate) const REFUSED_ONCE: &str = "geweigerd";

/// Everything that was accepted, and what was refused.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) refused: Vec<String>,
    pub(crate) asked: Vec<String>,
}

impl Kept {
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.transactions.iter().flat_map(|transaction| &transaction.events)
    }

    pub(crate) fn ephemeral(&self) -> impl Iterator<Item = &Ephemeral> {
        self.transactions.iter().flat_map(|transaction| &transaction.ephemeral)
    }
}

/// Sink and directory in one.
pub(crate) struct Service {
    kept: watch::Sender<Kept>,
    /// For making rooms when an alias is asked for.
    homeserver: Mutex<Option<Homeserver>>,
}

impl Service {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { kept: watch::Sender::new(Kept::default()), homeserver: Mutex::default() })
    }

    pub(crate) fn connect(&self, homeserver: Homeserver) {
        *self.homeserver.lock().unwrap() = Some(homeserver);
    }

    fn connected(&self) -> Homeserver {
        self.homeserver.lock().unwrap().clone().unwrap()
    }

    /// Serves on a listener, in the runtime that this is called in.
    pub(crate) fn serve(self: &Arc<Self>, listener: std::net::TcpListener, hs_token: Secret) {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = server::router(hs_token, Arc::clone(self), Arc::clone(self), Limits::default());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    /// Waits until something has been received.
    pub(crate) async fn wait_for<T>(&self, what: &str, find: impl Fn(&Kept) -> Option<T>) -> T {
        let mut changes = self.kept.subscribe();
        let search = async {
            loop {
                let found = find(&changes.borrow_and_update());
                if let Some(found) = found {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    /// Waits for the event with an id.
    pub(crate) async fn event(&self, id: &ruma::EventId) -> Event {
        let is = |event: &&Event| event.outline().is_ok_and(|outline| outline.event_id == id);
        self.wait_for(&format!("event {id}"), |kept| kept.events().find(is).cloned()).await
    }

    /// How often an event was accepted.
    pub(crate) fn times(&self, id: &ruma::EventId) -> usize {
        let is = |event: &&Event| event.outline().is_ok_and(|outline| outline.event_id == id);
        self.kept.borrow().events().filter(is).count()
    }
}

impl TransactionSink for Service {
    async fn accept(&self, transaction: Transaction) -> Result<(), Unavailable> {
        let first = |kept: &Kept| {
            transaction.events.iter().any(|event| event.json().contains(REFUSED_ONCE)) && kept.refused.is_empty()
        };
        if first(&self.kept.borrow()) {
            self.kept.send_modify(|kept| kept.refused.push(transaction.id.clone()));
            return Err(Unavailable("the test says so".to_owned()));
        }
        if let Some(homeserver) = &*self.homeserver.lock().unwrap() {
            transaction.events.iter().for_each(|event| homeserver.note_member(event));
        }
        self.kept.send_modify(|kept| kept.transactions.push(transaction));
        Ok(())
    }
}

impl Directory for Service {
    async fn user(&self, user: &UserId) -> Result<bool, Unavailable> {
        let known = user.localpart().contains("known");
        if known {
            let intent = self.connected().intent(user).map_err(|error| Unavailable(error.to_string()))?;
            intent.register().await.map_err(|error| Unavailable(error.to_string()))?;
        }
        self.kept.send_modify(|kept| kept.asked.push(user.to_string()));
        Ok(known)
    }

    async fn alias(&self, alias: &RoomAliasId) -> Result<bool, Unavailable> {
        let known = alias.alias().contains("known");
        if known {
            let plan = Plan { alias: Some(alias.alias().to_owned()), ..Plan::default() };
            self.connected().bot().create_room(&plan).await.map_err(|error| Unavailable(error.to_string()))?;
        }
        self.kept.send_modify(|kept| kept.asked.push(alias.to_string()));
        Ok(known)
    }

    async fn protocol(&self, protocol: &str) -> Result<Option<Protocol>, Unavailable> {
        let init = ProtocolInit {
            user_fields: vec!["uzi".to_owned()],
            location_fields: Vec::new(),
            icon: String::new(),
            field_types: BTreeMap::new(),
            instances: Vec::new(),
        };
        Ok((protocol == "fhir").then(|| init.into()))
    }

    async fn users(&self, protocol: &str, fields: Fields) -> Result<Option<Vec<User>>, Unavailable> {
        let user = OwnedUserId::try_from(format!("@huisarts:{NAME}")).unwrap();
        Ok((protocol == "fhir").then(|| vec![User::new(user, protocol.to_owned(), fields)]))
    }
}

/// A connection to the homeserver as one of the registered services.
pub(crate) fn connection(url: &str, registration: &Registration) -> Homeserver {
    let settings = Settings { url: url.to_owned(), server_name: NAME.try_into().unwrap(), ..Settings::default() };
    Homeserver::new(settings, registration.clone()).unwrap()
}
