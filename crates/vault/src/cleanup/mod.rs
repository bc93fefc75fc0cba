//! Clean-up in two phases, beside running backups and without a lock. See
//! `docs/decisions/0020-vault-cleanup.md` for why this is safe; the rule in one sentence: an
//! object is deleted only when every run that could have missed its mark has ended, and nothing
//! that is protected now needs it.

mod live;
mod mark;
mod sweep;

use crate::chain::Body;
use crate::error::{Result, VaultError};
use crate::keys::deletion::DeletionKey;
use crate::repository::Repository;
use crate::store::ObjectId;
use std::collections::BTreeSet;
use std::time::Duration;

/// A run that showed no life for this long loses its right to record.
pub const FENCE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How to clean up.
pub struct CleanupRequest<'a> {
    /// For append-only repositories.
    pub deletion: Option<&'a DeletionKey>,
    /// See [`FENCE_AFTER`].
    pub fence_after: Duration,
}

impl Default for CleanupRequest<'_> {
    fn default() -> Self {
        CleanupRequest { deletion: None, fence_after: FENCE_AFTER }
    }
}

/// What a clean-up did and what it waits for.
#[derive(Clone, Debug, Default)]
pub struct CleanupReport {
    /// Runs declared dead.
    pub fenced: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Marked objects that are needed again.
    pub spared: u64,
    /// Objects that the store did not let go of: a later clean-up marks them again.
    pub refused: u64,
    /// Bytes given back.
    pub freed_bytes: u64,
    /// Objects marked now.
    pub marked: u64,
    /// Packs rewritten because most of them was not needed.
    pub repacked: u64,
    /// Why marked objects are still there.
    pub waiting: Vec<String>,
}

/// Declares dead runs dead, sweeps marks that are due, and makes a new mark.
///
/// # Errors
/// Where the chain or a directory of a protected backup cannot be read: what nobody can read,
/// nobody can say to be unneeded. Nothing is deleted then.
pub fn run(repository: &mut Repository, request: &CleanupRequest<'_>) -> Result<CleanupReport> {
    if repository.state().is_append_only() && request.deletion.is_none() {
        return Err(VaultError::NeedsDeletionKey("a clean-up"));
    }
    repository.refresh()?;
    let why = "what it said decides what may be deleted";
    repository.chain().require_whole(0, why)?;
    let mut report = CleanupReport::default();
    fence(repository, request, &mut report)?;
    sweep::due(repository, request, &mut report)?;
    if repository.state().marks.is_empty() {
        mark::make(repository, request, &mut report)?;
    }
    report.deleted += repository.store().remove_leftovers(request.fence_after)?;
    Ok(report)
}

fn fence(
    repository: &mut Repository,
    request: &CleanupRequest<'_>,
    report: &mut CleanupReport,
) -> Result<()> {
    let now_ms = repository.now_ms();
    let limit_ms = request.fence_after.as_millis() as i64;
    let dead: Vec<_> = repository
        .state()
        .runs
        .iter()
        .filter(|(_, run)| now_ms.saturating_sub(run.time_ms) > limit_ms)
        .map(|(id, run)| (*id, run.time_ms))
        .collect();
    for (id, time_ms) in dead {
        let still_dead = |state: &crate::chain::State| match state.runs.get(&id) {
            Some(run) if run.time_ms == time_ms => Ok(()),
            _ => Err(VaultError::Fenced),
        };
        match repository.append(Body::Fence { run: id }, None, still_dead) {
            Ok(_) => report.fenced += 1,
            Err(VaultError::Fenced) => {} // It lives, or has ended.
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The packs that protected backups need.
///
/// # Errors
/// As [`run`].
pub fn live_packs(repository: &Repository) -> Result<BTreeSet<ObjectId>> {
    let blobs = repository.blobs()?;
    let backups: Vec<_> = repository.state().protected().map(|(_, b)| b).collect();
    let live = live::Live::of(&blobs, &backups, &BTreeSet::new())?;
    Ok(live.bytes.into_keys().collect())
}
