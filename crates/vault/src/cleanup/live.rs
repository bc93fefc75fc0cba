//! What protected backups need: one bit an index entry, so that it fits in memory.

use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError, explain};
use crate::index::{IndexSet, SegmentPosition};
use crate::store::ObjectId;
use crate::tree::{Content, Entry, EntryKind, Extent, Step, Walk, read_extents};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The needed entries of the index.
pub(super) struct Live {
    pub(super) index: Arc<IndexSet>,
    bits: Vec<Vec<u64>>,
    /// Needed bytes of each pack that is needed.
    pub(super) bytes: BTreeMap<ObjectId, u64>,
    /// Unmentioned packs that are needed.
    pub(super) unmentioned: BTreeSet<ObjectId>,
}

impl Live {
    /// Walks the backups. Of a chunk that lies in several packs, one copy counts: the first
    /// outside `avoided`, or, where there is none, every copy.
    pub(super) fn of(
        blobs: &Blobs,
        backups: &[&Backup],
        avoided: &BTreeSet<ObjectId>,
    ) -> Result<Live> {
        let index = blobs.index();
        let bits =
            index.segments().iter().map(|s| vec![0; s.entries().div_ceil(64) as usize]).collect();
        let unmentioned = BTreeSet::new();
        let live = Live { index, bits, bytes: BTreeMap::new(), unmentioned };
        let buffers = ReadBuffers::default();
        let mut marker = Marker { live, blobs, avoided, buffers, walked: BTreeSet::new() };
        for backup in backups {
            marker.tree(&backup.top)?;
        }
        Ok(marker.live)
    }

    fn is_set(&self, at: SegmentPosition) -> bool {
        self.bits[at.0][at.1 as usize / 64] >> (at.1 % 64) & 1 == 1
    }

    fn set(&mut self, at: SegmentPosition) {
        self.bits[at.0][at.1 as usize / 64] |= 1 << (at.1 % 64);
    }

    /// Whether this copy of the chunk is needed.
    pub(super) fn needs(&self, blobs: &Blobs, id: &ChunkId, pack: &ObjectId) -> Result<bool> {
        let found = blobs.find(&self.index, id)?;
        Ok(found.iter().any(|(at, l)| l.pack == *pack && self.is_set(*at)))
    }
}

struct Marker<'a> {
    live: Live,
    blobs: &'a Blobs,
    avoided: &'a BTreeSet<ObjectId>,
    buffers: ReadBuffers,
    /// Directories seen in this clean-up whose chunks no segment mentions.
    walked: BTreeSet<ChunkId>,
}

impl Marker<'_> {
    /// Marks a chunk; true where it was not marked before.
    fn chunk(&mut self, id: &ChunkId) -> Result<bool> {
        let mut found = self.blobs.find(&self.live.index, id)?;
        found.retain(|(_, l)| self.live.index.is_present(l));
        if found.iter().any(|(at, _)| self.live.is_set(*at)) {
            return Ok(false);
        }
        found.sort_by_key(|(_, l)| (l.pack, l.blob.offset));
        let chosen: Vec<_> = match found.iter().find(|(_, l)| !self.avoided.contains(&l.pack)) {
            Some(one) => vec![*one],
            None => found,
        };
        if chosen.is_empty() {
            // No segment mentions it: the packs themselves may.
            let located = self.blobs.locate(&self.live.index, id)?;
            self.live.unmentioned.extend(located.iter().map(|l| l.pack));
            for location in located {
                *self.live.bytes.entry(location.pack).or_default() +=
                    u64::from(location.blob.stored_bytes);
            }
            return Ok(self.walked.insert(*id));
        }
        for (at, location) in chosen {
            self.live.set(at);
            let stored_bytes = u64::from(location.blob.stored_bytes);
            *self.live.bytes.entry(location.pack).or_default() += stored_bytes;
        }
        Ok(true)
    }

    /// Marks everything below an entry. A directory that was marked before is not walked again,
    /// whichever backup it came from: a marked node's whole subtree is marked.
    fn tree(&mut self, top: &Entry) -> Result<()> {
        let nodes = NodeMarker { blobs: self.blobs, seen: Default::default() };
        let mut walk = Walk::new(&nodes, b"", top);
        while let Some(step) = walk.next() {
            match step {
                Step::Entry { entry, .. } => {
                    if let EntryKind::Directory { node, .. } = &entry.kind
                        && !self.chunk(&node.id)?
                    {
                        walk.skip_contents();
                    }
                    self.file(&entry)?;
                }
                Step::Leave { .. } => {}
                Step::Lost { path, error } => {
                    let path = String::from_utf8_lossy(&path);
                    let why = explain(&error);
                    return Err(VaultError::Refused(format!(
                        "nothing is cleaned up: the directory `{path}` of a backup cannot be \
                         read, so what it needs is unknown ({why}). Bring the repository's lost \
                         objects back from a copy, or forget the backups that `vault verify` \
                         calls damaged"
                    )));
                }
            }
            for id in nodes.take() {
                self.chunk(&id)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry) -> Result<()> {
        let EntryKind::File { content, .. } = &entry.kind else { return Ok(()) };
        match content {
            Content::Inline(extents) => self.extents(extents),
            Content::Lists(lists) => {
                for list in lists {
                    if self.chunk(list)? {
                        let extents = read_extents(self.blobs, list, &mut self.buffers)?;
                        self.extents(&extents)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<()> {
        for extent in extents {
            if let Some(id) = extent.chunk() {
                self.chunk(id)?;
            }
        }
        Ok(())
    }
}

/// Tells which node chunks a walk reads: those below the topmost of a directory, too.
struct NodeMarker<'a> {
    blobs: &'a Blobs,
    seen: std::sync::Mutex<Vec<ChunkId>>,
}

impl NodeMarker<'_> {
    fn take(&self) -> Vec<ChunkId> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *seen)
    }
}

impl crate::tree::NodeSource for NodeMarker<'_> {
    fn node_bytes(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.push(*id);
        drop(seen);
        crate::tree::NodeSource::node_bytes(self.blobs, id)
    }
}
