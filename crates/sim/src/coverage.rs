//! What runs have met: a check that never had anything to check proves nothing.

use std::collections::BTreeMap;

use model::state::EventKind;

use crate::fault::Fault;

/// Things that have to happen besides the faults.
pub const EVENTS: &[&str] = &[
    "election",
    "takeover",
    "takeover-by-evidence",
    "takeover-from-the-unready",
    "coordinator-change-under-load",
    "refused-stale-write",
    "lapse",
    "absence-honoured",
    "transfer",
    "rejoin",
    "snapshot-installed",
    "filtered-vote",
    "profile-change",
    "spec-change",
    "resource-taken-out-or-put-back",
    "switchover",
    "quarantine",
    "read-for-all",
    "forced-reboot",
    "launcher-lost",
    "launcher-busy",
    "stalled-disk",
    "asked-again",
    "stuck-recorded",
    "stop-of-another",
    "order-on-an-older-list",
    "action-start-active",
    "action-start-standby",
    "action-promote",
    "action-demote",
    "action-stop",
    "action-stop-at-once",
    "step-started",
    "step-promoted",
    "step-demoted",
    "step-stopped",
    "step-not-stopped",
    "step-burnt",
    "event-joined",
    "event-releasing",
    "event-failed",
    "event-cleared",
    "event-switchover-ended",
    "event-maintenance-began",
    "event-maintenance-ended",
    "event-drain-began",
    "event-drain-ended",
    "event-absent",
    "message-append",
    "message-append-reply",
    "message-vote-request",
    "message-vote-reply",
    "message-snapshot",
    "message-heartbeat",
    "message-heartbeat-reply",
    "message-stand-now",
    "message-pre-vote-request",
    "message-pre-vote-reply",
    "message-report",
    "message-operate",
    "message-answer",
    "message-want-absence",
    "guard-stopped-an-instance",
    "torn-tail",
    "bad-snapshot-got-around",
    "damage-found",
    "damage-harmless",
    "end-lost-in-silence",
    "safe-halt",
    "start-refused-by-disk",
    "start-refused-without-descriptors",
    "stopped-by-disk-error",
    "stopped-by-failed-sync",
    "stopped-by-full-disk",
    "stopped-without-descriptors",
    "learner-promoted",
    "member-node",
    "witness-led",
    "longer-than-the-lease",
    "duplicated",
    "reordered",
    "drift",
    "quorum-recovered",
    "survivor-behind",
    "lease-outlived-its-quorum",
    "old-majority-woke",
    "superseded",
    "waited-out",
];

/// Counters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Notes one occurrence.
    pub fn hit(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Notes so many.
    pub(crate) fn add_count(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    /// Notes a change of the control state.
    pub(crate) fn hit_event(&mut self, what: &EventKind) {
        self.hit(match what {
            EventKind::Joined { .. } => "event-joined",
            EventKind::Releasing { .. } => "event-releasing",
            EventKind::Failed { .. } => "event-failed",
            EventKind::Cleared { .. } => "event-cleared",
            EventKind::SwitchoverEnded { .. } => "event-switchover-ended",
            EventKind::MaintenanceBegan { .. } => "event-maintenance-began",
            EventKind::MaintenanceEnded { .. } => "event-maintenance-ended",
            EventKind::DrainBegan { .. } => "event-drain-began",
            EventKind::DrainEnded { .. } => "event-drain-ended",
            EventKind::Absent { .. } => "event-absent",
            _ => "event-other",
        });
    }

    /// How often it occurred.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Coverage) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// All counters that matter, zero included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let faults = Fault::ALL.iter().map(|fault| fault.name());
        faults.chain(EVENTS.iter().copied()).map(|what| (what, self.count(what)))
    }

    /// What never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.all().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}
