//! What people ask of the bot: done once, and answered once, by the same stored work as everything else.
//!
//! A command's effect and its answer are stored together with its end, so whoever is killed in between, each happens
//! once. The answer is work of its own; whether it was sent already is looked up in the room.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde_json::{Value, json};

use super::{
    Done, Engine, Trouble, event_id, feed, gaps, named,
    notices::{Known, Notice},
    reach, room_id,
    say::AFTER_OTHERS,
    work,
};
use crate::{
    bridge::{
        bot::{self, Command, Order},
        identity::{Instance, Kind},
        mapping::{ROOM_ID, power, thread},
        store::{Change, NewWork, RoomLink, Side, StoreError, now},
        words::{Language, Word},
    },
    fhir::{resources::Resource, server::Condition},
    matrix::{
        Event,
        intent::{Direction, Format, Membership, content},
        rooms::Level,
        transaction::Outline,
    },
};

/// A command that is older was meant for another day.
pub(super) const STALE: i64 = 24 * 3_600_000;
/// For this long a room that is a direct chat is taken for one, and one that is not for none.
const CHAT: Duration = Duration::from_secs(60);
/// Rooms of which that is remembered.
const CHATS: usize = 10_000;
/// Members that `who` lists.
const LISTED: usize = 50;
/// Parked work that `retry` puts back at once.
const RETRIED: usize = 1000;

/// Somebody who asks.
struct Asker {
    room: OwnedRoomId,
    user: OwnedUserId,
    event: String,
    /// When, by the clock of whoever asks, in milliseconds since 1970.
    at: i64,
}

/// What comes of a command: what is to be stored, and what is said.
struct Outcome {
    changes: Vec<Change>,
    text: String,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { changes: Vec::new(), text }
    }
}

// === impl Engine ===

impl Engine {
    /// The work of a command. It stands in a lane of its own, so that it waits for nothing that is carried.
    pub(super) fn command_work(&self, event: &Event) -> Option<NewWork> {
        let room = &event.outline().ok()?.room_id;
        let payload = event.json().to_owned();
        Some(NewWork { side: Side::Matrix, lane: lane(room), kind: "command", payload, delay: Duration::ZERO })
    }

    /// Somebody spoke in a room that stands for nothing: in a direct chat it is meant for the bot.
    pub(super) async fn overhear(&self, event: &Event) -> Done {
        let Ok(outline) = event.outline() else { return Ok(Vec::new()) };
        let content: Value = event.content().unwrap_or_default();
        let is_meant = outline.kind == "m.room.encrypted" || bot::said(&content).is_some();
        if !is_meant || !self.is_direct(&outline.room_id).await? {
            return Ok(Vec::new());
        }
        let key = format!("command {}", outline.event_id);
        Ok(self.command_work(event).map(|work| Change::Once { key, work }).into_iter().collect())
    }

    /// Does what a command asks, and has it answered.
    pub(super) async fn obey(&self, payload: &str) -> Done {
        let event = Event::from_json(payload.to_owned())?;
        let Ok(outline) = event.outline() else { return Ok(Vec::new()) };
        if now() - i64::from(outline.origin_server_ts.get()) > STALE || !self.is_in(&outline.room_id).await? {
            return Ok(Vec::new());
        }
        let content: Value = event.content().unwrap_or_default();
        if outline.kind == "m.room.encrypted" {
            let unheard = Command { language: None, order: Order::Unknown };
            let text = unheard.say(|language| language.say(Word::BotEncrypted).to_owned());
            return Ok(vec![answer_work(outline, &format!("encrypted {}", outline.room_id), text)?]);
        }
        // Without the prefix it came here by way of a direct chat.
        let Some(words) = bot::addressed(&content).or_else(|| bot::said(&content)) else { return Ok(Vec::new()) };
        let asker = Asker {
            room: outline.room_id.clone(),
            user: outline.sender.clone(),
            event: outline.event_id.to_string(),
            at: i64::from(outline.origin_server_ts.get()),
        };
        let outcome = self.do_as_asked(&asker, &Command::read(words)).await?;
        let mut changes = outcome.changes;
        changes.push(answer_work(outline, &asker.event, outcome.text)?);
        Ok(changes)
    }

    async fn do_as_asked(&self, asker: &Asker, command: &Command) -> Result<Outcome, Trouble> {
        let authority = self.homeserver.bot().authority(&asker.room).await?;
        let needed = authority.levels.state_default.max(power::PRACTITIONER);
        let changes_something = matches!(command.order, Order::Link(_) | Order::Unlink | Order::Retry);
        if changes_something && authority.of(&asker.user) < Level::Number(needed) {
            return Ok(command.say_word(Word::BotLevel, needed).into());
        }
        match &command.order {
            Order::Help => Ok(command.say_word(Word::BotHelp, needed).into()),
            Order::Unknown => Ok(command.say_word(Word::BotUnknown, "").into()),
            Order::Status => self.tell_status(asker, command).await,
            Order::Who => self.tell_who(asker, command).await,
            Order::Link(None) => Ok(command.say_word(Word::BotWhat, "").into()),
            Order::Link(Some(place)) => self.link(asker, command, place).await,
            Order::Unlink => self.unlink(asker, command).await,
            Order::Retry => self.retry_room(asker, command).await,
        }
    }

    async fn tell_status(&self, asker: &Asker, command: &Command) -> Result<Outcome, Trouble> {
        let place = self.store.place_of(asker.room.as_str()).await?.map(|link| link.place);
        let held = self.store.held_after(Some(lanes_of(&asker.room, place.as_deref())), 0, RETRIED).await?;
        let parked = held.iter().filter(|work| work.parked).count();
        let text = command.say(|language| {
            let linked = match &place {
                Some(place) => language.say_with(Word::BotLinked, place),
                None => language.say(Word::BotNotLinked).to_owned(),
            };
            let mut lines = vec![linked];
            for (side, word) in [(Side::Matrix, Word::Homeserver), (Side::Fhir, Word::FhirServer)] {
                let state = match self.presence(side).absence() {
                    None => language.say(Word::Reachable).to_owned(),
                    Some(absence) => language.say_with(Word::AwayFor, absence.since.elapsed().as_secs()),
                };
                lines.push(format!("{}: {state}", language.say(word)));
            }
            for (word, count) in [(Word::Waiting, held.len() - parked), (Word::Parked, parked)] {
                lines.push(format!("{}: {count}", language.say(word)));
            }
            lines.join("\n")
        });
        Ok(text.into())
    }

    async fn tell_who(&self, asker: &Asker, command: &Command) -> Result<Outcome, Trouble> {
        let members = self.homeserver.bot().members(&asker.room).await?;
        let present = members.into_iter().filter(|member| member.membership == Membership::Join);
        let mut people = Vec::new();
        for member in present.filter(|member| member.user_id != *self.homeserver.bot_id()) {
            let person = self.person_of(member.user_id.as_str()).await?;
            people.push((member.user_id, person));
        }
        let more = people.len().saturating_sub(LISTED);
        let line = |language: Language, (user, person): &(OwnedUserId, Option<Instance>)| match person {
            Some(person) => format!("{user}: {person}"),
            None => format!("{user}: {}", language.say(Word::BotNobody)),
        };
        let text = command.say(|language| {
            let mut lines: Vec<String> = people.iter().take(LISTED).map(|member| line(language, member)).collect();
            lines.extend((more > 0).then(|| language.say_with(Word::BotMore, more)));
            lines.join("\n")
        });
        Ok(text.into())
    }

    /// Lets a room stand for a team or a conversation. Whoever asks must belong there as a professional, by FHIR's
    /// word: a conversation must not come to a room because somebody knows its id.
    async fn link(&self, asker: &Asker, command: &Command, place: &Instance) -> Result<Outcome, Trouble> {
        let say = |word: Word| Ok(command.say_word(word, place).into());
        match self.store.place_of(asker.room.as_str()).await? {
            Some(link) if link.place == place.to_string() => return say(Word::BotLinked),
            Some(link) => return Ok(command.say_word(Word::BotOther, link.place).into()),
            None => {}
        }
        // Whether it is there is not for everybody to know.
        let persons = self.persons_of(asker.user.as_str()).await?;
        let Some(resource) = self.resource_of(place).await? else {
            return say(if persons.is_empty() { Word::BotNoRight } else { Word::BotMissing });
        };
        let level = self.level_in(&resource, place, &persons).await?;
        if level.is_none_or(|level| level < power::PRACTITIONER) {
            return say(Word::BotNoRight);
        }
        if self.store.room_of(&place.to_string()).await?.is_some() {
            return say(Word::BotTaken);
        }
        let creation = self.homeserver.bot().state(&asker.room, "m.room.create", "").await?.unwrap_or_default();
        if (creation.get("type").is_some_and(|kind| kind == "m.space")) != (place.kind() == Kind::CareTeam) {
            return say(Word::BotWrongKind);
        }
        let resource = self.name_room(resource, &asker.room).await?;
        // What was said before is not part of the conversation: reading begins here.
        let bot = self.homeserver.bot();
        let present = bot.messages(&asker.room, None, Direction::Backward, 1, Format::Client).await?.start;
        let mut changes = vec![
            Change::Cursor { name: gaps::place_in(&asker.room), value: gaps::in_stream(present) },
            Change::Cursor { name: linked(asker.room.as_str()), value: asker.at.to_string() },
            Change::LinkRoom(RoomLink { room_id: asker.room.to_string(), place: place.to_string() }),
            Change::Cursor { name: unlinked(place), value: String::new() },
        ];
        let again = feed::work_for(resource).map(|work| Change::Once { key: format!("linked {}", asker.event), work });
        changes.extend(again);
        Ok(Outcome { changes, text: command.say_word(Word::BotLinked, place) })
    }

    /// The level that FHIR gives somebody in a team or conversation, in whichever of their roles.
    async fn level_in(
        &self,
        resource: &Resource,
        place: &Instance,
        persons: &[Instance],
    ) -> Result<Option<i64>, Trouble> {
        let members = match place.kind() {
            Kind::CareTeam => thread::members(&self.team_in(resource).await?, &self.settings.lead_roles, now()),
            _ => self.circle(&resource.to()?).await?.members,
        };
        Ok(members.into_iter().filter(|member| persons.contains(&member.person)).map(|member| member.level).max())
    }

    /// Has the resource name its room where people rule it: then the bridge leaves members and levels to them. Where
    /// the bridge rules, the resource names none.
    async fn name_room(&self, mut resource: Resource, room: &RoomId) -> Result<Resource, Trouble> {
        let authority = self.homeserver.bot().authority(room).await?;
        let rules = authority.of(self.homeserver.bot_id()) >= Level::Number(power::LEAD);
        let before = resource.members().get("identifier").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.retain(|identifier| identifier.get("system").is_none_or(|system| system != ROOM_ID));
        if !rules {
            after.push(json!({ "system": ROOM_ID, "value": room }));
        }
        if after == before {
            return Ok(resource);
        }
        let version = resource.version().unwrap_or_default().to_owned();
        if after.is_empty() {
            resource.members_mut().shift_remove("identifier");
        } else {
            resource.members_mut().insert("identifier".to_owned(), Value::Array(after));
        }
        Ok(self.fhir.update(resource, Condition::VersionIs(&version)).await?.resource)
    }

    async fn unlink(&self, asker: &Asker, command: &Command) -> Result<Outcome, Trouble> {
        let Some(link) = self.store.place_of(asker.room.as_str()).await? else {
            return Ok(command.say_word(Word::BotNotLinked, "").into());
        };
        // What was said before is carried first.
        if !self.store.head(Side::Fhir, &link.room_id, 1).await?.is_empty() {
            let reason = "what was said before is carried first".to_owned();
            return Err(Trouble::Busy { reason, retry_after: Some(AFTER_OTHERS) });
        }
        let mut changes = vec![Change::UnlinkRoom { room_id: link.room_id }];
        if let Ok(place) = Instance::parse(&link.place) {
            changes.push(Change::Cursor { name: unlinked(&place), value: asker.event.clone() });
        }
        Ok(Outcome { changes, text: command.say_word(Word::BotUnlinked, link.place) })
    }

    /// Since when a room is part of a conversation, in milliseconds since 1970, where somebody linked it; what is
    /// older and was not carried is not to be.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn linked_since(&self, room: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.store.cursor(&linked(room)).await?.and_then(|at| at.parse().ok()))
    }

    /// Whether somebody took a team or conversation out of its room: then none is made for it.
    pub(super) async fn is_unlinked(&self, place: &Instance) -> Result<bool, Trouble> {
        Ok(self.store.cursor(&unlinked(place)).await?.is_some_and(|by| !by.is_empty()))
    }

    async fn retry_room(&self, asker: &Asker, command: &Command) -> Result<Outcome, Trouble> {
        let place = self.store.place_of(asker.room.as_str()).await?.map(|link| link.place);
        let held = self.store.held_after(Some(lanes_of(&asker.room, place.as_deref())), 0, RETRIED).await?;
        let changes: Vec<Change> =
            held.iter().filter(|work| work.parked).map(|work| Change::Retry { seq: Some(work.seq) }).collect();
        let text = command.say_word(Word::BotRetried, changes.len());
        Ok(Outcome { changes, text })
    }

    /// Says the answer to a command. `suspect`: it may have been said already.
    pub(super) async fn answer(&self, payload: &str, suspect: bool) -> Done {
        let notice: Notice = serde_json::from_str(payload)?;
        let content = content::reply_to(content::notice(&notice.text), &event_id(&notice.about)?);
        let known = Known { mark: bot::MARK, name: &notice.about, after: Some(&notice.about) };
        self.say_once(&room_id(&notice.room_id)?, content, &known, suspect).await
    }

    /// Whether the bot is in a room.
    pub(super) async fn is_in(&self, room: &RoomId) -> Result<bool, Trouble> {
        match self.homeserver.bot().membership(room, self.homeserver.bot_id()).await {
            Ok(membership) => Ok(membership == Membership::Join),
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a room is a direct chat: the bot and one other.
    async fn is_direct(&self, room: &RoomId) -> Result<bool, Trouble> {
        let known = self.chats.lock().unwrap_or_else(PoisonError::into_inner).get(room).copied();
        if let Some((direct, seen)) = known
            && seen.elapsed() < CHAT
        {
            return Ok(direct);
        }
        let direct = self.is_in(room).await? && {
            let members = self.homeserver.bot().members(room).await?;
            members.iter().filter(|one| matches!(one.membership, Membership::Join | Membership::Invite)).count() == 2
        };
        let mut chats = self.chats.lock().unwrap_or_else(PoisonError::into_inner);
        if chats.len() >= CHATS {
            chats.clear();
        }
        chats.insert(room.to_owned(), (direct, Instant::now()));
        Ok(direct)
    }
}

/// The lane of commands and answers of a room.
fn lane(room: &RoomId) -> String {
    format!("bot {room}")
}

/// All lanes of a room and of what it stands for.
fn lanes_of(room: &RoomId, place: Option<&str>) -> Vec<String> {
    let own = [room.to_string(), lane(room), format!("gap {room}"), format!("patrol {room}")];
    let of_place =
        place.into_iter().flat_map(|place| [place.to_owned(), named::participants_lane(place), reach::lane(place)]);
    own.into_iter().chain(of_place).collect()
}

/// Under this name the store keeps which command took a place out of its room.
fn unlinked(place: &Instance) -> String {
    format!("unlinked {place}")
}

/// Under this name the store keeps since when a room is linked.
fn linked(room: &str) -> String {
    format!("linked {room}")
}

/// An answer to an event, given once for a key.
fn answer_work(outline: &Outline, key: &str, text: String) -> Result<Change, Trouble> {
    let key = format!("answer {key}");
    let notice = Notice::about(&outline.room_id, outline.event_id.as_str(), &key, text);
    let work = work(Side::Matrix, lane(&outline.room_id), "answer", &notice)?;
    Ok(Change::Once { key, work })
}
