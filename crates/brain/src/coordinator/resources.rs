//! What each resource needs next: one decision per resource and pass.
//!
//! Order matters for safety: a holder keeps its place until it is proven out; only then is the
//! next one assigned, under a new epoch, with the evidence in the entry.

use alloc::vec;
use alloc::vec::Vec;

use model::command::Command;
use model::report::{Evidence, InstancePhase};
use model::spec::{Failback, ResourceSpec, Standby};
use model::state::{ClusterState, EventKind, Holder, ResourceState};
use model::{Moment, NodeName, Reason, ResourceName, Span};

use super::eviction::UNREADY;
use super::failures::consequence;
use super::{Coordinator, Decision, Now};
use crate::cluster;
use crate::placement::{self, NodeHealth, View, Wish};
use crate::plant::Plant;
use crate::pulse::Pulse;

/// A switchover whose target doesn't get ready is given up after this long, in milliseconds.
pub const SWITCHOVER_MS: u64 = 30_000;

/// One resource, as a pass sees it.
struct Case<'a> {
    name: &'a ResourceName,
    spec: Option<&'a ResourceSpec>,
    held: &'a ResourceState,
    state: &'a ClusterState,
    view: &'a View,
}

impl Coordinator {
    pub(super) fn place(
        &mut self,
        now: Now,
        state: &ClusterState,
        pulse: &mut Pulse,
        view: &View,
        out: &mut Vec<Decision>,
    ) {
        for (name, held) in &state.resources {
            if self.is_pending(name) {
                continue;
            }
            let case = Case { name, spec: state.spec.resources.get(name), held, state, view };
            match &held.holder {
                Some(holder) => self.held(now, pulse, &case, holder, out),
                None => self.vacant(now, pulse, &case, None, Vec::new(), out),
            }
        }
    }

    fn held(
        &mut self,
        now: Now,
        pulse: &mut Pulse,
        case: &Case<'_>,
        holder: &Holder,
        out: &mut Vec<Decision>,
    ) {
        let maintained = case.state.in_maintenance(case.name);
        if maintained && !holder.releasing {
            return self.note_active(now, case, holder, out);
        }
        let (name, moment) = (case.name, now.moment);
        if let Some((evidence, reasons)) =
            self.holder_is_out(moment, case.state, pulse, name, holder)
        {
            self.trace_fenced(moment, &evidence);
            let causes = self.causes(now, case.state, case.name, holder, &evidence);
            let reasons = causes.into_iter().chain(reasons).collect();
            return self.vacant(now, pulse, case, Some(evidence), reasons, out);
        }
        let patience = || if self.has_spare(case, holder) { Span::ZERO } else { UNREADY };
        let unknown = self.abandon_unready(moment, pulse, holder, patience);
        self.abandon_standing(moment, pulse, holder);
        if self.note_stuck(now, case, holder, unknown, out) || holder.releasing {
            return;
        }
        if let Some(reasons) = self.must_release(case, holder) {
            self.release_companions(now, case, &reasons, out);
            let command = Command::Release { resource: name.clone(), epoch: holder.epoch };
            return self.propose(now, command, reasons, out);
        }
        self.note_active(now, case, holder, out);
        self.failback(now, case, holder, out);
    }

    /// Whether a hot standby is ready on another node.
    fn has_spare(&self, case: &Case<'_>, holder: &Holder) -> bool {
        case.spec.is_some_and(|spec| {
            spec.standby == Standby::Hot
                && case.view.keys().any(|n| *n != holder.node && self.target_ready(case, spec, n))
        })
    }

    /// The holder said that its instance can't be stopped, or nobody there can say what became of
    /// it: recorded before anything else about it, so that no coordinator takes the end of its
    /// lease for the end of the instance.
    fn note_stuck(
        &mut self,
        now: Now,
        case: &Case<'_>,
        holder: &Holder,
        unknown: bool,
        out: &mut Vec<Decision>,
    ) -> bool {
        let said = self.report(holder.replica).is_some_and(|report| {
            report.instances.iter().any(|i| {
                i.resource == *case.name
                    && i.phase == InstancePhase::Stuck
                    && i.epoch == Some(holder.epoch)
            })
        });
        if !(said || unknown) || holder.stuck {
            return false;
        }
        let command = Command::Stuck { resource: case.name.clone(), epoch: holder.epoch };
        self.propose(now, command, Vec::new(), out);
        true
    }

    /// The holder said that it is active: recorded once, with the measured phases.
    fn note_active(&mut self, now: Now, case: &Case<'_>, holder: &Holder, out: &mut Vec<Decision>) {
        if holder.active || self.is_pending(case.name) {
            return;
        }
        let active = self.report(holder.replica).is_some_and(|report| {
            report.instances.iter().any(|i| {
                i.resource == *case.name
                    && i.phase == InstancePhase::Active
                    && i.epoch == Some(holder.epoch)
            })
        });
        if active {
            let timing = self.timing(now.moment, case.name);
            let (resource, epoch) = (case.name.clone(), holder.epoch);
            self.propose(now, Command::Active { resource, epoch, timing }, Vec::new(), out);
        }
    }

    /// Why the holder has to give up although it could go on; `None` where it needn't.
    fn must_release(&self, case: &Case<'_>, holder: &Holder) -> Option<Vec<Reason>> {
        let state = case.state;
        let Some(spec) = case.spec else {
            return Some(vec![Reason::SpecChanged { version: state.spec_version }]);
        };
        if case.held.quarantine.is_some() {
            return Some(case.held.quarantine.as_ref()?.reasons.clone());
        }
        if case.held.changed_version > holder.spec_version {
            return Some(vec![Reason::SpecChanged { version: case.held.changed_version }]);
        }
        if let Some(other) = &spec.with {
            let there = state.resources.get(other).and_then(|held| held.holder.as_ref());
            if there.is_none_or(|h| h.node != holder.node || h.releasing) {
                let node = there.map_or(holder.node.clone(), |h| h.node.clone());
                return Some(vec![Reason::With { resource: other.clone(), node }]);
            }
        }
        if let Some(wanted) = &case.held.switchover
            && wanted.to != holder.node
            && self.target_ready(case, spec, &wanted.to)
        {
            return Some(self.switchover_reasons(case, &wanted.to));
        }
        let node = holder.node.clone();
        let draining = state.members.get(&node).is_some_and(|m| m.drain_until.is_some());
        let allowed = spec.nodes.is_empty() || spec.nodes.contains(&node);
        let gone = !state.spec.nodes.contains_key(&node);
        if draining || !allowed || gone {
            // It goes on where it is as long as nowhere else would take it.
            let wish = Wish { target: None, avoid: Some(node.clone()) };
            let (target, mut why) = placement::choose(state, case.view, case.name, &wish);
            let ready = target.is_some_and(|t| t != node && self.target_ready(case, spec, &t));
            if ready {
                let first =
                    if draining { Reason::Draining { node } } else { Reason::NotAllowed { node } };
                why.insert(0, first);
                return Some(why);
            }
        }
        None
    }

    /// Why the planned move was ordered, from the record of the order.
    fn switchover_reasons(&self, case: &Case<'_>, to: &NodeName) -> Vec<Reason> {
        let ordered = case.state.history.iter().rev().find(|event| {
            matches!(&event.what, EventKind::SwitchoverBegan { resource, to: t }
                if resource == case.name && t == to)
        });
        ordered.map_or_else(Vec::new, |event| event.reasons.clone())
    }

    fn target_ready(&self, case: &Case<'_>, spec: &ResourceSpec, to: &NodeName) -> bool {
        let seen = case.view.get(to);
        let up = seen
            .is_some_and(|s| s.ready && s.leased && s.caught_up && s.health == NodeHealth::Healthy);
        let hot = spec.standby == Standby::Hot;
        up && (!hot || seen.is_some_and(|s| s.standby_ready(case.name)))
            && placement::may_run(case.state, case.name, to).is_ok()
    }

    /// What runs `with` this one is given up in the same breath; the node that holds both stops
    /// it first (decision 0043).
    fn release_companions(
        &mut self,
        now: Now,
        case: &Case<'_>,
        causes: &[Reason],
        out: &mut Vec<Decision>,
    ) {
        for name in placement::companions(&case.state.spec, case.name) {
            let holder = case.state.resources.get(name).and_then(|held| held.holder.as_ref());
            let Some(holder) = holder.filter(|h| !h.releasing && !self.is_pending(name)) else {
                continue;
            };
            let (resource, node) = (case.name.clone(), holder.node.clone());
            let command = Command::Release { resource: name.clone(), epoch: holder.epoch };
            let mut reasons = vec![Reason::With { resource, node }];
            reasons.extend(causes.iter().filter(|reason| cluster::is_order(reason)).cloned());
            self.propose(now, command, reasons, out);
        }
    }

    /// No one can act: assign anew, where someone can take it; else record the end.
    fn vacant(
        &mut self,
        now: Now,
        pulse: &Pulse,
        case: &Case<'_>,
        evidence: Option<Evidence>,
        mut reasons: Vec<Reason>,
        out: &mut Vec<Decision>,
    ) {
        // What a failure leads to is decided once it is in the log; its entry is on its way in
        // front of this one, so this costs no time, only a second look.
        let waiting = self.failure_pending(case.name);
        let careless = pulse.plants().has(Plant::PoisonOverOrders);
        match self.next_place(now, case, waiting, careless) {
            Ok((node, why)) => {
                if let Some(wanted) = self.missed(case, &node).filter(|_| !careless) {
                    let resource = case.name.clone();
                    let why = why.into_iter().chain(wanted).collect();
                    return self.propose(now, Command::EndSwitchover { resource }, why, out);
                }
                reasons.extend(why);
                if evidence.is_none() && case.held.epoch.counter == 0 {
                    reasons.insert(0, Reason::FirstPlacement);
                }
                let ordered = self.switchover_to(case, &node);
                reasons.extend(
                    ordered.into_iter().filter(|r| !reasons.contains(r)).collect::<Vec<_>>(),
                );
                let Some(member) = case.state.members.get(&node) else { return };
                let previous = case.held.epoch;
                let epoch = self.next_epoch(pulse, case.state, previous);
                let (resource, replica) = (case.name.clone(), member.replica);
                let command =
                    Command::Assign { resource, node, replica, previous, epoch, evidence };
                self.propose(now, command, reasons, out);
            }
            Err(Next::Quarantine(why)) => {
                self.propose(now, Command::Quarantine { resource: case.name.clone() }, why, out);
            }
            Err(Next::Wait(why)) => {
                let Some(holder) = &case.held.holder else { return };
                if !waiting {
                    reasons.extend(why);
                    let (resource, epoch) = (case.name.clone(), holder.epoch);
                    let command = Command::Vacate { resource, epoch, evidence };
                    self.propose(now, command, reasons, out);
                }
            }
        }
    }

    /// It was given up for a planned move that would now end elsewhere: the plan ends first, or it
    /// would be given up again and again.
    fn missed(&self, case: &Case<'_>, node: &NodeName) -> Option<Vec<Reason>> {
        let wanted = case.held.switchover.as_ref().filter(|wanted| wanted.to != *node)?;
        let holder = case.held.holder.as_ref().filter(|holder| holder.releasing)?;
        (wanted.to != holder.node).then(|| self.switchover_reasons(case, &wanted.to))
    }

    fn switchover_to(&self, case: &Case<'_>, node: &NodeName) -> Vec<Reason> {
        match &case.held.switchover {
            Some(wanted) if wanted.to == *node => self.switchover_reasons(case, node),
            _ => Vec::new(),
        }
    }

    fn next_place(
        &self,
        now: Now,
        case: &Case<'_>,
        failure_pending: bool,
        careless: bool,
    ) -> Result<(NodeName, Vec<Reason>), Next> {
        let state = case.state;
        let Some(spec) = case.spec else { return Err(Next::Wait(Vec::new())) };
        if case.held.quarantine.is_some() || state.in_maintenance(case.name) {
            return Err(Next::Wait(Vec::new()));
        }
        // What it runs `with` is waited for where both run, not here.
        let elsewhere = |other: &&ResourceName| spec.with.as_ref() != Some(*other);
        let mut after = spec.after.iter().filter(elsewhere);
        if let Some(other) = after.find(|other| !is_active(state, other)) {
            return Err(Next::Wait(vec![Reason::After { resource: other.clone() }]));
        }
        if let Some(other) = spec.with.as_ref().filter(|other| self.is_leaving(case, other)) {
            return Err(Next::Wait(vec![Reason::After { resource: other.clone() }]));
        }
        let clock = self.cluster_now(now.moment);
        let last = case.held.last_node.clone();
        let avoid = self.leaving(case);
        if let Some(last) = &last
            && (careless || !self.is_ordered_away(case))
            && let Some((nodes, failure)) = self.poison(state, case.name, last, clock)
        {
            return self.stay_poisoned(case, spec, last, nodes, failure, failure_pending, clock);
        }
        let target = case.held.switchover.as_ref().map(|wanted| wanted.to.clone());
        let wish = Wish { target, avoid };
        let (chosen, reasons) = placement::choose(state, case.view, case.name, &wish);
        let Some(chosen) = chosen else {
            let banned = !case.held.bans.is_empty()
                && state.spec.nodes.keys().all(|node| {
                    case.held.bans.contains_key(node)
                        || placement::may_run(state, case.name, node).is_err()
                });
            return Err(if banned { Next::Quarantine(reasons) } else { Next::Wait(reasons) });
        };
        let same = last.as_ref() == Some(&chosen);
        if same && (failure_pending || case.held.hold_until > clock) {
            return Err(Next::Wait(reasons));
        }
        Ok((chosen, reasons))
    }

    /// The resource that this one runs with is about to leave its node: nothing is started beside
    /// it any more, or it would have to be stopped again first, and again.
    fn is_leaving(&self, case: &Case<'_>, other: &ResourceName) -> bool {
        let Some(held) = case.state.resources.get(other) else { return false };
        let spec = case.state.spec.resources.get(other);
        let there = Case { name: other, spec, held, state: case.state, view: case.view };
        let maintained = case.state.in_maintenance(other);
        held.holder
            .as_ref()
            .is_some_and(|holder| !maintained && self.must_release(&there, holder).is_some())
    }

    /// An operator wants it to leave the node where it was last: by name, by a drain, or to
    /// another node.
    fn is_ordered_away(&self, case: &Case<'_>) -> bool {
        let Some(last) = case.held.last_node.as_ref() else { return false };
        let draining = case.state.members.get(last).is_some_and(|m| m.drain_until.is_some());
        let wanted = case.held.switchover.as_ref().is_some_and(|wanted| wanted.to != *last);
        draining || wanted || failover_ordered(case)
    }

    /// The node that is left because something failed there, or because it is to be left.
    fn leaving(&self, case: &Case<'_>) -> Option<NodeName> {
        let last = case.held.last_node.as_ref()?;
        let spec = case.spec?;
        if self.is_ordered_away(case) {
            return Some(last.clone());
        }
        // A hot standby elsewhere beats a restart here; a cold one doesn't, until the restarts
        // here are used up, which the ban says.
        let failed = self.reports.values().any(|(report, _)| {
            case.state.node_of(report.replica) == Some(last)
                && report.failures.iter().any(|f| f.resource == *case.name)
        }) || case
            .held
            .failures
            .back()
            .is_some_and(|f| f.node == *last && f.epoch == Some(case.held.epoch));
        (failed && spec.standby == Standby::Hot).then(|| last.clone())
    }

    #[allow(clippy::too_many_arguments)]
    fn stay_poisoned(
        &self,
        case: &Case<'_>,
        spec: &ResourceSpec,
        last: &NodeName,
        nodes: Vec<NodeName>,
        failure: model::report::Failure,
        failure_pending: bool,
        clock: model::ClusterMs,
    ) -> Result<(NodeName, Vec<Reason>), Next> {
        let poison = vec![Reason::Poison { nodes, failure }];
        let used_up = case.held.bans.contains_key(last)
            || consequence(case.held, &spec.recovery, last, clock).restart
                > spec.recovery.restarts + 1;
        if used_up {
            return Err(Next::Quarantine(poison));
        }
        let free = placement::may_take(case.state, case.view, case.name, last).is_ok();
        if failure_pending || case.held.hold_until > clock || !free {
            return Err(Next::Wait(poison));
        }
        Ok((last.clone(), poison))
    }

    /// Automatic failback: the best preferred node has been healthy long enough.
    fn failback(&mut self, now: Now, case: &Case<'_>, holder: &Holder, out: &mut Vec<Decision>) {
        if let Some(wanted) = &case.held.switchover {
            let late = self.cluster_now(now.moment).since(wanted.since) > SWITCHOVER_MS;
            if late && !self.is_pending(case.name) {
                let resource = case.name.clone();
                self.propose(now, Command::EndSwitchover { resource }, vec![Reason::Expired], out);
            }
            return;
        }
        let Some(spec) = case.spec else { return };
        let Failback::AfterMs(after_ms) = spec.failback else { return };
        if !holder.active || self.is_pending(case.name) {
            return;
        }
        let forgets = self.plants.has(Plant::FailbackNeverRegretted);
        let regretted = if forgets { 0 } else { failbacks_regretted(case.held, spec).min(16) };
        let wait = Span::from_ms(after_ms) * (1 << regretted);
        let here = spec.prefer.iter().position(|p| *p == holder.node);
        let better = spec.prefer.iter().take(here.unwrap_or(spec.prefer.len()));
        let target = better.into_iter().find(|node| {
            self.healthy_for(case, node, now.moment) >= wait && self.target_ready(case, spec, node)
        });
        let settled = self.cluster_now(now.moment).since(holder.since) >= wait.as_ms();
        if let Some(node) = target.filter(|_| settled) {
            let (resource, to) = (case.name.clone(), node.clone());
            let reasons = vec![Reason::Failback { node: node.clone() }];
            self.propose(now, Command::Switchover { resource, to }, reasons, out);
        }
    }

    fn healthy_for(&self, case: &Case<'_>, node: &NodeName, now: Moment) -> Span {
        let replica = case.state.replica_of(node);
        let since = replica.and_then(|r| self.healthy_since.get(&r));
        since.map_or(Span::ZERO, |since| now.since(*since))
    }
}

enum Next {
    Wait(Vec<Reason>),
    Quarantine(Vec<Reason>),
}

/// Failbacks that were followed by an unplanned move while they were still fresh: within the
/// window in which failures count together, or within their waiting time where that is longer.
fn failbacks_regretted(held: &ResourceState, spec: &ResourceSpec) -> u32 {
    let Failback::AfterMs(after_ms) = spec.failback else { return 0 };
    let fresh_ms = after_ms.max(spec.recovery.window_ms);
    let moves: Vec<_> = held.moves.iter().collect();
    moves
        .windows(2)
        .filter(|pair| {
            let back = pair[0].reasons.iter().any(|r| matches!(r, Reason::Failback { .. }));
            back && !pair[1].planned && pair[1].at.since(pair[0].at) <= fresh_ms
        })
        .count() as u32
}

/// An operator gave the last holder up as failed.
fn failover_ordered(case: &Case<'_>) -> bool {
    use model::state::EventKind;
    let released = case.state.history.iter().rev().find_map(|event| match &event.what {
        EventKind::Releasing { resource, epoch, .. } if resource == case.name => {
            Some((*epoch, &event.reasons))
        }
        _ => None,
    });
    released.is_some_and(|(epoch, reasons)| {
        epoch == case.held.epoch && reasons.iter().any(|r| matches!(r, Reason::Asked { .. }))
    })
}

fn is_active(state: &ClusterState, resource: &ResourceName) -> bool {
    let holder = state.resources.get(resource).and_then(|held| held.holder.as_ref());
    holder.is_some_and(|h| h.active && !h.releasing)
}
