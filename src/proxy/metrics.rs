//! What the proxy counts, as Prometheus reads it.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use super::gate::Gate;

type Labels = Vec<(&'static str, String)>;

/// Counters that are found without a look-up where a request passes.
pub(crate) struct Metrics {
    /// By server, the last for requests that concern none; then by the first digit of the status.
    requests: Vec<[Counter; 6]>,
    seconds: Vec<Histogram>,
    upstream_errors: Vec<[Counter; 4]>,
    policy: Vec<Counter>,
    pub(crate) handshakes: Handshakes,
    pub(crate) tunnels: Tunnels,
    pub(crate) connections_refused: Counter,
    expiry: Family<Labels, Gauge>,
}

/// TLS handshakes by what came of them.
pub(crate) struct Handshakes {
    pub(crate) full: Counter,
    pub(crate) resumed: Counter,
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
}

/// Tunnels through the egress by what came of them.
pub(crate) struct Tunnels {
    pub(crate) opened: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
}

/// What a homeserver did wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UpstreamError {
    Connect,
    Closed,
    Slow,
    Malformed,
}

const UPSTREAM_ERRORS: [&str; 4] = ["connect", "closed", "slow", "malformed"];

/// Upper bounds of the latency's buckets, in seconds; the long poll is in the last ones.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0];

// === impl Metrics ===

impl Metrics {
    /// Makes and registers the metrics of these servers.
    pub(crate) fn new<'a>(servers: impl Iterator<Item = &'a str>, gate: Arc<Gate>) -> (Self, Registry) {
        let mut registry = Registry::with_prefix("federation_proxy");
        let requests = Family::<Labels, Counter>::default();
        let seconds = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let upstream_errors = Family::<Labels, Counter>::default();
        let policy = Family::<Labels, Counter>::default();
        let handshakes = Family::<Labels, Counter>::default();
        let tunnels = Family::<Labels, Counter>::default();
        let (connections_refused, expiry) = (Counter::default(), Family::default());
        registry.register("requests", "Requests by server and class of status", requests.clone());
        registry.register("request_seconds", "Time from a request's head to its end", seconds.clone());
        registry.register("upstream_errors", "What homeservers did wrong", upstream_errors.clone());
        registry.register("policy_refusals", "Requests that the policy refused", policy.clone());
        registry.register("handshakes", "TLS handshakes by result", handshakes.clone());
        registry.register("tunnels", "Tunnels through the egress by result", tunnels.clone());
        registry.register("connections_refused", "Connections over a bound", connections_refused.clone());
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a server expires, as Unix time",
            Family::clone(&expiry),
        );
        registry.register_collector(Box::new(Open(gate)));

        let names: Vec<String> = servers.map(str::to_owned).chain([String::new()]).collect();
        let with = |name: &str, key, value: &str| vec![("server", name.to_owned()), (key, value.to_owned())];
        let counter = |family: &Family<Labels, Counter>, labels: Labels| family.get_or_create(&labels).clone();
        let metrics = Self {
            requests: names
                .iter()
                .map(|name| std::array::from_fn(|class| counter(&requests, with(name, "code", &format!("{class}xx")))))
                .collect(),
            seconds: names.iter().map(|name| seconds.get_or_create(&vec![("server", name.clone())]).clone()).collect(),
            upstream_errors: names
                .iter()
                .map(|name| UPSTREAM_ERRORS.map(|kind| counter(&upstream_errors, with(name, "kind", kind))))
                .collect(),
            policy: names.iter().map(|name| counter(&policy, vec![("server", name.clone())])).collect(),
            handshakes: {
                let result = |result: &str| counter(&handshakes, vec![("result", result.to_owned())]);
                Handshakes {
                    full: result("full"),
                    resumed: result("resumed"),
                    failed: result("failed"),
                    refused: result("refused"),
                }
            },
            tunnels: {
                let result = |result: &str| counter(&tunnels, vec![("result", result.to_owned())]);
                Tunnels { opened: result("opened"), refused: result("refused"), failed: result("failed") }
            },
            connections_refused,
            expiry,
        };
        (metrics, registry)
    }

    /// Counts a request that ended; a status of 0 is a client that went away before one.
    pub(crate) fn request(&self, server: Option<usize>, status: u16, time: Duration) {
        let place = self.place(server);
        if let Some(counter) = self.requests.get(place).and_then(|classes| classes.get(usize::from(status / 100))) {
            counter.inc();
        }
        if let Some(seconds) = self.seconds.get(place) {
            seconds.observe(time.as_secs_f64());
        }
    }

    pub(crate) fn upstream_failed(&self, server: usize, error: UpstreamError) {
        if let Some(counter) = self.upstream_errors.get(server).and_then(|kinds| kinds.get(error as usize)) {
            counter.inc();
        }
    }

    pub(crate) fn refused_by_policy(&self, server: Option<usize>) {
        if let Some(counter) = self.policy.get(self.place(server)) {
            counter.inc();
        }
    }

    /// Notes when a server's certificate expires, as Unix time in seconds.
    pub(crate) fn expires(&self, server: &str, at: i64) {
        self.expiry.get_or_create(&vec![("server", server.to_owned())]).set(at);
    }

    fn place(&self, server: Option<usize>) -> usize {
        server.unwrap_or(self.requests.len().saturating_sub(1))
    }
}

/// What is open now, read when it is asked for.
struct Open(Arc<Gate>);

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

impl Collector for Open {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (connections, requests, tunnels) = self.0.open();
        for (name, help, count) in [
            ("connections_open", "Open connections from clients", connections),
            ("requests_open", "Requests in flight", requests),
            ("tunnels_open", "Open tunnels through the egress", tunnels),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            let place = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(place)?;
        }
        Ok(())
    }
}
