//! The formats of the primitive types (R4, 2.24.0.1).

use serde_json::{Number, Value};

use super::narrative;
use crate::fhir::{
    id,
    instant::{self, DateTime, Precision},
};

/// Checks a value against a primitive type.
///
/// # Errors
/// What was expected.
pub(super) fn check(kind: &str, value: &Value) -> Result<(), &'static str> {
    match (kind, value) {
        ("boolean", Value::Bool(_)) | ("decimal", Value::Number(_)) => Ok(()),
        ("boolean", _) => Err("true or false is required"),
        ("decimal", _) => Err("a number is required"),
        ("integer", Value::Number(number)) => integer(number, i64::from(i32::MIN)),
        ("unsignedInt", Value::Number(number)) => integer(number, 0),
        ("positiveInt", Value::Number(number)) => integer(number, 1),
        ("integer" | "unsignedInt" | "positiveInt", _) => Err("a whole number is required"),
        (kind, Value::String(text)) => text_of(kind, text),
        _ => Err("a text is required"),
    }
}

fn integer(number: &Number, least: i64) -> Result<(), &'static str> {
    match number.as_i64() {
        Some(number) if number >= least && number <= i64::from(i32::MAX) => Ok(()),
        _ => Err("a whole number within the bounds of its type is required"),
    }
}

fn text_of(kind: &str, text: &str) -> Result<(), &'static str> {
    let result = |fits: bool, wanted: &'static str| if fits { Ok(()) } else { Err(wanted) };
    if text.is_empty() {
        return Err("a text must not be empty");
    }
    match kind {
        "code" => result(is_code(text), "a code is required: no white space but single spaces within"),
        "id" => result(id::is_id(text), "an id is required: 1 to 64 of A-Z, a-z, 0-9, `-` and `.`"),
        "uri" | "url" | "canonical" => result(is_uri(text), "a URI is required: no white space"),
        "oid" => result(is_oid(text), "an OID is required: urn:oid:…"),
        "uuid" => result(is_uuid(text), "a UUID is required: urn:uuid:…"),
        "date" => result(
            DateTime::parse(text).and_then(|date| date.precision()).is_some_and(|found| found <= Precision::Day),
            "a date is required: YYYY, YYYY-MM or YYYY-MM-DD",
        ),
        "dateTime" => result(
            DateTime::parse(text).is_some(),
            "a date, or a date with time and zone, is required: YYYY-MM-DDThh:mm:ss+zz:zz",
        ),
        "instant" => result(
            DateTime::parse(text).and_then(|date| date.precision()) == Some(Precision::Second),
            "a date with time and zone is required: YYYY-MM-DDThh:mm:ss+zz:zz",
        ),
        "time" => result(instant::is_time(text), "a time is required: hh:mm:ss"),
        "base64Binary" => result(is_base64(text), "base64 is required"),
        "xhtml" => result(narrative::is_one(text), "a <div> of XHTML without scripts is required"),
        _ => result(is_string(text), "a text without control characters, of at most 1 MiB, is required"),
    }
}

/// Longest `string` (R4, 2.24.0.1).
const LONGEST_STRING: usize = 1024 * 1024;

fn is_string(text: &str) -> bool {
    text.len() <= LONGEST_STRING
        && !text.chars().any(|found| found.is_control() && !matches!(found, '\t' | '\r' | '\n'))
}

fn is_code(text: &str) -> bool {
    is_string(text) && text.split(' ').all(|word| !word.is_empty() && !word.contains(char::is_whitespace))
}

pub(super) fn is_uri(text: &str) -> bool {
    !text.is_empty() && !text.contains(|found: char| found.is_whitespace() || found.is_control())
}

fn is_oid(text: &str) -> bool {
    let Some(numbers) = text.strip_prefix("urn:oid:") else { return false };
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    numbers.starts_with(['0', '1', '2']) && numbers.contains('.') && numbers.split('.').all(number)
}

fn is_uuid(text: &str) -> bool {
    let Some(uuid) = text.strip_prefix("urn:uuid:") else { return false };
    let parts: Vec<_> = uuid.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Base64 with `=` at its end only; white space between is allowed.
fn is_base64(text: &str) -> bool {
    let (mut letters, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        match byte {
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => letters += 1,
            _ => return false,
        }
    }
    padding <= 2 && letters > 0 && (letters + padding).is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_format_takes_its_own_and_refuses_others() {
        for (kind, right, wrong) in [
            ("boolean", json!(true), json!("true")),
            ("integer", json!(-3), json!(1.5)),
            ("integer", json!(2_147_483_647), json!(2_147_483_648_i64)),
            ("unsignedInt", json!(0), json!(-1)),
            ("positiveInt", json!(1), json!(0)),
            ("decimal", json!(1.10), json!("1.10")),
            ("string", json!("Sjaak Żółć 👋\n"), json!("a\u{0}")),
            ("string", json!(" "), json!("")),
            ("code", json!("in progress"), json!(" code")),
            ("id", json!("a.B-9"), json!("a_b")),
            ("uri", json!("urn:x"), json!("a b")),
            ("oid", json!("urn:oid:2.16.840.1.113883.2.4.6.3"), json!("urn:oid:2.01")),
            ("uuid", json!("urn:uuid:c757873d-ec9a-4326-a141-556f43239520"), json!("c757873d")),
            ("date", json!("2026-11"), json!("2026-11-22T00:00:00Z")),
            ("dateTime", json!("2026-11-22T17:50:58.1+01:00"), json!("2026-11-22T17:50")),
            ("instant", json!("2026-11-22T17:50:58Z"), json!("2026-11-22")),
            ("time", json!("17:50:58"), json!("17:50")),
            ("base64Binary", json!("aGFs bG8="), json!("aGFsbG8")),
            ("xhtml", json!("<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"), json!("<div><script/></div>")),
        ] {
            assert_eq!(check(kind, &right), Ok(()), "{kind} {right}");
            assert!(check(kind, &wrong).is_err(), "{kind} {wrong}");
        }
    }
}
