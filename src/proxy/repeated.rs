//! Header fields that are the same in response after response.

use http::{HeaderName, HeaderValue, header};

use super::http1::head::Field;

/// The fields of the last response, in their order: what comes again in its place is shared, and neither read nor
/// copied. Slices of one copy of the whole head would cost less still, but the HPACK table of a connection would keep
/// whole heads for single values.
#[derive(Debug, Default)]
pub(crate) struct Repeated([Option<Seen>; PLACES]);

/// A field as it was written, and what it was read as.
#[derive(Debug)]
struct Seen {
    written: String,
    name: HeaderName,
    value: HeaderValue,
}

/// Fields that are kept; Synapse sends nine.
const PLACES: usize = 16;

/// The longest value that is kept, in bytes. Those of Synapse that repeat are below 100.
const LONGEST: usize = 128;

// === impl Repeated ===

impl Repeated {
    /// A field of a response, which has this place in its head. `None` when it is none that HTTP allows.
    pub(crate) fn field(&mut self, place: usize, field: &Field<'_>) -> Option<(HeaderName, HeaderValue)> {
        let Some(slot) = self.0.get_mut(place) else { return read(field) };
        if let Some(seen) = slot.as_ref().filter(|seen| seen.written == field.name && seen.value == field.value) {
            return Some((seen.name.clone(), seen.value.clone()));
        }
        let (name, value) = match slot {
            Some(seen) if seen.written == field.name => (seen.name.clone(), HeaderValue::from_bytes(field.value).ok()?),
            _ => read(field)?,
        };
        // A cookie is for one client alone.
        if value.len() <= LONGEST && name != header::SET_COOKIE {
            let (name, value) = (name.clone(), value.clone());
            match slot {
                Some(seen) if seen.written == field.name => seen.value = value,
                _ => *slot = Some(Seen { written: field.name.to_owned(), name, value }),
            }
        }
        Some((name, value))
    }
}

/// Name and value as HTTP/2 has them. `None` when they are none that HTTP allows.
pub(crate) fn read(field: &Field<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
    HeaderValue::from_bytes(field.value).ok().map(|value| (name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_comes_again_is_the_same_memory() {
        let mut repeated = Repeated::default();
        let mut value = |value: &[u8]| repeated.field(0, &Field { name: "Date", value }).unwrap().1;
        assert_eq!(value(b"a").as_bytes().as_ptr(), value(b"a").as_bytes().as_ptr());
        assert_ne!(value(b"a").as_bytes().as_ptr(), value(b"b").as_bytes().as_ptr());
    }

    #[test]
    fn little_is_kept() {
        let mut repeated = Repeated::default();
        let long = [b'x'; LONGEST + 1];
        for (place, name, value) in [(0, "Set-Cookie", &b"s"[..]), (1, "Link", &long), (PLACES, "Date", b"d")] {
            assert!(repeated.field(place, &Field { name, value }).is_some());
        }
        assert!(repeated.0.iter().all(Option::is_none));
    }

    proptest! {
        #[test]
        fn fields_are_those_of_this_response_whatever_the_last_ones_had(
            responses in prop::collection::vec(
                prop::collection::vec(("(Date|Link|X-A|set-cookie|b ad)", "[a\u{7f}]{0,2}|c{200}"), 0..4),
                0..12,
            )
        ) {
            let mut repeated = Repeated::default();
            for (place, (name, value)) in responses.iter().flat_map(|fields| fields.iter().enumerate()) {
                let field = Field { name, value: value.as_bytes() };
                prop_assert_eq!(repeated.field(place, &field), read(&field));
            }
        }
    }
}
