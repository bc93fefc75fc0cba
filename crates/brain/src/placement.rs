//! Where an active instance may go, and which place is best.
//!
//! Pure rules over the replicated state and what the coordinator sees of the nodes. Every node
//! that is not chosen gets the reason why.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use model::reason::WhyNot;
use model::report::{InstancePhase, Report};
use model::spec::{ClusterSpec, ResourceSpec, Standby};
use model::state::{ClusterState, MemberRole};
use model::{NodeName, Reason, ReplicaId, ResourceName};

/// What the coordinator sees of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its present incarnation.
    pub replica: ReplicaId,
    /// How it stands.
    pub health: NodeHealth,
    /// It is granted leases, its log is near the end, launcher and guard are there.
    pub ready: bool,
    /// By its own word it holds a lease: without one it gives up what it is given.
    pub leased: bool,
    /// Its log is near the end.
    pub caught_up: bool,
    /// Its newest report.
    pub report: Option<Arc<Report>>,
}

/// What the cluster holds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeHealth {
    /// Heard as regularly as ever.
    Healthy,
    /// Its silence leaves its own history.
    Suspect,
    /// Its last grant has passed.
    Down,
}

impl NodeView {
    /// Whether the instance of a resource there is ready to be promoted.
    #[must_use]
    pub fn standby_ready(&self, resource: &ResourceName) -> bool {
        self.report.as_ref().is_some_and(|report| {
            report
                .instances
                .iter()
                .any(|i| i.resource == *resource && i.phase == InstancePhase::Standby && i.healthy)
        })
    }
}

/// What the coordinator sees of all nodes.
pub type View = BTreeMap<NodeName, NodeView>;

/// Whether the committed state lets a resource run on a node at all, in whatever role.
///
/// # Errors
/// Why not.
pub fn may_run(
    state: &ClusterState,
    resource: &ResourceName,
    node: &NodeName,
) -> Result<(), WhyNot> {
    let member = state.members.get(node).ok_or(WhyNot::NotJoined)?;
    let spec = state.spec.nodes.get(node).ok_or(WhyNot::NotInNodes)?;
    if member.role == MemberRole::Witness || spec.witness {
        return Err(WhyNot::Witness);
    }
    let allowed = state
        .spec
        .resources
        .get(resource)
        .is_some_and(|r| r.nodes.is_empty() || r.nodes.contains(node));
    if !allowed {
        return Err(WhyNot::NotInNodes);
    }
    if member.drain_until.is_some_and(|until| until > state.now) {
        return Err(WhyNot::Draining);
    }
    let held = state.resources.get(resource);
    if let Some(until) = held.and_then(|h| h.bans.get(node)).filter(|until| **until > state.now) {
        return Err(WhyNot::Banned { until_ms: until.0 });
    }
    Ok(())
}

/// Whether a node could take the active instance now.
///
/// # Errors
/// Why not.
pub fn may_take(
    state: &ClusterState,
    view: &View,
    resource: &ResourceName,
    node: &NodeName,
) -> Result<(), WhyNot> {
    may_run(state, resource, node)?;
    let in_maintenance = |until: Option<model::ClusterMs>| until.is_some_and(|u| u > state.now);
    if state.members.get(node).is_some_and(|m| in_maintenance(m.maintenance_until)) {
        return Err(WhyNot::Maintenance);
    }
    let seen = view.get(node).ok_or(WhyNot::Down)?;
    if seen.health != NodeHealth::Healthy {
        return Err(WhyNot::Down);
    }
    if !seen.caught_up {
        return Err(WhyNot::CatchingUp);
    }
    if !seen.ready {
        return Err(WhyNot::NotReady);
    }
    if !seen.leased {
        return Err(WhyNot::NoLease);
    }
    if let Some(other) = state.spec.resources.get(resource).and_then(|r| r.with.as_ref()) {
        let there = state.resources.get(other).and_then(|held| held.holder.as_ref());
        if there.is_none_or(|h| h.node != *node || h.releasing) {
            return Err(WhyNot::With { resource: other.clone() });
        }
    }
    Ok(())
}

/// The resources that run `with` this one, on its node and only while it is active there.
pub fn companions<'a>(
    spec: &'a ClusterSpec,
    resource: &'a ResourceName,
) -> impl Iterator<Item = &'a ResourceName> {
    let beside = move |other: &&'a ResourceSpec| other.with.as_ref() == Some(resource);
    spec.resources.iter().filter(move |(_, other)| beside(other)).map(|(name, _)| name)
}

/// What a choice prefers, besides the specification.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// An operator's target, before all else.
    pub target: Option<NodeName>,
    /// The node that just failed or is left: last choice, unless it is the only one.
    pub avoid: Option<NodeName>,
}

/// The best place for a resource's active instance, with the reasons for and against; `None`
/// where no node can take it.
#[must_use]
pub fn choose(
    state: &ClusterState,
    view: &View,
    resource: &ResourceName,
    wish: &Wish,
) -> (Option<NodeName>, Vec<Reason>) {
    let Some(spec) = state.spec.resources.get(resource) else { return (None, Vec::new()) };
    let held = state.resources.get(resource);
    let last = held.and_then(|h| h.last_node.as_ref());
    let mut reasons = Vec::new();
    let mut candidates = Vec::new();
    for node in state.spec.nodes.keys() {
        match may_take(state, view, resource, node) {
            Ok(()) => candidates.push(node),
            Err(why) => reasons.push(Reason::Rejected { node: node.clone(), why }),
        }
    }
    let domain = |node: &NodeName| {
        let kind = spec.spread?;
        state.spec.nodes.get(node)?.domains.get(kind)
    };
    let score = |node: &NodeName| {
        let ready = view.get(node).is_some_and(|seen| seen.standby_ready(resource));
        let rank = spec.prefer.iter().position(|p| p == node).unwrap_or(usize::MAX);
        let left = wish.avoid.as_ref();
        let apart = left.is_none_or(|left| domain(left).is_none() || domain(left) != domain(node));
        (
            wish.target.as_ref() == Some(node),
            left != Some(node),
            spec.standby == Standby::Hot && ready,
            apart,
            left.is_none() && last == Some(node),
            Reverse(rank),
            Reverse(active_on(state, node)),
        )
    };
    // Names break ties, the first wins: `max_by` keeps the last of equals, hence the reversal.
    let best = candidates.iter().rev().copied().max_by(|a, b| score(a).cmp(&score(b)));
    let Some(best) = best else {
        reasons.insert(0, Reason::NoCandidate);
        return (None, reasons);
    };
    let why = why_best(&score(best), best, spec.prefer.len());
    for node in candidates.into_iter().filter(|node| *node != best) {
        reasons.push(Reason::Rejected { node: node.clone(), why: WhyNot::Outranked });
    }
    reasons.insert(0, why);
    (Some(best.clone()), reasons)
}

type Score = (bool, bool, bool, bool, bool, Reverse<usize>, Reverse<usize>);

fn why_best(score: &Score, node: &NodeName, preferences: usize) -> Reason {
    let node = node.clone();
    match score {
        (_, _, true, ..) => Reason::StandbyReady { node },
        (_, _, _, _, true, ..) => Reason::Stays { node },
        (_, _, _, _, _, Reverse(rank), _) if *rank < preferences => {
            Reason::Preferred { node, rank: *rank as u32 + 1 }
        }
        _ => Reason::LeastBusy { node },
    }
}

fn active_on(state: &ClusterState, node: &NodeName) -> usize {
    state.resources.values().filter(|held| held.node() == Some(node)).count()
}

#[cfg(test)]
mod tests;
