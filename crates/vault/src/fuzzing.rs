//! What fuzz targets need of readers that no other crate calls. Nothing else calls it.

use crate::chain::RunId;
use crate::keys::KeyRing;
use crate::postgres::Lsn;
use crate::store::ObjectName;
use crate::wal;
use std::fs::File;
use std::ops::ControlFlow;

/// Reads pages of a server's log, one after the other from a position on; how many records they
/// hold, and what those of a server of this version refer to.
#[must_use]
pub fn log_pages(pages: &[u8], from: Lsn, version: u32) -> (usize, usize) {
    let (mut records, mut referred) = (0, 0);
    let mut reader = wal::record::Pages::default();
    for (number, page) in pages.chunks_exact(wal::record::PAGE_BYTES).enumerate() {
        let at = Lsn(from.0.wrapping_add((number * wal::record::PAGE_BYTES) as u64));
        let _flow = reader.page(page, at, &mut |record| {
            records += 1;
            let _end = record.transaction_end();
            let _understood = wal::refers(record, version, &mut |_| referred += 1);
            ControlFlow::Continue(())
        });
    }
    (records, referred)
}

/// What the name of a piece of a log says: the timeline, and the stretch where it is one.
#[must_use]
pub fn piece_name(name: &ObjectName) -> Option<(u32, Option<(Lsn, Lsn)>)> {
    wal::fuzzing::piece_name(name)
}

/// The name of a piece.
#[must_use]
pub fn name_of_piece(stream: &str, timeline: u32, stretch: (Lsn, Lsn)) -> ObjectName {
    wal::fuzzing::name_of(stream, timeline, stretch)
}

/// Reads a message of a replication stream: whether it is one, and its bytes of the log.
#[must_use]
pub fn replication_message(bytes: &[u8]) -> Option<usize> {
    crate::postgres::fuzzing::replication_message(bytes)
}

/// Reads a message of a base backup: whether it is one.
#[must_use]
pub fn base_backup_message(bytes: &[u8]) -> bool {
    crate::postgres::fuzzing::base_backup_message(bytes)
}

/// Reads a server's manifest of a base backup: whether it is one.
#[must_use]
pub fn base_backup_manifest(bytes: &[u8]) -> bool {
    crate::postgres::fuzzing::base_backup_manifest(bytes)
}

/// Reads half of a spool that holds these bytes: timeline, start and length of each frame.
#[must_use]
pub fn spool_frames(ring: &KeyRing, stream: &str, half: &[u8]) -> Vec<(u32, Lsn, usize)> {
    wal::fuzzing::spool_frames(ring, stream, half)
}

/// A spool's frame of this round and timeline, whose seal is right.
#[must_use]
pub fn spool_frame(
    ring: &KeyRing,
    stream: &str,
    round: (u64, u32),
    stretch: (Lsn, Lsn),
    bytes: &[u8],
) -> Vec<u8> {
    wal::fuzzing::spool_frame(ring, stream, round, stretch, bytes)
}

/// Reads what a machine remembers of a log; the same as it writes it.
#[must_use]
pub fn log_memory(text: &str) -> Option<((u32, Lsn, Lsn), String)> {
    wal::fuzzing::log_memory(text)
}

/// Reads what a machine remembers of a backup's blocks: paths, and how many hashes each has.
#[must_use]
pub fn block_memory(file: File, run: [u8; 16], mode: &str) -> Option<Vec<(Vec<u8>, usize)>> {
    crate::backup::hashes_in(file, &RunId(run), mode)
}

/// Reads the unwrapped keys of a repository.
///
/// # Panics
/// Where what was read is not written back so that it is read again.
#[must_use]
pub fn key_ring(payload: &[u8]) -> bool {
    let Some(ring) = KeyRing::from_payload(payload) else { return false };
    let again = KeyRing::from_payload(&ring.to_payload());
    assert_eq!(again.map(|r| (r.repository, r.epoch())), Some((ring.repository, ring.epoch())));
    true
}

/// Reads what `vault run` remembers of its jobs; how many.
#[must_use]
pub fn book(text: &str) -> Option<usize> {
    crate::schedule::fuzzing::book(text)
}
