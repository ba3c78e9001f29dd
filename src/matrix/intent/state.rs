//! The state of rooms: single events, all of it, power levels.

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::client::state::{
        get_state_event_for_key::{self, v3::StateEventFormat},
        get_state_events, send_state_event,
    },
    events::StateEventType,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{Error, Intent, Repeat};
use crate::matrix::{
    Event, canonical,
    rooms::{Authority, Levels, raw},
};

// === impl Intent ===

impl Intent {
    /// Sets a state event now. Setting the content that is there gives the event that is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> Result<OwnedEventId, Error> {
        self.set_state_at(room, kind, key, content, None).await
    }

    /// Sets a state event with a time in the past (`?ts=`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_state_at(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Value,
        at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<OwnedEventId, Error> {
        let mut request = state_request(room, kind, key, content)?;
        request.timestamp = at;
        Ok(self.call_inside(room, request, Repeat::Always).await?.event_id)
    }

    /// Sets a member event without joining first: it is what joining needs.
    pub(super) async fn set_member(&self, room: &RoomId, user: &UserId, content: &Value) -> Result<(), Error> {
        self.call(state_request(room, "m.room.member", user.as_str(), content)?).await.map(drop)
    }

    /// The content of a state event; `None` if there is none.
    ///
    /// # Errors
    /// See [`Error`]; forbidden for who is not in the room.
    pub async fn state(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Value>, Error> {
        self.state_as(room, kind, key).await
    }

    /// The content of a state event as a type of the caller's choice; `None` if there is none.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Answer`] when the content does not fit the type.
    pub async fn state_as<T: DeserializeOwned>(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let Some(content) = self.state_in(StateEventFormat::Content, room, kind, key).await? else { return Ok(None) };
        serde_json::from_str(content.get())
            .map(Some)
            .map_err(|error| Error::Answer { path: format!("{kind} of {room}"), reason: error.to_string() })
    }

    /// A whole state event: who set it, and when; `None` if there is none.
    ///
    /// # Errors
    /// As [`Intent::state`].
    pub async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Event>, Error> {
        Ok(self.state_in(StateEventFormat::Event, room, kind, key).await?.map(Event::new))
    }

    async fn state_in(
        &self,
        format: StateEventFormat,
        room: &RoomId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Box<RawValue>>, Error> {
        let (room, kind, key) = (room.to_owned(), StateEventType::from(kind), key.to_owned());
        let mut request = get_state_event_for_key::v3::Request::new(room, kind, key);
        request.format = format;
        match self.call(request).await {
            Ok(response) => Ok(Some(response.event_or_content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All state events of a room.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn all_state(&self, room: &RoomId) -> Result<Vec<Event>, Error> {
        let events = self.call(get_state_events::v3::Request::new(room.to_owned())).await?.room_state;
        Ok(events.into_iter().map(|event| Event::new(event.into_json())).collect())
    }

    /// Who may do what in a room.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn authority(&self, room: &RoomId) -> Result<Authority, Error> {
        let missing = || Error::Answer { path: room.to_string(), reason: "the room has no m.room.create".to_owned() };
        // The whole event is needed: since version 11 only its sender says who the creator is.
        let creation = self.state_event(room, "m.room.create", "").await?.ok_or_else(missing)?;
        let (version, creators) = created(&creation).ok_or_else(missing)?;
        // A room without power levels has other defaults: only creators may change state.
        let levels = self.state_as(room, "m.room.power_levels", "").await?.unwrap_or_default();
        Ok(Authority::new(&version, creators, levels))
    }

    /// Sets the power levels of a room; creators of room version 12 are left out, as they must be.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_levels(&self, room: &RoomId, levels: &Levels) -> Result<OwnedEventId, Error> {
        let mut levels = levels.clone();
        for creator in self.authority(room).await?.creators {
            levels.users.remove(&creator);
        }
        let content = serde_json::to_value(levels).map_err(|error| Error::Request(error.to_string()))?;
        self.set_state(room, "m.room.power_levels", "", &content).await
    }

    /// Gives users their levels and leaves everything else as it is; nothing is sent if it is so already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_user_levels(
        &self,
        room: &RoomId,
        users: impl IntoIterator<Item = (OwnedUserId, i64)>,
    ) -> Result<(), Error> {
        let authority = self.authority(room).await?;
        let mut levels = authority.levels.clone();
        levels.users.extend(users.into_iter().filter(|(user, _)| !authority.creators.contains(user)));
        if levels == authority.levels {
            return Ok(());
        }
        self.set_levels(room, &levels).await.map(drop)
    }

    /// Whether a user may do something in a room, by their level.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn may(
        &self,
        room: &RoomId,
        user: &UserId,
        action: crate::matrix::rooms::Action<'_>,
    ) -> Result<bool, Error> {
        Ok(self.authority(room).await?.may(user, action))
    }
}

fn state_request(
    room: &RoomId,
    kind: &str,
    key: &str,
    content: &Value,
) -> Result<send_state_event::v3::Request, Error> {
    let (room, kind, key) = (room.to_owned(), StateEventType::from(kind), key.to_owned());
    Ok(send_state_event::v3::Request::new_raw(room, kind, key, raw(&canonical::content(content)?)?.cast_unchecked()))
}

/// Room version and creators from the `m.room.create` event.
fn created(event: &Event) -> Option<(RoomVersionId, Vec<OwnedUserId>)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default = "first_version")]
        room_version: RoomVersionId,
        #[serde(default)]
        additional_creators: Vec<OwnedUserId>,
    }
    fn first_version() -> RoomVersionId {
        RoomVersionId::V1
    }
    let content: Content = event.content().ok()?;
    let mut creators = content.additional_creators;
    creators.push(event.outline().ok()?.sender.clone());
    Some((content.room_version, creators))
}
