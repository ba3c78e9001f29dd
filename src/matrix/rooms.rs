//! What a room or a space is made of, in room versions 10 to 12.
//!
//! Room version 12 puts the creators above all power levels: they must not be in `users`, and nobody can take their
//! power away. [`Plan`] and [`Authority`] hide the difference.

mod levels;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    api::client::room::{
        Visibility,
        create_room::{
            RoomPowerLevelsContentOverride,
            v3::{CreationContent, Request, RoomPreset},
        },
    },
    events::AnyInitialStateEvent,
    room::RoomType,
    serde::Raw,
};
use serde_json::{Value, json, value::to_raw_value};

pub use levels::{Action, Authority, Level, Levels};

use super::{Error, canonical};

/// What is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A room for messages.
    #[default]
    Room,
    /// A space: a room that holds rooms.
    Space,
}

/// A state event that a room begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialState {
    /// Its type.
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: Value,
}

// === impl InitialState ===

impl InitialState {
    /// A state event with an empty state key.
    pub fn new(kind: impl Into<String>, content: Value) -> Self {
        Self { kind: kind.into(), state_key: String::new(), content }
    }

    /// The same with a state key.
    #[must_use]
    pub fn with_key(self, state_key: impl Into<String>) -> Self {
        Self { state_key: state_key.into(), ..self }
    }
}

/// A room that is to be made: invite-only, history shared with those who join, no guests, federated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Room or space.
    pub kind: Kind,
    /// The room version. `None`: the homeserver's default (12 on Synapse 1.163.2).
    pub version: Option<RoomVersionId>,
    /// The name that people see.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// The localpart of its alias on the creator's homeserver. With it, making a room twice gives the same room.
    pub alias: Option<String>,
    /// Who is invited at once.
    pub invite: Vec<OwnedUserId>,
    /// Who stands above all levels besides the creator (room version 12); in older versions they get the
    /// creator's level, 101 or more.
    pub additional_creators: Vec<OwnedUserId>,
    /// The power levels. The creator need not be in it.
    pub levels: Levels,
    /// Further state that the room begins with. It wins over what the plan says of itself.
    pub initial_state: Vec<InitialState>,
    /// Whether users of other homeservers may join. It cannot be changed later.
    pub federate: bool,
    /// Whether it is listed in the homeserver's directory of public rooms.
    pub listed: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kind: Kind::Room,
            version: None,
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            additional_creators: Vec::new(),
            levels: Levels::default(),
            initial_state: Vec::new(),
            federate: true,
            listed: false,
        }
    }
}

/// A room that was made, or was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Whether its alias was taken already: an earlier attempt made it, perhaps not to its end. Check its state.
    pub existed: bool,
}

/// Whether the creators of a room version stand above all power levels (since version 12).
///
/// A version that is not known is taken for a new one.
pub fn creators_are_privileged(version: &RoomVersionId) -> bool {
    version.rules().is_none_or(|rules| rules.authorization.explicitly_privilege_room_creators)
}

// === impl Plan ===

impl Plan {
    /// The request by which `creator` makes the room in `version`.
    pub(super) fn request(&self, creator: &UserId, version: &RoomVersionId) -> Result<Request, Error> {
        let privileged = creators_are_privileged(version);
        let mut creation = CreationContent::new();
        creation.federate = self.federate;
        creation.room_type = (self.kind == Kind::Space).then_some(RoomType::Space);
        if privileged {
            creation.additional_creators = self.additional_creators.clone();
        }
        let levels = if privileged {
            self.levels.without(self.additional_creators.iter().map(|user| &**user).chain([creator]))
        } else {
            self.levels.with_creators(self.additional_creators.iter().map(|user| &**user).chain([creator]))
        };
        let mut request = Request::new();
        request.room_version = Some(version.clone());
        request.creation_content = Some(raw(&creation)?);
        request.power_level_content_override = Some(raw(&levels)?.cast_unchecked::<RoomPowerLevelsContentOverride>());
        request.initial_state = self.state()?;
        request.invite = self.invite.clone();
        request.name = self.name.clone();
        request.topic = self.topic.clone();
        request.preset = Some(RoomPreset::PrivateChat);
        request.room_alias_name = self.alias.clone();
        request.visibility = if self.listed { Visibility::Public } else { Visibility::Private };
        Ok(request)
    }

    /// The plan's own state, each replaced where the caller gave the same.
    fn state(&self) -> Result<Vec<Raw<AnyInitialStateEvent>>, Error> {
        let own = [
            InitialState::new("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            InitialState::new("m.room.guest_access", json!({ "guest_access": "forbidden" })),
            InitialState::new("m.room.join_rules", json!({ "join_rule": "invite" })),
        ];
        let same =
            |one: &InitialState, other: &InitialState| (&one.kind, &one.state_key) == (&other.kind, &other.state_key);
        let own = own.iter().filter(|state| !self.initial_state.iter().any(|given| same(given, state)));
        own.chain(&self.initial_state)
            .map(|state| {
                let event = json!({ "type": state.kind, "state_key": state.state_key, "content": canonical::content(&state.content)? });
                Ok(raw(&event)?.cast_unchecked())
            })
            .collect()
    }
}

/// A value as JSON that ruma passes on as it is.
pub(super) fn raw<T: serde::Serialize>(value: &T) -> Result<Raw<T>, Error> {
    to_raw_value(value).map(Raw::from_json).map_err(|error| Error::Request(error.to_string()))
}

#[cfg(test)]
mod tests;
