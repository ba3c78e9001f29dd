//! Serial numbers of certificates.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::service::failure::{Failure, Status};

/// Bytes of a serial number that this authority makes: 126 random bits.
const LENGTH: usize = 16;
/// Longest serial number that a certificate may have (RFC 5280 section 4.1.2.2).
const LONGEST: usize = 20;

/// A serial number: a positive integer, big-endian, with no leading zero byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Serial(Vec<u8>);

// === impl Serial ===

impl Serial {
    /// A new random one of 16 bytes, so that the next cannot be guessed and none comes twice.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, Failure> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Failure::new(Status::Unavailable, "the system's random number generator gave nothing"))?;
        // Positive (the first bit is the sign) and of one length.
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Ok(Self(bytes.to_vec()))
    }

    /// The number as a certificate holds it; leading zeros are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Self(bytes[start..].to_vec())
    }

    /// Its bytes, the highest first.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = String;

    /// Hexadecimal digits in either case, also with colons between the bytes as openssl prints them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|character| *character != ':').collect();
        let wrong = || format!("{text:?} is not a serial number in hexadecimal digits");
        if digits.is_empty() || digits.len() > 2 * LONGEST || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let digits = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
        let bytes: Result<Vec<_>, _> =
            (0..digits.len()).step_by(2).map(|start| u8::from_str_radix(&digits[start..start + 2], 16)).collect();
        bytes.map(|bytes| Self::from_bytes(&bytes)).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Serial {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_serial_is_positive_and_of_sixteen_bytes() {
        for _ in 0..200 {
            let serial = Serial::random().unwrap();
            assert_eq!(serial.bytes().len(), LENGTH);
            assert!((0x40..0x80).contains(&serial.bytes()[0]));
        }
    }

    #[test]
    fn a_serial_is_read_in_every_spelling() {
        let serial: Serial = "0a01ff".parse().unwrap();
        for text in ["0A:01:FF", "a01ff", "000a01ff"] {
            assert_eq!(text.parse::<Serial>().unwrap(), serial, "{text}");
        }
        assert_eq!(serial.to_string(), "0a01ff");
        for text in ["", "xyz", "é1", &"a".repeat(41)] {
            assert!(text.parse::<Serial>().is_err(), "{text}");
        }
    }
}
