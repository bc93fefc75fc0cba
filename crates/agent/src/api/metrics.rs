//! Everything `/metrics` tells. The gauges are set by whoever knows; nothing here decides.
//!
//! Names begin with `backstay_`, seconds and bytes are the units, labels come from closed sets
//! or from the specification.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use journal::Durations;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::access::Route;
use super::vault_metrics::VaultMetrics;
use crate::net::Counters;

/// A gauge of seconds or shares.
pub type Float = Gauge<f64, AtomicU64>;
/// Labels: `peer` and `link`.
pub type PerLink = [(&'static str, String); 2];
/// Labels: `peer`.
pub type PerPeer = [(&'static str, String); 1];
/// Labels: `resource`.
pub type PerResource = [(&'static str, String); 1];
/// Labels: `role`, `coordinator` …
pub type PerRole = [(&'static str, &'static str); 1];

/// Buckets of durations, in seconds: 100 µs to 3.3 s.
fn durations() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.0001, 2.0, 16))
}

/// A histogram that somebody else records: what was recorded last is shown. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Recorded(Arc<Mutex<Durations>>);

impl Recorded {
    /// Takes over what was recorded.
    pub fn set(&self, durations: Durations) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = durations;
    }
}

impl EncodeMetric for Recorded {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let durations = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut buckets: Vec<(f64, u64)> =
            durations.buckets().map(|(us, count)| (us as f64 / 1e6, count)).collect();
        if let Some((bound, _)) = buckets.last_mut() {
            *bound = f64::INFINITY;
        }
        let sum = durations.sum_us() as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, durations.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// All metrics of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Everything that was refused or dropped.
    pub counters: Counters,
    /// 1 for this node's part in consensus (`coordinator`, `follower`, `candidate`), 0 for others.
    pub consensus_role: Family<PerRole, Gauge>,
    /// Raft's term.
    pub term: Gauge,
    /// Last committed entry.
    pub commit_index: Gauge,
    /// Last applied entry.
    pub applied_index: Gauge,
    /// What is left of this node's lease, in seconds; 0 without one.
    pub lease_remaining: Float,
    /// What is left of the coordinator's authority, in seconds; 0 where this node isn't it.
    pub authority_remaining: Float,
    /// What is left of this node's certificate, in seconds.
    pub certificate_remaining: Float,
    /// What is left of the authority's certificate, in seconds.
    pub issuer_remaining: Float,
    /// Heartbeats sent, per peer and link.
    pub heartbeats_sent: Family<PerLink, Counter>,
    /// Heartbeats received, per peer and link.
    pub heartbeats_received: Family<PerLink, Counter>,
    /// Whether there is a connection to a peer (1) or not (0).
    pub peer_connected: Family<PerPeer, Gauge>,
    /// How long fsync of the log took, in seconds.
    pub fsync: Recorded,
    /// How long from proposal to commit, in seconds.
    pub commit: Histogram,
    /// How late the event loop woke, in seconds.
    pub stall: Histogram,
    /// 1 where the active instance of a resource is on this node.
    pub resource_active: Family<PerResource, Gauge>,
    /// Resources that are quarantined.
    pub quarantined: Gauge,
    /// Unplanned moves that this node decided as coordinator.
    pub failovers: Counter,
    /// The vault's.
    pub vault: VaultMetrics,
    calls: Family<[(&'static str, String); 2], Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("backstay"),
            counters: Counters::default(),
            consensus_role: Family::default(),
            term: Gauge::default(),
            commit_index: Gauge::default(),
            applied_index: Gauge::default(),
            lease_remaining: Float::default(),
            authority_remaining: Float::default(),
            certificate_remaining: Float::default(),
            issuer_remaining: Float::default(),
            heartbeats_sent: Family::default(),
            heartbeats_received: Family::default(),
            peer_connected: Family::default(),
            fsync: Recorded::default(),
            commit: durations(),
            stall: durations(),
            resource_active: Family::default(),
            quarantined: Gauge::default(),
            failovers: Counter::default(),
            vault: VaultMetrics::default(),
            calls: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The text for a collector.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("metrics can be written to a string");
        text
    }

    /// Counts an answered call.
    pub fn call_answered(&self, route: Route, status: u16) {
        let labels = [("route", route.as_str().to_string()), ("status", status.to_string())];
        self.calls.get_or_create(&labels).inc();
    }

    fn register(&mut self) {
        self.counters.register(&mut self.registry);
        self.add("consensus_role", "This node's part in consensus", self.consensus_role.clone());
        self.add("term", "Raft's term", self.term.clone());
        self.add("commit_index", "Last committed entry", self.commit_index.clone());
        self.add("applied_index", "Last applied entry", self.applied_index.clone());
        self.seconds("lease_remaining", "Left of this node's lease", self.lease_remaining.clone());
        self.seconds(
            "authority_remaining",
            "Left of the coordinator's authority",
            self.authority_remaining.clone(),
        );
        self.seconds(
            "certificate_remaining",
            "Left of this node's certificate",
            self.certificate_remaining.clone(),
        );
        self.seconds(
            "issuer_remaining",
            "Left of the authority's certificate",
            self.issuer_remaining.clone(),
        );
        self.add("heartbeats_sent", "Heartbeats sent", self.heartbeats_sent.clone());
        self.add("heartbeats_received", "Heartbeats received", self.heartbeats_received.clone());
        self.add("peer_connected", "Whether a peer is connected", self.peer_connected.clone());
        self.seconds("fsync", "Time to make the log durable", self.fsync.clone());
        self.seconds("commit", "Time from proposal to commit", self.commit.clone());
        self.seconds("stall", "How late the event loop woke", self.stall.clone());
        self.add("resource_active", "Active instances here", self.resource_active.clone());
        self.add("quarantined", "Resources in quarantine", self.quarantined.clone());
        self.add("failovers", "Unplanned moves decided here", self.failovers.clone());
        self.vault.clone().register(&mut self.registry);
        self.add("calls", "Calls of the API answered", self.calls.clone());
    }

    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    fn seconds(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register_with_unit(name, help, Unit::Seconds, metric);
    }
}
