//! A homeserver that is away for long: all that was accepted meanwhile is delivered, and memory stays bounded.
//!
//! `BRIDGE_TEST_WAITING` says how many Communications wait (300), `BRIDGE_TEST_MIB` by how much the bridge may grow
//! (200).

use std::time::Instant;

use crate::{
    crash::beginning_with,
    scenario::{begin, communication},
    world::{PATIENCE, World, encode, number},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_homeserver_is_delivered_in_order_and_in_bounded_memory() {
    let waiting = number("BRIDGE_TEST_WAITING", 300);
    let mut world = World::new();
    let (anna, _, room) = begin(&mut world).await;

    world.kill_homeserver();
    let (before, _) = world.memory();
    let started = Instant::now();
    let mut expected = Vec::new();
    for number in 0..waiting {
        let text = format!("fhir {number}");
        let mut message = communication(&format!("w-{number}"), &text);
        message.as_object_mut().unwrap().remove("sent");
        world.put(message).await;
        expected.push(text);
    }
    let accepted = started.elapsed();

    world.start_homeserver().await;
    world.connected().await;
    let started = Instant::now();
    let newest = format!("v3/rooms/{}/messages?dir=b&limit=1", encode(&room));
    let (mut last, mut since) = (String::new(), Instant::now());
    loop {
        let body = anna.get(&newest).await["chunk"][0]["content"]["body"].as_str().unwrap_or_default().to_owned();
        if Some(&body) == expected.last() {
            break;
        }
        if body != last {
            (last, since) = (body, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "nothing more arrives after {last:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let delivered = started.elapsed();
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), expected);
    let (after, peak) = world.memory();
    eprintln!(
        "{waiting} accepted in {accepted:?}, delivered in {delivered:?}; KiB before {before}, peak {peak}, after {after}"
    );
    let bound = number("BRIDGE_TEST_MIB", 200) << 10;
    assert!(peak - before < bound, "the bridge grew from {before} to {peak} KiB");
}
