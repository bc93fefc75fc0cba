//! Messages between replicas: their kinds, their encoding, and what is refused before the Raft
//! library sees it. The library trusts its input and panics on some of it; this module doesn't.

use prost::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot as RaftSnapshot};

use crate::limits::{
    MAX_LEARNERS, MAX_MESSAGE_BYTES, MAX_READ_CONTEXT_BYTES, MAX_RECORD_BYTES, MAX_TERM, MAX_VOTERS,
};
use crate::snapshot_file::Snapshot;
use crate::store;

/// The kind of a message, for filters in front of [`crate::Replica::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// Would you vote for me? Its term is the one that the sender would stand in.
    PreVote,
    /// The answer to it.
    PreVoteReply,
    /// Vote for me. With [`is_forced`], even though a leader lives: it hands over.
    Vote,
    /// The answer to it.
    VoteReply,
    /// Stand now, without asking first: the leader hands over.
    TimeoutNow,
    /// Entries, or a probe for where the logs agree.
    Append,
    /// The answer to entries and to snapshots.
    AppendReply,
    /// The leader lives.
    Heartbeat,
    /// The answer to it.
    HeartbeatReply,
    /// A snapshot instead of entries.
    Snapshot,
    /// A follower asks the leader for a read index.
    ReadIndex,
    /// The answer to it.
    ReadIndexReply,
    /// Never sent between replicas; refused on arrival.
    Local,
}

/// A message's kind.
pub fn kind(message: &Message) -> MessageKind {
    match MessageType::from_i32(message.msg_type) {
        Some(MessageType::MsgRequestPreVote) => MessageKind::PreVote,
        Some(MessageType::MsgRequestPreVoteResponse) => MessageKind::PreVoteReply,
        Some(MessageType::MsgRequestVote) => MessageKind::Vote,
        Some(MessageType::MsgRequestVoteResponse) => MessageKind::VoteReply,
        Some(MessageType::MsgTimeoutNow) => MessageKind::TimeoutNow,
        Some(MessageType::MsgAppend) => MessageKind::Append,
        Some(MessageType::MsgAppendResponse) => MessageKind::AppendReply,
        Some(MessageType::MsgHeartbeat) => MessageKind::Heartbeat,
        Some(MessageType::MsgHeartbeatResponse) => MessageKind::HeartbeatReply,
        Some(MessageType::MsgSnapshot) => MessageKind::Snapshot,
        Some(MessageType::MsgReadIndex) => MessageKind::ReadIndex,
        Some(MessageType::MsgReadIndexResp) => MessageKind::ReadIndexReply,
        _ => MessageKind::Local,
    }
}

/// Whether a vote request says that the living leader wants it (a transfer): it passes the
/// library's own check that no leader lives.
pub fn is_forced(message: &Message) -> bool {
    kind(message) == MessageKind::Vote && message.context == raft::CAMPAIGN_TRANSFER
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Larger than any message of this code.
    #[error("a message of {0} bytes; {MAX_MESSAGE_BYTES} is the limit")]
    TooLarge(usize),
    /// The bytes don't decode.
    #[error("a message does not decode")]
    Undecodable,
    /// The message is not one that a replica sends.
    #[error("a malformed message: {0}")]
    Malformed(&'static str),
}

/// Encodes a message; [`decode_message`] takes it.
///
/// # Errors
/// [`MessageError::TooLarge`].
pub fn encode_message(message: &Message) -> Result<Vec<u8>, MessageError> {
    let length = message.encoded_len();
    if length > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLarge(length));
    }
    Ok(message.encode_to_vec())
}

/// Decodes and checks a message from another replica. Any bytes are safe input.
///
/// # Errors
/// See [`MessageError`].
pub fn decode_message(bytes: &[u8]) -> Result<Message, MessageError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLarge(bytes.len()));
    }
    let message = Message::decode(bytes).map_err(|_| MessageError::Undecodable)?;
    check(&message)?;
    Ok(message)
}

/// Refuses what no replica sends, whatever the receiver's state.
pub(crate) fn check(message: &Message) -> Result<(), MessageError> {
    let kind = kind(message);
    let refuse = |why| Err(MessageError::Malformed(why));
    if kind == MessageKind::Local {
        return refuse("its kind is not sent between replicas");
    }
    if message.from == 0 || message.to == 0 {
        return refuse("sender or receiver is missing");
    }
    // Term 0 marks the library's local messages; only read requests travel with it.
    if (message.term == 0) != (kind == MessageKind::ReadIndex) {
        return refuse("its term is missing");
    }
    if message.term > MAX_TERM || message.log_term > MAX_TERM || message.commit_term > MAX_TERM {
        return refuse("its term is impossible");
    }
    match kind {
        MessageKind::Append => check_entries(message),
        MessageKind::Snapshot => check_snapshot(message),
        MessageKind::ReadIndex | MessageKind::ReadIndexReply => check_read(&message.entries),
        _ if !message.entries.is_empty() => refuse("entries in a message that has none"),
        _ => Ok(()),
    }
}

fn check_entries(message: &Message) -> Result<(), MessageError> {
    let refuse = |why| Err(MessageError::Malformed(why));
    if message.log_term > message.term {
        return refuse("the entry before it is of a later term than its leader");
    }
    let mut term = message.log_term;
    let mut index = message.index;
    for entry in &message.entries {
        if index.checked_add(1) != Some(entry.index) {
            return refuse("its entries are not contiguous");
        }
        if entry.term < term || entry.term > message.term {
            return refuse("its entries' terms are out of order");
        }
        if EntryType::from_i32(entry.entry_type).is_none() {
            return refuse("an entry of unknown type");
        }
        if entry.data.len() + entry.context.len() + 64 > MAX_RECORD_BYTES {
            return refuse("an entry too large for the log");
        }
        (term, index) = (entry.term, entry.index);
    }
    Ok(())
}

fn check_read(entries: &[Entry]) -> Result<(), MessageError> {
    match entries {
        [entry] if entry.data.len() <= MAX_READ_CONTEXT_BYTES + store::ID_BYTES => Ok(()),
        _ => Err(MessageError::Malformed("a read request without its one context")),
    }
}

fn check_snapshot(message: &Message) -> Result<(), MessageError> {
    let snapshot = message.snapshot.as_ref();
    let snapshot = snapshot.ok_or(MessageError::Malformed("a snapshot message without one"))?;
    let metadata = snapshot.metadata.as_ref();
    if metadata.is_none_or(|metadata| metadata.term > message.term || metadata.term == 0) {
        return Err(MessageError::Malformed("a snapshot with an impossible term"));
    }
    decode_snapshot(snapshot).map(|_| ())
}

/// Takes a snapshot out of the library's form; refuses one that the library would choke on.
pub(crate) fn decode_snapshot(snapshot: &RaftSnapshot) -> Result<Snapshot, MessageError> {
    let refuse = |why| MessageError::Malformed(why);
    let decoded = store::from_raft(snapshot).ok_or(refuse("a snapshot that does not decode"))?;
    let members = &decoded.membership;
    if decoded.index == 0 {
        return Err(refuse("a snapshot of nothing"));
    }
    let sizes_fit = !members.voters.is_empty()
        && members.voters.len() <= MAX_VOTERS
        && members.voters_outgoing.len() <= MAX_VOTERS
        && members.learners.len() <= MAX_LEARNERS
        && members.learners_next.len() <= MAX_LEARNERS;
    // Learners have no vote in either configuration, next ones still have one in the old.
    let is_voter = |id: &u64| members.voters.contains(id) || members.voters_outgoing.contains(id);
    let next_fit = members.learners_next.iter().all(|id| members.voters_outgoing.contains(id))
        && !members.learners_next.iter().any(|id| members.voters.contains(id));
    let distinct =
        [&members.voters, &members.voters_outgoing, &members.learners, &members.learners_next]
            .iter()
            .all(|list| !list.contains(&0) && list.windows(2).all(|pair| pair[0] < pair[1]));
    let joint_fits = !members.voters_outgoing.is_empty()
        || (members.learners_next.is_empty() && !members.auto_leave);
    if !sizes_fit || !next_fit || !distinct || !joint_fits || members.learners.iter().any(is_voter)
    {
        return Err(refuse("a snapshot with an impossible membership"));
    }
    Ok(decoded)
}
