//! Acting as one user: the bot, or a ghost.
//!
//! An [`Intent`] registers its user when it is first needed and joins rooms when it must; what succeeded is
//! remembered, so that it costs one request in the life of the process.

pub mod content;
mod history;
mod media;
mod membership;
mod memory;
mod messages;
mod profile;
mod receipts;
mod rooms;
mod state;

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    api::{
        client::{
            account::register::{self, LoginType},
            session::login::{
                self,
                v3::{ApplicationService, LoginInfo},
            },
            uiaa::{MatrixUserIdentifier, UserIdentifier},
        },
        error::ErrorKind,
    },
};

pub use history::{Context, Direction, Format, Page};
pub use media::Thumbnail;
pub use membership::{Invitation, Member, Membership};
pub(super) use memory::Memory;
pub use messages::Outgoing;
pub use profile::Profile;

use super::homeserver::{Call, Error, Homeserver, Repeat};
use crate::service::secrets::Secret;

/// One user of the application service, ready to act. Cheap to clone.
#[derive(Clone)]
pub struct Intent {
    homeserver: Homeserver,
    user: OwnedUserId,
}

/// A user who is logged in with a device.
#[derive(Clone, Debug)]
pub struct Session {
    /// The token of the device.
    pub access_token: Secret,
    /// The device.
    pub device_id: OwnedDeviceId,
}

// === impl Intent ===

impl Intent {
    pub(super) fn new(homeserver: Homeserver, user: OwnedUserId) -> Self {
        Self { homeserver, user }
    }

    /// The user's Matrix id.
    pub fn user_id(&self) -> &UserId {
        &self.user
    }

    /// The homeserver that the user is on.
    pub fn homeserver(&self) -> &Homeserver {
        &self.homeserver
    }

    /// Registers the user unless that was done before. Every other call does this by itself.
    ///
    /// No device and no token are made (`m.login.application_service`, `inhibit_login`): the `as_token` is enough.
    ///
    /// # Errors
    /// See [`Error`]; that the user exists is no error.
    pub async fn register(&self) -> Result<(), Error> {
        if self.homeserver.memory().is_registered(&self.user) {
            return Ok(());
        }
        self.register_anew().await.map(drop)
    }

    /// Registers the user whatever is remembered. Returns whether it is new.
    async fn register_anew(&self) -> Result<bool, Error> {
        let mut request = register::v3::Request::new();
        request.username = Some(self.user.localpart().to_owned());
        request.login_type = Some(LoginType::ApplicationService);
        request.inhibit_login = true;
        let new = match self.homeserver.call(None, request, Repeat::Always).await {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), Some(ErrorKind::UserInUse)) => false,
            Err(error) => return Err(error),
        };
        self.homeserver.memory().registered(&self.user);
        Ok(new)
    }

    /// Logs the user in (`m.login.application_service`), for what needs a device: encryption, or a client of its own.
    /// With the id of a device that exists, that device gets a new token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_in(&self, device: Option<&DeviceId>) -> Result<Session, Error> {
        let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(self.user.to_string()));
        let login = LoginInfo::ApplicationService(ApplicationService::new(identifier));
        let mut request = login::v3::Request::new(login);
        request.device_id = device.map(ToOwned::to_owned);
        self.register().await?;
        let repeat = if device.is_some() { Repeat::Always } else { Repeat::IfNotDone };
        let response = self.homeserver.call(None, request, repeat).await?;
        Ok(Session { access_token: Secret::new(response.access_token), device_id: response.device_id })
    }

    /// A call as this user that has the same effect twice as once.
    async fn call<R: Call>(&self, request: R) -> Result<R::IncomingResponse, Error> {
        self.call_with(request, Repeat::Always).await
    }

    /// A call as this user. A homeserver that was set back to an earlier state has lost users that are remembered
    /// here; it says that they are forbidden to do what they ask.
    async fn call_with<R: Call>(&self, request: R, repeat: Repeat) -> Result<R::IncomingResponse, Error> {
        let remembered = self.homeserver.memory().is_registered(&self.user);
        self.register().await?;
        let user = (*self.user != *self.homeserver.bot_id()).then_some(&*self.user);
        match self.homeserver.call(user, request.clone(), repeat).await {
            Err(error) if remembered && error.is_forbidden() => match self.register_anew().await {
                Ok(true) => self.homeserver.call(user, request, repeat).await,
                _ => Err(error),
            },
            done => done,
        }
    }
}
