//! A homeserver outside the network: a real Synapse, configured as the members are, with its own way out, on which the
//! members' real addresses lie beside those of impostors.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    impostor::{self, Impostor, RogueAuthority},
    relay::{self, Relay},
    target::{Reached, StrangerTarget},
};
use crate::{
    lab::{
        client::{Reach, Server, Session},
        install::Synapse,
        supervisor::{Event, Health, Service, Supervisor},
        synapse::Homeserver,
    },
    service::{
        failure::{Failure, Status},
        listeners::free_port,
        secrets::Secret,
    },
};

/// Its server name; a name that can never be anybody's (RFC 6761 section 6.4).
pub(super) const NAME: &str = "stranger.invalid";
/// The impostor whose certificate comes from another authority. With a port in the name nobody is asked for the way.
pub(super) const ROGUE: &str = "rogue.invalid:8448";
/// The impostor that shows somebody else's certificate.
pub(super) const MISNAMED: &str = "misnamed.invalid:8448";
/// Time for it to serve.
const PATIENCE: Duration = Duration::from_secs(55);

/// A stranger that runs; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) rogue: Impostor,
    pub(super) misnamed: Impostor,
    pub(super) relay: Relay,
    homeserver: Homeserver,
    supervisor: Supervisor,
    _directory: tempfile::TempDir,
}

// === impl Stranger ===

impl Stranger {
    /// Starts it; it serves seconds later, see [`Stranger::session`].
    pub(super) async fn start(target: &StrangerTarget, network: &Reached) -> anyhow::Result<Self> {
        let rogue = Impostor::start(RogueAuthority::new()?.certify(host_of(ROGUE))?).await?;
        let misnamed = Impostor::start(impostor::from_files(&target.certificate, &target.key)?).await?;
        let mut places = relay::Places::new();
        places.insert(host_of(ROGUE).to_owned(), rogue.address);
        places.insert(host_of(MISNAMED).to_owned(), misnamed.address);
        for server in &network.servers {
            if let Ok(stream) = server.dial().await {
                let place = stream.peer_addr()?;
                places.insert(server.host.clone(), place);
                places.insert(server.public.name.clone(), place);
            }
        }
        let relay = Relay::start(places).await?;
        let directory = tempfile::Builder::new().prefix("federation-stranger-").tempdir()?;
        let port = free_port()?;
        let homeserver = Homeserver {
            name: NAME.to_owned(),
            directory: directory.path().to_owned(),
            log: directory.path().join("homeserver.log"),
            port,
            client_address: format!("http://127.0.0.1:{port}/"),
            authority: network.authority.clone(),
            egress_port: relay.port,
            application_services: Vec::new(),
        };
        homeserver.prepare()?;
        let synapse = Synapse { command: target.synapse.iter().map(Into::into).collect() };
        let output = directory.path().join("homeserver.out");
        let service = Service {
            program: homeserver.program(&synapse, output.clone()),
            health: Health {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                host: "localhost".to_owned(),
                path: "/health",
            },
            logs: vec![output, homeserver.log.clone()],
        };
        let supervisor = Supervisor::start(vec![service]);
        Ok(Self { rogue, misnamed, relay, homeserver, supervisor, _directory: directory })
    }

    /// Waits until it serves, and logs a user of its own in.
    pub(super) async fn session(&mut self) -> anyhow::Result<Session> {
        timeout(PATIENCE, self.served()).await.map_err(|_| {
            Failure::new(
                Status::Unavailable,
                format!("the stranger's homeserver does not serve after {} s", PATIENCE.as_secs()),
            )
        })??;
        let address = format!("http://127.0.0.1:{}", self.homeserver.port);
        let server = Server::new(NAME, &address, &Reach::default())?;
        let password = Secret::random(12)?;
        let shared = Secret::read(&self.homeserver.registration_secret())?;
        server.register("mallory", &password, false, &shared).await?;
        Ok(server.log_in("mallory", &password).await?)
    }

    async fn served(&mut self) -> anyhow::Result<()> {
        while !self.supervisor.all_ready() {
            if let Some(Event::Failed { failure, .. }) = self.supervisor.next_event().await {
                return Err(failure.into());
            }
        }
        Ok(())
    }

    /// Whether a member has answered it with 403, by its own log.
    pub(super) fn was_forbidden(&self) -> bool {
        let log = std::fs::read_to_string(&self.homeserver.log).unwrap_or_default();
        log.contains("Got response headers: 403")
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        self.supervisor.stop().await;
    }
}

fn host_of(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}
