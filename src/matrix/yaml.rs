//! YAML, for registration files only. The one place that knows which library reads it.

use std::fmt;

use serde::{Deserializer, Serialize, de};

use crate::service::failure::{Failure, Status};

/// Reads a YAML document.
///
/// # Errors
/// A [`Failure`] of the form `name:line: key: what was expected`.
pub(super) fn read<T: de::DeserializeOwned>(text: &str, name: &str) -> Result<T, Failure> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let key = error.path().to_string();
        let cause = error.inner();
        let place = match cause.location() {
            Some(location) => format!("{name}:{}", location.line()),
            None => name.to_owned(),
        };
        let problem = sentence(&cause.to_string(), &key);
        let what = if key == "." { format!("{place}: {problem}") } else { format!("{place}: {key}: {problem}") };
        Failure::new(Status::Config, what)
    })
}

/// Writes a YAML document.
///
/// # Errors
/// When the value cannot be YAML; plain structures always can.
pub(super) fn write(value: &impl Serialize) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|error| Failure::new(Status::Data, "cannot be written as YAML").because(error))
}

/// The keys of the outermost mapping.
pub(super) fn keys(text: &str) -> Vec<String> {
    let mapping: serde_yaml::Mapping = serde_yaml::from_str(text).unwrap_or_default();
    mapping.keys().filter_map(|key| key.as_str().map(str::to_owned)).collect()
}

/// The library's message without the path before it and the position behind it, which stand elsewhere.
fn sentence(message: &str, key: &str) -> String {
    let message = message.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message.to_owned(),
    }
}

/// Reads a text and checks it at once, so that a mistake is reported with the line that it stands on.
///
/// # Errors
/// What `check` says, or that a text was expected.
pub(super) fn checked<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    // Not `deserialize_str`: that takes 12345 and true for texts, and a homeserver does not.
    deserializer.deserialize_any(Checked(check))
}

const A_NUMBER: &str = "this is a number, but a text is expected: put it in quotes";

struct Checked<F>(F);

impl<T, F: FnOnce(&str) -> Result<T, String>> de::Visitor<'_> for Checked<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    // What stands there may be a token: the messages do not repeat it.

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<T, E> {
        Err(E::custom("this is a truth value, but a text is expected: put it in quotes"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<T, E> {
        Err(E::custom(A_NUMBER))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<T, E> {
        Err(E::custom(A_NUMBER))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<T, E> {
        Err(E::custom(A_NUMBER))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}
