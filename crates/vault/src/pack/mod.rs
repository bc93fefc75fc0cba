//! Packs: chunks, each sealed on its own, with a sealed table at the end, so that a pack
//! explains itself even where the index is lost.

mod builder;
mod reader;

pub use builder::{BufferPool, FinishedPack, PackBuilder};
pub use reader::{open_blob, open_chunk, pack_cipher, parse_pack, read_table};

use crate::chunk::{BlobKind, ChunkId};
use crate::store::ObjectId;

/// A pack is closed when it has this much.
pub const PACK_TARGET_BYTES: usize = 16 << 20;
/// The largest pack: the target, one more chunk, and the table.
pub const PACK_BYTES_MAX: usize = 32 << 20;
/// Bytes of a table row: id, stored and raw length, flags.
const ROW_BYTES: usize = 32 + 4 + 4 + 1;
/// Bytes of the table's length, last in the pack.
const TABLE_LENGTH_BYTES: usize = 4;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Which chunk.
    pub id: ChunkId,
    /// Where its sealed bytes begin in the pack.
    pub offset: u32,
    /// Sealed bytes, tag included.
    pub stored_bytes: u32,
    /// Bytes of the chunk.
    pub raw_bytes: u32,
    /// Bit 0: compressed. Bits 1 and 2: kind.
    pub flags: u8,
}

impl Blob {
    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        self.flags & 1 == 1
    }

    /// What it holds, where the flags are ours.
    pub fn kind(&self) -> Option<BlobKind> {
        BlobKind::of_bits(self.flags >> 1)
    }

    /// What the seal also covers.
    fn aad(&self) -> [u8; 37] {
        let mut aad = [0; 37];
        aad[..32].copy_from_slice(&self.id.0);
        aad[32..36].copy_from_slice(&self.raw_bytes.to_le_bytes());
        aad[36] = self.flags;
        aad
    }
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// In which pack.
    pub pack: ObjectId,
    /// How it is stored there.
    pub blob: Blob,
}
