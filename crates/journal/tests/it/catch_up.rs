//! Learners, promotion, removal, snapshots.

use journal::{
    MembershipChange, MembershipError, MembershipRefused, MembershipStep, MessageKind, Payload,
    ReplicaConfig, RoleKind, kind,
};

use crate::group::Group;

fn change(group: &mut Group, leader: u64, step: MembershipStep) {
    group.replica(leader).propose_membership(&step.into()).expect("a change");
    group.settle();
    group.tick(3);
}

fn small_snapshots(mut config: ReplicaConfig) -> ReplicaConfig {
    config.snapshot_after_entries = 10;
    config.keep_entries = 2;
    config.snapshot_retry_ticks = 3;
    config
}

#[test]
fn a_learner_catches_up_by_snapshot_and_is_promoted() {
    let mut group = Group::founded_with(&[1, 2, 3], small_snapshots);
    group.elect(1);
    for n in 0..50 {
        group.propose(1, &format!("entry {n}"));
    }
    assert!(group.replica(1).snapshot_index() > 1);
    group.add_empty(small_snapshots(ReplicaConfig::new(4)));
    change(&mut group, 1, MembershipStep::AddLearner(4));
    assert!(group.replica(4).snapshot_index() > 1, "it came by snapshot");
    group.assert_agreement();
    let learner = group.replica(1).progress().into_iter().find(|peer| peer.id == 4).unwrap();
    assert_eq!(learner.match_index, group.replica(1).last_index());
    change(&mut group, 1, MembershipStep::Promote(4));
    assert_eq!(group.replica(4).membership().voters, [1, 2, 3, 4]);
    // Its vote counts: with two of the four gone, nothing is committed; with it, three do.
    group.isolate(2);
    let index = group.propose(1, "with four");
    assert!(group.replica(1).commit_index() >= index);
    group.isolate(3);
    let index = group.propose(1, "without");
    assert!(group.replica(1).commit_index() < index);
    group.heal();
    group.tick(30);
    group.elect(4);
    group.tick(3);
    group.assert_agreement();
}

#[test]
fn a_learner_has_no_vote() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.add_empty(ReplicaConfig::new(4));
    change(&mut group, 1, MembershipStep::AddLearner(4));
    group.isolate(2);
    group.isolate(3);
    let index = group.propose(1, "x");
    assert!(group.replica(1).commit_index() < index);
}

#[test]
fn a_lost_snapshot_is_sent_again() {
    let mut group = Group::founded_with(&[1, 2, 3], small_snapshots);
    group.elect(1);
    for n in 0..30 {
        group.propose(1, &format!("entry {n}"));
    }
    group.add_empty(small_snapshots(ReplicaConfig::new(4)));
    group.replica(1).propose_membership(&MembershipStep::AddLearner(4).into()).unwrap();
    let mut lost = 0;
    for _ in 0..200 {
        for id in group.ids() {
            group.pump(id);
            group.write(id);
        }
        if group.network.is_empty() && lost == 1 {
            break;
        }
        if group.network.is_empty() {
            for id in group.ids() {
                group.replica(id).tick();
            }
        }
        while let Some(message) = group.network.front() {
            if kind(message) == MessageKind::Snapshot && lost == 0 {
                group.network.pop_front();
                lost = 1;
            } else {
                group.deliver(0);
            }
        }
    }
    assert_eq!(lost, 1, "a snapshot was on its way");
    assert_eq!(group.replica(4).snapshot_index(), 0);
    group.tick(10);
    assert!(group.replica(4).snapshot_index() > 1);
    group.assert_agreement();
}

#[test]
fn a_removed_member_counts_no_more() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    change(&mut group, 1, MembershipStep::Remove(3));
    assert_eq!(group.replica(1).membership().voters, [1, 2]);
    group.isolate(2);
    let index = group.propose(1, "x");
    assert!(group.replica(1).commit_index() < index, "3's answer would be a quorum of the old");
    group.heal();
    group.tick(3);
    assert!(group.replica(1).commit_index() >= index);
}

#[test]
fn a_removed_leader_leaves_office_and_the_rest_goes_on() {
    for voters in [&[1, 2][..], &[1, 2, 3]] {
        let mut group = Group::founded(voters);
        group.elect(1);
        change(&mut group, 1, MembershipStep::Remove(1));
        assert_eq!(group.replica(1).role().kind, RoleKind::Follower);
        assert_eq!(group.replica(2).membership().voters, voters[1..]);
        group.isolate(1);
        group.elect(2);
        let index = group.propose(2, "on");
        assert!(group.replica(2).commit_index() >= index);
    }
}

#[test]
fn a_voter_is_replaced_in_one_joint_change() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.add_empty(ReplicaConfig::new(4));
    change(&mut group, 1, MembershipStep::AddLearner(4));
    let replace =
        MembershipChange { steps: vec![MembershipStep::Promote(4), MembershipStep::Remove(3)] };
    group.replica(1).propose_membership(&replace).unwrap();
    group.settle();
    group.tick(3);
    let joint = group.committed.values().any(
        |(_, payload, _)| matches!(payload, Payload::Membership { now, .. } if now.is_joint()),
    );
    assert!(joint, "it went through a joint configuration");
    for id in [1, 2, 4] {
        let now = group.replica(id).membership();
        assert_eq!((now.voters.as_slice(), now.is_joint()), (&[1, 2, 4][..], false));
    }
}

#[test]
fn a_joint_change_survives_its_leader() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.add_empty(ReplicaConfig::new(4));
    change(&mut group, 1, MembershipStep::AddLearner(4));
    let replace =
        MembershipChange { steps: vec![MembershipStep::Promote(4), MembershipStep::Remove(3)] };
    group.replica(1).propose_membership(&replace).unwrap();
    // The joint entry gets to everybody's disk; its leader is gone before it is left.
    for _ in 0..4 {
        for id in [1, 2, 3, 4] {
            group.pump(id);
            group.write(id);
        }
        let count = group.network.len();
        for _ in 0..count {
            group.deliver(0);
        }
        if group.replica(2).membership().is_joint() {
            break;
        }
    }
    group.isolate(1);
    group.settle();
    group.elect(2);
    group.tick(5);
    let now = group.replica(2).membership();
    assert_eq!((now.voters.as_slice(), now.is_joint()), (&[1, 2, 4][..], false));
}

#[test]
fn one_membership_change_is_in_flight_at_a_time() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let add = |id| MembershipChange::from(MembershipStep::AddLearner(id));
    group.replica(1).propose_membership(&add(4)).unwrap();
    let second = group.replica(1).propose_membership(&add(5));
    assert_eq!(second, Err(MembershipRefused::InFlight));
    group.settle();
    group.replica(1).propose_membership(&add(5)).unwrap();
    group.settle();
    let again = group.replica(1).propose_membership(&add(5));
    assert_eq!(again, Err(MembershipRefused::Change(MembershipError::Member(5))));
    assert_eq!(group.replica(1).membership().learners, [4, 5]);
}

#[test]
fn a_membership_outlives_restarts_with_and_without_a_snapshot() {
    for entries_after in [0, 40] {
        let mut group = Group::founded_with(&[1, 2, 3], small_snapshots);
        group.elect(1);
        group.add_empty(small_snapshots(ReplicaConfig::new(4)));
        change(&mut group, 1, MembershipStep::AddLearner(4));
        change(&mut group, 1, MembershipStep::Promote(4));
        change(&mut group, 1, MembershipStep::Remove(2));
        for n in 0..entries_after {
            group.propose(1, &format!("entry {n}"));
        }
        for id in [1, 3, 4] {
            group.crash(id, |_| journal::Kept::nothing());
            group.start(id);
        }
        group.elect(3);
        group.tick(3);
        assert_eq!(group.replica(3).membership().voters, [1, 3, 4]);
    }
}
