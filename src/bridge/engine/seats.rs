//! Who is in a place, with which power: brought to what FHIR says, and left alone where it is so already.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, RoomId};
use serde_json::{Map, Value};

use super::{Engine, Trouble, attendance::Followed, reach};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            person::{self, Profile},
            power,
            thread::{self, Member},
        },
    },
    fhir::resources::{Patient, Reference},
    matrix::{
        self,
        intent::{Invitation, Membership},
        rooms::{Authority, Levels},
    },
};

/// What somebody is told who is sent out of a room because FHIR names them no longer.
const NO_LONGER: &str = "Deelname beëindigd in het dossier. / No longer a participant on record.";

/// Who is to be in a place.
pub(super) type Roster = BTreeMap<OwnedUserId, Seat>;

/// A member as the place should have them.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    person: Instance,
    level: i64,
    is_ghost: bool,
    profile: Profile,
    role_code: Option<String>,
}

// === impl Seat ===

impl Seat {
    /// Whether it is the bridge's own user who sits there.
    pub(super) fn is_ghost(&self) -> bool {
        self.is_ghost
    }
}

// === impl Engine ===

impl Engine {
    /// The users of members, with what is known of them.
    pub(super) async fn roster(&self, members: Vec<Member>) -> Result<Roster, Trouble> {
        let mut roster = Roster::new();
        for member in members {
            let person = self.survivor(&member.person).await?;
            let somebody = self.somebody(&person).await?;
            if !somebody.is_ghost {
                self.recognise(&person, &somebody.user_id).await?;
            }
            let seat = Seat {
                person,
                level: member.level,
                is_ghost: somebody.is_ghost,
                profile: somebody.profile,
                role_code: member.role_code,
            };
            let known = roster.entry(somebody.user_id).or_insert(seat);
            known.level = known.level.max(member.level);
        }
        Ok(roster)
    }

    /// Takes note of whose a user is, before they say anything. Other places that they are in may have been seen to
    /// before that was known, and nothing else would tell them.
    async fn recognise(&self, person: &Instance, user: &OwnedUserId) -> Result<(), Trouble> {
        let reference = person.to_string();
        if self.store.user_of(&reference).await?.as_deref() == Some(user.as_str()) {
            return Ok(());
        }
        let changes = self.takes_part_as(reference, Some(user.to_string())).await?;
        Ok(self.commit(changes).await?)
    }

    /// Brings levels and members of a room to what they should be. What is so already is left alone. Says whether
    /// somebody is still to be invited (see [`super::reach`]).
    pub(super) async fn seat(
        &self,
        room: &RoomId,
        roster: &Roster,
        levels: impl Fn(BTreeMap<OwnedUserId, i64>) -> Levels,
        context: Option<Value>,
        followed: Option<&Followed>,
    ) -> Result<bool, Trouble> {
        let bot = self.homeserver.bot();
        let mut is_somebody_missing = false;
        let authority = bot.authority(room).await?;
        self.set_levels(room, &authority, roster, levels).await?;
        let present = match followed {
            Some(followed) => followed.present.clone(),
            None => bot.members(room).await?,
        };
        let is_news = |member| followed.is_some_and(|followed| followed.is_news(member, &self.names));
        for (user, seat) in roster {
            let member = present.iter().find(|member| member.user_id == *user);
            if member.is_some_and(is_news) {
                continue;
            }
            match member.map(|member| member.membership) {
                // Whoever banned them had a reason.
                Some(Membership::Ban) => continue,
                Some(Membership::Join | Membership::Invite) => self.sit_down(room, user, seat).await?,
                // Their homeserver must take part in it, and may be away.
                _ if user.server_name() != self.homeserver.server_name() => is_somebody_missing = true,
                _ => match bot.invite(room, user, &self.invitation(user, context.as_ref())).await {
                    Ok(()) => self.sit_down(room, user, seat).await?,
                    Err(error) if !seat.is_ghost && reach::is_refusal(&error) => is_somebody_missing = true,
                    Err(error) => return Err(error.into()),
                },
            }
        }
        for member in &present {
            let here = matches!(member.membership, Membership::Join | Membership::Invite);
            if !here || roster.contains_key(&member.user_id) || member.user_id == *self.homeserver.bot_id() {
                continue;
            }
            if is_news(member) {
                continue;
            }
            let persons = self.persons_of(member.user_id.as_str()).await?;
            let has_no_part = if persons.is_empty() {
                // Somebody whom a person invited in Matrix and FHIR does not know is theirs to answer for.
                self.is_former(&member.user_id).await?
            } else {
                !roster.values().any(|seat| persons.contains(&seat.person))
            };
            if has_no_part {
                bot.kick(room, &member.user_id, Some(NO_LONGER)).await?;
            }
        }
        Ok(is_somebody_missing)
    }

    async fn set_levels(
        &self,
        room: &RoomId,
        authority: &Authority,
        roster: &Roster,
        levels: impl Fn(BTreeMap<OwnedUserId, i64>) -> Levels,
    ) -> Result<(), matrix::Error> {
        let mut users: BTreeMap<OwnedUserId, i64> =
            roster.iter().map(|(user, seat)| (user.clone(), seat.level)).collect();
        if authority.creators.is_empty() {
            // Before room version 12 the bridge's own level is one among others. It keeps the one above all others that
            // it made the room with: who stands as high as it could never be put lower, nor sent out.
            let bot = self.homeserver.bot_id();
            users.insert(bot.to_owned(), authority.levels.of(bot).max(power::LEAD));
        }
        users.retain(|user, _| !authority.creators.contains(user));
        let wanted = levels(users);
        if wanted == authority.levels {
            return Ok(());
        }
        self.homeserver.bot().set_levels(room, &wanted).await.map(drop)
    }

    /// A ghost accepts at once, and says who it is.
    async fn sit_down(&self, room: &RoomId, user: &OwnedUserId, seat: &Seat) -> Result<(), Trouble> {
        if !seat.is_ghost {
            return Ok(());
        }
        let ghost = self.ghost(&seat.person, user.clone(), &seat.profile).await?;
        ghost.ensure_joined(room, &[]).await?;
        let mapping = person::user_mapping(&seat.person.to_string(), &seat.profile, seat.role_code.as_deref());
        if ghost.state(room, person::USER_MAPPINGS, user.as_str()).await?.as_ref() != Some(&mapping) {
            ghost.set_state(room, person::USER_MAPPINGS, user.as_str(), &mapping).await?;
        }
        Ok(())
    }

    /// An invitation; to a user of another organisation it says whom it is about, by pseudonym.
    pub(super) fn invitation(&self, user: &OwnedUserId, context: Option<&Value>) -> Invitation {
        let elsewhere = user.server_name() != self.homeserver.server_name();
        let fields = context.filter(|_| elsewhere).map(|context| (person::INVITE_CONTEXT.to_owned(), context.clone()));
        Invitation { reason: None, fields: Map::from_iter(fields) }
    }

    pub(super) async fn invite_context(&self, subject: Option<&Reference>) -> Result<Option<Value>, Trouble> {
        let Some(subject) = subject.and_then(thread::instance).filter(|who| who.kind() == Kind::Patient) else {
            return Ok(None);
        };
        let subject = self.survivor(&subject).await?;
        let Some(resource) = self.resource_of(&subject).await? else { return Ok(None) };
        Ok(person::invite_context(&resource.to::<Patient>()?))
    }
}
