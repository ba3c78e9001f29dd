//! The bridge with a real Synapse and its embedded FHIR endpoint: real processes, real sockets, one world a test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

#[path = "bridge/campaign.rs"]
mod campaign;
#[path = "bridge/crash.rs"]
mod crash;
#[path = "bridge/outage.rs"]
mod outage;
#[path = "bridge/scenario.rs"]
mod scenario;
#[path = "bridge/world.rs"]
mod world;
