//! Elections happen when asked for, and entries become committed.

use journal::{
    CampaignRefused, MessageKind, ProposeError, ReadRefused, ReplicaConfig, RoleKind,
    TransferRefused, kind,
};

use crate::group::Group;

#[test]
fn nobody_stands_without_being_told() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.tick(1000);
    for id in 1..=3 {
        let role = group.replica(id).role();
        assert_eq!((role.kind, role.term, role.leader), (RoleKind::Follower, 1, None));
    }
    group.elect(2);
    assert_eq!(group.replica(1).role().leader, Some(2));
}

#[test]
fn what_a_leader_takes_is_committed_everywhere() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let index = group.propose(1, "one");
    group.tick(2);
    assert_eq!(group.data_at(index), Some(&b"one"[..]));
    group.assert_agreement();
    for id in 1..=3 {
        assert_eq!(group.replica(id).commit_index(), index);
    }
}

#[test]
fn nothing_is_committed_without_a_durable_quorum() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let index = group.replica(1).propose(b"x".to_vec()).unwrap().index;
    // Messages flow, no disk finishes: neither the leader's own entry nor the others' count.
    for _ in 0..10 {
        for id in 1..=3 {
            group.pump(id);
        }
        while !group.network.is_empty() {
            group.deliver(0);
        }
    }
    assert!(group.replica(1).commit_index() < index);
    group.write(2);
    while !group.network.is_empty() {
        group.deliver(0);
    }
    assert!(group.replica(1).commit_index() < index, "one durable copy is no quorum");
    group.write(3);
    while !group.network.is_empty() {
        group.deliver(0);
    }
    assert_eq!(group.replica(1).commit_index(), index, "two followers are a quorum");
    assert!(group.running(1).app.applied < index, "the leader itself applies when it has it");
    group.settle();
    assert_eq!(group.running(1).app.applied, index);
}

#[test]
fn a_vote_leaves_only_after_it_is_durable() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.replica(1).campaign().unwrap();
    group.pump(1);
    let kinds = |group: &Group| group.network.iter().map(kind).collect::<Vec<_>>();
    assert_eq!(kinds(&group), [MessageKind::PreVote; 2]);
    group.deliver(0);
    group.pump(2);
    group.network.retain(|message| message.to == 1);
    group.deliver(0);
    assert_eq!(kinds(&group), [], "the new term is not durable yet");
    group.write(1);
    assert_eq!(kinds(&group), [MessageKind::Vote; 2]);
    group.deliver(0);
    assert_eq!(kinds(&group), [MessageKind::Vote], "the vote is not durable yet");
    group.write(2);
    assert_eq!(kinds(&group), [MessageKind::Vote, MessageKind::VoteReply]);
}

#[test]
fn an_isolated_leader_steps_down() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.isolate(1);
    let ticks = ReplicaConfig::new(1).election_ticks;
    group.tick(2 * ticks);
    assert_eq!(group.replica(1).role().kind, RoleKind::Follower);
    let refused = group.replica(1).propose(b"x".to_vec());
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    group.elect(2);
    group.heal();
    group.tick(2);
    assert_eq!(group.replica(1).role().leader, Some(2));
}

#[test]
fn a_leader_that_steps_down_stays_down_in_its_term() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let term = group.replica(1).role().term;
    group.replica(1).step_down();
    group.settle();
    group.tick(50);
    let role = group.replica(1).role();
    assert_eq!((role.kind, role.term, role.leader), (RoleKind::Follower, term, None));
    group.elect(3);
    assert_eq!(group.replica(1).role().leader, Some(3));
    group.propose(3, "after");
    group.tick(1);
    group.assert_agreement();
}

#[test]
fn leadership_is_handed_over() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    assert_eq!(group.replica(1).transfer(1), Err(TransferRefused::NoVoter(1)));
    assert_eq!(group.replica(1).transfer(9), Err(TransferRefused::NoVoter(9)));
    assert_eq!(group.replica(2).transfer(3), Err(TransferRefused::NotLeader));
    group.replica(1).transfer(3).unwrap();
    assert_eq!(group.replica(1).propose(b"x".to_vec()), Err(ProposeError::Transferring));
    group.pump(1);
    assert!(group.network.iter().any(|m| kind(m) == MessageKind::TimeoutNow && m.to == 3));
    group.settle();
    assert_eq!(group.replica(3).role().kind, RoleKind::Leader);
    assert_eq!(group.replica(1).role().leader, Some(3));
}

#[test]
fn a_forced_vote_is_told_from_a_plain_one() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.replica(1).transfer(3).unwrap();
    group.pump(1);
    let mut forced = 0;
    for _ in 0..10 {
        for id in 1..=3 {
            group.write(id);
        }
        forced += group.network.iter().filter(|m| journal::is_forced(m)).count();
        let count = group.network.len();
        for _ in 0..count {
            group.deliver(0);
        }
    }
    assert_eq!(forced, 2);
}

#[test]
fn a_lower_priority_loses_to_an_equal_log() {
    let mut group = Group::founded_with(&[1, 2, 3], |mut config| {
        config.priority = if config.id == 3 { -1 } else { 0 };
        config
    });
    group.replica(3).campaign().unwrap();
    group.settle();
    assert_ne!(group.replica(3).role().kind, RoleKind::Leader);
    group.elect(1);
}

#[test]
fn a_read_waits_for_a_quorum_and_answers_its_asker() {
    let mut group = Group::founded(&[1, 2, 3]);
    assert_eq!(group.replica(1).read_index(b"r"), Err(ReadRefused::NoLeader));
    group.elect(1);
    let index = group.propose(1, "one");
    group.replica(1).read_index(b"mine").unwrap();
    group.pump(1);
    assert!(group.running(1).reads.is_empty(), "no quorum was asked yet");
    group.settle();
    assert_eq!(group.running(1).reads[0].context, b"mine");
    assert_eq!(group.running(1).reads[0].index, index);
    // Two askers with one context must not be taken for each other.
    group.replica(2).read_index(b"same").unwrap();
    group.replica(3).read_index(b"same").unwrap();
    group.settle();
    for id in [2, 3] {
        assert_eq!(group.running(id).reads[0].context, b"same");
        assert!(group.running(id).reads[0].index >= index);
    }
    group.isolate(1);
    group.running(1).reads.clear();
    group.replica(1).read_index(b"late").unwrap();
    group.settle();
    assert!(group.running(1).reads.is_empty(), "an isolated leader answers no read");
}

#[test]
fn only_a_voter_that_follows_stands() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    assert_eq!(group.replica(1).campaign(), Err(CampaignRefused::Leader));
    group.add_empty(ReplicaConfig::new(4));
    assert_eq!(group.replica(4).campaign(), Err(CampaignRefused::NoVoter));
}

#[test]
fn five_replicas_survive_two() {
    let mut group = Group::founded(&[1, 2, 3, 4, 5]);
    group.elect(1);
    group.propose(1, "one");
    group.isolate(1);
    group.isolate(2);
    group.elect(3);
    let index = group.propose(3, "two");
    assert_eq!(group.data_at(index), Some(&b"two"[..]));
    group.heal();
    group.tick(3);
    group.assert_agreement();
}

#[test]
fn a_leader_tells_whom_it_hands_over_to_and_every_replica_what_waits_for_its_disk() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let index = group.propose(1, "one");
    group.tick(1);
    let replica = group.replica(2);
    assert_eq!((replica.term_at(index), replica.last_term()), (Some(2), 2));
    assert_eq!((replica.term_at(index + 1), replica.writes_in_flight()), (None, 0));
    assert_eq!((replica.durable_index(), replica.id()), (index, 2));
    group.replica(1).propose(b"two".to_vec()).unwrap();
    group.pump(1);
    group.replica(1).propose(b"three".to_vec()).unwrap();
    group.pump(1);
    assert_eq!(group.replica(1).writes_in_flight(), 2);
    group.settle();
    assert_eq!(group.replica(1).writes_in_flight(), 0);
    assert_eq!(group.replica(1).transferring_to(), None);
    group.replica(1).transfer(3).unwrap();
    assert_eq!(group.replica(1).transferring_to(), Some(3));
}

#[test]
fn nothing_is_proposed_where_one_of_several_is_empty() {
    let mut group = Group::founded(&[1]);
    group.elect(1);
    let before = group.replica(1).last_index();
    for proposals in [vec![], vec![Vec::new()], vec![b"x".to_vec(), Vec::new()]] {
        let refused = group.replica(1).propose_all(proposals);
        assert_eq!(refused, Err(ProposeError::Empty));
    }
    assert_eq!(group.replica(1).last_index(), before);
}
