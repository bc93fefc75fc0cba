//! Fills a pack, one sealed chunk after the other.

use super::{Blob, PACK_TARGET_BYTES, ROW_BYTES};
use crate::chunk::{BlobKind, CHUNK_BYTES_MAX, ChunkId, Compressor};
use crate::keys::KeyRing;
use crate::seal::{Algorithm, HEADER_BYTES, Kind, ObjectCipher, Position};
use crate::store::{Area, ObjectId, ObjectName};
use std::sync::{Mutex, PoisonError};

/// Pack buffers that are used again rather than given back to the system.
#[derive(Default)]
pub struct BufferPool {
    free: Mutex<Vec<Vec<u8>>>,
}

/// Room for the last chunk and the table.
const PACK_SLACK_BYTES: usize = 1 << 20;
/// Buffers kept.
const POOL_MAX: usize = 4;

impl BufferPool {
    /// An empty pool.
    pub fn new() -> BufferPool {
        BufferPool::default()
    }

    fn take(&self) -> Vec<u8> {
        // A buffer is whole or not in the pool, whatever thread panicked.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < POOL_MAX {
            free.push(buffer);
        }
    }
}

/// A pack that is being filled.
pub struct PackBuilder {
    id: ObjectId,
    cipher: ObjectCipher,
    buffer: Vec<u8>,
    blobs: Vec<Blob>,
}

/// A pack ready to be stored.
pub struct FinishedPack {
    /// Its identity, and its name's leaf.
    pub id: ObjectId,
    /// The object.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub blobs: Vec<Blob>,
}

impl FinishedPack {
    /// The object's name.
    pub fn name(&self) -> ObjectName {
        ObjectName::of_id(Area::Packs, &self.id)
    }
}

impl PackBuilder {
    /// An empty pack under the ring's newest epoch.
    pub fn new(ring: &KeyRing, pool: &BufferPool) -> PackBuilder {
        let id = ObjectId::random();
        let name = ObjectName::of_id(Area::Packs, &id);
        let algorithm = Algorithm::of_this_processor();
        let (cipher, header) = ObjectCipher::create(ring, Kind::Pack, &name, algorithm);
        let mut buffer = pool.take();
        // Growing by doubling would take twice the room.
        buffer.reserve_exact(PACK_TARGET_BYTES + PACK_SLACK_BYTES);
        buffer.extend_from_slice(&header);
        PackBuilder { id, cipher, buffer, blobs: Vec::new() }
    }

    /// Compresses, seals and appends a chunk.
    ///
    /// # Panics
    /// Past the limits of a chunk, which the callers keep.
    pub fn add(&mut self, id: ChunkId, kind: BlobKind, raw: &[u8], compressor: &mut Compressor) {
        assert!(raw.len() <= BLOB_RAW_BYTES_MAX, "a chunk keeps its limit");
        let start = self.buffer.len();
        let compressed = compressor.append(raw, &mut self.buffer);
        let mut blob = Blob {
            id,
            offset: start as u32,
            stored_bytes: 0,
            raw_bytes: raw.len() as u32,
            flags: u8::from(compressed) | (kind as u8) << 1,
        };
        let position = Position::content(u64::from(blob.offset));
        self.cipher.seal(position, &blob.aad(), &mut self.buffer, start);
        blob.stored_bytes = (self.buffer.len() - start) as u32;
        self.blobs.push(blob);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it is time to finish it.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= PACK_TARGET_BYTES
    }

    /// Seals the table and closes the pack.
    pub fn finish(mut self) -> FinishedPack {
        let start = self.buffer.len();
        for blob in &self.blobs {
            self.buffer.extend_from_slice(&blob.id.0);
            self.buffer.extend_from_slice(&blob.stored_bytes.to_le_bytes());
            self.buffer.extend_from_slice(&blob.raw_bytes.to_le_bytes());
            self.buffer.push(blob.flags);
        }
        debug_assert_eq!(self.buffer.len() - start, self.blobs.len() * ROW_BYTES);
        self.cipher.seal(Position::FOOTER, &[], &mut self.buffer, start);
        let table_bytes = (self.buffer.len() - start) as u32;
        self.buffer.extend_from_slice(&table_bytes.to_le_bytes());
        FinishedPack { id: self.id, bytes: self.buffer, blobs: self.blobs }
    }
}

/// The largest chunk of any kind; nodes are larger than contents.
pub(super) const BLOB_RAW_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(CHUNK_BYTES_MAX <= BLOB_RAW_BYTES_MAX);
const _: () = assert!(HEADER_BYTES < PACK_TARGET_BYTES);
