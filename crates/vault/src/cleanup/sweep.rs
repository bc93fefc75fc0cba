//! The second phase: what was marked, and is needed by nothing protected now, is deleted.

use super::live::Live;
use super::{CleanupReport, CleanupRequest};
use crate::chain::{Body, Mark};
use crate::error::Result;
use crate::index::consolidate;
use crate::repository::Repository;
use crate::store::{Area, ObjectId, ObjectName, Store};
use std::collections::BTreeSet;

/// Sweeps the marks that waited long enough and that no run can have missed.
pub(super) fn due(
    repository: &mut Repository,
    request: &CleanupRequest<'_>,
    report: &mut CleanupReport,
) -> Result<()> {
    let wait_ms = repository.state().genesis.wait_ms as i64;
    let marks: Vec<(u64, Mark)> =
        repository.state().marks.iter().map(|(seq, m)| (*seq, m.clone())).collect();
    for (seq, mark) in marks {
        let age_ms = repository.now_ms().saturating_sub(mark.time_ms);
        if age_ms < wait_ms {
            let minutes = (wait_ms - age_ms) / 60_000 + 1;
            report.waiting.push(format!("mark {seq} waits for another {minutes} minutes"));
            continue;
        }
        let runs = repository.state().runs.values();
        if let Some(run) = runs.filter(|run| run.begun < seq).min_by_key(|run| run.begun) {
            let (source, host) = (&run.source, &run.host);
            let what = format!("mark {seq} waits for the backup of `{source}` on {host} to end");
            report.waiting.push(what);
            continue;
        }
        sweep(repository, request, seq, &mark, report)?;
    }
    Ok(())
}

fn sweep(
    repository: &mut Repository,
    request: &CleanupRequest<'_>,
    seq: u64,
    mark: &Mark,
    report: &mut CleanupReport,
) -> Result<()> {
    // What any pending mark names may be deleted by someone else: it does not count as a copy.
    let pending = repository.state().marks.values().flat_map(|m| &m.doomed);
    let avoided: BTreeSet<ObjectId> = pending.filter_map(ObjectName::id).collect();
    let blobs = repository.blobs()?;
    let backups: Vec<_> = repository.state().protected().map(|(_, b)| b).collect();
    let live = Live::of(&blobs, &backups, &avoided)?;
    let known: BTreeSet<&ObjectName> = repository.state().keys.iter().map(|k| &k.object).collect();
    let (store, ring) = (&**repository.store(), repository.ring());
    let wal_live = crate::wal::live_names(store, ring, repository.state(), &backups)?;
    let superseded: BTreeSet<&ObjectName> = live.index.superseded().iter().collect();
    let is_needed = |name: &ObjectName| match name.area() {
        Area::Packs => name.id().is_none_or(|id| live.bytes.contains_key(&id)),
        Area::Index => !superseded.contains(name),
        Area::Keys => known.contains(name),
        Area::Wal => wal_live.contains(name),
        Area::Chain => true,
        Area::Probe => false,
    };
    let (spared, mut doomed): (Vec<_>, Vec<_>) = mark.doomed.iter().partition(|n| is_needed(n));
    let gone: BTreeSet<ObjectId> =
        doomed.iter().filter(|n| n.area() == Area::Packs).filter_map(|n| n.id()).collect();
    let mentioned = live.index.segments().iter().flat_map(|s| s.packs());
    if mentioned.into_iter().any(|p| gone.contains(p)) {
        let (store, ring) = (&**repository.store(), repository.ring());
        consolidate(store, ring, &live.index, &gone, |_| true)?;
    }
    // Packs first: a segment that still mentions one is then known to be stale.
    doomed.sort_by_key(|n| n.area() != Area::Packs);
    let deleted = delete(&**repository.store(), &doomed, report)?;
    report.spared += spared.len() as u64;
    let spared = spared.len() as u64;
    repository.append(Body::Swept { mark: seq, deleted, spared }, request.deletion, |_| Ok(()))?;
    Ok(())
}

/// Deletes what may be deleted. A lock that has not ended is no failure: nobody needs the object,
/// so that the next mark names it again.
fn delete(store: &dyn Store, doomed: &[&ObjectName], report: &mut CleanupReport) -> Result<u64> {
    let (mut deleted, mut refused) = (0, None);
    for name in doomed {
        let size_bytes = match store.size(name) {
            Ok(size_bytes) => size_bytes,
            Err(error) if error.is_not_found() => 0,
            Err(error) => return Err(error.into()),
        };
        match store.delete(name) {
            Ok(()) => {
                deleted += 1;
                report.freed_bytes += size_bytes;
            }
            Err(error) if error.is_refusal() => {
                report.refused += 1;
                refused = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    report.deleted += deleted;
    match refused {
        // Not a lock, then, but credentials that may not delete.
        Some(error) if deleted == 0 && store.protection()?.days() == Some(0) => Err(error.into()),
        _ => Ok(deleted),
    }
}
