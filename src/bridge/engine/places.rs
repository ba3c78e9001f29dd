//! Teams as spaces and conversations as rooms: made once, and kept as FHIR has them. Who is in them: [`super::seats`].

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Done, Engine, Trouble, attendance::Followed, room_id, user_id};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            ROOM_ID, identifier, logical, power,
            thread::{self, Member, Openness},
        },
        store::{Change, Need, RoomLink, now},
    },
    fhir::{
        id::Key,
        query::Query,
        resources::{CareTeam, CareTeamStatus, CommunicationRequest, Reference, Resource, ResourceType},
    },
    matrix::{
        intent::Membership,
        rooms::{self, InitialState, Plan},
    },
};

/// A conversation with everybody who takes part.
pub(super) struct Circle {
    /// The team in whose space it stands, if there is one.
    pub(super) team: Option<Instance>,
    /// The people, each once.
    pub(super) members: Vec<Member>,
}

// === impl Engine ===

impl Engine {
    /// A team is new or has changed.
    pub(super) async fn apply_team(&self, payload: &str) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let mut team: CareTeam = resource.to()?;
        let place = place(Kind::CareTeam, team.id.as_ref())?;
        let openness = thread::of_team(&team);
        let known = self.store.room_of(&place.to_string()).await?;
        if known.is_none() && (openness != Openness::Open || self.is_unlinked(&place).await?) {
            return Ok(Vec::new());
        }
        let unknown = self.name_all(logical::in_team(&mut team)).await?;
        // Needed for an invitation alone; whoever keeps the patient elsewhere has none.
        self.name_subject(team.subject.as_mut()).await?;
        let plan = Plan {
            kind: rooms::Kind::Space,
            name: Some(thread::name(&self.settings.space_label, &place)),
            alias: Some(place.localpart()),
            levels: power::of_space(BTreeMap::new()),
            ..Plan::default()
        };
        let room = self.room_for(&place, &plan).await?;
        let mut changes: Vec<Change> = self.at_next_turn(&place, &team)?.into_iter().collect();
        changes.extend(self.remark(&place, &unknown).await?);
        // Whoever made the space says who is in it and who may do what.
        if identifier(&team.identifier, ROOM_ID) != Some(room.as_str()) {
            changes.extend(self.seat_team(&place, &room, team, openness).await?);
        }
        // Its conversations have the same members.
        for parameter in ["recipient", "based-on"] {
            let query = Query::new().with(parameter, place.to_string());
            for request in self.all(ResourceType::CommunicationRequest, &query).await? {
                changes.extend(self.look_again(&request)?);
            }
        }
        Ok(changes)
    }

    /// Brings a space to what its team says. Where the team follows it, FHIR may not know yet what people have done there.
    async fn seat_team(
        &self,
        place: &Instance,
        room: &RoomId,
        mut team: CareTeam,
        openness: Openness,
    ) -> Result<Vec<Change>, Trouble> {
        let mut followed = None;
        if self.settings.team_follows_space && openness == Openness::Open {
            match self.followed(place, room).await? {
                // The version that ended it comes by itself.
                None => return Ok(Vec::new()),
                Some((_, current)) if thread::of_team(&current) != Openness::Open => return Ok(Vec::new()),
                Some((space, current)) => (followed, team) = (Some(space), current),
            }
            // This version may name others by number.
            self.name_all(logical::in_team(&mut team)).await?;
            self.name_subject(team.subject.as_mut()).await?;
        }
        let roster = self.roster(thread::members(&team, &self.settings.lead_roles, now())).await?;
        let context = self.invite_context(team.subject.as_ref()).await?;
        let missing = self.seat(room, &roster, power::of_space, context, followed.as_ref()).await?;
        let look = followed.filter(Followed::is_behind).map(|_| Change::Soon(self.gap_work(room.as_str())));
        Ok(self.reach_later(place, missing).await?.into_iter().chain(look).collect())
    }

    /// A conversation is new or has changed.
    pub(super) async fn apply_request(&self, payload: &str, suspect: bool) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let mut request: CommunicationRequest = resource.to()?;
        let place = place(Kind::CommunicationRequest, request.id.as_ref())?;
        let openness = thread::of_request(&request);
        let known = self.store.room_of(&place.to_string()).await?;
        let is_hidden = matches!(openness, Openness::Hidden | Openness::Emptied);
        if known.is_none() && (is_hidden || self.is_unlinked(&place).await?) {
            return Ok(Vec::new());
        }
        let unknown = self.name_all(logical::in_request(&mut request)).await?;
        self.name_subject(request.subject.as_mut()).await?;
        let circle = self.circle(&request).await?;
        let space = match &circle.team {
            None => None,
            Some(team) => match self.store.room_of(&team.to_string()).await? {
                Some(link) => Some(room_id(&link.room_id)?),
                None => return Err(Trouble::Wait(Need::Room(team.to_string()))),
            },
        };
        let own = self.room_of_a_person(&place, &request).await?;
        let room = match &own {
            Some(own) => own.clone(),
            None => self.room_for(&place, &self.room_plan(&place, space.as_deref())).await?,
        };
        if let Some(space) = &space {
            let child = thread::tie(&[self.names.server()], false);
            let bot = self.homeserver.bot();
            if bot.state(space, "m.space.child", room.as_str()).await?.as_ref() != Some(&child) {
                bot.set_state(space, "m.space.child", room.as_str(), &child).await?;
            }
            // The space may be another one than when the room was made.
            let parent = thread::tie(&[self.names.server()], true);
            if own.is_none() && bot.state(&room, "m.space.parent", space.as_str()).await?.as_ref() != Some(&parent) {
                bot.set_state(&room, "m.space.parent", space.as_str(), &parent).await?;
            }
        }
        if own.is_some() {
            // Whoever made the room says who is in it and who may do what.
            let mut changes = self.say_first(&place, &resource, &request, &room, suspect).await?;
            changes.extend(self.remark(&place, &unknown).await?);
            return Ok(changes);
        }
        let members = if openness == Openness::Emptied { Vec::new() } else { circle.members };
        let roster = self.roster(members).await?;
        let context = self.invite_context(request.subject.as_ref()).await?;
        let levels = |users| power::of_room(users, openness == Openness::Closed);
        // The first message is said before the room is closed to those who would say it.
        let said = self.say_first(&place, &resource, &request, &room, suspect).await;
        let missing = self.seat(&room, &roster, levels, context, None).await?;
        let mut changes = said?;
        changes.extend(self.reach_later(&place, missing).await?);
        if openness == Openness::Open {
            changes.extend(self.say_what_was_shut_out(&place).await?);
        }
        changes.extend(self.remark(&place, &unknown).await?);
        Ok(changes)
    }

    /// The room of a conversation that a person made: the one that the request names, if the bridge is in it and it
    /// stands for nothing else.
    async fn room_of_a_person(
        &self,
        place: &Instance,
        request: &CommunicationRequest,
    ) -> Result<Option<OwnedRoomId>, Trouble> {
        let Some(named) = thread::room_of(request).and_then(|room| OwnedRoomId::try_from(room).ok()) else {
            return Ok(None);
        };
        if let Some(link) = self.store.place_of(named.as_str()).await? {
            return Ok((link.place == place.to_string()).then_some(named));
        }
        if self.store.room_of(&place.to_string()).await?.is_some() {
            return Ok(None);
        }
        let bot = self.homeserver.bot();
        match bot.membership(&named, self.homeserver.bot_id()).await {
            Ok(Membership::Join) => {}
            Err(error) if !error.is_forbidden() && !error.is_not_found() => return Err(error.into()),
            _ => return Ok(None),
        }
        let link = RoomLink { room_id: named.to_string(), place: place.to_string() };
        self.commit(vec![Change::LinkRoom(link)]).await?;
        Ok(Some(named))
    }

    /// A resource is to be looked at again. Members may have changed without it: somebody's Matrix id, or a
    /// conversation's team. Or it could not be stored when it came.
    pub(super) async fn apply_members(&self, payload: &str) -> Done {
        let name: String = serde_json::from_str(payload)?;
        match Instance::parse(&name) {
            Ok(place) if matches!(place.kind(), Kind::CareTeam | Kind::CommunicationRequest) => {
                let Some(resource) = self.resource_of(&place).await? else { return Ok(Vec::new()) };
                match place.kind() {
                    Kind::CareTeam => self.apply_team(&resource.to_json()).await,
                    _ => self.apply_request(&resource.to_json(), true).await,
                }
            }
            _ => match Key::parse(&name) {
                Some(key) => self.take_again(&key).await,
                None => Ok(Vec::new()),
            },
        }
    }

    /// Who takes part in a conversation: the people that it names, and the members of its teams.
    ///
    /// Where it names no team, the active team of its subject gives it its space, and nobody else.
    pub(super) async fn circle(&self, request: &CommunicationRequest) -> Result<Circle, Trouble> {
        let mut request = request.clone();
        self.name_all(logical::in_request(&mut request)).await?;
        self.name_subject(request.subject.as_mut()).await?;
        let request = &request;
        let mut members: Vec<Member> = Vec::new();
        let mut add = |member: Member| match members.iter_mut().find(|known| known.person == member.person) {
            Some(known) => known.level = known.level.max(member.level),
            None => members.push(member),
        };
        let teams = thread::teams(request);
        let (mut present, mut former) = (Vec::new(), Vec::new());
        for team in &teams {
            let Some(resource) = self.resource_of(team).await? else { continue };
            let team = self.team_in(&resource).await?;
            let members = thread::members(&team, &self.settings.lead_roles, now());
            present.extend(members.iter().map(|member| member.person.clone()));
            former.extend(thread::former(&team, now()));
            members.into_iter().for_each(&mut add);
        }
        let recipients: Vec<Instance> = thread::recipients(request).collect();
        for person in thread::people(request) {
            // Whoever began it as a member of the team has no part in it when they are a member no longer.
            if former.contains(&person) && !present.contains(&person) && !recipients.contains(&person) {
                continue;
            }
            let level = power::of_kind(person.kind());
            add(Member { person, level, role_code: None });
        }
        let team = match teams.into_iter().next() {
            Some(team) => Some(team),
            None => self.team_of_subject(request.subject.as_ref()).await?,
        };
        Ok(Circle { team, members })
    }

    /// Whom a place is about, where they are named by number. Nobody else misses anything when that is not known.
    async fn name_subject(&self, subject: Option<&mut Reference>) -> Result<(), Trouble> {
        if let Some(subject) = subject {
            self.name(subject).await?;
        }
        Ok(())
    }

    async fn team_of_subject(&self, subject: Option<&Reference>) -> Result<Option<Instance>, Trouble> {
        let Some(named) = subject.and_then(|subject| subject.reference.clone()) else { return Ok(None) };
        let mut subjects = vec![named];
        if let Some(patient) = subject.and_then(thread::instance) {
            // The team of a merged patient may be that of the record that remains.
            let survivor = self.survivor(&patient).await?;
            subjects.extend((survivor != patient).then(|| survivor.to_string()));
        }
        let query = Query::new().with("patient", subjects.join(",")).with("status", CareTeamStatus::Active.as_str());
        let mut teams: Vec<Instance> = Vec::new();
        for team in self.all(ResourceType::CareTeam, &query).await? {
            teams.extend(team.key().and_then(|key| Instance::parse(&key.to_string()).ok()));
        }
        // Of several the choice must not change from call to call.
        Ok(teams.into_iter().min())
    }

    fn room_plan(&self, place: &Instance, space: Option<&RoomId>) -> Plan {
        let parent = space.map(|space| {
            InitialState::new("m.space.parent", thread::tie(&[self.names.server()], true)).with_key(space.as_str())
        });
        Plan {
            name: Some(thread::name(&self.settings.room_label, place)),
            alias: Some(place.localpart()),
            levels: power::of_room(BTreeMap::new(), false),
            initial_state: parent.into_iter().collect(),
            ..Plan::default()
        }
    }

    /// The room of a place; it is made if it is not there. The alias makes sure that it is made once.
    async fn room_for(&self, place: &Instance, plan: &Plan) -> Result<OwnedRoomId, Trouble> {
        if let Some(link) = self.store.room_of(&place.to_string()).await? {
            return room_id(&link.room_id);
        }
        let mut made = self.homeserver.bot().create_room(plan).await?;
        if made.existed && self.is_hollow(&made.room_id).await? {
            // Nobody ever saw it: another one is made as if it had not been.
            warn!(%place, room = %made.room_id, "the homeserver has an alias for a room that it never made; made anew");
            self.free_alias(place).await?;
            made = self.homeserver.bot().create_room(plan).await?;
        }
        info!(%place, room = %made.room_id, "a room was made");
        if made.existed {
            self.complete(&made.room_id, plan).await?;
        }
        let link = RoomLink { room_id: made.room_id.to_string(), place: place.to_string() };
        self.commit(vec![Change::LinkRoom(link)]).await?;
        Ok(made.room_id)
    }

    /// A homeserver that is killed while it makes a room may leave one that has its alias but no name yet. (Levels and
    /// the space around it are brought to what they should be anyway.)
    async fn complete(&self, room: &RoomId, plan: &Plan) -> Result<(), Trouble> {
        let (bot, Some(name)) = (self.homeserver.bot(), &plan.name) else { return Ok(()) };
        match bot.state(room, "m.room.name", "").await {
            Ok(None) => Ok(bot.set_state(room, "m.room.name", "", &json!({ "name": name })).await.map(drop)?),
            Err(error) if error.is_temporary() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The bot was invited, kicked or banned.
    pub(super) async fn answer_invitation(&self, payload: &str) -> Done {
        let event: Value = serde_json::from_str(payload)?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (room, by) = (text(event.get("room_id")), text(event.get("sender")));
        let membership = text(event.get("content").and_then(|content| content.get("membership")));
        let is_neighbour = self.names.server() == by.split_once(':').map_or("", |(_, server)| server);
        if membership != "invite" || (!is_neighbour && self.person_of(&by).await?.is_none()) {
            // Only people whom FHIR knows, and those of the own homeserver, bring the bridge into a room.
            return Ok(Vec::new());
        }
        let room = room_id(&room)?;
        let via = vec![user_id(&by)?.server_name().to_owned()];
        self.homeserver.bot().join((*room).into(), &via).await?;
        self.adopt(&room, &by).await
    }
}

/// The place of a resource by its id.
fn place(kind: Kind, id: Option<&crate::fhir::id::Id>) -> Result<Instance, Trouble> {
    let id = id.ok_or_else(|| Trouble::Refused("the resource has no id".to_owned()))?;
    Instance::new(kind, id.as_str()).map_err(|error| Trouble::Refused(error.to_string()))
}
