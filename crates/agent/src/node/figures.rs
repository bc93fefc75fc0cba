//! What `/metrics` tells of the threads: the log writer's syncs, how long entries take to be
//! committed, heartbeats per peer and link.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use journal::WriterStats;
use model::{Moment, ReplicaId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::shared::HeartbeatPeers;
use crate::api::Metrics;

/// Most entries whose commit is timed at once; further ones are not timed.
const TIMED_MAX: usize = 1_024;

/// The log writer's figures, for metrics.
#[derive(Clone)]
pub struct Figures(Arc<dyn Fn() -> WriterStats + Send + Sync>);

impl Figures {
    /// Figures of a running writer.
    #[must_use]
    pub fn new(reader: impl Fn() -> WriterStats + Send + Sync + 'static) -> Figures {
        Figures(Arc::new(reader))
    }

    /// Fills what comes from the writer.
    pub fn fill(&self, metrics: &Metrics) {
        metrics.fsync.set((self.0)().sync);
    }
}

/// Times entries from their way into the log to their commit, where this node coordinates.
#[derive(Debug, Default)]
pub(super) struct Commits(VecDeque<(u64, Moment)>);

impl Commits {
    /// Entries up to this index are on their way.
    pub(super) fn given(&mut self, last: u64, now: Moment) {
        if self.0.len() < TIMED_MAX {
            self.0.push_back((last, now));
        }
    }

    /// Everything up to this index is committed; nothing is timed where this node no longer leads.
    pub(super) fn committed(
        &mut self,
        index: u64,
        leads: bool,
        now: Moment,
        histogram: &Histogram,
    ) {
        if !leads {
            self.0.clear();
        }
        while self.0.front().is_some_and(|(last, _)| *last <= index) {
            if let Some((_, given)) = self.0.pop_front() {
                histogram.observe(now.since(given).as_ms_f64() / 1e3);
            }
        }
    }
}

/// Counters of heartbeats, looked up once per change of peers.
#[derive(Default)]
pub(super) struct HeartbeatCounters(BTreeMap<ReplicaId, Vec<Link>>);

struct Link {
    sent: Counter,
    received: Counter,
}

impl HeartbeatCounters {
    pub(super) fn new(metrics: &Metrics, peers: &HeartbeatPeers) -> HeartbeatCounters {
        let links = |name: &str, count: usize| {
            let link = |link: usize| {
                let labels = [("peer", name.to_owned()), ("link", link.to_string())];
                Link {
                    sent: metrics.heartbeats_sent.get_or_create_owned(&labels),
                    received: metrics.heartbeats_received.get_or_create_owned(&labels),
                }
            };
            (0..count).map(link).collect()
        };
        let peers = peers.peers.iter();
        let each = peers.map(|(id, peer)| (*id, links(peer.name.as_str(), peer.addresses.len())));
        HeartbeatCounters(each.collect())
    }

    pub(super) fn sent(&self, to: ReplicaId, link: usize) {
        if let Some(link) = self.0.get(&to).and_then(|links| links.get(link)) {
            link.sent.inc();
        }
    }

    pub(super) fn received(&self, from: ReplicaId, link: usize) {
        if let Some(link) = self.0.get(&from).and_then(|links| links.get(link)) {
            link.received.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn value(metrics: &Metrics, name: &str) -> f64 {
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().expect("a number")
    }

    #[test]
    fn the_writers_syncs_become_a_histogram() {
        let metrics = Metrics::default();
        let mut stats = WriterStats::default();
        stats.sync.record(Duration::from_micros(900));
        stats.sync.record(Duration::from_millis(3));
        stats.sync.record(Duration::from_secs(100));
        Figures::new(move || stats.clone()).fill(&metrics);
        assert_eq!(value(&metrics, "backstay_fsync_seconds_count"), 3.0);
        assert_eq!(value(&metrics, "backstay_fsync_seconds_sum"), 100.0039);
        assert_eq!(value(&metrics, "backstay_fsync_seconds_bucket{le=\"0.001023\"}"), 1.0);
        assert_eq!(value(&metrics, "backstay_fsync_seconds_bucket{le=\"0.004095\"}"), 2.0);
        assert_eq!(value(&metrics, "backstay_fsync_seconds_bucket{le=\"+Inf\"}"), 3.0);
    }

    #[test]
    fn commits_are_timed_on_the_coordinator_alone() {
        let metrics = Metrics::default();
        let at = |ms: u64| Moment(ms * 1_000_000);
        let mut commits = Commits::default();
        commits.given(5, at(10));
        commits.given(7, at(12));
        commits.committed(5, true, at(14), &metrics.commit);
        assert_eq!(value(&metrics, "backstay_commit_seconds_count"), 1.0);
        assert_eq!(value(&metrics, "backstay_commit_seconds_sum"), 0.004);
        commits.committed(9, false, at(20), &metrics.commit);
        assert_eq!(value(&metrics, "backstay_commit_seconds_count"), 1.0, "it leads no more");
        (0..=TIMED_MAX as u64).for_each(|index| commits.given(index, at(20)));
        commits.committed(u64::MAX, true, at(21), &metrics.commit);
        assert_eq!(value(&metrics, "backstay_commit_seconds_count"), 1.0 + TIMED_MAX as f64);
    }
}
