//! Floor 4: the whole network on one machine, its scenario and its measurements.
//!
//! | part | what it does |
//! |---|---|
//! | [`places`] | where the lab keeps its files |
//! | [`python`], [`install`] | the pinned Synapse in a private virtual environment |
//! | [`element`] | the pinned Element Web |
//! | [`cache`] | installing either, whole or not at all |
//! | [`ports`] | which ports the network takes, and who holds them |
//! | [`synapse`], [`bridge`], [`setup`] | the configuration of every program |
//! | [`program`], [`supervisor`] | child processes that never outlive the lab |
//! | [`control`], [`logs`] | what runs and what it says, for other terminals |
//! | [`client`], [`users`] | the Matrix client-server API as a user speaks it; who can log in |
//! | [`scenario`] | what a user would do, checked against any running network |

pub mod bridge;
pub mod cache;
pub mod client;
pub mod command;
pub mod control;
pub mod element;
pub mod install;
pub mod logs;
pub mod places;
pub mod ports;
pub mod program;
pub mod python;
pub mod scenario;
pub mod setup;
pub mod supervisor;
pub mod synapse;
pub mod users;
