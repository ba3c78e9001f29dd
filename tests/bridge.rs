//! The bridge with a real Synapse and its embedded FHIR endpoint: real processes, real sockets, one world a test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

#[path = "bridge/bot.rs"]
mod bot;
#[path = "bridge/crash.rs"]
mod crash;
#[path = "bridge/directory.rs"]
mod directory;
#[path = "bridge/elsewhere.rs"]
mod elsewhere;
#[path = "bridge/page.rs"]
mod page;
#[path = "bridge/scenario.rs"]
mod scenario;
#[path = "bridge/traces.rs"]
mod traces;
#[path = "bridge/world.rs"]
mod world;
