//! Failed attempts a minute by address: guessing is hopeless anyway, and asking in a loop should not be free.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures that one network may have in a [`WINDOW`].
const MOST: u32 = 10;
/// Most networks that are remembered. Beyond them nobody is kept out: tokens are too long to be guessed, and a crowd
/// of strangers must not keep the hosts from enrolling.
const NETWORKS: usize = 4096;
/// The time in which failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of the present window.
#[derive(Debug)]
pub(super) struct Throttle {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    failures: HashMap<IpAddr, u32>,
}

// === impl Throttle ===

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: Mutex::new(Window { began: now, failures: HashMap::new() }) }
    }

    /// Whether an address may try; else how long it has to wait.
    pub(super) fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.roll(now);
        let own = window.failures.get(&network(address)).copied().unwrap_or(0);
        if own < MOST {
            return Ok(());
        }
        Err(WINDOW.saturating_sub(now.saturating_duration_since(window.began)).max(Duration::from_secs(1)))
    }

    /// Counts a failure.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.roll(now);
        let network = network(address);
        if window.failures.len() < NETWORKS || window.failures.contains_key(&network) {
            *window.failures.entry(network).or_default() += 1;
        }
    }
}

impl Window {
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Self { began: now, failures: HashMap::new() };
        }
    }
}

/// The network that counts as one caller: an IPv6 host has at least 2⁶⁴ addresses.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_waits_after_its_failures_and_others_do_not() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let (one, neighbour, other) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        for _ in 0..MOST {
            assert!(throttle.check(one, start).is_ok());
            throttle.failed(one, start);
        }
        assert_eq!(throttle.check(neighbour, start + Duration::from_secs(20)), Err(Duration::from_secs(40)));
        assert!(throttle.check(other, start).is_ok());
        assert!(throttle.check(one, start + WINDOW).is_ok());
    }

    #[test]
    fn a_crowd_is_not_remembered_without_end_and_keeps_nobody_out() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        for host in 0..2 * NETWORKS as u32 {
            throttle.failed(IpAddr::from(host.to_be_bytes()), start);
        }
        assert_eq!(throttle.window.lock().unwrap().failures.len(), NETWORKS);
        assert!(throttle.check("192.0.2.1".parse().unwrap(), start).is_ok());
    }
}
