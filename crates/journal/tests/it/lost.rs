//! A disk that lost what it had called durable, and shows what stood there before.

use journal::{Kept, StepError};
use raft::eraftpb::{Message, MessageType};

use crate::group::Group;

#[test]
fn what_an_earlier_leader_left_is_not_taken_for_what_is_committed() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    group.isolate(1);
    group.propose(1, "never committed");
    group.propose(1, "nor this");
    let before = group.running(1).segments.disk().clone();
    group.elect(2);
    let index = group.propose(2, "committed");
    group.heal();
    group.tick(3);
    group.assert_agreement();
    // All that came after is lost; its end looks like any other.
    group.crash(1, |_| Kept::everything());
    let node = group.nodes.get_mut(&1).unwrap();
    (node.disk, node.durable_ballot) = (Some(before), (0, 0));
    group.start(1);
    assert_eq!(group.replica(1).last_index(), index);

    let term = group.replica(2).role().term;
    let from_leader = |kind: MessageType| Message {
        msg_type: kind as i32,
        from: 2,
        to: 1,
        term,
        commit: index,
        ..Message::default()
    };
    let committed = group.replica(1).commit_index();
    group.replica(1).step(from_leader(MessageType::MsgHeartbeat)).unwrap();
    group.pump(1);
    assert_eq!(group.replica(1).commit_index(), committed, "it is not known whose entry that is");
    let append = Message { index, log_term: term, ..from_leader(MessageType::MsgAppend) };
    let refused = group.replica(1).step(append);
    assert_eq!(refused, Err(StepError::LostEntries { commit: index, last: index }));
}

#[test]
fn what_a_restarted_replica_still_has_is_committed_once_an_append_fits() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(2);
    group.isolate(1);
    group.crash(1, |_| Kept::everything());
    group.start(1);
    group.heal();
    let index = group.propose(2, "x");
    group.tick(3);
    assert_eq!(group.replica(1).commit_index(), index);
    group.assert_agreement();
}
