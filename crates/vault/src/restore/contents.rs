//! The contents of files: compared with what lies there, fetched where they differ.

use super::RestoreCounters;
use crate::blobs::{Blobs, ReadBuffers};
use crate::chunk::{BlobKind, ChunkId};
use crate::error::{Result, VaultError};
use crate::tree::{Entry, Extent, each_extents};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file being restored.
pub(super) struct Pair<'a> {
    /// What is written; nothing in a dry run.
    pub(super) new: Option<&'a File>,
    /// What was there; its bytes are kept where they are right.
    pub(super) old: Option<&'a File>,
    /// Whether both are one file, so that right bytes need no writing.
    pub(super) same: bool,
    /// For errors.
    pub(super) path: &'a Path,
}

/// Restores a stretch of extents that begins at `offset`. Says whether anything differed.
pub(super) fn extents(
    blobs: &Blobs,
    key: &[u8; 32],
    pair: &Pair<'_>,
    mut offset: u64,
    extents: &[Extent],
    buffers: &mut ReadBuffers,
    counters: &RestoreCounters,
) -> Result<bool> {
    let mut wanted = Wanted::default();
    let mut differs = false;
    let mut found = Vec::new();
    let failed = |action| VaultError::file(action, pair.path);
    for extent in extents {
        match extent {
            Extent::Hole { bytes } => {
                differs |= hole(pair, offset, *bytes).map_err(failed("write"))?;
            }
            Extent::Part { id, .. } => {
                wanted.add(*id, *extent, offset);
                counters.bytes.fetch_add(extent.bytes(), Ordering::Relaxed);
            }
            Extent::Data { id, bytes } => {
                let is_right = match pair.old {
                    None => false,
                    Some(old) => {
                        found.resize(*bytes as usize, 0);
                        read_full(old, offset, &mut found).map_err(failed("read"))?
                            && ChunkId::of(key, BlobKind::Data, &found) == *id
                    }
                };
                if !is_right {
                    differs = true;
                    wanted.add(*id, *extent, offset);
                } else if let (Some(new), false) = (pair.new, pair.same) {
                    new.write_all_at(&found, offset).map_err(failed("write"))?;
                    counters.bytes_written.fetch_add(u64::from(*bytes), Ordering::Relaxed);
                }
                counters.bytes.fetch_add(u64::from(*bytes), Ordering::Relaxed);
            }
        }
        offset += extent.bytes();
    }
    if pair.new.is_some() || (pair.old.is_some() && wanted.has_parts) {
        blobs.read_many(&wanted.ids, buffers, |at, plain| {
            for (extent, offset) in &wanted.places[at] {
                differs |= place(pair, plain, extent, *offset, counters)?;
            }
            Ok(())
        })?;
    }
    Ok(differs)
}

/// Chunks to fetch, each once, and what each is needed for.
#[derive(Default)]
struct Wanted {
    ids: Vec<ChunkId>,
    places: Vec<Vec<(Extent, u64)>>,
    numbers: HashMap<ChunkId, usize>,
    has_parts: bool,
}

impl Wanted {
    fn add(&mut self, id: ChunkId, extent: Extent, offset: u64) {
        self.has_parts |= matches!(extent, Extent::Part { .. });
        let number = *self.numbers.entry(id).or_insert(self.ids.len());
        if number == self.ids.len() {
            self.ids.push(id);
            self.places.push(Vec::new());
        }
        self.places[number].push((extent, offset));
    }
}

/// Writes what an extent takes of its chunk, unless it is there already. Says whether it was not.
fn place(
    pair: &Pair<'_>,
    plain: &[u8],
    extent: &Extent,
    offset: u64,
    counters: &RestoreCounters,
) -> Result<bool> {
    let bytes = match extent {
        Extent::Part { from, bytes, .. } => {
            let from = *from as usize;
            plain.get(from..from + *bytes as usize).ok_or_else(|| VaultError::Damaged {
                object: format!("a chunk of {}", pair.path.display()),
                what: "it is shorter than what is said to be in it".to_owned(),
            })?
        }
        _ => plain,
    };
    if let (Extent::Part { .. }, Some(old)) = (extent, pair.old) {
        let mut found = vec![0; bytes.len()];
        let failed = VaultError::file("read", pair.path);
        let right = read_full(old, offset, &mut found).map_err(failed)? && found == bytes;
        if right && (pair.same || pair.new.is_none()) {
            return Ok(false);
        }
    }
    if let Some(new) = pair.new {
        new.write_all_at(bytes, offset).map_err(VaultError::file("write", pair.path))?;
        counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    Ok(true)
}

/// Fills the buffer, or says that the file is too short.
fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A hole: nothing to write in a new file; zeros where an old one has something else.
fn hole(pair: &Pair<'_>, offset: u64, bytes: u64) -> io::Result<bool> {
    let (Some(old), true) = (pair.old, pair.same || pair.new.is_none()) else { return Ok(false) };
    let end = (offset + bytes).min(old.metadata()?.len());
    let mut differs = false;
    let mut found = [0; 64 << 10];
    let mut at = offset;
    while at < end {
        let part = (end - at).min(ZEROS.len() as u64) as usize;
        let right = read_full(old, at, &mut found[..part])? && found[..part] == ZEROS[..part];
        if !right {
            differs = true;
            if let Some(new) = pair.new {
                new.write_all_at(&ZEROS[..part], at)?;
            }
        }
        at += part as u64;
    }
    Ok(differs)
}

/// Writes a file's contents to a stream and checks them against the signed hash.
///
/// # Errors
/// Where a chunk is lost, the contents are not those that were signed, or the stream fails.
pub fn dump(
    blobs: &Blobs,
    entry: &Entry,
    buffers: &mut ReadBuffers,
    out: &mut dyn Write,
) -> Result<u64> {
    let crate::tree::EntryKind::File { root, size_bytes, .. } = &entry.kind else {
        let name = String::from_utf8_lossy(&entry.name);
        return Err(VaultError::Refused(format!("`{name}` is no regular file")));
    };
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        out.write_all(bytes).map_err(VaultError::file("write", "the output"))
    };
    each_extents(blobs, &entry.kind, buffers, |buffers, _, extents| {
        let mut rest = extents;
        while let Some(first) = rest.first() {
            if let Extent::Hole { bytes } = first {
                let mut left = *bytes;
                while left > 0 {
                    let part = left.min(ZEROS.len() as u64);
                    put(&ZEROS[..part as usize])?;
                    left -= part;
                }
                rest = &rest[1..];
                continue;
            }
            if let Extent::Part { .. } = first {
                blobs.read_part(first, buffers, &mut put)??;
                rest = &rest[1..];
                continue;
            }
            let ids: Vec<ChunkId> = rest
                .iter()
                .map_while(|e| match e {
                    Extent::Data { id, .. } => Some(*id),
                    _ => None,
                })
                .collect();
            blobs.read_many(&ids, buffers, |_, plain| put(plain))?;
            rest = &rest[ids.len()..];
        }
        Ok(())
    })?;
    if hasher.finalize().as_bytes() == root {
        return Ok(*size_bytes);
    }
    let name = String::from_utf8_lossy(&entry.name);
    Err(VaultError::Damaged {
        object: format!("the file `{name}`"),
        what: "its contents have another hash than was signed".to_owned(),
    })
}
