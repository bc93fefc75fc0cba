//! The first phase: what nobody needs is named in a record, and nothing is deleted.

use super::live::Live;
use super::{CleanupReport, CleanupRequest};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::{Body, Mark};
use crate::chunk::Compressor;
use crate::error::{Result, VaultError};
use crate::index::{SEGMENT_ENTRIES_MAX, write_segment};
use crate::pack::{BufferPool, FinishedPack, Location, PackBuilder, read_table};
use crate::repository::Repository;
use crate::store::{Area, ObjectId, ObjectName, put_own};
use std::collections::BTreeSet;

/// A pack of which less than this share is needed is rewritten.
const KEEP_SHARE: u64 = 2;
/// Objects of one mark.
pub(super) const DOOMED_MAX: usize = 1 << 20;

pub(super) fn make(
    repository: &mut Repository,
    request: &CleanupRequest<'_>,
    report: &mut CleanupReport,
) -> Result<()> {
    let now_ms = repository.now_ms();
    let wait_ms = repository.state().genesis.wait_ms as i64;
    let state = repository.state();
    let released: Vec<u64> = state
        .forgotten
        .iter()
        .filter(|(_, f)| now_ms.saturating_sub(f.time_ms) >= wait_ms)
        .map(|(seq, _)| *seq)
        .collect();
    let protected: Vec<_> = state
        .protected()
        .filter(|(seq, _)| !released.contains(seq))
        .map(|(_, backup)| backup)
        .collect();
    let mut blobs = repository.blobs()?;
    let mut live = Live::of(&blobs, &protected, &BTreeSet::new())?;
    if !live.unmentioned.is_empty() {
        index_again(repository, &live)?;
        blobs = repository.blobs()?;
        live = Live::of(&blobs, &protected, &BTreeSet::new())?;
    }
    let mut doomed: Vec<ObjectName> = Vec::new();
    for (pack, size_bytes) in live.index.packs() {
        let needed = live.bytes.get(pack).copied().unwrap_or(0);
        if needed == 0 {
            doomed.push(ObjectName::of_id(Area::Packs, pack));
        } else if needed * KEEP_SHARE < *size_bytes
            && repack(repository, &blobs, &live, pack, *size_bytes)?
        {
            report.repacked += 1;
            doomed.push(ObjectName::of_id(Area::Packs, pack));
        }
    }
    doomed.extend(live.index.superseded().iter().cloned());
    let known: BTreeSet<&ObjectName> = repository.state().keys.iter().map(|k| &k.object).collect();
    let keys = repository.store().list(Area::Keys, None)?;
    doomed.extend(keys.into_iter().map(|l| l.name).filter(|n| !known.contains(n)));
    let (store, ring) = (&**repository.store(), repository.ring());
    let wal_live = crate::wal::live_names(store, ring, repository.state(), &protected)?;
    let wal = store.list(Area::Wal, None)?.into_iter().map(|l| l.name);
    doomed.extend(wal.filter(|name| !wal_live.contains(name)));
    doomed.truncate(DOOMED_MAX);
    if doomed.is_empty() && released.is_empty() {
        return Ok(());
    }
    report.marked = doomed.len() as u64;
    let mark = Body::Mark(Mark { doomed, released, time_ms: now_ms });
    repository.append(mark, request.deletion, |state| match state.marks.is_empty() {
        true => Ok(()),
        false => Err(VaultError::Refused("another clean-up runs; this one ends".to_owned())),
    })?;
    Ok(())
}

/// Writes a segment for packs that are needed and that no segment mentions.
fn index_again(repository: &Repository, live: &Live) -> Result<()> {
    let (store, ring) = (&**repository.store(), repository.ring());
    let mut entries: Vec<Location> = Vec::new();
    for pack in &live.unmentioned {
        let Some(size_bytes) = live.index.packs().get(pack) else { continue };
        let blobs = read_table(store, ring, pack, *size_bytes)?;
        if entries.len() + blobs.len() > SEGMENT_ENTRIES_MAX {
            let full = std::mem::take(&mut entries);
            let segment = write_segment(ring, full, Vec::new(), Vec::new());
            put_own(store, &segment.name(), &segment.bytes)?;
        }
        entries.extend(blobs.into_iter().map(|blob| Location { pack: *pack, blob }));
    }
    let segment = write_segment(ring, entries, Vec::new(), Vec::new());
    put_own(store, &segment.name(), &segment.bytes)?;
    Ok(())
}

/// Copies what is needed of a pack into a new one. False where most of it is needed, or a needed
/// chunk is damaged: then the pack stays, for whoever can repair it.
fn repack(
    repository: &Repository,
    blobs: &Blobs,
    live: &Live,
    pack: &ObjectId,
    size_bytes: u64,
) -> Result<bool> {
    let (store, ring) = (&**repository.store(), repository.ring());
    let table = match read_table(store, ring, pack, size_bytes) {
        Ok(table) => table,
        Err(error) if error.is_damage() => return Ok(false),
        Err(error) => return Err(error),
    };
    // Header and table don't count: a pack of tiny chunks is mostly that.
    let stored: u64 = table.iter().map(|b| u64::from(b.stored_bytes)).sum();
    let needed = live.bytes.get(pack).copied().unwrap_or(0);
    if needed * KEEP_SHARE >= stored {
        return Ok(false);
    }
    let pool = BufferPool::new();
    let mut builder = PackBuilder::new(ring, &pool);
    let (mut buffers, mut compressor) = (ReadBuffers::default(), Compressor::new());
    for blob in table {
        let Some(kind) = blob.kind() else { return Ok(false) };
        if !live.needs(blobs, &blob.id, pack)? {
            continue;
        }
        let copied = blobs.read(&blob.id, &mut buffers, |plain| {
            builder.add(blob.id, kind, plain, &mut compressor);
        });
        match copied {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let finished: FinishedPack = builder.finish();
    put_own(store, &finished.name(), &finished.bytes)?;
    let entries = finished.blobs.iter().map(|b| Location { pack: finished.id, blob: *b });
    let segment = write_segment(ring, entries.collect(), Vec::new(), Vec::new());
    put_own(store, &segment.name(), &segment.bytes)?;
    Ok(true)
}
