//! All segments of a repository together, with a cache of blocks, and what the packs say of
//! themselves where no segment mentions them.

use super::Segment;
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::pack::{Location, read_table};
use crate::store::{Area, Listed, ObjectId, ObjectName, Store};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Blocks kept in memory: about 20 MB.
const CACHE_BLOCKS_MAX: usize = 1536;
/// Chunks taken from the tables of packs that no segment mentions.
const RESCUED_CHUNKS_MAX: usize = 4 << 20;

/// An entry's place: which segment, which entry.
pub type SegmentPosition = (usize, u64);

/// The index.
pub struct IndexSet {
    segments: Vec<Segment>,
    superseded: Vec<ObjectName>,
    damaged: Vec<(ObjectName, VaultError)>,
    cache: Mutex<Cache>,
    packs: BTreeMap<ObjectId, u64>,
    rescued: OnceLock<Rescued>,
    /// Packs whose chunks were found although no segment mentions them.
    needed_unmentioned: Mutex<BTreeSet<ObjectId>>,
}

#[derive(Default)]
struct Cache {
    blocks: HashMap<(usize, usize), Arc<Vec<u8>>>,
    order: VecDeque<(usize, usize)>,
}

/// What the tables of unmentioned packs say.
#[derive(Default)]
struct Rescued {
    chunks: HashMap<ChunkId, Location>,
}

impl IndexSet {
    /// Opens every segment that is not superseded. A damaged one is remembered, not fatal.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn load(store: &dyn Store, ring: &KeyRing) -> Result<IndexSet> {
        let listed = store.list(Area::Index, None)?;
        let packs = pack_sizes(&store.list(Area::Packs, None)?);
        let mut segments = Vec::new();
        let mut damaged = Vec::new();
        for Listed { name, size_bytes } in listed {
            match Segment::open(store, ring, &name, size_bytes) {
                Ok(segment) => segments.push(segment),
                Err(error) if error.is_damage() => damaged.push((name, error)),
                Err(error) => return Err(error),
            }
        }
        let present: BTreeSet<ObjectId> = segments.iter().map(Segment::id).collect();
        // A merge counts once all of its results are there.
        let merged = segments.iter().filter(|s| s.with().iter().all(|w| present.contains(w)));
        let old: BTreeSet<ObjectId> = merged.flat_map(|s| s.supersedes()).copied().collect();
        segments.retain(|s| !old.contains(&s.id()));
        let superseded = old.intersection(&present).map(|id| ObjectName::of_id(Area::Index, id));
        Ok(IndexSet {
            segments,
            superseded: superseded.collect(),
            damaged,
            cache: Mutex::default(),
            packs,
            rescued: OnceLock::new(),
            needed_unmentioned: Mutex::default(),
        })
    }

    /// An index without segments.
    pub fn empty() -> IndexSet {
        IndexSet {
            segments: Vec::new(),
            superseded: Vec::new(),
            damaged: Vec::new(),
            cache: Mutex::default(),
            packs: BTreeMap::new(),
            rescued: OnceLock::new(),
            needed_unmentioned: Mutex::default(),
        }
    }

    /// Adds a segment and packs that this process has just stored.
    ///
    /// # Errors
    /// Where the segment cannot be opened.
    pub fn add(
        &mut self,
        store: &dyn Store,
        ring: &KeyRing,
        segment: (&ObjectName, u64),
        packs: &[(ObjectId, u64)],
    ) -> Result<()> {
        self.segments.push(Segment::open(store, ring, segment.0, segment.1)?);
        self.packs.extend(packs.iter().copied());
        Ok(())
    }

    /// Whether some segment names a pack that is not in the store.
    pub fn mentions_missing_packs(&self) -> bool {
        let mentioned = self.segments.iter().flat_map(|s| s.packs());
        mentioned.into_iter().any(|p| !self.packs.contains_key(p))
    }

    /// The segments in use.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Segments that a merge replaced.
    pub fn superseded(&self) -> &[ObjectName] {
        &self.superseded
    }

    /// Segments that could not be opened, and why.
    pub fn damaged(&self) -> &[(ObjectName, VaultError)] {
        &self.damaged
    }

    /// The packs in the store when the index was loaded, with their lengths.
    pub fn packs(&self) -> &BTreeMap<ObjectId, u64> {
        &self.packs
    }

    /// Every place where the chunk lies, by the segments alone.
    ///
    /// # Errors
    /// Where a block cannot be fetched or is not intact.
    pub fn find(
        &self,
        store: &dyn Store,
        id: &ChunkId,
    ) -> Result<Vec<(SegmentPosition, Location)>> {
        let mut found = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            if !segment.may_hold(id) {
                continue;
            }
            for block in segment.candidate_blocks(id) {
                let plain = self.block(store, number, block)?;
                let entries = segment.find_in_block(block, &plain, id);
                found.extend(entries.into_iter().map(|(entry, l)| ((number, entry), l)));
            }
        }
        Ok(found)
    }

    /// As [`IndexSet::find`], and what a damaged index no longer says is taken from the packs.
    ///
    /// # Errors
    /// Where nothing is found and the index is damaged.
    pub fn locate(&self, store: &dyn Store, ring: &KeyRing, id: &ChunkId) -> Result<Vec<Location>> {
        let found = self.find(store, id);
        if let Ok(found) = &found
            && !found.is_empty()
        {
            return Ok(found.iter().map(|(_, l)| *l).collect());
        }
        let rescued = self.rescued(store, ring, found.is_err());
        match (rescued.chunks.get(id), found) {
            (Some(location), _) => {
                let needed = self.needed_unmentioned.lock();
                needed.unwrap_or_else(PoisonError::into_inner).insert(location.pack);
                Ok(vec![*location])
            }
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Ok(Vec::new()),
        }
    }

    /// Packs that were needed so far although no intact segment mentions the chunk.
    pub fn needed_unmentioned(&self) -> BTreeSet<ObjectId> {
        self.needed_unmentioned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an entry's pack is in the store and long enough for it.
    pub fn is_present(&self, location: &Location) -> bool {
        let end = u64::from(location.blob.offset) + u64::from(location.blob.stored_bytes);
        self.packs.get(&location.pack).is_some_and(|size_bytes| *size_bytes > end)
    }

    /// Packs in the store that no segment mentions.
    pub fn unmentioned(&self) -> impl Iterator<Item = (&ObjectId, &u64)> {
        let mentioned: BTreeSet<&ObjectId> = self.segments.iter().flat_map(|s| s.packs()).collect();
        self.packs.iter().filter(move |(id, _)| !mentioned.contains(id))
    }

    fn rescued(&self, store: &dyn Store, ring: &KeyRing, all: bool) -> &Rescued {
        self.rescued.get_or_init(|| {
            let packs: Vec<(&ObjectId, &u64)> =
                if all { self.packs.iter().collect() } else { self.unmentioned().collect() };
            let mut rescued = Rescued::default();
            for (pack, size_bytes) in packs {
                // A pack that does not explain itself is found and named by `verify`.
                let Ok(blobs) = read_table(store, ring, pack, *size_bytes) else { continue };
                let room = RESCUED_CHUNKS_MAX.saturating_sub(rescued.chunks.len());
                let entries = blobs.into_iter().take(room);
                let entries = entries.map(|blob| (blob.id, Location { pack: *pack, blob }));
                rescued.chunks.extend(entries);
            }
            rescued
        })
    }

    /// One block, from the cache where it is there.
    ///
    /// # Errors
    /// Where it cannot be fetched or is not intact.
    pub fn block(&self, store: &dyn Store, segment: usize, block: usize) -> Result<Arc<Vec<u8>>> {
        let key = (segment, block);
        if let Some(plain) = self.lock_cache().blocks.get(&key) {
            return Ok(Arc::clone(plain));
        }
        let plain = Arc::new(self.segments[segment].read_block(store, block)?);
        let mut cache = self.lock_cache();
        if cache.blocks.insert(key, Arc::clone(&plain)).is_none() {
            cache.order.push_back(key);
        }
        while cache.order.len() > CACHE_BLOCKS_MAX {
            if let Some(oldest) = cache.order.pop_front() {
                cache.blocks.remove(&oldest);
            }
        }
        Ok(plain)
    }

    fn lock_cache(&self) -> MutexGuard<'_, Cache> {
        // Losing a block to another thread's panic costs one read, never a wrong answer.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packs by identity.
fn pack_sizes(listed: &[Listed]) -> BTreeMap<ObjectId, u64> {
    listed.iter().filter_map(|l| Some((l.name.id()?, l.size_bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BLOCK_ENTRIES, write_segment};
    use super::*;
    use crate::pack::Blob;
    use crate::store::memory::MemoryStore;

    fn location(n: u32) -> Location {
        let id = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let blob = Blob { id, offset: n, stored_bytes: 20, raw_bytes: 4, flags: 0 };
        Location { pack: ObjectId([(n % 3) as u8; 16]), blob }
    }

    fn put(store: &MemoryStore, ring: &KeyRing, range: std::ops::Range<u32>, old: Vec<ObjectId>) {
        let segment = write_segment(ring, range.map(location).collect(), old, Vec::new());
        store.put_new(&segment.name(), &segment.bytes).unwrap();
    }

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        let (store, ring) = (MemoryStore::new(), KeyRing::random());
        let per_block = BLOCK_ENTRIES as u32;
        put(&store, &ring, 0..per_block * 3 + 7, Vec::new());
        put(&store, &ring, per_block * 3..per_block * 5, Vec::new());
        let set = IndexSet::load(&store, &ring).unwrap();
        for n in 0..per_block * 5 {
            let wanted = location(n);
            let found = set.find(&store, &wanted.blob.id).unwrap();
            let copies = if (per_block * 3..per_block * 3 + 7).contains(&n) { 2 } else { 1 };
            assert_eq!(found.len(), copies, "{n}");
            assert!(found.iter().all(|(_, l)| *l == wanted));
        }
        for n in per_block * 5..per_block * 6 {
            assert!(set.find(&store, &location(n).blob.id).unwrap().is_empty());
        }
    }

    #[test]
    fn entries_with_one_id_in_several_packs_are_all_found_across_blocks() {
        let (store, ring) = (MemoryStore::new(), KeyRing::random());
        let copies = BLOCK_ENTRIES as u32 * 2;
        let same = (0..copies).map(|n| {
            let mut location = location(7);
            location.blob.offset = n;
            location
        });
        let segment = write_segment(&ring, same.collect(), Vec::new(), Vec::new());
        store.put_new(&segment.name(), &segment.bytes).unwrap();
        let set = IndexSet::load(&store, &ring).unwrap();
        let found = set.find(&store, &location(7).blob.id).unwrap();
        assert_eq!(found.len(), copies as usize);
    }

    #[test]
    fn a_superseded_segment_is_not_read() {
        let (store, ring) = (MemoryStore::new(), KeyRing::random());
        put(&store, &ring, 0..10, Vec::new());
        let old = store.list(Area::Index, None).unwrap()[0].name.clone();
        put(&store, &ring, 0..10, vec![old.id().unwrap()]);
        let set = IndexSet::load(&store, &ring).unwrap();
        assert_eq!(set.segments().len(), 1);
        assert_eq!(set.superseded(), [old]);
    }

    #[test]
    fn no_bit_of_a_segment_is_irrelevant() {
        let (store, ring) = (MemoryStore::new(), KeyRing::random());
        put(&store, &ring, 0..BLOCK_ENTRIES as u32 + 3, Vec::new());
        let name = store.list(Area::Index, None).unwrap()[0].name.clone();
        let intact = store.get(&name).unwrap();
        for byte in 0..intact.len() {
            let mut bytes = intact.clone();
            bytes[byte] ^= 1 << (byte % 8);
            let damaged = MemoryStore::new();
            damaged.put_new(&name, &bytes).unwrap();
            let read = Segment::open(&damaged, &ring, &name, bytes.len() as u64).and_then(|s| {
                (0..s.blocks()).try_for_each(|b| s.read_block(&damaged, b).map(|_| ()))
            });
            assert!(read.is_err_and(|e| e.is_damage()), "byte {byte}");
        }
    }
}
