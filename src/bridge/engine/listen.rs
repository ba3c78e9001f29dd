//! Events as Communications: what people say in Matrix, written down once.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ruma::{OwnedMxcUri, RoomId};
use serde_json::Value;
use tracing::info;

use super::{Done, Engine, Trouble, event_id, marks::NewMessage, notices::Notice, room_id, work};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            message::{self, Facts, Incoming, Media, Said, Visibility},
            thread,
        },
        store::{Change, MessageLink, Need, Origin, Role, RoomLink, Side},
    },
    fhir::{
        id::{Id, Key},
        query::Query,
        resources::{
            Attachment, CareTeam, Communication, CommunicationRequest, EventStatus, Payload, Reference, Resource,
            ResourceType,
        },
        server::{Condition, FhirError},
    },
    matrix::{self, Event, transaction::Outline},
};

// === impl Engine ===

impl Engine {
    /// An event of somebody in a room.
    pub(super) async fn listen(&self, payload: &str, suspect: bool) -> Done {
        let event = Event::from_json(payload.to_owned())?;
        let Ok(outline) = event.outline() else { return Ok(Vec::new()) };
        let Some(place) = self.store.place_of(outline.room_id.as_str()).await? else {
            // Not a conversation of the bridge: its business only where somebody speaks with the bot.
            return self.overhear(&event).await;
        };
        let Ok(request) = Instance::parse(&place.place) else { return Ok(Vec::new()) };
        if request.kind() != Kind::CommunicationRequest {
            return Ok(Vec::new());
        }
        let content: Value = event.content().unwrap_or_default();
        let redacts = event.redacts();
        let is_state = outline.state_key.is_some();
        match message::read(&outline.kind, &content, is_state, redacts.as_ref().map(|event| event.as_str())) {
            Incoming::Message { .. } if outline.is_redacted() => Ok(Vec::new()),
            Incoming::Message { said, reply_to } => self.write_down(outline, &request, said, reply_to, suspect).await,
            Incoming::Edit { of, said } => self.amend(outline, &of, said).await,
            Incoming::Redaction { of } => self.strike_out(outline, &of).await,
            Incoming::Nothing => Ok(Vec::new()),
        }
    }

    async fn write_down(
        &self,
        outline: &Outline,
        request: &Instance,
        said: Said,
        reply_to: Option<String>,
        suspect: bool,
    ) -> Done {
        let event_id = outline.event_id.as_str();
        let (payload, missing) = self.payload_of(said).await?;
        let person = self.person_in(request, outline.sender.as_str()).await?.map(|person| person.to_string());
        let display_name = match person {
            Some(_) => None,
            None => self.display_name(outline).await?,
        };
        let answered = match reply_to {
            Some(event) => super::speak::answered(self.store.message(&event).await?),
            None => None,
        };
        let facts = Facts {
            event_id,
            request,
            subject: self.subject_of(request).await?,
            sender: message::sender(person.as_deref(), outline.sender.as_str(), display_name.as_deref()),
            sent: i64::from(outline.origin_server_ts.get()),
            in_response_to: answered,
        };
        let communication = message::communication(facts, payload, missing.as_deref());
        let written = self.create_once(Resource::of(&communication), event_id, suspect).await?;
        let key = written.key().map(|key| key.to_string()).unwrap_or_default();
        let link = MessageLink {
            event_id: event_id.to_owned(),
            room_id: outline.room_id.to_string(),
            resource: key.clone(),
            part: 0,
            role: Role::Message,
            origin: Origin::Matrix,
            digest: digest_of(&written)?,
        };
        let mut changes = vec![Change::LinkMessage(link)];
        if self.settings.tasks {
            let new = NewMessage { request: request.to_string(), message: key.clone(), sender: person };
            let work = work(Side::Fhir, outline.room_id.as_str(), "reading", &new)?;
            changes.push(Change::Once { key: format!("reading {key}"), work });
        }
        if let Some(what) = missing {
            changes.push(say_missing(&outline.room_id, event_id, &what)?);
        }
        Ok(changes)
    }

    /// Writes a resource with an id of the bridge's choice, once whatever is repeated.
    ///
    /// A server that takes no ids from clients gets a conditional create on the event's identifier instead.
    /// `suspect`: it may have been written already; not every server refuses to write over what is there.
    pub(super) async fn create_once(
        &self,
        resource: Resource,
        event_id: &str,
        suspect: bool,
    ) -> Result<Resource, Trouble> {
        let Some(Key { kind, id, .. }) = resource.key() else {
            return Err(Trouble::Refused("a resource without an id".to_owned()));
        };
        if suspect {
            match self.fhir.read(kind, &id).await {
                Ok(found) => return Ok(found),
                Err(FhirError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bare = resource.clone();
        match self.fhir.update(resource, Condition::Absent).await {
            Ok(written) => Ok(written.resource),
            Err(FhirError::VersionConflict(_)) => Ok(self.fhir.read(kind, &id).await?),
            Err(FhirError::NotSupported(_) | FhirError::NotFound(_)) => {
                let unless = Query::identifier(crate::bridge::mapping::EVENT_ID, event_id);
                Ok(self.fhir.create(bare, Some(&unless)).await?.resource)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody edited what they said: the next version of the Communication.
    async fn amend(&self, outline: &Outline, of: &str, said: Said) -> Done {
        let Some((original, communication, version)) = self.spoken(outline, of).await? else { return Ok(Vec::new()) };
        // An edit is of a message, and its author's alone (Matrix specification, "Validity of replacement events").
        if original.role != Role::Message {
            info!("an edit of what is no message is ignored, as clients do");
            return Ok(Vec::new());
        }
        if !self.is_author(outline, &communication).await? {
            info!("an edit by somebody else is ignored");
            return Ok(Vec::new());
        }
        let (payload, missing) = self.payload_of(said).await?;
        let edited = Communication { payload, ..communication };
        let written = self.write(&edited, &version).await?;
        let mut changes = links_of(outline, original, Role::Edit, digest_of(&written)?);
        if let Some(what) = missing {
            changes.push(say_missing(&outline.room_id, outline.event_id.as_str(), &what)?);
        }
        Ok(changes)
    }

    /// Somebody withdrew a message: it was a mistake.
    async fn strike_out(&self, outline: &Outline, of: &str) -> Done {
        let Some((original, communication, version)) = self.spoken(outline, of).await? else { return Ok(Vec::new()) };
        match (original.role, original.origin) {
            (Role::Message, _) => {}
            (Role::Edit, Origin::Matrix) => return self.take_back(outline, &original, communication, &version).await,
            _ => return Ok(Vec::new()),
        }
        let struck = Communication { status: Some(EventStatus::EnteredInError), ..communication };
        let written = self.write(&struck, &version).await?;
        Ok(links_of(outline, original, Role::Redaction, digest_of(&written)?))
    }

    /// Somebody withdrew an edit: their message says again what it said before.
    async fn take_back(
        &self,
        outline: &Outline,
        edit: &MessageLink,
        communication: Communication,
        version: &str,
    ) -> Done {
        let mut links = self.store.messages_of(&edit.resource).await?;
        links.retain(|link| link.room_id == edit.room_id && link.role != Role::Redaction);
        let Some(original) = links.iter().find(|link| link.role == Role::Message).cloned() else {
            return Ok(Vec::new());
        };
        let mut standing = None;
        // The newest edit that was not withdrawn, else the message itself.
        for link in links.iter().rev() {
            let event = self.homeserver.bot().event(&outline.room_id, &event_id(&link.event_id)?).await?;
            standing = event.as_ref().and_then(said_by);
            if standing.is_some() {
                break;
            }
        }
        let Some(said) = standing else { return Ok(Vec::new()) };
        let (payload, _) = self.payload_of(said).await?;
        let written = self.write(&Communication { payload, ..communication }, version).await?;
        Ok(links_of(outline, original, Role::Redaction, digest_of(&written)?))
    }

    /// The Communication of an event, and its version; waits for an event that did not arrive yet.
    async fn spoken(
        &self,
        outline: &Outline,
        event: &str,
    ) -> Result<Option<(MessageLink, Communication, String)>, Trouble> {
        let Some(link) = self.store.message(event).await? else {
            if self.store.knows_event(event).await? {
                // It was no message, or it could not be carried.
                return Ok(None);
            }
            let look = Change::Soon(self.gap_work(outline.room_id.as_str()));
            self.commit(vec![look]).await?;
            return Err(Trouble::Wait(Need::Event(event.to_owned())));
        };
        let Some(key) = Key::parse(&link.resource).filter(|key| key.kind == ResourceType::Communication) else {
            return Ok(None);
        };
        let resource = self.fhir.read(key.kind, &key.id).await?;
        let version = resource.version().unwrap_or_default().to_owned();
        Ok(Some((link, resource.to()?, version)))
    }

    async fn write(&self, communication: &Communication, version: &str) -> Result<Resource, Trouble> {
        Ok(self.fhir.update(Resource::of(communication), Condition::VersionIs(version)).await?.resource)
    }

    async fn is_author(&self, outline: &Outline, communication: &Communication) -> Result<bool, Trouble> {
        let Some(author) = &communication.sender else { return Ok(false) };
        let persons = self.persons_of(outline.sender.as_str()).await?;
        let names = persons.iter().map(|person| Some(person.to_string())).chain([None]);
        Ok(names.into_iter().any(|person| {
            let sender = message::sender(person.as_deref(), outline.sender.as_str(), None);
            let same_identifier = author.identifier.is_some() && author.identifier == sender.identifier;
            let same_reference = author.reference.is_some() && author.reference == sender.reference;
            same_identifier || same_reference
        }))
    }

    /// What was said as payloads, and what of it is missing.
    async fn payload_of(&self, said: Said) -> Result<(Vec<Payload>, Option<String>), Trouble> {
        match said {
            Said::Text(payload) => Ok((vec![payload], None)),
            Said::Missing { what, instead } => Ok((vec![instead], Some(what))),
            Said::File(media) => self.file_of(media).await,
        }
    }

    async fn file_of(&self, media: Media) -> Result<(Vec<Payload>, Option<String>), Trouble> {
        let too_large = || format!("a file of more than {} bytes", self.settings.media_bytes);
        let absent = |what: String| {
            let instead = message::text_payload(&format!("[{what}] {}", media.name), None);
            Ok((media.caption.clone().into_iter().chain([instead]).collect(), Some(what)))
        };
        let uri = OwnedMxcUri::from(media.url.as_str());
        let download = match self.homeserver.bot().download(&uri).await {
            Ok(download) => download,
            Err(matrix::Error::TooLarge { .. }) => return absent(too_large()),
            Err(matrix::Error::Disguised { .. }) => return absent("a file that is not what it says".to_owned()),
            Err(error) if error.is_not_found() => return absent("a file that is not there".to_owned()),
            Err(error) => return Err(error.into()),
        };
        if download.size.is_some_and(|size| size > self.settings.media_bytes) {
            return absent(too_large());
        }
        let content_type = download.content_type.clone();
        let bytes = match download.bytes().await {
            Ok(bytes) if bytes.len() as u64 <= self.settings.media_bytes => bytes,
            Ok(_) | Err(matrix::Error::TooLarge { .. }) => return absent(too_large()),
            Err(error) => return Err(error.into()),
        };
        let attachment = Attachment {
            content_type: Some(content_type),
            data: Some(STANDARD.encode(&bytes)),
            size: Some(bytes.len() as u64),
            title: Some(media.name.clone()),
            ..Attachment::default()
        };
        let file = Payload { content_attachment: Some(attachment), ..Payload::default() };
        Ok((media.caption.clone().into_iter().chain([file]).collect(), None))
    }

    async fn display_name(&self, outline: &Outline) -> Result<Option<String>, Trouble> {
        let content = self.homeserver.bot().state(&outline.room_id, "m.room.member", outline.sender.as_str()).await?;
        Ok(content.and_then(|content| content.get("displayname")?.as_str().map(str::to_owned)))
    }

    /// Whom a conversation is about.
    pub(super) async fn subject_of(&self, request: &Instance) -> Result<Option<Reference>, Trouble> {
        let Some(resource) = self.resource_of(request).await? else { return Ok(None) };
        Ok(resource.to::<CommunicationRequest>()?.subject)
    }

    /// A person brought the bridge into a room of their own: in a team's space it becomes a conversation.
    pub(super) async fn adopt(&self, room: &RoomId, by: &str) -> Done {
        if self.store.place_of(room.as_str()).await?.is_some() {
            return Ok(Vec::new());
        }
        let Some((team, person)) = self.team_around(room, by).await? else { return Ok(Vec::new()) };
        let Some(resource) = self.resource_of(&team).await? else { return Ok(Vec::new()) };
        let subject = resource.to::<CareTeam>()?.subject;
        let by = message::sender(Some(&person.to_string()), by, None);
        let request = thread::request_of_room(room.as_str(), &team, subject, by, crate::bridge::store::now());
        let id: Option<Id> = request.id.clone();
        let place = format!("CommunicationRequest/{}", id.map(String::from).unwrap_or_default());
        // Linked first: the change that comes back from FHIR finds the room.
        self.commit(vec![Change::LinkRoom(RoomLink { room_id: room.to_string(), place })]).await?;
        self.create_once(Resource::of(&request), room.as_str(), true).await?;
        Ok(vec![Change::Soon(self.gap_work(room.as_str()))])
    }

    /// The team in whose space a room stands, if its maker belongs there: room and space must name each other, or the
    /// room its space.
    async fn team_around(&self, room: &RoomId, by: &str) -> Result<Option<(Instance, Instance)>, Trouble> {
        let persons = self.persons_of(by).await?;
        let state = self.homeserver.bot().all_state(room).await?;
        for event in &state {
            let Ok(outline) = event.outline() else { continue };
            let Some(space) = outline.state_key.as_deref().filter(|_| outline.kind == "m.space.parent") else {
                continue;
            };
            let Some(link) = self.store.place_of(space).await? else { continue };
            let Ok(team) = Instance::parse(&link.place) else { continue };
            let Some(resource) = self.resource_of(&team).await? else { continue };
            let members = thread::members(&self.team_in(&resource).await?, &[], crate::bridge::store::now());
            let maker = persons.iter().find(|person| members.iter().any(|member| member.person == **person));
            if let Some(maker) = maker {
                return Ok(Some((team, maker.clone())));
            }
        }
        Ok(None)
    }

    /// Whether a room id is one of ours, as a typed id.
    pub(super) fn linked_room(&self, link: &RoomLink) -> Result<ruma::OwnedRoomId, Trouble> {
        room_id(&link.room_id)
    }
}

/// What a message or an edit says, unless it was withdrawn.
fn said_by(event: &Event) -> Option<Said> {
    let outline = event.outline().ok().filter(|outline| !outline.is_redacted())?;
    match message::read(&outline.kind, &event.content().ok()?, false, None) {
        Incoming::Message { said, .. } | Incoming::Edit { said, .. } => Some(said),
        _ => None,
    }
}

fn digest_of(resource: &Resource) -> Result<String, Trouble> {
    let communication: Communication = resource.to()?;
    Ok(message::digest(&communication.payload, message::visibility(communication.status.as_ref())))
}

/// The event belongs to the message, and the message now says something else.
fn links_of(outline: &Outline, original: MessageLink, role: Role, digest: String) -> Vec<Change> {
    let own = MessageLink {
        event_id: outline.event_id.to_string(),
        role,
        origin: Origin::Matrix,
        digest: digest.clone(),
        ..original.clone()
    };
    vec![Change::LinkMessage(own), Change::LinkMessage(MessageLink { digest, ..original })]
}

/// Tells the sender in the room what could not be carried.
fn say_missing(room: &RoomId, about: &str, what: &str) -> Result<Change, Trouble> {
    let text = format!(
        "Dit bericht is niet volledig doorgegeven aan het dossier: {what}. / Not all of this message was passed on to the record: {what}."
    );
    Notice::about(room, about, &format!("notice {about}"), text).once()
}

/// Whether a Communication is to be seen, for those who compare both sides.
pub(super) fn is_shown(communication: &Communication) -> bool {
    message::visibility(communication.status.as_ref()) == Visibility::Shown
}
