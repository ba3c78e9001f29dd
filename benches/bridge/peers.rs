//! The other appservices: installed once into the cache, by lists with hashes, and started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use axum::{Json, Router};
use care_federation::{
    lab::{cache::Turn, places::Places, python::Python},
    service::listeners::free_port,
};
use serde_json::json;
use tokio::{net::TcpListener, process::Command};

use crate::{network::until, process::Process};

/// One of the frameworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// mautrix-python
    Mautrix,
    /// matrix-bot-sdk
    MatrixBotSdk,
}

/// A framework that runs.
pub struct Appservice {
    /// Where transactions go.
    pub base: String,
    /// Its process.
    pub process: Process,
    store: PathBuf,
    peer: Peer,
}

/// The files of a peer that belong into its directory.
const LISTS: [(&str, &str); 4] = [
    ("requirements.txt", include_str!("peers/mautrix/requirements.txt")),
    ("package.json", include_str!("peers/matrix-bot-sdk/package.json")),
    ("package-lock.json", include_str!("peers/matrix-bot-sdk/package-lock.json")),
    (".npmrc", include_str!("peers/matrix-bot-sdk/.npmrc")),
];

// === impl Peer ===

impl Peer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mautrix, Self::MatrixBotSdk];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mautrix => "mautrix",
            Self::MatrixBotSdk => "matrix-bot-sdk",
        }
    }

    /// The version in its list.
    pub fn version(self) -> &'static str {
        let (text, mark, end) = match self {
            Self::Mautrix => (LISTS[0].1, "\nmautrix==", ' '),
            Self::MatrixBotSdk => (LISTS[1].1, "\"matrix-bot-sdk\": \"", '"'),
        };
        text.split_once(mark).and_then(|(_, rest)| rest.split(end).next()).unwrap_or("?")
    }

    /// Where it is installed; it is installed first if need be.
    pub async fn install(self, places: &Places) -> Result<PathBuf> {
        let lists: Vec<_> =
            LISTS.into_iter().filter(|(name, _)| (*name == "requirements.txt") == (self == Self::Mautrix)).collect();
        let all: String = lists.iter().map(|(_, text)| *text).collect();
        let digest = ring::digest::digest(&ring::digest::SHA256, all.as_bytes());
        let key: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let what = format!("bench-{}", self.name());
        let place = places.cache().join(format!("{what}-{key}"));
        if place.exists() {
            return Ok(place);
        }
        eprintln!("installing {}", self.name());
        let turn = Turn::take(places.cache(), &what).await?;
        let beside = turn.beside()?;
        for (name, text) in lists {
            fs::write(beside.path().join(name), text)?;
        }
        match self {
            Self::Mautrix => {
                let python = Python::find().await?;
                run(beside.path(), &python.executable, &["-m", "venv", "."], "apt install python3-venv").await?;
                let install = "-I -m pip install --no-deps --only-binary=:all: --require-hashes --no-input \
                     --disable-pip-version-check --quiet -r requirements.txt";
                let install: Vec<&str> = install.split_whitespace().collect();
                let remedy = "is the package index reachable? `pip download mautrix` tells";
                run(beside.path(), &beside.path().join("bin/python3"), &install, remedy).await?;
            }
            Self::MatrixBotSdk => {
                let install = ["ci", "--ignore-scripts", "--no-progress", "--loglevel=error"];
                run(beside.path(), Path::new("npm"), &install, "apt install nodejs npm").await?;
            }
        }
        turn.put_in_place(beside, &place)?;
        Ok(place)
    }

    /// Starts it and waits until it takes a transaction.
    pub async fn start(
        self,
        place: &Path,
        directory: &Path,
        homeserver: &str,
        http: &reqwest::Client,
    ) -> Result<Appservice> {
        let scripts = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bridge/peers")).join(self.name());
        let port = free_port()?;
        let store = directory.join(format!("{}.store", self.name()));
        let text = |path: &Path| path.display().to_string();
        let own = [homeserver.to_owned(), port.to_string(), text(&store)];
        let (program, script) = match self {
            Self::Mautrix => (place.join("bin/python3"), vec![text(&scripts.join("peer.py"))]),
            Self::MatrixBotSdk => ("node".into(), vec![text(&scripts.join("peer.js")), text(place)]),
        };
        let arguments: Vec<String> = script.into_iter().chain(own).collect();
        let log = directory.join(format!("{}.out", self.name()));
        let process = Process::start(&program, &arguments, &[], None, &log)?;
        let mut peer = Appservice { base: format!("http://127.0.0.1:{port}"), process, store, peer: self };
        let url = format!("{}/_matrix/app/v1/transactions/0", peer.base);
        until("the peer serves", async || {
            let answer = http.put(&url).bearer_auth("hs").json(&json!({ "events": [] })).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Some(()));
            }
            if !peer.process.is_running() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!(
                    "{} did not start; remove {} to have it installed anew. It said: {}",
                    self.name(),
                    place.display(),
                    said.trim()
                );
            }
            Ok(None)
        })
        .await?;
        Ok(peer)
    }
}

// === impl Appservice ===

impl Appservice {
    /// How many events it has stored.
    pub fn stored(&self) -> Result<usize> {
        match self.peer {
            Peer::Mautrix => {
                let database = rusqlite::Connection::open(&self.store)?;
                let count: i64 = database.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
                Ok(usize::try_from(count)?)
            }
            Peer::MatrixBotSdk => Ok(fs::read_to_string(&self.store)?.lines().count()),
        }
    }
}

async fn run(directory: &Path, program: &Path, arguments: &[&str], remedy: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("cannot start {}: {remedy}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} {} failed ({remedy}): {}", program.display(), arguments.join(" "), said.trim());
    }
    Ok(())
}

/// A homeserver that agrees to everything; matrix-bot-sdk registers its bot when it starts. Nobody asks it afterwards.
pub async fn agreeable_homeserver() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let agree = Router::new().fallback(async || Json(json!({ "user_id": "@bot:vvt", "versions": ["v1.11"] })));
    tokio::spawn(async move { axum::serve(listener, agree).await });
    Ok(base)
}
