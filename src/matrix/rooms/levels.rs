//! Power levels (Matrix specification, `m.room.power_levels`).

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::creators_are_privileged;

/// The level of a creator in room versions before 12: above the 100 that people may have. Who stands as high as the
/// creator could never be put lower again.
const CREATOR: i64 = 101;

/// The content of `m.room.power_levels`. Missing fields have the specification's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Levels {
    /// Needed to ban.
    pub ban: i64,
    /// Needed to send events, by type.
    pub events: BTreeMap<String, i64>,
    /// Needed to send any other message.
    pub events_default: i64,
    /// Needed to invite.
    pub invite: i64,
    /// Needed to kick.
    pub kick: i64,
    /// Needed to redact what others sent.
    pub redact: i64,
    /// Needed to send any other state.
    pub state_default: i64,
    /// What users have.
    pub users: BTreeMap<OwnedUserId, i64>,
    /// What all other users have.
    pub users_default: i64,
    /// Needed to notify, by kind (`room`).
    pub notifications: BTreeMap<String, i64>,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            ban: 50,
            events: BTreeMap::new(),
            events_default: 0,
            invite: 0,
            kick: 50,
            redact: 50,
            state_default: 50,
            users: BTreeMap::new(),
            users_default: 0,
            notifications: BTreeMap::from([("room".to_owned(), 50)]),
        }
    }
}

/// How high a user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A number.
    Number(i64),
    /// A creator in room version 12 and later: above every number.
    Creator,
}

/// What a user may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send a message-like event of a type.
    Send(&'a str),
    /// Send a state event of a type.
    SetState(&'a str),
    /// Invite.
    Invite,
    /// Kick (also: withdraw an invitation).
    Kick,
    /// Ban.
    Ban,
    /// Redact what others sent.
    Redact,
}

/// Who may do what in a room: its power levels, and the creators that stand above them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The power levels as they are in the room.
    pub levels: Levels,
    /// The creators, in room version 12 and later; empty before.
    pub creators: BTreeSet<OwnedUserId>,
}

// === impl Levels ===

impl Levels {
    /// The same with a level for a user.
    #[must_use]
    pub fn with_user(mut self, user: OwnedUserId, level: i64) -> Self {
        self.users.insert(user, level);
        self
    }

    /// The same with a level for sending events of a type.
    #[must_use]
    pub fn with_event(mut self, kind: impl Into<String>, level: i64) -> Self {
        self.events.insert(kind.into(), level);
        self
    }

    /// The same without users who stand above it.
    pub(super) fn without<'a>(&self, creators: impl Iterator<Item = &'a UserId>) -> Self {
        let mut levels = self.clone();
        for creator in creators {
            levels.users.remove(creator);
        }
        levels
    }

    /// The same with creators above everybody else, as they are in version 12 by themselves.
    pub(super) fn with_creators<'a>(&self, creators: impl Iterator<Item = &'a UserId>) -> Self {
        let mut levels = self.clone();
        let needed = [self.state_default, self.ban, self.kick, self.redact, self.invite];
        let needed = needed.into_iter().chain(self.events.values().copied());
        let above = self.users.values().map(|level| level.saturating_add(1)).chain(needed).fold(CREATOR, i64::max);
        for creator in creators {
            levels.users.insert(creator.to_owned(), above);
        }
        levels
    }

    /// What a user has, apart from being a creator.
    pub fn of(&self, user: &UserId) -> i64 {
        self.users.get(user).copied().unwrap_or(self.users_default)
    }

    /// What an action needs.
    pub fn needed(&self, action: Action<'_>) -> i64 {
        match action {
            Action::Send(kind) => self.events.get(kind).copied().unwrap_or(self.events_default),
            Action::SetState(kind) => self.events.get(kind).copied().unwrap_or(self.state_default),
            Action::Invite => self.invite,
            Action::Kick => self.kick,
            Action::Ban => self.ban,
            Action::Redact => self.redact,
        }
    }
}

// === impl Authority ===

impl Authority {
    /// From the room's version, the creators that `m.room.create` names, and the power levels.
    pub(in crate::matrix) fn new(
        version: &ruma::RoomVersionId,
        creators: impl IntoIterator<Item = OwnedUserId>,
        levels: Levels,
    ) -> Self {
        let creators = if creators_are_privileged(version) { creators.into_iter().collect() } else { BTreeSet::new() };
        Self { levels, creators }
    }

    /// How high a user stands.
    pub fn of(&self, user: &UserId) -> Level {
        if self.creators.contains(user) { Level::Creator } else { Level::Number(self.levels.of(user)) }
    }

    /// Whether a user stands high enough for an action. Whether they are in the room is not asked.
    pub fn may(&self, user: &UserId, action: Action<'_>) -> bool {
        self.of(user) >= Level::Number(self.levels.needed(action))
    }
}
