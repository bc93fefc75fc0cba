//! What a replica starts from: read from its files, or founded.

use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState};

use crate::chain::Chain;
use crate::limits::{MAX_SNAPSHOT_BYTES, MAX_VOTERS};
use crate::snapshot_file::{BadSnapshot, Snapshot, sorted};

/// The index and term of the snapshot that a group begins with.
pub const FIRST_INDEX: u64 = 1;
const FIRST_TERM: u64 = 1;

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
            index: FIRST_INDEX,
            term: FIRST_TERM,
            entry_chain: Chain::genesis(&membership.voters, &data),
            membership,
            data: Arc::new(data),
        };
        let hard_state = HardState { term: FIRST_TERM, vote: 0, commit: FIRST_INDEX };
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

    /// What start-up mended or got around.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}
