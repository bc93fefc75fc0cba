//! Storing chunks once: claims, packs, index segments.

use super::blocks::Value;
use super::memory::{BlockMemory, BlockMemoryWriter};
use crate::blobs::Blobs;
use crate::chain::{RunId, Statistics};
use crate::chunk::{BlobKind, ChunkId, Compressor};
use crate::error::{Result, VaultError};
use crate::index::{IndexSet, write_segment};
use crate::keys::KeyRing;
use crate::pace::Pacer;
use crate::pack::{BufferPool, FinishedPack, Location, PackBuilder};
use crate::store::{Created, ObjectId, ObjectName, Store, put_own};
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// New chunks whose places are kept in memory before a segment is written.
const PENDING_ENTRIES_MAX: usize = 64 << 10;
const CLAIM_SHARDS: usize = 64;

/// Progress, readable while a backup runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries taken so far.
    pub entries: AtomicU64,
    /// Files read.
    pub files_read: AtomicU64,
    /// Bytes read.
    pub bytes_read: AtomicU64,
    /// Bytes stored.
    pub bytes_stored: AtomicU64,
    /// New chunks.
    pub chunks_new: AtomicU64,
}

impl Counters {
    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            files_read: self.files_read.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_stored: self.bytes_stored.load(Ordering::Relaxed),
            chunks_new: self.chunks_new.load(Ordering::Relaxed),
            took_ms: 0,
        }
    }
}

/// What all threads of a run share.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) ring: Arc<KeyRing>,
    pub(super) counters: Arc<Counters>,
    pacer: Option<Arc<Pacer>>,
    /// Chunks stored before this run.
    pub(super) blobs: Blobs,
    before: Arc<IndexSet>,
    /// Segments of this run.
    fresh: RwLock<IndexSet>,
    /// Packs that a clean-up may delete: their chunks are stored again.
    doomed: BTreeSet<ObjectId>,
    /// Whether chunks of unchanged files must be looked up too.
    pub(super) check_reuse: bool,
    claims: Vec<Mutex<HashSet<ChunkId>>>,
    pending: Mutex<Pending>,
    pool: BufferPool,
    failure: Mutex<Option<VaultError>>,
    stop: AtomicBool,
    /// Tasks that readers have done with.
    finished: Mutex<u64>,
    finishing: Condvar,
    /// Hashes of the parent's blocks, and where this backup's are kept.
    known: Option<BlockMemory>,
    remember: Mutex<Option<BlockMemoryWriter>>,
}

/// How often a waiting scan looks whether the run has failed.
const WAIT: Duration = Duration::from_millis(100);

/// Stored packs whose chunks are in no segment yet.
#[derive(Default)]
struct Pending {
    entries: Vec<Location>,
    packs: Vec<(ObjectId, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a thread ends the run without a record; what others hold stays whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        store: Arc<dyn Store>,
        ring: Arc<KeyRing>,
        counters: Arc<Counters>,
        doomed: BTreeSet<ObjectId>,
        pacer: Option<Arc<Pacer>>,
    ) -> Result<Shared> {
        let blobs = Blobs::open(Arc::clone(&store), Arc::clone(&ring))?;
        let before = blobs.index();
        let check_reuse =
            !doomed.is_empty() || before.mentions_missing_packs() || !before.damaged().is_empty();
        Ok(Shared {
            store,
            ring,
            counters,
            pacer,
            blobs,
            before,
            fresh: RwLock::new(IndexSet::empty()),
            doomed,
            check_reuse,
            claims: (0..CLAIM_SHARDS).map(|_| Mutex::default()).collect(),
            pending: Mutex::default(),
            pool: BufferPool::new(),
            failure: Mutex::new(None),
            stop: AtomicBool::new(false),
            finished: Mutex::new(0),
            finishing: Condvar::new(),
            known: None,
            remember: Mutex::new(None),
        })
    }

    /// Uses what is remembered of the parent's blocks, and remembers this run's.
    pub(super) fn remember_blocks(
        &mut self,
        path: &Path,
        run: &RunId,
        parent: Option<&RunId>,
        mode: &str,
    ) -> Result<()> {
        self.known = parent.and_then(|parent| BlockMemory::open(path, parent, mode));
        *lock(&self.remember) = Some(BlockMemoryWriter::create(path, run, mode)?);
        Ok(())
    }

    /// So much was read of the source: counted, and waited for where there is a limit.
    pub(super) fn has_read(&self, bytes: u64) {
        self.counters.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        if let Some(pacer) = &self.pacer {
            pacer.read(bytes);
        }
    }

    /// What is remembered of a file of the parent.
    pub(super) fn known_values(&self, path: &[u8]) -> Option<Vec<Value>> {
        self.known.as_ref()?.values(path)
    }

    /// An unchanged file's blocks are the parent's.
    pub(super) fn keep_values(&self, path: &[u8]) -> Result<()> {
        match self.known_values(path) {
            Some(values) => self.remember_values(path, &values),
            None => Ok(()),
        }
    }

    /// Remembers a file's blocks for the next backup.
    pub(super) fn remember_values(&self, path: &[u8], values: &[Value]) -> Result<()> {
        match lock(&self.remember).as_mut() {
            Some(writer) => writer.add(path, values),
            None => Ok(()),
        }
    }

    /// The hashes of this run, to be kept once it is recorded.
    pub(super) fn take_memory(&self) -> Option<BlockMemoryWriter> {
        lock(&self.remember).take()
    }

    /// A reader has done with a task.
    pub(super) fn finish_task(&self) {
        *lock(&self.finished) += 1;
        self.finishing.notify_all();
    }

    /// Waits until readers have done with so many tasks.
    pub(super) fn wait_finished(&self, tasks: u64) -> Result<()> {
        let mut finished = lock(&self.finished);
        while *finished < tasks {
            if self.is_stopped() {
                return Err(stopped());
            }
            let waited = self.finishing.wait_timeout(finished, WAIT);
            finished = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Whether the run has failed somewhere.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Ends the run; the first failure is kept.
    pub(super) fn fail(&self, error: VaultError) {
        lock(&self.failure).get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }

    /// The failure, once.
    pub(super) fn take_failure(&self) -> Option<VaultError> {
        lock(&self.failure).take()
    }

    /// Whether a chunk is stored where it will stay.
    pub(super) fn is_stored(&self, id: &ChunkId) -> Result<bool> {
        let found = self.before.find(&*self.store, id);
        // A damaged block of the index hides chunks: they are stored again.
        let found = match found {
            Err(error) if error.is_damage() => Vec::new(),
            other => other?,
        };
        let stays = |l: &Location| self.before.is_present(l) && !self.doomed.contains(&l.pack);
        if found.iter().any(|(_, l)| stays(l)) {
            return Ok(true);
        }
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        Ok(!fresh.find(&*self.store, id)?.is_empty())
    }

    /// Whether the caller is to store the chunk: true for one caller only.
    fn claim(&self, id: &ChunkId) -> Result<bool> {
        let shard = &self.claims[usize::from(id.0[31]) % CLAIM_SHARDS];
        if !lock(shard).insert(*id) {
            return Ok(false);
        }
        if self.is_stored(id)? {
            lock(shard).remove(id);
            return Ok(false);
        }
        Ok(true)
    }

    /// Stores packs until there are no more. After a failure it only empties the channel.
    pub(super) fn store_packs(&self, packs: &Receiver<FinishedPack>) {
        for pack in packs {
            if self.is_stopped() {
                continue;
            }
            if let Err(error) = self.store_pack(pack) {
                self.fail(error);
            }
        }
    }

    fn store_pack(&self, pack: FinishedPack) -> Result<()> {
        let size_bytes = pack.bytes.len() as u64;
        if put_own(&*self.store, &pack.name(), &pack.bytes)? == Created::Exists {
            return Err(VaultError::Refused("a random name was taken; try again".to_owned()));
        }
        self.counters.bytes_stored.fetch_add(size_bytes, Ordering::Relaxed);
        self.counters.chunks_new.fetch_add(pack.blobs.len() as u64, Ordering::Relaxed);
        let entries = pack.blobs.iter().map(|blob| Location { pack: pack.id, blob: *blob });
        let full = {
            let mut pending = lock(&self.pending);
            pending.entries.extend(entries);
            pending.packs.push((pack.id, size_bytes));
            pending.entries.len() >= PENDING_ENTRIES_MAX
        };
        self.pool.give(pack.bytes);
        if full { self.write_pending() } else { Ok(()) }
    }

    /// Writes a segment of what is stored and in no segment yet.
    pub(super) fn write_pending(&self) -> Result<()> {
        let Pending { entries, packs } = std::mem::take(&mut *lock(&self.pending));
        if entries.is_empty() {
            return Ok(());
        }
        let ids: Vec<ChunkId> = entries.iter().map(|l| l.blob.id).collect();
        let segment = write_segment(&self.ring, entries, Vec::new(), Vec::new());
        let size_bytes = segment.bytes.len() as u64;
        let name: ObjectName = segment.name();
        put_own(&*self.store, &name, &segment.bytes)?;
        self.counters.bytes_stored.fetch_add(size_bytes, Ordering::Relaxed);
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.add(&*self.store, &self.ring, (&name, size_bytes), &packs)?;
        drop(fresh);
        for id in ids {
            lock(&self.claims[usize::from(id.0[31]) % CLAIM_SHARDS]).remove(&id);
        }
        Ok(())
    }
}

/// Stores chunks, through a pack of its own.
pub(super) struct ChunkWriter<'a> {
    pub(super) shared: &'a Shared,
    packs: Sender<FinishedPack>,
    builder: Option<PackBuilder>,
    compressor: Compressor,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(shared: &'a Shared, packs: Sender<FinishedPack>) -> ChunkWriter<'a> {
        ChunkWriter { shared, packs, builder: None, compressor: Compressor::new() }
    }

    /// Stores a chunk, unless it is stored already.
    pub(super) fn put(
        &mut self,
        kind: BlobKind,
        raw: &[u8],
        hash: &blake3::Hash,
    ) -> Result<ChunkId> {
        let shared = self.shared;
        let id = ChunkId::of_hash(shared.ring.chunk_id_key(), kind, hash);
        if shared.claim(&id)? {
            let builder =
                self.builder.get_or_insert_with(|| PackBuilder::new(&shared.ring, &shared.pool));
            builder.add(id, kind, raw, &mut self.compressor);
            if builder.is_full() {
                self.flush()?;
            }
        }
        Ok(id)
    }

    /// Sends the open pack to be stored.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else { return Ok(()) };
        self.packs.send(builder.finish()).map_err(|_| stopped())
    }
}

/// The run ended because of a failure that is told elsewhere.
pub(super) fn stopped() -> VaultError {
    VaultError::Refused("the backup was stopped".to_owned())
}
