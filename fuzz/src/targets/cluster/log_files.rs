//! A whole log: segments and snapshots of records with right checksums and chain values, in any
//! order, cut anywhere. A log that opens opens again, and holds the same.

use journal::fuzzing::{framed, open, segment_header, segment_name, snapshot_name};
use journal::{Chain, Disk};

use crate::Target;
use crate::cursor::{Cursor, piece};

/// Files of one input.
const FILES_MAX: usize = 4;
/// Records of one file.
const RECORDS_MAX: usize = 32;

pub(crate) const TARGET: Target =
    Target::new("log-files", "a directory of log files", read, seeds).memory(32 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let (mut files, mut place) = (Vec::new(), Place { sequence: 1, chain: Chain::EMPTY });
    for _ in 0..=input.byte() % FILES_MAX as u8 {
        files.push(file(&mut input, &mut place));
    }
    let Ok((disk, recovered)) = open(&files) else { return };
    let listed = disk.list().expect("a disk in memory lists its files");
    let kept = |name: &String| (name.clone(), disk.read(name).expect("and reads them"));
    let again = open(&listed.iter().map(kept).collect::<Vec<_>>());
    let (_, again) = again.expect("a log that was opened opens again");
    assert_eq!(again.entries(), recovered.entries());
    assert_eq!(again.hard_state(), recovered.hard_state());
    assert_eq!(again.snapshot(), recovered.snapshot());
}

/// Where the next record stands, as an honest writer counts.
struct Place {
    sequence: u64,
    chain: Chain,
}

/// A file: raw bytes under a name of the log's, or records one after the other.
fn file(input: &mut Cursor<'_>, place: &mut Place) -> (String, Vec<u8>) {
    let choice = input.byte();
    let first = place.sequence;
    if choice & 1 == 1 {
        let (index, sequence) = (u64::from(input.byte()), u64::from(input.byte()));
        return (snapshot_name(index, sequence), input.piece().to_vec());
    }
    let name = segment_name(first);
    let mut bytes = Vec::new();
    if choice & 2 == 0 {
        push(1, &segment_header(first, place.chain), 0, place, &mut bytes);
    }
    for _ in 0..usize::from(input.byte()) % RECORDS_MAX {
        let (kind, back) = (input.byte(), u64::from(input.byte()));
        push(kind, input.piece(), back, place, &mut bytes);
    }
    // A tail that a crash tore.
    let torn = if choice & 4 == 4 { usize::from(input.byte()) } else { 0 };
    bytes.truncate(bytes.len().saturating_sub(torn));
    (name, bytes)
}

fn push(kind: u8, payload: &[u8], back: u64, place: &mut Place, bytes: &mut Vec<u8>) {
    let synced = place.sequence.saturating_sub(back + 1);
    let (record, after) = framed(kind, payload, place.sequence, synced, place.chain);
    bytes.extend_from_slice(&record);
    *place = Place { sequence: place.sequence + 1, chain: after };
}

fn seeds() -> Vec<Vec<u8>> {
    let state: Vec<u8> = [1u64, 1, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    let entry = |index: u64| {
        let numbers = [index.to_le_bytes(), 1u64.to_le_bytes()].concat();
        [&numbers[..], &[0, 0, 0, 0, 0], b"data"].concat()
    };
    let record = |kind: u8, payload: &[u8]| [&[kind, 0][..], &piece(payload)].concat();
    let records = [record(3, &state), record(2, &entry(1)), record(2, &entry(2)), record(5, &[])];
    let one = [&[0, 0, 4][..], &records.concat()].concat();
    let two = [&[1, 0, 4][..], &records.concat(), &[4, 1, 5, 0], &piece(&[]), &[9]].concat();
    vec![one, two]
}
