//! What can go wrong with a call to the homeserver.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{StatusCode, header};
use ruma::{
    OwnedUserId,
    api::{
        EndpointError as _,
        error::{ErrorBody, ErrorKind, RetryAfter},
    },
};

/// A call to the homeserver failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The homeserver answered with an error.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The homeserver could not be reached, or the connection broke.
    #[error("cannot reach the homeserver at {url}: {reason}")]
    Unreachable {
        /// Its base URL.
        url: String,
        /// Why, with all causes.
        reason: String,
    },
    /// The homeserver took too long.
    #[error("the homeserver at {url} did not answer in time")]
    TimedOut {
        /// Its base URL.
        url: String,
    },
    /// What the homeserver sent is not what the specification says.
    #[error("the answer to {path} is not as the specification has it: {reason}")]
    Answer {
        /// The path that was called.
        path: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Something is larger than the limit for it.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file is not of the type that it is said to be.
    #[error("the file is said to be {declared}, but its content is {actual}")]
    Disguised {
        /// The declared content type.
        declared: String,
        /// The type that the content has.
        actual: &'static str,
    },
    /// The user is not the application service's own.
    #[error("{0} is not in the namespace of this application service")]
    NotOurs(OwnedUserId),
    /// The request could not be made from what was given.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// What was to be uploaded could not be read.
    #[error("the file to upload could not be read: {0}")]
    Source(String),
}

/// An error answer of the homeserver.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: StatusCode,
    /// The Matrix error code, if it gave one.
    pub kind: Option<ErrorKind>,
    /// Its sentence.
    pub message: String,
    /// When it may be tried again, if it said so.
    pub retry_after: Option<Duration>,
    /// The path that was called.
    pub path: String,
}

// === impl Error ===

impl Error {
    /// The error answer, if there was one.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// The Matrix error code, if there was one.
    pub fn kind(&self) -> Option<&ErrorKind> {
        self.refused()?.kind.as_ref()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_temporary(),
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// When the homeserver wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refused()?.retry_after
    }

    /// Whether it does not exist (`M_NOT_FOUND`; Synapse answers 404 with `M_UNKNOWN` for an unknown user's profile).
    pub fn is_not_found(&self) -> bool {
        let missing = |refused: &Refused| {
            refused.status == StatusCode::NOT_FOUND && !matches!(refused.kind, Some(ErrorKind::Unrecognized))
        };
        self.refused().is_some_and(missing)
    }

    /// Whether it is not allowed (`M_FORBIDDEN`).
    pub fn is_forbidden(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::Forbidden))
    }

    /// Whether the homeserver does not accept the `as_token`: the registration is not loaded, or another.
    pub fn is_unknown_token(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::UnknownToken(_)))
    }

    /// Whether the alias is taken (`M_ROOM_IN_USE`; Synapse answers 409 with `M_UNKNOWN` where one is added).
    pub fn is_alias_taken(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::RoomInUse))
            || self.refused().is_some_and(|refused| refused.status == StatusCode::CONFLICT)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

// === impl Refused ===

impl Refused {
    /// Reads an error answer.
    pub(super) fn read(path: &str, response: &http::Response<bytes::Bytes>) -> Self {
        let status = response.status();
        let mut borrowed = http::Response::new(&response.body()[..]);
        *borrowed.status_mut() = status;
        *borrowed.headers_mut() = response.headers().clone();
        let error = ruma::api::error::Error::from_http_response(borrowed);
        let (kind, message) = match error.body {
            ErrorBody::Standard(standard) => (Some(standard.kind), standard.message),
            _ => (None, "no reason was given in the form of the specification".to_owned()),
        };
        let from_kind = match &kind {
            Some(ErrorKind::LimitExceeded(data)) => data.retry_after.map(delay),
            _ => None,
        };
        let retry_after = from_kind.or_else(|| {
            let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
            let seconds = value.parse().map(Duration::from_secs).ok();
            seconds.or_else(|| Some(delay(RetryAfter::DateTime(httpdate::parse_http_date(value).ok()?))))
        });
        Self { status, kind, message, retry_after, path: path.to_owned() }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }
}

fn delay(retry_after: RetryAfter) -> Duration {
    match retry_after {
        RetryAfter::Delay(delay) => delay,
        RetryAfter::DateTime(time) => time.duration_since(SystemTime::now()).unwrap_or_default(),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errcode = self.kind.as_ref().map(|kind| kind.errcode().to_string()).unwrap_or_default();
        let space = if errcode.is_empty() { "" } else { " " };
        write!(f, "the homeserver answered {}{space}{errcode}: {}", self.status.as_u16(), self.message)
    }
}
