//! Floor 2: the Matrix application-service API and the homeserver client.
//!
//! | module | what it knows |
//! |---|---|
//! | [`registration`] | the file by which a homeserver and an application service know each other |
//! | [`server`] | what the homeserver calls: transactions, queries, ping, third-party look-ups |
//! | [`transaction`] | what a transaction holds: events as received, and ephemeral data |
//! | [`homeserver`] | calls to the homeserver: retries, time-outs, typed errors, the ping that explains itself |
//! | [`intent`] | acting as one user: registering, joining and retrying are hidden |
//! | [`rooms`] | what a room or space is made of, in room versions 10 to 12 |
//! | [`canonical`] | the numbers that an event may hold |
//! | [`media`] | files both ways: streamed, limited, checked |

pub mod canonical;
pub mod homeserver;
pub mod intent;
pub mod media;
pub mod path;
pub mod registration;
pub mod rooms;
pub mod server;
pub mod transaction;
mod yaml;

pub use homeserver::{Error, Homeserver};
pub use intent::Intent;
pub use registration::Registration;
pub use transaction::{Event, Transaction};
