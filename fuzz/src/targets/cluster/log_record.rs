//! One record of the log: as raw bytes, and its payload behind right checksums.

use journal::Chain;
use journal::fuzzing::{framed, raw_record, record, segment_header};

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("log-record", "records of the log, before and behind their checksums", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let choice = input.byte();
    let _is_one = if choice == 0 { raw_record(input.0) } else { record(choice, input.0) };
}

fn seeds() -> Vec<Vec<u8>> {
    let state: Vec<u8> = [1u64, 1, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    let header = segment_header(1, Chain::EMPTY);
    let raw = framed(1, &header, 1, 0, Chain::EMPTY).0;
    let entry = [&[2][..], &[1, 0, 0, 0, 0, 0, 0, 0].repeat(2), &[0, 1, 0, 0, 0, 7, 8]].concat();
    let mark = [&[4][..], &[1, 0, 0, 0, 0, 0, 0, 0].repeat(2), &[1], &[9; 64]].concat();
    vec![
        [&[0], &raw[..]].concat(),
        [&[1], &header[..]].concat(),
        [&[3], &state[..]].concat(),
        entry,
        mark,
        vec![5],
    ]
}
