//! Messages: what a Communication says as Matrix events, and what an event says as a Communication.

mod incoming;
mod outgoing;

use serde_json::{Map, Value, json};

use super::{EVENT_ID, identifier, literal, logical, stable_id};
use crate::{
    bridge::identity::Instance,
    fhir::{
        instant::DateTime,
        resources::{Annotation, Communication, EventStatus, Identifier, Payload, Reference},
    },
};

pub use incoming::{Incoming, Media, Said, read};
pub use outgoing::{Outgoing, Upload, not_passed_on, outgoing};

/// The key in an event's content that names the resource that the event is. It holds no patient data, only an id.
///
/// By it the bridge knows its own events again when it was killed between sending and remembering.
pub const MARK: &str = "care-federation.fhir";
/// The extension for text with formatting (HL7, "rendering-xhtml").
pub(super) const RENDERING: &str = "http://hl7.org/fhir/StructureDefinition/rendering-xhtml";
/// Longest text that is sent as an event, in bytes; an event may have 65,536 with all that belongs to it, and an edit
/// holds its text twice. What is longer becomes a file.
pub const LONGEST_TEXT: usize = 20_000;

/// A text of at most so many characters; one that was longer ends with `…`.
pub fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// Whether a Communication is to be seen in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Not yet, or not any more without ever having been sent.
    Hidden,
    /// Yes.
    Shown,
    /// It was a mistake: it is withdrawn.
    Withdrawn,
}

/// Whether a Communication is to be seen.
pub fn visibility(status: Option<&EventStatus>) -> Visibility {
    match status {
        Some(EventStatus::InProgress | EventStatus::Completed | EventStatus::Unknown) => Visibility::Shown,
        Some(EventStatus::EnteredInError) => Visibility::Withdrawn,
        _ => Visibility::Hidden,
    }
}

/// Which resource an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// `Communication/1`.
    pub resource: String,
    /// Which state of it: see [`digest`].
    pub digest: String,
    /// Which payload, from 0.
    pub part: u32,
}

// === impl Mark ===

impl Mark {
    /// Writes the mark into an event's content.
    pub fn write(&self, content: &mut Map<String, Value>) {
        let mark = json!({ "resource": self.resource, "digest": self.digest, "part": self.part });
        content.insert(MARK.to_owned(), mark);
    }

    /// Reads the mark of an event's content. Whoever wrote it may lie: only events of the bridge's users count.
    pub fn read(content: &Value) -> Option<Self> {
        let mark = content.get(MARK)?;
        let text = |name: &str| mark.get(name)?.as_str().map(str::to_owned);
        let part = u32::try_from(mark.get("part")?.as_u64()?).ok()?;
        Some(Self { resource: text("resource")?, digest: text("digest")?, part })
    }
}

/// What an event is, besides what it says.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The event.
    pub event_id: &'a str,
    /// The conversation that it belongs to.
    pub request: &'a Instance,
    /// Whom the conversation is about.
    pub subject: Option<Reference>,
    /// Who sent it; see [`sender`].
    pub sender: Reference,
    /// When, in milliseconds since 1970.
    pub sent: i64,
    /// The Communication that it answers, `Communication/1`.
    pub in_response_to: Option<String>,
}

/// The Communication that an event is. `missing` names what could not be carried.
///
/// Its id depends on the event alone, so that the same event is never two Communications.
pub fn communication(facts: Facts<'_>, payload: Vec<Payload>, missing: Option<&str>) -> Communication {
    let note = missing.map(|what| Annotation {
        text: Some(format!("Content of the Matrix message is missing here: {what}.")),
        ..Annotation::default()
    });
    Communication {
        id: communication_id(facts.event_id).parse().ok(),
        identifier: vec![Identifier::new(EVENT_ID, facts.event_id)],
        part_of: vec![literal(facts.request.to_string())],
        in_response_to: facts.in_response_to.into_iter().map(literal).collect(),
        status: Some(EventStatus::Completed),
        subject: facts.subject,
        sent: Some(DateTime::from_millis(facts.sent)),
        sender: Some(facts.sender),
        payload,
        note: note.into_iter().collect(),
        ..Communication::default()
    }
}

/// The id of the Communication that an event becomes.
pub fn communication_id(event_id: &str) -> String {
    stable_id("mx", &[event_id])
}

/// Who sent an event: the person, or the Matrix id of somebody whom FHIR does not know.
pub fn sender(person: Option<&str>, user_id: &str, display_name: Option<&str>) -> Reference {
    match person {
        Some(person) => Instance::parse(person).map_or_else(|_| literal(person), |person| logical::reference(&person)),
        None => Reference::by(Identifier::new(super::USER_ID, user_id)).display(display_name.unwrap_or(user_id)),
    }
}

/// The event that a Communication came from or went to.
pub fn event_of(communication: &Communication) -> Option<&str> {
    identifier(&communication.identifier, EVENT_ID)
}

/// The first conversation that a Communication is part of.
pub fn request_of(communication: &Communication) -> Option<Instance> {
    use crate::bridge::identity::Kind;
    let parts = communication.part_of.iter().chain(&communication.based_on);
    parts.filter_map(super::thread::instance).find(|found| found.kind() == Kind::CommunicationRequest)
}

/// A payload of text, with formatting where there is some.
pub fn text_payload(text: &str, xhtml: Option<&str>) -> Payload {
    let mut payload = Payload { content_string: Some(text.to_owned()), ..Payload::default() };
    if let Some(xhtml) = xhtml {
        let extension = json!({ "extension": [{ "url": RENDERING, "valueString": xhtml }] });
        payload.rest.insert("_contentString".to_owned(), extension);
    }
    payload
}

/// What is to be seen of a message, as 32 hexadecimal digits: equal when both sides say the same.
///
/// It covers the payloads and whether the message is shown, not versions, identifiers or who wrote it back; so a
/// version that only gained an identifier is no news.
pub fn digest(payload: &[Payload], visibility: Visibility) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(match visibility {
        Visibility::Hidden => b"hidden",
        Visibility::Shown => b"shown",
        Visibility::Withdrawn => b"withdrawn",
    });
    if visibility == Visibility::Shown {
        for payload in payload {
            let value = serde_json::to_value(payload).unwrap_or_default();
            context.update(canonical(&value).as_bytes());
            context.update(b"\n");
        }
    }
    context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with the members of every object in the order of their names: servers may reorder them.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members: Vec<_> =
                members.into_iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
