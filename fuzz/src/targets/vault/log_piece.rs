//! Pieces of a database's log whose seal and signature hold, and their names.

use vault::chunk::Compressor;
use vault::fuzzing::{name_of_piece, piece_name};
use vault::postgres::Lsn;
use vault::seal::{Kind, seal_object};
use vault::store::{Area, ObjectName};
use vault::wal::{PIECE_BYTES, read_piece};

use super::sealed::ring;
use crate::Target;
use crate::cursor::Cursor;
use crate::round;

const SIGNATURE_CONTEXT: &[u8] = b"backstay vault v1 wal\0";
const STREAM: &str = "0123456789abcdef";

pub(crate) const TARGET: Target =
    Target::new("vault-log-piece", "pieces of databases' logs, and their names", read, seeds)
        .memory(64 << 20);

thread_local! {
    static COMPRESSOR: std::cell::RefCell<Compressor> = Compressor::new().into();
}

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    if input.byte() % 4 != 0 {
        return named(&input.text());
    }
    let is_compressed = input.byte() % 2 == 1;
    let (start, length) = (Lsn(input.u64()), u64::from(u16::from_le_bytes(input.array())));
    let Some(end) = start.0.checked_add(length).map(Lsn) else { return };
    let content = *blake3::hash(input.0).as_bytes();
    // The fields of a statement, in their order.
    let statement = (1u8, ring().repository, 0u32, (7u64, 2u32, start, end), 5i64, content);
    let statement = round::encoded(&statement);
    let signature = ring().current().sign(&[SIGNATURE_CONTEXT, &statement].concat()).to_vec();
    let stored = round::encoded(&(&statement, &signature, is_compressed, input.0.to_vec()));
    let name = name_of_piece(STREAM, 2, (start, end));
    let object = seal_object(ring(), Kind::Wal, &name, &stored);
    let piece = COMPRESSOR.with_borrow_mut(|c| read_piece(ring(), &name, object, c));
    if let Ok(piece) = piece {
        assert_eq!(piece.bytes.len() as u64, length, "a piece has its length");
    }
}

/// A name says one stretch, and is the only name of it.
fn named(leaf: &str) {
    let Some(name) = ObjectName::new(Area::Wal, leaf) else { return };
    let Some((timeline, Some((from, upto)))) = piece_name(&name) else { return };
    assert!(from < upto && upto.0 - from.0 <= PIECE_BYTES);
    let stream = &name.leaf()[..STREAM.len()];
    assert_eq!(name_of_piece(stream, timeline, (from, upto)), name);
}

fn seeds() -> Vec<Vec<u8>> {
    let plain = [&[0, 0][..], &100u64.to_le_bytes(), &[3, 0], b"log"].concat();
    let name = name_of_piece(STREAM, 3, (Lsn(1), Lsn(77)));
    let history = format!("{STREAM}-00000003-history");
    vec![plain, [&[1], name.leaf().as_bytes()].concat(), [&[1], history.as_bytes()].concat()]
}
