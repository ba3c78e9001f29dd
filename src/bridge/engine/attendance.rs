//! Who takes part, as time goes by: people who join or leave a team's space in Matrix, periods that begin or end, and
//! receipts of the time in which the bridge was away.

use std::{collections::HashSet, time::Duration};

use ruma::{OwnedUserId, RoomId};
use serde_json::Value;
use tracing::{debug, info};

use super::{Done, Engine, Trouble, room_id, user_id, work};
use crate::{
    bridge::{
        identity::{Instance, Kind, Names},
        mapping::thread,
        store::{Change, Millis, NewWork, Side, now},
    },
    fhir::{
        resources::{CareTeam, Resource},
        server::Condition,
    },
    matrix::{
        intent::{Member, Membership},
        transaction::Outline,
    },
    service::trace::Trace,
};

/// A space that its team follows, as it was at one moment.
pub(super) struct Followed {
    /// Who was what to it.
    pub(super) present: Vec<Member>,
    /// When FHIR last said who belongs to the team.
    pub(super) written: Millis,
    /// Those whose coming or going the team may not know of yet.
    unfollowed: HashSet<OwnedUserId>,
}

// === impl Followed ===

impl Followed {
    /// Whether people have changed what somebody is to the space, and FHIR has not heard of it. Whom people have invited
    /// is waited for.
    pub(super) fn is_news(&self, member: &Member, names: &Names) -> bool {
        let is_ahead = || member.since > self.written || self.unfollowed.contains(&member.user_id);
        !names.is_ours(member.by.as_str()) && (member.membership == Membership::Invite || is_ahead())
    }

    /// Whether something happened that nobody has told the bridge of yet, or that is still to be followed.
    pub(super) fn is_behind(&self) -> bool {
        !self.unfollowed.is_empty()
    }
}

// === impl Engine ===

impl Engine {
    /// Somebody joined or left a room: in a team's space, the team has another member.
    ///
    /// What they are to the room now counts, not what they were when the event was made; so it does not matter how
    /// often, or how late, this is done.
    pub(super) async fn follow_member(&self, payload: &str) -> Done {
        let event: Value = serde_json::from_str(payload)?;
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let (room, user) = (text("room_id"), text("state_key"));
        let Some(link) = self.store.place_of(room).await? else { return Ok(Vec::new()) };
        let Ok(team) = Instance::parse(&link.place) else { return Ok(Vec::new()) };
        if team.kind() != Kind::CareTeam {
            return Ok(Vec::new());
        }
        let persons = self.persons_of(user).await?;
        let Some(first) = persons.first() else { return Ok(Vec::new()) };
        let bot = self.homeserver.bot();
        let joins = match bot.membership(&room_id(room)?, &user_id(user)?).await? {
            Membership::Join => true,
            Membership::Leave | Membership::Ban => false,
            Membership::Invite | Membership::Knock => return Ok(Vec::new()),
        };
        let Some(resource) = self.resource_of(&team).await? else { return Ok(Vec::new()) };
        let mut care_team = self.team_in(&resource).await?;
        // A homeserver whose clock goes ahead must not put them into the future.
        let at = event.get("origin_server_ts").and_then(Value::as_i64).unwrap_or(i64::MAX).min(now());
        let changed = if joins {
            let is_in = persons.iter().any(|person| thread::takes_part_in(&care_team, person, at));
            !is_in && thread::join(&mut care_team, first, at)
        } else {
            let mut changed = false;
            for person in &persons {
                changed |= thread::leave(&mut care_team, person, at);
            }
            changed
        };
        if changed {
            // Who is named by number stays so.
            let before: CareTeam = resource.to()?;
            for (participant, before) in care_team.participant.iter_mut().zip(before.participant) {
                participant.member = before.member;
            }
            let version = resource.version().unwrap_or_default();
            self.fhir.update(Resource::of(&care_team), Condition::VersionIs(version)).await?;
            info!(%team, joins, "a care team follows its space");
        }
        Ok(Vec::new())
    }

    /// A space that its team follows, and the team as it is.
    ///
    /// Somebody may rewrite the team between a coming or going and its being followed, and cannot know of it. So a member
    /// event that was not taken in, or whose work is not done, is news whatever the time says. What is followed by then
    /// is in the team, because that is read last.
    pub(super) async fn followed(
        &self,
        team: &Instance,
        space: &RoomId,
    ) -> Result<Option<(Followed, CareTeam)>, Trouble> {
        let present = self.homeserver.bot().members(space).await?;
        let by_people = |member: &&Member| !self.names.is_ours(member.by.as_str());
        let events = present.iter().filter(by_people).map(|member| member.event_id.to_string()).collect();
        let unknown: HashSet<String> = self.store.unknown_events(events).await?.into_iter().collect();
        let is_unknown = |member: &&Member| unknown.contains(member.event_id.as_str());
        let mut unfollowed: HashSet<OwnedUserId> =
            present.iter().filter(is_unknown).map(|member| member.user_id.clone()).collect();
        for payload in self.store.work_of(Side::Fhir, space.as_str(), "member").await? {
            let event: Value = serde_json::from_str(Trace::unstamp(&payload).1)?;
            let user = event.get("state_key").and_then(Value::as_str);
            unfollowed.extend(user.and_then(|user| OwnedUserId::try_from(user).ok()));
        }
        let Some(resource) = self.resource_of(team).await? else { return Ok(None) };
        let written = resource.last_updated().and_then(|written| written.millis()).unwrap_or_default();
        Ok(Some((Followed { present, written, unfollowed }, resource.to()?)))
    }

    /// The look at a team when the next period of a participant begins or ends.
    pub(super) fn at_next_turn(&self, place: &Instance, team: &CareTeam) -> Result<Option<Change>, Trouble> {
        let Some(at) = thread::next_turn(team, now()) else { return Ok(None) };
        let key = place.to_string();
        let delay = Duration::from_millis(at.saturating_sub(now()).try_into().unwrap_or(0));
        let look = NewWork { delay, ..work(Side::Matrix, format!("turn {key} {at}"), "turn", &key)? };
        Ok(Some(Change::Soon(look)))
    }

    /// A period has begun or ended.
    pub(super) fn take_turn_of_time(&self, payload: &str) -> Done {
        let key: String = serde_json::from_str(payload)?;
        Ok(vec![Change::Soon(work(Side::Matrix, key.as_str(), "members", &key)?)])
    }

    /// Work that asks what has been read in a room: receipts are pushed once, also when nobody listens.
    pub(super) fn receipts_work(&self, room: &str) -> Result<NewWork, Trouble> {
        work(Side::Matrix, format!("receipts {room}"), "receipts", &room)
    }

    /// Takes the newest receipts of a room as if they were pushed now; which ones are known, the store knows.
    pub(super) async fn catch_up_on_receipts(&self, payload: &str) -> Done {
        let room: String = serde_json::from_str(payload)?;
        if self.store.place_of(&room).await?.is_none() {
            return Ok(Vec::new());
        }
        let found = self.homeserver.bot().receipts(&room_id(&room)?).await?;
        let changes: Vec<Change> = found.iter().flat_map(|data| self.take_ephemeral(data)).collect();
        debug!(room, receipts = changes.len(), "receipts were asked for");
        Ok(changes)
    }

    /// Whether a member event is to be followed.
    pub(super) fn follows(&self, outline: &Outline) -> bool {
        self.settings.team_follows_space && outline.kind == "m.room.member" && outline.state_key.is_some()
    }
}
