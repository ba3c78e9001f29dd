//! Errors as the Matrix specification has them: a status, an `errcode`, a sentence.

use std::borrow::Cow;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    errcode: &'static str,
    error: Cow<'static, str>,
    retry_after: Option<u32>,
}

// === impl Refusal ===

impl Refusal {
    /// No such path.
    pub const PATH: Self = Self::fixed(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "there is no such path here");
    /// The path exists, but not with this method.
    pub const METHOD: Self =
        Self::fixed(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "this path does not take this method");
    /// No token was given.
    pub const NO_TOKEN: Self = Self::fixed(
        StatusCode::UNAUTHORIZED,
        "M_MISSING_TOKEN",
        "give the hs_token of the registration: Authorization: Bearer …",
    );
    /// The token is not the registration's.
    pub const WRONG_TOKEN: Self = Self::fixed(
        StatusCode::FORBIDDEN,
        "M_FORBIDDEN",
        "this is not the hs_token of this application service's registration",
    );
    /// What was asked for does not exist.
    pub const NOT_FOUND: Self = Self::fixed(StatusCode::NOT_FOUND, "M_NOT_FOUND", "this does not exist here");
    /// The body did not arrive in time.
    pub const SLOW: Self =
        Self::fixed(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body did not arrive in time; send it again");

    const fn fixed(status: StatusCode, errcode: &'static str, error: &'static str) -> Self {
        Self { status, errcode, error: Cow::Borrowed(error), retry_after: None }
    }

    /// A legal request with an illegal value in it.
    pub fn parameter(error: impl Into<String>) -> Self {
        Self::because(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", error)
    }

    /// JSON, but not of the form that was expected.
    pub fn bad_json(error: impl Into<String>) -> Self {
        Self::because(StatusCode::BAD_REQUEST, "M_BAD_JSON", error)
    }

    /// Not JSON at all.
    pub fn not_json(error: impl Into<String>) -> Self {
        Self::because(StatusCode::BAD_REQUEST, "M_NOT_JSON", error)
    }

    /// A body of more bytes than are taken.
    pub fn too_large(limit: usize) -> Self {
        let error = format!("the body is larger than the {limit} bytes that are taken");
        Self::because(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", error)
    }

    /// Not now; the homeserver should try again.
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::because(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error)
    }

    /// Too many requests; the next after so many milliseconds.
    pub fn busy(retry_after: u32) -> Self {
        let fixed = Self::fixed(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests");
        Self { retry_after: Some(retry_after), ..fixed }
    }

    fn because(status: StatusCode, errcode: &'static str, error: impl Into<String>) -> Self {
        Self { status, errcode, error: Cow::Owned(error.into()), retry_after: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "errcode": self.errcode, "error": self.error });
        let Some(milliseconds) = self.retry_after else { return (self.status, Json(body)).into_response() };
        body["retry_after_ms"] = milliseconds.into();
        let seconds = milliseconds.div_ceil(1000).to_string();
        (self.status, [(header::RETRY_AFTER, seconds)], Json(body)).into_response()
    }
}
