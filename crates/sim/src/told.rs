//! The observer again: what operators are told, and in which order a node acts.

use brain::invariants::Violation;
use brain::invariants::evidence::is_stated_truly;
use brain::invariants::takeover::{Granted, is_confirmed};
use brain::member::{Action, StartRole};
use model::report::{Evidence, InstancePhase, Report};
use model::{ReplicaId, ResourceName};

use crate::cluster::{RESOURCES, WITH, node_name, resource_number};
use crate::plan::MILLI;
use crate::world::World;

/// Restarts by the rules are fewer: a first one at once, then after pauses of a quarter of a second
/// and more; a new epoch or a restarted agent begins anew.
const STARTS_A_SECOND_MAX: u32 = 30;

impl World {
    /// S3, S4: what somebody is told is done is committed, and whoever speaks for all knows it.
    pub(crate) fn check_told(&mut self, via: usize, index: u64) {
        // Not `chains`: what is applied and compacted within one step leaves no chain to see.
        if index > self.judge.applied {
            let what = format!("{} calls entry {index} done, which nobody applied", node_name(via));
            return self.fail(Violation { rule: "S4", what });
        }
        self.judge.told = self.judge.told.max(index);
        (0..self.nodes.len()).for_each(|n| self.check_reader(n));
    }

    /// An operation takes effect between its request and its answer: an entry that somebody had
    /// applied before it was asked for is another's.
    pub(crate) fn check_order(&mut self, via: usize, index: u64, before: Option<u64>) {
        if before.is_some_and(|before| index <= before) {
            let name = node_name(via);
            let what = format!("{name} answers with entry {index}, applied before it was asked");
            self.fail(Violation { rule: "S3", what });
        }
    }

    /// Rule 5: whoever is granted a lease has heard its coordinator within the last one.
    pub(crate) fn check_grant(&mut self, from: usize, to: usize, replica: ReplicaId) {
        let Some(agent) = self.nodes[from].agent.as_ref().filter(|_| self.is_bounded()) else {
            return;
        };
        let timers = agent.pulse.timers();
        let lease = timers.lease.stretched(timers.drift_ppm);
        let silent = self.network.silence(from, to, self.now);
        self.require(is_confirmed(&Granted { to: replica, silent, lease }));
    }

    /// What a node states is true when it is stated: nothing acts under an epoch that it gives
    /// evidence of, and nothing at all where it is clear.
    pub(crate) fn check_report(&mut self, n: usize, report: &Report) {
        let node = &self.nodes[n];
        let acts = |e: &Evidence| {
            let inst = resource_number(&e.resource).and_then(|r| node.instances.get(&r));
            node.replica == Some(e.replica) && inst.is_some_and(|inst| inst.epoch == Some(e.epoch))
        };
        let wrong = report.evidence.iter().find(|e| acts(e)).cloned();
        let left = report.clear && node.instances.values().any(|inst| inst.epoch.is_some());
        self.require(is_stated_truly(report.replica, wrong.as_ref(), left));
    }

    /// Reads are linearizable: a node that would answer for all has applied what anybody was told.
    pub(crate) fn check_reader(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(agent) = node.agent.as_ref().filter(|_| !node.frozen && !node.agent_frozen) else {
            return;
        };
        let speaks = agent.kernel.speaks_for_all(&agent.pulse, node.clock.local(self.now));
        let (has, told) = (agent.kernel.state().index, self.judge.told);
        if speaks && self.is_bounded() {
            self.coverage.hit("read-for-all");
            if has < told {
                let what = format!("{} speaks for all at {has}, {told} was told", node_name(n));
                self.fail(Violation { rule: "S3", what });
            }
        }
    }

    /// L3: what fails, or cannot be done now, is not tried again and again without a pause.
    pub(crate) fn check_pace(&mut self, n: usize, r: usize) {
        let (since, count) = self.nodes[n].starts[r];
        let fresh = self.now - since > 1_000 * MILLI;
        let starts = if fresh { (self.now, 1) } else { (since, count + 1) };
        self.nodes[n].starts[r] = starts;
        if starts.1 > STARTS_A_SECOND_MAX {
            let what = format!("{} starts {} without a pause", node_name(n), RESOURCES[r]);
            self.fail(Violation { rule: "L3", what });
        }
    }

    /// What runs with another acts only beside it: it is promoted after it and demoted before it.
    /// Kills at once are another matter.
    pub(crate) fn check_company(&mut self, n: usize, action: &Action) {
        let (companion, lead) = WITH;
        let node = &self.nodes[n];
        let instance = |r: usize| node.instances.get(&r).filter(|inst| !inst.ending);
        let is = |resource: &ResourceName, r: usize| resource.as_str() == RESOURCES[r];
        let early = match action {
            Action::Promote { resource, .. }
            | Action::Start { resource, role: StartRole::Active(_), .. } => {
                let waits = [InstancePhase::Standby, InstancePhase::Promoting];
                is(resource, companion) && instance(lead).is_some_and(|i| waits.contains(&i.phase))
            }
            Action::Demote { resource, .. } => {
                is(resource, lead) && instance(companion).is_some_and(|i| i.epoch.is_some())
            }
            _ => false,
        };
        if early && self.is_bounded() {
            let what = format!("{action:?} on {} breaks what runs together", node_name(n));
            self.fail(Violation { rule: "with", what });
        }
    }
}
