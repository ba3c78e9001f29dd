//! Invitations that others must help with: people of other homeservers, which may be away, and people whom the own one
//! refuses to invite. They stand in a lane of their own, so that nobody else and no message waits for them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use ruma::{OwnedServerName, OwnedUserId, RoomId};
use serde_json::Value;

use super::{Done, Engine, Trouble, room_id, seats::Roster, work};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            ROOM_ID, identifier,
            thread::{self, Openness},
        },
        store::{Change, Side, now},
    },
    fhir::resources::{CareTeam, CommunicationRequest},
    matrix::{self, intent::Membership},
};

/// Who is to be in a place, and what an invitation says of whom it is about.
struct Wanted {
    roster: Roster,
    context: Option<Value>,
}

// === impl Engine ===

impl Engine {
    /// Work that invites those of a place who could not be invited at once, where there are any.
    pub(super) async fn reach_later(&self, place: &Instance, any: bool) -> Result<Option<Change>, Trouble> {
        let (key, lane) = (place.to_string(), lane(&place.to_string()));
        if let Some(seq) = self.parked_in(&lane).await? {
            return Ok(Some(Change::Retry { seq: Some(seq) }));
        }
        any.then(|| work(Side::Matrix, lane, "reach", &key).map(Change::Soon)).transpose()
    }

    /// Invites those of a place who are not there yet, each homeserver's people beside the others.
    pub(super) async fn reach(&self, payload: &str) -> Done {
        let key: String = serde_json::from_str(payload)?;
        let Ok(place) = Instance::parse(&key) else { return Ok(Vec::new()) };
        let Some(link) = self.store.room_of(&key).await? else { return Ok(Vec::new()) };
        let room = room_id(&link.room_id)?;
        let Some(wanted) = self.wanted_in(&place, &room).await? else { return Ok(Vec::new()) };
        let missing = self.missing(&room, &wanted.roster).await?;
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let context = wanted.context.as_ref();
        let inviting = missing.iter().map(|(server, users)| self.invite_all(&room, server, users, context));
        let outcomes = join_all(inviting).await;
        // FHIR may say otherwise by now, and the place's own lane could not know of these invitations.
        if let Some(resource) = self.resource_of(&place).await? {
            self.commit(self.look_again(&resource)?.into_iter().collect()).await?;
        }
        outcomes.into_iter().collect::<Result<(), Trouble>>().map(|()| Vec::new())
    }

    async fn wanted_in(&self, place: &Instance, room: &RoomId) -> Result<Option<Wanted>, Trouble> {
        let Some(resource) = self.resource_of(place).await? else { return Ok(None) };
        let (members, mut subject) = if place.kind() == Kind::CareTeam {
            let team: CareTeam = self.team_in(&resource).await?;
            if thread::of_team(&team) != Openness::Open || identifier(&team.identifier, ROOM_ID) == Some(room.as_str())
            {
                return Ok(None);
            }
            (thread::members(&team, &self.settings.lead_roles, now()), team.subject)
        } else {
            let request: CommunicationRequest = resource.to()?;
            // Whoever made the room says who is in it.
            if thread::of_request(&request) == Openness::Emptied || thread::room_of(&request) == Some(room.as_str()) {
                return Ok(None);
            }
            (self.circle(&request).await?.members, request.subject)
        };
        if let Some(subject) = subject.as_mut() {
            self.name(subject).await?;
        }
        let context = self.invite_context(subject.as_ref()).await?;
        Ok(Some(Wanted { roster: self.roster(members).await?, context }))
    }

    /// Those who are to be invited, by homeserver.
    async fn missing(
        &self,
        room: &RoomId,
        roster: &Roster,
    ) -> Result<BTreeMap<OwnedServerName, Vec<OwnedUserId>>, Trouble> {
        let present = self.homeserver.bot().members(room).await?;
        let mut missing: BTreeMap<OwnedServerName, Vec<OwnedUserId>> = BTreeMap::new();
        for (user, _) in roster.iter().filter(|(_, seat)| !seat.is_ghost()) {
            let member = present.iter().find(|member| member.user_id == *user);
            let is_wanted = match member.map(|member| (member.membership, member.by == *user)) {
                Some((Membership::Join | Membership::Invite | Membership::Ban, _)) => false,
                // Where the team follows its space, who leaves leaves the team.
                Some((_, by_themselves)) => !(by_themselves && self.settings.team_follows_space),
                None => true,
            };
            if is_wanted {
                missing.entry(user.server_name().to_owned()).or_default().push(user.clone());
            }
        }
        Ok(missing)
    }

    /// Invites people of one homeserver. Who is refused keeps nobody else from being invited.
    async fn invite_all(
        &self,
        room: &RoomId,
        server: &OwnedServerName,
        users: &[OwnedUserId],
        context: Option<&Value>,
    ) -> Result<(), Trouble> {
        let mut first = None;
        for user in users {
            match self.homeserver.bot().invite(room, user, &self.invitation(user, context)).await {
                Ok(()) => {}
                Err(error) if is_refusal(&error) => drop(first.get_or_insert(error)),
                Err(error) => return Err(error.into()),
            }
        }
        match first {
            None => Ok(()),
            Some(error) => Err(Trouble::Refused(format!("a participant at {server} cannot be invited: {error}"))),
        }
    }
}

/// Whether the homeserver refuses this one invitation, and would not refuse every other call.
pub(super) fn is_refusal(error: &matrix::Error) -> bool {
    error.refused().is_some() && !error.is_temporary() && !error.is_unknown_token()
}

/// The lane of the invitations of a place.
pub(super) fn lane(place: &str) -> String {
    format!("reach {place}")
}
