//! Merging segments, so that a look-up asks few of them however many backups there were.

use super::{
    FinishedSegment, IndexSet, SEGMENT_ENTRIES_MAX, SEGMENT_PACKS_MAX, Segment, write_segment,
};
use crate::error::Result;
use crate::keys::KeyRing;
use crate::pack::Location;
use crate::store::{ObjectId, Store, put_own};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// A backup that leaves more small segments than this merges them.
pub const SEGMENTS_BEFORE_MERGE: usize = 16;

/// Reads a segment entry by entry, a block at a time.
struct Cursor<'a> {
    segment: &'a Segment,
    block: usize,
    entries: std::vec::IntoIter<(u64, Location)>,
}

impl Cursor<'_> {
    fn next(&mut self, store: &dyn Store) -> Result<Option<Location>> {
        loop {
            if let Some((_, location)) = self.entries.next() {
                return Ok(Some(location));
            }
            if self.block == self.segment.blocks() {
                return Ok(None);
            }
            let plain = self.segment.read_block(store, self.block)?;
            self.entries = self.segment.decode_block(self.block, &plain)?.into_iter();
            self.block += 1;
        }
    }
}

/// Merges the segments that `chosen` picks into as few as hold them, leaving out entries of the
/// packs in `without`. The last segment written names what they supersede; until then the old
/// ones count.
/// Returns the new segments' identities.
///
/// # Errors
/// Where a segment cannot be read or stored; the old ones stay in use.
pub fn consolidate(
    store: &dyn Store,
    ring: &KeyRing,
    set: &IndexSet,
    without: &BTreeSet<ObjectId>,
    chosen: impl Fn(&Segment) -> bool,
) -> Result<Vec<ObjectId>> {
    let segments: Vec<&Segment> = set.segments().iter().filter(|s| chosen(s)).collect();
    let mut cursors: Vec<Cursor> = segments
        .iter()
        .map(|segment| Cursor { segment, block: 0, entries: Vec::new().into_iter() })
        .collect();
    let mut heap = BinaryHeap::new();
    let key = |l: &Location, from: usize| Reverse((l.blob.id, l.pack, l.blob.offset, from));
    let mut heads: Vec<Option<Location>> = Vec::with_capacity(cursors.len());
    for (from, cursor) in cursors.iter_mut().enumerate() {
        let head = cursor.next(store)?;
        heap.extend(head.iter().map(|l| key(l, from)));
        heads.push(head);
    }
    let mut entries: Vec<Location> = Vec::new();
    let mut packs: BTreeSet<ObjectId> = BTreeSet::new();
    let mut written: Vec<ObjectId> = Vec::new();
    let put = |segment: FinishedSegment| -> Result<ObjectId> {
        put_own(store, &segment.name(), &segment.bytes)?;
        Ok(segment.id)
    };
    while let Some(Reverse((.., from))) = heap.pop() {
        let location = heads[from].take().expect("a head in the heap is there");
        heads[from] = cursors[from].next(store)?;
        heap.extend(heads[from].iter().map(|l| key(l, from)));
        if without.contains(&location.pack) || entries.last() == Some(&location) {
            continue;
        }
        if entries.len() == SEGMENT_ENTRIES_MAX || packs.len() == SEGMENT_PACKS_MAX {
            let full = std::mem::take(&mut entries);
            packs.clear();
            written.push(put(write_segment(ring, full, Vec::new(), Vec::new()))?);
        }
        packs.insert(location.pack);
        entries.push(location);
    }
    // Those replaced before are named again: they may outlive the segment that replaced them.
    let replaced = set.superseded().iter().filter_map(|name| name.id());
    let supersedes = segments.iter().map(|s| s.id()).chain(replaced).collect();
    written.push(put(write_segment(ring, entries, supersedes, written.clone()))?);
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkId;
    use crate::pack::Blob;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_merge_keeps_every_entry_once_but_for_the_packs_left_out() {
        let (store, ring) = (MemoryStore::new(), KeyRing::random());
        let location = |n: u32| Location {
            pack: ObjectId([(n % 4) as u8; 16]),
            blob: Blob {
                id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()),
                offset: n,
                stored_bytes: 20,
                raw_bytes: 4,
                flags: 0,
            },
        };
        for range in [0..400, 300..900, 900..901] {
            let entries = range.map(location).collect();
            let segment = write_segment(&ring, entries, Vec::new(), Vec::new());
            store.put_new(&segment.name(), &segment.bytes).unwrap();
        }
        let before = IndexSet::load(&store, &ring).unwrap();
        let without = BTreeSet::from([ObjectId([3; 16])]);
        consolidate(&store, &ring, &before, &without, |_| true).unwrap();
        let after = IndexSet::load(&store, &ring).unwrap();
        assert_eq!(after.segments().len(), 1);
        assert_eq!(after.superseded().len(), 3);
        for n in 0..901 {
            let found = after.find(&store, &location(n).blob.id).unwrap();
            assert_eq!(found.len(), usize::from(n % 4 != 3), "{n}");
        }
    }
}
