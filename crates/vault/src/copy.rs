//! Copies backups between repositories. Each copy is read, checked and sealed anew, and keeps its
//! original's time: it stands for the same moment.

use crate::backup::{self, BackupOutcome, BackupRequest, Parent};
use crate::chain::{Backup, State};
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use crate::source::copy::CopySource;
use std::collections::BTreeSet;

/// What to copy, and by whom.
pub struct CopyRequest<'a> {
    /// The record numbers of the backups; all where there are none.
    pub wanted: &'a [u64],
    /// This machine.
    pub host: String,
    /// Threads that read and seal.
    pub workers: usize,
}

/// What tells one point in time of a source from another: unchanged data has the same root at
/// each of them.
fn point(backup: &Backup) -> (&str, [u8; 32], i64, i64) {
    let subject = &backup.subject;
    (&backup.source, subject.root, subject.begun_ms, subject.ended_ms)
}

/// The backups that are wanted and not there yet, by number.
///
/// # Errors
/// Where a wanted one is not in `from`.
pub fn missing(from: &State, to: &State, wanted: &[u64]) -> Result<Vec<u64>> {
    if let Some(seq) = wanted.iter().find(|seq| !from.backups.contains_key(seq)) {
        return Err(VaultError::NotFound(format!("there is no backup {seq}")));
    }
    let mut there: BTreeSet<_> = to.backups.values().map(point).collect();
    let mut missing = Vec::new();
    for (seq, backup) in &from.backups {
        let is_wanted = wanted.is_empty() || wanted.contains(seq);
        if is_wanted && there.insert(point(backup)) {
            missing.push(*seq);
        }
    }
    Ok(missing)
}

/// Copies what is missing, oldest first; returns the numbers there and what was recorded here.
///
/// # Errors
/// Where a backup cannot be read whole: nothing is recorded for it. Those before it are there.
pub fn run(
    from: &Repository,
    to: &mut Repository,
    request: &CopyRequest<'_>,
) -> Result<Vec<(u64, BackupOutcome)>> {
    let mut copied = Vec::new();
    for seq in missing(from.state(), to.state(), request.wanted)? {
        let backup = &from.state().backups[&seq];
        let source = CopySource::new(from.blobs()?, seq, backup.clone());
        let plain = BackupRequest::plain(&backup.source, &request.host, &source, request.workers);
        let request = BackupRequest { parent: Parent::None, ..plain };
        copied.push((seq, backup::run(to, &request)?));
    }
    Ok(copied)
}
