//! Reading a log back.

use super::Catalog;
use super::piece::{history_name, name_of, read_piece};
use crate::chunk::Compressor;
use crate::error::{Result, VaultError, read_again};
use crate::keys::KeyRing;
use crate::postgres::{Lsn, SegmentName, Timeline};
use crate::store::Store;
use std::ops::Range;

/// How often a stretch is listed anew while it is read.
const LOOKS_MAX: u32 = 3;

/// A segment as it is stored.
pub enum Fetched {
    /// The file's bytes; what is not stored yet is zeros. And how many bytes are stored.
    Found(Vec<u8>, u64),
    /// Nothing of it is stored.
    Absent,
}

/// Reads a stretch of which every byte is stored.
///
/// # Errors
/// Where a piece is missing or damaged.
pub fn fetch_stretch(
    store: &dyn Store,
    ring: &KeyRing,
    catalog: &Catalog,
    timeline: Timeline,
    range: Range<Lsn>,
) -> Result<Vec<u8>> {
    let Range { start, end } = range;
    let mut bytes = Vec::with_capacity((end.0 - start.0) as usize);
    let mut compressor = Compressor::new();
    let mut at = start;
    let mut fresh: Option<Catalog> = None;
    let mut looks = 0;
    while at < end {
        let catalog = fresh.as_ref().unwrap_or(catalog);
        let (from, to) = catalog.piece_at(timeline, at).ok_or_else(|| VaultError::Damaged {
            object: format!("the log of timeline {timeline}"),
            what: format!("it is missing from {at} on"),
        })?;
        let name = name_of(&catalog.stream, timeline, from, to);
        let read = || read_piece(ring, &name, store.get(&name)?, &mut compressor);
        let piece = match read_again(read) {
            // It was joined to a whole one since it was listed.
            Err(VaultError::Store(error)) if error.is_not_found() && looks < LOOKS_MAX => {
                looks += 1;
                fresh = Some(catalog.again(store)?);
                continue;
            }
            other => other?,
        };
        let upto = to.min(end);
        bytes.extend_from_slice(&piece.bytes[(at.0 - from.0) as usize..(upto.0 - from.0) as usize]);
        at = upto;
    }
    Ok(bytes)
}

/// Reads a segment as the file that a server wants.
///
/// # Errors
/// Where a piece of it is damaged.
pub fn fetch_segment(
    store: &dyn Store,
    ring: &KeyRing,
    catalog: &Catalog,
    segment: SegmentName,
    segment_bytes: u64,
) -> Result<Fetched> {
    let end = Lsn(segment.start.0 + segment_bytes);
    let reach = catalog.reach(segment.timeline, segment.start).min(end);
    if reach == segment.start {
        return Ok(Fetched::Absent);
    }
    let mut bytes = fetch_stretch(store, ring, catalog, segment.timeline, segment.start..reach)?;
    let stored = bytes.len() as u64;
    bytes.resize(segment_bytes as usize, 0);
    Ok(Fetched::Found(bytes, stored))
}

/// A timeline's history, where it is stored.
///
/// # Errors
/// Where it is damaged.
pub fn fetch_history(
    store: &dyn Store,
    ring: &KeyRing,
    catalog: &Catalog,
    timeline: Timeline,
) -> Result<Option<Vec<u8>>> {
    let name = history_name(&catalog.stream, timeline);
    match read_again(|| read_piece(ring, &name, store.get(&name)?, &mut Compressor::new())) {
        Ok(piece) => Ok(Some(piece.bytes)),
        Err(VaultError::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
