//! When a holder can never act again: rule 5 (its last grant has passed) and rule 6 (evidence).
//!
//! A node that is heard but has no launcher can't testify: nobody there speaks of instances. Where
//! its guard has seen that nothing is left, its grants end: at once where a hot standby waits
//! elsewhere, else after [`UNREADY`]. Where nobody has seen it, what the node holds counts as stuck
//! then, until evidence comes or a person confirms that it is off.
//!
//! A node that is heard and whose log stands still (its disk answers nothing any more, or its peer
//! connection is stalled) learns of no decision. It is given nothing; where it would have to learn
//! of one, or tells nothing either, its grants end (decision 0044).

use alloc::vec;
use alloc::vec::Vec;

use model::report::{Evidence, EvidenceGround, InstancePhase};
use model::state::{ClusterState, Holder};
use model::{Moment, Reason, ReplicaId, ResourceName, Span};

use super::{Coordinator, Group, Progress};
use crate::plant::Plant;
use crate::pulse::Pulse;

/// A supervisor starts a dead launcher or guard again within this time.
pub const UNREADY: Span = Span::from_ms(5_000);

impl Coordinator {
    /// Proof that the holder can't act under its epoch any more, with the reasons; `None` as long
    /// as there is none. A node whose last grant has passed is barred here, before anything else
    /// is decided.
    pub(super) fn holder_is_out(
        &mut self,
        now: Moment,
        state: &ClusterState,
        pulse: &mut Pulse,
        resource: &ResourceName,
        holder: &Holder,
    ) -> Option<(Evidence, Vec<Reason>)> {
        if let Some(evidence) = self.evidence(pulse, resource, holder) {
            let reason = Reason::Evidence {
                node: holder.node.clone(),
                epoch: evidence.epoch,
                ground: evidence.ground,
            };
            return Some((evidence, vec![reason]));
        }
        if holder.stuck
            && !pulse.plants().has(Plant::StuckForgotten)
            && !self.successor_is_clean(state, resource, holder)
        {
            return None;
        }
        if !pulse.bar_if_lapsed(now, holder.replica) {
            return None;
        }
        let age = pulse.hearing_of(holder.replica).map(|h| now.since(h.received));
        let replaced = state.replica_of(&holder.node) != Some(holder.replica);
        let node = holder.node.clone();
        let unready = self.unready_since.get(&holder.replica).map(|since| now.since(*since));
        let stood = self.stands_still(now, pulse, holder.replica);
        let is_heard = |age: Span| age < Span(pulse.timers().lease.0 / 2);
        let reason = match (age, unready, stood) {
            _ if holder.epoch.generation < state.generation => {
                Reason::EarlierGeneration { generation: state.generation }
            }
            _ if replaced => Reason::NodeReplaced { node },
            (Some(age), Some(unready), _) if is_heard(age) => {
                Reason::NotReady { node, for_ms: unready.as_ms() }
            }
            (Some(age), None, Some(stood)) if is_heard(age) => {
                Reason::LogStandsStill { node, for_ms: stood.as_ms() }
            }
            (Some(age), ..) => Reason::NodeLost { node, silent_ms: age.as_ms() },
            (None, ..) => Reason::LeaseLapsed { node },
        };
        let evidence = Evidence {
            resource: resource.clone(),
            epoch: holder.epoch,
            replica: holder.replica,
            guard: None,
            ground: EvidenceGround::Lapsed,
            age_us: age.map_or(0, |age| age.as_us()),
        };
        Some((evidence, vec![reason]))
    }

    /// Notes how far a replica's log is, where it is behind.
    pub(super) fn note_log(&mut self, now: Moment, group: &Group, replica: ReplicaId) {
        let behind = |p: &&Progress| p.matched < group.last_index;
        let Some(progress) = group.progress.get(&replica).filter(behind) else {
            self.standing.remove(&replica);
            return;
        };
        let (matched, since) = self.standing.entry(replica).or_insert((progress.matched, now));
        if *matched != progress.matched {
            (*matched, *since) = (progress.matched, now);
        }
    }

    /// For how long a replica's log has stood still, where that is longer than a slow disk takes:
    /// there is something new in the log with every barrier.
    pub(super) fn stands_still(
        &self,
        now: Moment,
        pulse: &Pulse,
        replica: ReplicaId,
    ) -> Option<Span> {
        let (_, since) = self.standing.get(&replica)?;
        let stood = now.since(*since);
        (stood > pulse.timers().barrier_limit.max(UNREADY)).then_some(stood)
    }

    /// Ends the grants of a node whose log stands still, where it would have to learn from it that
    /// it has been given something, or has to give it up; or where it tells nothing either, so that
    /// nobody knows whether what it was given still runs.
    pub(super) fn abandon_standing(&self, now: Moment, pulse: &mut Pulse, holder: &Holder) {
        let to_learn = !holder.active || holder.releasing;
        let told = self.reports.get(&holder.replica).map(|(_, at)| now.since(*at));
        let mute = told.is_none_or(|age| age > UNREADY);
        if (to_learn || mute) && self.stands_still(now, pulse, holder.replica).is_some() {
            pulse.bar(holder.replica);
        }
    }

    /// Ends the grants of a node that has no launcher or no guard: after `patience` where nothing
    /// is left there. True where it can't be said what became of the instances, for long.
    pub(super) fn abandon_unready(
        &self,
        now: Moment,
        pulse: &mut Pulse,
        holder: &Holder,
        patience: impl FnOnce() -> Span,
    ) -> bool {
        let Some(since) = self.unready_since.get(&holder.replica) else { return false };
        let unready = now.since(*since);
        let clear = self.report(holder.replica).is_some_and(|report| report.clear)
            || pulse.plants().has(Plant::StuckForgotten);
        if clear && unready >= patience() {
            pulse.bar(holder.replica);
        }
        !clear && unready >= UNREADY
    }

    /// What could not be stopped ended with the machine: its next incarnation, which sees what runs
    /// there, knows of no such instance.
    fn successor_is_clean(
        &self,
        state: &ClusterState,
        resource: &ResourceName,
        holder: &Holder,
    ) -> bool {
        let successor = state.replica_of(&holder.node).filter(|r| *r != holder.replica);
        let report = successor.and_then(|replica| self.report(replica));
        report.is_some_and(|report| {
            let has = |i: &model::report::InstanceStatus| {
                i.resource == *resource && (i.epoch.is_some() || i.phase == InstancePhase::Stuck)
            };
            report.ready && !report.instances.iter().any(has)
        })
    }

    fn evidence(
        &self,
        pulse: &Pulse,
        resource: &ResourceName,
        holder: &Holder,
    ) -> Option<Evidence> {
        let report = self.report(holder.replica)?;
        let of_any_epoch = pulse.plants().has(Plant::EvidenceOfOlderEpoch);
        let of_any_resource = pulse.plants().has(Plant::EvidenceOfAnotherResource);
        report
            .evidence
            .iter()
            .find(|e| {
                (e.resource == *resource || of_any_resource)
                    && e.replica == holder.replica
                    && (e.epoch == holder.epoch || of_any_epoch || of_any_resource)
            })
            .cloned()
    }

    /// Nodes that were barred and hold nothing any more may be granted leases again.
    pub(super) fn unbar_idle(&self, state: &ClusterState, pulse: &mut Pulse) {
        if pulse.plants().has(Plant::BarredForGood) {
            return;
        }
        if pulse.plants().has(Plant::UnbarredAtOnce) {
            return state.members.values().for_each(|member| pulse.unbar(member.replica));
        }
        // A pending command may name any node; none is unbarred before it is applied.
        if state.resources.keys().any(|name| self.is_pending(name)) {
            return;
        }
        let holders = || state.resources.values().filter_map(|held| held.holder.as_ref());
        for member in state.members.values() {
            if !holders().any(|holder| holder.replica == member.replica) {
                pulse.unbar(member.replica);
            }
        }
    }
}
