//! The records of a segment file: encoding, and a reader that trusts no byte.
//!
//! It knows one record at a time; what a bad one means is for [`crate::recovery`] to judge.
//! The layout is specified in docs/reference/log-format.md.

use raft::eraftpb::{Entry, EntryType, HardState};

use crate::chain::{CHAIN_BYTES, Chain};
use crate::limits::MAX_RECORD_BYTES;

/// The bytes before a record's payload.
pub(crate) const HEADER_BYTES: usize = 32;
/// The bytes of the payload's length, the header's first.
pub(crate) const LENGTH_BYTES: usize = 4;
/// What a record takes besides its payload.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + CHAIN_BYTES;
/// The first bytes of every segment header's payload.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"BSTKLOG\n";
/// The format version that this code writes, and the only one it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

const KIND_SEGMENT_HEADER: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_HARD_STATE: u8 = 3;
const KIND_SNAPSHOT_MARK: u8 = 4;
const KIND_SYNCED: u8 = 5;

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// The first record of every file.
    SegmentHeader(SegmentHeader),
    /// One entry of the replicated log; it replaces every earlier entry of its index or higher.
    Entry(Entry),
    /// Term, vote and commit from here on.
    HardState(HardState),
    /// A snapshot file is complete and counts from here on.
    SnapshotMark(SnapshotMark),
    /// Nothing but its header's `synced` field.
    Synced,
}

/// The payload of a segment's first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The sequence number of this very record, which is also the file's name.
    pub first_sequence: u64,
    /// The record chain over all records before this one.
    pub chain_before: Chain,
}

/// The payload of a snapshot mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotMark {
    /// The index of the last entry that the snapshot contains.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Whether it came from a leader and replaces all entries, rather than compacting them.
    pub installed: bool,
    /// The entry chain at `index`.
    pub entry_chain: Chain,
    /// BLAKE3 of the snapshot file's contents.
    pub file_hash: [u8; 32],
}

/// A record's header, once its own checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The payload's length.
    pub payload_bytes: usize,
    /// The kind, as a number.
    pub kind: u8,
    /// One higher than the record before it.
    pub sequence: u64,
    /// All records up to this one were durable when this one was written.
    pub synced: u64,
    payload_checksum: u32,
}

impl Header {
    /// The whole record's length.
    pub(crate) fn record_bytes(&self) -> usize {
        self.payload_bytes + OVERHEAD_BYTES
    }
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The file ends inside the header.
    #[error("the file ends inside a record's header")]
    ShortHeader,
    /// The file ends inside the payload or chain value; the header is right.
    #[error("the file ends inside a record")]
    ShortBody,
    /// The header's checksum is wrong.
    #[error("a record's header fails its checksum")]
    Header,
    /// The payload's checksum is wrong.
    #[error("a record's payload fails its checksum")]
    Payload,
    /// The sequence number is not the next one.
    #[error("a record has the wrong sequence number")]
    Sequence,
    /// The chain value is not the one that follows from the records before.
    #[error("a record breaks the hash chain")]
    Chain,
    /// Checksums are right, but the payload does not decode.
    #[error("a record's contents do not decode")]
    Contents,
    /// A newer Backstay wrote this log.
    #[error("the log has a format version that this version does not know")]
    Version,
}

/// Where an appended record stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// The record's sequence number.
    pub sequence: u64,
    /// The highest sequence number known to be durable.
    pub synced: u64,
    /// The chain over all records before it.
    pub chain: Chain,
}

/// Appends a record to `out` and returns the chain value after it.
pub(crate) fn encode(record: &Record, position: Position, out: &mut Vec<u8>) -> Chain {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = encode_payload(record, out);
    let payload_at = start + HEADER_BYTES;
    let payload_bytes = out.len() - payload_at;
    assert!(payload_bytes <= MAX_RECORD_BYTES, "a record larger than its reader accepts");
    let payload_checksum = crc32fast::hash(&out[payload_at..]);
    let header = &mut out[start..payload_at];
    header[0..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header[4] = kind;
    header[8..16].copy_from_slice(&position.sequence.to_le_bytes());
    header[16..24].copy_from_slice(&position.synced.to_le_bytes());
    header[24..28].copy_from_slice(&payload_checksum.to_le_bytes());
    let header_checksum = crc32fast::hash(&header[..28]);
    header[28..32].copy_from_slice(&header_checksum.to_le_bytes());
    let chain = position.chain.after_record(&out[start..payload_at], &out[payload_at..]);
    out.extend_from_slice(&chain.0);
    chain
}

fn encode_payload(record: &Record, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::SegmentHeader(header) => {
            out.extend_from_slice(&SEGMENT_MAGIC);
            out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
            out.extend_from_slice(&header.first_sequence.to_le_bytes());
            out.extend_from_slice(&header.chain_before.0);
            KIND_SEGMENT_HEADER
        }
        Record::Entry(entry) => {
            out.extend_from_slice(&entry.index.to_le_bytes());
            out.extend_from_slice(&entry.term.to_le_bytes());
            out.push(u8::try_from(entry.entry_type).unwrap_or(u8::MAX));
            out.extend_from_slice(&(entry.context.len() as u32).to_le_bytes());
            out.extend_from_slice(&entry.context);
            out.extend_from_slice(&entry.data);
            KIND_ENTRY
        }
        Record::HardState(state) => {
            out.extend_from_slice(&state.term.to_le_bytes());
            out.extend_from_slice(&state.vote.to_le_bytes());
            out.extend_from_slice(&state.commit.to_le_bytes());
            KIND_HARD_STATE
        }
        Record::SnapshotMark(mark) => {
            out.extend_from_slice(&mark.index.to_le_bytes());
            out.extend_from_slice(&mark.term.to_le_bytes());
            out.push(u8::from(mark.installed));
            out.extend_from_slice(&mark.entry_chain.0);
            out.extend_from_slice(&mark.file_hash);
            KIND_SNAPSHOT_MARK
        }
        Record::Synced => KIND_SYNCED,
    }
}

/// The sequence number in a header that failed its checksum.
pub(crate) fn sequence_of(header: &[u8]) -> Option<u64> {
    let bytes = header.get(8..16)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Reads and checks the header at the start of `bytes`.
///
/// # Errors
/// [`BadRecord::ShortHeader`] or [`BadRecord::Header`].
pub(crate) fn read_header(bytes: &[u8]) -> Result<Header, BadRecord> {
    let header = bytes.get(..HEADER_BYTES).ok_or(BadRecord::ShortHeader)?;
    let mut fields = Fields(header);
    let payload_bytes = fields.u32().ok_or(BadRecord::ShortHeader)? as usize;
    let kind = fields.u8().ok_or(BadRecord::ShortHeader)?;
    let reserved = fields.take(3).ok_or(BadRecord::ShortHeader)?;
    let possible = payload_bytes <= MAX_RECORD_BYTES
        && (KIND_SEGMENT_HEADER..=KIND_SYNCED).contains(&kind)
        && reserved == [0; 3];
    // Cheap tests first: looking for the next valid record tries this at every byte.
    if !possible || crc32fast::hash(&header[..28]).to_le_bytes() != header[28..32] {
        return Err(BadRecord::Header);
    }
    let sequence = fields.u64().ok_or(BadRecord::ShortHeader)?;
    let synced = fields.u64().ok_or(BadRecord::ShortHeader)?;
    let payload_checksum = fields.u32().ok_or(BadRecord::ShortHeader)?;
    Ok(Header { payload_bytes, kind, sequence, synced, payload_checksum })
}

/// Reads the record at the start of `bytes`, checking everything but sequence and chain.
///
/// # Errors
/// See [`BadRecord`].
pub(crate) fn read_unchained(bytes: &[u8]) -> Result<(Header, Record), BadRecord> {
    let header = read_header(bytes)?;
    let body = bytes.get(HEADER_BYTES..header.record_bytes()).ok_or(BadRecord::ShortBody)?;
    let payload = &body[..header.payload_bytes];
    if crc32fast::hash(payload) != header.payload_checksum {
        return Err(BadRecord::Payload);
    }
    if header.kind == KIND_SEGMENT_HEADER
        && payload.get(8..12) != Some(&FORMAT_VERSION.to_le_bytes())
    {
        return Err(BadRecord::Version);
    }
    let record = decode_payload(header.kind, payload).ok_or(BadRecord::Contents)?;
    Ok((header, record))
}

/// Reads the record at the start of `bytes`, which must be number `sequence` after `chain`.
/// Returns also the chain value after it. For a segment's first record the caller takes `chain`
/// from the file before it.
///
/// # Errors
/// See [`BadRecord`].
pub(crate) fn read(
    bytes: &[u8],
    sequence: u64,
    chain: &Chain,
) -> Result<(Header, Record, Chain), BadRecord> {
    let (header, record) = read_unchained(bytes)?;
    if header.sequence != sequence {
        return Err(BadRecord::Sequence);
    }
    let payload_end = HEADER_BYTES + header.payload_bytes;
    let after = chain.after_record(&bytes[..HEADER_BYTES], &bytes[HEADER_BYTES..payload_end]);
    if after.0 != bytes[payload_end..payload_end + CHAIN_BYTES] {
        return Err(BadRecord::Chain);
    }
    Ok((header, record, after))
}

fn decode_payload(kind: u8, payload: &[u8]) -> Option<Record> {
    let mut fields = Fields(payload);
    let record = match kind {
        KIND_SEGMENT_HEADER => {
            let magic = fields.take(8)?;
            let version = fields.u32()?;
            if magic != SEGMENT_MAGIC || version != FORMAT_VERSION {
                return None;
            }
            let first_sequence = fields.u64()?;
            let chain_before = Chain(fields.hash()?);
            Record::SegmentHeader(SegmentHeader { first_sequence, chain_before })
        }
        KIND_ENTRY => return decode_entry(fields).map(Record::Entry),
        KIND_HARD_STATE => {
            let (term, vote, commit) = (fields.u64()?, fields.u64()?, fields.u64()?);
            Record::HardState(HardState { term, vote, commit })
        }
        KIND_SNAPSHOT_MARK => {
            let (index, term) = (fields.u64()?, fields.u64()?);
            let installed = match fields.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            let (entry_chain, file_hash) = (Chain(fields.hash()?), fields.hash()?);
            Record::SnapshotMark(SnapshotMark { index, term, installed, entry_chain, file_hash })
        }
        KIND_SYNCED => Record::Synced,
        _ => return None,
    };
    fields.0.is_empty().then_some(record)
}

fn decode_entry(mut fields: Fields<'_>) -> Option<Entry> {
    let (index, term) = (fields.u64()?, fields.u64()?);
    let entry_type = i32::from(fields.u8()?);
    EntryType::from_i32(entry_type)?;
    let context_bytes = usize::try_from(fields.u32()?).ok()?;
    let context = fields.take(context_bytes)?.to_vec();
    let data = fields.0.to_vec();
    Some(Entry { entry_type, term, index, data, context, sync_log: false })
}

/// Little-endian fields off the front of a slice; `None` at its end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let chain = Chain([7; 32]);
        let entry = Entry {
            entry_type: EntryType::EntryConfChangeV2 as i32,
            term: 3,
            index: 9,
            data: vec![1, 2, 3],
            context: vec![4, 5],
            sync_log: false,
        };
        vec![
            Record::SegmentHeader(SegmentHeader { first_sequence: 5, chain_before: chain }),
            Record::Entry(entry),
            Record::Entry(Entry::default()),
            Record::HardState(HardState { term: 1, vote: 2, commit: 3 }),
            Record::SnapshotMark(SnapshotMark {
                index: 1,
                term: 1,
                installed: true,
                entry_chain: chain,
                file_hash: [9; 32],
            }),
            Record::Synced,
        ]
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        let position = Position { sequence: 5, synced: 4, chain: Chain::EMPTY };
        encode(record, position, &mut bytes);
        bytes
    }

    #[test]
    fn every_kind_comes_back_as_written() {
        for record in samples() {
            let bytes = encoded(&record);
            let (header, back, _) = read(&bytes, 5, &Chain::EMPTY).unwrap();
            assert_eq!((back, header.synced, header.record_bytes()), (record, 4, bytes.len()));
        }
    }

    #[test]
    fn no_single_bit_can_change_unnoticed() {
        for record in samples() {
            let bytes = encoded(&record);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&damaged, 5, &Chain::EMPTY).is_err(), "bit {bit} of {record:?}");
            }
        }
    }

    #[test]
    fn every_shorter_prefix_is_refused_as_short() {
        for record in samples() {
            let bytes = encoded(&record);
            for length in 0..bytes.len() {
                let error = read(&bytes[..length], 5, &Chain::EMPTY).unwrap_err();
                assert!(matches!(error, BadRecord::ShortHeader | BadRecord::ShortBody));
            }
        }
    }

    #[test]
    fn a_record_of_another_place_is_refused() {
        let bytes = encoded(&Record::Synced);
        assert_eq!(read(&bytes, 6, &Chain::EMPTY).unwrap_err(), BadRecord::Sequence);
        assert_eq!(read(&bytes, 5, &Chain([1; 32])).unwrap_err(), BadRecord::Chain);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        let mut bytes = encoded(&Record::Synced);
        bytes[0..4].copy_from_slice(&(MAX_RECORD_BYTES as u32 + 1).to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read(&bytes, 5, &Chain::EMPTY).unwrap_err(), BadRecord::Header);
    }

    #[test]
    fn garbage_never_panics() {
        // A linear congruential generator: the same garbage each run.
        let mut state = 1_u64;
        for length in 0..400 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .take(length)
            .collect();
            assert!(read(&bytes, 1, &Chain::EMPTY).is_err());
            for kind in 0..8 {
                // The answer doesn't matter, only that there is one.
                let _ = decode_payload(kind, &bytes);
            }
        }
    }
}
