//! What a log's records add up to: the live entries, the hard state, the snapshots that count.
//!
//! It refuses records that no run of this code writes, however right their checksums are.

use raft::eraftpb::{Entry, HardState};

use crate::chain::Chain;
use crate::record::{Record, SnapshotMark};

/// Records that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// An entry doesn't follow the one before it.
    #[error("entry {index} leaves a hole after entry {last}")]
    EntryHole {
        /// The entry's index.
        index: u64,
        /// The last index before it.
        last: u64,
    },
    /// An entry lies under a snapshot that replaced all entries.
    #[error("entry {index} lies under the installed snapshot at {floor}")]
    UnderSnapshot {
        /// The entry's index.
        index: u64,
        /// The snapshot's index.
        floor: u64,
    },
    /// An entry replaces another one that was recorded as committed.
    #[error("entry {index} replaces a committed entry")]
    Committed {
        /// The entry's index.
        index: u64,
    },
    /// A term is out of order: of an entry, against its predecessor or the recorded term.
    #[error("entry {index} has a term that was not recorded or goes back")]
    EntryTerm {
        /// The entry's index.
        index: u64,
    },
    /// Term, vote or commit contradict what was recorded before.
    #[error("the recorded term, vote or commit goes back or changes")]
    HardState,
    /// A commit index beyond the last entry.
    #[error("entries up to {commit} were recorded as committed, the log ends at {last}")]
    CommitBeyondEnd {
        /// The recorded commit index.
        commit: u64,
        /// The last index.
        last: u64,
    },
    /// A snapshot mark that doesn't fit the entries.
    #[error("the snapshot mark at {index} does not fit the entries")]
    Mark {
        /// The mark's index.
        index: u64,
    },
    /// The entries don't hash to what a snapshot mark says.
    #[error("the entries up to {index} do not match the entry chain recorded there")]
    EntryChain {
        /// The mark's index.
        index: u64,
    },
    /// Entries begin after the first one and no snapshot stands for those before.
    #[error("the log's beginning is gone and no snapshot stands for it")]
    NoSnapshot,
}

/// A snapshot mark and the sequence number of its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marked {
    pub(crate) sequence: u64,
    pub(crate) mark: SnapshotMark,
}

/// The state that records add up to.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The index before the first of `entries`; unknown until something says so.
    floor: Option<u64>,
    /// Whether entries at or under the floor are impossible. Where older segments are gone, the
    /// first entry may be a leftover that a later one under it replaces.
    floor_is_fixed: bool,
    entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
    /// The snapshots that the entries continue from, oldest first.
    pub(crate) marks: Vec<Marked>,
}

impl Replay {
    /// `from_start`: the records begin with the log's very first one.
    pub(crate) fn new(from_start: bool) -> Self {
        Self {
            floor: from_start.then_some(0),
            floor_is_fixed: from_start,
            entries: Vec::new(),
            hard_state: HardState::default(),
            marks: Vec::new(),
        }
    }

    pub(crate) fn accept(&mut self, sequence: u64, record: Record) -> Result<(), Inconsistency> {
        match record {
            Record::SegmentHeader(_) | Record::Synced => Ok(()),
            Record::Entry(entry) => self.accept_entry(entry),
            Record::HardState(state) => self.accept_hard_state(state),
            Record::SnapshotMark(mark) => self.accept_mark(sequence, mark),
        }
    }

    /// The entries after `index`.
    pub(crate) fn entries_after(&self, index: u64) -> Vec<Entry> {
        let skip = index.saturating_sub(self.floor.unwrap_or(index));
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).cloned().collect()
    }

    /// The entry chain at `to`, from its value at `from`.
    pub(crate) fn entry_chain(&self, from: u64, value: Chain, to: u64) -> Chain {
        let between = self.entries.iter().filter(|e| e.index > from && e.index <= to);
        between.fold(value, |chain, entry| chain.after_entry(entry))
    }

    /// Whether the entries need no snapshot before them.
    pub(crate) fn begins_at_first_entry(&self) -> bool {
        self.floor == Some(0)
    }

    /// Refuses a log whose recorded commit lies beyond its end.
    pub(crate) fn finish(&self) -> Result<(), Inconsistency> {
        let (commit, last) = (self.hard_state.commit, self.last());
        if commit > last { Err(Inconsistency::CommitBeyondEnd { commit, last }) } else { Ok(()) }
    }

    fn last(&self) -> u64 {
        let mark = self.marks.last().map_or(0, |marked| marked.mark.index);
        let floor = self.floor.unwrap_or(mark);
        self.entries.last().map_or(floor, |entry| entry.index)
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.entries.first()?.index)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    fn accept_entry(&mut self, entry: Entry) -> Result<(), Inconsistency> {
        let index = entry.index;
        let mut floor = *self.floor.get_or_insert(index.saturating_sub(1));
        if index <= floor && !self.floor_is_fixed {
            floor = index.saturating_sub(1);
            self.floor = Some(floor);
            self.entries.clear();
        }
        self.marks.retain(|marked| marked.mark.index >= floor);
        let last = self.last();
        if index <= floor {
            return Err(Inconsistency::UnderSnapshot { index, floor });
        }
        if index > last + 1 {
            return Err(Inconsistency::EntryHole { index, last });
        }
        if let Some(old) = self.get(index)
            && old.term != entry.term
            && index <= self.hard_state.commit
        {
            return Err(Inconsistency::Committed { index });
        }
        let before = self.get(index - 1).map_or(0, |before| before.term);
        if entry.term < before || entry.term > self.hard_state.term {
            return Err(Inconsistency::EntryTerm { index });
        }
        let keep = usize::try_from(index - 1 - floor).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        self.entries.push(entry);
        Ok(())
    }

    fn accept_hard_state(&mut self, state: HardState) -> Result<(), Inconsistency> {
        let old = &self.hard_state;
        let vote_changes = state.term == old.term && old.vote != 0 && state.vote != old.vote;
        if state.term < old.term || state.commit < old.commit || vote_changes {
            return Err(Inconsistency::HardState);
        }
        self.hard_state = state;
        Ok(())
    }

    fn accept_mark(&mut self, sequence: u64, mark: SnapshotMark) -> Result<(), Inconsistency> {
        let index = mark.index;
        if mark.term > self.hard_state.term {
            return Err(Inconsistency::Mark { index });
        }
        if mark.installed {
            self.entries.clear();
            self.marks.clear();
            self.floor = Some(index);
            self.floor_is_fixed = true;
        } else if let Some(floor) = self.floor {
            if index < floor {
                // Its entries went with an older segment, so a newer snapshot covers it.
                return Ok(());
            }
            let other_term = self.get(index).is_some_and(|entry| entry.term != mark.term);
            if index > self.last() || other_term {
                return Err(Inconsistency::Mark { index });
            }
        }
        self.marks.push(Marked { sequence, mark });
        Ok(())
    }
}
