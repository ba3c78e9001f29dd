//! The Matrix side against a real Synapse: the application-service API as Synapse calls it, and every operation of
//! the client as Synapse answers it. One Synapse and one application service serve all tests, which run in parallel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test")]

mod history;
mod membership;
mod messages;
mod operations;
mod person;
mod pictures;
mod ping;
mod queries;
mod rooms;
mod service;
mod synapse;
mod world;
