//! Chunks: their identity, where a file is cut, and whether compressing them pays.

mod compress;
mod cut;

pub use compress::Compressor;
pub use cut::{CHUNK_AVERAGE_BYTES, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Cutter};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a chunk holds; part of its identity, so that contents never pass for structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BlobKind {
    /// Contents of a file.
    Data = 0,
    /// A node of a directory.
    Node = 1,
    /// A part of a large file's extent list.
    Extents = 2,
}

impl BlobKind {
    /// From the two bits of a stored flag byte.
    pub fn of_bits(bits: u8) -> Option<BlobKind> {
        [BlobKind::Data, BlobKind::Node, BlobKind::Extents].get(usize::from(bits)).copied()
    }
}

/// A chunk's identity: keyed BLAKE3 over its kind and the BLAKE3 hash of its contents. Keyed,
/// so that a store learns nothing of the contents by comparing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The identity of contents with this hash.
    pub fn of_hash(key: &[u8; 32], kind: BlobKind, hash: &blake3::Hash) -> ChunkId {
        let mut message = [0; 33];
        message[0] = kind as u8;
        message[1..].copy_from_slice(hash.as_bytes());
        ChunkId(*blake3::keyed_hash(key, &message).as_bytes())
    }

    /// The identity of these contents.
    pub fn of(key: &[u8; 32], kind: BlobKind, contents: &[u8]) -> ChunkId {
        ChunkId::of_hash(key, kind, &blake3::hash(contents))
    }

    /// The first eight bytes as a number, in the order of the ids.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("an id has 32 bytes"))
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0[..8]))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_by_key_kind_and_contents() {
        let id = |key: u8, kind, text: &[u8]| ChunkId::of(&[key; 32], kind, text);
        let all = [
            id(1, BlobKind::Data, b"a"),
            id(2, BlobKind::Data, b"a"),
            id(1, BlobKind::Node, b"a"),
            id(1, BlobKind::Data, b"b"),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(id(1, BlobKind::Data, b"a"), all[0]);
    }
}
