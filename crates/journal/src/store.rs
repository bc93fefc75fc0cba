//! The entries since the last snapshot, in memory, in the form that the Raft library reads.
//!
//! The library calls an entry stable once it is here; that it is durable is told separately.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot as RaftSnapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::chain::{CHAIN_BYTES, Chain};
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::recovered::Recovered;
use crate::snapshot_file::{Snapshot, sorted};

/// What an entry takes besides its data, for the library's size limits.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

/// The length of a replica's id in front of a read context.
pub(crate) const ID_BYTES: usize = 8;

struct Stored {
    entry: Entry,
    /// The entry chain after this entry.
    chain: Chain,
}

/// The log as the library sees it.
pub(crate) struct EntryLog {
    /// The entry before the first one here.
    base_index: u64,
    base_term: u64,
    base_chain: Chain,
    entries: VecDeque<Stored>,
    /// The newest snapshot, which peers too far behind are sent.
    snapshot: Option<Snapshot>,
    hard_state: HardState,
    /// A peer needs a newer snapshot than there is: one that knows it as a member.
    wanted: Cell<bool>,
}

/// An entry's size for limits.
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64 + entry.context.len() as u64 + ENTRY_OVERHEAD_BYTES
}

/// A snapshot in the library's form: its data begins with the entry chain.
fn to_raft(snapshot: &Snapshot) -> RaftSnapshot {
    let mut data = Vec::with_capacity(CHAIN_BYTES + snapshot.data.len());
    data.extend_from_slice(&snapshot.entry_chain.0);
    data.extend_from_slice(&snapshot.data);
    let metadata = SnapshotMetadata {
        conf_state: Some(snapshot.membership.clone()),
        index: snapshot.index,
        term: snapshot.term,
    };
    RaftSnapshot { data, metadata: Some(metadata) }
}

/// The other direction; `None` where it is not of this code's making.
pub(crate) fn from_raft(snapshot: &RaftSnapshot) -> Option<Snapshot> {
    let metadata = snapshot.metadata.as_ref()?;
    let (chain, data) = snapshot.data.split_at_checked(CHAIN_BYTES)?;
    if data.len() > MAX_SNAPSHOT_BYTES {
        return None;
    }
    Some(Snapshot {
        index: metadata.index,
        term: metadata.term,
        entry_chain: Chain(chain.try_into().ok()?),
        membership: sorted(metadata.conf_state.clone()?),
        data: Arc::new(data.to_vec()),
    })
}

impl EntryLog {
    pub(crate) fn new(recovered: Recovered) -> Self {
        let mut log = Self {
            base_index: 0,
            base_term: 0,
            base_chain: Chain::EMPTY,
            entries: VecDeque::new(),
            snapshot: None,
            hard_state: recovered.hard_state,
            wanted: Cell::new(false),
        };
        if let Some(snapshot) = recovered.snapshot {
            log.install(snapshot);
        }
        log.append(&recovered.entries);
        log
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index)
    }

    pub(crate) fn newest_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.get()
    }

    pub(crate) fn first(&self) -> u64 {
        self.base_index + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    fn get(&self, index: u64) -> Option<&Stored> {
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The term at an index that is here, or of the entry just before.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        self.get(index).map(|stored| stored.entry.term)
    }

    /// The entry chain at an index that is here, or just before.
    pub(crate) fn chain_at(&self, index: u64) -> Option<Chain> {
        if index == self.base_index {
            return Some(self.base_chain);
        }
        self.get(index).map(|stored| stored.chain)
    }

    /// Takes entries that follow the log, or replace its end.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(
            first.index > self.base_index && first.index <= self.last() + 1,
            "entries at {} do not connect to the log {}..={}",
            first.index,
            self.first(),
            self.last()
        );
        let keep = usize::try_from(first.index - self.first()).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        let mut chain = self.entries.back().map_or(self.base_chain, |stored| stored.chain);
        for entry in entries {
            chain = chain.after_entry(entry);
            self.entries.push_back(Stored { entry: entry.clone(), chain });
        }
    }

    /// Replaces everything by a snapshot from a leader.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        self.base_index = snapshot.index;
        self.base_term = snapshot.term;
        self.base_chain = snapshot.entry_chain;
        self.entries.clear();
        self.snapshot = Some(snapshot);
        self.wanted.set(false);
    }

    /// Takes the application's snapshot and drops entries under it, but the newest `keep`.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, keep: u64) {
        let to = snapshot.index.saturating_sub(keep);
        while self.base_index < to
            && let Some(stored) = self.entries.pop_front()
        {
            self.base_index = stored.entry.index;
            self.base_term = stored.entry.term;
            self.base_chain = stored.chain;
        }
        self.snapshot = Some(snapshot);
        self.wanted.set(false);
    }
}

impl Storage for EntryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let membership = self.snapshot.as_ref().map(|snapshot| snapshot.membership.clone());
        let conf_state: ConfState = membership.unwrap_or_default();
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 || low > high {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let from = usize::try_from(low - self.first()).unwrap_or(usize::MAX);
        let count = usize::try_from(high - low).unwrap_or(usize::MAX);
        let mut bytes = 0_u64;
        let mut found = Vec::new();
        for stored in self.entries.range(from..).take(count) {
            bytes = bytes.saturating_add(entry_bytes(&stored.entry));
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push(stored.entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.base_index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or(raft::Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<RaftSnapshot> {
        let knows = |snapshot: &&Snapshot| {
            let members = &snapshot.membership;
            snapshot.index >= request_index
                && [&members.voters, &members.voters_outgoing, &members.learners]
                    .iter()
                    .any(|list| list.contains(&to))
        };
        match self.snapshot.as_ref().filter(knows) {
            Some(snapshot) => Ok(to_raft(snapshot)),
            None => {
                // A receiver ignores a snapshot that doesn't know it as a member.
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
