//! The names that a certificate may stand for, and the subtrees that the authority is confined to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints, SanType};
use serde::{Deserialize, Serialize};

/// The name that never leaves the machine (RFC 6761 section 6.3).
pub(super) const LOCALHOST: &str = "localhost";

/// A subject alternative name: a DNS name in lower case, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum HostName {
    /// A DNS name in the preferred syntax (RFC 1034 section 3.5), with no wildcard.
    Dns(String),
    /// An IP address.
    Address(IpAddr),
}

/// Why a text is not a [`HostName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name: {reason}")]
pub struct NameError {
    text: String,
    reason: &'static str,
}

// === impl HostName ===

impl HostName {
    /// The DNS name, where it is one.
    pub fn dns(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => Some(name),
            Self::Address(_) => None,
        }
    }

    /// The same name as rcgen wants it.
    ///
    /// # Errors
    /// Never for a parsed name: those are ASCII.
    pub(super) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match fault_in_dns_name(text) {
            None => Ok(Self::Dns(text.to_ascii_lowercase())),
            Some(reason) => Err(NameError { text: text.chars().take(300).collect(), reason }),
        }
    }
}

/// What is wrong with a DNS name, if anything is.
fn fault_in_dns_name(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    if !text.is_ascii() {
        return Some("write an international name in its ASCII form (xn--…)");
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Some("a part between dots is empty");
        }
        if label.len() > 63 {
            return Some("a part between dots is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("a part begins or ends with a hyphen");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Some("only letters, digits, hyphens and dots may stand in it");
        }
    }
    // Such a name could be taken for an address (WHATWG URL, "ends in a number").
    let last = text.rsplit('.').next().unwrap_or(text);
    last.bytes().all(|byte| byte.is_ascii_digit()).then_some("its last part is a number")
}

impl TryFrom<String> for HostName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The names that an authority may certify: DNS subtrees, and the loopback addresses.
///
/// It stands in the CA certificate as critical name constraints (RFC 5280 section 4.2.1.10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permitted(Vec<String>);

// === impl Permitted ===

impl Permitted {
    /// The subtrees with these roots. Duplicates are dropped, the order is kept.
    pub fn new(roots: impl IntoIterator<Item = String>) -> Self {
        let mut permitted = Self::default();
        for root in roots {
            if !permitted.0.contains(&root) {
                permitted.0.push(root);
            }
        }
        permitted
    }

    /// The roots of the subtrees.
    pub fn roots(&self) -> &[String] {
        &self.0
    }

    /// Whether the authority may certify this name.
    pub fn allows(&self, name: &HostName) -> bool {
        match name {
            HostName::Dns(name) => self.0.iter().any(|root| below(name, root)),
            HostName::Address(address) => address.is_loopback(),
        }
    }

    /// Whether these subtrees hold all that `other` holds.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|root| self.allows(&HostName::Dns(root.clone())))
    }

    /// These subtrees and those of `other`.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(&other.0).cloned())
    }

    pub(super) fn to_constraints(&self) -> NameConstraints {
        let dns = self.0.iter().cloned();
        let mut permitted_subtrees: Vec<_> = dns.map(GeneralSubtree::DnsName).collect();
        // A name form that is not constrained is permitted: naming the loopback networks refuses all others.
        permitted_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)));
        permitted_subtrees
            .push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)));
        NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() }
    }
}

impl fmt::Display for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Whether `name` is `root` with zero or more labels added to its left.
fn below(name: &str, root: &str) -> bool {
    name.strip_suffix(root).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The loopback names of a server on this machine: `localhost` and both loopback addresses.
pub fn loopback() -> [HostName; 3] {
    [
        HostName::Dns(LOCALHOST.to_owned()),
        HostName::Address(Ipv4Addr::LOCALHOST.into()),
        HostName::Address(Ipv6Addr::LOCALHOST.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permitted() -> Permitted {
        Permitted::new(["vvt".to_owned(), "zorg.example".to_owned(), "localhost".to_owned()])
    }

    #[test]
    fn subtrees_hold_their_root_and_what_is_below() {
        for name in ["vvt", "VVT", "a.b.vvt", "zorg.example", "x.zorg.example", "localhost", "vvt.localhost"] {
            assert!(permitted().allows(&name.parse().unwrap()), "{name}");
        }
        for name in ["127.0.0.1", "127.1.2.3", "::1"] {
            assert!(permitted().allows(&name.parse().unwrap()), "{name}");
        }
        for name in ["xvvt", "vvt.example", "example", "zorg", "10.0.0.1", "::2", "localhost.evil"] {
            assert!(!permitted().allows(&name.parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("a..b", "empty"),
            (".a", "empty"),
            ("-a", "hyphen"),
            ("*.vvt", "only letters"),
            ("../x", "empty"),
            ("a/b", "only letters"),
            ("a_b", "only letters"),
            ("1.2.3", "number"),
            ("zörg", "xn--"),
            ("vvt:8448", "only letters"),
        ] {
            let error = text.parse::<HostName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!(["a"; 127].join(".").parse::<HostName>().is_ok());
        assert!(["a"; 128].join(".").parse::<HostName>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_survives_writing_and_reading(text in "[a-zA-Z0-9.:*_-]{0,20}") {
            if let Ok(name) = text.parse::<HostName>() {
                prop_assert_eq!(name.to_string().parse::<HostName>().unwrap(), name);
            }
        }

        #[test]
        fn a_dns_name_is_a_safe_file_name(text in "\\PC{0,20}") {
            if let Ok(HostName::Dns(name)) = text.parse::<HostName>() {
                prop_assert!(!name.starts_with('.') && !name.contains('/') && !name.contains('\0'));
            }
        }
    }
}
