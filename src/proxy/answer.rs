//! Answers that the proxy gives itself, in the form that a Matrix client expects.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

/// An answer that does not come from a homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Header fields besides the usual ones.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, JSON.
    pub body: Cow<'static, [u8]>,
}

// === impl Answer ===

impl Answer {
    /// A Matrix error (client-server API, "Standard error response").
    pub fn error(status: StatusCode, reason: &str) -> Self {
        Self::json(status, &json!({ "errcode": error_code(status), "error": reason }))
    }

    /// A JSON document. Browsers of any origin may read it, as all of the client-server API.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        let fields = vec![("content-type", "application/json".into()), ("access-control-allow-origin", "*".into())];
        Self { status, fields, body: body.to_string().into_bytes().into() }
    }

    /// 403: the policy does not admit this.
    pub fn forbidden(reason: &str) -> Self {
        Self::error(StatusCode::FORBIDDEN, reason)
    }

    /// 401: a signature is missing, as homeservers answer themselves. RFC 9110 section 15.5.2 wants the challenge.
    pub fn unauthorized(reason: &str) -> Self {
        Self::error(StatusCode::UNAUTHORIZED, reason).with("www-authenticate", "X-Matrix")
    }

    /// 429 or 503: too much at once. Worth trying again after a while.
    pub fn later(status: StatusCode, reason: &str, after: Duration) -> Self {
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "errcode": error_code(status), "error": reason, "retry_after_ms": milliseconds });
        Self::json(status, &body).with("retry-after", after.as_secs().max(1).to_string())
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The whole answer as an HTTP/1.1 message after which the connection closes, for where there is no request yet.
    pub fn to_message(&self) -> Vec<u8> {
        let mut message =
            format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.fields {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend_from_slice(&self.body);
        message
    }
}

/// The error code of the Matrix specification that fits a status best.
fn error_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "M_UNAUTHORIZED",
        403 => "M_FORBIDDEN",
        404 => "M_NOT_FOUND",
        405 => "M_UNRECOGNIZED",
        413 | 431 => "M_TOO_LARGE",
        429 | 503 => "M_LIMIT_EXCEEDED",
        _ => "M_UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_as_a_message_can_be_read() {
        let answer = Answer::later(StatusCode::TOO_MANY_REQUESTS, "too \"many\"", Duration::from_millis(1500));
        let message = String::from_utf8(answer.to_message()).unwrap();
        assert!(message.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{message}");
        assert!(message.contains("retry-after: 1\r\n"), "{message}");
        let body: Value = serde_json::from_str(message.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
        assert_eq!(body["retry_after_ms"], 1500);
    }
}
