//! What all tests share.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use care_federation::{
    matrix::{Homeserver, Intent, Registration, registration::Blueprint, rooms::Plan},
    service::secrets::Secret,
};
use ruma::{OwnedRoomId, OwnedTransactionId};

use crate::{
    person::Person,
    service::{Service, connection},
    synapse::{NAME, Synapse},
};

/// The homeserver, and application services of several kinds that it knows.
pub(crate) struct World {
    pub(crate) synapse: Synapse,
    pub(crate) service: Arc<Service>,
    /// As it should be.
    pub(crate) right: Registration,
    /// The homeserver calls the right address with another token than is expected there.
    pub(crate) wrong_token: Registration,
    /// Nothing listens at its address.
    pub(crate) unreachable: Registration,
    /// It is never called.
    pub(crate) silent: Registration,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The world; made by the first test that asks.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| std::thread::spawn(make).join().unwrap())
}

fn make() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let registration = |id: &str, url: &str| {
        let blueprint = Blueprint {
            id: id.to_owned(),
            url: url.to_owned(),
            sender_localpart: format!("_{id}"),
            prefix: format!("_{id}_"),
            protocols: if id == "fhir" { vec!["fhir".to_owned()] } else { Vec::new() },
            ..Blueprint::default()
        };
        Registration::generate(&blueprint).unwrap()
    };
    let right = registration("fhir", &here);
    let wrong_token = registration("wrong", &here);
    let unreachable = registration("unreachable", "http://127.0.0.1:1");
    let silent = Registration { url: None, ..registration("silent", &here) };
    // The application service lives in a runtime of its own: a test's runtime ends with the test.
    let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
    let synapse = Synapse::start(&command(), &[&right, &wrong_token, &unreachable, &silent]);
    let service = Service::new();
    service.connect(connection(&synapse.url, &right));
    {
        let _inside = runtime.enter();
        service.serve(listener, right.hs_token.clone());
    }
    World { synapse, service, right, wrong_token, unreachable, silent }
}

/// How Synapse is started. The first time on a machine the lab installs it.
fn command() -> Vec<String> {
    let lab =
        Command::new(env!("CARGO_BIN_EXE_federation-lab")).arg("synapse").stderr(Stdio::inherit()).output().unwrap();
    assert!(lab.status.success(), "federation-lab could not get Synapse");
    String::from_utf8(lab.stdout).unwrap().lines().map(str::to_owned).collect()
}

impl World {
    /// A connection of the right service.
    pub(crate) fn homeserver(&self) -> Homeserver {
        connection(&self.synapse.url, &self.right)
    }

    pub(crate) fn bot(&self) -> Intent {
        self.homeserver().bot()
    }

    /// A ghost with a name that no other test has.
    pub(crate) fn ghost(&self, name: &str) -> Intent {
        let user = ruma::UserId::parse(format!("@_fhir_{name}-{}:{NAME}", number())).unwrap();
        self.homeserver().intent(&user).unwrap()
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        Person::new(&self.synapse.url, name).await
    }

    /// A room of the bot with a person in it.
    pub(crate) async fn room_with(&self, person: &Person) -> OwnedRoomId {
        let plan = Plan { invite: vec![person.user_id().to_owned()], ..Plan::default() };
        let room = self.bot().create_room(&plan).await.unwrap().room_id;
        person.join(&room).await;
        room
    }
}

/// A number that no other test has.
pub(crate) fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A transaction id that was not used before.
pub(crate) fn transaction_id() -> OwnedTransactionId {
    OwnedTransactionId::from(Secret::random(8).unwrap().expose().to_owned())
}
