//! Search queries: parameters in order, as they stand after the `?` (R4, 3.1.1).

use std::fmt;

/// A list of search parameters. The same name may stand several times; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    parameters: Vec<(String, String)>,
}

/// A text that is not a query: a `%` without two hexadecimal digits, or bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a query: a broken percent sign or bytes that are not UTF-8")]
pub struct NotAQuery;

// === impl Query ===

impl Query {
    /// An empty query: everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what stands after the `?` of a URL.
    ///
    /// # Errors
    /// When a percent sign is broken or the text behind it is not UTF-8.
    pub fn parse(text: &str) -> Result<Self, NotAQuery> {
        let mut parameters = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            parameters.push((decode(name)?, decode(value)?));
        }
        Ok(Self { parameters })
    }

    /// Adds a parameter with a value that is already in FHIR's form.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Adds a token: `system|code`, escaped.
    ///
    /// `$` is left alone, though R4 asks to escape it: it separates only the parts of composite parameters, and there
    /// are servers that do not undo the escape (Helios), so that no Matrix event id would be found on them.
    #[must_use]
    pub fn with_token(self, name: impl Into<String>, system: &str, code: &str) -> Self {
        self.with(name, format!("{}|{}", escape(system), escape(code)))
    }

    /// The query for one identifier.
    pub fn identifier(system: &str, value: &str) -> Self {
        Self::new().with_token("identifier", system, value)
    }

    /// The parameters, decoded.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The query without a parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(found, _)| found != name);
        self
    }

    /// All parameters of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parameters.extend(other.parameters);
        self
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { "" } else { "&" };
            write!(f, "{separator}{}={}", encode(name), encode(value))?;
        }
        Ok(())
    }
}

/// Escapes the characters that have a meaning in values of tokens: `\ , |` (R4, 3.1.1.3.1).
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '|') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Undoes [`escape`].
pub fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    plain
}

/// Splits a value at each `separator` that is not escaped. The parts stay escaped.
pub fn split(value: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in value.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == separator {
            parts.push(&value[start..at]);
            start = at + character.len_utf8();
        }
    }
    parts.push(&value[start..]);
    parts
}

/// Percent-encodes all but the unreserved characters (RFC 3986, 2.3) and those that are safe and usual in queries.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Decodes `%XX` and `+` (as browsers and form bodies write a space).
///
/// # Errors
/// When a percent sign is broken or the result is not UTF-8.
pub fn decode(text: &str) -> Result<String, NotAQuery> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(NotAQuery);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| NotAQuery)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| NotAQuery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_id_survives_as_a_token() {
        let query = Query::identifier("https://matrix.org/event-id", "$a|b,c:x");
        assert_eq!(query.to_string(), "identifier=https://matrix.org/event-id%7C%24a%5C%7Cb%5C,c:x");
        let value = query.get("identifier").unwrap().to_owned();
        let parts: Vec<_> = split(&value, '|').into_iter().map(unescape).collect();
        assert_eq!(parts, ["https://matrix.org/event-id", "$a|b,c:x"]);
    }

    #[test]
    fn broken_percent_signs_are_refused() {
        assert!(Query::parse("a=%4").is_err() && Query::parse("a=%zz").is_err() && Query::parse("a=%ff").is_err());
    }

    proptest! {
        #[test]
        fn a_written_query_is_read_as_itself(parameters in prop::collection::vec((".+", ".*"), 0..5)) {
            let query = parameters.into_iter().fold(Query::new(), |query, (name, value)| query.with(name, value));
            prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
        }

        #[test]
        fn an_escaped_value_has_no_separators(value in ".*") {
            let escaped = escape(&value);
            prop_assert_eq!(split(&escaped, ',').len(), 1);
            prop_assert_eq!(unescape(&escaped), value);
        }
    }
}
