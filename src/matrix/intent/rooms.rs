//! Making rooms and spaces, and their aliases.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId,
    api::client::alias::{create_alias, delete_alias, get_alias},
};

use super::{Error, Intent};
use crate::matrix::{
    homeserver::Repeat,
    rooms::{Made, Plan},
};

// === impl Intent ===

impl Intent {
    /// Makes a room or a space.
    ///
    /// With an alias in the plan this can be repeated: where the alias is taken, the room that has it is returned.
    /// Without one, it is repeated only where the homeserver certainly did nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_room(&self, plan: &Plan) -> Result<Made, Error> {
        let version = match &plan.version {
            Some(version) => version.clone(),
            None => self.default_room_version().await?,
        };
        let request = plan.request(&self.user, &version)?;
        let repeat = if plan.alias.is_some() { Repeat::Always } else { Repeat::IfNotDone };
        let refused = match self.call_with(request, repeat).await {
            Ok(response) => {
                self.homeserver.memory().joined(&response.room_id, &self.user);
                return Ok(Made { room_id: response.room_id, existed: false });
            }
            Err(error) => error,
        };
        let Some(localpart) = plan.alias.as_deref().filter(|_| refused.is_alias_taken()) else { return Err(refused) };
        let alias = format!("#{localpart}:{}", self.homeserver.server_name());
        let alias = RoomAliasId::parse(&alias).map_err(|error| Error::Request(format!("{alias}: {error}")))?;
        match self.resolve_alias(&alias).await? {
            Some((room_id, _)) => Ok(Made { room_id, existed: true }),
            None => Err(refused),
        }
    }

    /// The room version that the homeserver makes rooms in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn default_room_version(&self) -> Result<RoomVersionId, Error> {
        Ok(self.homeserver.capabilities().await?.room_versions.default)
    }

    /// Gives a room an alias on the user's homeserver. That it has this alias already is no error.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::is_alias_taken`] when another room has it.
    pub async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<(), Error> {
        let request = create_alias::v3::Request::new(alias.to_owned(), room.to_owned());
        match self.call(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_alias_taken() => match self.resolve_alias(alias).await? {
                Some((current, _)) if current == room => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The room behind an alias and homeservers that are in it; `None` if there is no such alias.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>, Error> {
        match self.call(get_alias::v3::Request::new(alias.to_owned())).await {
            Ok(response) => Ok(Some((response.room_id, response.servers))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes an alias away. That there is none is no error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<(), Error> {
        match self.call(delete_alias::v3::Request::new(alias.to_owned())).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
