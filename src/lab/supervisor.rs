//! Keeps the lab's programs running: starts them together, notices when each serves, starts again what crashed, and
//! stops all.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    control::ProgramState,
    program::{self, Child, Program},
};
use crate::service::{
    failure::{Failure, Status},
    files,
};

/// Time for a program to serve after its start; a new database on a slow disk takes its time.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Time for a program to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often a starting program is asked whether it serves.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// Wait before the first restart; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A program that served for as long as this has recovered: its next restart waits [`FIRST_WAIT`] again.
const RECOVERED: Duration = Duration::from_secs(60);
/// How many lines of a log are shown when its program does not start.
const TAIL_LINES: usize = 6;
/// With less room than this on its disk a program that ended was ended by that; in bytes.
const SOME_ROOM: u64 = 256 << 10;

/// A program to be kept running.
#[derive(Clone, Debug)]
pub struct Service {
    /// The program.
    pub program: Program,
    /// What answers 200 once it serves.
    pub health: Health,
    /// Its log files, the most telling first.
    pub logs: Vec<PathBuf>,
}

/// A request that is answered with 200 once a program serves.
#[derive(Clone, Debug)]
pub struct Health {
    /// Where it goes.
    pub address: SocketAddr,
    /// The host that it names.
    pub host: String,
    /// Its path.
    pub path: &'static str,
}

/// What happened to a program.
#[derive(Debug)]
pub enum Event {
    /// It was started.
    Started {
        /// The program's name.
        name: String,
        /// Its process.
        process: Option<u32>,
    },
    /// It serves.
    Ready {
        /// The program's name.
        name: String,
        /// The time since its start.
        took: Duration,
    },
    /// It ended by itself, or never served.
    Failed {
        /// The program's name.
        name: String,
        /// What happened, and where its log is.
        failure: Failure,
        /// The wait before it is started again.
        again_in: Duration,
    },
}

/// Running programs.
#[derive(Debug)]
pub struct Supervisor {
    stop: CancellationToken,
    keepers: JoinSet<()>,
    events: mpsc::Receiver<Event>,
    states: BTreeMap<String, ProgramState>,
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts the programs, all at once.
    ///
    /// Call this on a runtime whose thread lives as long as the process (a current-thread one): the kernel kills the
    /// children with the thread that started them.
    pub fn start(services: Vec<Service>) -> Self {
        let (sender, events) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let states = services.iter().map(|service| (service.program.name.clone(), ProgramState::default())).collect();
        let mut keepers = JoinSet::new();
        for service in services {
            let keeper = Keeper { service, events: sender.clone(), stop: stop.clone() };
            keepers.spawn(keeper.keep());
        }
        Self { stop, keepers, events, states }
    }

    /// The states of all programs.
    pub fn states(&self) -> &BTreeMap<String, ProgramState> {
        &self.states
    }

    /// Whether all programs serve.
    pub fn all_ready(&self) -> bool {
        self.states.values().all(|state| state.ready)
    }

    /// The next thing that happens; `None` when no program is left.
    pub async fn next_event(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        match &event {
            Event::Started { name, process } => self.change(name, |state| state.process = *process),
            Event::Ready { name, .. } => self.change(name, |state| state.ready = true),
            Event::Failed { name, .. } => self.change(name, |state| {
                state.process = None;
                state.ready = false;
                state.restarts += 1;
            }),
        }
        Some(event)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut ProgramState)) {
        change(self.states.entry(name.to_owned()).or_default());
    }

    /// Stops all programs and waits until they have ended.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.events.close();
        while self.keepers.join_next().await.is_some() {}
    }
}

/// Keeps one program running.
struct Keeper {
    service: Service,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

// === impl Keeper ===

impl Keeper {
    async fn keep(self) {
        let mut wait = FIRST_WAIT;
        loop {
            let started = Instant::now();
            let failure = match self.service.program.start() {
                Ok(mut child) => {
                    self.tell(Event::Started { name: self.name(), process: child.id() }).await;
                    tokio::select! {
                        failure = self.watch(&mut child, started) => {
                            child.stop(STOP_PATIENCE).await;
                            failure
                        }
                        () = self.stop.cancelled() => return child.stop(STOP_PATIENCE).await,
                    }
                }
                Err(failure) => failure,
            };
            if started.elapsed() > RECOVERED {
                wait = FIRST_WAIT;
            }
            self.tell(Event::Failed { name: self.name(), failure, again_in: wait }).await;
            tokio::select! {
                () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn name(&self) -> String {
        self.service.program.name.clone()
    }

    /// Nobody listens any more once all are to stop.
    async fn tell(&self, event: Event) {
        _ = self.events.send(event).await;
    }

    /// Ends when the program has ended or does not serve in time.
    async fn watch(&self, child: &mut Child, started: Instant) -> Failure {
        let serving = tokio::select! {
            ended = child.wait() => return self.ended(ended, "ended before it served"),
            serving = timeout(START_PATIENCE, serves(&self.service.health)) => serving,
        };
        if serving.is_err() {
            return self.failure(&format!("does not serve after {} s", START_PATIENCE.as_secs()));
        }
        self.tell(Event::Ready { name: self.name(), took: started.elapsed() }).await;
        let ended = child.wait().await;
        self.ended(ended, "ended by itself")
    }

    fn ended(&self, ended: Result<std::process::ExitStatus, Failure>, how: &str) -> Failure {
        match ended {
            Ok(status) => self.failure(&format!("{how} ({})", program::describe(status))),
            Err(failure) => failure,
        }
    }

    fn failure(&self, what: &str) -> Failure {
        let failure = Failure::new(Status::Unavailable, format!("{} {what}", self.name()));
        let named: Vec<String> = self.service.logs.iter().map(|log| log.display().to_string()).collect();
        if let Some(full) = self.service.logs.iter().find(|log| files::room(log).is_ok_and(|free| free < SOME_ROOM)) {
            let remedy = format!("Free some space there, then try again. Its log: {}", named.join(" and "));
            return failure.because(format!("the disk with {} is full", full.display())).remedy(remedy);
        }
        let failure = failure.remedy(format!("Its log: {}", named.join(" and ")));
        match self.service.logs.iter().find_map(|log| last_words(log)) {
            Some(words) => failure.because(words),
            None => failure,
        }
    }
}

/// The last lines of a log file, on one line each, if it has any.
fn last_words(log: &std::path::Path) -> Option<String> {
    let lines = super::logs::last_lines(log, TAIL_LINES).ok()?;
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("\n    "))
}

/// Returns once the request is answered with 200.
async fn serves(health: &Health) {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2));
    let Ok(client) = builder.resolve(&health.host, health.address).build() else {
        return std::future::pending().await;
    };
    let address = format!("http://{}:{}{}", health.host, health.address.port(), health.path);
    loop {
        if client.get(&address).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_program_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("x.out");
        assert_eq!(last_words(&log), None);
        std::fs::write(&log, "one\n\ntwo\n").unwrap();
        assert_eq!(last_words(&log).unwrap(), "one\n    two");
    }
}
