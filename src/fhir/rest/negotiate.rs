//! Formats and preferences: `Accept`, `_format`, `Content-Type`, `Prefer`.

use http::{HeaderMap, HeaderName, header};

use crate::fhir::etag::Tags;

/// The only format (R4, 3.1.0.1.9).
pub(super) const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

/// What a client wants to get back from a write (R4, 3.1.0.1.11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Return {
    /// The resource.
    #[default]
    Representation,
    /// Nothing.
    Minimal,
    /// An outcome.
    OperationOutcome,
}

// === impl Return ===

impl Return {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match preferences(headers).find_map(|part| part.strip_prefix("return=")) {
            Some("minimal") => Self::Minimal,
            Some("OperationOutcome") => Self::OperationOutcome,
            _ => Self::Representation,
        }
    }
}

/// Whether the client rather has parameters that are not known passed over than refused.
pub(super) fn is_lenient(headers: &HeaderMap) -> bool {
    preferences(headers).any(|part| part == "handling=lenient")
}

fn preferences(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split([',', ';'])).map(str::trim)
}

/// Whether the client takes JSON; `_format` stands above `Accept`.
pub(super) fn takes_json(headers: &HeaderMap, format: Option<&str>) -> bool {
    if let Some(format) = format {
        // `_format=application/fhir+json`, as many write it: the `+` of a query is a space.
        let format = &format.replace(' ', "+");
        return is_json(format) || format == "json";
    }
    let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
    if accepts.peek().is_none() {
        return true;
    }
    accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|part| {
        let (range, refused) = match part.split_once(';') {
            Some((range, rest)) => (range, rest.replace(' ', "").split(';').any(is_refused)),
            None => (part, false),
        };
        !refused && (matches!(range.trim(), "*/*" | "application/*") || is_json(part))
    })
}

/// `q=0`: not wanted (RFC 9110, 12.4.2).
fn is_refused(parameter: &str) -> bool {
    matches!(parameter.strip_prefix("q=").map(str::parse::<f32>), Some(Ok(0.0)))
}

/// Whether a media type is one of those for FHIR as JSON.
fn is_json(media_type: &str) -> bool {
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let essence = essence.trim().to_ascii_lowercase();
    speaks_r4(parameters)
        && matches!(
            essence.as_str(),
            "application/fhir+json" | "application/json" | "text/json" | "application/json+fhir"
        )
}

/// Whether the parameters of a media type ask for no other version of FHIR than R4 (R4, 3.1.0.1.10).
fn speaks_r4(parameters: &str) -> bool {
    let version = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("fhirVersion="));
    version.is_none_or(|version| version.trim_matches('"').starts_with("4.0"))
}

/// Whether a body is FHIR as JSON, in UTF-8.
pub(super) fn brings_json(headers: &HeaderMap) -> bool {
    brings(headers, is_json)
}

/// Whether a body is a form.
pub(super) fn brings_form(headers: &HeaderMap) -> bool {
    brings(headers, |kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    })
}

fn brings(headers: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> bool {
    let Some(kind) = text(headers, &header::CONTENT_TYPE) else { return false };
    let charset = kind.split(';').skip(1).find_map(|part| part.trim().strip_prefix("charset=").map(str::to_owned));
    is_wanted(kind) && charset.is_none_or(|charset| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

/// The versions that a header names; of what cannot be read, none.
pub(super) fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Tags> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
    Some(Tags::read(&lines.join(",")))
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn json_is_taken_under_all_its_names() {
        for accept in [
            "*/*",
            "application/fhir+json",
            "text/html, application/json;q=0.5",
            "application/*",
            "application/fhir+json; fhirVersion=4.0",
            "application/fhir+json; q=0.5; fhirVersion=\"4.0.1\"",
            "application/fhir+json; fhirVersion=5.0, application/json",
        ] {
            assert!(takes_json(&with(header::ACCEPT, accept), None), "{accept}");
        }
        for accept in
            ["application/fhir+xml", "text/html", "application/json;q=0", "", "application/fhir+json; fhirVersion=5.0"]
        {
            assert!(!takes_json(&with(header::ACCEPT, accept), None), "{accept}");
        }
        for format in ["json", "application/fhir+json", "application/fhir json", "application/json"] {
            assert!(takes_json(&with(header::ACCEPT, "text/html"), Some(format)), "{format}");
        }
        assert!(!takes_json(&HeaderMap::new(), Some("xml")) && takes_json(&HeaderMap::new(), None));
        assert!(brings_json(&with(header::CONTENT_TYPE, "application/fhir+json; charset=UTF-8")));
        assert!(!brings_json(&with(header::CONTENT_TYPE, "application/fhir+json; charset=latin1")));
        assert!(!brings_json(&with(header::CONTENT_TYPE, "application/fhir+json; fhirVersion=3.0")));
        assert!(!brings_json(&with(header::CONTENT_TYPE, "application/fhir+xml")) && !brings_json(&HeaderMap::new()));
    }

    #[test]
    fn what_cannot_be_read_names_no_version() {
        let mut headers = HeaderMap::new();
        assert_eq!(tags(&headers, &header::IF_MATCH), None);
        headers.insert(header::IF_MATCH, http::HeaderValue::from_bytes(b"\xe9\"1\"").unwrap());
        assert!(!tags(&headers, &header::IF_MATCH).unwrap().name(Some("1")));
        headers.append(header::IF_MATCH, "\"1\"".parse().unwrap());
        assert!(tags(&headers, &header::IF_MATCH).unwrap().name(Some("1")));
    }

    #[test]
    fn preferences_are_read() {
        let prefer = HeaderName::from_static("prefer");
        assert_eq!(Return::of(&with(prefer.clone(), "respond-async, return=minimal")), Return::Minimal);
        assert!(is_lenient(&with(prefer.clone(), "return=minimal, handling=lenient")));
        assert!(!is_lenient(&with(prefer.clone(), "handling=strict")));
        assert_eq!(Return::of(&with(prefer, "return=OperationOutcome")), Return::OperationOutcome);
        assert_eq!(Return::of(&HeaderMap::new()), Return::Representation);
    }
}
