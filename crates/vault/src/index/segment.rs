//! One segment, searched where it is: the footer in memory, blocks fetched when asked for.

use super::{BLOCK_ENTRIES, ENTRY_BYTES, Footer, decode_entry, filter};
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError, read_again};
use crate::keys::KeyRing;
use crate::pack::Location;
use crate::seal::{HEADER_BYTES, Kind, ObjectCipher, Position, TAG_BYTES};
use crate::store::{ObjectId, ObjectName, Store};

/// Bytes of the footer's length, last in the segment.
const LENGTH_BYTES: usize = 4;

/// An opened segment.
pub struct Segment {
    id: ObjectId,
    name: ObjectName,
    cipher: ObjectCipher,
    footer: Footer,
}

impl Segment {
    /// Opens the segment: header and footer are read and checked, blocks are not.
    ///
    /// # Errors
    /// Where they are not intact.
    pub fn open(
        store: &dyn Store,
        ring: &KeyRing,
        name: &ObjectName,
        size_bytes: u64,
    ) -> Result<Segment> {
        read_again(|| Segment::fetch(store, ring, name, size_bytes))
    }

    fn fetch(
        store: &dyn Store,
        ring: &KeyRing,
        name: &ObjectName,
        size_bytes: u64,
    ) -> Result<Segment> {
        let damaged = |what: &str| VaultError::damaged(name, what);
        let id = name.id().ok_or_else(|| damaged("its name is none of an index segment"))?;
        let least = (HEADER_BYTES + TAG_BYTES + LENGTH_BYTES) as u64;
        if size_bytes < least {
            return Err(damaged("it is too short for an index segment"));
        }
        let mut header = [0; HEADER_BYTES];
        store.get_range(name, 0, &mut header)?;
        let cipher = ObjectCipher::open(ring, Kind::Segment, name, &header)?;
        let mut length = [0; LENGTH_BYTES];
        store.get_range(name, size_bytes - LENGTH_BYTES as u64, &mut length)?;
        let footer_bytes = u64::from(u32::from_le_bytes(length));
        if footer_bytes + (HEADER_BYTES + LENGTH_BYTES) as u64 > size_bytes {
            return Err(damaged("the length of its footer is impossible"));
        }
        let footer_at = size_bytes - LENGTH_BYTES as u64 - footer_bytes;
        let mut sealed = vec![0; footer_bytes as usize];
        store.get_range(name, footer_at, &mut sealed)?;
        let plain = cipher.unseal(Position::FOOTER, &[], &mut sealed);
        let plain = plain.ok_or_else(|| damaged("its footer was altered"))?;
        let footer: Footer =
            postcard::from_bytes(plain).map_err(|_| damaged("its footer has another format"))?;
        let segment = Segment { id, name: name.clone(), cipher, footer };
        if segment.footer.version != 1 || segment.blocks_end() != Some(footer_at) {
            return Err(damaged("its footer does not describe the whole segment"));
        }
        Ok(segment)
    }

    /// Where the blocks end, from their number.
    fn blocks_end(&self) -> Option<u64> {
        let blocks = self.footer.entries.div_ceil(BLOCK_ENTRIES as u64);
        if blocks != self.footer.fence.len() as u64 {
            return None;
        }
        let bytes = self.footer.entries.checked_mul(ENTRY_BYTES as u64)?;
        bytes.checked_add(blocks * TAG_BYTES as u64 + HEADER_BYTES as u64)
    }

    /// Its identity.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.footer.entries
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.footer.fence.len()
    }

    /// The packs that it names.
    pub fn packs(&self) -> &[ObjectId] {
        &self.footer.packs
    }

    /// The segments that need not be read beside this one and its companions.
    pub fn supersedes(&self) -> &[ObjectId] {
        &self.footer.supersedes
    }

    /// The other results of the merge that made it.
    pub fn with(&self) -> &[ObjectId] {
        &self.footer.with
    }

    /// Whether the chunk may be in here.
    pub fn may_hold(&self, id: &ChunkId) -> bool {
        id.0 <= self.footer.last && filter::may_hold(&self.footer.filter, id)
    }

    /// The blocks in which the chunk can be.
    pub fn candidate_blocks(&self, id: &ChunkId) -> std::ops::Range<usize> {
        let prefix = id.prefix();
        let first = self.footer.fence.partition_point(|f| *f < prefix).saturating_sub(1);
        let end = self.footer.fence.partition_point(|f| *f <= prefix);
        first..end
    }

    /// Fetches and opens one block: its plain entries.
    ///
    /// # Errors
    /// Where the block is not intact.
    pub fn read_block(&self, store: &dyn Store, block: usize) -> Result<Vec<u8>> {
        read_again(|| self.fetch_block(store, block))
    }

    fn fetch_block(&self, store: &dyn Store, block: usize) -> Result<Vec<u8>> {
        let before = block * BLOCK_ENTRIES;
        let entries = (self.footer.entries as usize - before).min(BLOCK_ENTRIES);
        let offset = HEADER_BYTES + before * ENTRY_BYTES + block * TAG_BYTES;
        let mut sealed = vec![0; entries * ENTRY_BYTES + TAG_BYTES];
        store.get_range(&self.name, offset as u64, &mut sealed)?;
        let length = self
            .cipher
            .unseal(Position::content(block as u64), &[], &mut sealed)
            .ok_or_else(|| VaultError::damaged(&self.name, format!("block {block} was altered")))?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }

    /// The entries of a plain block with their numbers in the segment.
    ///
    /// # Errors
    /// Where an entry names a pack that the footer does not.
    pub fn decode_block(&self, block: usize, plain: &[u8]) -> Result<Vec<(u64, Location)>> {
        let first = (block * BLOCK_ENTRIES) as u64;
        let rows = plain.chunks(ENTRY_BYTES).enumerate();
        rows.map(|(row, bytes)| Some((first + row as u64, decode_entry(bytes, self.packs())?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| VaultError::damaged(&self.name, format!("block {block} is malformed")))
    }

    /// The entries of a chunk within a plain block, with their numbers in the segment.
    pub fn find_in_block(&self, block: usize, plain: &[u8], id: &ChunkId) -> Vec<(u64, Location)> {
        let rows = plain.len() / ENTRY_BYTES;
        let row = |i: usize| &plain[i * ENTRY_BYTES..(i + 1) * ENTRY_BYTES];
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = (low + high) / 2;
            if row(middle)[..32] < id.0[..] { low = middle + 1 } else { high = middle }
        }
        (low..rows)
            .take_while(|i| row(*i)[..32] == id.0[..])
            .filter_map(|i| {
                let number = (block * BLOCK_ENTRIES + i) as u64;
                Some((number, decode_entry(row(i), self.packs())?))
            })
            .collect()
    }
}
