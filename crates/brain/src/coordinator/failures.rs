//! What failures lead to: restart, then move, then quarantine; and no tour of the cluster.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use model::command::Command;
use model::report::{Failure, FailureReport};
use model::spec::RecoverySpec;
use model::state::{ClusterState, FailureKey, FailureRecord, ResourceState};
use model::{ClusterMs, NodeName, Reason, ReplicaId, ResourceName};

use super::{Coordinator, Decision, Now, Subject, names};
use crate::plant::Plant;

/// What a failure leads to on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequence {
    /// The node is left out until then.
    pub ban_until: Option<ClusterMs>,
    /// Nothing is started in its place before then.
    pub hold_until: Option<ClusterMs>,
    /// Which restart within the window this leads to, from 1.
    pub restart: u32,
    /// The pause before it, in milliseconds.
    pub pause_ms: u64,
}

/// The consequence of one more failure on a node, given those remembered.
#[must_use]
pub fn consequence(
    held: &ResourceState,
    recovery: &RecoverySpec,
    node: &NodeName,
    now: ClusterMs,
) -> Consequence {
    let recent = recent(held, recovery, now).filter(|f| f.node == *node).count() as u32;
    let restart = recent + 1;
    if restart > recovery.restarts {
        let ban_until = Some(now.plus(recovery.node_ban_ms));
        return Consequence { ban_until, hold_until: None, restart, pause_ms: 0 };
    }
    let pause_ms = match recent {
        0 => 0,
        n => (recovery.backoff_ms << (n - 1).min(20)).min(recovery.backoff_max_ms),
    };
    let hold_until = (pause_ms > 0).then(|| now.plus(pause_ms));
    Consequence { ban_until: None, hold_until, restart, pause_ms }
}

fn recent<'a>(
    held: &'a ResourceState,
    recovery: &RecoverySpec,
    now: ClusterMs,
) -> impl Iterator<Item = &'a FailureRecord> {
    let window = recovery.window_ms;
    held.failures.iter().filter(move |f| now.since(f.at) <= window)
}

/// Nodes on which a resource failed alike within the window, by its failures from the oldest on,
/// where they are as many as the poison limit: it would fail anywhere, so it stops moving.
#[must_use]
pub fn poisoned(
    failures: &[&FailureRecord],
    recovery: &RecoverySpec,
    now: ClusterMs,
) -> Option<(Vec<NodeName>, Failure)> {
    let last = failures.last()?;
    let alike: BTreeSet<&NodeName> = failures
        .iter()
        .filter(|f| now.since(f.at) <= recovery.window_ms)
        .filter(|f| f.failure.signature() == last.failure.signature())
        .map(|f| &f.node)
        .collect();
    let limit = recovery.poison_nodes as usize;
    (limit > 0 && alike.len() >= limit).then(|| (names(alike), last.failure.clone()))
}

impl Coordinator {
    /// Whether the log holds a failure already, or a later one of that boot.
    fn is_recorded(&self, held: &ResourceState, key: FailureKey) -> bool {
        let of_any_boot = self.plants.has(Plant::FailureOfEarlierBoot);
        held.failures.iter().any(|f| {
            f.key.replica == key.replica
                && (f.key.boot == key.boot || of_any_boot)
                && f.key.number >= key.number
        })
    }

    /// Records failures that reports bring and the log doesn't hold yet.
    pub(super) fn record_failures(
        &mut self,
        now: Now,
        state: &ClusterState,
        out: &mut Vec<Decision>,
    ) {
        let fresh: Vec<(ReplicaId, u64, FailureReport)> = self
            .reports
            .values()
            .flat_map(|(report, _)| {
                report.failures.iter().map(|f| (report.replica, report.boot, f.clone()))
            })
            .collect();
        for (replica, boot, failure) in fresh {
            let key = FailureKey { replica, boot, number: failure.number };
            self.record_failure(now, state, key, &failure, out);
        }
    }

    fn record_failure(
        &mut self,
        now: Now,
        state: &ClusterState,
        key: FailureKey,
        report: &FailureReport,
        out: &mut Vec<Decision>,
    ) {
        let Some(node) = state.node_of(key.replica) else { return };
        let Some(held) = state.resources.get(&report.resource) else { return };
        let Some(spec) = state.spec.resources.get(&report.resource) else { return };
        if self.is_recorded(held, key) || self.pending.contains(&Subject::Failure(key)) {
            return;
        }
        let result = consequence(held, &spec.recovery, node, self.cluster_now(now.moment));
        let reason = match result.ban_until {
            Some(_) => Reason::RestartsUsedUp { node: node.clone() },
            None => Reason::Restart {
                n: result.restart,
                of: spec.recovery.restarts,
                pause_ms: result.pause_ms,
            },
        };
        let command = Command::Failed {
            resource: report.resource.clone(),
            node: node.clone(),
            key,
            epoch: report.epoch,
            failure: report.failure.clone(),
            ban_until: result.ban_until,
            hold_until: result.hold_until,
        };
        self.propose(now, command, alloc::vec![reason], out);
    }

    /// The poison that keeps a resource where it was last: it has just failed there as it failed
    /// elsewhere. What ended by the loss of its node, or later than it failed, is none.
    pub(super) fn poison(
        &self,
        state: &ClusterState,
        resource: &ResourceName,
        last: &NodeName,
        now: ClusterMs,
    ) -> Option<(Vec<NodeName>, Failure)> {
        let spec = state.spec.resources.get(resource)?;
        let held = state.resources.get(resource)?;
        // A hot standby takes over before the failure is in the log.
        let unrecorded = self.unrecorded(state, resource, now);
        let failures: Vec<&FailureRecord> = held.failures.iter().chain(&unrecorded).collect();
        let placed = held.moves.back().map_or(ClusterMs(0), |placed| placed.at);
        let newest = failures.last()?;
        let here = newest.node == *last && newest.at >= placed;
        here.then(|| poisoned(&failures, &spec.recovery, now)).flatten()
    }

    /// Failures that reports bring and the log doesn't hold yet, as if they were in it.
    pub(super) fn unrecorded(
        &self,
        state: &ClusterState,
        resource: &ResourceName,
        now: ClusterMs,
    ) -> Vec<FailureRecord> {
        let Some(held) = state.resources.get(resource) else { return Vec::new() };
        let all = self.reports.values().flat_map(|(r, _)| r.failures.iter().map(move |f| (r, f)));
        all.filter(|(_, f)| f.resource == *resource)
            .filter_map(|(report, f)| {
                let (replica, boot) = (report.replica, report.boot);
                let key = FailureKey { replica, boot, number: f.number };
                if self.is_recorded(held, key) {
                    return None;
                }
                Some(FailureRecord {
                    key,
                    node: state.node_of(replica)?.clone(),
                    epoch: f.epoch,
                    failure: f.failure.clone(),
                    at: now,
                    wall_ms: 0,
                })
            })
            .collect()
    }

    /// Whether a failure of this resource is on its way through the log: what it leads to is not
    /// known before it is applied.
    pub(super) fn failure_pending(&self, resource: &ResourceName) -> bool {
        self.reports.values().any(|(report, _)| {
            report.failures.iter().any(|f| {
                f.resource == *resource
                    && self.pending.contains(&Subject::Failure(FailureKey {
                        replica: report.replica,
                        boot: report.boot,
                        number: f.number,
                    }))
            })
        })
    }
}
