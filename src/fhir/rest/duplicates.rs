//! JSON objects that hold a name twice: most readers keep the last value and lose the others without a word.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Whether a text is JSON in which every object holds each name once. Other mistakes are not looked for.
pub(super) fn none(text: &[u8]) -> bool {
    match serde_json::from_slice::<Checked>(text) {
        Ok(Checked) => true,
        Err(error) => !error.to_string().starts_with(TWICE),
    }
}

const TWICE: &str = "a name twice";

/// Any JSON, read only to be looked at.
struct Checked;

struct Look;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

impl<'de> Visitor<'de> for Look {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Checked>()?;
            if !names.insert(name) {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Checked, A::Error> {
        while list.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::none;

    #[test]
    fn a_name_may_stand_once_in_each_object() {
        for text in
            [r#"{"a": 1.10, "b": [{"a": 1}, {"a": 123456789012345678901234567890}], "c": null, "d": true}"#, "[1", ""]
        {
            assert!(none(text.as_bytes()), "{text}");
        }
        for text in [r#"{"a": 1, "a": 2}"#, r#"{"x": [{"b": "1", "\u0062": 2}]}"#] {
            assert!(!none(text.as_bytes()), "{text}");
        }
    }
}
