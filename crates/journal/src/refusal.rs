//! Why a replica refuses what it is asked; one type per question, one variant per cause.

use crate::limits::{
    MAX_PENDING_READS, MAX_PROPOSAL_BYTES, MAX_READ_CONTEXT_BYTES, MAX_SNAPSHOT_BYTES,
    MAX_UNCOMMITTED_BYTES,
};
use crate::membership::MembershipError;
use crate::message::MessageError;

/// A [`crate::ReplicaConfig`] that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the replica's configuration is impossible: {why}")]
pub struct ConfigError {
    /// The Raft library's words.
    pub why: String,
}

/// Why a message was ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// No replica sends this.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Sent to another replica, or by this one.
    #[error("a message from {from} to {to} arrived here")]
    NotForUs {
        /// Its sender.
        from: u64,
        /// Its receiver.
        to: u64,
    },
    /// An answer from someone who is no member.
    #[error("an answer from a replica that is no member")]
    UnknownPeer,
    /// A peer acknowledges entries that don't exist.
    #[error("a peer acknowledges entry {index}, the log ends at {last}")]
    Beyond {
        /// The acknowledged index.
        index: u64,
        /// The log's last index.
        last: u64,
    },
    /// The leader knows entries to be here that are not: this disk lost what was acknowledged.
    /// Stop this replica and let the node join again under a new id.
    #[error(
        "this replica acknowledged entries up to {commit}, but its log ends at {last}: its disk \
         lost them. Stop it and let the node join again as a new one"
    )]
    LostEntries {
        /// The leader's commit index for this replica.
        commit: u64,
        /// The log's last index.
        last: u64,
    },
    /// It was asked to stand while it can't; see [`CampaignRefused`].
    #[error("asked to stand for leader while that is impossible")]
    NotNow,
    /// Too many reads wait.
    #[error("{MAX_PENDING_READS} reads wait already")]
    Busy,
    /// The Raft library's own refusal.
    #[error("the Raft library refuses a message: {0}")]
    Library(String),
}

/// Why a replica doesn't stand for leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CampaignRefused {
    /// It leads already.
    #[error("this replica leads already")]
    Leader,
    /// It has no vote.
    #[error("this replica is no voter")]
    NoVoter,
    /// A write that matters for it is not durable yet; try after it.
    #[error("a write is on its way that must be durable first")]
    Unwritten,
    /// A committed membership change is not applied yet; try after it.
    #[error("a committed change of membership is not applied yet")]
    Pending,
}

/// Why a proposal was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another replica leads, or none.
    #[error("this replica does not lead; {}", leads(.leader))]
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<u64>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being handed over; ask the next leader")]
    Transferring,
    /// Nothing is proposed: an empty entry is a new leader's mark.
    #[error("an empty proposal")]
    Empty,
    /// Too large.
    #[error("a proposal of {0} bytes; {MAX_PROPOSAL_BYTES} is the limit")]
    TooLarge(usize),
    /// The group doesn't keep up.
    #[error("{MAX_UNCOMMITTED_BYTES} bytes wait to be committed; try again when some are")]
    Backlog,
}

fn leads(leader: &Option<u64>) -> String {
    leader.map_or_else(|| "nobody is known to".to_owned(), |id| format!("{id} does"))
}

/// Why a membership change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipRefused {
    /// As any proposal.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Another one is on its way, or the leader is too new to know that none is.
    #[error("another change of membership may be on its way; try again when it is applied")]
    InFlight,
    /// It makes no sense.
    #[error(transparent)]
    Change(#[from] MembershipError),
}

/// Why leadership is not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// There is nothing to hand over.
    #[error("this replica does not lead")]
    NotLeader,
    /// The target can't lead.
    #[error("{0} is no other voter")]
    NoVoter(u64),
}

/// Why a read index can't be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefused {
    /// Nobody is known to lead.
    #[error("no leader is known")]
    NoLeader,
    /// The leader has committed nothing in its term yet.
    #[error("the leader has not committed anything in its term yet")]
    NotReady,
    /// Too many wait.
    #[error("{MAX_PENDING_READS} reads wait already")]
    Busy,
    /// The context is too long.
    #[error("a read context of {0} bytes; {MAX_READ_CONTEXT_BYTES} is the limit")]
    Context(usize),
}

/// Why a snapshot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// Too large.
    #[error("a snapshot of {0} bytes; {MAX_SNAPSHOT_BYTES} is the limit")]
    TooLarge(usize),
    /// Not applied yet, or not newer than the last one.
    #[error("a snapshot at {index}; it must be above {newest} and at most {applied}")]
    Index {
        /// The index asked for.
        index: u64,
        /// What the application has reported as applied.
        applied: u64,
        /// The newest snapshot's index.
        newest: u64,
    },
}
