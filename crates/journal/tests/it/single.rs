//! Groups with one voter: nobody else's disk stands in for its own.

use journal::{
    CampaignRefused, End, MembershipStep, MemoryDisk, MessageKind, Options, Recovered, Replica,
    ReplicaConfig, RoleKind, Segments, kind,
};

use crate::group::{Group, founding_state};

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

#[test]
fn a_founder_does_not_stand_before_its_founding_is_durable() {
    let founded = Recovered::bootstrap(&[1], founding_state()).unwrap();
    let mut replica = Replica::new(ReplicaConfig::new(1), founded).unwrap();
    assert_eq!(replica.campaign(), Err(CampaignRefused::Unwritten));
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

#[test]
fn a_group_that_goes_on_from_a_lost_one_begins_above_all_that_it_had() {
    let at = End { index: 1_000_007, term: 1_003 };
    let recovered = Recovered::bootstrap_at(&[1_001], b"state".to_vec(), at).unwrap();
    assert_eq!(recovered.end(), at);
    let mut replica = Replica::new(ReplicaConfig::new(1_001), recovered).unwrap();
    let (mut segments, empty) = Segments::open(MemoryDisk::new(), Options::default()).unwrap();
    assert!(empty.is_empty());
    let mut drain = |replica: &mut Replica| {
        while let Some(work) = replica.work() {
            let Some(write) = work.write else { continue };
            let id = write.id;
            segments.commit(&[write]).unwrap();
            replica.written(id);
        }
    };
    drain(&mut replica);
    replica.campaign().unwrap();
    drain(&mut replica);
    assert_eq!(replica.role().kind, RoleKind::Leader);
    assert!(replica.role().term > at.term);
    let index = replica.propose(b"x".to_vec()).unwrap().index;
    assert!(index > at.index);
    drain(&mut replica);
    // What is on disk is the same, and ends the same.
    let (_, again) = Segments::open(segments.into_disk(), Options::default()).unwrap();
    assert_eq!(again.snapshot().map(|s| (s.index, &*s.data)), Some((at.index, &b"state".to_vec())));
    assert_eq!(again.end().index, index);
    assert_eq!(Some(again.end_chain()), replica.chain_at(index));
}
