//! Bounds that all workers share: connections, requests, handshakes a second.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::settings::Limits;

/// Counts what is open, and refuses what would be too much.
pub struct Gate {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    tunnels: Arc<AtomicUsize>,
    by_address: Arc<Mutex<HashMap<IpAddr, Arc<Counts>>>>,
    handshakes: Rate,
    most: Limits,
}

/// What one address has open.
#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// An open connection; closing it is dropping this.
pub struct Connection {
    _place: Place,
    address: Option<(IpAddr, Arc<Counts>)>,
    by_address: Arc<Mutex<HashMap<IpAddr, Arc<Counts>>>>,
}

/// A request in flight, or a tunnel; it ends when this is dropped.
pub struct Permit {
    _places: (Place, Option<Place>),
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// That of the whole proxy: 503.
    Proxy,
    /// That of the client's address: 429.
    Address,
}

/// One of a bounded number of places.
enum Place {
    OfProxy(Arc<AtomicUsize>),
    OfAddress(Arc<Counts>),
}

// === impl Gate ===

impl Gate {
    /// A gate with the bounds of these settings.
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: Arc::default(),
            requests: Arc::default(),
            tunnels: Arc::default(),
            by_address: Arc::default(),
            handshakes: Rate::new(limits.handshakes_per_second),
            most: limits.clone(),
        }
    }

    /// Takes in a connection; `address` is `None` for a Unix socket.
    ///
    /// # Errors
    /// When there are too many.
    pub fn connection(&self, address: Option<IpAddr>) -> Result<Connection, Full> {
        let place = Place::take(&self.connections, self.most.connections).ok_or(Full::Proxy)?;
        let by_address = Arc::clone(&self.by_address);
        let Some(address) = address.map(group) else {
            return Ok(Connection { _place: place, address: None, by_address });
        };
        let counts = {
            let mut table = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = table.entry(address).or_default();
            if counts.connections.load(Relaxed) >= self.most.connections_per_address {
                return Err(Full::Address);
            }
            counts.connections.fetch_add(1, Relaxed);
            Arc::clone(counts)
        };
        Ok(Connection { _place: place, address: Some((address, counts)), by_address })
    }

    /// Takes in a request on a connection.
    ///
    /// # Errors
    /// When there are too many.
    pub fn request(&self, connection: &Connection) -> Result<Permit, Full> {
        let place = Place::take(&self.requests, self.most.requests).ok_or(Full::Proxy)?;
        let own = match &connection.address {
            None => None,
            Some((_, counts)) => Some(Place::take_of(counts, self.most.requests_per_address).ok_or(Full::Address)?),
        };
        Ok(Permit { _places: (place, own) })
    }

    /// Takes in a tunnel through the egress.
    ///
    /// # Errors
    /// When there are too many.
    pub fn tunnel(&self) -> Result<Permit, Full> {
        let place = Place::take(&self.tunnels, self.most.tunnels).ok_or(Full::Proxy)?;
        Ok(Permit { _places: (place, None) })
    }

    /// Whether another handshake may begin now.
    pub fn handshake(&self) -> bool {
        self.handshakes.admits(Instant::now())
    }

    /// How many connections, requests and tunnels are open.
    pub fn open(&self) -> (usize, usize, usize) {
        (self.connections.load(Relaxed), self.requests.load(Relaxed), self.tunnels.load(Relaxed))
    }
}

// === impl Place ===

impl Place {
    fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Relaxed);
        let place = Self::OfProxy(Arc::clone(count));
        (before < most).then_some(place)
    }

    fn take_of(counts: &Arc<Counts>, most: usize) -> Option<Self> {
        let before = counts.requests.fetch_add(1, Relaxed);
        let place = Self::OfAddress(Arc::clone(counts));
        (before < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Self::OfProxy(count) => count.fetch_sub(1, Relaxed),
            Self::OfAddress(counts) => counts.requests.fetch_sub(1, Relaxed),
        };
    }
}

// === impl Connection ===

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((address, counts)) = &self.address else { return };
        let mut table = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.connections.fetch_sub(1, Relaxed) == 1 {
            table.remove(address);
        }
    }
}

/// IPv6 clients own whole networks: those of one /64 count as one.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// A rate with a burst of one second (the generic cell rate algorithm: one number, the time at which all that was
/// admitted is paid for).
struct Rate {
    start: Instant,
    /// Nanoseconds that one costs.
    cost: u64,
    paid_until: AtomicU64,
}

// === impl Rate ===

const SECOND: u64 = 1_000_000_000;

impl Rate {
    fn new(per_second: u32) -> Self {
        Self { start: Instant::now(), cost: SECOND / u64::from(per_second.max(1)), paid_until: AtomicU64::new(0) }
    }

    fn admits(&self, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        self.paid_until
            .fetch_update(Relaxed, Relaxed, |paid_until| {
                let next = paid_until.max(now) + self.cost;
                (next <= now + SECOND.max(self.cost)).then_some(next)
            })
            .is_ok()
    }
}

/// How long a client should wait before it tries again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut Limits)) -> Gate {
        let mut limits = Limits::default();
        change(&mut limits);
        Gate::new(&limits)
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address() {
        let gate = gate(|limits| (limits.connections, limits.connections_per_address) = (3, 2));
        let address = |text: &str| Some(text.parse().unwrap());
        let first = gate.connection(address("2001:db8::1")).unwrap();
        let _second = gate.connection(address("2001:db8::ffff:2")).unwrap();
        assert_eq!(gate.connection(address("2001:db8::3")).err(), Some(Full::Address));
        let _third = gate.connection(address("::ffff:127.0.0.1")).unwrap();
        assert_eq!(gate.connection(None).err(), Some(Full::Proxy));
        drop(first);
        assert!(gate.connection(address("2001:db8::3")).is_ok());
        assert_eq!(gate.open().0, 2);
    }

    #[test]
    fn requests_are_bounded_and_give_their_places_back() {
        let gate = gate(|limits| (limits.requests, limits.requests_per_address) = (2, 1));
        let connection = gate.connection(Some(Ipv6Addr::LOCALHOST.into())).unwrap();
        let other = gate.connection(None).unwrap();
        for _ in 0..3 {
            let _permit = gate.request(&connection).unwrap();
            assert_eq!(gate.request(&connection).err(), Some(Full::Address));
            let _other = gate.request(&other).unwrap();
            assert_eq!(gate.request(&other).err(), Some(Full::Proxy));
        }
        assert_eq!(gate.open(), (2, 0, 0));
        drop((connection, other));
        assert!(gate.by_address.lock().unwrap().is_empty());
    }

    #[test]
    fn a_rate_admits_a_burst_and_then_its_pace() {
        let rate = Rate::new(10);
        let admitted = |at: u64| {
            let now = rate.start + Duration::from_millis(at);
            (0..100).filter(|_| rate.admits(now)).count()
        };
        assert_eq!((admitted(0), admitted(99), admitted(500), admitted(10_000)), (10, 0, 5, 10));
    }
}
