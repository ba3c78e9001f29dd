//! A care system writes FHIR, people on other homeservers read and answer in Matrix, and their answers are FHIR.
//!
//! Every id holds the letters of the run, so that runs on one network do not meet.

use std::{future::Future, time::Duration};

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    fhir::{FHIR, Fhir, reference},
    people::{People, Person},
    recorder::{Abandoned, Recorder, Trouble},
    resources::Cast,
    room::PATIENCE,
    target::Reached,
};
use crate::lab::client::{ClientError, Kind, Seen};

/// How often a side is looked at that cannot be waited on.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// The identifier by which a Communication names its event.
const EVENT_ID: &str = "https://matrix.org/event-id";
/// What tells a user of another organisation whom a conversation is about.
const INVITE_CONTEXT: &str = "nl-ta-chat.invite.context";

/// What the relative asks, the first message of the conversation.
const QUESTION: &str = "Hoe gaat het met moeder?";
/// What the relative says after it.
const MESSAGES: [&str; 2] = ["Zij at vanmorgen weinig.", "De temperatuur is 37,8."];
/// What the relative answers to the first answer.
const REPLY: &str = "Dank u, dat helpt.";

/// One message as both sides have it.
#[derive(Clone, Debug)]
struct Said {
    text: String,
    resource: String,
    sender: String,
    event: String,
}

/// The space and the room of this run.
#[derive(Debug)]
struct Rooms {
    space: String,
    room: String,
}

/// A conversation in the making.
struct Care<'a> {
    fhir: &'a Fhir,
    cast: Cast,
}

pub(super) async fn chapter(recorder: &mut Recorder, network: &Reached, people: &mut People) {
    recorder.chapter("FHIR and Matrix");
    match &network.bridge {
        Some(fhir) => {
            let users = people.guests.iter().map(|guest| guest.user().to_owned()).collect();
            let care = Care { fhir, cast: Cast { run: people.run.clone(), users } };
            _ = Box::pin(care.play(recorder, people)).await;
        }
        None => recorder
            .skip("A care team's conversation goes from FHIR to Matrix and back", "the target names no FHIR bridge"),
    }
}

// === impl Care ===

impl Care<'_> {
    async fn play(&self, recorder: &mut Recorder, people: &mut People) -> Result<(), Abandoned> {
        let guests = people.guests_at();
        let seen = format!("seen by {guests}");
        recorder.step("The FHIR endpoint says what it can do", FHIR, self.capabilities()).await?;
        recorder.step("A care system writes people, a care team and messages", FHIR, self.write()).await?;
        let rooms = recorder.step("The team's practitioners are invited", &seen, self.invited(people)).await?;
        recorder.step("They join space and conversation over federation", &guests, join(people, &rooms)).await?;
        let read = recorder.step("They read what was written as FHIR", &guests, self.read(people, &rooms)).await?;
        let mut said = read;
        for index in 0..people.guests.len() {
            let who = people.guests[index].server().to_owned();
            let answer = self.answer(people, &rooms, index);
            said.push(recorder.step(format!("{who} answers, and that is a Communication"), FHIR, answer).await?);
        }
        let reply = self.reply(people, &rooms, &said[1 + MESSAGES.len()]);
        said.push(recorder.step("A Communication in response is a reply in the room", &seen, reply).await?);
        recorder.step("A read receipt completes the reader's Task", FHIR, self.receipt(people, &rooms, &said)).await?;
        recorder.step("Each message is on both sides once", "both sides", self.same(people, &rooms, &said)).await?;
        for one in &said {
            recorder.step(format!("“{}”", one.text), "both sides", self.aligned(people, &rooms, one)).await?;
        }
        recorder.step("Completed in FHIR, it is closed in Matrix", &guests, self.close(people, &rooms)).await
    }

    async fn capabilities(&self) -> Result<((), String), Trouble> {
        let statement = self.fhir.get(&["metadata"]).await?;
        let version = statement["fhirVersion"].as_str().unwrap_or_default();
        if !version.starts_with("4.0") {
            return Err(Trouble::new(format!("it speaks FHIR {version:?}, expected 4.0")).at(FHIR));
        }
        let software = statement["software"]["name"].as_str().unwrap_or("a server that does not say its name");
        Ok(((), format!("FHIR {version}, {software}")))
    }

    async fn write(&self) -> Result<((), String), Trouble> {
        let cast = &self.cast;
        let mut resources = vec![cast.patient(), cast.relative()];
        resources.extend((0..cast.users.len()).map(|index| cast.practitioner(index)));
        resources.extend([cast.team(), cast.conversation(QUESTION)]);
        for (index, text) in MESSAGES.iter().enumerate() {
            resources.push(cast.message(index, text));
        }
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for resource in &resources {
            self.fhir.put(resource).await?;
            let kind = resource["resourceType"].as_str().unwrap_or_default();
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, number)) => *number += 1,
                None => kinds.push((kind, 1)),
            }
        }
        let kinds = kinds.iter().map(|(kind, number)| format!("{number} {kind}"));
        Ok(((), kinds.collect::<Vec<_>>().join(", ")))
    }

    /// Each is invited to both; an invitation to another organisation says whom it is about, by pseudonym.
    async fn invited(&self, people: &mut People) -> Result<(Rooms, String), Trouble> {
        let began = Instant::now();
        let pseudonym = self.cast.pseudonym();
        let (space, room) = (self.cast.team_piece(), self.cast.conversation_piece());
        let found = try_join_all(people.guests.iter_mut().map(async |guest| {
            let mut rooms = Vec::new();
            for piece in [space.as_str(), room.as_str()] {
                let named = |seen: &Seen| {
                    let is_name = seen.kind == Kind::Invite && seen.event["type"] == "m.room.name";
                    let name = seen.event["content"]["name"].as_str()?;
                    (is_name && name.ends_with(piece)).then(|| (seen.room.clone(), name.to_owned()))
                };
                let (id, name) = guest.session.wait_for("the invitation", PATIENCE, named).await?;
                self.invitation_says(guest, &id, &pseudonym).await?;
                rooms.push((id, name));
            }
            Ok::<_, Trouble>(rooms)
        }))
        .await?;
        let rooms = found.into_iter().next().unwrap_or_default();
        let names: Vec<&str> = rooms.iter().map(|(_, name)| name.as_str()).collect();
        let detail = format!("{} {}", names.join(" and "), after(began));
        match rooms.as_slice() {
            [(space, _), (room, _)] => Ok((Rooms { space: space.clone(), room: room.clone() }, detail)),
            _ => Err(Trouble::new("nobody takes part on another homeserver")),
        }
    }

    async fn invitation_says(&self, guest: &mut Person, room: &str, pseudonym: &str) -> Result<(), Trouble> {
        let (user, server) = (guest.user().to_owned(), guest.server().to_owned());
        let own = |seen: &Seen| {
            let is_it = seen.room == room && seen.kind == Kind::Invite && seen.event["state_key"] == user.as_str();
            (is_it && seen.event["type"] == "m.room.member").then(|| seen.event.clone())
        };
        let event = guest.session.wait_for("their own invitation", PATIENCE, own).await?;
        let inviter = event["sender"].as_str().unwrap_or_default();
        let said = &event["content"][INVITE_CONTEXT]["room.subject"]["identifier"][0]["value"];
        if said == pseudonym || inviter.ends_with(&format!(":{server}")) {
            return Ok(());
        }
        Err(Trouble::new("the invitation does not say whom it is about by pseudonym").at(&server))
    }

    /// What was written before they joined comes to their own server over federation.
    async fn read(&self, people: &People, rooms: &Rooms) -> Result<(Vec<Said>, String), Trouble> {
        let began = Instant::now();
        let texts: Vec<&str> = [QUESTION].into_iter().chain(MESSAGES).collect();
        let read = try_join_all(people.guests.iter().map(async |guest| {
            let all = || async {
                let timeline = timeline(guest, &rooms.room).await?;
                let found: Option<Vec<Value>> =
                    texts.iter().map(|text| timeline.iter().find(|event| body(event) == *text).cloned()).collect();
                Ok(found)
            };
            until("all that was written", all).await.map_err(|trouble| trouble.at(guest.server()))
        }))
        .await?;
        let events = read.into_iter().next().unwrap_or_default();
        let resources = self.cast.written(MESSAGES.len());
        let said = texts.iter().zip(events).zip(resources).map(|((text, event), resource)| Said {
            text: (*text).to_owned(),
            resource,
            sender: self.cast.relative_reference(),
            event: event["event_id"].as_str().unwrap_or_default().to_owned(),
        });
        Ok((said.collect(), format!("{} messages {}", texts.len(), after(began))))
    }

    async fn answer(&self, people: &mut People, rooms: &Rooms, index: usize) -> Result<(Said, String), Trouble> {
        let began = Instant::now();
        let guest = &people.guests[index];
        let text = format!("Ik kijk vanmiddag bij haar, {}.", guest.server());
        let event = guest.session.say(&rooms.room, &text).await?;
        let query = format!("{EVENT_ID}|{event}");
        let found = until("the answer as a Communication", || async {
            Ok(self.fhir.search("Communication", &[("identifier", &query)]).await?.pop())
        })
        .await?;
        let sender = self.cast.practitioner_reference(index);
        let expected = json!({ "text": text, "sender": sender, "partOf": self.cast.conversation_reference() });
        let got = json!({
            "text": text_of(&found),
            "sender": found["sender"]["reference"],
            "partOf": found["partOf"][0]["reference"],
        });
        if got != expected {
            return Err(Trouble::new(format!("the Communication has {got}, expected {expected}")).at(FHIR));
        }
        // The next one speaks after they have read this one, so that all homeservers have one order.
        let others = people.guests.iter_mut().enumerate().filter(|(other, _)| *other != index);
        try_join_all(others.map(|(_, other)| other.session.wait_for_event("the answer", &event, PATIENCE))).await?;
        let said = Said { text, resource: reference(&found), sender, event };
        let detail = format!("{} of {} {}", said.resource, said.sender, after(began));
        Ok((said, detail))
    }

    async fn reply(&self, people: &mut People, rooms: &Rooms, answered: &Said) -> Result<(Said, String), Trouble> {
        let began = Instant::now();
        let mut message = self.cast.message(MESSAGES.len(), REPLY);
        message["inResponseTo"] = json!([{ "reference": answered.resource }]);
        self.fhir.put(&message).await?;
        let events = try_join_all(people.guests.iter_mut().map(|guest| {
            guest.session.wait_for("the reply", PATIENCE, |seen: &Seen| {
                let is_it = seen.room == rooms.room && seen.kind == Kind::Timeline && body(&seen.event) == REPLY;
                is_it.then(|| seen.event.clone())
            })
        }))
        .await?;
        let event = events.into_iter().next().unwrap_or_default();
        let answers = &event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"];
        if answers != answered.event.as_str() {
            return Err(Trouble::new(format!("it answers {answers}, expected {}", answered.event)).at(FHIR));
        }
        let said = Said {
            text: REPLY.to_owned(),
            resource: reference(&message),
            sender: self.cast.relative_reference(),
            event: event["event_id"].as_str().unwrap_or_default().to_owned(),
        };
        let detail = format!("{} to {} {}", said.resource, answered.resource, after(began));
        Ok((said, detail))
    }

    /// The newest message is unread for all; then the first practitioner reads it, and only theirs is completed.
    async fn receipt(&self, people: &People, rooms: &Rooms, said: &[Said]) -> Result<((), String), Trouble> {
        let Some((reader, newest)) = people.guests.first().zip(said.last()) else {
            return Err(Trouble::new("there is nobody to read"));
        };
        for index in 0..people.guests.len() {
            until("unread Tasks about the newest message", || self.task(index, newest, "requested")).await?;
        }
        let began = Instant::now();
        let path = ["client", "v3", "rooms", &rooms.room, "receipt", "m.read", &newest.event];
        reader.session.call(Method::POST, &path, Some(json!({}))).await?;
        let task = until("a completed Task", || self.task(0, newest, "completed")).await?;
        for index in 1..people.guests.len() {
            if self.task(index, newest, "requested").await?.is_none() {
                let who = self.cast.practitioner_reference(index);
                return Err(Trouble::new(format!("the Task of {who} is no longer requested")).at(FHIR));
            }
        }
        Ok(((), format!("{task} of {} {}", self.cast.practitioner_reference(0), after(began))))
    }

    /// The Task of a practitioner, when it is about a message and has a status.
    async fn task(&self, index: usize, about: &Said, status: &str) -> Result<Option<String>, Trouble> {
        let (conversation, owner) = (self.cast.conversation_reference(), self.cast.practitioner_reference(index));
        let found = self.fhir.search("Task", &[("based-on", &conversation), ("owner", &owner)]).await?;
        let is_it = |task: &&Value| task["focus"]["reference"] == about.resource.as_str() && task["status"] == status;
        Ok(found.iter().find(is_it).map(reference))
    }

    /// Nothing is missing, nothing is there twice, and Matrix has the order in which it was said.
    async fn same(&self, people: &People, rooms: &Rooms, said: &[Said]) -> Result<((), String), Trouble> {
        let events: Vec<&str> = said.iter().map(|one| one.event.as_str()).collect();
        for guest in &people.guests {
            let timeline = timeline(guest, &rooms.room).await?;
            let here: Vec<&str> = timeline.iter().filter_map(|event| event["event_id"].as_str()).collect();
            if here != events {
                let problem = format!("the messages are {here:?}, expected {events:?}");
                return Err(Trouble::new(problem).at(guest.server()));
            }
        }
        let conversation = self.cast.conversation_reference();
        let found = self.fhir.search("Communication", &[("part-of", &conversation), ("_count", "100")]).await?;
        let mut here: Vec<String> = found.iter().map(reference).collect();
        // The first message stands in the request itself.
        let mut expected: Vec<String> = said.iter().skip(1).map(|one| one.resource.clone()).collect();
        here.sort();
        expected.sort();
        if here != expected {
            return Err(Trouble::new(format!("the Communications are {here:?}, expected {expected:?}")).at(FHIR));
        }
        Ok(((), format!("{} messages, {} of them Communications", said.len(), here.len())))
    }

    /// One message, from both sides.
    async fn aligned(&self, people: &People, rooms: &Rooms, said: &Said) -> Result<((), String), Trouble> {
        let path: Vec<&str> = said.resource.split('/').collect();
        let resource = self.fhir.get(&path).await?;
        let sender = if said.resource == self.cast.conversation_reference() { "requester" } else { "sender" };
        let in_fhir = [text_of(&resource), resource[sender]["reference"].as_str().unwrap_or_default()];
        if in_fhir != [said.text.as_str(), said.sender.as_str()] {
            return Err(Trouble::new(format!("{} has {in_fhir:?}", said.resource)).at(FHIR));
        }
        let mut by = String::new();
        for guest in &people.guests {
            let path = ["client", "v3", "rooms", &rooms.room, "event", &said.event];
            let event = guest.session.call(Method::GET, &path, None).await?;
            if body(&event) != said.text {
                return Err(Trouble::new(format!("{} has {:?}", said.event, body(&event))).at(guest.server()));
            }
            by = event["sender"].as_str().unwrap_or_default().to_owned();
        }
        Ok(((), format!("{} of {} = {} of {by}", said.resource, said.sender, said.event)))
    }

    /// So that a network on which this is played often does not fill with open conversations.
    async fn close(&self, people: &People, rooms: &Rooms) -> Result<((), String), Trouble> {
        let began = Instant::now();
        for (resource, status) in
            [(self.cast.conversation_reference(), "completed"), (self.cast.team_reference(), "inactive")]
        {
            let path: Vec<&str> = resource.split('/').collect();
            let mut found = self.fhir.get(&path).await?;
            found["status"] = json!(status);
            self.fhir.put(&found).await?;
        }
        try_join_all(people.guests.iter().map(async |guest| {
            let closed = || async {
                let path = ["client", "v3", "rooms", &rooms.room, "state", "m.room.power_levels", ""];
                let levels = match guest.session.call(Method::GET, &path, None).await {
                    // Whose last user is sent out forgets the state of the room, a moment before it knows them as gone.
                    Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
                    answer => answer?,
                };
                let joined = guest.session.call(Method::GET, &["client", "v3", "joined_rooms"], None).await?;
                let in_space =
                    joined["joined_rooms"].as_array().is_some_and(|rooms_of| rooms_of.contains(&json!(rooms.space)));
                let own = &levels["users"][guest.user()];
                let needed = &levels["events"]["m.room.message"];
                let silent = needed.as_i64() > own.as_i64().or(levels["users_default"].as_i64());
                Ok((silent && !in_space).then_some(()))
            };
            until("the closed conversation and the emptied space", closed)
                .await
                .map_err(|trouble| trouble.at(guest.server()))
        }))
        .await?;
        Ok(((), format!("read-only, and the team's space is left {}", after(began))))
    }
}

/// They join one after the other, each when the one before has what was said so far. Of two homeservers that join at once
/// one may ask the other for it, which has nothing yet: Synapse then notes a failure, and asks again an hour later.
async fn join(people: &mut People, rooms: &Rooms) -> Result<((), String), Trouble> {
    let began = Instant::now();
    for guest in &people.guests {
        for room in [&rooms.space, &rooms.room] {
            guest.session.join(room).await?;
        }
        let history = || async {
            let timeline = timeline(guest, &rooms.room).await?;
            Ok(timeline.iter().any(|event| body(event) == QUESTION).then_some(()))
        };
        until("what was said before", history).await.map_err(|trouble| trouble.at(guest.server()))?;
    }
    Ok(((), after(began)))
}

/// The messages of a room as somebody's own server has them, oldest first.
async fn timeline(guest: &Person, room: &str) -> Result<Vec<Value>, Trouble> {
    let path = ["_matrix", "client", "v3", "rooms", room, "messages"];
    let session = &guest.session;
    let mut page = session
        .server()
        .ask(Method::GET, &path, |request| {
            request.bearer_auth(session.token().expose()).query(&[("dir", "b"), ("limit", "100")])
        })
        .await?;
    let mut events = page["chunk"].as_array_mut().map(std::mem::take).unwrap_or_default();
    events.retain(|event| event["type"] == "m.room.message");
    events.reverse();
    Ok(events)
}

/// Asks until there is an answer, for a bounded time.
async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<Option<T>, Trouble>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Trouble::new(format!("{what} did not come within {} s", PATIENCE.as_secs())).at(FHIR));
        }
        sleep(ASK_EVERY).await;
    }
}

fn text_of(resource: &Value) -> &str {
    resource["payload"][0]["contentString"].as_str().unwrap_or_default()
}

fn body(event: &Value) -> &str {
    event["content"]["body"].as_str().unwrap_or_default()
}

fn after(began: Instant) -> String {
    format!("after {:.2} s", began.elapsed().as_secs_f64())
}
