//! Reads chunks by their identity, from whichever pack holds them intact.

use crate::chunk::{ChunkId, Compressor};
use crate::error::{Result, VaultError, read_again};
use crate::index::IndexSet;
use crate::keys::KeyRing;
use crate::pack::{Location, open_chunk, pack_cipher};
use crate::seal::ObjectCipher;
use crate::store::{Area, ObjectId, ObjectName, Store};
use crate::tree::{Extent, NodeSource};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Pack ciphers kept.
const CIPHERS_MAX: usize = 4096;
/// Chunks kept while parts of them are read in turn.
const RECENT_CHUNKS_MAX: usize = 8;
/// Neighbouring chunks that are fetched with one read.
pub const RUN_BYTES_MAX: usize = 2 << 20;

/// What a thread needs to read chunks; kept between reads.
#[derive(Default)]
pub struct ReadBuffers {
    /// Expands chunks.
    pub compressor: Compressor,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    /// Chunks of which parts were read last.
    recent: VecDeque<(ChunkId, Vec<u8>)>,
}

/// The chunks of a repository.
pub struct Blobs {
    store: Arc<dyn Store>,
    ring: Arc<KeyRing>,
    index: RwLock<Arc<IndexSet>>,
    ciphers: Mutex<HashMap<ObjectId, Arc<ObjectCipher>>>,
}

impl Blobs {
    /// Opens the index.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn open(store: Arc<dyn Store>, ring: Arc<KeyRing>) -> Result<Blobs> {
        let index = RwLock::new(Arc::new(IndexSet::load(&*store, &ring)?));
        Ok(Blobs { store, ring, index, ciphers: Mutex::default() })
    }

    /// The index in use.
    pub fn index(&self) -> Arc<IndexSet> {
        // The lock guards one pointer: a panic elsewhere leaves it whole.
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The repository's store and keys.
    pub(crate) fn parts(&self) -> (&dyn Store, &KeyRing) {
        (&*self.store, &self.ring)
    }

    /// The key of the chunk ids.
    pub fn chunk_id_key(&self) -> &[u8; 32] {
        self.ring.chunk_id_key()
    }

    /// Every entry of a chunk, by this index alone.
    ///
    /// # Errors
    /// Where a block of the index cannot be read.
    pub fn find(
        &self,
        index: &IndexSet,
        id: &ChunkId,
    ) -> Result<Vec<(crate::index::SegmentPosition, Location)>> {
        index.find(&*self.store, id)
    }

    /// Where a chunk lies, by this index or by the packs themselves.
    ///
    /// # Errors
    /// Where the index is damaged and the packs don't say either.
    pub fn locate(&self, index: &IndexSet, id: &ChunkId) -> Result<Vec<Location>> {
        index.locate(&*self.store, &self.ring, id)
    }

    /// A clean-up elsewhere may have moved chunks: reads the index anew.
    fn reload(&self) -> Result<Arc<IndexSet>> {
        let index = Arc::new(IndexSet::load(&*self.store, &self.ring)?);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&index);
        Ok(index)
    }

    fn cipher(&self, pack: &ObjectId) -> Result<Arc<ObjectCipher>> {
        let locked = || self.ciphers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cipher) = locked().get(pack) {
            return Ok(Arc::clone(cipher));
        }
        let cipher = Arc::new(pack_cipher(&*self.store, &self.ring, pack)?);
        let mut ciphers = locked();
        if ciphers.len() >= CIPHERS_MAX {
            ciphers.clear();
        }
        ciphers.insert(*pack, Arc::clone(&cipher));
        Ok(cipher)
    }

    /// Reads one chunk and gives its bytes to `each`.
    ///
    /// # Errors
    /// Where no intact copy of the chunk is left.
    pub fn read<T>(
        &self,
        id: &ChunkId,
        buffers: &mut ReadBuffers,
        each: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let first = self.try_read(&self.index(), id, buffers);
        if let Err(error) = first {
            if !error.is_damage() {
                return Err(error);
            }
            let fresh = self.reload()?;
            self.try_read(&fresh, id, buffers)?;
        }
        Ok(each(&buffers.plain))
    }

    /// Reads a stretch of a chunk, or all of it, and gives it to `each`. The last few chunks are
    /// kept, for extents that take turns among them.
    ///
    /// # Errors
    /// As [`Blobs::read`], and where the chunk is too short for the extent.
    pub fn read_part<T>(
        &self,
        extent: &Extent,
        buffers: &mut ReadBuffers,
        each: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let (id, from) = match extent {
            Extent::Data { id, .. } => (id, 0),
            Extent::Part { id, from, .. } => (id, *from as usize),
            Extent::Hole { bytes } => return Ok(each(&vec![0; *bytes as usize])),
        };
        if !buffers.recent.iter().any(|(known, _)| known == id) {
            let plain = self.read(id, buffers, <[u8]>::to_vec)?;
            if buffers.recent.len() >= RECENT_CHUNKS_MAX {
                buffers.recent.pop_front();
            }
            buffers.recent.push_back((*id, plain));
        }
        let chunk = buffers.recent.iter().find(|(known, _)| known == id);
        let plain = chunk.map_or(&[][..], |(_, plain)| plain);
        match plain.get(from..from + extent.bytes() as usize) {
            Some(part) => Ok(each(part)),
            None => Err(VaultError::Damaged {
                object: format!("chunk {id}"),
                what: "it is shorter than what is said to be in it".to_owned(),
            }),
        }
    }

    fn try_read(&self, index: &IndexSet, id: &ChunkId, buffers: &mut ReadBuffers) -> Result<()> {
        let locations = index.locate(&*self.store, &self.ring, id)?;
        let mut result = Err(VaultError::Damaged {
            object: format!("chunk {id}"),
            what: "no pack of the repository holds it".to_owned(),
        });
        for location in locations {
            result = self.read_at(&location, buffers);
            match &result {
                Ok(()) => break,
                Err(error) if error.is_damage() => {}
                Err(_) => break,
            }
        }
        result
    }

    fn read_at(&self, at: &Location, buffers: &mut ReadBuffers) -> Result<()> {
        let name = ObjectName::of_id(Area::Packs, &at.pack);
        let ReadBuffers { compressor, sealed, plain, .. } = buffers;
        read_again(|| {
            let cipher = self.cipher(&at.pack)?;
            sealed.resize(at.blob.stored_bytes as usize, 0);
            self.store.get_range(&name, u64::from(at.blob.offset), sealed)?;
            let opened = open_chunk(&cipher, &self.ring, at, sealed, compressor, plain);
            if opened.is_err() {
                // The header may have been read wrongly: only what it opens proves it.
                self.ciphers.lock().unwrap_or_else(PoisonError::into_inner).remove(&at.pack);
            }
            opened
        })
    }

    /// Reads chunks in order and gives each, with its place in `ids`, to `each`. Neighbours in
    /// a pack are fetched together.
    ///
    /// # Errors
    /// Where no intact copy of a chunk is left, and what `each` returns.
    pub fn read_many(
        &self,
        ids: &[ChunkId],
        buffers: &mut ReadBuffers,
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let index = self.index();
        let mut at = 0;
        while at < ids.len() {
            let run = self.run(&index, &ids[at..]);
            if run.len() < 2 {
                self.read(&ids[at], buffers, |plain| each(at, plain))??;
                at += 1;
                continue;
            }
            let taken = run.len();
            self.read_run(&run, buffers, |k, plain| each(at + k, plain), ids, at)?;
            at += taken;
        }
        Ok(())
    }

    /// How far the next chunks lie one after the other in one pack.
    fn run(&self, index: &IndexSet, ids: &[ChunkId]) -> Vec<Location> {
        let mut run: Vec<Location> = Vec::new();
        let mut bytes = 0;
        for id in ids {
            // What cannot be located here is located, or explained, one by one.
            let Ok(found) = index.find(&*self.store, id) else { break };
            let follows = |l: &Location| match run.last() {
                None => true,
                Some(p) => p.pack == l.pack && p.blob.offset + p.blob.stored_bytes == l.blob.offset,
            };
            let Some((_, next)) = found.into_iter().find(|(_, l)| follows(l)) else { break };
            bytes += next.blob.stored_bytes as usize;
            if bytes > RUN_BYTES_MAX && !run.is_empty() {
                break;
            }
            run.push(next);
        }
        run
    }

    fn read_run(
        &self,
        run: &[Location],
        buffers: &mut ReadBuffers,
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
        ids: &[ChunkId],
        at: usize,
    ) -> Result<()> {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let from = first.blob.offset;
        let length = (last.blob.offset + last.blob.stored_bytes - from) as usize;
        let name = ObjectName::of_id(Area::Packs, &first.pack);
        let mut sealed = std::mem::take(&mut buffers.sealed);
        sealed.resize(length, 0);
        let fetched = self.cipher(&first.pack).and_then(|cipher| {
            self.store.get_range(&name, u64::from(from), &mut sealed)?;
            Ok(cipher)
        });
        for (k, location) in run.iter().enumerate() {
            let start = (location.blob.offset - from) as usize;
            let part = &mut sealed[start..start + location.blob.stored_bytes as usize];
            let opened = match &fetched {
                Ok(cipher) => {
                    let ReadBuffers { compressor, plain, .. } = buffers;
                    open_chunk(cipher, &self.ring, location, part, compressor, plain).is_ok()
                }
                Err(_) => false,
            };
            if opened {
                each(k, &buffers.plain)?;
            } else {
                // Another copy may be intact; if none is, this says what is wrong.
                self.read(&ids[at + k], buffers, |plain| each(k, plain))??;
            }
        }
        buffers.sealed = sealed;
        Ok(())
    }
}

impl NodeSource for Blobs {
    fn node_bytes(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.read(id, &mut ReadBuffers::default(), <[u8]>::to_vec)
    }
}
