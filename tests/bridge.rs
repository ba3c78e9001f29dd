//! The bridge with a real Synapse and its embedded FHIR endpoint: real processes, real sockets, one world a test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

#[path = "bridge/attendance.rs"]
mod attendance;
#[path = "bridge/between.rs"]
mod between;
#[path = "bridge/bot.rs"]
mod bot;
#[path = "bridge/campaign.rs"]
mod campaign;
#[path = "bridge/chats.rs"]
mod chats;
#[path = "bridge/crash.rs"]
mod crash;
#[path = "bridge/directory.rs"]
mod directory;
#[path = "bridge/edits.rs"]
mod edits;
#[path = "bridge/elsewhere.rs"]
mod elsewhere;
#[path = "bridge/extremes.rs"]
mod extremes;
#[path = "bridge/forgetful.rs"]
mod forgetful;
#[path = "bridge/halves.rs"]
mod halves;
#[path = "bridge/invitations.rs"]
mod invitations;
#[path = "bridge/joining.rs"]
mod joining;
#[allow(dead_code, reason = "the tests of the lab need more of it")]
#[path = "federation/lab.rs"]
mod lab;
#[path = "bridge/leads.rs"]
mod leads;
#[path = "bridge/mishaps.rs"]
mod mishaps;
#[path = "bridge/moving.rs"]
mod moving;
#[path = "bridge/outage.rs"]
mod outage;
#[path = "bridge/page.rs"]
mod page;
#[path = "bridge/person.rs"]
mod person;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "bridge/pruning.rs"]
mod pruning;
#[path = "bridge/refusals.rs"]
mod refusals;
#[path = "bridge/replicas.rs"]
mod replicas;
#[path = "bridge/roles.rs"]
mod roles;
#[path = "bridge/scenario.rs"]
mod scenario;
#[path = "bridge/traces.rs"]
mod traces;
#[path = "bridge/world.rs"]
mod world;
