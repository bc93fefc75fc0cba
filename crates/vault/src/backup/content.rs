//! Collects a file's extents and its hash, in bounded memory.

use super::chunks::ChunkWriter;
use crate::chunk::{BlobKind, ChunkId};
use crate::error::{Result, VaultError};
use crate::tree::{Content, EXTENTS_INLINE_MAX, EXTENTS_LIST_MAX, Extent};
use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Extent lists of one file: at 64 KiB a chunk this is 16 TiB.
pub(super) const LISTS_MAX: usize = 64 << 10;

/// Extents in order; many go into chunks of their own.
#[derive(Default)]
pub(super) struct ContentBuilder {
    extents: Vec<Extent>,
    lists: Vec<ChunkId>,
    size_bytes: u64,
}

impl ContentBuilder {
    /// Adds the next extent.
    pub(super) fn push(&mut self, extent: Extent, writer: &mut ChunkWriter<'_>) -> Result<()> {
        self.size_bytes += extent.bytes();
        if let (Some(Extent::Hole { bytes }), Extent::Hole { bytes: more }) =
            (self.extents.last_mut(), extent)
        {
            *bytes += more;
            return Ok(());
        }
        self.extents.push(extent);
        // Lists end where contents say, so that an insertion leaves most of them alone.
        let ends = match extent {
            Extent::Data { id, .. } => id.0[0] == 0 && id.0[1] < 32,
            Extent::Hole { .. } | Extent::Part { .. } => false,
        };
        let enough = ends && self.extents.len() > EXTENTS_INLINE_MAX;
        if enough || self.extents.len() >= EXTENTS_LIST_MAX {
            self.close_list(writer)?;
        }
        Ok(())
    }

    fn close_list(&mut self, writer: &mut ChunkWriter<'_>) -> Result<()> {
        if self.lists.len() >= LISTS_MAX {
            let what = "the number of extents of one file".to_owned();
            return Err(VaultError::Limit { what, limit: (LISTS_MAX * EXTENTS_LIST_MAX) as u64 });
        }
        let bytes = postcard::to_allocvec(&self.extents).expect("extents always encode");
        self.extents.clear();
        self.lists.push(writer.put(BlobKind::Extents, &bytes, &blake3::hash(&bytes))?);
        Ok(())
    }

    /// The content and its length.
    pub(super) fn finish(mut self, writer: &mut ChunkWriter<'_>) -> Result<(Content, u64)> {
        if self.lists.is_empty() && self.extents.len() <= EXTENTS_INLINE_MAX {
            return Ok((Content::Inline(self.extents), self.size_bytes));
        }
        if !self.extents.is_empty() {
            self.close_list(writer)?;
        }
        Ok((Content::Lists(self.lists), self.size_bytes))
    }
}

/// Joins the chaining values of a file's segments, all but the last of one power-of-two length,
/// to the BLAKE3 hash of the whole (section 2.1 of the BLAKE3 paper).
#[derive(Default)]
pub(super) struct SegmentHashes {
    stack: Vec<[u8; 32]>,
    segments: u64,
}

impl SegmentHashes {
    /// Adds a segment that is not the last.
    pub(super) fn push(&mut self, mut value: [u8; 32]) {
        self.segments += 1;
        let mut total = self.segments;
        while total & 1 == 0 {
            let left = self.stack.pop().expect("an even number has a left half");
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
            total >>= 1;
        }
        self.stack.push(value);
    }

    /// The whole file's hash, given the last of at least two segments.
    ///
    /// # Panics
    /// Where there was no segment before.
    pub(super) fn finish(mut self, last: [u8; 32]) -> [u8; 32] {
        let mut value = last;
        while self.stack.len() > 1 {
            let left = self.stack.pop().expect("its length was checked");
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        let left = self.stack.pop().expect("a file of several segments has a first");
        *merge_subtrees_root(&left, &value, Mode::Hash).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blake3::hazmat::HasherExt;

    #[test]
    fn segment_hashes_join_to_the_hash_of_the_whole() {
        let segment = 4096;
        for length in [4097, 8192, 8193, 5 * 4096 + 1, 8 * 4096, 23 * 4096 + 1000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 / 7) as u8).collect();
            let mut hashes = SegmentHashes::default();
            let parts: Vec<&[u8]> = bytes.chunks(segment).collect();
            let value = |i: usize| {
                let mut hasher = blake3::Hasher::new();
                hasher.set_input_offset((i * segment) as u64);
                hasher.update(parts[i]).finalize_non_root()
            };
            (0..parts.len() - 1).for_each(|i| hashes.push(value(i)));
            let whole = hashes.finish(value(parts.len() - 1));
            assert_eq!(whole, *blake3::hash(&bytes).as_bytes(), "{length}");
        }
    }
}
