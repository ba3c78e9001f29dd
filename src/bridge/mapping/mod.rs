//! FHIR ↔ Matrix as pure functions: what a team, a conversation, a message and a read mark are on the other side.
//!
//! Nothing here talks to a server or remembers anything, so that every rule can be tried with every input. The rules
//! come from the Dutch specification for instant messaging in care and the OZO implementation guide; where they leave
//! a choice, it is written beside the function.

pub mod audit;
pub mod listing;
pub mod logical;
pub mod markup;
pub mod message;
pub mod person;
pub mod power;
pub mod reading;
pub mod thread;

use crate::fhir::resources::{Identifier, Reference};

/// System of the identifier that names the Matrix event of a Communication.
pub const EVENT_ID: &str = "https://matrix.org/event-id";
/// System of the identifier that names the Matrix room of a CommunicationRequest.
pub const ROOM_ID: &str = "https://matrix.org/room-id";
/// System of the identifier that names a person by Matrix id.
pub const USER_ID: &str = "https://matrix.org/user-id";

/// The first identifier of a system.
pub fn identifier<'a>(identifiers: &'a [Identifier], system: &str) -> Option<&'a str> {
    identifiers.iter().find(|identifier| identifier.is_of(system))?.value.as_deref()
}

/// A reference by literal, `Type/id`.
pub fn literal(reference: impl Into<String>) -> Reference {
    Reference { reference: Some(reference.into()), ..Reference::default() }
}

/// A legal FHIR id that depends on the parts alone, so that a write that is repeated meets the first one.
///
/// 40 hexadecimal digits of a SHA-256 over the parts, each with its length.
pub fn stable_id(prefix: &str, parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let digits: String = digest.as_ref().iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{digits}")
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;
