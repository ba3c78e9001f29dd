//! Which trace an event, a change and the work for it belong to (W3C Trace Context).
//!
//! A message of the bridge carries its trace in the member `care-federation.trace`. What answers it goes on in the same
//! trace, as far as this process remembers it; an event of another bridge in the trace that it names; any other event
//! in that of the transaction that brought it.
//!
//! The memory ends with the process. To look an older trace up would cost a call to the homeserver for every answer, before
//! the transaction that brings it is stored; what is lost without is a connection between two lines of a log.

use serde_json::{Map, Value};

use super::Engine;
use crate::{
    matrix::Event,
    service::trace::{self, Trace},
};

/// Member of an event's content: `{"traceparent": …, "tracestate": …}`.
pub(super) const MEMBER: &str = "care-federation.trace";
/// Events whose traces are remembered.
pub(super) const REMEMBERED: usize = 16_384;

/// Work with the trace of what is being done, or a fresh one.
pub(super) fn stamp(payload: &str) -> String {
    trace::current().map_or_else(Trace::fresh, |trace| trace.child()).stamp(payload)
}

/// Writes the trace of what is being done into an event's content.
pub(super) fn write(content: &mut Map<String, Value>) {
    if let Some(trace) = trace::current() {
        content.insert(MEMBER.to_owned(), trace.to_json());
    }
}

// === impl Engine ===

impl Engine {
    /// Remembers in which trace an event was sent.
    pub(super) fn remember_trace(&self, event_id: &str) {
        if let Some(trace) = trace::current() {
            self.said_in.note(event_id.to_owned(), trace);
        }
    }

    /// The work for an event, with its trace.
    pub(super) fn stamp_event(&self, event: &Event) -> String {
        match self.trace_of_event(event) {
            Some(trace) => trace.child().stamp(event.json()),
            None => stamp(event.json()),
        }
    }

    fn trace_of_event(&self, event: &Event) -> Option<Trace> {
        // Most events name neither, and are not read for it.
        if !event.json().contains(MEMBER) && !event.json().contains("m.in_reply_to") {
            return None;
        }
        let content: Value = event.content().ok()?;
        if let Some(trace) = content.get(MEMBER).and_then(Trace::from_json) {
            return Some(trace);
        }
        self.said_in.of(content.get("m.relates_to")?.get("m.in_reply_to")?.get("event_id")?.as_str()?)
    }
}
