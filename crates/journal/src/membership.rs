//! Who belongs to the group, and changes to that.

use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};

use crate::limits::{MAX_LEARNERS, MAX_MEMBERSHIP_STEPS, MAX_VOTERS};
use crate::snapshot_file::sorted;

/// The members in force at some index; all lists are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes; during a joint change, in the new configuration.
    pub voters: Vec<u64>,
    /// Who votes in the old configuration of a joint change; else empty. A quorum then means a
    /// quorum of both.
    pub voters_outgoing: Vec<u64>,
    /// Who receives entries without a vote.
    pub learners: Vec<u64>,
    /// Old voters that lose their vote when the joint change ends.
    pub learners_next: Vec<u64>,
}

impl Membership {
    /// Whether a change between two sets of voters is under way.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether `id` votes in either configuration.
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// Whether `id` belongs to the group at all.
    pub fn contains(&self, id: u64) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }
}

impl From<ConfState> for Membership {
    fn from(state: ConfState) -> Self {
        let state = sorted(state);
        Self {
            voters: state.voters,
            voters_outgoing: state.voters_outgoing,
            learners: state.learners,
            learners_next: state.learners_next,
        }
    }
}

/// One step of a [`MembershipChange`].
///
/// An id that was removed must never come back: give the node a new one. A leader may still hold
/// acknowledgements of the old one and count them for the new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipStep {
    /// A new member receives the log, without a vote.
    AddLearner(u64),
    /// A learner gets a vote.
    Promote(u64),
    /// A member leaves.
    Remove(u64),
}

/// A change of membership: one step, or several that take effect together (joint consensus).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipChange {
    /// What changes, each id at most once.
    pub steps: Vec<MembershipStep>,
}

impl From<MembershipStep> for MembershipChange {
    fn from(step: MembershipStep) -> Self {
        Self { steps: vec![step] }
    }
}

/// Why a membership change makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// No step, or too many.
    #[error("a membership change has 1 to {MAX_MEMBERSHIP_STEPS} steps, not {0}")]
    Steps(usize),
    /// Two steps for one id.
    #[error("member {0} is named twice in one change")]
    Twice(u64),
    /// The id is zero.
    #[error("0 is no member's id")]
    Zero,
    /// The id already belongs to the group.
    #[error("{0} is a member already")]
    Member(u64),
    /// The id is no learner.
    #[error("{0} is no learner, so it can't be promoted")]
    NoLearner(u64),
    /// The id doesn't belong to the group.
    #[error("{0} is no member")]
    NoMember(u64),
    /// Nobody would vote, or too many would.
    #[error("the change would leave {0} voters; 1 to {MAX_VOTERS} are possible")]
    Voters(usize),
    /// Too many learners.
    #[error("the change would leave {0} learners; {MAX_LEARNERS} are possible")]
    Learners(usize),
}

impl MembershipChange {
    /// Checks the change against the membership in force.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub fn check(&self, now: &Membership) -> Result<(), MembershipError> {
        if self.steps.is_empty() || self.steps.len() > MAX_MEMBERSHIP_STEPS {
            return Err(MembershipError::Steps(self.steps.len()));
        }
        let mut after = now.clone();
        let mut seen = Vec::new();
        for step in &self.steps {
            let id = step.id();
            match id {
                0 => return Err(MembershipError::Zero),
                id if seen.contains(&id) => return Err(MembershipError::Twice(id)),
                id => seen.push(id),
            }
            match step {
                MembershipStep::AddLearner(_) if now.contains(id) => {
                    return Err(MembershipError::Member(id));
                }
                MembershipStep::Promote(_) if !now.learners.contains(&id) => {
                    return Err(MembershipError::NoLearner(id));
                }
                MembershipStep::Remove(_) if !now.contains(id) => {
                    return Err(MembershipError::NoMember(id));
                }
                MembershipStep::AddLearner(_) => after.learners.push(id),
                MembershipStep::Promote(_) => {
                    after.learners.retain(|learner| *learner != id);
                    after.voters.push(id);
                }
                MembershipStep::Remove(_) => {
                    after.learners.retain(|learner| *learner != id);
                    after.voters.retain(|voter| *voter != id);
                }
            }
        }
        match (after.voters.len(), after.learners.len()) {
            (voters, _) if voters == 0 || voters > MAX_VOTERS => {
                Err(MembershipError::Voters(voters))
            }
            (_, learners) if learners > MAX_LEARNERS => Err(MembershipError::Learners(learners)),
            _ => Ok(()),
        }
    }

    /// The library's form of it. Several steps go through a joint configuration, which the
    /// leader leaves by itself.
    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let changes = self.steps.iter().map(|step| {
            let kind = match step {
                MembershipStep::AddLearner(_) => ConfChangeType::AddLearnerNode,
                MembershipStep::Promote(_) => ConfChangeType::AddNode,
                MembershipStep::Remove(_) => ConfChangeType::RemoveNode,
            };
            ConfChangeSingle { change_type: kind as i32, node_id: step.id() }
        });
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto as i32,
            changes: changes.collect(),
            context: Vec::new(),
        }
    }
}

impl MembershipStep {
    /// The member that the step is about.
    pub fn id(&self) -> u64 {
        match self {
            Self::AddLearner(id) | Self::Promote(id) | Self::Remove(id) => *id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MembershipStep::{AddLearner, Promote, Remove};
    use super::*;

    fn check(steps: &[MembershipStep], expected: Result<(), MembershipError>) {
        let now = Membership { voters: vec![1, 2], learners: vec![3], ..Membership::default() };
        let change = MembershipChange { steps: steps.to_vec() };
        assert_eq!(change.check(&now), expected, "{steps:?}");
    }

    #[test]
    fn only_changes_that_make_sense_pass() {
        check(&[AddLearner(4)], Ok(()));
        check(&[Promote(3), Remove(1)], Ok(()));
        check(&[], Err(MembershipError::Steps(0)));
        check(&[AddLearner(0)], Err(MembershipError::Zero));
        check(&[AddLearner(1)], Err(MembershipError::Member(1)));
        check(&[AddLearner(3)], Err(MembershipError::Member(3)));
        check(&[Promote(2)], Err(MembershipError::NoLearner(2)));
        check(&[Remove(9)], Err(MembershipError::NoMember(9)));
        check(&[Remove(1), Remove(1)], Err(MembershipError::Twice(1)));
        check(&[Remove(1), Remove(2)], Err(MembershipError::Voters(0)));
        let many: Vec<_> = (10..10 + MAX_MEMBERSHIP_STEPS as u64 + 1).map(AddLearner).collect();
        check(&many, Err(MembershipError::Steps(MAX_MEMBERSHIP_STEPS + 1)));
    }

    #[test]
    fn the_number_of_voters_and_learners_is_bounded() {
        let now = Membership {
            voters: (1..=MAX_VOTERS as u64).collect(),
            learners: (100..100 + MAX_LEARNERS as u64).collect(),
            ..Membership::default()
        };
        let promote = MembershipChange::from(Promote(100)).check(&now);
        assert_eq!(promote, Err(MembershipError::Voters(MAX_VOTERS + 1)));
        let add = MembershipChange::from(AddLearner(5000)).check(&now);
        assert_eq!(add, Err(MembershipError::Learners(MAX_LEARNERS + 1)));
    }
}
