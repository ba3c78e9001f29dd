//! The network that is measured: a lab of two organisations, whose bridge is the subject.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use care_federation::{
    bridge::store::{Mode, SqlStore, Store, now},
    lab::{
        bridge::{Bridge, fhir_address, program_name},
        client::{Reach, Server, Session},
        control::{Phase, Running},
        places::Places,
        users::Users,
    },
    matrix::Registration,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::Process;

/// Time for what takes seconds; a bridge that starts with ten thousand threads needs ten minutes to look at each.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// The least that federates.
const NETWORK: &str = r#"
[proxy]
federation_port = 8448
discovery_port = 443
client_port = 8008
egress_port = 3128
[organisations.huisarts]
display_name = "Huisarts"
homeserver_port = 8028
[organisations.vvt]
display_name = "VVT"
homeserver_port = 8038
bridge_port = 1234
"#;
/// The organisation of the bridge.
const HOME: &str = "vvt";

/// A running network.
pub struct Lab {
    /// A user of the bridge's own homeserver.
    pub near: Session,
    /// A user of the other homeserver.
    pub far: Session,
    /// The state of the bridge, read beside it.
    pub store: SqlStore,
    /// For FHIR and for transactions.
    pub http: reqwest::Client,
    /// The bridge's place.
    pub bridge: Bridge,
    places: Places,
    // Ends before its directory goes.
    _process: Process,
    _directory: tempfile::TempDir,
}

// === impl Lab ===

impl Lab {
    /// Starts it, logs a user in on each side, and writes the people into FHIR.
    pub async fn start() -> Result<Self> {
        eprintln!("starting two homeservers, the proxy and the bridge");
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (state, element) = (directory.path().join("state"), directory.path().join("element"));
        let declared = directory.path().join("network.toml");
        fs::write(&declared, NETWORK)?;
        fs::create_dir(&element)?;
        fs::write(element.join("index.html"), "")?;
        let places = Places::new(Some(&state), None)?;
        let text = |path: &Path| path.display().to_string();
        let arguments = ["--state", &text(&state), "--cache", &text(places.cache()), "--network", &text(&declared)];
        let up = ["up", "--port-offset", "auto", "--element", &text(&element)];
        let arguments: Vec<String> = arguments.into_iter().chain(up).map(str::to_owned).collect();
        let log = directory.path().join("lab.out");
        let program = Path::new(env!("CARGO_BIN_EXE_federation-lab"));
        let mut process = Process::start(program, &arguments, &[], None, &log)?;
        let running = until("the network is up", async || {
            if !process.is_running() {
                bail!("the network did not start; it said: {}", fs::read_to_string(&log).unwrap_or_default().trim());
            }
            Ok(Running::read(&places).ok().flatten().filter(|running| running.phase == Phase::Up))
        })
        .await?;
        let organisation = running.network.organisations.get(HOME).context("no vvt")?;
        let bridge = Bridge::of(&places, HOME, organisation).context("vvt has no bridge")?;
        let users = Users::read(&places)?;
        let log_in = async |name: &str| -> Result<Session> {
            let organisation = running.network.organisations.get(name).context("no such organisation")?;
            let is_theirs = |id: &str| id.ends_with(&format!(":{name}"));
            let (id, user) = users.iter().find(|(id, _)| is_theirs(id)).context("no user")?;
            let server =
                Server::new(name, &format!("http://127.0.0.1:{}", organisation.homeserver_port), &Reach::default())?;
            let local = id.trim_start_matches('@').split(':').next().unwrap_or_default();
            Ok(server.log_in(local, &user.password()).await?)
        };
        let (near, far) = (log_in(HOME).await?, log_in("huisarts").await?);
        let store = SqlStore::open(&bridge.directory.join("bridge.sqlite"), Mode::Visit).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let lab = Self { near, far, store, http, bridge, places, _process: process, _directory: directory };
        lab.write_people().await?;
        Ok(lab)
    }

    async fn write_people(&self) -> Result<()> {
        self.put(&json!({ "resourceType": "Patient", "id": "p", "name": [{ "text": "Truus Jansen" }] })).await?;
        let relative = json!({ "resourceType": "RelatedPerson", "id": "r", "name": [{ "text": "Kees Jansen" }],
            "patient": { "reference": "Patient/p" } });
        self.put(&relative).await?;
        for (id, user) in [("near", &self.near.user), ("far", &self.far.user)] {
            let purpose = json!({ "url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose",
                "valueString": "matrix-messaging" });
            let telecom = json!([{ "system": "other", "value": user, "extension": [purpose] }]);
            self.put(&json!({ "resourceType": "Practitioner", "id": id, "telecom": telecom })).await?;
        }
        Ok(())
    }

    /// Writes a resource.
    pub async fn put(&self, resource: &Value) -> Result<()> {
        let (kind, id) = (resource["resourceType"].as_str(), resource["id"].as_str());
        let path = format!("{}/{}", kind.unwrap_or_default(), id.unwrap_or_default());
        write(&self.http, &self.bridge, Method::PUT, &path, resource).await
    }

    /// Posts a message of the relative.
    pub async fn post(&self, thread: &str, text: &str) -> Result<()> {
        post(&self.http, &self.bridge, thread, text).await
    }

    /// Some threads that are in FHIR and have rooms.
    pub async fn threads_at_hand(&self, count: usize) -> Result<Vec<String>> {
        let rooms = self.store.rooms().await?;
        let ids = rooms.iter().filter_map(|link| link.place.strip_prefix("CommunicationRequest/"));
        Ok(ids.take(count).map(str::to_owned).collect())
    }

    /// Writes a thread between the relative and these practitioners.
    pub async fn write_thread(&self, id: &str, practitioners: &[&str]) -> Result<()> {
        let reference = |id: &&str| json!({ "reference": format!("Practitioner/{id}") });
        let recipients: Vec<Value> = practitioners.iter().map(reference).collect();
        let mut thread = json!({ "resourceType": "CommunicationRequest", "id": id, "status": "active",
            "subject": { "reference": "Patient/p" }, "requester": { "reference": "RelatedPerson/r" },
            "payload": [{ "contentString": "Hoe gaat het?" }] });
        if !recipients.is_empty() {
            thread["recipient"] = recipients.into();
        }
        self.put(&thread).await
    }

    /// The room of a thread, once it is there.
    pub async fn room(&self, thread: &str) -> Result<String> {
        let place = format!("CommunicationRequest/{thread}");
        until("the thread has a room", async || Ok(self.store.room_of(&place).await?.map(|link| link.room_id))).await
    }

    /// Threads that have rooms.
    pub async fn threads(&self) -> Result<usize> {
        Ok(usize::try_from(self.store.overview().await?.rooms)?)
    }

    /// A thread that both people have joined; its room.
    pub async fn shared_thread(&self, id: &str) -> Result<String> {
        self.write_thread(id, &["near", "far"]).await?;
        let room = self.room(id).await?;
        for person in [&self.near, &self.far] {
            // They are invited soon after the room is made.
            let join = async || {
                let path = ["client", "v3", "rooms", &room, "join"];
                Ok(person.call(Method::POST, &path, Some(json!({}))).await.ok())
            };
            until("they are invited", join).await?;
        }
        Ok(room)
    }

    /// Waits until so many messages are on both sides and no work is left on the side of FHIR.
    pub async fn settled(&self, messages: u64) -> Result<()> {
        until("everything is on both sides", async || {
            let overview = self.store.overview().await?;
            ensure!(overview.parked == 0, "work was parked: {:?}", self.store.held(1).await?);
            Ok((overview.messages >= messages && overview.ready[1] == 0).then_some(()))
        })
        .await
    }

    /// Waits until nothing is done and nothing is due, but for the looks at rooms some minutes after an event (patrols),
    /// which are never over where there are many rooms.
    pub async fn at_rest(&self) -> Result<()> {
        until("the bridge is at rest", async || {
            let soon = now() + 2000;
            let lanes = self.store.lanes(100_000).await?;
            let rests = lanes.iter().all(|lane| lane.name.starts_with("patrol ") || (!lane.leased && lane.due > soon));
            if !rests {
                // To count them is work, too.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(rests.then_some(()))
        })
        .await
    }

    /// Messages that are on both sides.
    pub async fn messages(&self) -> Result<u64> {
        Ok(self.store.overview().await?.messages)
    }

    /// The bridge's process.
    pub fn process(&self) -> Result<u32> {
        let running = Running::read(&self.places)?.context("the network has ended")?;
        let state = running.programs.get(&program_name(HOME)).context("no bridge")?;
        state.process.context("the bridge does not run")
    }

    /// Whether bridge and homeserver reach each other.
    pub async fn is_well(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/healthz", self.bridge.admin_port);
        self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// The token with which the homeserver comes.
    pub fn token(&self) -> Result<String> {
        let registration = Registration::read(&self.bridge.registration())?;
        Ok(registration.hs_token.expose().to_owned())
    }
}

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(anyhow!("{what}: not within {} s", PATIENCE.as_secs()))
}

/// Posts a message of the relative.
pub async fn post(http: &reqwest::Client, bridge: &Bridge, thread: &str, text: &str) -> Result<()> {
    let message = json!({ "resourceType": "Communication", "status": "completed",
        "subject": { "reference": "Patient/p" }, "sender": { "reference": "RelatedPerson/r" },
        "partOf": [{ "reference": format!("CommunicationRequest/{thread}") }],
        "payload": [{ "contentString": text }] });
    write(http, bridge, Method::POST, "Communication", &message).await
}

async fn write(http: &reqwest::Client, bridge: &Bridge, method: Method, path: &str, resource: &Value) -> Result<()> {
    let url = format!("{}/{path}", fhir_address(bridge.port));
    let request = http.request(method, url).header("content-type", "application/fhir+json");
    let answer = request.body(resource.to_string()).send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
    Ok(())
}
