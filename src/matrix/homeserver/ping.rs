//! Does the homeserver know this application service and reach it? Asked at start, answered in words.
//!
//! `POST /_matrix/client/v1/appservice/{id}/ping` (Matrix 1.7) makes the homeserver call the application service
//! back. A ping that succeeds also makes Synapse deliver at once what waits.

use std::{fmt, time::Duration};

use http::StatusCode;
use ruma::{
    OwnedServerName, OwnedTransactionId, OwnedUserId,
    api::{client::appservice::request_ping, error::ErrorKind},
};

use super::{Error, Homeserver, Refused, Repeat};
use crate::service::failure::Failure;

/// What the ping found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// Both directions work; the homeserver needed so long to reach the application service.
    Fine(Duration),
    /// Nothing answers at the homeserver's URL (yet).
    HomeserverDown(String),
    /// Something answers at the homeserver's URL that is no homeserver.
    NotAHomeserver(String),
    /// The homeserver does not know the `as_token`.
    NotRegistered,
    /// The `as_token` belongs to an application service with another id.
    OtherService,
    /// The homeserver has another name than the settings say.
    OtherName {
        /// What the settings say.
        expected: OwnedServerName,
        /// Who the homeserver says that this service is.
        actual: OwnedUserId,
    },
    /// The registration that the homeserver has loaded has no `url`.
    NoUrl,
    /// The homeserver cannot connect to the application service.
    Unreachable(String),
    /// The application service did not answer the homeserver in time.
    Slow,
    /// The application service refused the homeserver's token: the homeserver has loaded another registration.
    WrongToken,
    /// Something answered the homeserver, but with another status than 200.
    WrongAnswer {
        /// The status.
        status: Option<u16>,
        /// The beginning of what it said.
        body: String,
    },
    /// Something else.
    Unclear(String),
}

// === impl Homeserver ===

impl Homeserver {
    /// Finds out whether both directions work. It does not wait for a homeserver that is down.
    pub async fn diagnose(&self) -> Diagnosis {
        match self.versions_now().await {
            Ok(_) => {}
            Err(Error::Unreachable { reason, .. }) => return Diagnosis::HomeserverDown(reason),
            Err(error) if error.is_temporary() => return Diagnosis::HomeserverDown(error.to_string()),
            Err(error) => return Diagnosis::NotAHomeserver(error.to_string()),
        }
        match self.whoami_now().await {
            Ok(user) if user != self.bot_id() && user.server_name() != self.server_name() => {
                let expected = self.server_name().to_owned();
                return Diagnosis::OtherName { expected, actual: user };
            }
            Err(error) if error.is_unknown_token() => return Diagnosis::NotRegistered,
            // Whatever else it says, the ping says it better.
            _ => {}
        }
        match self.ping().await {
            Ok(duration) => Diagnosis::Fine(duration),
            Err(error) => Diagnosis::of(&error),
        }
    }

    /// Has the homeserver call this application service back; returns how long that took.
    ///
    /// # Errors
    /// See [`Error`]; [`Homeserver::diagnose`] puts it into words.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let mut request = request_ping::v1::Request::new(self.registration().id.clone());
        request.transaction_id = Some(OwnedTransactionId::from("ping"));
        Ok(self.call(None, request, Repeat::Never).await?.duration)
    }

    async fn whoami_now(&self) -> Result<OwnedUserId, Error> {
        let request = ruma::api::client::account::whoami::v3::Request::new();
        Ok(self.call(None, request, Repeat::Never).await?.user_id)
    }
}

// === impl Diagnosis ===

impl Diagnosis {
    /// Whether both directions work.
    pub fn is_fine(&self) -> bool {
        matches!(self, Self::Fine(_))
    }

    /// Whether waiting may help; otherwise somebody must change a file.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::HomeserverDown(_) | Self::Slow | Self::Unreachable(_))
    }

    fn of(error: &Error) -> Self {
        let Some(refused) = error.refused() else {
            return match error {
                Error::Unreachable { reason, .. } => Self::HomeserverDown(reason.clone()),
                _ => Self::Unclear(error.to_string()),
            };
        };
        match &refused.kind {
            Some(ErrorKind::UnknownToken(_) | ErrorKind::MissingToken) => Self::NotRegistered,
            Some(ErrorKind::Forbidden) => Self::OtherService,
            Some(ErrorKind::UrlNotSet) => Self::NoUrl,
            Some(ErrorKind::ConnectionFailed) => Self::Unreachable(refused.message.clone()),
            Some(ErrorKind::ConnectionTimeout) => Self::Slow,
            Some(ErrorKind::BadStatus(data)) => Self::bad_status(data.status, data.body.as_deref().unwrap_or_default()),
            Some(ErrorKind::Unrecognized) => {
                Self::Unclear("the homeserver is older than Matrix 1.7 and cannot ping".to_owned())
            }
            _ => Self::Unclear(Refused::to_string(refused)),
        }
    }

    fn bad_status(status: Option<StatusCode>, body: &str) -> Self {
        match status {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Self::WrongToken,
            _ => Self::WrongAnswer {
                status: status.map(|status| status.as_u16()),
                body: body.chars().take(120).filter(|character| !character.is_control()).collect(),
            },
        }
    }

    /// What to do about it, for this homeserver; `None` when all is well.
    pub fn remedy(&self, homeserver: &Homeserver) -> Option<String> {
        let url = homeserver.registration().url.as_deref().unwrap_or("(not set)");
        let base = homeserver.url();
        Some(match self {
            Self::Fine(_) => return None,
            Self::HomeserverDown(_) => format!("Start the homeserver, or correct its URL in the settings ({base})."),
            Self::NotAHomeserver(_) => format!("Correct the homeserver's URL in the settings ({base})."),
            Self::NotRegistered => "Put the registration file into app_service_config_files in homeserver.yaml and \
                restart the homeserver; it reads the file only when it starts."
                .to_owned(),
            Self::OtherService => {
                "Give the registration an as_token of its own, and restart the homeserver after any change of its id."
                    .to_owned()
            }
            Self::OtherName { actual, .. } => {
                format!("Set server_name to {} in the settings of the homeserver connection.", actual.server_name())
            }
            Self::NoUrl => "Write url into the registration file and restart the homeserver.".to_owned(),
            Self::Unreachable(_) | Self::Slow => {
                format!("Make {url}, the url in the registration file, reachable from the homeserver's machine.")
            }
            Self::WrongToken => "Give the homeserver and this program the same registration file, and restart the \
                homeserver: the hs_token differs."
                .to_owned(),
            Self::WrongAnswer { .. } => format!("See what listens at {url}: it is not this program."),
            Self::Unclear(_) => "See the homeserver's log.".to_owned(),
        })
    }

    /// The diagnosis as a [`Failure`] for people, unless all is well.
    pub fn failure(&self, homeserver: &Homeserver) -> Option<Failure> {
        let remedy = self.remedy(homeserver)?;
        let status = if self.is_temporary() {
            crate::service::failure::Status::Unavailable
        } else {
            crate::service::failure::Status::Config
        };
        Some(Failure::new(status, self.to_string()).remedy(remedy))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine(duration) => {
                write!(f, "the homeserver and the application service reach each other ({} ms)", duration.as_millis())
            }
            Self::HomeserverDown(reason) => write!(f, "the homeserver does not answer: {reason}"),
            Self::NotAHomeserver(reason) => write!(f, "what answers is not a Matrix homeserver: {reason}"),
            Self::NotRegistered => f.write_str("the homeserver does not know this application service (as_token)"),
            Self::OtherService => {
                f.write_str("the homeserver knows the as_token as that of an application service with another id")
            }
            Self::OtherName { expected, actual } => {
                write!(f, "the homeserver is not {expected}: this service is {actual} there")
            }
            Self::NoUrl => f.write_str("the registration that the homeserver has loaded has no url"),
            Self::Unreachable(reason) => {
                write!(f, "the homeserver cannot connect to the application service: {reason}")
            }
            Self::Slow => f.write_str("the application service did not answer the homeserver in time"),
            Self::WrongToken => f.write_str("the homeserver calls with another hs_token than this registration's"),
            Self::WrongAnswer { status: Some(status), body } => {
                write!(f, "the homeserver called the url of the registration and was answered {status}: {body}")
            }
            Self::WrongAnswer { status: None, .. } => {
                f.write_str("the homeserver called the url of the registration and got a wrong answer")
            }
            Self::Unclear(reason) => write!(f, "the ping failed: {reason}"),
        }
    }
}
