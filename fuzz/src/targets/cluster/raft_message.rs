//! Messages of the log library. What is accepted is encoded and accepted again.

use journal::{Entry, Message, MessageType, decode_message, encode_message};

use crate::Target;

pub(crate) const TARGET: Target =
    Target::new("raft-message", "messages of the log library", read, seeds);

pub(super) fn read(input: &[u8]) {
    let Ok(message) = decode_message(input) else { return };
    let written = encode_message(&message).expect("what was accepted can be sent");
    assert_eq!(decode_message(&written).as_ref(), Ok(&message));
    let _what = (journal::kind(&message), journal::is_forced(&message));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let entry = Entry { term: 2, index: 6, data: b"x".to_vec(), ..Entry::default() };
    let message = |kind: MessageType| Message {
        msg_type: kind as i32,
        from: 1,
        to: 2,
        term: 2,
        log_term: 2,
        index: 5,
        commit: 4,
        ..Message::default()
    };
    let append = Message { entries: vec![entry], ..message(MessageType::MsgAppend) };
    let kinds = [
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestPreVote,
        MessageType::MsgAppendResponse,
        MessageType::MsgTimeoutNow,
    ];
    let messages = kinds.into_iter().map(message).chain([append]);
    messages.filter_map(|message| encode_message(&message).ok()).collect()
}
