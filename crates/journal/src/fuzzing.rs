//! What fuzz targets need of the readers' insides: bytes that no checksum, hash or chain refuses,
//! so that every input reaches the decoders behind them. Nothing else calls it.

use crate::chain::Chain;
use crate::memory_disk::MemoryDisk;
use crate::record::{self, FORMAT_VERSION, Position, SEGMENT_MAGIC};
use crate::snapshot_file::{self, SNAPSHOT_MAGIC};
use crate::{Disk, OpenError, Options, Recovered, Segments};

/// Frames bytes as a record of this kind whose checksums and chain value are right.
#[must_use]
pub fn framed(
    kind: u8,
    payload: &[u8],
    sequence: u64,
    synced: u64,
    chain: Chain,
) -> (Vec<u8>, Chain) {
    let mut header = [0; record::HEADER_BYTES];
    header[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4] = kind;
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&synced.to_le_bytes());
    header[24..28].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let checksum = crc32fast::hash(&header[..28]);
    header[28..32].copy_from_slice(&checksum.to_le_bytes());
    let after = chain.after_record(&header, payload);
    ([&header[..], payload, &after.0].concat(), after)
}

/// Reads a payload as a record of this kind. Whether it is one.
///
/// # Panics
/// Where what was read is not written back to the same bytes.
#[must_use]
pub fn record(kind: u8, payload: &[u8]) -> bool {
    let (bytes, _) = framed(kind, payload, 7, 6, Chain::EMPTY);
    let Ok((_, read)) = record::read_unchained(&bytes) else { return false };
    let mut again = Vec::new();
    let position = Position { sequence: 7, synced: 6, chain: Chain::EMPTY };
    let _after = record::encode(&read, position, &mut again);
    assert_eq!(again, bytes, "a record is written back as it was read");
    true
}

/// Reads raw bytes as the start of a log file. Whether a record begins there.
#[must_use]
pub fn raw_record(bytes: &[u8]) -> bool {
    record::read(bytes, 1, &Chain::EMPTY).is_ok()
}

/// The payload of the header of a file that begins with this record.
#[must_use]
pub fn segment_header(first_sequence: u64, chain_before: Chain) -> Vec<u8> {
    let numbers = [&FORMAT_VERSION.to_le_bytes()[..], &first_sequence.to_le_bytes()].concat();
    [&SEGMENT_MAGIC[..], &numbers, &chain_before.0].concat()
}

/// Opens a log of these files.
///
/// # Errors
/// As [`Segments::open`].
pub fn open(files: &[(String, Vec<u8>)]) -> Result<(MemoryDisk, Recovered), OpenError> {
    let mut disk = MemoryDisk::new();
    for (name, bytes) in files {
        // One name twice is what a directory can't hold: the first counts.
        if disk.create(name).is_ok() {
            disk.append(name, bytes)?;
            disk.sync_data(name)?;
        }
    }
    disk.sync_dir()?;
    let (log, recovered) = Segments::open(disk, Options::default())?;
    Ok((log.into_disk(), recovered))
}

/// Reads bytes as a snapshot file without its hash. Whether they are one.
///
/// # Panics
/// Where what was read is not written back to the same bytes.
#[must_use]
pub fn snapshot(contents: &[u8]) -> bool {
    let hash = *blake3::hash(contents).as_bytes();
    let bytes = [contents, &hash].concat();
    let Ok(read) = snapshot_file::decode(&bytes, &hash) else { return false };
    assert_eq!(snapshot_file::encode(&read).0, bytes, "a snapshot is written as it was read");
    true
}

/// How a snapshot file begins.
#[must_use]
pub fn snapshot_begin() -> Vec<u8> {
    [&SNAPSHOT_MAGIC[..], &FORMAT_VERSION.to_le_bytes()].concat()
}

/// The name of a file of records that begins with this one.
#[must_use]
pub fn segment_name(first_sequence: u64) -> String {
    crate::segments::segment_name(first_sequence)
}

/// The name of a snapshot file.
#[must_use]
pub fn snapshot_name(index: u64, sequence: u64) -> String {
    crate::segments::snapshot_name(index, sequence)
}
