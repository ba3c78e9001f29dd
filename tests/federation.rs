//! The network with real Synapses: one for all tests to look at, and small ones of their own for those that break
//! something. The tests do their own set-up; the virtual environment is made at the first run and kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

#[path = "federation/client.rs"]
mod client;
#[path = "federation/lab.rs"]
mod lab;
#[path = "federation/life.rs"]
mod life;
#[path = "federation/mistakes.rs"]
mod mistakes;
#[path = "federation/scenario.rs"]
mod scenario;
#[path = "federation/shared.rs"]
mod shared;
