//! Communications and first messages: what is to be said of them where, and what both sides then know of each other.

use ruma::{MilliSecondsSinceUnixEpoch, RoomId, UInt};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Done, Engine, Trouble, marks::NewMessage, room_id, say::Saying, work};
use crate::{
    bridge::{
        identity::Instance,
        mapping::{
            literal,
            message::{self, Visibility},
            thread,
        },
        store::{Change, MessageLink, Need, Origin, Role, Side},
    },
    fhir::{
        id::Key,
        instant::DateTime,
        resources::{Communication, CommunicationRequest, Identifier, Resource},
        server::Condition,
    },
};

/// What a FHIR resource gained: the event that it became.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenBack {
    resource: String,
    event_id: String,
}

// === impl Engine ===

impl Engine {
    /// A Communication is new or has changed.
    pub(super) async fn speak(&self, payload: &str, suspect: bool) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let mut communication: Communication = resource.to()?;
        let unknown = match communication.sender.as_mut() {
            Some(sender) => self.name(sender).await?,
            None => None,
        };
        let Some(request) = message::request_of(&communication) else {
            info!("a Communication that is part of no conversation has no room");
            return Ok(Vec::new());
        };
        let Some(key) = resource.key().map(|key| key.to_string()) else { return Ok(Vec::new()) };
        self.note_draft(&resource, &communication);
        let visibility = message::visibility(communication.status.as_ref());
        let links = self.store.messages_of(&key).await?;
        if links.is_empty() {
            if visibility != Visibility::Shown {
                return Ok(Vec::new());
            }
            // It names its event: it came from Matrix, or went there before this store knew.
            if message::event_of(&communication).is_some() {
                return Ok(Vec::new());
            }
        }
        let Some(link) = self.store.room_of(&request.to_string()).await? else {
            return Err(Trouble::Wait(Need::Room(request.to_string())));
        };
        let room = room_id(&link.room_id)?;
        let (links, earlier): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| link.room_id == room.as_str());
        if links.is_empty() && !earlier.is_empty() && !says_more(&communication, visibility, &earlier) {
            return Ok(Vec::new());
        }
        if let Some(original) = links.iter().find(|link| link.origin == Origin::Matrix && link.role == Role::Message) {
            return self.correct(&room, original, &communication, &resource, suspect).await;
        }
        let answered = communication.in_response_to.first().and_then(|answered| answered.reference.clone());
        let reply_to = match answered {
            Some(answered) => {
                let mut answered = self.said_of(&answered).await?.into_iter();
                answered.find(|link| link.room_id == room.as_str()).map(|link| link.event_id)
            }
            None => None,
        };
        if let Some(unknown) = unknown.filter(|_| visibility == Visibility::Shown) {
            // The bridge does not say in its own name what somebody else wrote.
            return Err(Trouble::Refused(format!("the sender: {unknown}")));
        }
        let sender = communication.sender.as_ref().and_then(thread::instance);
        let saying = Saying {
            resource: key.clone(),
            version: resource.version().unwrap_or("1").to_owned(),
            payload: &communication.payload,
            visibility,
            sender: sender.clone(),
            at: moment(communication.sent.as_ref()),
            reply_to,
            room: &room,
        };
        let said = self.say(&saying, links, suspect).await?;
        let mut changes = said.changes;
        if let Some(first) = said.first {
            if message::event_of(&communication).is_none() {
                let written = WrittenBack { resource: key.clone(), event_id: first };
                changes.push(once(&room, "written", &written, &key)?);
            }
            changes.extend(self.unread(&room, &request, &key, sender.as_ref())?);
        }
        Ok(changes)
    }

    /// The first message of a conversation: what its request says.
    pub(super) async fn say_first(
        &self,
        place: &Instance,
        resource: &Resource,
        request: &CommunicationRequest,
        room: &RoomId,
        suspect: bool,
    ) -> Done {
        let named = request.requester.as_ref().or(request.sender.as_ref());
        if let Some(mut unknown) = named.filter(|_| !request.payload.is_empty()).cloned()
            && let Some(unknown) = self.name(&mut unknown).await?
        {
            return Err(Trouble::Refused(format!("who says the first message: {unknown}")));
        }
        let sender = named.and_then(thread::instance);
        let saying = Saying {
            resource: place.to_string(),
            version: resource.version().unwrap_or("1").to_owned(),
            payload: thread::first_message(request),
            visibility: Visibility::Shown,
            sender: sender.clone(),
            at: moment(request.authored_on.as_ref()),
            reply_to: None,
            room,
        };
        // What was said in a room that is gone has to be said again: the conversation begins with it.
        let mut links = self.store.messages_of(&saying.resource).await?;
        links.retain(|link| link.room_id == room.as_str());
        let said = self.say(&saying, links, suspect).await?;
        let mut changes = said.changes;
        if said.first.is_some() {
            changes.extend(self.unread(room, place, &place.to_string(), sender.as_ref())?);
        }
        Ok(changes)
    }

    /// The events of a resource that a reference names, by whatever version or address.
    pub(super) async fn said_of(&self, reference: &str) -> Result<Vec<MessageLink>, Trouble> {
        let key = Key::parse(reference).map(|key| key.any_version().to_string());
        Ok(self.store.messages_of(key.as_deref().unwrap_or(reference)).await?)
    }

    fn unread(
        &self,
        room: &RoomId,
        request: &Instance,
        resource: &str,
        sender: Option<&Instance>,
    ) -> Result<Option<Change>, Trouble> {
        if !self.settings.tasks {
            return Ok(None);
        }
        let sender = sender.map(ToString::to_string);
        let new = NewMessage { request: request.to_string(), message: resource.to_owned(), sender };
        once(room, "reading", &new, resource).map(Some)
    }

    /// Writes the event id back, so that each side finds the other.
    pub(super) async fn write_back(&self, payload: &str) -> Done {
        let written: WrittenBack = serde_json::from_str(payload)?;
        let Some(key) = Key::parse(&written.resource) else { return Ok(Vec::new()) };
        let current = self.fhir.read(key.kind, &key.id).await?;
        let mut communication: Communication = current.to()?;
        if message::event_of(&communication).is_some() {
            return Ok(Vec::new());
        }
        communication.identifier.push(Identifier::new(crate::bridge::mapping::EVENT_ID, written.event_id));
        let version = current.version().unwrap_or_default().to_owned();
        self.fhir.update(Resource::of(&communication), Condition::VersionIs(&version)).await?;
        Ok(Vec::new())
    }
}

/// Work on the FHIR side of a room that is done once for a resource.
fn once(room: &RoomId, kind: &'static str, payload: &impl Serialize, resource: &str) -> Result<Change, Trouble> {
    Ok(Change::Once { key: format!("{kind} {resource}"), work: work(Side::Fhir, room.as_str(), kind, payload)? })
}

/// Whether a message has something to say beyond what it said in a room that is gone.
fn says_more(communication: &Communication, visibility: Visibility, earlier: &[MessageLink]) -> bool {
    let whole = message::digest(&communication.payload, visibility);
    let parts = communication.payload.iter().map(|payload| message::digest(std::slice::from_ref(payload), visibility));
    let now: Vec<String> = parts.chain([whole]).collect();
    visibility == Visibility::Shown && !earlier.iter().any(|link| now.contains(&link.digest))
}

/// A FHIR time as Matrix counts.
fn moment(time: Option<&DateTime>) -> Option<MilliSecondsSinceUnixEpoch> {
    let millis = u64::try_from(time?.millis()?).ok()?;
    UInt::try_from(millis).ok().map(MilliSecondsSinceUnixEpoch)
}

/// A reference for a Communication's `inResponseTo`.
pub(super) fn answered(link: Option<MessageLink>) -> Option<String> {
    link.map(|link| link.resource)
        .filter(|resource| resource.starts_with("Communication/"))
        .map(|resource| literal(resource).reference.unwrap_or_default())
}
