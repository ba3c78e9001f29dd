//! What the embedded endpoint counts, as Prometheus reads it. No label holds anything of a resource but its type.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{definitions::R4, query::Query, server::FhirServer};

type Names = Vec<(&'static str, &'static str)>;
type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the buckets for durations, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Counters of one endpoint; copies count together.
#[derive(Clone, Debug)]
pub struct Numbers(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    requests: Family<Labels, Counter>,
    seconds: Family<Names, Histogram>,
    hooks: Family<Names, Counter>,
    resources: Family<Names, Gauge<i64, AtomicI64>>,
    bytes: Gauge<i64, AtomicI64>,
}

// === impl Numbers ===

impl Default for Numbers {
    fn default() -> Self {
        Self(Arc::new(Counters {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            hooks: Family::default(),
            resources: Family::default(),
            bytes: Gauge::default(),
        }))
    }
}

impl Numbers {
    /// Shows the numbers in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let counters = &self.0;
        registry.register(
            "fhir_requests",
            "Requests to the embedded FHIR endpoint by interaction, type and status",
            counters.requests.clone(),
        );
        registry.register_with_unit(
            "fhir_request_duration",
            "Time until a request to the embedded FHIR endpoint is answered, by interaction",
            Unit::Seconds,
            counters.seconds.clone(),
        );
        registry.register("fhir_hooks", "Calls of subscribers' rest-hooks by outcome", counters.hooks.clone());
        registry.register("fhir_resources", "Resources that are kept, by type", counters.resources.clone());
        registry.register_with_unit(
            "fhir_store_size",
            "Size of the embedded repository's files",
            Unit::Bytes,
            counters.bytes.clone(),
        );
    }

    /// Counts a request. An interaction that there is none of, and no type, are empty.
    pub(super) fn answered(&self, interaction: &'static str, kind: &'static str, status: u16, time: Duration) {
        let labels =
            vec![("interaction", interaction.to_owned()), ("type", kind.to_owned()), ("status", status.to_string())];
        self.0.requests.get_or_create(&labels).inc();
        self.0.seconds.get_or_create(&vec![("interaction", interaction)]).observe(time.as_secs_f64());
    }

    /// Counts a call of a hook.
    pub(super) fn called(&self, delivered: bool) {
        let outcome = if delivered { "delivered" } else { "failed" };
        self.0.hooks.get_or_create(&vec![("outcome", outcome)]).inc();
    }

    /// Counts what is kept: resources, and the bytes of a database file with those beside it, where there is one.
    pub async fn measure(&self, server: &dyn FhirServer, file: Option<&Path>) {
        for kind in R4.stored() {
            let query = Query::new().with("_summary", "count");
            let Ok(page) = server.search(kind, &query).await else { continue };
            let count = i64::try_from(page.total.unwrap_or_default()).unwrap_or(i64::MAX);
            self.0.resources.get_or_create(&vec![("type", kind.as_str())]).set(count);
        }
        let Some(file) = file else { return };
        let sizes = ["", "-wal", "-shm"].map(|ending| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            std::fs::metadata(name).map_or(0, |found| found.len())
        });
        self.0.bytes.set(i64::try_from(sizes.iter().sum::<u64>()).unwrap_or(i64::MAX));
    }
}
