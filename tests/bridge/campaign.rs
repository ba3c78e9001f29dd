//! Bridge, homeserver and FHIR server are killed at random moments while people talk on both sides.
//!
//! `BRIDGE_TEST_KILLS` says how often (12; the FHIR server alone 6), `BRIDGE_TEST_SEED` when and whom: the same seed
//! gives the same plan.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    crash::{beginning_with, communications, settled},
    scenario::{begin, communication},
    world::{Person, World, encode, number, place},
};

/// Pause between two messages of FHIR; more only lengthens the queue.
const WRITING: Duration = Duration::from_millis(250);
/// Pause between two messages of a person.
const TALKING: Duration = Duration::from_millis(50);
/// Pause before a call is made again.
const AGAIN: Duration = Duration::from_millis(100);

/// Who is killed.
#[derive(Clone, Copy)]
enum Victim {
    Bridge,
    Homeserver,
    FhirServer,
}

/// Random numbers that a seed determines (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

/// Puts one Communication after the other until `enough`, each until it is accepted; returns what they say.
async fn write(http: &Client, base: &str, enough: &AtomicBool) -> Vec<String> {
    let mut said = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let text = format!("fhir {}", said.len());
        let mut message = communication(&format!("c-{}", said.len()), &text);
        message.as_object_mut().unwrap().remove("sent");
        let url = format!("{base}/{}", place(&message));
        let put = || http.put(&url).header("content-type", "application/fhir+json").body(message.to_string()).send();
        while !put().await.is_ok_and(|response| response.status().is_success()) {
            tokio::time::sleep(AGAIN).await;
        }
        said.push(text);
        tokio::time::sleep(WRITING).await;
    }
    said
}

/// Says one thing after the other until `enough`, each until it is accepted. The homeserver knows a repetition of a
/// person with a device by its transaction id, also after a crash.
async fn talk(person: &Person, room: &str, enough: &AtomicBool) -> Vec<String> {
    let mut said = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let text = format!("matrix {}", said.len());
        let path = format!("v3/rooms/{}/send/m.room.message/campaign-{}", encode(room), said.len());
        while person.try_put(&path, &json!({ "msgtype": "m.text", "body": text })).await.is_none() {
            tokio::time::sleep(AGAIN).await;
        }
        said.push(text);
        tokio::time::sleep(TALKING).await;
    }
    said
}

/// Kills whom of these the dice say, when they say so, and starts them again.
async fn kill(world: &mut World, dice: &mut Dice, victims: &[Victim], kills: u64) -> [u64; 3] {
    let one_of = |dice: &mut Dice| victims[usize::try_from(dice.below(victims.len() as u64)).unwrap()];
    let mut killed = [0; 3];
    while killed.iter().sum::<u64>() < kills {
        tokio::time::sleep(dice.millis(1200)).await;
        // Sometimes two at once.
        let first = one_of(dice);
        let second = if dice.below(5) == 0 { one_of(dice) } else { first };
        for victim in [first, second] {
            match victim {
                Victim::Bridge if world.has_bridge() => world.kill_bridge(),
                Victim::Homeserver if world.has_homeserver() => world.kill_homeserver(),
                Victim::FhirServer if world.has_fhir_server() => world.kill_fhir_server(),
                _ => continue,
            }
            killed[victim as usize] += 1;
            tokio::time::sleep(dice.millis(300)).await;
        }
        if !world.has_fhir_server() {
            world.start_fhir_server().await;
        }
        if !world.has_homeserver() {
            world.start_homeserver().await;
        }
        if !world.has_bridge() {
            world.start_bridge().await;
        }
    }
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_at_any_moment_every_message_is_there_once_and_in_order() {
    campaign(&[Victim::Bridge, Victim::Homeserver, Victim::FhirServer], 12).await;
}

/// Whoever was not answered asks again; what was stored is known again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fhir_server_that_is_killed_again_and_again_has_every_message_once_and_in_order() {
    campaign(&[Victim::FhirServer], 6).await;
}

async fn campaign(victims: &[Victim], kills: u64) {
    let kills = number("BRIDGE_TEST_KILLS", kills);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("BRIDGE_TEST_SEED", u64::from(clock.subsec_nanos())) | 1;
    eprintln!("BRIDGE_TEST_KILLS={kills} BRIDGE_TEST_SEED={seed}");

    let mut world = World::with_fhir_server();
    let (anna, _, room) = begin(&mut world).await;

    let started = Instant::now();
    let enough = AtomicBool::new(false);
    let (http, base) = (world.http.clone(), world.fhir());
    let (written, said, killed) = tokio::join!(write(&http, &base, &enough), talk(&anna, &room, &enough), async {
        let killed = kill(&mut world, &mut Dice(seed), victims, kills).await;
        enough.store(true, Ordering::Relaxed);
        killed
    });
    eprintln!(
        "killed bridge, homeserver, FHIR server {killed:?} times in {:?}; {} messages to Matrix, {} to FHIR",
        started.elapsed(),
        written.len(),
        said.len()
    );
    world.connected().await;
    settled(&world, &anna, &room, written.len(), said.len()).await;
    // What would come twice has come by the time that what is said last has come.
    world.put(communication("last", "fhir last")).await;
    anna.say(&room, "matrix last").await;
    settled(&world, &anna, &room, written.len() + 1, said.len() + 1).await;
    let with = |mut all: Vec<String>, last: &str| {
        all.push(last.to_owned());
        all
    };
    let texts = anna.texts(&room).await;
    assert_eq!(beginning_with(&texts, "fhir "), with(written, "fhir last"));
    assert_eq!(communications(&world, "matrix ").await, with(said, "matrix last"));
    let status: Value = serde_json::from_str(&world.output(&["status", "--json"])).unwrap();
    assert_eq!(status["overview"]["parked"], 0, "{status}");
    eprintln!("all is there once and in order after {:?}", started.elapsed());
}
