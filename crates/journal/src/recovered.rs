//! What a replica starts from: read from its files, or founded.

use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState};

use crate::chain::Chain;
use crate::limits::{MAX_SNAPSHOT_BYTES, MAX_VOTERS};
use crate::snapshot_file::{BadSnapshot, Snapshot, sorted};

/// The index and term of the snapshot that a group begins with.
pub const FIRST_INDEX: u64 = 1;
const FIRST_TERM: u64 = 1;

/// A place in a log. Of two ends, the one of the higher term, then of the higher index, may have
/// more of what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct End {
    /// The term of the entry there.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// The durable state of a replica at its start.
///
/// The default is that of a replica without any: it joins, and learns all from a leader.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    pub(crate) snapshot: Option<Snapshot>,
    /// Contiguous, the first one right after the snapshot.
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
    /// Whether the snapshot and hard state are not on disk yet.
    pub(crate) unwritten: bool,
    pub(crate) notes: Vec<Note>,
}

/// Something that start-up found and mended or got around, for the operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An append that was never acknowledged was incomplete, and is gone.
    TornTail {
        /// The segment.
        file: String,
        /// Where it was cut.
        offset: u64,
        /// How much was cut.
        bytes: u64,
    },
    /// A snapshot is damaged, and an older one with the entries after it stood in.
    BadSnapshot {
        /// The snapshot.
        file: String,
        /// What is wrong; `None` where the file is missing.
        why: Option<BadSnapshot>,
    },
}

/// Why a group can't be founded like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The voters' number is out of bounds.
    #[error("a group begins with 1 to {MAX_VOTERS} voters, not {0}")]
    Voters(usize),
    /// An id is zero or named twice.
    #[error("voter id {0} is zero or named twice")]
    VoterId(u64),
    /// The first state is too large.
    #[error("a group's first state has at most {MAX_SNAPSHOT_BYTES} bytes, not {0}")]
    Data(usize),
}

impl Recovered {
    /// A new group's beginning: its voters and the application's first state, as a snapshot at
    /// index 1. Every one of the first voters must be founded with exactly the same arguments.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub fn bootstrap(voters: &[u64], data: Vec<u8>) -> Result<Self, BootstrapError> {
        Self::bootstrap_at(voters, data, End { index: FIRST_INDEX, term: FIRST_TERM })
    }

    /// A new group that goes on from the state of one that is lost for good, as a snapshot at
    /// `at`. The voters' ids must be new, and index and term above all that the lost group can
    /// have had, so that nothing of it is ever taken for something of this one.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub fn bootstrap_at(voters: &[u64], data: Vec<u8>, at: End) -> Result<Self, BootstrapError> {
        if voters.is_empty() || voters.len() > MAX_VOTERS {
            return Err(BootstrapError::Voters(voters.len()));
        }
        if data.len() > MAX_SNAPSHOT_BYTES {
            return Err(BootstrapError::Data(data.len()));
        }
        let membership = sorted(ConfState { voters: voters.to_vec(), ..ConfState::default() });
        let mut before = 0;
        for id in &membership.voters {
            if *id == before {
                return Err(BootstrapError::VoterId(*id));
            }
            before = *id;
        }
        let snapshot = Snapshot {
            index: at.index,
            term: at.term,
            entry_chain: Chain::genesis(&membership.voters, &data),
            membership,
            data: Arc::new(data),
        };
        let hard_state = HardState { term: at.term, vote: 0, commit: at.index };
        let snapshot = Some(snapshot);
        Ok(Self { snapshot, hard_state, unwritten: true, ..Self::default() })
    }

    /// Whether there is nothing at all: neither state nor a recorded term.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none()
            && self.entries.is_empty()
            && self.hard_state == HardState::default()
    }

    /// The state that the application starts from, if any; entries after it are handed over as
    /// they become committed.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Term, vote and commit as recorded.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// The entries after the snapshot.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the log ends, committed or not.
    #[must_use]
    pub fn end(&self) -> End {
        let snapshot = self.snapshot.as_ref().map(|s| End { index: s.index, term: s.term });
        let last = self.entries.last().map(|entry| End { index: entry.index, term: entry.term });
        last.or(snapshot).unwrap_or_default()
    }

    /// The entry chain at the end of the log: equal on two replicas, their logs are equal.
    #[must_use]
    pub fn end_chain(&self) -> Chain {
        let first = self.snapshot.as_ref().map_or(Chain::EMPTY, |snapshot| snapshot.entry_chain);
        self.entries.iter().fold(first, |chain, entry| chain.after_entry(entry))
    }

    /// What start-up mended or got around.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
