//! Start-up: reads and verifies every byte, and tells a torn tail from damage.
//!
//! A crash may tear what was appended after the last sync, and nobody was told that it is there:
//! it is cut. Anything else that is wrong may have been acknowledged: the log is then left as it
//! is, and the caller decides (a replica is repaired from its quorum). The two are told apart by
//! `synced` in every record, which says how far the log was durable when that record was written,
//! and by the look of a tear: missing bytes, or whole sectors of zeros.

use std::collections::VecDeque;

use crate::chain::Chain;
use crate::disk::{Disk, DiskError, DiskOperation};
use crate::limits::MAX_FILE_BYTES;
use crate::record::{self, BadRecord, Header, Record};
use crate::recovered::{Note, Recovered};
use crate::replay::{Inconsistency, Marked, Replay};
use crate::segments::{
    KEPT_SNAPSHOTS, Kept, Options, Segment, Segments, TEMPORARY, segment_name, snapshot_name,
};
use crate::snapshot_file::{self, BadSnapshot, Snapshot};
use crate::tail::{has_lost_sector, later_records};

/// Why a log can't be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Bytes that may have been acknowledged are wrong or missing. Nothing was changed.
    #[error(
        "the journal is damaged in \"{file}\" at byte {offset}: {why}. Opening it could lose \
         acknowledged entries, so nothing was changed. Set this node's journal aside and let the \
         node join again as a new one, from the others"
    )]
    Damaged {
        /// The file's name inside the journal's directory.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        why: Damage,
    },
    /// Another process has it. Nothing was read or changed.
    #[error(
        "another process holds the journal in {directory}: two that write one log would destroy \
         it. `fuser -v {directory}` names it; end it first, or give this one a directory of its own"
    )]
    Held {
        /// The journal's directory.
        directory: String,
    },
    /// The disk refused an operation.
    #[error("the journal can't be opened: {0}. Mend the disk, then start this node again")]
    Disk(DiskError),
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        match (error.operation, error.kind) {
            (DiskOperation::Lock, std::io::ErrorKind::WouldBlock) => {
                Self::Held { directory: error.file }
            }
            _ => Self::Disk(error),
        }
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record that a crash can't explain.
    #[error("{0}")]
    Record(BadRecord),
    /// A bad record, although a later one says that it was durable.
    #[error("{bad}, although record {sequence} had been made durable")]
    Acknowledged {
        /// What is wrong with it.
        bad: BadRecord,
        /// Its sequence number.
        sequence: u64,
    },
    /// A segment is missing: the one here begins later than the one before it ends.
    #[error("a segment is missing before it: record {expected} should come next")]
    Hole {
        /// The sequence number that should come next.
        expected: u64,
    },
    /// A file's first record is no segment header for its name, or a header is elsewhere.
    #[error("a segment header is missing or out of place")]
    Header,
    /// Records are whole but contradict each other.
    #[error("{0}")]
    Inconsistent(Inconsistency),
    /// The log needs this snapshot, and it is bad or missing.
    #[error("the log needs this snapshot: {}", snapshot_reason(.0))]
    Snapshot(Option<BadSnapshot>),
    /// The file is larger than anything this log writes.
    #[error("the file is larger than the log ever writes")]
    TooLarge,
}

fn snapshot_reason(bad: &Option<BadSnapshot>) -> String {
    bad.map_or_else(|| "the file is missing".to_owned(), |bad| bad.to_string())
}

fn damaged(file: &str, offset: usize, why: Damage) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), offset: offset as u64, why }
}

/// A torn tail to cut once everything else has been found right.
struct Cut {
    segment: u64,
    offset: u64,
    bytes: u64,
}

/// The reader's state, carried from record to record and file to file.
struct Scan {
    segments: VecDeque<Segment>,
    next_sequence: u64,
    /// The highest `synced` of any record so far.
    synced: u64,
    /// The last record that is more than a note.
    last_content: u64,
    chain: Chain,
    /// The chain before the segment that is being read.
    chain_before_segment: Chain,
    replay: Replay,
    cut: Option<Cut>,
}

pub(crate) fn open<D: Disk>(
    disk: D,
    options: Options,
) -> Result<(Segments<D>, Recovered), OpenError> {
    let names = disk.list()?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| parse_segment(name)).collect();
    firsts.sort_unstable();
    let mut scan = Scan::new(firsts.first().copied().unwrap_or(1));
    for (at, first) in firsts.iter().enumerate() {
        scan.read_segment(&disk, *first, at + 1 == firsts.len())?;
    }
    if let (Some(first), Err(why)) = (firsts.last(), scan.replay.finish()) {
        let end = scan.segments.back().map_or(0, |segment| segment.bytes as usize);
        return Err(damaged(&segment_name(*first), end, Damage::Inconsistent(why)));
    }
    let chosen = choose_snapshot(&disk, &names, &scan.replay)?;
    let recovered = Recovered {
        snapshot: chosen.snapshot,
        entries: scan.replay.entries_after(chosen.index),
        hard_state: scan.replay.hard_state.clone(),
        unwritten: false,
        notes: chosen.notes,
    };
    let log = Segments {
        disk,
        options,
        segments: scan.segments,
        snapshots: chosen.kept,
        superseded: chosen.bad,
        next_sequence: scan.next_sequence,
        synced: scan.next_sequence - 1,
        last_content: scan.last_content.min(scan.next_sequence - 1),
        noted: scan.synced,
        chain: scan.chain,
        hard_state: scan.replay.hard_state,
        buffer: Vec::new(),
        directory_changed: false,
        prune_due: false,
        fatal: None,
    };
    // Everything is right: only from here on may the disk change.
    mend(log, recovered, scan.cut, &names)
}

fn mend<D: Disk>(
    mut log: Segments<D>,
    mut recovered: Recovered,
    cut: Option<Cut>,
    names: &[String],
) -> Result<(Segments<D>, Recovered), OpenError> {
    if let Some(cut) = cut {
        let file = segment_name(cut.segment);
        if cut.offset == 0 {
            log.disk.remove(&file)?;
        } else {
            log.disk.truncate(&file, cut.offset)?;
        }
        recovered.notes.push(Note::TornTail { file, offset: cut.offset, bytes: cut.bytes });
    }
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
        log.disk.remove(name)?;
    }
    if let Some(last) = log.segments.back() {
        let name = segment_name(last.first_sequence);
        // A note too: were it to vanish, the next segment would begin after a hole.
        if log.next_sequence > log.noted + 1 {
            write_anew(&mut log.disk, &name)?;
        } else {
            log.disk.sync_data(&name)?;
        }
    }
    for name in names {
        let unneeded = parse_snapshot(name).is_some_and(|(index, sequence)| {
            !log.snapshots.contains(&Kept { index, sequence }) && !log.superseded.contains(name)
        });
        if unneeded {
            log.disk.remove(name)?;
        }
    }
    log.disk.sync_dir()?;
    Ok((log, recovered))
}

/// What no record calls durable may be in the page cache alone. To sync the file is not enough:
/// after a sync that failed in the process before, the system takes such pages for written, and
/// no later sync brings them to the disk. Pages of a new file are written for certain.
fn write_anew<D: Disk>(disk: &mut D, name: &str) -> Result<(), DiskError> {
    let temporary = format!("{name}{TEMPORARY}");
    let bytes = disk.read(name)?;
    disk.create(&temporary)?;
    disk.append(&temporary, &bytes)?;
    disk.sync_data(&temporary)?;
    disk.rename(&temporary, name)
}

fn parse_segment(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(first) == name).then_some(first)
}

fn parse_snapshot(name: &str) -> Option<(u64, u64)> {
    let (index, sequence) = name.strip_suffix(".snap")?.split_once('-')?;
    let (index, sequence) = (index.parse().ok()?, sequence.parse().ok()?);
    (snapshot_name(index, sequence) == name).then_some((index, sequence))
}

impl Scan {
    fn new(next_sequence: u64) -> Self {
        Self {
            segments: VecDeque::new(),
            next_sequence,
            synced: 0,
            last_content: 0,
            chain: Chain::EMPTY,
            chain_before_segment: Chain::EMPTY,
            replay: Replay::new(next_sequence == 1),
            cut: None,
        }
    }

    fn read_segment<D: Disk>(
        &mut self,
        disk: &D,
        first: u64,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let name = segment_name(first);
        if first != self.next_sequence {
            return Err(damaged(&name, 0, Damage::Hole { expected: self.next_sequence }));
        }
        if disk.len(&name)? > MAX_FILE_BYTES {
            return Err(damaged(&name, 0, Damage::TooLarge));
        }
        let bytes = disk.read(&name)?;
        if self.segments.is_empty()
            && let Ok((_, Record::SegmentHeader(header))) = record::read_unchained(&bytes)
        {
            // Nothing is left of what came before: the first file says where the chain stood.
            self.chain = header.chain_before;
        }
        self.chain_before_segment = self.chain;
        self.segments.push_back(Segment { first_sequence: first, bytes: 0, max_index: 0 });
        let mut offset = 0;
        while offset < bytes.len() || offset == 0 {
            match record::read(&bytes[offset..], self.next_sequence, &self.chain) {
                Ok((header, record, chain)) => {
                    self.accept(&name, offset, &header, record)?;
                    self.chain = chain;
                    offset += header.record_bytes();
                }
                Err(bad) if is_last => return self.judge_tail(&name, &bytes, offset, bad),
                Err(bad) => return Err(damaged(&name, offset, Damage::Record(bad))),
            }
        }
        if is_last && self.next_sequence == first + 1 {
            self.cut_at(offset, offset);
        } else if let Some(segment) = self.segments.back_mut() {
            segment.bytes = offset as u64;
        }
        Ok(())
    }

    fn accept(
        &mut self,
        name: &str,
        offset: usize,
        header: &Header,
        record: Record,
    ) -> Result<(), OpenError> {
        let first = self.segments.back().map_or(0, |segment| segment.first_sequence);
        let in_place = match &record {
            Record::SegmentHeader(h) => {
                h.first_sequence == first && offset == 0 && h.chain_before == self.chain
            }
            _ => offset != 0,
        };
        if !in_place {
            return Err(damaged(name, offset, Damage::Header));
        }
        if let (Record::Entry(entry), Some(segment)) = (&record, self.segments.back_mut()) {
            segment.max_index = segment.max_index.max(entry.index);
        }
        if !matches!(record, Record::Synced) {
            self.last_content = header.sequence;
        }
        self.replay
            .accept(header.sequence, record)
            .map_err(|why| damaged(name, offset, Damage::Inconsistent(why)))?;
        self.synced = self.synced.max(header.synced);
        self.next_sequence += 1;
        Ok(())
    }

    /// A bad record in the last segment: a tear is to be cut, anything else is damage.
    fn judge_tail(
        &mut self,
        name: &str,
        bytes: &[u8],
        offset: usize,
        bad: BadRecord,
    ) -> Result<(), OpenError> {
        let later = later_records(bytes, offset, self.next_sequence);
        if later.synced.max(self.synced) >= self.next_sequence {
            let why = Damage::Acknowledged { bad, sequence: self.next_sequence };
            return Err(damaged(name, offset, why));
        }
        let torn = match bad {
            BadRecord::ShortHeader | BadRecord::ShortBody => true,
            BadRecord::Header | BadRecord::Payload | BadRecord::Chain => {
                let to = later.first.unwrap_or(bytes.len());
                has_lost_sector(bytes, offset, to, self.next_sequence)
            }
            BadRecord::Sequence | BadRecord::Contents | BadRecord::Version => false,
        };
        if !torn {
            return Err(damaged(name, offset, Damage::Record(bad)));
        }
        self.cut_at(offset, bytes.len());
        Ok(())
    }

    /// Remembers to cut the last segment.
    fn cut_at(&mut self, offset: usize, file_bytes: usize) {
        let segment = self.segments.back().map_or(0, |segment| segment.first_sequence);
        let mut offset = offset;
        if self.next_sequence <= segment + 1 {
            // The hard state after the header is missing too, which removing older segments
            // relies on: this segment never began.
            offset = 0;
            self.next_sequence = segment;
            self.chain = self.chain_before_segment;
            self.segments.pop_back();
        } else if let Some(segment) = self.segments.back_mut() {
            segment.bytes = offset as u64;
        }
        let bytes = (file_bytes - offset) as u64;
        self.cut = Some(Cut { segment, offset: offset as u64, bytes });
    }
}

/// The snapshot to start from.
struct Chosen {
    snapshot: Option<Snapshot>,
    index: u64,
    kept: Vec<Kept>,
    /// Damaged files that are still there; they stay until a newer snapshot replaces them.
    bad: Vec<String>,
    notes: Vec<Note>,
}

/// Takes the newest good snapshot that the entries continue from, and verifies the entry chain
/// from the oldest good one on.
fn choose_snapshot<D: Disk>(
    disk: &D,
    names: &[String],
    replay: &Replay,
) -> Result<Chosen, OpenError> {
    let mut chosen =
        Chosen { snapshot: None, index: 0, kept: Vec::new(), bad: Vec::new(), notes: Vec::new() };
    let mut chain: Option<(u64, Chain)> = None;
    for Marked { sequence, mark } in candidates(names, replay) {
        let file = snapshot_name(mark.index, sequence);
        if chain.is_some_and(|(from, value)| {
            replay.entry_chain(from, value, mark.index) != mark.entry_chain
        }) {
            let why = Damage::Inconsistent(Inconsistency::EntryChain { index: mark.index });
            return Err(damaged(&file, 0, why));
        }
        match read_snapshot(disk, &file, &mark.file_hash)? {
            Ok(snapshot) => {
                chain = Some((mark.index, mark.entry_chain));
                chosen.index = mark.index;
                chosen.kept.push(Kept { index: mark.index, sequence });
                chosen.snapshot = Some(snapshot);
            }
            Err(why) => {
                chosen.bad.extend(why.map(|_| file.clone()));
                chosen.notes.push(Note::BadSnapshot { file, why });
            }
        }
    }
    match chosen.notes.last() {
        Some(Note::BadSnapshot { file, why }) if chosen.snapshot.is_none() => {
            Err(damaged(file, 0, Damage::Snapshot(*why)))
        }
        _ if chosen.snapshot.is_none() && !replay.begins_at_first_entry() => {
            Err(damaged("directory", 0, Damage::Inconsistent(Inconsistency::NoSnapshot)))
        }
        _ => Ok(chosen),
    }
}

/// The newest two marks whose files are there, oldest first; the newest mark even without one.
fn candidates(names: &[String], replay: &Replay) -> Vec<Marked> {
    let marks = &replay.marks;
    let newest = marks.last().map(|marked| marked.sequence);
    let there = |marked: &&Marked| {
        Some(marked.sequence) == newest
            || names.contains(&snapshot_name(marked.mark.index, marked.sequence))
    };
    let mut chosen: Vec<Marked> =
        marks.iter().rev().filter(there).take(KEPT_SNAPSHOTS).copied().collect();
    chosen.reverse();
    chosen
}

/// The outer error is the disk's, the inner one the contents'; `None` where there is no file.
fn read_snapshot<D: Disk>(
    disk: &D,
    file: &str,
    hash: &[u8; 32],
) -> Result<Result<Snapshot, Option<BadSnapshot>>, OpenError> {
    match disk.len(file) {
        Err(error) if error.kind == std::io::ErrorKind::NotFound => return Ok(Err(None)),
        Err(error) => return Err(error.into()),
        Ok(length) if length > MAX_FILE_BYTES => {
            return Err(damaged(file, 0, Damage::TooLarge));
        }
        Ok(_) => {}
    }
    let bytes = disk.read(file)?;
    Ok(snapshot_file::decode(&bytes, hash).map_err(Some))
}
