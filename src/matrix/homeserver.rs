//! The homeserver as the application service calls it: the Client-Server API with the `as_token`.

mod error;
mod ping;
mod settings;
mod transport;

use std::{borrow::Cow, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use ruma::{
    OwnedUserId, ServerName, UserId,
    api::{
        AppserviceUserIdentity, IncomingResponse as _, OutgoingRequest, OutgoingRequestAppserviceExt as _,
        SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        client::{
            account::whoami,
            discovery::{
                get_capabilities::{self, v3::Capabilities},
                get_supported_versions,
            },
        },
        path_builder::PathBuilder,
    },
};

pub use error::{Error, Refused};
pub use ping::Diagnosis;
pub use settings::Settings;
pub use transport::Repeat;

pub(super) use transport::{Transport, content_type};

use super::{Intent, Registration, intent::Memory, path::encode};
use crate::service::failure::Failure;

/// The versions that are taken for granted until the homeserver has said its own: all since Matrix 1.1, with
/// authenticated media (1.11).
const ASSUMED: [&str; 11] = ["v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11"];

/// A homeserver, and this application service's place on it. Cheap to clone.
#[derive(Clone)]
pub struct Homeserver {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    registration: Registration,
    settings: Settings,
    bot: OwnedUserId,
    versions: ArcSwap<SupportedVersions>,
    memory: Memory,
}

/// A request of ruma's client API that an application service can make.
///
/// There is nothing to implement: every such request is one.
pub trait Call:
    OutgoingRequest<
        Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
        PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
    >
{
}

impl<R> Call for R where
    R: OutgoingRequest<
            Authentication: for<'a> AuthScheme<Input<'a> = SendAccessToken<'a>>,
            PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
        >
{
}

// === impl Homeserver ===

impl Homeserver {
    /// Prepares for calls; none is made yet.
    ///
    /// # Errors
    /// When the settings cannot be used: the URL, the certificates, a server name with which the bot has no id.
    pub fn new(settings: Settings, registration: Registration) -> Result<Self, Failure> {
        let transport = Transport::new(&settings, registration.as_token.clone())?;
        let bot = registration.bot(&settings.server_name)?;
        let assumed = SupportedVersions::from_parts(&ASSUMED.map(str::to_owned), &Default::default());
        let versions = ArcSwap::from_pointee(assumed);
        let memory = Memory::default();
        let inner = Arc::new(Inner { transport, registration, settings, bot, versions, memory });
        Ok(Self { inner })
    }

    /// The name of the homeserver: the part of its users' ids after the colon.
    pub fn server_name(&self) -> &ServerName {
        &self.inner.settings.server_name
    }

    /// The base URL of the homeserver.
    pub fn url(&self) -> &str {
        self.inner.transport.base()
    }

    /// How the homeserver knows this application service.
    pub fn registration(&self) -> &Registration {
        &self.inner.registration
    }

    /// What this was made with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The Matrix id of the application service's own user.
    pub fn bot_id(&self) -> &UserId {
        &self.inner.bot
    }

    /// Acts as the application service's own user.
    pub fn bot(&self) -> Intent {
        Intent::new(self.clone(), self.inner.bot.clone())
    }

    /// Whether a user is this service's own: its bot or one of its ghosts.
    pub fn controls(&self, user: &UserId) -> bool {
        self.inner.registration.controls(user, self.server_name())
    }

    /// Acts as a ghost, or the bot.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the user is not in the registration's namespace on this homeserver.
    pub fn intent(&self, user: &UserId) -> Result<Intent, Error> {
        if self.controls(user) {
            Ok(Intent::new(self.clone(), user.to_owned()))
        } else {
            Err(Error::NotOurs(user.to_owned()))
        }
    }

    /// What is remembered of registered users and joined rooms.
    pub(super) fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// Makes one call as a user (`None`: as the application service itself), repeating it as `repeat` allows.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call<R: Call>(
        &self,
        user: Option<&UserId>,
        request: R,
        repeat: Repeat,
    ) -> Result<R::IncomingResponse, Error> {
        let request = self.prepare(user, request)?;
        let path = request.uri().path().to_owned();
        let response = self.inner.transport.exchange(request, repeat).await?;
        let (parts, body) = response.into_parts();
        R::IncomingResponse::try_from_http_response_inner(http::Response::from_parts(parts, &body[..]))
            .map_err(|error| Error::Answer { path, reason: error.to_string() })
    }

    /// The HTTP request of a call.
    pub(super) fn prepare<R: Call>(&self, user: Option<&UserId>, request: R) -> Result<http::Request<Bytes>, Error> {
        let token = SendAccessToken::Appservice(self.inner.registration.as_token.expose());
        let identity = user.map(AppserviceUserIdentity::new).unwrap_or_default();
        let versions = Cow::Owned(SupportedVersions::clone(&self.inner.versions.load()));
        request
            .try_into_http_request_with_identity::<Vec<u8>>(self.url(), token, identity, versions)
            .map(|mut request| {
                // Nothing that prints a request prints the token.
                request.headers_mut().values_mut().for_each(|value| value.set_sensitive(true));
                request.map(Bytes::from)
            })
            .map_err(|error| Error::Request(error.to_string()))
    }

    /// The request of a call that ruma does not know, as a user (`None`: as the application service itself).
    pub(super) fn bare(
        &self,
        method: Method,
        path: &str,
        query: &str,
        user: Option<&UserId>,
    ) -> Result<http::Request<Bytes>, Error> {
        let user = user.map(|user| format!("&user_id={}", encode(user.as_str()))).unwrap_or_default();
        let mut token = HeaderValue::try_from(format!("Bearer {}", self.inner.registration.as_token.expose()))
            .map_err(|error| Error::Request(error.to_string()))?;
        token.set_sensitive(true);
        let request = http::Request::builder().method(method).uri(format!("{}{path}?{query}{user}", self.url()));
        request
            .header(header::AUTHORIZATION, token)
            .body(Bytes::new())
            .map_err(|error| Error::Request(error.to_string()))
    }

    /// Asks the homeserver for the versions of the specification that it supports, and uses them from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn versions(&self) -> Result<Vec<String>, Error> {
        self.versions_with(Repeat::Always).await
    }

    /// The same, asked once: whether the homeserver is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn versions_now(&self) -> Result<Vec<String>, Error> {
        self.versions_with(Repeat::Never).await
    }

    async fn versions_with(&self, repeat: Repeat) -> Result<Vec<String>, Error> {
        let uri = format!("{}/_matrix/client/versions", self.url());
        let request = http::Request::get(uri).body(Bytes::new()).map_err(|error| Error::Request(error.to_string()))?;
        let path = request.uri().path().to_owned();
        let body = self.inner.transport.exchange(request, repeat).await?.into_body();
        let answer = |reason: String| Error::Answer { path: path.clone(), reason };
        let response = get_supported_versions::Response::try_from_http_response_inner(http::Response::new(&body[..]))
            .map_err(|error| answer(error.to_string()))?;
        let versions = response.as_supported_versions();
        if versions.versions.is_empty() {
            return Err(answer("it supports no version of the specification that this program knows".to_owned()));
        }
        self.inner.versions.store(Arc::new(versions));
        Ok(response.versions)
    }

    /// What the homeserver can do: room versions, changes of profiles.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn capabilities(&self) -> Result<Capabilities, Error> {
        let request = get_capabilities::v3::Request::new();
        Ok(self.call(None, request, Repeat::Always).await?.capabilities)
    }

    /// Who the homeserver thinks this application service is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn whoami(&self) -> Result<OwnedUserId, Error> {
        Ok(self.call(None, whoami::v3::Request::new(), Repeat::Always).await?.user_id)
    }
}

#[cfg(test)]
mod tests;
