//! One call to the server: sent, tried again where that is safe, its answer read or its error understood.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use super::{Client, login::chance};
use crate::fhir::{
    etag,
    id::Key,
    resources::{Issue, IssueType, OperationOutcome, Resource},
    server::{Condition, FhirError},
};
use crate::service::trace;

/// Longest answer that is read, in bytes; a page with attachments may be large.
const LONGEST_ANSWER: usize = 128 * 1024 * 1024;
/// First pause before another try; it doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that asks to wait longer is asked again by whoever called, later.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Body>,
    /// Whether the call can be made twice with the same effect.
    pub(super) repeatable: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Json(String),
    Form(String),
}

/// An answer with a status of success.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) resource: Option<Resource>,
    pub(super) location: Option<String>,
}

// === impl Call ===

impl Call {
    pub(super) fn get(url: String) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), body: None, repeatable: true }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds the header that says when an update may happen.
    pub(super) fn only_if(self, condition: Condition<'_>) -> Self {
        match condition {
            Condition::Always => self,
            Condition::VersionIs(version) => self.with("if-match", etag::write(version)),
            Condition::Tagged(tags) => self.with("if-match", tags.to_string()),
            Condition::Absent => self.with("if-none-match", "*"),
        }
    }
}

impl Client {
    /// Makes a call, again where it failed for a while and may be repeated.
    pub(super) async fn call(&self, call: Call) -> Result<Reply, FhirError> {
        let mut pause = FIRST_PAUSE;
        let mut tries_left = if call.repeatable { self.settings.attempts.max(1) } else { 1 };
        loop {
            tries_left -= 1;
            let error = match self.once(&call).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or_else(|| pause.mul_f64(0.5 + chance()));
            if tries_left == 0 || !error.is_temporary() || wait > LONGEST_WAIT {
                return Err(error);
            }
            tracing::debug!(%error, method = %call.method, "the FHIR server is asked again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, call: &Call) -> Result<Reply, FhirError> {
        let response = self.send(call).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.login.refused().await {
            return read(response).await;
        }
        // The token may have ended early: one more try with a new one. Nothing was done, so this is safe for all.
        read(self.send(call).await?).await
    }

    async fn send(&self, call: &Call) -> Result<reqwest::Response, FhirError> {
        let mut request = self
            .http
            .request(call.method.clone(), &call.url)
            .header(header::ACCEPT, "application/fhir+json, application/json;q=0.9");
        if call.method == Method::GET {
            // There are servers that give what they found a minute ago for the same search.
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(step) = trace::current().map(|trace| trace.child()) {
            request = request.header(trace::TRACEPARENT, step.parent());
            if let Some(state) = step.state() {
                request = request.header(trace::TRACESTATE, state);
            }
        }
        if let Some(token) = self.login.token(&self.http).await? {
            request = request.bearer_auth(token.expose());
        }
        request = match &call.body {
            None => request,
            Some(Body::Json(text)) => {
                request.header(header::CONTENT_TYPE, "application/fhir+json; charset=utf-8").body(text.clone())
            }
            Some(Body::Form(text)) => {
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(text.clone())
            }
        };
        request.send().await.map_err(unreachable)
    }
}

/// The error of a call that did not get through. The address is left out: a query may hold patient data.
fn unreachable(error: reqwest::Error) -> FhirError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(found) = cause {
        text = format!("{text}: {found}");
        cause = found.source();
    }
    FhirError::Unavailable(text)
}

async fn read(mut response: reqwest::Response) -> Result<Reply, FhirError> {
    let status = response.status();
    let headers = response.headers().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return Err(FhirError::Protocol(format!("the answer is longer than {LONGEST_ANSWER} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = |name: header::HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    if status.is_success() {
        let resource = if bytes.is_empty() {
            None
        } else {
            Some(Resource::from_json(&bytes).map_err(|error| FhirError::Protocol(error.to_string()))?)
        };
        let location = text(header::LOCATION).or_else(|| text(header::CONTENT_LOCATION));
        return Ok(Reply { status, resource, location });
    }
    Err(refusal(status, &headers, &bytes))
}

fn refusal(status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> FhirError {
    let resource = Resource::from_json(bytes).ok();
    let outcome = resource.and_then(|resource| resource.into_typed::<OperationOutcome>().ok());
    let outcome = outcome.filter(|outcome| !outcome.issue.is_empty()).map(without_words);
    let given = outcome
        .unwrap_or_else(|| OperationOutcome::of(Issue::error(IssueType::Processing, format!("status {status}"))));
    let given = Box::new(given);
    let says = |code: &IssueType| given.issue.iter().any(|issue| issue.code.as_ref() == Some(code));
    match status.as_u16() {
        401 | 403 => FhirError::Forbidden(format!("status {status}")),
        404 | 410 => FhirError::NotFound("what was asked for".to_owned()),
        405 | 501 => FhirError::NotSupported(given.summary()),
        409 | 412 if says(&IssueType::MultipleMatches) => FhirError::MultipleMatches(given),
        409 | 412 => FhirError::VersionConflict(given),
        429 | 503 => FhirError::Busy { retry_after: retry_after(headers) },
        408 | 425 => FhirError::Unavailable(format!("status {status}")),
        // Followed, a redirect would take the token along to who knows where.
        300..=399 => FhirError::Protocol(format!("a redirect (status {status}): correct the base address")),
        400..=499 => FhirError::Invalid(given),
        _ => FhirError::Unavailable(format!("status {status}")),
    }
}

/// What an outcome says without words: they may repeat names and numbers of patients, or what the bridge logs in with.
fn without_words(mut outcome: OperationOutcome) -> OperationOutcome {
    for issue in &mut outcome.issue {
        (issue.diagnostics, issue.details) = (None, None);
    }
    outcome
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(std::time::SystemTime::now()).ok()
}

/// The resource that a `Location` names.
pub(super) fn located(location: &str) -> Option<Key> {
    Key::parse(location).or_else(|| {
        // Some servers give a path from the root, which is no reference.
        let path = location.trim_start_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let start = parts.iter().position(|part| part.parse::<crate::fhir::resources::ResourceType>().is_ok())?;
        Key::parse(&parts[start..].join("/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_in_all_their_forms() {
        for location in ["https://x/fhir/Task/1/_history/2", "Task/1/_history/2", "/fhir/r4/Task/1/_history/2"] {
            assert_eq!(located(location).unwrap().to_string(), "Task/1/_history/2");
        }
        assert!(located("https://x/fhir").is_none());
    }

    #[test]
    fn what_a_server_says_of_a_patient_is_not_kept() {
        let outcome = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid",
            "diagnostics":"Kanarie 999911120","details":{"text":"Kanarie","coding":[{"display":"999911120"}]},
            "expression":["Patient.name"]}]}"#;
        for status in [400, 401, 404, 405, 409, 412, 422, 429, 500, 501, 503] {
            for body in [outcome, "Kanarie 999911120", r#"{"resourceType":"Kanarie"}"#] {
                let error = refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
                let said = format!("{error} {error:?}");
                assert!(!said.contains("Kanarie") && !said.contains("999911120"), "{status}: {said}");
            }
        }
        let error = refusal(StatusCode::UNPROCESSABLE_ENTITY, &HeaderMap::new(), outcome.as_bytes());
        assert_eq!(error.to_string(), "refused: Patient.name: invalid");
    }

    #[test]
    fn statuses_are_understood() {
        let refuse = |status: u16, body: &str| {
            refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
        };
        let several = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"multiple-matches"}]}"#;
        assert!(matches!(refuse(412, several), FhirError::MultipleMatches(_)));
        assert!(matches!(refuse(412, ""), FhirError::VersionConflict(_)));
        assert!(matches!(refuse(422, "<html>"), FhirError::Invalid(_)));
        assert!(refuse(502, "").is_temporary() && refuse(429, "").is_temporary() && !refuse(403, "").is_temporary());
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, "7".parse().unwrap())]);
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
    }
}
