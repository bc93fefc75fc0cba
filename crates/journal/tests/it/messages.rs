//! Messages from outside: any bytes are safe input, and what replicas send goes through.

use journal::{
    Entry, MAX_MESSAGE_BYTES, Message, MessageError, MessageKind, MessageType, StepError,
    decode_message, encode_message, kind,
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
