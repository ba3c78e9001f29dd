//! Values of header fields that are the same in response after response.

use http::{HeaderName, HeaderValue, header};

/// The values that the last responses had in fields that hardly differ from one response to the next: they are shared
/// and not copied. Slices of one copy of the whole head would cost less still, but the HPACK table of a connection
/// would keep whole heads for single values.
#[derive(Debug, Default)]
pub(crate) struct Repeated([Option<HeaderValue>; REPEATED.len()]);

/// What Synapse sends with most responses.
static REPEATED: [HeaderName; 7] = [
    header::SERVER,
    header::DATE,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
];

// === impl Repeated ===

impl Repeated {
    /// A value as the field of a response. `None` when it is none that HTTP allows.
    pub(crate) fn value(&mut self, name: &HeaderName, bytes: &[u8]) -> Option<HeaderValue> {
        let fresh = || HeaderValue::from_bytes(bytes).ok();
        let slot = REPEATED.iter().position(|repeated| repeated == name).and_then(|index| self.0.get_mut(index));
        let Some(slot) = slot else { return fresh() };
        if slot.as_ref().is_none_or(|value| value.as_bytes() != bytes) {
            *slot = fresh();
        }
        slot.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_this_response_whatever_the_last_one_had() {
        let mut repeated = Repeated::default();
        let mut value = |name, bytes: &[u8]| repeated.value(&name, bytes);
        let fields = [(header::DATE, "a"), (header::DATE, "a"), (header::SERVER, "a"), (header::DATE, "b")];
        for (name, text) in fields.into_iter().chain([(header::ETAG, "b"), (header::DATE, "")]) {
            assert_eq!(value(name, text.as_bytes()).unwrap(), text);
        }
        assert_eq!(value(header::DATE, b"a\0"), None);
        assert_eq!(value(header::DATE, b"a").unwrap(), "a");
        // A value that comes again is the same memory.
        let (one, other) = (value(header::DATE, b"a").unwrap(), value(header::DATE, b"a").unwrap());
        assert_eq!(one.as_bytes().as_ptr(), other.as_bytes().as_ptr());
    }
}
