//! The files themselves: what is written comes back, and only a torn tail is ever cut.

use journal::{
    Chain, Damage, Entry, HardState, Kept, MemoryDisk, Note, OpenError, Options, Recovered,
    Segments, Snapshot, SnapshotWrite, Write, WriteId,
};
use std::sync::Arc;

use crate::group::SMALL;

/// A record without a payload.
const NOTE_BYTES: u64 = 64;

pub(crate) fn entry(index: u64, term: u64, data: &str) -> Entry {
    Entry { index, term, data: data.as_bytes().to_vec(), ..Entry::default() }
}

pub(crate) fn state(term: u64, vote: u64, commit: u64) -> Option<HardState> {
    Some(HardState { term, vote, commit })
}

pub(crate) fn write(id: u64, entries: Vec<Entry>, hard_state: Option<HardState>) -> Write {
    Write { id: WriteId(id), snapshot: None, entries, hard_state }
}

pub(crate) fn snapshot(index: u64, term: u64, chain: Chain, installed: bool) -> SnapshotWrite {
    let membership = journal::ConfState { voters: vec![1, 2, 3], ..Default::default() };
    let data = Arc::new(format!("state at {index}").into_bytes());
    let snapshot = Snapshot { index, term, entry_chain: chain, membership, data };
    SnapshotWrite { snapshot, installed }
}

pub(crate) fn open(disk: MemoryDisk) -> (Segments<MemoryDisk>, Recovered) {
    Segments::open(disk, SMALL).expect("the log opens")
}

/// A log of `count` entries in writes of one, on a disk that lost nothing.
pub(crate) fn log_of(count: u64, options: Options) -> MemoryDisk {
    let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
    for index in 1..=count {
        let data = format!("entry number {index}");
        log.commit(&[write(index, vec![entry(index, 1, &data)], state(1, 2, index - 1))]).unwrap();
    }
    log.into_disk()
}

/// The name and length of the last segment.
pub(crate) fn last_segment(disk: &MemoryDisk) -> (String, u64) {
    use journal::Disk;
    let names = disk.list().unwrap();
    let name = names.into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    let length = disk.len(&name).unwrap();
    (name, length)
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let (log, recovered) = open(MemoryDisk::new());
    assert!(recovered.is_empty() && recovered.notes().is_empty());
    use journal::Disk;
    assert!(log.disk().list().unwrap().is_empty(), "opening creates nothing");
}

#[test]
fn what_was_written_comes_back() {
    let (_, recovered) = open(log_of(30, SMALL));
    assert_eq!(recovered.entries().len(), 30);
    assert_eq!(recovered.entries()[29], entry(30, 1, "entry number 30"));
    assert_eq!(*recovered.hard_state(), HardState { term: 1, vote: 2, commit: 29 });
    assert_eq!(recovered.notes(), []);
    assert!(!recovered.is_empty());
    let (mut log, _) = open(MemoryDisk::new());
    log.commit(&[write(1, Vec::new(), state(1, 2, 0))]).unwrap();
    let (_, recovered) = open(log.into_disk());
    assert!(!recovered.is_empty() && recovered.entries().is_empty(), "it has voted");
}

#[test]
fn a_conflict_overwrites_from_its_index_on() {
    let (mut log, _) = open(MemoryDisk::new());
    let first = (1..=5).map(|index| entry(index, 1, "old")).collect();
    log.commit(&[write(1, first, state(1, 0, 2))]).unwrap();
    log.commit(&[write(2, vec![entry(3, 2, "new")], state(2, 0, 2))]).unwrap();
    let (mut log, recovered) = open(log.into_disk());
    let terms: Vec<u64> = recovered.entries().iter().map(|entry| entry.term).collect();
    assert_eq!(terms, [1, 1, 2]);
    log.commit(&[write(3, vec![entry(4, 2, "more")], None)]).unwrap();
    let (_, recovered) = open(log.into_disk());
    assert_eq!(recovered.entries().len(), 4);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_of_the_last_record() {
    let options = Options { segment_bytes: 1 << 20 };
    let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
    log.commit(&[write(1, vec![entry(1, 1, "kept")], state(1, 0, 0))]).unwrap();
    log.append(&[write(2, vec![entry(2, 1, "torn")], None)]).unwrap();
    let disk = log.into_disk();
    let mut whole = 0;
    disk.clone().crash(|unsynced| {
        if let journal::Unsynced::Tail { bytes, .. } = unsynced {
            whole = *bytes;
        }
        Kept::nothing()
    });
    assert!(whole > 64 + 64, "the note of the first sync, and the record");
    for kept in 0..=whole {
        let mut disk = disk.clone();
        disk.crash(|_| Kept::first(kept));
        let (mut log, recovered) = Segments::open(disk, options).unwrap();
        let expected = if kept == whole { 2 } else { 1 };
        assert_eq!(recovered.entries().len(), expected, "{kept} of {whole} bytes");
        // What was cut is gone for good: the next record takes its place.
        log.commit(&[write(3, vec![entry(2, 1, "next")], None)]).unwrap();
        let (_, recovered) = Segments::open(log.into_disk(), options).unwrap();
        assert_eq!(recovered.entries().last(), Some(&entry(2, 1, "next")));
        assert_eq!(recovered.notes(), []);
    }
}

#[test]
fn a_cut_is_told() {
    let (mut log, _) = open(MemoryDisk::new());
    log.commit(&[write(1, vec![entry(1, 1, "kept")], state(1, 0, 0))]).unwrap();
    log.append(&[write(2, vec![entry(2, 1, "torn")], None)]).unwrap();
    let mut disk = log.into_disk();
    let (file, length) = last_segment(&disk);
    let mut tail = 0;
    disk.crash(|unsynced| match unsynced {
        journal::Unsynced::Tail { bytes, .. } => {
            tail = *bytes as u64;
            Kept::first(bytes - 1)
        }
        _ => Kept::nothing(),
    });
    let (_, recovered) = open(disk);
    let [Note::TornTail { file: cut, offset, bytes }] = recovered.notes() else {
        panic!("{:?}", recovered.notes());
    };
    assert_eq!((cut, offset + bytes), (&file, length - 1));
    assert!(*bytes < tail);
}

/// The sectors of an unsynced append reach the disk in any order: later records may be whole
/// while an earlier one is not. As long as nothing says it was durable, it is a tear.
#[test]
fn a_lost_sector_inside_an_unsynced_append_is_a_torn_tail() {
    let options = Options { segment_bytes: 1 << 20 };
    let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
    log.commit(&[write(1, vec![entry(1, 1, "kept")], state(1, 0, 0))]).unwrap();
    let data = "x".repeat(300);
    let many = (2..20).map(|index| entry(index, 1, &data)).collect();
    log.append(&[write(2, many, None)]).unwrap();
    let disk = log.into_disk();
    let sectors = last_segment(&disk).1 / 512;
    for sector in 1..sectors {
        let mut disk = disk.clone();
        disk.crash(|_| Kept { length: usize::MAX, lost_sectors: vec![sector] });
        let (_, recovered) = Segments::open(disk, options).unwrap();
        assert!(recovered.entries().len() < 19);
        assert_eq!(recovered.entries()[0], entry(1, 1, "kept"));
        assert!(matches!(recovered.notes(), [Note::TornTail { .. }]));
    }
}

/// The same after a start: what this start read was durable, what comes after it is not yet.
#[test]
fn a_lost_sector_of_the_first_append_after_a_start_is_a_torn_tail() {
    let options = Options { segment_bytes: 1 << 20 };
    let (mut log, _) = Segments::open(log_of(3, options), options).unwrap();
    let data = "x".repeat(700);
    let many = (4..8).map(|index| entry(index, 1, &data)).collect();
    log.append(&[write(9, many, state(1, 2, 3))]).unwrap();
    let disk = log.into_disk();
    let before = last_segment(&log_of(3, options)).1;
    for sector in 1..=3 {
        let mut disk = disk.clone();
        disk.crash(|_| Kept { length: usize::MAX, lost_sectors: vec![before / 512 + sector] });
        let (_, recovered) = Segments::open(disk, options).unwrap();
        assert!((3..7).contains(&recovered.entries().len()), "{}", recovered.entries().len());
        assert!(matches!(recovered.notes(), [Note::TornTail { .. }]));
    }
}

/// Wherever the sectors' borders fall: a sector that reads as something else is no tear, although
/// a record before it may end, or the one in it begin, with zeros of its own.
#[test]
fn a_sector_of_other_bytes_is_damage_and_one_of_zeros_a_torn_tail() {
    use journal::Disk;
    let options = Options { segment_bytes: 1 << 20 };
    for pad in 1..=512 {
        let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
        let data = |length: usize| "x".repeat(length);
        log.commit(&[write(1, vec![entry(1, 1, &data(pad))], state(1, 2, 0))]).unwrap();
        log.settle(true).unwrap();
        let (name, before) = last_segment(log.disk());
        // Nothing says of these that they are durable.
        log.append(&[write(2, Vec::new(), state(1, 2, 1))]).unwrap();
        log.append(&[write(3, vec![entry(2, 1, &data(1_400))], None)]).unwrap();
        let disk = log.into_disk();
        let sectors = disk.len(&name).unwrap() / 512;
        for sector in before.div_ceil(512)..sectors {
            let mut lost = disk.clone();
            lost.crash(|_| Kept { length: usize::MAX, lost_sectors: vec![sector] });
            let (_, recovered) = Segments::open(lost, options).unwrap();
            assert_eq!(recovered.entries().len(), 1, "{pad} {sector}");
        }
        // The note that ends at `before` says that the entry is durable, and not that it is itself.
        for sector in (before - NOTE_BYTES) / 512 + 1..sectors {
            let mut other = disk.clone();
            let at = sector as usize * 512;
            assert!(other.damage(&name, |bytes| bytes[at..at + 512].fill(0xaa)));
            let error = Segments::open(other, options).map(|(_, found)| found.entries().len());
            assert!(matches!(error, Err(OpenError::Damaged { .. })), "{pad} {sector}: {error:?}");
        }
    }
}

/// An entry may hold anything, records of this very log too: an older one is no sign that
/// something after a tear was durable.
#[test]
fn an_older_record_within_a_torn_one_is_no_later_record() {
    use journal::Disk;
    let options = Options { segment_bytes: 1 << 20 };
    let disk = log_of(3, options);
    let (name, length) = last_segment(&disk);
    let older = disk.read(&name).unwrap();
    let (mut log, _) = Segments::open(disk, options).unwrap();
    let holds = Entry { index: 4, term: 1, data: older, ..Entry::default() };
    log.append(&[write(9, vec![holds], None)]).unwrap();
    let mut disk = log.into_disk();
    disk.crash(|_| Kept { length: usize::MAX, lost_sectors: vec![length / 512] });
    let (_, recovered) = Segments::open(disk, options).unwrap();
    assert_eq!(recovered.entries().len(), 3);
    assert!(matches!(recovered.notes(), [Note::TornTail { .. }]), "{:?}", recovered.notes());
}

#[test]
fn a_torn_record_before_the_last_segment_is_damage() {
    use journal::Disk;
    let disk = log_of(60, SMALL);
    let names = disk.list().unwrap();
    assert!(names.len() >= 3);
    for name in &names[..names.len() - 1] {
        let mut torn = disk.clone();
        torn.truncate(name, disk.len(name).unwrap() - 3).unwrap();
        torn.sync_data(name).unwrap();
        let error = Segments::open(torn, SMALL).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error}");
    }
}

/// Records that are whole, each by itself, and that no log writes.
#[test]
fn what_contradicts_itself_is_damage() {
    let opened = |writes: &[Write]| {
        let (mut log, _) = open(MemoryDisk::new());
        for write in writes {
            log.commit(std::slice::from_ref(write)).unwrap();
        }
        Segments::open(log.into_disk(), SMALL).map(|(_, recovered)| recovered)
    };
    let refused = |writes: &[Write]| {
        let error = opened(writes).unwrap_err();
        matches!(error, OpenError::Damaged { why: Damage::Inconsistent(_), .. })
    };
    let one = |index, term| vec![entry(index, term, "x")];
    let sound = [write(1, one(1, 1), state(1, 0, 0)), write(2, one(2, 3), state(3, 0, 2))];
    assert_eq!(opened(&sound).unwrap().entries().len(), 2);
    // More is committed than there is.
    assert!(refused(&[write(1, one(1, 1), state(1, 0, 3))]));
    // Terms fall.
    assert!(refused(&[write(1, one(1, 3), state(3, 0, 0)), write(2, one(2, 2), None)]));
    assert!(refused(&[
        write(1, vec![entry(1, 3, "x"), entry(2, 3, "y")], state(3, 0, 0)),
        write(2, one(3, 2), None)
    ]));
}

/// The same lost sector after the sync: somebody was told that it is there.
#[test]
fn a_lost_sector_of_a_synced_append_is_damage() {
    let options = Options { segment_bytes: 1 << 20 };
    let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
    let data = "x".repeat(300);
    let many = (1..20).map(|index| entry(index, 1, &data)).collect();
    log.append(&[write(1, many, state(1, 0, 0))]).unwrap();
    let mut lost = log.disk().clone();
    lost.crash(|_| Kept { length: usize::MAX, lost_sectors: vec![3] });
    use journal::Disk;
    let (name, _) = last_segment(&lost);
    let lost = lost.read(&name).unwrap();
    log.sync().unwrap();
    log.settle(true).unwrap();
    let good = log.disk().read(&name).unwrap();
    // A disk that lies: the sector is gone although the sync succeeded.
    let mut disk = MemoryDisk::new();
    disk.create(&name).unwrap();
    disk.append(&name, &lost).unwrap();
    disk.append(&name, &good[lost.len()..]).unwrap();
    disk.sync_data(&name).unwrap();
    disk.sync_dir().unwrap();
    let error = Segments::open(disk, options).unwrap_err();
    assert!(
        matches!(error, OpenError::Damaged { why: Damage::Acknowledged { .. }, .. }),
        "{error}"
    );
}

#[test]
fn full_segments_get_successors_and_covered_ones_go() {
    use journal::Disk;
    let (mut log, _) = open(MemoryDisk::new());
    let mut chain = Chain::EMPTY;
    let mut chains = vec![chain];
    for index in 1..=100 {
        let next = entry(index, 1, &format!("entry number {index}"));
        chain = chain.after_entry(&next);
        chains.push(chain);
        let mut write = write(index, vec![next], state(1, 0, index));
        if index % 20 == 0 {
            // Of the entry before: a snapshot is of what is durable.
            write.snapshot = Some(snapshot(index - 1, 1, chains[index as usize - 1], false));
        }
        log.commit(&[write]).unwrap();
    }
    let names = log.disk().list().unwrap();
    let snapshots: Vec<_> = names.iter().filter(|name| name.ends_with(".snap")).collect();
    assert_eq!(snapshots.len(), 2, "{names:?}");
    assert!(names.len() > 3 && !names.contains(&format!("{:020}.log", 1)), "{names:?}");
    let (_, recovered) = open(log.into_disk());
    assert_eq!(recovered.snapshot().unwrap().index, 99);
    assert_eq!(recovered.entries(), [entry(100, 1, "entry number 100")]);
    assert_eq!(recovered.notes(), []);
}

/// A log with two snapshots and entries before, between and after them.
pub(crate) fn log_with_snapshots() -> MemoryDisk {
    let (mut log, _) = open(MemoryDisk::new());
    let mut chain = Chain::EMPTY;
    for index in 1..=30 {
        let mut next = write(index, Vec::new(), None);
        if index == 11 || index == 21 {
            next.snapshot = Some(snapshot(index - 1, 1, chain, false));
        }
        let added = entry(index, 1, &format!("entry number {index}"));
        chain = chain.after_entry(&added);
        next.entries.push(added);
        next.hard_state = state(1, 0, index - 1);
        log.commit(&[next]).unwrap();
    }
    log.into_disk()
}

#[test]
fn an_older_snapshot_stands_in_for_a_damaged_one() {
    use journal::Disk;
    let disk = log_with_snapshots();
    let names = disk.list().unwrap();
    let snapshots: Vec<_> = names.into_iter().filter(|name| name.ends_with(".snap")).collect();
    let mut newest = disk.clone();
    newest.flip_bit(&snapshots[1], 100, 3);
    let (_, recovered) = open(newest);
    assert_eq!(recovered.snapshot().unwrap().index, 10);
    assert_eq!(recovered.entries().len(), 20);
    assert!(matches!(recovered.notes(), [Note::BadSnapshot { file, .. }] if *file == snapshots[1]));
    let mut both = disk.clone();
    both.flip_bit(&snapshots[0], 100, 3);
    both.flip_bit(&snapshots[1], 100, 3);
    let error = Segments::open(both, SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { why: Damage::Snapshot(Some(_)), .. }), "{error}");
}

#[test]
fn a_missing_snapshot_that_nothing_replaces_is_damage() {
    use journal::Disk;
    let (mut log, _) = open(MemoryDisk::new());
    let mut first = write(1, vec![entry(8, 1, "after")], state(1, 0, 7));
    first.snapshot = Some(snapshot(7, 1, Chain::EMPTY, true));
    log.commit(&[first]).unwrap();
    let mut disk = log.into_disk();
    let (_, recovered) = open(disk.clone());
    assert_eq!((recovered.snapshot().unwrap().index, recovered.entries().len()), (7, 1));
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".snap")).unwrap();
    disk.remove(&name).unwrap();
    let error = Segments::open(disk, SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { why: Damage::Snapshot(None), .. }), "{error}");
}

#[test]
fn a_missing_segment_is_damage() {
    use journal::Disk;
    let disk = log_of(60, SMALL);
    let names: Vec<_> = disk.list().unwrap();
    assert!(names.len() >= 3);
    for name in &names[..names.len() - 1] {
        let mut holed = disk.clone();
        holed.remove(name).unwrap();
        holed.sync_dir().unwrap();
        let error = Segments::open(holed, SMALL).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error}");
    }
}

#[test]
fn a_segment_of_another_log_is_damage() {
    use journal::Disk;
    let disk = log_of(60, SMALL);
    let (mut other, _) = open(MemoryDisk::new());
    for index in 1..=60 {
        let data = format!("other number {index}");
        other
            .commit(&[write(index, vec![entry(index, 1, &data)], state(1, 2, index - 1))])
            .unwrap();
    }
    let other = other.into_disk();
    let names = disk.list().unwrap();
    assert_eq!(names, other.list().unwrap());
    let mut mixed = disk.clone();
    mixed.remove(&names[1]).unwrap();
    mixed.create(&names[1]).unwrap();
    mixed.append(&names[1], &other.read(&names[1]).unwrap()).unwrap();
    let error = Segments::open(mixed, SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    use journal::Disk;
    let mut disk = log_of(5, SMALL);
    for name in ["00000000000000000004-00000000000000000009.snap", "x.snap.tmp"] {
        disk.create(name).unwrap();
        disk.append(name, b"half").unwrap();
    }
    disk.create("somebody's notes").unwrap();
    let (log, recovered) = open(disk);
    assert_eq!(recovered.entries().len(), 5);
    let names = log.disk().list().unwrap();
    assert_eq!(names, ["00000000000000000001.log", "somebody's notes"]);
}

/// Found by the crash test: a segment whose repeated hard state was torn off stayed, and once the
/// older ones were pruned the log had no hard state.
#[test]
fn a_segment_that_never_began_is_removed() {
    use journal::Disk;
    let (mut log, _) = open(MemoryDisk::new());
    let long = "x".repeat(3000);
    log.commit(&[write(1, vec![entry(1, 1, &long)], state(1, 2, 0))]).unwrap();
    log.append(&[write(2, vec![entry(2, 1, "torn")], None)]).unwrap();
    let disk = log.into_disk();
    assert_eq!(disk.list().unwrap().len(), 2);
    for kept in 0..=116 {
        let mut disk = disk.clone();
        disk.crash(|unsynced| match unsynced {
            journal::Unsynced::Tail { .. } => Kept::first(kept),
            _ => Kept::everything(),
        });
        let (log, recovered) = open(disk);
        assert_eq!(log.disk().list().unwrap().len(), 1, "{kept} bytes of the new segment");
        assert_eq!(recovered.hard_state().vote, 2);
    }
}

/// Found by the random runs: after pruning, the oldest entries left may be uncommitted ones that
/// a later conflict, beginning below them, replaced.
#[test]
fn pruning_may_leave_entries_that_a_lower_one_replaced() {
    use journal::Disk;
    let (mut log, _) = open(MemoryDisk::new());
    let mut first = write(1, Vec::new(), state(1, 0, 1));
    first.snapshot = Some(snapshot(1, 1, Chain::EMPTY, true));
    log.commit(&[first]).unwrap();
    let long = "x".repeat(500);
    for index in 2..=13 {
        log.commit(&[write(index, vec![entry(index, 2, &long)], state(2, 0, 1))]).unwrap();
    }
    // Another leader's entries replace them all; then two snapshots cover most.
    let mut chain = Chain::EMPTY;
    for index in 2..=16 {
        let next = entry(index, 3, &long);
        let mut writes = write(20 + index, vec![next.clone()], state(3, 0, index - 1));
        if index == 13 || index == 14 {
            writes.snapshot = Some(snapshot(index - 1, 3, chain, false));
        }
        chain = chain.after_entry(&next);
        log.commit(&[writes]).unwrap();
    }
    let names = log.disk().list().unwrap();
    assert_ne!(names[0], format!("{:020}.log", 1), "the oldest segment went: {names:?}");
    let (_, recovered) = open(log.into_disk());
    assert_eq!(recovered.snapshot().unwrap().index, 13);
    let terms: Vec<_> = recovered.entries().iter().map(|e| (e.index, e.term)).collect();
    assert_eq!(terms, [(14, 3), (15, 3), (16, 3)]);
}

#[test]
fn quiet_writes_nothing() {
    let (mut log, _) = open(MemoryDisk::new());
    log.commit(&[write(1, vec![entry(1, 1, "a")], state(1, 0, 0))]).unwrap();
    let operations = log.disk().operations();
    for _ in 0..5 {
        log.commit(&[]).unwrap();
    }
    assert_eq!(log.disk().operations(), operations, "one note is enough");
}

/// The older snapshot needs its mark: a segment that holds it stays, whatever its entries are.
#[test]
fn a_kept_snapshot_keeps_the_segment_of_its_mark() {
    use journal::Disk;
    let options = Options { segment_bytes: journal::MIN_SEGMENT_BYTES };
    for pad in 0..60 {
        let (mut log, _) = Segments::open(MemoryDisk::new(), options).unwrap();
        let data = "x".repeat(20 + 4 * pad);
        let mut chain = Chain::EMPTY;
        for index in 1..=30 {
            let next = entry(index, 1, &data);
            chain = chain.after_entry(&next);
            let hard_state = if index == 1 { state(1, 0, 0) } else { None };
            log.commit(&[write(index, vec![next], hard_state)]).unwrap();
            if index % 10 == 0 {
                let mut mark = write(100 + index, Vec::new(), None);
                mark.snapshot = Some(snapshot(index, 1, chain, false));
                log.commit(&[mark]).unwrap();
            }
        }
        let mut disk = log.into_disk();
        let newest = disk.list().unwrap().into_iter().rfind(|name| name.ends_with(".snap"));
        disk.flip_bit(&newest.unwrap(), 90, 0);
        let (_, recovered) = Segments::open(disk, options)
            .unwrap_or_else(|error| panic!("padded by {pad}: {error}"));
        assert_eq!(recovered.snapshot().unwrap().index, 20);
        assert_eq!(recovered.entries().len(), 10);
    }
}
