//! Versions as entity tags: always weak, `W/"3"` (R4, 3.1.0.1.3).

use std::fmt;

/// The ETag of a version.
pub fn write(version: &str) -> String {
    format!("W/\"{version}\"")
}

/// The version in an ETag, weak or strong, with or without its quotes, as clients send them.
fn read(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// What `If-Match` and `If-None-Match` name (RFC 9110, 13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever version there is.
    Any,
    /// One of these versions; of none, nothing matches.
    These(Vec<String>),
}

// === impl Tags ===

impl Tags {
    /// Reads the value of a header: `*`, or a list of ETags.
    pub fn read(text: &str) -> Self {
        match text.trim() {
            "*" => Self::Any,
            list => Self::These(list.split(',').map(read).filter(|version| !version.is_empty()).collect()),
        }
    }

    /// Whether they name the version that there is; where there is none, they do not.
    pub fn name(&self, version: Option<&str>) -> bool {
        version.is_some_and(|version| match self {
            Self::Any => true,
            Self::These(versions) => versions.iter().any(|named| named == version),
        })
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::These(versions) => {
                f.write_str(&versions.iter().map(|version| write(version)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_usual_forms_are_read() {
        for etag in ["W/\"3\"", "\"3\"", "3", " W/\"3\" ", "W/\"2\",W/\"3\"", "\"2\" , \"3\"", "*"] {
            assert!(Tags::read(etag).name(Some("3")), "{etag}");
            assert!(!Tags::read(etag).name(None), "{etag}");
        }
        for etag in ["", "W/\"\"", "W/\"33\"", "W/\"2\", W/\"4\"", "**"] {
            assert!(!Tags::read(etag).name(Some("3")), "{etag}");
        }
        assert_eq!(write("3"), "W/\"3\"");
        assert_eq!(Tags::read("\"2\",3").to_string(), "W/\"2\", W/\"3\"");
    }
}
