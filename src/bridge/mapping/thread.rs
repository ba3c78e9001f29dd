//! Care teams as spaces, and requests for communication as rooms: who takes part, and what can be done there.

use serde_json::{Map, Value, json};

use super::{ROOM_ID, identifier, listing, literal, logical, power};
use crate::{
    bridge::identity::{Instance, Kind},
    fhir::{
        instant::DateTime,
        resources::{
            CareTeam, CareTeamStatus, CommunicationRequest, Extension, Identifier, Participant, Payload, Period,
            Reference, RequestStatus,
        },
    },
};

/// Extension of the OZO guide that names the team in whose name a conversation was begun.
const SENDER_CARE_TEAM: &str = "senderCareTeam";

/// Somebody who takes part, and their level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub person: Instance,
    /// Their power level.
    pub level: i64,
    /// The code of their role, if one is given.
    pub role_code: Option<String>,
}

/// How open a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openness {
    /// Not to be seen in Matrix yet.
    Hidden,
    /// Open.
    Open,
    /// To be read only.
    Closed,
    /// Nobody is to be in it any more.
    Emptied,
}

/// How open the space of a team is.
pub fn of_team(team: &CareTeam) -> Openness {
    match team.status {
        Some(CareTeamStatus::Proposed) => Openness::Hidden,
        Some(CareTeamStatus::Inactive | CareTeamStatus::EnteredInError) => Openness::Emptied,
        _ => Openness::Open,
    }
}

/// How open the room of a conversation is.
pub fn of_request(request: &CommunicationRequest) -> Openness {
    match request.status {
        Some(RequestStatus::Draft) => Openness::Hidden,
        Some(RequestStatus::Completed | RequestStatus::Revoked) => Openness::Closed,
        Some(RequestStatus::EnteredInError) => Openness::Emptied,
        _ => Openness::Open,
    }
}

/// The members of a team at a moment (milliseconds since 1970), each once; of two roles the higher counts.
///
/// Participants whose time is over, or who are no people (another team), are not among them. A team that is no more
/// has no members.
pub fn members(team: &CareTeam, lead_roles: &[String], at: i64) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    if of_team(team) == Openness::Emptied {
        return members;
    }
    for participant in team.participant.iter().filter(|participant| takes_part(participant, at)) {
        let Some(person) = participant.member.as_ref().and_then(instance).filter(|who| who.kind().is_person()) else {
            continue;
        };
        let level = power::of_participant(person.kind(), participant, lead_roles);
        let role_code = participant.role.iter().flat_map(|role| &role.coding).find_map(|coding| coding.code.clone());
        match members.iter_mut().find(|member| member.person == person) {
            Some(known) => known.level = known.level.max(level),
            None => members.push(Member { person, level, role_code }),
        }
    }
    members
}

/// People who were members of a team and are so no longer, or not yet.
pub fn former(team: &CareTeam, at: i64) -> Vec<Instance> {
    let present = members(team, &[], at);
    let named = team.participant.iter().filter_map(|participant| instance(participant.member.as_ref()?));
    named.filter(|person| !present.iter().any(|member| member.person == *person)).collect()
}

/// Somebody joins a team at a moment (milliseconds since 1970). Says whether that changed anything.
pub fn join(team: &mut CareTeam, person: &Instance, at: i64) -> bool {
    if of_team(team) == Openness::Emptied || participations(team, person, at).next().is_some() {
        return false;
    }
    team.participant.push(Participant {
        member: Some(logical::reference(person)),
        period: Some(Period { start: Some(DateTime::from_millis(at)), ..Period::default() }),
        ..Participant::default()
    });
    true
}

/// Somebody leaves a team at a moment (milliseconds since 1970): their part in it ends. Says whether that changed
/// anything.
pub fn leave(team: &mut CareTeam, person: &Instance, at: i64) -> bool {
    let mut changed = false;
    for participant in participations(team, person, at) {
        participant.period.get_or_insert_default().end = Some(DateTime::from_millis(at));
        changed = true;
    }
    changed
}

/// Whether somebody is a participant of a team at a moment (milliseconds since 1970).
pub fn takes_part_in(team: &CareTeam, person: &Instance, at: i64) -> bool {
    let is_theirs =
        |participant: &&Participant| participant.member.as_ref().and_then(instance).as_ref() == Some(person);
    team.participant.iter().filter(is_theirs).any(|participant| takes_part(participant, at))
}

fn participations<'a>(
    team: &'a mut CareTeam,
    person: &'a Instance,
    at: i64,
) -> impl Iterator<Item = &'a mut Participant> + 'a {
    let is_theirs =
        move |participant: &Participant| participant.member.as_ref().and_then(instance).as_ref() == Some(person);
    team.participant.iter_mut().filter(move |participant| is_theirs(participant) && takes_part(participant, at))
}

/// The next moment (milliseconds since 1970) at which the period of a participant begins or ends.
pub fn next_turn(team: &CareTeam, at: i64) -> Option<i64> {
    let periods = team.participant.iter().filter_map(|participant| participant.period.as_ref());
    let turns = periods.flat_map(|period| [period.start.as_ref().and_then(DateTime::millis), listing::end_of(period)]);
    turns.flatten().filter(|turn| *turn > at).min()
}

fn takes_part(participant: &Participant, at: i64) -> bool {
    participant.period.as_ref().is_none_or(|period| listing::holds(period, at))
}

/// The instance that a reference names, if it is literal and of a kind with a place in Matrix.
pub fn instance(reference: &Reference) -> Option<Instance> {
    Instance::parse(reference.reference.as_deref()?).ok()
}

/// The teams that a conversation belongs to: `recipient` first, then `basedOn`, `about` and OZO's `senderCareTeam`.
///
/// The first is the one in whose space the room stands.
pub fn teams(request: &CommunicationRequest) -> Vec<Instance> {
    let extensions: Vec<Extension> =
        request.rest.get("extension").cloned().and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
    let of_sender = extensions
        .iter()
        .filter(|extension| extension.url.as_deref().is_some_and(|url| url.ends_with(SENDER_CARE_TEAM)))
        .filter_map(|extension| {
            serde_json::from_value::<Reference>(extension.rest.get("valueReference")?.clone()).ok()
        });
    let named = request.recipient.iter().chain(&request.based_on).chain(&request.about).cloned().chain(of_sender);
    let mut teams = Vec::new();
    for team in named.filter_map(|reference| instance(&reference)).filter(|found| found.kind() == Kind::CareTeam) {
        if !teams.contains(&team) {
            teams.push(team);
        }
    }
    teams
}

/// The people whom a conversation names as its recipients.
pub fn recipients(request: &CommunicationRequest) -> impl Iterator<Item = Instance> + '_ {
    request.recipient.iter().filter_map(instance).filter(|found| found.kind().is_person())
}

/// The people who are named in a conversation themselves: requester and sender first, then recipients.
pub fn people(request: &CommunicationRequest) -> Vec<Instance> {
    let named = request.requester.iter().chain(&request.sender).chain(&request.recipient);
    let mut people = Vec::new();
    for person in named.filter_map(instance).filter(|found| found.kind().is_person()) {
        if !people.contains(&person) {
            people.push(person);
        }
    }
    people
}

/// What a space or room is called: never with anything of the patient in it.
///
/// The label and a piece of the resource's id, so that two teams can be told apart.
pub fn name(label: &str, place: &Instance) -> String {
    let piece: String = place.id().chars().take(8).collect();
    format!("{label} {piece}")
}

/// The request that stands for a room that a person made in a team's space.
///
/// `begun` is in milliseconds since 1970. The id depends on the room alone.
pub fn request_of_room(
    room_id: &str,
    team: &Instance,
    subject: Option<Reference>,
    by: Reference,
    begun: i64,
) -> CommunicationRequest {
    CommunicationRequest {
        id: super::stable_id("mx", &[room_id]).parse().ok(),
        identifier: vec![Identifier::new(ROOM_ID, room_id)],
        status: Some(RequestStatus::Active),
        subject,
        authored_on: Some(DateTime::from_millis(begun)),
        requester: Some(by),
        recipient: vec![literal(team.to_string())],
        ..CommunicationRequest::default()
    }
}

/// The room of a request that came from Matrix.
pub fn room_of(request: &CommunicationRequest) -> Option<&str> {
    identifier(&request.identifier, ROOM_ID)
}

/// The payloads of a request: the first message of the conversation.
pub fn first_message(request: &CommunicationRequest) -> &[Payload] {
    &request.payload
}

/// The content of `m.space.child` or `m.space.parent`, by way of the given servers.
pub fn tie(via: &[&str], canonical: bool) -> Value {
    let mut content = Map::from_iter([("via".to_owned(), json!(via))]);
    if canonical {
        content.insert("canonical".to_owned(), json!(true));
    }
    Value::Object(content)
}
