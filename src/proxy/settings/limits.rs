//! Bounds on what a client may take.

use serde::{Deserialize, Serialize};

use super::Period;

/// Bounds on what a client may take. Nothing in the proxy grows without one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's head: request line and header fields. Over it: 431. Default: 32768.
    pub header_bytes: usize,
    /// Header fields of a request. Over it: 431. At most 256. Default: 100.
    pub header_count: usize,
    /// Time from the first byte of a head to its last. Over it: 408. A new connection has as long for its first byte. Default: `10s`.
    pub header_time: Period,
    /// Bytes of a request's body. Over it: 413. Synapse needs 50 MB for media and for transactions between servers.
    /// Default: 52428800.
    pub body_bytes: u64,
    /// Time that a connection may be silent: between requests, within a body, or in a tunnel. Default: `75s`.
    pub idle_time: Period,
    /// Time from the last byte of a request to the head of its response. Longer than the long poll of `/sync` (30 s in Element,
    /// others ask for more) and of Synapse's federation calls. Over it: 504. Default: `180s`.
    pub request_time: Period,
    /// Time to connect to a homeserver. Over it: 504. Default: `5s`.
    pub connect_time: Period,
    /// Time for a TLS handshake. Over it the connection is closed. Default: `10s`.
    pub handshake_time: Period,
    /// TLS handshakes a second, over all listeners; as many again may come at once. Over it connections are closed
    /// before the handshake. Default: 2000.
    pub handshakes_per_second: u32,
    /// Open connections from clients. Over it: 503, or closed where TLS was meant. Default: 20000.
    pub connections: usize,
    /// Open connections from one IPv4 address or one IPv6 /64. Over it: 429, or closed where TLS was meant. Default:
    /// 2000.
    pub connections_per_address: usize,
    /// Requests in flight. Over it: 503 with `Retry-After`. Default: 10000.
    pub requests: usize,
    /// Requests in flight from one address, counted as `connections_per_address`. Over it: 429 with `Retry-After`.
    /// Default: 4000.
    pub requests_per_address: usize,
    /// Requests in flight on one HTTP/2 connection; a client that respects the protocol waits. Default: 128.
    pub streams_per_connection: u32,
    /// Idle connections that each worker keeps to each homeserver. Default: 64.
    pub idle_upstream_connections: usize,
    /// Time that an idle connection to a homeserver is kept. Synapse closes its own after 60 s or more. Default: `50s`.
    pub idle_upstream_time: Period,
    /// Open tunnels through the egress. Over it: 503. Default: 2000.
    pub tunnels: usize,
    /// Time that open requests have to finish when the proxy stops; what is left then is cut. Default: `30s`.
    pub drain_time: Period,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            header_count: 100,
            header_time: Period::seconds(10),
            body_bytes: 50 * 1024 * 1024,
            idle_time: Period::seconds(75),
            request_time: Period::seconds(180),
            connect_time: Period::seconds(5),
            handshake_time: Period::seconds(10),
            handshakes_per_second: 2000,
            connections: 20_000,
            connections_per_address: 2000,
            requests: 10_000,
            requests_per_address: 4000,
            streams_per_connection: 128,
            idle_upstream_connections: 64,
            idle_upstream_time: Period::seconds(50),
            tunnels: 2000,
            drain_time: Period::seconds(30),
        }
    }
}
