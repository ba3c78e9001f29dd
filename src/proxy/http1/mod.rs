//! HTTP/1.1 on the wire (RFC 9112): heads, bodies, and the buffers that they are read into.
//!
//! The proxy reads and writes HTTP/1.1 itself, on both sides, because a request then passes in one task with no
//! channel, no header map and no copy more than needed, and because every refusal can have its own status and words.
//! Heads are parsed by `httparse`; what a sequence of heads and bodies means is decided here, strictly: whatever two
//! programs could read differently is refused (RFC 9112 section 11).

pub(super) mod body;
pub(super) mod buffer;
pub mod head;
