//! Files: what is uploaded and downloaded, and whether a file is what it says.
//!
//! Nothing here holds a whole file in memory; the calls are [`super::Intent::upload`] and
//! [`super::Intent::download`].

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::Error;

/// Bytes as they come.
pub type Content = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A file that is to be uploaded.
pub struct Upload {
    /// Its name, if it may be known.
    pub name: Option<String>,
    /// Its content type.
    pub content_type: String,
    /// Its size in bytes. Homeservers must be told before.
    pub size: u64,
    /// Its bytes.
    pub content: Content,
}

/// A file that is being downloaded.
pub struct Download {
    /// Its content type without parameters, in lower case, as it was declared; it agrees with the content where the
    /// content shows a type.
    pub content_type: String,
    /// Its name, if the homeserver knows one.
    pub name: Option<String>,
    /// Its size in bytes, if the homeserver said so.
    pub size: Option<u64>,
    /// Its bytes; an error when they are more than the limit.
    pub content: Content,
}

// === impl Upload ===

impl Upload {
    /// A file that is in memory.
    pub fn new(content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let content = futures_util::stream::iter([Ok(bytes)]).boxed();
        Self { name: None, content_type: content_type.into(), size, content }
    }

    /// The same with a name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

// === impl Download ===

impl Download {
    /// The whole file in memory.
    ///
    /// # Errors
    /// When the connection breaks, or the file is larger than the limit.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let mut whole = bytes::BytesMut::new();
        while let Some(chunk) = self.content.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }
}

/// A content type without its parameters, in lower case; what is not one is `application/octet-stream`.
pub fn essence(declared: &str) -> String {
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match essence.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) => essence,
        _ => "application/octet-stream".to_owned(),
    }
}

/// The type that the first bytes of a file show, for types that begin with a mark of their own.
pub fn sniff(head: &[u8]) -> Option<&'static str> {
    const MARKS: [(usize, &[u8], &str); 14] = [
        (0, b"\x89PNG\r\n\x1a\n", "image/png"),
        (0, b"\xff\xd8\xff", "image/jpeg"),
        (0, b"GIF87a", "image/gif"),
        (0, b"GIF89a", "image/gif"),
        (8, b"WEBP", "image/webp"),
        (8, b"WAVE", "audio/wav"),
        (0, b"%PDF-", "application/pdf"),
        (0, b"OggS", "application/ogg"),
        (0, b"ID3", "audio/mpeg"),
        (0, b"fLaC", "audio/flac"),
        (0, b"\x1aE\xdf\xa3", "video/webm"),
        (0, b"\x7fELF", "application/x-executable"),
        (0, b"MZ", "application/vnd.microsoft.portable-executable"),
        (0, b"#!", "text/x-script"),
    ];
    MARKS.iter().find(|(at, mark, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark))).map(|mark| mark.2)
}

/// Types that a browser shows as pictures or plays: where one is declared, the content must not be something else.
const SHOWN: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "audio/mpeg"];

/// Checks that a file is what it says: an executable declared as a picture is not passed on.
///
/// Where the content shows no type, or the declared type is one without a mark, nothing is said.
///
/// # Errors
/// [`Error::Disguised`].
pub fn check(declared: &str, head: &[u8]) -> Result<(), Error> {
    let Some(actual) = sniff(head) else { return Ok(()) };
    let dangerous = actual.starts_with("application/x-executable") || actual.contains("portable-executable");
    let claimed = SHOWN.contains(&declared) || declared.starts_with("image/");
    if declared != actual && claimed && (dangerous || SHOWN.contains(&actual) || actual == "text/x-script") {
        return Err(Error::Disguised { declared: declared.to_owned(), actual });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_type_is_reduced_to_its_essence() {
        assert_eq!(essence("Text/HTML; charset=utf-8"), "text/html");
        assert_eq!(essence("image/svg+xml"), "image/svg+xml");
        for wrong in ["", "text", "text/", "/x", "a/b/c", "te xt/x", "text/\"x\""] {
            assert_eq!(essence(wrong), "application/octet-stream", "{wrong}");
        }
    }

    #[test]
    fn disguised_files_are_found() {
        let png = b"\x89PNG\r\n\x1a\n....";
        check("image/png", png).unwrap();
        check("application/octet-stream", png).unwrap();
        check("text/plain", b"hello").unwrap();
        check("image/png", b"").unwrap();
        check("application/dicom", b"MZ").unwrap();
        assert!(matches!(check("image/jpeg", png), Err(Error::Disguised { actual: "image/png", .. })));
        assert!(check("image/png", b"MZ\x90\x00").is_err());
        assert!(check("application/pdf", b"#!/bin/sh").is_err());
        assert!(check("image/svg+xml", b"\x7fELF").is_err());
    }

    proptest! {
        #[test]
        fn no_input_is_too_strange(declared in any::<String>(), head in any::<Vec<u8>>()) {
            let _ = check(&essence(&declared), &head);
        }
    }
}
