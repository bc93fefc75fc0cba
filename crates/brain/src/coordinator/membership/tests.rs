use super::*;
use crate::fixtures::{node, voter};

const ME: ReplicaId = ReplicaId(1);
const NEW: ReplicaId = ReplicaId(4);

/// Voters a, b and c; d has joined as replica 4 and learns.
fn learning() -> (ClusterState, Group) {
    let mut state = ClusterState::default();
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        state.members.insert(node(name), voter(ReplicaId(n as u64 + 1)));
    }
    let group = Group {
        voters: [1, 2, 3].map(ReplicaId).into(),
        learners: [NEW].into(),
        changing: false,
        last_index: 100,
        progress: [(NEW, Progress { matched: 100, active: true })].into(),
    };
    (state, group)
}

#[test]
fn a_member_that_the_group_does_not_know_learns_first() {
    let (state, mut group) = learning();
    group.learners.clear();
    let change = next_change(&state, &group, ME, false, |_| true);
    assert_eq!(change, Some(MembershipChange::AddLearner(NEW)));
}

#[test]
fn a_learner_votes_once_it_answers_is_near_and_has_promised() {
    let near = 100 - PROMOTABLE_ENTRIES;
    for (matched, active, promised, votes) in [
        (near, true, true, true),
        (near - 1, true, true, false),
        (100, false, true, false),
        (100, true, false, false),
    ] {
        let (state, mut group) = learning();
        group.progress.insert(NEW, Progress { matched, active });
        let change = next_change(&state, &group, ME, false, |_| promised);
        let expected = MembershipChange::Promote { replica: NEW, instead_of: None };
        assert_eq!(change, votes.then_some(expected), "{matched} {active} {promised}");
    }
    // The library takes a new learner for active before it has answered at all.
    let (state, mut group) = learning();
    group.last_index = 10;
    group.progress.insert(NEW, Progress { matched: 0, active: true });
    assert_eq!(next_change(&state, &group, ME, false, |_| true), None);
}

#[test]
fn who_is_no_member_goes_and_a_lost_voter_with_its_successor() {
    let (mut state, group) = learning();
    state.members.remove(&node("d"));
    let change = next_change(&state, &group, ME, false, |_| true);
    assert_eq!(change, Some(MembershipChange::Remove(NEW)));
    let (mut state, group) = learning();
    state.members.remove(&node("c"));
    let instead_of = Some(ReplicaId(3));
    let both = MembershipChange::Promote { replica: NEW, instead_of };
    assert_eq!(next_change(&state, &group, ME, false, |_| true), Some(both));
    assert_eq!(next_change(&state, &group, ME, false, |_| false), None, "its vote is waited for");
    let (mut state, mut group) = learning();
    group.voters.insert(NEW);
    group.learners.clear();
    assert_eq!(next_change(&state, &group, ME, false, |_| true), None, "all are as they should");
    state.members.remove(&node("a"));
    assert_eq!(next_change(&state, &group, ME, false, |_| true), None, "nobody removes itself");
}
