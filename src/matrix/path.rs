//! Percent-coding of ids in URL paths (RFC 3986, section 2.1).
//!
//! Matrix ids hold `!`, `#`, `@`, `:` and may hold `/` and `%`, so a path segment is split off first and decoded then.

use std::fmt::Write as _;

/// A path segment that is not percent-coded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("a % in the path is not followed by two hexadecimal digits")]
    Percent,
    /// Bytes that are not UTF-8.
    #[error("a part of the path is not UTF-8")]
    Utf8,
    /// Nothing at all.
    #[error("a part of the path is empty")]
    Empty,
}

/// The last segment of a path, decoded.
///
/// # Errors
/// When it is empty or not percent-coded UTF-8.
pub fn last_segment(path: &str) -> Result<String, Malformed> {
    match path.rsplit('/').next() {
        None | Some("") => Err(Malformed::Empty),
        Some(segment) => decode(segment),
    }
}

/// Decodes one path segment. A `+` stays a `+`: only in form data does it mean a space.
///
/// # Errors
/// When it is not percent-coded UTF-8.
pub fn decode(segment: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(Malformed::Percent)?;
        bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| Malformed::Utf8)
}

/// Codes a text as one path segment: all but the unreserved characters.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut coded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(coded, "%{byte:02X}");
        }
        coded
    })
}

fn digit(byte: u8) -> Result<u8, Malformed> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(Malformed::Percent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_survives(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)), Ok(text));
        }

        #[test]
        fn every_id_survives_within_a_path(text in "[@#!$][ -~é]{1,40}") {
            let path = format!("/_matrix/app/v1/users/{}", encode(&text));
            prop_assert_eq!(last_segment(&path), Ok(text));
        }

        #[test]
        fn decoding_never_panics_and_never_grows(segment in any::<String>()) {
            if let Ok(decoded) = decode(&segment) {
                prop_assert!(decoded.len() <= segment.len());
            }
        }
    }

    #[test]
    fn what_synapse_sends_is_decoded() {
        assert_eq!(last_segment("/users/%40_fhir_bridge_x%3Avvt").unwrap(), "@_fhir_bridge_x:vvt");
        assert_eq!(last_segment("/rooms/%23a%2Fb%3avvt").unwrap(), "#a/b:vvt");
        assert_eq!(last_segment("/users/@a+b:vvt").unwrap(), "@a+b:vvt");
    }

    #[test]
    fn malformed_segments_are_refused() {
        assert_eq!(decode("%"), Err(Malformed::Percent));
        assert_eq!(decode("%4"), Err(Malformed::Percent));
        assert_eq!(decode("%+1"), Err(Malformed::Percent));
        assert_eq!(decode("%é1"), Err(Malformed::Percent));
        assert_eq!(decode("%ff"), Err(Malformed::Utf8));
        assert_eq!(last_segment("/users/"), Err(Malformed::Empty));
    }
}
