//! Brings a backup back: whole, a directory, a file; into a directory, in place, or to a
//! stream. It reads and writes only what differs, so a second start goes on where the first
//! one ended.

mod contents;
mod metadata;
mod target;
mod threads;
mod walk;

pub use contents::dump;
pub(crate) use walk::name_of_single;

use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::error::{Result, VaultError};
use crate::tree::{Entry, EntryKind, Totals, find_path};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that write, at most.
pub const WORKERS_MAX: usize = 16;
/// Notes that a report lists; more are counted.
pub const NOTES_MAX: usize = 1000;

/// What to restore, and where.
pub struct RestoreRequest {
    /// The path within the backup; empty for all of it.
    pub path: Vec<u8>,
    /// The directory that receives it.
    pub target: PathBuf,
    /// What would be replaced is moved to this directory, on the same file system.
    pub set_aside: Option<PathBuf>,
    /// Only says what would change.
    pub dry_run: bool,
    /// Restores owners and groups.
    pub owners: bool,
    /// Makes device nodes.
    pub devices: bool,
    /// Threads that write.
    pub workers: usize,
    /// Where progress is counted.
    pub counters: Arc<RestoreCounters>,
}

/// Progress, readable while a restore runs.
#[derive(Debug, Default)]
pub struct RestoreCounters {
    /// Files finished.
    pub files: AtomicU64,
    /// Bytes of files finished or found in place.
    pub bytes: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Files that differed or were missing.
    pub files_changed: AtomicU64,
    /// Entries moved aside.
    pub set_aside: AtomicU64,
}

/// What a restore did.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// What was asked for.
    pub totals: Totals,
    /// Files that were missing or differed.
    pub files_changed: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Entries moved aside.
    pub set_aside: u64,
    /// What could not be restored as it was: path and reason.
    pub notes: Vec<(String, String)>,
    /// How many more of them there were.
    pub notes_more: u64,
    /// Whether everything is on disk by the system's word.
    pub synced: bool,
}

impl RestoreReport {
    /// Whether everything was restored as it was.
    pub fn is_complete(&self) -> bool {
        self.notes.is_empty() && self.notes_more == 0
    }
}

/// Restores. Nothing is overwritten before the path is found and, where something is to be
/// replaced, every chunk needed is known to be there.
///
/// # Errors
/// Where the path is not in the backup, or the target cannot be written at all. Single files
/// that fail are notes of the report.
pub fn run(blobs: &Blobs, backup: &Backup, request: &RestoreRequest) -> Result<RestoreReport> {
    run_with(blobs, backup, request, true)
}

/// As [`run`], where the caller syncs in the end if `sync` is false.
pub(crate) fn run_with(
    blobs: &Blobs,
    backup: &Backup,
    request: &RestoreRequest,
    sync: bool,
) -> Result<RestoreReport> {
    backup.top.check(true)?;
    let entry = find_path(blobs, &backup.top, &request.path)?;
    if request.set_aside.is_some() && !request.dry_run {
        crate::verify::require_chunks(blobs, &request.path, &entry)?;
    }
    let totals = match &entry.kind {
        EntryKind::Directory { totals, .. } => *totals,
        _ => {
            let mut totals = Totals::default();
            totals.add(&entry);
            totals
        }
    };
    let ((notes, notes_more), synced) = threads::restore(blobs, backup, &entry, request, sync)?;
    let counters = &request.counters;
    Ok(RestoreReport {
        totals,
        files_changed: counters.files_changed.load(Ordering::Relaxed),
        bytes_written: counters.bytes_written.load(Ordering::Relaxed),
        set_aside: counters.set_aside.load(Ordering::Relaxed),
        notes,
        notes_more,
        synced,
    })
}

/// The entry whose contents a further name has.
pub(crate) fn linked(blobs: &Blobs, top: &Entry, target: &[u8]) -> Result<Entry> {
    let entry = find_path(blobs, top, target)?;
    if matches!(entry.kind, EntryKind::File { .. }) {
        return Ok(entry);
    }
    let path = String::from_utf8_lossy(target);
    Err(VaultError::Damaged {
        object: format!("the further name of `{path}`"),
        what: "that is no file".to_owned(),
    })
}

/// Writes a file of the backup to a stream, for `--stdout`.
///
/// # Errors
/// Where the path is no file, a chunk is lost, or the stream fails.
pub fn to_stream(
    blobs: &Blobs,
    backup: &Backup,
    path: &[u8],
    out: &mut dyn std::io::Write,
) -> Result<u64> {
    let mut entry = find_path(blobs, &backup.top, path)?;
    if let EntryKind::HardLink { target } = &entry.kind {
        entry = linked(blobs, &backup.top, target)?;
    }
    dump(blobs, &entry, &mut ReadBuffers::default(), out)
}
