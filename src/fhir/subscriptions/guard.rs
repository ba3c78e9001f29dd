//! Where a hook may be called: a subscription must not make this server knock at doors inside the house.

use std::net::{IpAddr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use serde::{Deserialize, Serialize};

/// Which addresses hooks may be called at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Hooks on private, link-local and loopback addresses, and over plain HTTP, are called too.
    pub allow_private: bool,
    /// Where this is not empty, hooks are called on these hosts only, wherever they are.
    pub hosts: Vec<String>,
}

/// A name resolver that gives only addresses that may be called. The check is at the moment of connecting, so a name
/// that first says one thing and then another gains nothing.
#[derive(Debug)]
pub(super) struct GuardedResolver(pub(super) Guard);

// === impl Guard ===

impl Guard {
    /// Whether an endpoint may be called; else why not.
    pub(super) fn check(&self, endpoint: &str) -> Result<Url, &'static str> {
        let url = Url::parse(endpoint).map_err(|_| "the endpoint is not an address")?;
        let host = url.host_str().ok_or("the endpoint has no host")?;
        if !self.hosts.is_empty() && !self.trusts(host) {
            return Err("the endpoint's host is not one of those that are allowed");
        }
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private || self.trusts(host) => {}
            "http" => return Err("the endpoint must be https"),
            _ => return Err("the endpoint must be https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the endpoint must not hold a password: use a header");
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if address.is_ok_and(|address| !self.allows(host, address)) {
            return Err("the endpoint is a private address");
        }
        Ok(url)
    }

    fn trusts(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn allows(&self, host: &str, address: IpAddr) -> bool {
        self.allow_private || self.trusts(host) || is_public(address)
    }
}

/// Whether an address is one of the public internet (RFC 6890 and its registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, third, _] = v4.octets();
            let shared = first == 100 && (second & 0xc0) == 64;
            let benchmark = first == 198 && (second & 0xfe) == 18;
            let protocol = first == 192 && second == 0 && third == 0;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || shared
                || benchmark
                || protocol
                || first == 0
                || first >= 240)
        }
        IpAddr::V6(v6) => {
            // An IPv4 address in one of its IPv6 forms is what it is in IPv4: mapped, NAT64, 6to4.
            let parts = v6.segments();
            let inner = match parts {
                [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
                [0x2002, high, low, ..] => Some((high, low)),
                _ => None,
            };
            if let Some((high, low)) = inner {
                return is_public(IpAddr::V4(((u32::from(high) << 16) | u32::from(low)).into()));
            }
            let documentation = parts[0] == 0x2001 && parts[1] == 0xdb8;
            // Global unicast is 2000::/3; all else is special.
            (parts[0] & 0xe000) == 0x2000 && !documentation
        }
    }
}

// === impl GuardedResolver ===

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| guard.allows(&host, address.ip())).collect();
            if allowed.is_empty() {
                return Err("the endpoint's name leads to private addresses only".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_called_unless_allowed() {
        let strict = Guard::default();
        for endpoint in ["https://example.nl/hook", "https://8.8.8.8/hook", "https://[2a00::1]/hook"] {
            assert!(strict.check(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://example.nl/hook",
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[2002:a00:1::]/",
            "https://0.0.0.0/",
            "https://100.64.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://u:p@example.nl/",
            "ftp://example.nl/",
            "hook",
            "file:///etc/passwd",
        ] {
            assert!(strict.check(endpoint).is_err(), "{endpoint}");
        }
        let open = Guard { allow_private: true, hosts: Vec::new() };
        assert!(open.check("http://127.0.0.1:8/hook").is_ok());
        let listed = Guard { allow_private: false, hosts: vec!["hooks.zorg.lan".into()] };
        assert!(listed.check("http://hooks.zorg.lan/x").is_ok() && listed.check("https://example.nl/").is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved() {
        let resolve = |guard: Guard| GuardedResolver(guard).resolve("localhost".parse().unwrap());
        assert!(resolve(Guard::default()).await.is_err());
        assert!(resolve(Guard { allow_private: true, hosts: Vec::new() }).await.is_ok());
    }
}
