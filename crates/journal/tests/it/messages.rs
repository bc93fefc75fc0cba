//! Messages from outside: any bytes are safe input, and what replicas send goes through.

use journal::{
    ConfState, Entry, MAX_LEARNERS, MAX_MESSAGE_BYTES, MAX_TERM, MAX_VOTERS, Message, MessageError,
    MessageKind, MessageType, StepError, decode_message, encode_message, kind,
};

use crate::group::{Chance, Group};

fn message(kind: MessageType, from: u64, to: u64, term: u64) -> Message {
    Message { msg_type: kind as i32, from, to, term, ..Message::default() }
}

#[test]
fn local_and_malformed_messages_are_refused() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let index = group.replica(2).last_index();
    let local = [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
    ];
    for kind in local {
        let refused = group.replica(2).step(message(kind, 1, 2, 2));
        assert!(matches!(refused, Err(StepError::Message(MessageError::Malformed(_)))), "{kind:?}");
    }
    let mut hole = message(MessageType::MsgAppend, 1, 2, 2);
    hole.index = index;
    hole.log_term = 2;
    hole.entries = vec![Entry { index: index + 2, term: 2, ..Entry::default() }];
    let mut unknown = message(MessageType::MsgAppend, 1, 2, 2);
    unknown.msg_type = 99;
    let mut wild = message(MessageType::MsgHeartbeat, 1, 2, u64::MAX);
    wild.commit = 1;
    let refused = [
        hole,
        unknown,
        wild,
        message(MessageType::MsgAppend, 1, 2, 0),
        message(MessageType::MsgAppend, 0, 2, 2),
        message(MessageType::MsgSnapshot, 1, 2, 2),
        message(MessageType::MsgReadIndex, 3, 2, 0),
        message(MessageType::MsgReadIndexResp, 1, 2, 2),
    ];
    for message in refused {
        let step = group.replica(2).step(message.clone());
        assert!(matches!(step, Err(StepError::Message(_))), "{message:?}: {step:?}");
    }
    let elsewhere = group.replica(2).step(message(MessageType::MsgHeartbeat, 1, 3, 2));
    assert_eq!(elsewhere, Err(StepError::NotForUs { from: 1, to: 3 }));
}

/// The library would panic on this; the operator needs to know what it means.
#[test]
fn a_replica_that_lost_its_entries_is_told() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    let last = group.replica(2).last_index();
    let mut heartbeat = message(MessageType::MsgHeartbeat, 1, 2, 2);
    heartbeat.commit = last + 5;
    let refused = group.replica(2).step(heartbeat);
    assert_eq!(refused, Err(StepError::LostEntries { commit: last + 5, last }));
}

#[test]
fn a_message_over_the_limit_is_refused_both_ways() {
    let bytes = vec![0; MAX_MESSAGE_BYTES + 1];
    assert_eq!(decode_message(&bytes), Err(MessageError::TooLarge(bytes.len())));
    let mut large = message(MessageType::MsgAppend, 1, 2, 2);
    large.context = bytes;
    assert!(matches!(encode_message(&large), Err(MessageError::TooLarge(_))));
    // One that is exactly as long as it may be goes through.
    large.context.truncate(MAX_MESSAGE_BYTES - 64);
    let over = encode_message(&large).unwrap().len() - large.context.len();
    large.context.resize(MAX_MESSAGE_BYTES - over, 0);
    let bytes = encode_message(&large).unwrap();
    assert_eq!(bytes.len(), MAX_MESSAGE_BYTES);
    assert_eq!(decode_message(&bytes), Ok(large));
}

#[test]
fn terms_end_where_counting_never_gets() {
    let decoded = |message: &Message| decode_message(&encode_message(message).unwrap());
    let set: [fn(&mut Message, u64); 3] = [
        |message, term| message.term = term,
        |message, term| message.log_term = term,
        |message, term| message.commit_term = term,
    ];
    for (n, set) in set.into_iter().enumerate() {
        let mut last = message(MessageType::MsgAppend, 1, 2, MAX_TERM);
        set(&mut last, MAX_TERM);
        assert_eq!(decoded(&last), Ok(last.clone()), "field {n}");
        set(&mut last, MAX_TERM + 1);
        assert!(matches!(decoded(&last), Err(MessageError::Malformed(_))), "field {n}");
    }
}

#[test]
fn a_snapshot_with_an_impossible_membership_is_refused() {
    let decodes = |membership: ConfState| {
        let mut snapshot = message(MessageType::MsgSnapshot, 1, 2, 3);
        let content = snapshot.snapshot.get_or_insert_default();
        content.data = vec![0; 40];
        let metadata = content.metadata.get_or_insert_default();
        (metadata.index, metadata.term, metadata.conf_state) = (9, 3, Some(membership));
        decode_message(&encode_message(&snapshot).unwrap()).is_ok()
    };
    let plain = ConfState { voters: vec![1, 2, 3], learners: vec![4], ..ConfState::default() };
    let joint = ConfState {
        voters_outgoing: vec![1, 2, 5],
        learners_next: vec![5],
        auto_leave: true,
        ..plain.clone()
    };
    assert!(decodes(plain.clone()) && decodes(joint.clone()));
    let many = |count: usize| (10..).take(count).collect::<Vec<u64>>();
    for (sizes, fits) in [(MAX_VOTERS, true), (MAX_VOTERS + 1, false)] {
        assert_eq!(decodes(ConfState { voters: many(sizes), ..plain.clone() }), fits);
        let outgoing = ConfState { voters_outgoing: many(sizes), ..plain.clone() };
        assert_eq!(decodes(outgoing), fits);
    }
    assert!(decodes(ConfState { learners: many(MAX_LEARNERS), ..plain.clone() }));
    for wrong in [
        ConfState::default(),
        ConfState { voters: vec![], ..joint.clone() },
        ConfState { learners: many(MAX_LEARNERS + 1), ..plain.clone() },
        // Nobody twice, and nobody without a number.
        ConfState { voters: vec![1, 2, 2], ..plain.clone() },
        ConfState { voters: vec![0, 1, 2], ..plain.clone() },
        ConfState { learners: vec![4, 4], ..plain.clone() },
        // A learner has no vote in either half; the next ones have one in the old half alone.
        ConfState { learners: vec![3], ..plain.clone() },
        ConfState { learners: vec![5], ..joint.clone() },
        ConfState { learners_next: vec![6], ..joint.clone() },
        ConfState { learners_next: vec![1], ..joint.clone() },
        // What ends a joint half belongs to one.
        ConfState { auto_leave: true, ..plain.clone() },
        ConfState { learners_next: vec![5], ..plain.clone() },
    ] {
        assert!(!decodes(wrong.clone()), "{wrong:?}");
    }
}

#[test]
fn garbage_decodes_to_an_error_or_to_a_checked_message() {
    let mut chance = Chance(11);
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length % 300).map(|_| chance.next() as u8).collect();
        if let Ok(message) = decode_message(&bytes) {
            assert_ne!(kind(&message), MessageKind::Local);
        }
    }
}

/// Messages of a living group with bytes changed on the way: refused or harmless, never a panic.
/// (A member that lies consistently can break agreement; that is beyond Raft.)
#[test]
fn changed_messages_never_panic() {
    let mut group = Group::founded(&[1, 2, 3]);
    group.elect(1);
    for n in 0..20 {
        group.propose(1, &format!("entry {n}"));
    }
    group.replica(1).propose(b"more".to_vec()).unwrap();
    group.replica(1).read_index(b"r").unwrap();
    let mut seen = Vec::new();
    for _ in 0..6 {
        for id in 1..=3 {
            group.pump(id);
            group.write(id);
        }
        seen.extend(group.network.iter().cloned());
        let count = group.network.len();
        for _ in 0..count {
            group.deliver(0);
        }
    }
    assert!(seen.len() > 6);
    let mut chance = Chance(3);
    let mut accepted = 0;
    for round in 0..20_000 {
        let original = &seen[round % seen.len()];
        let mut bytes = encode_message(original).unwrap();
        for _ in 0..=chance.below(2) {
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] = chance.next() as u8;
        }
        let Ok(message) = decode_message(&bytes) else {
            continue;
        };
        let to = message.to;
        if (1..=3).contains(&to) && group.replica(to).step(message).is_ok() {
            accepted += 1;
        }
        if round % 500 == 0 {
            // A fresh group: the changes have made this one believe strange things.
            group = Group::founded(&[1, 2, 3]);
            group.elect(1);
            for n in 0..20 {
                group.propose(1, &format!("entry {n}"));
            }
        }
    }
    assert!(accepted > 100, "{accepted} changed messages got through");
}

#[test]
fn a_replica_moves_between_threads() {
    fn moves<T: Send>() {}
    moves::<journal::Replica>();
    moves::<journal::Segments<journal::MemoryDisk>>();
}
