//! Answers: a status, a resource, and what the resource's version says in headers.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    negotiate::{self, FHIR_JSON},
    route,
    shorten::Part,
};
use crate::fhir::{
    etag,
    instant::to_system_time,
    outcome,
    resources::{Issue, IssueType, OperationOutcome, Resource},
    server::FhirError,
};

/// When a client may ask again where nobody knows better.
const SOON: Duration = Duration::from_secs(5);

/// An answer on its way: a status, a resource, and what stands in the headers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content: Option<Resource>,
    pub(super) headers: HeaderMap,
    /// What a form asks for of the content.
    pub(super) part: Option<Part>,
}

/// What went wrong with a request: a status and an outcome.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Box<Reply>);

pub(super) fn bad(text: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, IssueType::Invalid, text)
}

pub(super) fn unsupported_media(text: &str) -> Refusal {
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueType::NotSupported, text)
}

/// A read, or 304 where the client has this version already (R4, 3.1.0.1.3).
pub(super) fn conditional(resource: Resource, headers: &HeaderMap) -> Reply {
    let known = negotiate::tags(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.name(resource.version()));
    let updated =
        resource.last_updated().and_then(|updated| updated.moments()).map(|moments| to_system_time(moments.start));
    let since =
        negotiate::text(headers, &header::IF_MODIFIED_SINCE).and_then(|text| httpdate::parse_http_date(text).ok());
    let unmodified = !headers.contains_key(header::IF_NONE_MATCH) && since.is_some() && updated <= since;
    let mut reply = Reply::of(resource);
    if known || unmodified {
        reply.status = StatusCode::NOT_MODIFIED;
        reply.content = None;
    }
    reply
}

// === impl Reply ===

impl Reply {
    pub(super) fn of_json(status: StatusCode) -> Self {
        Self { status, content: None, headers: HeaderMap::new(), part: None }
    }

    /// A resource, with the headers that its version gives.
    pub(super) fn of(resource: Resource) -> Self {
        let mut reply = Self::of_json(StatusCode::OK);
        if let Some(version) = resource.version() {
            reply.set(header::ETAG, &etag::write(version));
        }
        if let Some(moments) = resource.last_updated().and_then(|updated| updated.moments()) {
            reply.set(header::LAST_MODIFIED, &httpdate::fmt_http_date(to_system_time(moments.start)));
        }
        reply.content = Some(resource);
        reply
    }

    pub(super) fn outcome(status: StatusCode, outcome: &OperationOutcome) -> Self {
        Self { content: Some(Resource::of(outcome)), ..Self::of_json(status) }
    }

    pub(super) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = match &self.content {
            Some(content) => Response::new(Body::from(content.to_json())),
            None => Response::new(Body::empty()),
        };
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if self.content.is_some() {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
        }
        // Patient data stays in no cache on the way.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(status: StatusCode, code: IssueType, text: &str) -> Self {
        Self(Box::new(Reply::outcome(status, &OperationOutcome::of(Issue::error(code, text)))))
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.0.set(name, value);
        self
    }
}

impl From<FhirError> for Refusal {
    fn from(error: FhirError) -> Self {
        let (status, outcome) = outcome::of(&error);
        let refusal = Self(Box::new(Reply::outcome(status, &outcome)));
        match error.retry_after().or_else(|| error.is_temporary().then_some(SOON)) {
            Some(after) => refusal.with(header::RETRY_AFTER, &after.as_secs().max(1).to_string()),
            None => refusal,
        }
    }
}

impl From<route::NoRoute> for Refusal {
    fn from(none: route::NoRoute) -> Self {
        let refusal = Self::new(none.status, none.code, none.text);
        match none.allow {
            Some(allow) => refusal.with(header::ALLOW, allow),
            None => refusal,
        }
    }
}
