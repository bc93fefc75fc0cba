//! Who replicates the log and who votes: follows the members of the control state, one change at
//! a time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::command::Command;
use model::state::{ClusterState, MemberRole};
use model::{Moment, Reason, ReplicaId};

use super::{Coordinator, Decision, Now, Subject};
use crate::plant::Plant;
use crate::pulse::Pulse;

/// A learner this many entries behind may be made a voter.
pub const PROMOTABLE_ENTRIES: u64 = 64;

/// The consensus group, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Those who vote, in any configuration in force.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who replicate without a vote.
    pub learners: BTreeSet<ReplicaId>,
    /// A change is under way.
    pub changing: bool,
    /// The last index of the leader's log.
    pub last_index: u64,
    /// How far the others are.
    pub progress: BTreeMap<ReplicaId, Progress>,
}

/// How far one replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last entry known to be in its log.
    pub matched: u64,
    /// Whether it answered lately.
    pub active: bool,
}

/// A change of the consensus group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipChange {
    /// Let it replicate.
    AddLearner(ReplicaId),
    /// Let a learner vote; `instead_of` is taken out in the same step.
    Promote {
        /// The learner.
        replica: ReplicaId,
        /// Its lost predecessor, where there is one.
        instead_of: Option<ReplicaId>,
    },
    /// Take it out.
    Remove(ReplicaId),
}

impl Coordinator {
    pub(super) fn membership(
        &mut self,
        now: Moment,
        state: &ClusterState,
        pulse: &Pulse,
        group: &Group,
        out: &mut Vec<Decision>,
    ) {
        if group.changing || self.pending.contains(&Subject::Membership) {
            return;
        }
        let keeps = pulse.plants().has(Plant::StrangerKeepsVote);
        let promises = |r| pulse.has_promise_of(now, r);
        if let Some(change) = next_change(state, group, self.me, keeps, promises) {
            self.pending.insert(Subject::Membership);
            out.push(Decision::Membership(change));
        }
    }

    /// Rule 8: a witness in office replicates and hands over; so does anyone who leads without
    /// being settled in it for good, once a better candidate is known.
    pub(super) fn hand_over_if_witness(
        &mut self,
        now: Now,
        state: &ClusterState,
        pulse: &Pulse,
        group: &Group,
        out: &mut Vec<Decision>,
    ) {
        let witness = |replica: ReplicaId| {
            state.members.values().any(|m| m.replica == replica && m.role == MemberRole::Witness)
        };
        let stays = pulse.plants().has(Plant::WitnessSolicits);
        if !self.settled || !witness(self.me) || !pulse.in_office() || stays {
            return;
        }
        let best = group
            .voters
            .iter()
            .filter(|v| **v != self.me && !witness(**v))
            .filter_map(|v| group.progress.get(v).map(|p| (p.active, p.matched, *v)))
            .filter(|(active, ..)| *active)
            .max();
        if let Some((_, _, candidate)) = best {
            self.renounce(now, pulse, candidate, Vec::new(), out);
        }
    }

    /// Renouncing precedes a transfer (rule 4). The pulse renounces when the entry is proposed,
    /// before it can be anywhere else; the transfer follows its commit.
    pub(super) fn renounce(
        &mut self,
        now: Now,
        pulse: &Pulse,
        candidate: ReplicaId,
        reasons: Vec<Reason>,
        out: &mut Vec<Decision>,
    ) {
        let term = pulse.raft().term;
        if !self.pending.contains(&Subject::Renounce) {
            self.propose(now, Command::Renounce { term, candidate }, reasons, out);
        }
    }

    /// Chooses whom to hand over to on request.
    pub(super) fn successor(&self, state: &ClusterState, group: &Group) -> Option<ReplicaId> {
        state
            .members
            .values()
            .filter(|m| m.role == MemberRole::Voter && m.replica != self.me)
            .filter(|m| group.voters.contains(&m.replica))
            .filter_map(|m| {
                group.progress.get(&m.replica).map(|p| (p.active, p.matched, m.replica))
            })
            .filter(|(active, ..)| *active)
            .max()
            .map(|(_, _, replica)| replica)
    }
}

fn next_change(
    state: &ClusterState,
    group: &Group,
    me: ReplicaId,
    keeps: bool,
    promises: impl Fn(ReplicaId) -> bool,
) -> Option<MembershipChange> {
    let wanted = |r: &ReplicaId| state.members.values().any(|m| m.replica == *r);
    let known = |r: &ReplicaId| group.voters.contains(r) || group.learners.contains(r);
    let replicas = state.members.values().map(|m| m.replica);
    if let Some(new) = replicas.filter(|r| !known(r)).min() {
        return Some(MembershipChange::AddLearner(new));
    }
    let strangers: Vec<ReplicaId> = [&group.voters, &group.learners]
        .into_iter()
        .flatten()
        .filter(|r| !(wanted(r) || keeps && group.voters.contains(r)))
        .copied()
        .collect();
    let votes = |m: &model::state::Member| m.role != MemberRole::Member;
    for member in state.members.values().filter(|m| votes(m)) {
        let learner = group.learners.contains(&member.replica);
        let near = group.progress.get(&member.replica).is_some_and(|p| {
            // The library takes a new learner for active before it has answered at all; one that
            // never did must not be counted on for a quorum.
            p.active
                && p.matched > 0
                && group.last_index.saturating_sub(p.matched) <= PROMOTABLE_ENTRIES
        });
        // Authority will rest on its promises (rule 2): they have to be coming in already, or a
        // healthy coordinator would fall by gaining a voter.
        if learner && near && promises(member.replica) {
            // A voter that is no member any more (a lost disk's incarnation) goes in the same
            // step, so that the quorum never depends on it in addition.
            let instead_of =
                strangers.iter().find(|s| group.voters.contains(s) && **s != me).copied();
            return Some(MembershipChange::Promote { replica: member.replica, instead_of });
        }
    }
    let waiting = state.members.values().any(|m| votes(m) && group.learners.contains(&m.replica));
    strangers
        .into_iter()
        .find(|s| *s != me && !(waiting && group.voters.contains(s)))
        .map(MembershipChange::Remove)
}

#[cfg(test)]
mod tests;
