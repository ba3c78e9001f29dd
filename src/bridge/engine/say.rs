//! Payloads as events in a room: sent once, edited, withdrawn, and found again when it is not certain that they were.

use std::{collections::BTreeMap, time::Duration};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedTransactionId, RoomId};
use serde_json::Value;
use tracing::warn;

use super::{Done, Engine, Trouble, event_id, notices::Notice, traces};
use crate::{
    bridge::{
        identity::Instance,
        mapping::message::{self, Mark, Visibility},
        store::{Change, MessageLink, Origin, Role, Side},
    },
    fhir::resources::{Communication, Payload, Resource},
    matrix::{
        self, Event, Intent,
        intent::{Direction, Format, Outgoing, content},
        media::Upload,
        transaction::Outline,
    },
};

/// Pages of history that are searched for an event that may have been sent.
const SEARCHED_PAGES: usize = 50;
/// Events on a page.
const PAGE: u32 = 100;
/// Longest part of a correction that is told in the room, in characters; the rest stands on record.
const LONGEST_CORRECTION: usize = 4000;
/// How long work waits for what stands before it in another lane.
pub(super) const AFTER_OTHERS: Duration = Duration::from_millis(500);

/// What is to be said in a room.
pub(super) struct Saying<'a> {
    /// `Communication/1`.
    pub(super) resource: String,
    /// Its version.
    pub(super) version: String,
    pub(super) payload: &'a [Payload],
    pub(super) visibility: Visibility,
    pub(super) sender: Option<Instance>,
    pub(super) at: Option<MilliSecondsSinceUnixEpoch>,
    /// The event that it answers.
    pub(super) reply_to: Option<String>,
    pub(super) room: &'a RoomId,
}

/// What came of saying something.
#[derive(Default)]
pub(super) struct Said {
    pub(super) changes: Vec<Change>,
    /// The first event, if anything was sent for the first time.
    pub(super) first: Option<String>,
}

/// The events of a resource that are in a room already.
#[derive(Default)]
struct Sent {
    messages: Vec<MessageLink>,
    /// Of each payload the newest edit.
    edits: Vec<MessageLink>,
}

// === impl Sent ===

impl Sent {
    /// Takes the next event; newer ones come first.
    fn take(&mut self, link: MessageLink) {
        match link.role {
            Role::Message => self.messages.push(link),
            Role::Edit if self.edits.iter().all(|newer| newer.part != link.part) => self.edits.push(link),
            Role::Edit | Role::Redaction => {}
        }
    }
}

// === impl Engine ===

impl Engine {
    /// Says what is not said yet, payload by payload, and corrects or withdraws what has changed.
    pub(super) async fn say(
        &self,
        saying: &Saying<'_>,
        links: Vec<MessageLink>,
        suspect: bool,
    ) -> Result<Said, Trouble> {
        // Of several events for one payload the last one stands.
        let mut standing: BTreeMap<u32, MessageLink> = BTreeMap::new();
        standing.extend(links.into_iter().filter(|link| link.role == Role::Message).map(|link| (link.part, link)));
        let withdrawn = message::digest(&[], Visibility::Withdrawn);
        let mut said = Said::default();
        if suspect {
            let sent = self.find_sent(saying).await?;
            for link in sent.messages {
                // What the store knows, it knows better: the mark says what was first said.
                standing.entry(link.part).or_insert(link);
            }
            for edit in sent.edits {
                // The newest edit is what the message stands for, unless all of it was withdrawn.
                if let Some(link) = standing.get_mut(&edit.part).filter(|link| link.digest != withdrawn) {
                    link.digest = edit.digest.clone();
                }
                said.changes.push(Change::LinkMessage(edit));
            }
        }
        let shown = if saying.visibility == Visibility::Shown { saying.payload } else { &[] };
        let mut intent = None;
        for (number, payload) in shown.iter().enumerate() {
            let part = u32::try_from(number).unwrap_or(u32::MAX);
            let digest = message::digest(std::slice::from_ref(payload), Visibility::Shown);
            let known = standing.remove(&part);
            if known.as_ref().is_some_and(|known| known.digest == digest) {
                // Sent already; stored again, because this may be news from the room itself.
                said.changes.extend(known.map(Change::LinkMessage));
                continue;
            }
            let Some(outgoing) = message::outgoing(std::slice::from_ref(payload)).pop() else { continue };
            let known = known.filter(|known| known.digest != withdrawn);
            let intent = match &intent {
                Some(intent) => intent,
                None => intent.insert(self.intent_of(saying.sender.as_ref()).await?),
            };
            let content = self.content_of(intent, outgoing).await?;
            let mark = Mark { resource: saying.resource.clone(), digest: digest.clone(), part };
            let link = self.send_part(intent, saying, content, mark, known.as_ref()).await?;
            if known.is_none() {
                said.first.get_or_insert(link.event_id.clone());
            }
            // The message stands for what it says now, also after an edit.
            said.changes.extend(known.map(|known| Change::LinkMessage(MessageLink { digest, ..known })));
            said.changes.push(Change::LinkMessage(link));
        }
        if saying.visibility != Visibility::Hidden {
            for link in standing.into_values() {
                said.changes.extend(self.withdraw(saying.room, link, &saying.version, suspect).await?);
            }
        }
        Ok(said)
    }

    async fn send_part(
        &self,
        intent: &Intent,
        saying: &Saying<'_>,
        mut content: Value,
        mark: Mark,
        known: Option<&MessageLink>,
    ) -> Result<MessageLink, Trouble> {
        let role = if known.is_some() { Role::Edit } else { Role::Message };
        if let (None, Some(answered)) = (known, &saying.reply_to) {
            content = content::reply_to(content, &event_id(answered)?);
        }
        if let Some(known) = known {
            content = content::edit_of(&event_id(&known.event_id)?, content);
        }
        if let Value::Object(members) = &mut content {
            mark.write(members);
            traces::write(members);
        }
        // The homeserver knows a repetition by this id for a while; the mark is there for the time after.
        let transaction =
            OwnedTransactionId::from(format!("{}.{}.{}", saying.resource, saying.version, mark.part).replace('/', "."));
        let mut outgoing = Outgoing::message(content, &transaction);
        if let (None, Some(at)) = (known, saying.at) {
            outgoing = outgoing.at(at);
        }
        let event_id = match intent.send(saying.room, &outgoing).await {
            Ok(event_id) => event_id,
            Err(error) => return Err(self.barred(intent, saying.room, error).await),
        };
        self.remember_trace(event_id.as_str());
        tracing::debug!(event = %event_id, "a message was sent");
        Ok(MessageLink {
            event_id: event_id.to_string(),
            room_id: saying.room.to_string(),
            resource: mark.resource,
            part: mark.part,
            role,
            origin: Origin::Fhir,
            digest: mark.digest,
        })
    }

    async fn withdraw(
        &self,
        room: &RoomId,
        link: MessageLink,
        version: &str,
        suspect: bool,
    ) -> Result<Option<Change>, Trouble> {
        let withdrawn = message::digest(&[], Visibility::Withdrawn);
        if link.digest == withdrawn {
            return Ok(None);
        }
        let (bot, event) = (self.homeserver.bot(), event_id(&link.event_id)?);
        if !(suspect && is_redacted(bot.event(room, &event).await?.as_ref())) {
            let transaction = OwnedTransactionId::from(format!("redact.{event}.{version}"));
            bot.redact(room, &event, &transaction, None).await?;
        }
        Ok(Some(Change::LinkMessage(MessageLink { digest: withdrawn, ..link })))
    }

    /// FHIR changed what a person said in Matrix. The bridge cannot edit it; it withdraws it or says what changed.
    pub(super) async fn correct(
        &self,
        room: &RoomId,
        original: &MessageLink,
        communication: &Communication,
        resource: &Resource,
        suspect: bool,
    ) -> Done {
        let visibility = message::visibility(communication.status.as_ref());
        let digest = message::digest(&communication.payload, visibility);
        if digest == original.digest || !self.is_news_of_fhir(room, resource).await? {
            return Ok(Vec::new());
        }
        let version = resource.version().unwrap_or("1");
        match visibility {
            Visibility::Withdrawn => {
                Ok(self.withdraw(room, original.clone(), version, suspect).await?.into_iter().collect())
            }
            Visibility::Hidden => Ok(Vec::new()),
            Visibility::Shown => {
                let texts = communication.payload.iter().filter_map(|payload| payload.content_string.as_deref());
                let texts = message::shortened(&texts.collect::<Vec<_>>().join("\n"), LONGEST_CORRECTION);
                let text = format!("Gewijzigd in het dossier: {texts}");
                let key = format!("correction {} {version}", original.resource);
                let notice = Notice::about(room, &original.event_id, &key, text);
                let stands = MessageLink { digest, ..original.clone() };
                Ok(vec![notice.once()?, Change::LinkMessage(stands)])
            }
        }
    }

    /// Whether FHIR itself says this of what a person said: a newest version that no event of theirs is on its way to.
    ///
    /// Somebody may edit or withdraw what they said before the bridge has looked at what it wrote of it; an earlier
    /// version is no news then, and must not be said again.
    async fn is_news_of_fhir(&self, room: &RoomId, resource: &Resource) -> Result<bool, Trouble> {
        let Some(key) = resource.key() else { return Ok(false) };
        let newest = self.fhir.read(key.kind, &key.id).await?;
        if newest.version() != resource.version() {
            // The newest one comes by itself.
            return Ok(false);
        }
        if !self.store.head(Side::Fhir, room.as_str(), 1).await?.is_empty() {
            let reason = "what was said in the room is written down first".to_owned();
            return Err(Trouble::Busy { reason, retry_after: Some(AFTER_OTHERS) });
        }
        Ok(true)
    }

    async fn intent_of(&self, sender: Option<&Instance>) -> Result<Intent, Trouble> {
        match sender.filter(|sender| sender.kind().is_person()) {
            Some(person) => self.speaker(person).await,
            None => Ok(self.homeserver.bot()),
        }
    }

    async fn content_of(&self, intent: &Intent, outgoing: message::Outgoing) -> Result<Value, Trouble> {
        let mut content = outgoing.content;
        if let Some(file) = outgoing.upload {
            let upload = Upload::new(file.content_type, file.bytes).named(file.name.clone());
            match intent.upload(upload).await {
                Ok(uri) => drop(content.insert("url".to_owned(), uri.as_str().into())),
                // It will never be; those in the room should know, and what stands beside it is not to wait.
                Err(error @ (matrix::Error::TooLarge { .. } | matrix::Error::Disguised { .. })) => {
                    warn!(%error, "a file is not passed on; the room is told");
                    content = message::not_passed_on(&file.name, &error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Value::Object(content))
    }

    /// The events of a resource that are in the room already, by their marks: for work that may have been done.
    async fn find_sent(&self, saying: &Saying<'_>) -> Result<Sent, Trouble> {
        let bot = self.homeserver.bot();
        let (mut from, mut sent) = (None, Sent::default());
        for _ in 0..SEARCHED_PAGES {
            let page = bot.messages(saying.room, from.as_deref(), Direction::Backward, PAGE, Format::Client).await?;
            let mut settled = false;
            for event in &page.events {
                let Ok(outline) = event.outline() else { continue };
                if !self.names.is_ours(outline.sender.as_str()) {
                    continue;
                }
                let Some(link) = super::intake::own_link(event, outline) else { continue };
                if link.resource == saying.resource {
                    sent.take(link);
                } else {
                    // Whatever is linked was finished before this work began.
                    settled |= self.store.message(&link.event_id).await?.is_some();
                }
            }
            match page.end {
                Some(end) if !settled && !page.events.is_empty() => from = Some(end),
                _ => break,
            }
        }
        Ok(sent)
    }
}

fn is_redacted(event: Option<&Event>) -> bool {
    event.and_then(|event| event.outline().ok()).is_some_and(Outline::is_redacted)
}
