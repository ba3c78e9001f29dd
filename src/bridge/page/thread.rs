//! Both sides of a conversation: its Communications and the events of its room, read from both servers.

use std::{collections::BTreeSet, time::Duration};

use axum::{extract::Path, response::Response};
use futures_util::{StreamExt as _, stream};
use maud::{Markup, html};
use ruma::{EventId, OwnedRoomId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    align::{Asked, InFhir, InMatrix, Row, State, align, at},
    compare,
    layout::{link, nothing, time},
    places,
    visit::{Mishap, Visit},
    work,
};
use crate::{
    bridge::{
        bot,
        engine::Trouble,
        identity::{Instance, Kind},
        mapping::{
            message::{self, Incoming, Mark, Visibility},
            thread::{self, Openness},
        },
        store::{Held, Role, RoomLink},
        words::Word,
    },
    fhir::{
        instant::DateTime,
        query::Query,
        resources::{Communication, CommunicationRequest, Payload, Reference, Resource, ResourceType},
        server::PageLink,
    },
    matrix::{
        Event,
        intent::{Direction, Format},
    },
};

/// Messages of each side on a page.
const PAGE: u32 = 40;
/// Time for each side to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Single events that are asked for at the same time.
const ASKING: usize = 8;
/// Parked and waiting work that is shown.
const HELD: usize = 25;

/// Where the rest of both sides is. A side that has come to its end has none.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rest {
    fhir: Option<String>,
    matrix: Option<String>,
}

/// A conversation that is looked at.
struct Look<'a> {
    visit: &'a Visit,
    place: Instance,
    resource: Resource,
    request: CommunicationRequest,
    room: Option<RoomLink>,
    /// Whether texts may be shown.
    texts: bool,
}

/// What was read of a conversation.
struct Sides {
    rows: Vec<Row>,
    /// What the sides that did not answer said.
    remarks: Vec<String>,
    next: Option<Rest>,
}

/// `/threads/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Response {
    visit.answer(Word::Thread, content(&visit, id).await)
}

async fn content(visit: &Visit, id: String) -> Result<Markup, Mishap> {
    let engine = &visit.desk.engine;
    let place = Instance::new(Kind::CommunicationRequest, id).map_err(|_| Mishap::NotFound)?;
    let resource = engine.look_up(&place).await?.ok_or(Mishap::NotFound)?;
    let request: CommunicationRequest = resource.to().map_err(Trouble::from)?;
    let room = engine.store().room_of(&place.to_string()).await?;
    let mut look = Look { visit, place, resource, request, room, texts: false };
    let unrecorded = look.ask_for_texts().await;
    let place = look.place.to_string();
    let lanes =
        [Some(format!("participants {place}")), Some(place), look.room.as_ref().map(|room| room.room_id.clone())];
    let held = engine.store().held_after(Some(lanes.into_iter().flatten().collect()), 0, HELD).await?;
    let sides = look.read().await?;
    Ok(look.markup(&sides, &held, unrecorded))
}

// === impl Look ===

impl Look<'_> {
    /// Whoever may see texts sees them once that is written down. Says whether it could not be.
    async fn ask_for_texts(&mut self) -> bool {
        let viewer = &self.visit.viewer;
        let (Some(name), true) = (&viewer.name, viewer.may_read(ResourceType::Communication)) else { return false };
        let what = self.resource.versioned_key().map_or_else(|| self.place.to_string(), |key| key.to_string());
        self.texts = self.visit.desk.engine.note_viewing(name, &what).await.is_ok();
        !self.texts
    }

    async fn read(&self) -> Result<Sides, Mishap> {
        let from: Option<Rest> = self.visit.place()?;
        let is_first = from.is_none();
        let from = from.unwrap_or_default();
        let mut remarks = Vec::new();
        let mut keep = |result: Result<(), Trouble>| match result {
            Ok(()) => true,
            Err(trouble) => {
                remarks.push(trouble.to_string());
                false
            }
        };
        let (mut fhir, mut events, mut next) = (Vec::new(), Vec::new(), Rest::default());
        // What has no room is in FHIR alone.
        let mut asked = Asked { fhir: true, matrix: true };
        if is_first || from.fhir.is_some() {
            asked.fhir = keep(self.read_fhir(from.fhir, &mut fhir, &mut next.fhir).await);
        }
        if is_first || from.matrix.is_some() {
            asked.matrix = keep(self.read_matrix(from.matrix, &mut events, &mut next.matrix).await);
        }
        if asked.fhir {
            asked.fhir = keep(self.fetch_messages(&mut fhir, &events, is_first).await);
        }
        if asked.matrix {
            asked.matrix = keep(self.fetch_events(&fhir, &mut events).await);
        }
        let next = (next.fhir.is_some() || next.matrix.is_some()).then_some(next);
        Ok(Sides { rows: align(fhir, events, asked), remarks, next })
    }

    /// A page of Communications, newest first.
    async fn read_fhir(
        &self,
        from: Option<String>,
        found: &mut Vec<InFhir>,
        next: &mut Option<String>,
    ) -> Result<(), Trouble> {
        let fhir = self.visit.desk.engine.fhir();
        let query = Query::new()
            .with("part-of", self.place.to_string())
            .with("_sort", "-sent")
            .with("_count", PAGE.to_string());
        let page = match from {
            Some(link) => in_time(async { Ok(fhir.follow(&PageLink(link)).await?) }).await?,
            None => in_time(async { Ok(fhir.search(ResourceType::Communication, &query).await?) }).await?,
        };
        found.extend(page.matches().filter_map(|resource| self.message(resource)));
        *next = page.next.map(|link| link.0);
        Ok(())
    }

    /// A page of the room's events, newest first.
    async fn read_matrix(
        &self,
        from: Option<String>,
        found: &mut Vec<InMatrix>,
        next: &mut Option<String>,
    ) -> Result<(), Trouble> {
        let Some(room) = self.room_id() else { return Ok(()) };
        let bot = self.visit.desk.engine.homeserver().bot();
        let read = async { Ok(bot.messages(&room, from.as_deref(), Direction::Backward, PAGE, Format::Client).await?) };
        let page = in_time(read).await?;
        *next = page.end.filter(|_| !page.events.is_empty());
        for event in &page.events {
            found.extend(self.event(event).await?);
        }
        Ok(())
    }

    /// The messages of events that are on this page, where they are not there yet.
    async fn fetch_messages(&self, fhir: &mut Vec<InFhir>, events: &[InMatrix], is_first: bool) -> Result<(), Trouble> {
        let place = self.place.to_string();
        let mut wanted: BTreeSet<&str> = events.iter().filter_map(|event| event.resource.as_deref()).collect();
        wanted.retain(|key| !fhir.iter().any(|message| message.key == *key));
        let first_is_here = wanted.remove(place.as_str());
        let ids: Vec<&str> = wanted.iter().filter_map(|key| key.strip_prefix("Communication/")).collect();
        if !ids.is_empty() {
            let query = Query::new().with("_id", ids.join(",")).with("_count", ids.len().to_string());
            let server = self.visit.desk.engine.fhir();
            let page = in_time(async { Ok(server.search(ResourceType::Communication, &query).await?) }).await?;
            fhir.extend(page.matches().filter_map(|resource| self.message(resource)));
        }
        // The first message is the request itself. Where it is no event yet, it stands on the first page.
        let is_due = is_first && thread::of_request(&self.request) == Openness::Open;
        if first_is_here || (is_due && self.visit.desk.engine.store().messages_of(&place).await?.is_empty()) {
            fhir.extend(self.first_message());
        }
        Ok(())
    }

    /// The events of messages that are on this page, where they are not there yet.
    async fn fetch_events(&self, fhir: &[InFhir], events: &mut Vec<InMatrix>) -> Result<(), Trouble> {
        let Some(room) = self.room_id() else { return Ok(()) };
        let mut wanted = Vec::new();
        for message in fhir {
            let links = self.visit.desk.engine.store().messages_of(&message.key).await?;
            let is_new = |id: &str| !events.iter().any(|event| event.event_id == id);
            let of_this = links.into_iter().filter(|link| link.role == Role::Message && is_new(&link.event_id));
            wanted.extend(of_this.filter_map(|link| EventId::parse(link.event_id).ok()));
        }
        let bot = self.visit.desk.engine.homeserver().bot();
        let ask = stream::iter(wanted).map(|id| {
            let (bot, room) = (bot.clone(), room.clone());
            async move { bot.event(&room, &id).await }
        });
        let found = in_time(async { Ok(ask.buffer_unordered(ASKING).collect::<Vec<_>>().await) }).await?;
        for event in found {
            if let Some(event) = event? {
                events.extend(self.event(&event).await?);
            }
        }
        Ok(())
    }

    fn room_id(&self) -> Option<OwnedRoomId> {
        OwnedRoomId::try_from(self.room.as_ref()?.room_id.as_str()).ok()
    }

    fn message(&self, resource: &Resource) -> Option<InFhir> {
        let communication: Communication = resource.to().ok()?;
        Some(InFhir {
            key: resource.key()?.to_string(),
            version: resource.version().map(str::to_owned),
            status: places::status(resource),
            visibility: message::visibility(communication.status.as_ref()),
            says_something: !communication.payload.is_empty(),
            sender: communication.sender.as_ref().map(|sender| self.sender(sender)),
            at: communication.sent.as_ref().and_then(DateTime::millis),
            texts: self.texts_of(&communication.payload),
        })
    }

    fn first_message(&self) -> Option<InFhir> {
        let payload = thread::first_message(&self.request);
        let sender = self.request.requester.as_ref().or(self.request.sender.as_ref());
        (!payload.is_empty()).then(|| InFhir {
            key: self.place.to_string(),
            version: self.resource.version().map(str::to_owned),
            status: places::status(&self.resource),
            visibility: Visibility::Shown,
            says_something: true,
            sender: sender.map(|sender| self.sender(sender)),
            at: self.request.authored_on.as_ref().and_then(DateTime::millis),
            texts: self.texts_of(payload),
        })
    }

    /// A sender by reference; one whom FHIR does not know is a Matrix id, which may be a name.
    fn sender(&self, sender: &Reference) -> String {
        if let Some(key) = sender.key() {
            return key.any_version().to_string();
        }
        let user = sender.identifier.as_ref().and_then(|identifier| identifier.value.as_deref());
        self.user(user.unwrap_or_default())
    }

    fn user(&self, user: &str) -> String {
        match user.split_once(':') {
            _ if self.texts => user.to_owned(),
            Some((_, server)) => self.visit.language.say_with(Word::SomebodyAt, server),
            None => "–".to_owned(),
        }
    }

    fn texts_of(&self, payload: &[Payload]) -> Vec<String> {
        let text = |part: &Payload| {
            let file = part.content_attachment.as_ref().and_then(|file| file.title.clone());
            part.content_string.clone().or(file)
        };
        if self.texts { payload.iter().filter_map(text).collect() } else { Vec::new() }
    }

    /// An event as it stands in a row; `None` for one that is nobody's message.
    async fn event(&self, event: &Event) -> Result<Option<InMatrix>, Trouble> {
        let engine = &self.visit.desk.engine;
        let Ok(outline) = event.outline() else { return Ok(None) };
        if outline.state_key.is_some() {
            return Ok(None);
        }
        let content: Value = event.content().unwrap_or_default();
        let is_own = engine.names().is_ours(outline.sender.as_str());
        let known = engine.store().message(outline.event_id.as_str()).await?;
        let (mut role, mut resource) = match known {
            Some(link) => (link.role, Some(link.resource)),
            None => (Role::Message, Mark::read(&content).filter(|_| is_own).map(|mark| mark.resource)),
        };
        if resource.is_none() {
            let redacts = event.redacts().map(|event| event.to_string());
            let about = match message::read(&outline.kind, &content, false, redacts.as_deref()) {
                Incoming::Nothing => return Ok(None),
                Incoming::Message { .. } => None,
                Incoming::Edit { of, .. } => Some((Role::Edit, of)),
                Incoming::Redaction { of } => Some((Role::Redaction, of)),
            };
            if let Some((does, of)) = about {
                resource = engine.store().message(&of).await?.map(|link| link.resource);
                role = does;
                if resource.is_none() && does == Role::Redaction {
                    return Ok(None);
                }
            }
        }
        let at = i64::from(outline.origin_server_ts.get());
        if resource.is_none() && engine.linked_since(outline.room_id.as_str()).await?.is_some_and(|since| at < since) {
            // Said before the room was linked.
            return Ok(None);
        }
        let text = content.get("body").and_then(Value::as_str).filter(|_| self.texts).map(str::to_owned);
        Ok(Some(InMatrix {
            event_id: outline.event_id.to_string(),
            role,
            sender: self.speaker(outline.sender.as_str()).await?,
            // A command to the bot is between the bridge and whoever gave it.
            is_own: is_own || (resource.is_none() && bot::is_command(event)),
            is_redacted: outline.is_redacted(),
            at: Some(at),
            text,
            resource,
        }))
    }

    /// Who sent an event: a person by reference, the bridge by its name, or somebody.
    async fn speaker(&self, user: &str) -> Result<String, Trouble> {
        let engine = &self.visit.desk.engine;
        if user == engine.names().bot() {
            return Ok("fhir-bridge".to_owned());
        }
        if let Some(person) = engine.names().person_of(user) {
            return Ok(person.to_string());
        }
        Ok(engine.store().person_of(user).await?.unwrap_or_else(|| self.user(user)))
    }

    fn markup(&self, sides: &Sides, held: &[Held], unrecorded: bool) -> Markup {
        let t = |word| self.visit.language.say(word);
        let teams = thread::teams(&self.request);
        let differs = |row: &&Row| matches!(row.state, State::OnlyFhir | State::OnlyMatrix);
        let differences = sides.rows.iter().filter(differs).count();
        html! {
            h1 { (t(Word::Thread)) " " code { (self.place.id()) } }
            dl.facts {
                dt { (t(Word::Status)) } dd { (places::status(&self.resource)) }
                dt { (t(Word::Room)) }
                dd { @match &self.room { Some(room) => code.id { (room.room_id) }, None => (t(Word::NoRoom)) } }
                @if !teams.is_empty() {
                    dt { (t(Word::Team)) }
                    dd { @for team in &teams { (link(&team.to_string())) " " } }
                }
                dt { (t(Word::Changed)) } dd { (time(places::changed(&self.resource))) }
            }
            @if !held.is_empty() {
                section {
                    h2 { (t(Word::WorkOfThread)) }
                    (work::held_table(self.visit, held, &format!("/threads/{}", self.place.id())))
                }
            }
            section {
                h2 { (t(Word::BothSides)) }
                p { (t(Word::SidesSay)) " " strong #differences { (self.visit.language.say_with(Word::Differences, differences)) } }
                @if unrecorded { p.problem role="alert" { (t(Word::NoRecord)) } }
                @for remark in &sides.remarks {
                    p.problem role="alert" { (self.visit.language.say_with(Word::Unreadable, remark)) }
                }
                @if sides.rows.is_empty() { (nothing(self.visit)) } @else { (self.table(&sides.rows)) }
                (self.visit.turn(sides.next.as_ref()))
                (compare::button(self.visit, Some(&self.place)))
            }
        }
    }

    fn table(&self, rows: &[Row]) -> Markup {
        let t = |word| self.visit.language.say(word);
        html! {
            div.table { table.sides {
                thead { tr {
                    th scope="col" { (t(Word::At)) }
                    th scope="col" { "FHIR" }
                    th scope="col" { (t(Word::Status)) }
                    th scope="col" { "Matrix" }
                } }
                tbody { @for row in rows {
                    tr.only[matches!(row.state, State::OnlyFhir | State::OnlyMatrix)] {
                        th scope="row" { (time(at(row))) }
                        td.has[row.fhir.is_some()] { @if let Some(message) = &row.fhir { (in_fhir(message)) } }
                        td.state { (t(word(row.state))) }
                        td.has[!row.events.is_empty()] { @for event in &row.events { (self.in_matrix(event)) } }
                    }
                } }
            } }
        }
    }

    fn in_matrix(&self, event: &InMatrix) -> Markup {
        let t = |word| self.visit.language.say(word);
        html! {
            p {
                code.id { (event.event_id) }
                @match event.role {
                    Role::Message => {},
                    Role::Edit => { " · " (t(Word::Edit)) },
                    Role::Redaction => { " · " (t(Word::Redaction)) },
                }
                @if event.is_redacted { " · " (t(Word::Withdrawn)) }
            }
            p.muted { (event.sender) " · " (time(event.at)) }
            @if let Some(text) = &event.text { p.text { (text) } }
        }
    }
}

fn in_fhir(message: &InFhir) -> Markup {
    html! {
        p { code.id { (message.key) } @if let Some(version) = &message.version { " · v" (version) } " · " (message.status) }
        @if let Some(sender) = &message.sender { p.muted { (sender) } }
        @for text in &message.texts { p.text { (text) } }
    }
}

fn word(state: State) -> Word {
    match state {
        State::Both => Word::OnBoth,
        State::OnlyFhir => Word::OnlyFhir,
        State::OnlyMatrix => Word::OnlyMatrix,
        State::NotShown => Word::NotShown,
        State::Own => Word::OfTheBridge,
        State::Withdrawn => Word::Withdrawn,
        State::NotAsked => Word::NotAsked,
    }
}

/// An answer, or that there was none in time.
async fn in_time<T>(asking: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", PATIENCE.as_secs());
        Err(Trouble::Busy { reason, retry_after: None })
    })
}
