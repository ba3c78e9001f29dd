//! Display names and avatars.

use ruma::{
    OwnedMxcUri, UserId,
    api::client::profile::{get_profile, set_profile_field},
    profile::ProfileFieldValue,
};
use serde::Deserialize;

use super::{Error, Intent};

/// How a user shows themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// The name that people see.
    #[serde(rename = "displayname")]
    pub display_name: Option<String>,
    /// The picture.
    pub avatar_url: Option<OwnedMxcUri>,
}

// === impl Intent ===

impl Intent {
    /// Sets the user's display name everywhere; nothing is sent if it is so already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_display_name(&self, name: &str) -> Result<(), Error> {
        let current = self.profile(&self.user).await?.and_then(|profile| profile.display_name);
        if current.as_deref() == Some(name) {
            return Ok(());
        }
        self.set_profile(ProfileFieldValue::DisplayName(name.to_owned())).await
    }

    /// Sets the user's avatar everywhere; nothing is sent if it is so already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_avatar(&self, uri: OwnedMxcUri) -> Result<(), Error> {
        let current = self.profile(&self.user).await?.and_then(|profile| profile.avatar_url);
        if current.as_ref() == Some(&uri) {
            return Ok(());
        }
        self.set_profile(ProfileFieldValue::AvatarUrl(uri)).await
    }

    /// How a user shows themselves; `None` if there is no such user, or their homeserver does not tell.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn profile(&self, user: &UserId) -> Result<Option<Profile>, Error> {
        let response = match self.call(get_profile::v3::Request::new(user.to_owned())).await {
            Ok(response) => response,
            Err(error) if error.is_not_found() || error.is_forbidden() => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = |field: &str| response.get(field).and_then(|value| value.as_str()).map(str::to_owned);
        Ok(Some(Profile { display_name: text("displayname"), avatar_url: text("avatar_url").map(OwnedMxcUri::from) }))
    }

    async fn set_profile(&self, value: ProfileFieldValue) -> Result<(), Error> {
        self.call(set_profile_field::v3::Request::new(self.user.clone(), value)).await.map(drop)
    }
}
