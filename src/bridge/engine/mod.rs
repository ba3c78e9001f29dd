//! What carries everything from one side to the other: nothing accepted is lost, nothing is done twice.
//!
//! | module | its part of the way |
//! |---|---|
//! | [`intake`] | transactions of the homeserver, durable before they are answered |
//! | [`feed`] | changes of the FHIR server, by cursor |
//! | [`workers`] | who works on which lane, when it is tried again, when it is parked |
//! | [`named`] | whom a number means, where nothing else names them |
//! | [`obey`] | what people ask of the bot |
//! | [`notices`] | what the bridge itself has to say |
//! | [`papers`] | whose the state is |
//! | [`people`] | who somebody is on the other side |
//! | [`known`] | what becomes known of them |
//! | [`places`] | teams as spaces, conversations as rooms |
//! | [`seats`] | who is in them, with which power |
//! | [`speak`] | Communications: what is to be said of them where |
//! | [`say`] | payloads as events: sent once, edited, withdrawn |
//! | [`listen`] | events as Communications |
//! | [`lookups`] | what people can look up from a client |
//! | [`marks`] | who has read what: receipts, Tasks, AuditEvents |
//! | [`attendance`] | who comes and goes, and what was read meanwhile |
//! | [`typing`] | who is writing |
//! | [`loss`] | rooms that are no more |
//! | [`gaps`] | events that the homeserver did not push |
//! | [`forks`] | what a homeserver misses of a room while it joins |
//! | [`traces`] | which trace an event, a change and its work belong to |
//! | [`reconcile`] | both sides compared and repaired |
//! | [`view`] | what people look at, and what they put back to work |

mod attendance;
mod feed;
mod forks;
mod gaps;
mod intake;
mod known;
mod listen;
mod lookups;
mod loss;
mod marks;
mod named;
mod notices;
mod obey;
mod papers;
mod people;
mod places;
mod reach;
mod reconcile;
mod say;
mod seats;
mod speak;
mod traces;
mod trouble;
mod typing;
mod view;
mod workers;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    directory::Directory,
    identity::Names,
    store::{Change, NewWork, Side, Store, StoreError},
};
use crate::{
    fhir::server::FhirServer,
    matrix::{Error, Homeserver},
    service::{
        failure::{Failure, Status},
        trace::Memory,
    },
};

pub use feed::FOLLOWED;
pub use intake::{Guide, Intake};
pub use reconcile::{Difference, Report};
pub use trouble::Trouble;
pub use workers::{Absence, Presence};

/// How often the homeserver is asked whether it is there. It needs longer to start.
const ASKING: Duration = Duration::from_millis(500);
/// Longer between two questions, and the homeserver may have been restarted in between: this process stood still.
const UNWATCHED: Duration = Duration::from_secs(2);

/// How the engine works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Lanes that are worked on at the same time, for each side.
    pub workers: usize,
    /// How often work may be refused before it is parked.
    pub tries: u32,
    /// Seconds for which a lane belongs to one replica without a word from it; when one dies, others wait so long.
    pub lease_seconds: u64,
    /// Seconds between two looks at the FHIR server where it gives no hint.
    pub poll_seconds: u64,
    /// Seconds between an event of another homeserver and the look for missed ones.
    pub gap_seconds: u64,
    /// Seconds between an event of the own homeserver and the look for missed ones.
    pub patrol_seconds: u64,
    /// Whether who joins or leaves a team's space in Matrix joins or leaves the CareTeam.
    pub team_follows_space: bool,
    /// Whether Tasks tell who has read what.
    pub tasks: bool,
    /// Whether an AuditEvent is written for what was read.
    pub audit: bool,
    /// Roles of professionals who lead a team: codes, displays or texts, in any case.
    pub lead_roles: Vec<String>,
    /// What spaces are called, before a piece of the team's id.
    pub space_label: String,
    /// What rooms are called, before a piece of the request's id.
    pub room_label: String,
    /// What patients are called in Matrix, where their name must not appear.
    pub patient_label: String,
    /// What the bot is called in Matrix; where it is empty, nothing is set.
    pub bot_name: String,
    /// The bot's picture, `mxc://server/id`; without it, none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_avatar: Option<String>,
    /// Largest file that is carried, in bytes.
    pub media_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 8,
            tries: 8,
            lease_seconds: 30,
            poll_seconds: 5,
            gap_seconds: 2,
            patrol_seconds: 300,
            team_follows_space: false,
            tasks: true,
            audit: true,
            lead_roles: ["hoofdbehandelaar", "regiebehandelaar", "coördinerend behandelaar", "care team lead"]
                .map(str::to_owned)
                .to_vec(),
            space_label: "Zorgteam".to_owned(),
            room_label: "Gesprek".to_owned(),
            patient_label: "Cliënt".to_owned(),
            bot_name: "FHIR-koppeling".to_owned(),
            bot_avatar: None,
            media_bytes: 10 << 20,
        }
    }
}

// === impl Settings ===

impl Settings {
    fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}

/// The engine. Cheap to share.
pub struct Engine {
    settings: Settings,
    names: Names,
    store: Arc<dyn Store>,
    homeserver: Homeserver,
    fhir: Arc<dyn FhirServer>,
    /// Who has which Matrix id.
    directory: Directory,
    /// Rung when there may be new work.
    bell: [Notify; 2],
    /// The number of the last transaction of the homeserver; 0 before the first.
    last_transaction: AtomicU64,
    presence: [Presence; 2],
    /// Display names that were set by this process.
    named: Mutex<HashMap<OwnedUserId, String>>,
    /// Rooms that stand for nothing: whether they are direct chats with the bot, and when that was seen.
    chats: Mutex<HashMap<OwnedRoomId, (bool, std::time::Instant)>>,
    /// Aliases without a room behind them, by the room that they name, and when that was seen first.
    hollow: Mutex<HashMap<OwnedRoomId, Instant>>,
    /// Held while a ghost is named.
    naming: [tokio::sync::Mutex<()>; people::NAMING],
    /// Failures in a row by lane, for back-off.
    failures: Mutex<HashMap<String, u32>>,
    /// Traces of the events that this process sent.
    said_in: Memory,
    /// Who is writing.
    drafts: typing::Drafts,
    /// Whether a transaction could not be taken in.
    missed: AtomicBool,
    /// Whether it was said that the FHIR server takes no AuditEvents.
    said_no_audit: AtomicBool,
}

/// What handling work gives: what is to be stored with its end.
type Done = Result<Vec<Change>, Trouble>;

// === impl Engine ===

impl Engine {
    /// An engine between a homeserver and a FHIR server.
    ///
    /// Without a directory elsewhere, the FHIR server is the care directory.
    ///
    /// # Errors
    /// When ids of the bridge would grow too long with this server name.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        homeserver: Homeserver,
        fhir: Arc<dyn FhirServer>,
        directory: Option<Directory>,
    ) -> Result<Arc<Self>, Failure> {
        let names = Names::new(homeserver.server_name().as_str())
            .map_err(|error| Failure::new(Status::Config, error.to_string()))?;
        let presence = [Presence::default(), Presence::default()];
        // Until the homeserver was asked, nothing is tried there.
        presence[Side::Matrix as usize].away(&Trouble::Away { side: Side::Matrix, reason: "not asked yet".to_owned() });
        Ok(Arc::new(Self {
            settings,
            names,
            store,
            homeserver,
            directory: directory.unwrap_or_else(|| Directory::own(Arc::clone(&fhir))),
            fhir,
            bell: [Notify::new(), Notify::new()],
            last_transaction: AtomicU64::new(0),
            presence,
            named: Mutex::default(),
            chats: Mutex::default(),
            hollow: Mutex::default(),
            naming: [const { tokio::sync::Mutex::const_new(()) }; people::NAMING],
            failures: Mutex::default(),
            said_in: Memory::new(traces::REMEMBERED),
            drafts: typing::Drafts::default(),
            missed: AtomicBool::new(false),
            said_no_audit: AtomicBool::new(false),
        }))
    }

    /// Works until `stop`; work in hand is finished, or left as it was found.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let sides = Side::BOTH.map(|side| tokio::spawn(Arc::clone(&self).work(side, stop.clone())));
        let feed = tokio::spawn(Arc::clone(&self).feed(stop.clone()));
        let typing = tokio::spawn(Arc::clone(&self).show_typing(stop));
        for task in sides.into_iter().chain([feed, typing]) {
            let _ = task.await;
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The homeserver.
    pub fn homeserver(&self) -> &Homeserver {
        &self.homeserver
    }

    /// Whether a side answers at present, and since when not.
    pub fn presence(&self, side: Side) -> &Presence {
        &self.presence[side as usize]
    }

    /// Stores changes and wakes the workers.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.store.commit(changes).await?;
        self.ring();
        Ok(())
    }

    /// Asks after the homeserver until `stop`: both directions must work. While it is away nothing is tried there;
    /// when it is back, what waited goes on.
    pub async fn watch_homeserver(&self, stop: CancellationToken) {
        let presence = self.presence(Side::Matrix);
        let mut said = None;
        loop {
            if presence.absence().is_some() || said.is_none() {
                let diagnosis = self.homeserver.diagnose().await;
                if diagnosis.is_fine() {
                    self.introduce_bot().await;
                    match self.look_everywhere().await {
                        Ok(()) => drop(presence.here()),
                        // It stays away, so that it is asked again.
                        Err(trouble) => warn!(%trouble, "rooms cannot be searched for missed events now"),
                    }
                    self.ring();
                } else {
                    presence.away(&Trouble::Away { side: Side::Matrix, reason: diagnosis.to_string() });
                }
                let sentence = diagnosis.to_string();
                if said.as_ref() != Some(&std::mem::discriminant(&diagnosis)) {
                    match diagnosis.remedy(&self.homeserver) {
                        None => info!("connected with the homeserver: {sentence}"),
                        Some(remedy) => warn!("the homeserver: {sentence}. {remedy}"),
                    }
                    said = Some(std::mem::discriminant(&diagnosis));
                }
            }
            if presence.absence().is_none() && self.missed.swap(false, Ordering::Relaxed) {
                // A transaction was refused, and what it held beside events does not come again; or nobody looked.
                if let Err(trouble) = self.look_everywhere().await {
                    warn!(%trouble, "rooms cannot be searched for missed events now");
                }
            }
            let asked = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASKING) => {}
            }
            if asked.elapsed() > UNWATCHED {
                self.missed.store(true, Ordering::Relaxed);
            }
            self.notice_absence().await;
        }
    }

    /// A homeserver that is killed and comes back while the bridge has nothing to do forgets what it was to push, so
    /// its absence must not go unnoticed. It takes longer to start than the time between two questions.
    async fn notice_absence(&self) {
        let presence = self.presence(Side::Matrix);
        if presence.absence().is_some() {
            return;
        }
        if let Err(error @ Error::Unreachable { .. }) = self.homeserver.versions_now().await {
            presence.away(&error.into());
        }
    }

    fn ring(&self) {
        for bell in &self.bell {
            bell.notify_one();
        }
    }
}

/// Work for a side.
fn work(side: Side, lane: impl Into<String>, kind: &'static str, payload: &impl Serialize) -> Result<NewWork, Trouble> {
    let payload = serde_json::to_string(payload).map_err(|error| Trouble::Refused(error.to_string()))?;
    let payload = traces::stamp(&payload);
    Ok(NewWork { side, lane: lane.into(), kind, payload, delay: Duration::ZERO })
}

fn room_id(text: &str) -> Result<OwnedRoomId, Trouble> {
    OwnedRoomId::try_from(text).map_err(|_| Trouble::Refused(format!("{text:?} is no room id")))
}

fn user_id(text: &str) -> Result<OwnedUserId, Trouble> {
    OwnedUserId::try_from(text).map_err(|_| Trouble::Refused(format!("{text:?} is no user id")))
}

fn event_id(text: &str) -> Result<OwnedEventId, Trouble> {
    OwnedEventId::try_from(text).map_err(|_| Trouble::Refused(format!("{text:?} is no event id")))
}
