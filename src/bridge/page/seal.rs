//! What a browser brings back is what it was given: places in lists and the marks of forms are sealed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Serialize, de::DeserializeOwned};

use crate::service::{failure::Failure, secrets::Secret};

/// A key that ends with the process.
pub(super) struct Seal(hmac::Key);

// === impl Seal ===

impl Seal {
    /// A fresh key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, Secret::random(32)?.expose().as_bytes())))
    }

    /// A place in a list, to be put into a link. A FHIR server's link is an address that the bridge follows, so it
    /// must come from the bridge.
    pub(super) fn close(&self, place: &impl Serialize) -> String {
        let text = serde_json::to_vec(place).unwrap_or_default();
        let tag = hmac::sign(&self.0, &text);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(tag))
    }

    /// Reads what [`Seal::close`] made; `None` for anything else.
    pub(super) fn open<T: DeserializeOwned>(&self, sealed: &str) -> Option<T> {
        let (text, tag) = sealed.split_once('.')?;
        let (text, tag) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(&self.0, &text, &tag).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The mark of a form that is shown to a viewer: another site cannot know it.
    pub(super) fn mark(&self, session: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, format!("form {session}").as_bytes()))
    }

    /// Whether a form came from a page that this viewer was shown.
    pub(super) fn is_mark(&self, session: &str, mark: &str) -> bool {
        let Ok(mark) = URL_SAFE_NO_PAD.decode(mark) else { return false };
        hmac::verify(&self.0, format!("form {session}").as_bytes(), &mark).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_here_is_read() {
        let (seal, other) = (Seal::new().unwrap(), Seal::new().unwrap());
        let sealed = seal.close(&Some("Communication?_page=2"));
        assert_eq!(seal.open::<Option<String>>(&sealed).unwrap().unwrap(), "Communication?_page=2");
        assert!(other.open::<Option<String>>(&sealed).is_none());
        assert!(seal.open::<Option<String>>("bnVsbA.bnVsbA").is_none() && seal.open::<Option<String>>("").is_none());
    }

    #[test]
    fn a_form_belongs_to_one_viewer() {
        let seal = Seal::new().unwrap();
        assert!(seal.is_mark("a", &seal.mark("a")));
        assert!(!seal.is_mark("b", &seal.mark("a")) && !seal.is_mark("a", "") && !seal.is_mark("a", "é"));
    }
}
