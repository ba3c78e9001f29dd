//! Numbers in events: canonical JSON knows integers only (Matrix specification, appendix "Canonical JSON").
//!
//! A homeserver refuses an event with `1.0` in it (room versions 6 and later, `M_BAD_JSON`). Such a number is written
//! as `1`; one that is no integer is refused here, where the mistake can be named.

use serde_json::{Number, Value};

use super::Error;

/// The largest integer that an event may hold: 2⁵³ − 1. The smallest is its negative.
const LARGEST: i64 = (1 << 53) - 1;

/// The same content with integral numbers written as integers.
///
/// # Errors
/// [`Error::Request`] when a number is not an integer, or too large.
pub fn content(value: &Value) -> Result<Value, Error> {
    Ok(match value {
        Value::Number(number) => Value::Number(integer(number)?),
        Value::Array(items) => Value::Array(items.iter().map(content).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| Ok((key.clone(), content(field)?)));
            Value::Object(fields.collect::<Result<_, Error>>()?)
        }
        other => other.clone(),
    })
}

fn integer(number: &Number) -> Result<Number, Error> {
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= LARGEST as f64)?;
        Some(float as i64)
    });
    match whole {
        Some(whole) if whole.unsigned_abs() <= LARGEST.unsigned_abs() => Ok(whole.into()),
        _ => Err(Error::Request(format!("a Matrix event cannot hold the number {number}; write it as a text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<String, Error> {
        content(&serde_json::from_str(text).unwrap()).map(|value| value.to_string())
    }

    #[test]
    fn integral_numbers_become_integers() {
        let given = r#"{"version":1.0,"list":[2e3,-0.0,9007199254740991],"text":"1.0","none":null}"#;
        assert_eq!(of(given).unwrap(), r#"{"version":1,"list":[2000,0,9007199254740991],"text":"1.0","none":null}"#);
    }

    #[test]
    fn other_numbers_are_named() {
        for number in ["1.5", "1e300", "9007199254740992", "-9007199254740992", "18446744073709551615", "1e999"] {
            let error = of(&format!("[{number}]")).unwrap_err().to_string();
            assert!(error.contains(number) || error.contains("cannot hold"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn integers_stay_as_they_are(number in -LARGEST..=LARGEST) {
            prop_assert_eq!(of(&number.to_string()).unwrap(), number.to_string());
        }
    }
}
