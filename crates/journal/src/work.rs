//! What a replica asks of its caller, and how its caller must treat it.

use raft::eraftpb::Message;

use crate::membership::Membership;
use crate::snapshot_file::Snapshot;
use crate::write::Write;

/// One piece of work. Pieces must be carried out in the order in which they were handed out;
/// inside one: the snapshot before the committed entries. Sending and writing may run at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// Messages that may go at once. Those that must wait for a write stay inside the replica
    /// until [`crate::Replica::written`] has been told of it.
    pub send: Vec<Message>,
    /// What must be made durable, in the order of the ids; then report it as written.
    pub write: Option<Write>,
    /// A leader's snapshot, durable here: it replaces the application's whole state.
    pub installed_snapshot: Option<Snapshot>,
    /// Entries that are committed by the group and durable here, each exactly once since the
    /// snapshot. Report [`crate::Replica::applied`] after applying them.
    pub committed: Vec<Committed>,
    /// Answers to [`crate::Replica::read_index`].
    pub reads: Vec<ReadIndex>,
}

impl Work {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.send.is_empty()
            && self.write.is_none()
            && self.installed_snapshot.is_none()
            && self.committed.is_empty()
            && self.reads.is_empty()
    }
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that took it.
    pub term: u64,
    /// What it holds.
    pub payload: Payload,
}

/// What a committed entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A proposal.
    Data(Vec<u8>),
    /// A new leader's first entry.
    Empty,
    /// A change of membership, in force from here on at this replica; `applied` is false where
    /// it didn't fit any more and changed nothing, on every replica alike.
    Membership {
        /// The membership after the entry.
        now: Membership,
        /// Whether the entry changed it.
        applied: bool,
    },
}

/// A read request's answer: once the application has applied `index`, its state is at least as
/// new as anything that was acknowledged before the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadIndex {
    /// The request's context.
    pub context: Vec<u8>,
    /// The index to wait for.
    pub index: u64,
}
