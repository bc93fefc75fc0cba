//! Reads a file that its owner writes in blocks, and that changes while it is read: a database's
//! file, an image. Each block is hashed; those that the parent backup holds stay where they are,
//! the others are gathered into new chunks. Block hashes are nodes of the file's BLAKE3 tree, so
//! the file's root costs no second pass.

use super::content::SegmentHashes;
use super::read::{ReadFailure, Reader, ZEROS, data_from, fill_at};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chunk::{BlobKind, CHUNK_BYTES_MAX, ChunkId};
use crate::error::{Result, VaultError};
use crate::source::{BlockRules, Stretches};
use crate::tree::{Entry, EntryKind, Extent, each_extents};
use blake3::hazmat::HasherExt;
use std::collections::HashMap;
use std::fs::File;
use std::io;

/// Changed blocks are gathered into chunks of so many bytes.
const GATHERED_BYTES: usize = CHUNK_BYTES_MAX;
/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// A file of which more than this share of the blocks are extents of their own is stored anew:
/// it has become too scattered to read quickly. In quarters.
const SCATTERED_QUARTERS: u64 = 3;

/// Where a file's blocks are read.
pub(super) trait BlockInput {
    /// Reads from an offset on, until the buffer is full or the file ends.
    fn fill_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The next stretch before `end` that is no hole: where it begins and ends.
    fn data_from(&self, at: u64, end: u64) -> io::Result<(u64, u64)> {
        Ok((at, end))
    }
}

impl BlockInput for File {
    fn fill_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        fill_at(self, at, buffer)
    }

    fn data_from(&self, at: u64, end: u64) -> io::Result<(u64, u64)> {
        data_from(self, at, end)
    }
}

/// A block's hash: its node in the file's BLAKE3 tree, or the root where it is the only one.
pub(super) type Value = [u8; 32];

/// What the parent backup holds of a file.
pub(super) struct OldBlocks {
    extents: Vec<(u64, Extent)>,
    /// The hashes, where they are remembered; else the parent's blocks are read for them.
    values: Option<Vec<Value>>,
    /// What may differ, where that is known; with the hashes only.
    changed: Option<Stretches>,
    block_bytes: u64,
    size_bytes: u64,
}

/// What is to be read of a file, and how.
pub(super) struct Stretch<'a> {
    pub(super) file: &'a dyn BlockInput,
    pub(super) old: Option<&'a OldBlocks>,
    pub(super) range: std::ops::Range<u64>,
    /// Whether the file has one block at most.
    pub(super) is_only: bool,
    pub(super) rules: &'a BlockRules,
}

/// What reading a stretch gave.
pub(super) struct BlocksRead {
    pub(super) extents: Vec<Extent>,
    pub(super) values: Vec<Value>,
}

/// The hash of a block that begins at `offset`.
fn value_of(block: &[u8], offset: u64, is_only: bool) -> Value {
    if is_only {
        return *blake3::hash(block).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(block);
    hasher.finalize_non_root()
}

/// The root of a file with these block hashes.
pub(super) fn root_of(values: &[Value]) -> [u8; 32] {
    match values {
        [] => *blake3::hash(b"").as_bytes(),
        [only] => *only,
        [rest @ .., last] => {
            let mut hashes = SegmentHashes::default();
            rest.iter().for_each(|value| hashes.push(*value));
            hashes.finish(*last)
        }
    }
}

impl OldBlocks {
    /// What the parent's entry says; nothing where it helps nobody. Remembered hashes count
    /// only where they make the root that was signed.
    pub(super) fn of(
        blobs: &Blobs,
        entry: &Entry,
        block_bytes: u64,
        remembered: Option<Vec<Value>>,
        changed: Option<Stretches>,
    ) -> Result<Option<OldBlocks>> {
        let EntryKind::File { size_bytes, root, .. } = &entry.kind else { return Ok(None) };
        let mut extents = Vec::new();
        let mut buffers = ReadBuffers::default();
        let read = each_extents(blobs, &entry.kind, &mut buffers, |_, mut offset, all| {
            for extent in all {
                extents.push((offset, *extent));
                offset += extent.bytes();
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            // A damaged parent only means that the file is stored anew.
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error),
        }
        let blocks = size_bytes.div_ceil(block_bytes);
        if blocks > 64 && extents.len() as u64 * 4 > blocks * SCATTERED_QUARTERS {
            return Ok(None);
        }
        let fits = |v: &Vec<Value>| v.len() as u64 == blocks && root_of(v) == *root;
        let values = remembered.filter(fits);
        let changed = changed.filter(|_| values.is_some());
        Ok(Some(OldBlocks { extents, values, changed, block_bytes, size_bytes: *size_bytes }))
    }

    /// Whether the block at `offset` is known to be the parent's without reading it. Not a file's
    /// last or only one: its hash depends on how long the file is now.
    fn is_same(&self, offset: u64, is_only: bool) -> bool {
        let end = offset + self.block_bytes;
        let Some(changed) = self.changed.as_ref().filter(|_| end <= self.size_bytes) else {
            return false;
        };
        !is_only && self.size_bytes > self.block_bytes && !changed.touches(offset, end)
    }

    /// The stored place of a block, where one extent holds it whole.
    fn place(&self, offset: u64, bytes: u32) -> Option<Extent> {
        let number = self.extents.partition_point(|(at, _)| *at <= offset).checked_sub(1)?;
        let (at, extent) = self.extents[number];
        let skip = offset - at;
        if skip + u64::from(bytes) > extent.bytes() {
            return None;
        }
        Some(match extent {
            Extent::Hole { .. } => Extent::Hole { bytes: u64::from(bytes) },
            Extent::Data { bytes: all, .. } if skip == 0 && all == bytes => extent,
            Extent::Data { id, .. } => Extent::Part { id, from: skip as u32, bytes },
            Extent::Part { id, from, .. } => Extent::Part { id, from: from + skip as u32, bytes },
        })
    }

    /// The hashes of the parent's blocks from `offset` to `end`.
    fn values(
        &self,
        blobs: &Blobs,
        buffers: &mut ReadBuffers,
        offset: u64,
        end: u64,
    ) -> Result<Vec<Option<Value>>> {
        let end = end.min(self.size_bytes);
        let is_only = self.size_bytes <= self.block_bytes;
        let mut found = Vec::new();
        let mut at = offset;
        while at < end {
            let bytes = self.block_bytes.min(self.size_bytes - at) as u32;
            let value = match &self.values {
                Some(values) => values.get((at / self.block_bytes) as usize).copied(),
                None => match self.place(at, bytes) {
                    None => None,
                    Some(place) => {
                        let hash = |block: &[u8]| value_of(block, at, is_only);
                        match blobs.read_part(&place, buffers, hash) {
                            Ok(value) => Some(value),
                            Err(error) if error.is_damage() => None,
                            Err(error) => return Err(error),
                        }
                    }
                },
            };
            found.push(value);
            at += self.block_bytes;
        }
        Ok(found)
    }
}

/// A block's place in the new listing: one that is stored, or one in a chunk being gathered.
enum Placed {
    Old(Extent),
    New { chunk: usize, from: u32, bytes: u32 },
}

/// Gathers changed blocks.
#[derive(Default)]
struct Gathered {
    placed: Vec<Placed>,
    open: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

impl Gathered {
    fn add(&mut self, block: &[u8], reader: &mut Reader<'_>) -> Result<()> {
        let (chunk, from) = (self.chunks.len(), self.open.len() as u32);
        self.placed.push(Placed::New { chunk, from, bytes: block.len() as u32 });
        self.open.extend_from_slice(block);
        if self.open.len() >= GATHERED_BYTES {
            self.close(reader)?;
        }
        Ok(())
    }

    fn close(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if !self.open.is_empty() {
            let hash = blake3::hash(&self.open);
            let id = reader.writer.put(BlobKind::Data, &self.open, &hash)?;
            self.chunks.push((id, self.open.len() as u32));
            self.open.clear();
        }
        Ok(())
    }

    /// The extents, neighbours joined.
    fn finish(mut self, reader: &mut Reader<'_>) -> Result<Vec<Extent>> {
        self.close(reader)?;
        let mut extents: Vec<Extent> = Vec::new();
        for placed in &self.placed {
            let next = match placed {
                Placed::Old(extent) => *extent,
                Placed::New { chunk, from, bytes } => {
                    let id = self.chunks[*chunk].0;
                    Extent::Part { id, from: *from, bytes: *bytes }
                }
            };
            if !extents.last_mut().is_some_and(|last| join(last, &next)) {
                extents.push(next);
            }
        }
        let lengths: HashMap<ChunkId, u32> = self.chunks.into_iter().collect();
        for extent in &mut extents {
            if let Extent::Part { id, from: 0, bytes } = *extent
                && lengths.get(&id) == Some(&bytes)
            {
                *extent = Extent::Data { id, bytes };
            }
        }
        Ok(extents)
    }
}

/// Lengthens `last` by `next` where they lie one after the other in one chunk.
fn join(last: &mut Extent, next: &Extent) -> bool {
    match (last, next) {
        (Extent::Hole { bytes }, Extent::Hole { bytes: more }) => {
            *bytes += more;
            true
        }
        (Extent::Part { id, from, bytes }, Extent::Part { id: other, from: at, bytes: more })
            if id == other && *from + *bytes == *at =>
        {
            *bytes += more;
            true
        }
        _ => false,
    }
}

/// What has been read of a stretch so far.
struct Progress {
    /// The parent's hashes.
    known: Vec<Option<Value>>,
    values: Vec<Value>,
    gathered: Gathered,
    usable: HashMap<ChunkId, bool>,
    at: u64,
}

impl Progress {
    fn push(&mut self, value: Value, place: Extent) {
        self.values.push(value);
        self.gathered.placed.push(Placed::Old(place));
        self.at += place.bytes();
    }
}

impl Stretch<'_> {
    fn is_same(&self, offset: u64) -> bool {
        self.old.is_some_and(|old| old.is_same(offset, self.is_only))
    }

    /// Bytes of whole blocks from `at` on that lie in a hole, and where the data behind them ends.
    fn hole(&self, at: u64) -> io::Result<(u64, u64)> {
        if !self.rules.holes {
            return Ok((0, self.range.end));
        }
        let (data, end) = self.file.data_from(at, self.range.end)?;
        let hole = match data >= self.range.end {
            true => self.range.end - at,
            false => (data - at) / self.rules.block_bytes * self.rules.block_bytes,
        };
        Ok((hole, end))
    }

    /// How much is read at once from `at` on: up to the next hole, and to the next block that
    /// need not be read.
    fn window(&self, at: u64, data_end: u64) -> usize {
        let block = self.rules.block_bytes;
        let end = self.range.end.min(at + WINDOW_BYTES as u64);
        let mut upto = (at + block).min(end);
        while upto < end.min(data_end) && !self.is_same(upto) {
            upto = (upto + block).min(end);
        }
        (upto - at) as usize
    }
}

impl Reader<'_> {
    /// Reads blocks. Where the file has become shorter, so is what is read: its owner's log
    /// tells the rest.
    pub(super) fn blocks(
        &mut self,
        stretch: &Stretch<'_>,
    ) -> std::result::Result<BlocksRead, ReadFailure> {
        let shared = self.writer.shared;
        let Stretch { file, range, rules, .. } = stretch;
        let mut buffers = ReadBuffers::default();
        let known = match stretch.old {
            Some(old) => old.values(&shared.blobs, &mut buffers, range.start, range.end)?,
            None => Vec::new(),
        };
        let mut window = std::mem::take(&mut self.window);
        window.resize(WINDOW_BYTES.max(window.len()), 0);
        let (values, gathered, usable) = (Vec::new(), Gathered::default(), HashMap::new());
        let mut progress = Progress { known, values, gathered, usable, at: range.start };
        while progress.at < range.end {
            if shared.is_stopped() {
                return Err(super::chunks::stopped().into());
            }
            if self.unread(stretch, &mut progress)? {
                continue;
            }
            let at = progress.at;
            let (hole, data_end) = stretch.hole(at).map_err(|error| located(at, error))?;
            if hole > 0 {
                let block = hole.min(rules.block_bytes);
                self.block(stretch, &mut progress, &ZEROS[..block as usize])?;
                continue;
            }
            let want = stretch.window(at, data_end);
            let read = file.fill_at(at, &mut window[..want]);
            let length = read.map_err(|error| located(at, error))?;
            shared.has_read(length as u64);
            for block in window[..length].chunks(rules.block_bytes as usize) {
                self.block(stretch, &mut progress, block)?;
            }
            if length < want {
                if let ([only], 0) = (&mut progress.values[..], range.start) {
                    // It shrank to one block, whose hash is the file's.
                    *only = value_of(&window[..length], 0, true);
                }
                break;
            }
        }
        self.window = window;
        let Progress { gathered, values, .. } = progress;
        Ok(BlocksRead { extents: gathered.finish(self)?, values })
    }

    /// Takes the next block from the parent where it is known to be the same and no sample wants
    /// it. Says whether it did.
    fn unread(&self, stretch: &Stretch<'_>, progress: &mut Progress) -> Result<bool> {
        let (at, block) = (progress.at, stretch.rules.block_bytes);
        let sample = stretch.rules.sample.as_deref();
        let is_whole = at + block <= stretch.range.end;
        if !is_whole || !stretch.is_same(at) || sample.is_some_and(|sample| sample.takes(at)) {
            return Ok(false);
        }
        let value = progress.known.get(progress.values.len()).copied().flatten();
        let place = stretch.old.and_then(|old| old.place(at, block as u32));
        let (Some(value), Some(place)) = (value, place) else { return Ok(false) };
        if !self.is_usable(&place, &mut progress.usable)? {
            return Ok(false);
        }
        if let Some(sample) = sample {
            sample.count_unread();
        }
        progress.push(value, place);
        Ok(true)
    }

    /// Takes a block that was read, or lies in a hole.
    fn block(
        &mut self,
        stretch: &Stretch<'_>,
        progress: &mut Progress,
        block: &[u8],
    ) -> Result<()> {
        let (at, bytes) = (progress.at, block.len() as u32);
        let value = value_of(block, at, stretch.is_only);
        let known = progress.known.get(progress.values.len()).copied().flatten();
        let same = known == Some(value);
        if let Some(sample) = stretch.rules.sample.as_deref().filter(|_| stretch.is_same(at)) {
            if known.is_some() && !same {
                return Err(lie(at, bytes));
            }
            sample.count_compared();
        }
        if stretch.rules.holes && block.chunks(ZEROS.len()).all(|b| *b == ZEROS[..b.len()]) {
            progress.push(value, Extent::Hole { bytes: u64::from(bytes) });
            return Ok(());
        }
        let place = stretch.old.filter(|_| same).and_then(|old| old.place(at, bytes));
        match place {
            Some(place) if self.is_usable(&place, &mut progress.usable)? => {
                progress.push(value, place);
            }
            _ => {
                progress.gathered.add(block, self)?;
                progress.values.push(value);
                progress.at += u64::from(bytes);
            }
        }
        Ok(())
    }

    /// Whether what an old extent refers to is there and stays.
    fn is_usable(&self, extent: &Extent, seen: &mut HashMap<ChunkId, bool>) -> Result<bool> {
        let shared = self.writer.shared;
        let Some(id) = extent.chunk().filter(|_| shared.check_reuse) else { return Ok(true) };
        if let Some(known) = seen.get(id) {
            return Ok(*known);
        }
        let stored = shared.is_stored(id)?;
        seen.insert(*id, stored);
        Ok(stored)
    }
}

/// A failure to read, with where it was.
fn located(at: u64, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("at byte {at}: {error}"))
}

/// A block that was said to be unchanged has changed.
fn lie(at: u64, bytes: u32) -> VaultError {
    let end = at + u64::from(bytes);
    VaultError::Refused(format!(
        "the map lied: it calls the block at bytes {at} to {end} unchanged, and it is not what the \
         parent backup holds. Nothing was recorded. Either the map does not count since that \
         backup, or the image was written after the map was taken. Back up without --dirty, which \
         reads everything and compares, and start a new bitmap with that backup"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_hashes_make_the_hash_of_the_whole_file() {
        let block = BlockRules::PAGES.block_bytes as usize;
        for length in [0, 1, block, block + 1, 3 * block, 9 * block + 77] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 / 3) as u8).collect();
            let values: Vec<Value> = bytes
                .chunks(block)
                .enumerate()
                .map(|(i, b)| value_of(b, (i * block) as u64, length <= block))
                .collect();
            assert_eq!(root_of(&values), *blake3::hash(&bytes).as_bytes(), "{length}");
        }
    }

    #[test]
    fn a_block_is_found_within_its_extent() {
        let id = |n: u8| ChunkId([n; 32]);
        let old = OldBlocks {
            extents: vec![
                (0, Extent::Data { id: id(1), bytes: 24_576 }),
                (24_576, Extent::Part { id: id(2), from: 8192, bytes: 16_384 }),
                (40_960, Extent::Data { id: id(3), bytes: 100 }),
            ],
            values: None,
            changed: None,
            block_bytes: 8192,
            size_bytes: 41_060,
        };
        let part = |n, from, bytes| Some(Extent::Part { id: id(n), from, bytes });
        assert_eq!(old.place(8192, 8192), part(1, 8192, 8192));
        assert_eq!(old.place(32_768, 8192), part(2, 16_384, 8192));
        assert_eq!(old.place(40_960, 100), Some(Extent::Data { id: id(3), bytes: 100 }));
        assert_eq!(old.place(40_960, 8192), None);
        assert_eq!(old.place(49_152, 8192), None);
        let mut last = Extent::Part { id: id(1), from: 0, bytes: 8192 };
        assert!(join(&mut last, &Extent::Part { id: id(1), from: 8192, bytes: 8192 }));
        assert!(!join(&mut last, &Extent::Part { id: id(1), from: 8192, bytes: 8192 }));
    }
}
