//! What can be asked of a replica without changing it.

use raft::{ProgressState, StateRole};

use crate::chain::Chain;
use crate::replica::Replica;
use crate::snapshot_file::Snapshot;

/// What a replica is in its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleKind {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It stands for election.
    Candidate,
    /// It leads.
    Leader,
}

/// A replica's place in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// What it is.
    pub kind: RoleKind,
    /// In which term.
    pub term: u64,
    /// Who leads the term, as far as it knows.
    pub leader: Option<u64>,
    /// Whom it voted for in the term.
    pub vote: Option<u64>,
}

/// What a leader knows of a member; itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub id: u64,
    /// The last index known to be durable there.
    pub match_index: u64,
    /// The next index to send.
    pub next_index: u64,
    /// Whether it was heard since the leader last checked for a quorum.
    pub recent_active: bool,
    /// Whether it is receiving a snapshot.
    pub needs_snapshot: bool,
}

impl Replica {
    /// This replica's id.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// Role, term, leader and vote.
    pub fn role(&self) -> Role {
        let raft = &self.node.raft;
        let named = |id: u64| (id != raft::INVALID_ID).then_some(id);
        Role {
            kind: match raft.state {
                StateRole::Follower => RoleKind::Follower,
                StateRole::PreCandidate => RoleKind::PreCandidate,
                StateRole::Candidate => RoleKind::Candidate,
                StateRole::Leader => RoleKind::Leader,
            },
            term: raft.term,
            leader: named(raft.leader_id),
            vote: named(raft.vote),
        }
    }

    /// The last index known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last index in the log, durable or not.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The term of the last entry.
    pub fn last_term(&self) -> u64 {
        self.node.raft.raft_log.last_term()
    }

    /// The last index known to be durable here.
    pub fn durable_index(&self) -> u64 {
        self.node.raft.raft_log.persisted
    }

    /// The last index that the application has reported as applied.
    pub fn applied_index(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// The newest snapshot's index; 0 without one.
    pub fn snapshot_index(&self) -> u64 {
        self.node.store().snapshot_index()
    }

    /// The newest snapshot, the application's starting point after a restart.
    pub fn newest_snapshot(&self) -> Option<&Snapshot> {
        self.node.store().newest_snapshot()
    }

    /// The entry chain at an index, from the oldest entry in memory to the last one that was
    /// handed out to be written. Equal values prove equal logs up to there.
    pub fn chain_at(&self, index: u64) -> Option<Chain> {
        self.node.store().chain_at(index)
    }

    /// The term of the entry at an index in the same range.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.node.store().term_at(index)
    }

    /// The oldest index that [`Self::chain_at`] answers.
    pub fn oldest_chain_index(&self) -> u64 {
        self.node.store().first() - 1
    }

    /// Whether the application should call [`Self::snapshot`] now: the log has grown, or a peer
    /// needs one that is new enough to know it as a member.
    pub fn wants_snapshot(&self) -> bool {
        let grown = self.entries_since_snapshot >= self.config.snapshot_after_entries
            || self.bytes_since_snapshot >= self.config.snapshot_after_bytes;
        (grown || self.node.store().is_wanted()) && self.applied_index() > self.snapshot_index()
    }

    /// What the leader knows of every member, sorted by id; empty at a follower.
    pub fn progress(&self) -> Vec<PeerProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let peers = self.node.raft.prs().iter();
        let mut progress: Vec<PeerProgress> = peers
            .map(|(id, peer)| PeerProgress {
                id: *id,
                match_index: peer.matched,
                next_index: peer.next_idx,
                recent_active: peer.recent_active || *id == self.config.id,
                needs_snapshot: peer.state == ProgressState::Snapshot,
            })
            .collect();
        progress.sort_by_key(|peer| peer.id);
        progress
    }

    /// Whom leadership is being handed to.
    pub fn transferring_to(&self) -> Option<u64> {
        self.node.raft.lead_transferee
    }

    /// Writes handed out and not reported as durable yet.
    pub fn writes_in_flight(&self) -> usize {
        self.held.len()
    }
}
