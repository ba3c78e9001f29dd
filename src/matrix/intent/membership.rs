//! Inviting, joining, leaving, kicking, banning. Each asks for an end: where that holds already, it succeeds.

use http::Method;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, OwnedUserId, RoomId, RoomOrAliasId, UserId,
    api::client::membership::{
        ban_user, get_member_events, join_room_by_id_or_alias, joined_rooms, kick_user, leave_room, unban_user,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{Error, Homeserver, Intent, Repeat};
use crate::matrix::Event;

/// What a user is to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Invited, and has not answered.
    Invite,
    /// In the room.
    Join,
    /// Has asked to be let in.
    Knock,
    /// Has left, was kicked, or was never there.
    Leave,
    /// Banned.
    Ban,
}

/// A user and a room's `m.room.member` for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user_id: OwnedUserId,
    /// What they are to the room.
    pub membership: Membership,
    /// Their display name in the room.
    pub display_name: Option<String>,
    /// Who made them that: themselves, who invited them, or who sent them away.
    pub by: OwnedUserId,
    /// When, in milliseconds since 1970.
    pub since: i64,
    /// The event that says so.
    pub event_id: OwnedEventId,
}

/// What an invitation carries.
#[derive(Clone, Debug, Default)]
pub struct Invitation {
    /// Shown to the user by some clients.
    pub reason: Option<String>,
    /// Further fields of the `m.room.member` event, for example `nl-ta-chat.invite.context`.
    ///
    /// Synapse takes them when the event is set as state (`PUT …/state/m.room.member/{user}`); `POST …/invite` knows
    /// only `reason`. They reach the invited user in the invite's stripped state and become part of the room's
    /// history, where every member can read them.
    pub fields: Map<String, Value>,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: Membership,
    displayname: Option<String>,
}

/// What is read of the answer to `/initialSync`.
#[derive(Deserialize)]
struct Rooms {
    #[serde(default)]
    rooms: Vec<Room>,
}

#[derive(Deserialize)]
struct Room {
    invite: Option<Box<RawValue>>,
}

// === impl Homeserver ===

impl Homeserver {
    /// Takes note of an `m.room.member` event, so that what is remembered of joined rooms stays right.
    pub fn note_member(&self, event: &Event) {
        let Ok(outline) = event.outline() else { return };
        if outline.kind != "m.room.member" {
            return;
        }
        let Some(user) = outline.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok()) else { return };
        match event.content::<MemberContent>() {
            Ok(content) if content.membership == Membership::Join => {
                if self.controls(user) {
                    self.memory().joined(&outline.room_id, user);
                }
            }
            _ => self.memory().left(&outline.room_id, user),
        }
    }
}

// === impl Intent ===

impl Intent {
    /// Invites a user. Who is invited or in the room already stays so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn invite(&self, room: &RoomId, user: &UserId, invitation: &Invitation) -> Result<(), Error> {
        let mut content = invitation.fields.clone();
        content.insert("membership".to_owned(), "invite".into());
        if let Some(reason) = &invitation.reason {
            content.insert("reason".to_owned(), reason.as_str().into());
        }
        let done = self.set_member(room, user, &Value::Object(content)).await;
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.unless(room, user, &[Membership::Invite, Membership::Join], error).await,
        }
    }

    /// Joins a room, and by that accepts an invitation. Returns the room, whose alias may have been given.
    ///
    /// `via` are homeservers that are in the room; needed for a join that is not by invitation when the room is on
    /// another homeserver (room ids of version 12 do not say where).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join(&self, room: &RoomOrAliasId, via: &[OwnedServerName]) -> Result<OwnedRoomId, Error> {
        let mut request = join_room_by_id_or_alias::v3::Request::new(OwnedRoomOrAliasId::from(room));
        request.via = via.to_vec();
        let room_id = self.call(request).await?.room_id;
        self.homeserver.memory().joined(&room_id, &self.user);
        Ok(room_id)
    }

    /// Sees to it that the user is in a room: joins, and if it may not, has the bot invite it and joins again.
    ///
    /// # Errors
    /// See [`Error`]: `is_forbidden` when it is banned, or the bot may not invite.
    pub async fn ensure_joined(&self, room: &RoomId, via: &[OwnedServerName]) -> Result<(), Error> {
        if self.homeserver.memory().is_joined(room, &self.user) {
            return Ok(());
        }
        let refused = match self.join(room.into(), via).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !refused.is_forbidden() || *self.user == *self.homeserver.bot_id() {
            return Err(refused);
        }
        self.homeserver.bot().invite(room, &self.user, &Invitation::default()).await?;
        self.join(room.into(), via).await.map(drop)
    }

    /// Leaves a room, or declines an invitation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn leave(&self, room: &RoomId, reason: Option<&str>) -> Result<(), Error> {
        let mut request = leave_room::v3::Request::new(room.to_owned());
        request.reason = reason.map(str::to_owned);
        self.homeserver.memory().left(room, &self.user);
        let done = self.call(request).await.map(drop);
        self.settle(done, room, &self.user, &[Membership::Leave, Membership::Ban]).await
    }

    /// Removes a user from a room, or withdraws an invitation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn kick(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<(), Error> {
        let mut request = kick_user::v3::Request::new(room.to_owned(), user.to_owned());
        request.reason = reason.map(str::to_owned);
        self.homeserver.memory().left(room, user);
        let done = self.call(request).await.map(drop);
        self.settle(done, room, user, &[Membership::Leave, Membership::Ban]).await
    }

    /// Removes a user from a room for good.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ban(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<(), Error> {
        let mut request = ban_user::v3::Request::new(room.to_owned(), user.to_owned());
        request.reason = reason.map(str::to_owned);
        self.homeserver.memory().left(room, user);
        let done = self.call(request).await.map(drop);
        self.settle(done, room, user, &[Membership::Ban]).await
    }

    /// Lets a banned user come back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unban(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<(), Error> {
        let mut request = unban_user::v3::Request::new(room.to_owned(), user.to_owned());
        request.reason = reason.map(str::to_owned);
        let done = self.call(request).await.map(drop);
        self.settle(done, room, user, &[Membership::Leave, Membership::Invite, Membership::Join]).await
    }

    /// What a user is to a room; [`Membership::Leave`] for one who was never there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Result<Membership, Error> {
        let content = self.state_as::<MemberContent>(room, "m.room.member", user.as_str()).await?;
        Ok(content.map_or(Membership::Leave, |content| content.membership))
    }

    /// All members of a room, also former ones. Member events that cannot be understood are left out.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn members(&self, room: &RoomId) -> Result<Vec<Member>, Error> {
        let events = self.call(get_member_events::v3::Request::new(room.to_owned())).await?.chunk;
        Ok(events.into_iter().filter_map(|event| member(&Event::new(event.into_json()))).collect())
    }

    /// The rooms that the user is in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn joined_rooms(&self) -> Result<Vec<OwnedRoomId>, Error> {
        Ok(self.call(joined_rooms::v3::Request::new()).await?.joined_rooms)
    }

    /// The invitations that the user has not answered, as the homeserver would have pushed them.
    ///
    /// Synapse answers `/sync` for a service's own user with 500. The older `GET /initialSync`, which the specification
    /// keeps as deprecated, has them, with the state of every room that the user is in: it is dear where these are many.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::TooLarge`] when the user is in too many rooms.
    pub async fn invitations(&self) -> Result<Vec<Event>, Error> {
        self.register().await?;
        let user = (*self.user != *self.homeserver.bot_id()).then_some(&*self.user);
        let path = "/_matrix/client/v3/initialSync";
        let request = self.homeserver.bare(Method::GET, path, "limit=1", user)?;
        let body = self.homeserver.transport().exchange(request, Repeat::IfNotDone).await?.into_body();
        let all: Rooms = serde_json::from_slice(&body).map_err(|error| Error::Answer {
            path: path.to_owned(),
            reason: format!("not a list of rooms (line {})", error.line()),
        })?;
        Ok(all.rooms.into_iter().filter_map(|room| room.invite).map(Event::new).collect())
    }

    async fn settle(
        &self,
        done: Result<(), Error>,
        room: &RoomId,
        user: &UserId,
        wanted: &[Membership],
    ) -> Result<(), Error> {
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.unless(room, user, wanted, error).await,
        }
    }

    /// A refusal is no failure where the end that was asked for holds already, perhaps by an earlier attempt.
    async fn unless(&self, room: &RoomId, user: &UserId, wanted: &[Membership], error: Error) -> Result<(), Error> {
        if error.refused().is_none() || error.is_temporary() {
            return Err(error);
        }
        match self.membership(room, user).await {
            Ok(membership) if wanted.contains(&membership) => Ok(()),
            _ => Err(error),
        }
    }
}

fn member(event: &Event) -> Option<Member> {
    let outline = event.outline().ok()?;
    let user_id = OwnedUserId::try_from(outline.state_key.clone()?).ok()?;
    let content: MemberContent = event.content().ok()?;
    Some(Member {
        user_id,
        membership: content.membership,
        display_name: content.displayname,
        by: outline.sender.clone(),
        since: i64::from(outline.origin_server_ts.get()),
        event_id: outline.event_id.clone(),
    })
}
