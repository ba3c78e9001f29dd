//! A private room across the network, and what people do in it.

use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    people::{People, Person},
    recorder::{Abandoned, Recorder, Trouble},
};
use crate::lab::client::{Kind, Seen};

/// Time for something to cross the network. What usually takes 0.1 s may take long on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The room of this run.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) id: String,
    pub(super) alias: String,
}

pub(super) async fn chapter(recorder: &mut Recorder, people: &mut People) -> Result<Room, Abandoned> {
    recorder.chapter("A room across the network");
    let (host, guests) = (people.host.server().to_owned(), people.guests_at());
    let room = recorder.step(format!("{host} makes a private room"), &host, make(people)).await?;
    recorder.step(format!("{host} invites the others"), format!("seen by {guests}"), invite(people, &room)).await?;
    recorder.step("The invited join over federation", format!("seen by {host}"), join(people, &room)).await?;
    for speaker in 0..=people.guests.len() {
        let who = people.all().nth(speaker).map(Person::server).unwrap_or_default().to_owned();
        let others: Vec<&str> = people.all().map(Person::server).filter(|server| *server != who).collect();
        let others = format!("seen by {}", others.join(", "));
        recorder.step(format!("{who} says something"), others, speak(people, &room, speaker)).await?;
    }
    recorder.step("The room is found by its alias from another server", &guests, resolve(people, &room)).await?;
    recorder.step("A new display name is read on another server", &guests, rename(people)).await?;
    recorder.step(format!("{host} is typing"), format!("seen by {guests}"), typing(people, &room)).await?;
    recorder.step(format!("{host} corrects a message"), format!("seen by {guests}"), edit(people, &room)).await?;
    recorder.step(format!("{host} takes a message back"), format!("gone at {guests}"), redact(people, &room)).await?;
    Ok(room)
}

async fn make(people: &People) -> Result<(Room, String), Trouble> {
    let local = format!("verify-{}", people.run);
    let body = json!({
        "preset": "private_chat",
        "name": "Overleg",
        "room_alias_name": local,
    });
    let path = ["client", "v3", "createRoom"];
    let id = people.host.session.call_for(Method::POST, &path, Some(body), "/room_id").await?;
    let alias = format!("#{local}:{}", people.host.server());
    Ok((Room { id, alias: alias.clone() }, alias))
}

async fn invite(people: &mut People, room: &Room) -> Result<((), String), Trouble> {
    let People { host, guests, .. } = people;
    let began = Instant::now();
    try_join_all(guests.iter_mut().map(async |guest| {
        let path = ["client", "v3", "rooms", &room.id, "invite"];
        host.session.call(Method::POST, &path, Some(json!({ "user_id": guest.user() }))).await?;
        let wanted = |seen: &Seen| (seen.room == room.id && seen.kind == Kind::Invite).then_some(());
        guest.session.wait_for("the invitation", PATIENCE, wanted).await?;
        Ok::<_, Trouble>(())
    }))
    .await?;
    Ok(((), after(began)))
}

async fn join(people: &mut People, room: &Room) -> Result<((), String), Trouble> {
    let began = Instant::now();
    try_join_all(people.guests.iter().map(|guest| guest.session.join(&room.id))).await?;
    let People { host, guests, .. } = people;
    for guest in guests {
        let user = guest.user().to_owned();
        let joined = |seen: &Seen| {
            let event = &seen.event;
            let is_it = event["type"] == "m.room.member"
                && event["state_key"] == user.as_str()
                && event["content"]["membership"] == "join";
            (seen.room == room.id && seen.kind == Kind::Timeline && is_it).then_some(())
        };
        host.session.wait_for(&format!("{user} join"), PATIENCE, joined).await?;
    }
    Ok(((), after(began)))
}

async fn speak(people: &mut People, room: &Room, speaker: usize) -> Result<((), String), Trouble> {
    let words = format!("Goedemorgen, hier is nummer {speaker}. ☕");
    let began = Instant::now();
    let mut event = String::new();
    for person in people.all().skip(speaker).take(1) {
        event = person.session.say(&room.id, &words).await?;
    }
    let times =
        try_join_all(people.all_mut().enumerate().filter(|(index, _)| *index != speaker).map(async |(_, listener)| {
            let heard = listener.session.wait_for_event("the message", &event, PATIENCE).await?;
            if heard["content"]["body"] != words.as_str() {
                return Err(Trouble::new(format!("{} saw other words", listener.user())).at(listener.server()));
            }
            Ok(format!("{:.2} s", began.elapsed().as_secs_f64()))
        }))
        .await?;
    Ok(((), format!("after {}", times.join(" and "))))
}

async fn resolve(people: &People, room: &Room) -> Result<((), String), Trouble> {
    try_join_all(people.guests.iter().map(async |guest| {
        let path = ["client", "v3", "directory", "room", &room.alias];
        let found = guest.session.call_for(Method::GET, &path, None, "/room_id").await?;
        if found == room.id {
            Ok(())
        } else {
            Err(Trouble::new(format!("{} leads to {found}, not to {}", room.alias, room.id)).at(guest.server()))
        }
    }))
    .await?;
    Ok(((), room.alias.clone()))
}

async fn rename(people: &People) -> Result<((), String), Trouble> {
    let name = format!("Wijkverpleegkundige {}", people.run);
    let user = people.host.user();
    let path = ["client", "v3", "profile", user, "displayname"];
    people.host.session.call(Method::PUT, &path, Some(json!({ "displayname": name }))).await?;
    try_join_all(people.guests.iter().map(async |guest| {
        let read = guest.session.call_for(Method::GET, &path, None, "/displayname").await?;
        if read == name {
            Ok(())
        } else {
            Err(Trouble::new(format!("{} reads {read:?} instead of {name:?}", guest.user())).at(guest.server()))
        }
    }))
    .await?;
    Ok(((), name.clone()))
}

async fn typing(people: &mut People, room: &Room) -> Result<((), String), Trouble> {
    let began = Instant::now();
    let user = people.host.user().to_owned();
    let path = ["client", "v3", "rooms", &room.id, "typing", &user];
    let body = json!({ "typing": true, "timeout": PATIENCE.as_millis() as u64 });
    people.host.session.call(Method::PUT, &path, Some(body)).await?;
    try_join_all(people.guests.iter_mut().map(|guest| {
        let user = user.clone();
        guest.session.wait_for("somebody typing", PATIENCE, move |seen| {
            let typing = seen.event["content"]["user_ids"].as_array()?;
            (seen.kind == Kind::Ephemeral && typing.iter().any(|who| who == user.as_str())).then_some(())
        })
    }))
    .await?;
    Ok(((), after(began)))
}

async fn edit(people: &mut People, room: &Room) -> Result<((), String), Trouble> {
    let (first, second) = ("Morgen om negen uur", "Morgen om tien uur");
    let original = people.host.session.say(&room.id, first).await?;
    let content = json!({
        "msgtype": "m.text",
        "body": format!("* {second}"),
        "m.new_content": { "msgtype": "m.text", "body": second },
        "m.relates_to": { "rel_type": "m.replace", "event_id": original },
    });
    let edit = people.host.session.send(&room.id, "m.room.message", content).await?;
    try_join_all(people.guests.iter_mut().map(async |guest| {
        let seen = guest.session.wait_for_event("the correction", &edit, PATIENCE).await?;
        if seen["content"]["m.new_content"]["body"] != second {
            return Err(Trouble::new(format!("{} saw other words", guest.user())).at(guest.server()));
        }
        Ok(())
    }))
    .await?;
    Ok(((), format!("“{first}” → “{second}”")))
}

async fn redact(people: &mut People, room: &Room) -> Result<((), String), Trouble> {
    let began = Instant::now();
    let mistake = people.host.session.say(&room.id, "Verkeerd venster").await?;
    try_join_all(people.guests.iter_mut().map(|guest| guest.session.wait_for_event("the message", &mistake, PATIENCE)))
        .await?;
    let path = ["client", "v3", "rooms", &room.id, "redact", &mistake, "lab"];
    let redaction = people.host.session.call_for(Method::PUT, &path, Some(json!({})), "/event_id").await?;
    try_join_all(people.guests.iter_mut().map(async |guest| {
        guest.session.wait_for_event("the redaction", &redaction, PATIENCE).await?;
        let path = ["client", "v3", "rooms", &room.id, "event", &mistake];
        let left = guest.session.call(Method::GET, &path, None).await?;
        match left["content"].get("body").and_then(Value::as_str) {
            None => Ok(()),
            Some(words) => Err(Trouble::new(format!("{} still reads {words:?}", guest.user())).at(guest.server())),
        }
    }))
    .await?;
    Ok(((), after(began)))
}

fn after(began: Instant) -> String {
    format!("after {:.2} s", began.elapsed().as_secs_f64())
}
