//! Floor 1: what every program shares and none owns.

pub mod admin;
pub mod command;
pub mod database;
pub mod failure;
pub mod files;
pub mod listeners;
pub mod logs;
pub mod network;
pub mod secrets;
pub mod settings;
pub mod signals;
pub mod systemd;
pub mod trace;
