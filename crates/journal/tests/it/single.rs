//! Groups with one voter: nobody else's disk stands in for its own.

use journal::{CampaignRefused, MembershipStep, MessageKind, ReplicaConfig, RoleKind, kind};

use crate::group::Group;

#[test]
fn a_sole_voter_commits_only_what_is_durable() {
    let mut group = Group::founded(&[1]);
    group.elect(1);
    let index = group.replica(1).propose(b"x".to_vec()).unwrap().index;
    group.pump(1);
    group.append(1);
    group.pump(1);
    assert!(group.replica(1).commit_index() < index);
    assert!(group.running(1).app.applied < index);
    group.sync(1);
    assert_eq!(group.replica(1).commit_index(), index);
    assert_eq!(group.running(1).app.applied, index);
}

#[test]
fn a_sole_voter_does_not_stand_before_its_log_is_durable() {
    let mut group = Group::founded(&[1]);
    group.elect(1);
    group.replica(1).propose(b"x".to_vec()).unwrap();
    group.pump(1);
    group.replica(1).step_down();
    assert_eq!(group.replica(1).campaign(), Err(CampaignRefused::Unwritten));
    group.pump(1);
    assert_eq!(group.replica(1).campaign(), Err(CampaignRefused::Unwritten));
    group.settle();
    group.elect(1);
}

/// The library would send at once: a crash then leads to two different entries of one term and
/// index, one at the learner and one at the voter.
#[test]
fn a_sole_voter_sends_nothing_of_a_term_that_is_not_durable() {
    let mut group = Group::founded(&[1]);
    group.elect(1);
    group.add_empty(ReplicaConfig::new(2));
    group.replica(1).propose_membership(&MembershipStep::AddLearner(2).into()).unwrap();
    group.settle();
    group.tick(5);
    group.replica(1).step_down();
    group.settle();
    group.replica(1).campaign().unwrap();
    group.pump(1);
    assert_eq!(group.replica(1).role().kind, RoleKind::Leader);
    assert!(group.network.is_empty(), "{:?}", group.network);
    group.write(1);
    assert!(group.network.iter().any(|m| kind(m) == MessageKind::Append && m.to == 2));
}
