//! The packs themselves: tables against the index, and every chunk where that is asked for.

use super::report::{Finding, VerifyReport};
use super::structure::BadChunks;
use super::{Depth, VerifyRequest};
use crate::chunk::Compressor;
use crate::error::{Result, VaultError, what};
use crate::index::IndexSet;
use crate::keys::KeyRing;
use crate::pack::{Blob, Location, PACK_BYTES_MAX, open_chunk, parse_pack};
use crate::repository::Repository;
use crate::store::{Area, ObjectId, ObjectName, Store};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What one pack's reading found.
#[derive(Default)]
struct PackResult {
    findings: Vec<Finding>,
    bad: BadChunks,
    bytes: u64,
    chunks: u64,
    read: u64,
}

/// Reads the packs as deeply as asked; returns the chunks that cannot be read.
pub(super) fn packs(
    repository: &Repository,
    index: &IndexSet,
    request: &VerifyRequest,
    report: &mut VerifyReport,
) -> Result<BadChunks> {
    let marks = repository.state().marks.values().flat_map(|m| &m.doomed);
    let doomed: BTreeSet<ObjectId> = marks.filter_map(ObjectName::id).collect();
    let packs: Vec<(ObjectId, u64)> = index.packs().iter().map(|(id, size)| (*id, *size)).collect();
    let next = AtomicUsize::new(0);
    let total: Mutex<PackResult> = Mutex::default();
    let failure: Mutex<Option<VaultError>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..request.workers.clamp(1, super::super::backup::WORKERS_MAX) {
            scope.spawn(|| {
                let mut reader = PackReader::new(repository, request);
                while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match reader.pack(index, id, *size) {
                        Ok(result) => merge(&total, result),
                        Err(error) => {
                            let mut failure =
                                failure.lock().unwrap_or_else(PoisonError::into_inner);
                            failure.get_or_insert(error);
                            next.store(packs.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.findings.sort();
    for finding in total.findings {
        let is_doomed = matches!(&finding, Finding::Object { name, .. }
            if doomed.iter().any(|d| ObjectName::of_id(Area::Packs, d).to_string() == *name));
        if !is_doomed {
            report.add(finding);
        }
    }
    report.bytes_read = total.bytes;
    report.chunks_read = total.chunks;
    report.packs_read = total.read;
    Ok(total.bad)
}

fn merge(total: &Mutex<PackResult>, result: PackResult) {
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    total.findings.extend(result.findings);
    total.bad.extend(result.bad);
    total.bytes += result.bytes;
    total.chunks += result.chunks;
    total.read += result.read;
}

struct PackReader<'a> {
    store: &'a dyn Store,
    ring: &'a KeyRing,
    request: &'a VerifyRequest,
    compressor: Compressor,
    bytes: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> PackReader<'a> {
    fn new(repository: &'a Repository, request: &'a VerifyRequest) -> PackReader<'a> {
        PackReader {
            store: &**repository.store(),
            ring: repository.ring(),
            request,
            compressor: Compressor::new(),
            bytes: Vec::new(),
            plain: Vec::new(),
        }
    }

    fn wants_bytes(&self, id: &ObjectId) -> bool {
        match self.request.depth {
            Depth::Structure => false,
            Depth::Bytes => true,
            Depth::Part { part, of } => {
                let number = u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]);
                number % of.max(1) == part
            }
        }
    }

    fn pack(&mut self, index: &IndexSet, id: &ObjectId, size_bytes: u64) -> Result<PackResult> {
        let name = ObjectName::of_id(Area::Packs, id);
        let mut result = PackResult::default();
        let read = match self.wants_bytes(id) {
            true => self.every_byte(id, size_bytes, &mut result),
            false => crate::pack::read_table(self.store, self.ring, id, size_bytes).map(|_| ()),
        };
        match read {
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                let what = what(&error);
                result.findings.push(Finding::Object { name: name.to_string(), what });
                self.without_table(index, id, &mut result)?;
            }
            Err(error) => return Err(error),
        }
        Ok(result)
    }

    /// A pack whose header or table is damaged may still hold what the index says: each chunk
    /// is tried, so that no backup is called restorable that is not.
    fn without_table(
        &mut self,
        index: &IndexSet,
        id: &ObjectId,
        result: &mut PackResult,
    ) -> Result<()> {
        let cipher = crate::pack::pack_cipher(self.store, self.ring, id);
        let name = ObjectName::of_id(Area::Packs, id);
        for segment in index.segments().iter().filter(|s| s.packs().contains(id)) {
            for block in 0..segment.blocks() {
                // A damaged block of the index is a finding of its own.
                let Ok(plain) = segment.read_block(self.store, block) else { continue };
                let entries = segment.decode_block(block, &plain).unwrap_or_default();
                for (_, at) in entries.into_iter().filter(|(_, at)| at.pack == *id) {
                    let opened = match &cipher {
                        Ok(cipher) => {
                            self.bytes.resize(at.blob.stored_bytes as usize, 0);
                            let from = u64::from(at.blob.offset);
                            let read = self.store.get_range(&name, from, &mut self.bytes);
                            read.map_err(VaultError::from).and_then(|()| {
                                let (tool, plain) = (&mut self.compressor, &mut self.plain);
                                open_chunk(cipher, self.ring, &at, &mut self.bytes, tool, plain)
                            })
                        }
                        Err(_) => Err(VaultError::damaged(&name, "its header was altered")),
                    };
                    match opened {
                        Ok(()) => {}
                        Err(error) if error.is_damage() => {
                            result.bad.insert(at.blob.id, what(&error));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    fn every_byte(
        &mut self,
        id: &ObjectId,
        size_bytes: u64,
        result: &mut PackResult,
    ) -> Result<()> {
        let name = ObjectName::of_id(Area::Packs, id);
        if size_bytes > PACK_BYTES_MAX as u64 {
            return Err(VaultError::damaged(&name, "it is larger than any pack"));
        }
        self.bytes.resize(size_bytes as usize, 0);
        self.store.let_go(&name);
        self.store.get_range(&name, 0, &mut self.bytes)?;
        self.request.bytes_read.fetch_add(size_bytes, Ordering::Relaxed);
        result.bytes = size_bytes;
        result.read = 1;
        let (cipher, blobs): (_, Vec<Blob>) = parse_pack(self.ring, id, &self.bytes)?;
        for blob in blobs {
            let at = Location { pack: *id, blob };
            let from = blob.offset as usize;
            let sealed = &mut self.bytes[from..from + blob.stored_bytes as usize];
            let (compressor, plain) = (&mut self.compressor, &mut self.plain);
            result.chunks += 1;
            if let Err(error) = open_chunk(&cipher, self.ring, &at, sealed, compressor, plain) {
                let what = what(&error);
                result.bad.insert(blob.id, what.clone());
                result.findings.push(Finding::Object { name: name.to_string(), what });
            }
        }
        Ok(())
    }
}
