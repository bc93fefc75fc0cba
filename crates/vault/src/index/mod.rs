//! Where each chunk lies: sorted, sealed segments that are searched where they are. What stays
//! in memory is a fence, a filter, and a bounded cache of blocks.

mod filter;
mod merge;
mod segment;
mod set;
mod writer;

pub use merge::{SEGMENTS_BEFORE_MERGE, consolidate};
pub use segment::Segment;
pub use set::{IndexSet, SegmentPosition};
pub use writer::{FinishedSegment, write_segment};

use crate::chunk::ChunkId;
use crate::pack::{Blob, Location};
use crate::store::ObjectId;
use serde::{Deserialize, Serialize};

/// Entries of a block.
pub const BLOCK_ENTRIES: usize = 256;
/// Entries of a segment, so that one is made and stored in bounded memory.
pub const SEGMENT_ENTRIES_MAX: usize = 512 << 10;
/// Packs that one segment names.
pub const SEGMENT_PACKS_MAX: usize = 1 << 20;
/// Bytes of an entry: id, pack number, offset, stored and raw length, flags.
const ENTRY_BYTES: usize = 32 + 4 + 4 + 4 + 4 + 1;

/// The sealed end of a segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Footer {
    version: u8,
    entries: u64,
    packs: Vec<ObjectId>,
    /// The first eight bytes of each block's first id.
    fence: Vec<u64>,
    last: [u8; 32],
    filter: Vec<u8>,
    /// Segments whose entries this one and `with` hold as well.
    supersedes: Vec<ObjectId>,
    /// The other results of the same merge, all written before this one.
    with: Vec<ObjectId>,
}

fn encode_entry(pack: u32, blob: &Blob, out: &mut Vec<u8>) {
    out.extend_from_slice(&blob.id.0);
    out.extend_from_slice(&pack.to_le_bytes());
    out.extend_from_slice(&blob.offset.to_le_bytes());
    out.extend_from_slice(&blob.stored_bytes.to_le_bytes());
    out.extend_from_slice(&blob.raw_bytes.to_le_bytes());
    out.push(blob.flags);
}

/// The entry, or nothing where it names no pack of the segment.
fn decode_entry(row: &[u8], packs: &[ObjectId]) -> Option<Location> {
    let number = |at: usize| Some(u32::from_le_bytes(*row.get(at..at + 4)?.first_chunk()?));
    let pack = *packs.get(number(32)? as usize)?;
    let blob = Blob {
        id: ChunkId(*row.first_chunk()?),
        offset: number(36)?,
        stored_bytes: number(40)?,
        raw_bytes: number(44)?,
        flags: *row.get(48)?,
    };
    Some(Location { pack, blob })
}
