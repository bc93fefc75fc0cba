//! The log's files: appending records to segments, rotating them, keeping snapshots, and
//! removing what a snapshot covers. Reading them back is [`crate::recovery`]'s part.
//!
//! **Invariant:** the first error of any disk operation ends the log for this process.

use std::collections::VecDeque;

use raft::eraftpb::HardState;

use crate::chain::Chain;
use crate::disk::{Disk, DiskError};
use crate::limits::{MAX_GROUP_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use crate::record::{self, Position, Record, SegmentHeader, SnapshotMark};
use crate::recovered::Recovered;
use crate::recovery::{self, OpenError};
use crate::snapshot_file;
use crate::write::{Fatal, SnapshotWrite, Write};

/// How many snapshots stay on disk: the newest, and one to fall back to when it rots.
pub const KEPT_SNAPSHOTS: usize = 2;

/// How the log lays out its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// A segment that has reached this size gets a successor.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// One segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first_sequence: u64,
    pub(crate) bytes: u64,
    /// The highest entry index in it; 0 where it has none.
    pub(crate) max_index: u64,
}

/// A snapshot file that a mark in the log vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) index: u64,
    /// The sequence number of its mark.
    pub(crate) sequence: u64,
}

/// The name of the segment that begins with record `first_sequence`.
pub(crate) fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.log")
}

/// The name of the snapshot at `index` whose mark is record `sequence`.
pub(crate) fn snapshot_name(index: u64, sequence: u64) -> String {
    format!("{index:020}-{sequence:020}.snap")
}

/// The ending of a snapshot file that is still being written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// The log's files, open for appending.
#[derive(Debug)]
pub struct Segments<D> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    /// Oldest first; the last one is appended to.
    pub(crate) segments: VecDeque<Segment>,
    /// Oldest first.
    pub(crate) snapshots: Vec<Kept>,
    /// Snapshot files that nothing needs; they go with the next pruning.
    pub(crate) superseded: Vec<String>,
    pub(crate) next_sequence: u64,
    /// All records up to this one are durable.
    pub(crate) synced: u64,
    /// The last record that is more than a note of how far the log is durable.
    pub(crate) last_content: u64,
    /// The highest `synced` that any record says.
    pub(crate) noted: u64,
    pub(crate) chain: Chain,
    /// The last one recorded.
    pub(crate) hard_state: HardState,
    pub(crate) buffer: Vec<u8>,
    pub(crate) directory_changed: bool,
    pub(crate) prune_due: bool,
    pub(crate) fatal: Option<Fatal>,
}

impl<D: Disk> Segments<D> {
    /// Reads and verifies everything in the directory, cuts a torn tail, and opens the log for
    /// appending. An empty directory is an empty log.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] where bytes that may have been acknowledged are wrong or missing;
    /// then nothing on disk was changed. [`OpenError::Disk`] where the disk refuses.
    pub fn open(disk: D, options: Options) -> Result<(Self, Recovered), OpenError> {
        let bounded = options.segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        recovery::open(disk, Options { segment_bytes: bounded })
    }

    /// Appends the writes' records, and saves their snapshots, without waiting for the records to
    /// be durable: [`Self::sync`] does. The simulator crashes in between.
    ///
    /// # Errors
    /// The log's first failure, now or earlier.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), Fatal> {
        self.guarded(|log| {
            for write in writes {
                log.append_one(write)?;
            }
            log.flush()
        })
    }

    /// Makes everything appended durable. Only after it may a write be reported as written.
    ///
    /// # Errors
    /// The log's first failure, now or earlier.
    pub fn sync(&mut self) -> Result<(), Fatal> {
        self.guarded(Self::sync_files)
    }

    /// Work that nobody waits for: notes in the log how far it is durable, where `idle` (the next
    /// records say it otherwise), and removes files that a snapshot covers.
    ///
    /// # Errors
    /// The log's first failure, now or earlier.
    pub fn settle(&mut self, idle: bool) -> Result<(), Fatal> {
        self.guarded(|log| {
            if idle && log.last_is_unnoted() {
                log.push(&Record::Synced);
                log.flush()?;
            }
            if log.prune_due && log.synced_enough_to_prune() { log.prune() } else { Ok(()) }
        })
    }

    /// [`Self::append`], [`Self::sync`] and [`Self::settle`] in one.
    ///
    /// # Errors
    /// The log's first failure, now or earlier.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), Fatal> {
        self.append(writes)?;
        self.sync()?;
        self.settle(true)
    }

    /// The failure that ended this log, if any.
    pub fn fatal(&self) -> Option<&Fatal> {
        self.fatal.as_ref()
    }

    /// The chain over all records appended so far.
    pub fn record_chain(&self) -> Chain {
        self.chain
    }

    /// The disk, to look at or to plant faults in.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, to look at or to plant faults in.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back: the process ends, the disk stays.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Runs a step unless the log has failed before, and remembers a failure for ever.
    fn guarded(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), DiskError>,
    ) -> Result<(), Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        step(self).map_err(|cause| {
            let fatal = Fatal { cause };
            self.fatal = Some(fatal.clone());
            fatal
        })
    }

    fn append_one(&mut self, write: &Write) -> Result<(), DiskError> {
        self.ensure_segment()?;
        if let Some(state) = &write.hard_state {
            let before = &self.hard_state;
            if (state.term, state.vote) != (before.term, before.vote) {
                // Before any entry of the new term, so that a tear never leaves an entry of a
                // term that was not recorded; the commit follows after the entries it covers.
                let commit = before.commit;
                self.push_hard_state(&HardState { commit, ..state.clone() });
            }
        }
        if let Some(snapshot) = &write.snapshot {
            self.append_snapshot(snapshot)?;
        }
        for entry in &write.entries {
            self.push(&Record::Entry(entry.clone()));
            if let Some(segment) = self.segments.back_mut() {
                segment.max_index = segment.max_index.max(entry.index);
            }
            if self.buffer.len() >= MAX_GROUP_BYTES {
                self.flush()?;
            }
        }
        if let Some(state) = &write.hard_state
            && *state != self.hard_state
        {
            self.push_hard_state(state);
        }
        Ok(())
    }

    fn append_snapshot(&mut self, write: &SnapshotWrite) -> Result<(), DiskError> {
        let snapshot = &write.snapshot;
        let (bytes, file_hash) = snapshot_file::encode(snapshot);
        let name = snapshot_name(snapshot.index, self.next_sequence);
        let temporary = format!("{name}{TEMPORARY}");
        self.disk.create(&temporary)?;
        self.disk.append(&temporary, &bytes)?;
        self.disk.sync_data(&temporary)?;
        self.disk.rename(&temporary, &name)?;
        self.disk.sync_dir()?;
        self.directory_changed = false;
        if write.installed {
            self.supersede(0);
        } else {
            self.supersede(KEPT_SNAPSHOTS - 1);
        }
        self.snapshots.push(Kept { index: snapshot.index, sequence: self.next_sequence });
        self.push(&Record::SnapshotMark(SnapshotMark {
            index: snapshot.index,
            term: snapshot.term,
            installed: write.installed,
            entry_chain: snapshot.entry_chain,
            file_hash,
        }));
        self.prune_due = true;
        Ok(())
    }

    /// Leaves only the newest `keep` snapshots counting; the files of the others may go.
    fn supersede(&mut self, keep: usize) {
        let excess = self.snapshots.len().saturating_sub(keep);
        let old = self.snapshots.drain(..excess);
        self.superseded.extend(old.map(|kept| snapshot_name(kept.index, kept.sequence)));
    }

    /// Begins a segment where there is none, or the last one is full.
    fn ensure_segment(&mut self) -> Result<(), DiskError> {
        let full = |segment: &Segment| segment.bytes >= self.options.segment_bytes;
        if self.segments.back().is_some_and(|segment| !full(segment)) {
            return Ok(());
        }
        // A segment that has a successor is durable to its end: damage in it is never a tear.
        self.sync_all()?;
        let first_sequence = self.next_sequence;
        self.disk.create(&segment_name(first_sequence))?;
        self.directory_changed = true;
        self.segments.push_back(Segment { first_sequence, bytes: 0, max_index: 0 });
        let chain_before = self.chain;
        self.push(&Record::SegmentHeader(SegmentHeader { first_sequence, chain_before }));
        if self.hard_state != HardState::default() {
            // Repeated in each segment, so that older ones can be removed.
            self.push_hard_state(&self.hard_state.clone());
        }
        Ok(())
    }

    fn push_hard_state(&mut self, state: &HardState) {
        self.push(&Record::HardState(state.clone()));
        self.hard_state = state.clone();
    }

    fn push(&mut self, record: &Record) {
        let position =
            Position { sequence: self.next_sequence, synced: self.synced, chain: self.chain };
        self.chain = record::encode(record, position, &mut self.buffer);
        self.noted = self.synced;
        if !matches!(record, Record::Synced) {
            self.last_content = self.next_sequence;
        }
        self.next_sequence += 1;
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let Some(segment) = self.segments.back_mut() else {
            return Ok(());
        };
        if !self.buffer.is_empty() {
            self.disk.append(&segment_name(segment.first_sequence), &self.buffer)?;
            segment.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn sync_files(&mut self) -> Result<(), DiskError> {
        // Nobody waits for a note.
        if self.last_content > self.synced { self.sync_all() } else { Ok(()) }
    }

    fn sync_all(&mut self) -> Result<(), DiskError> {
        self.flush()?;
        let Some(segment) = self.segments.back() else {
            return Ok(());
        };
        if self.synced + 1 < self.next_sequence {
            self.disk.sync_data(&segment_name(segment.first_sequence))?;
        }
        if self.directory_changed {
            self.disk.sync_dir()?;
            self.directory_changed = false;
        }
        self.synced = self.next_sequence - 1;
        Ok(())
    }

    /// Whether everything is durable and no record says so yet.
    fn last_is_unnoted(&self) -> bool {
        self.noted < self.last_content && self.last_content <= self.synced
    }

    /// The newest mark must be durable before what it replaces goes.
    fn synced_enough_to_prune(&self) -> bool {
        self.snapshots.last().is_some_and(|newest| newest.sequence <= self.synced)
    }

    fn prune(&mut self) -> Result<(), DiskError> {
        self.prune_due = false;
        let Some(oldest) = self.snapshots.first().copied() else {
            return Ok(());
        };
        let mut changed = false;
        for name in std::mem::take(&mut self.superseded) {
            self.disk.remove(&name)?;
            changed = true;
        }
        while let [first, second, ..] = self.segments.make_contiguous() {
            let has_needed_mark = second.first_sequence > oldest.sequence;
            if has_needed_mark || first.max_index > oldest.index {
                break;
            }
            self.disk.remove(&segment_name(first.first_sequence))?;
            self.segments.pop_front();
            changed = true;
        }
        if changed { self.disk.sync_dir() } else { Ok(()) }
    }
}
