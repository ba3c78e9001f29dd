//! `federation-proxy` as its clients, its homeservers and its operators meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "proxy/support.rs"]
mod support;

#[path = "proxy/corpora.rs"]
mod corpora;
#[path = "proxy/forwarding.rs"]
mod forwarding;
#[path = "proxy/http2.rs"]
mod http2;
#[path = "proxy/limits.rs"]
mod limits;
#[path = "proxy/network.rs"]
mod network;
#[path = "proxy/operation.rs"]
mod operation;
#[path = "proxy/sites.rs"]
mod sites;
#[path = "proxy/tls.rs"]
mod tls;
