//! Values in settings that are written as text: times, upstreams, hosts with ports.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A time span: `500ms`, `10s`, `2m`, `1h`. At most a day, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Period(Duration);

/// Where a homeserver listens: `http://127.0.0.1:8038` or `unix:/run/synapse/vvt.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Upstream {
    /// Plain HTTP over TCP.
    Tcp(HostPort),
    /// Plain HTTP over a Unix socket.
    Unix(PathBuf),
}

/// A host and a port: `vvt:8448`, `127.0.0.1:8038`, `[::1]:8038`. The host is lower-case and has no brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostPort {
    /// A DNS name or an IP address.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

// === impl Period ===

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Period {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The span.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a time such as 500ms, 10s, 2m or 1h, of a day at most");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(wrong()),
        };
        let span = Duration::from_millis(number.checked_mul(milliseconds).ok_or_else(wrong)?);
        if span.is_zero() || span > LONGEST { Err(wrong()) } else { Ok(Self(span)) }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 != 0 => write!(f, "{millis}ms"),
            millis => write!(f, "{}s", millis / 1000),
        }
    }
}

// === impl Upstream ===

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        text.strip_prefix("http://")
            .and_then(|rest| rest.strip_suffix('/').unwrap_or(rest).parse().ok())
            .map(Self::Tcp)
            .ok_or_else(|| format!("{text:?} is not an upstream such as http://127.0.0.1:8038 or unix:/run/x.sock"))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(place) => write!(f, "http://{place}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl HostPort ===

impl HostPort {
    /// The host as an IP address, where it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a host with a port such as vvt:8448, 127.0.0.1:8448 or [::1]:8448");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None => Some(host).filter(|host| is_name(host)).ok_or_else(wrong)?,
        };
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether a text can be a DNS name or an IPv4 address (RFC 1123 section 2.1; underscores occur in practice).
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| !label.is_empty() && label.len() <= 63)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

macro_rules! written_as_text {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}
written_as_text!(Period, Upstream, HostPort);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, span) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse::<Period>().unwrap().get(), Duration::from_millis(span));
        }
        for wrong in ["", "10", "s", "0s", "-1s", "25h", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_survive_writing_and_reading() {
        for text in ["http://127.0.0.1:8038", "http://[::1]:8038", "http://localhost:1", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        for text in ["500ms", "90s"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        for wrong in
            ["https://x:1", "http://x", "http://x:0", "http://x:1/path", "unix:x", "http://a b:1", "http://[x]:1"]
        {
            assert!(wrong.parse::<Upstream>().is_err(), "{wrong}");
        }
    }
}
