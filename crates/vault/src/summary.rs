//! What a repository holds of each source, and what a restore of it now would take. Everything
//! comes from the signed records and the store's listing, but for the lag behind a server, which
//! only the machine that streams knows.

use crate::chain::{Backup, RestoreProof, State, newest_of};
use crate::error::Result;
use crate::repository::Repository;
use crate::store::Area;
use crate::wal::{Lag, stored_by_stream, stream_id};
use std::collections::BTreeMap;
use std::path::Path;

/// What there is of all sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of all objects.
    pub stored_bytes: u64,
    /// Those of databases' logs among them.
    pub stored_log_bytes: u64,
    /// By name.
    pub sources: Vec<SourceSummary>,
}

/// What there is of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSummary {
    /// Its name.
    pub source: String,
    /// How many backups there are that are wanted.
    pub backups: u64,
    /// The newest one's record.
    pub newest: u64,
    /// When its reading began, in milliseconds since 1970.
    pub newest_ms: i64,
    /// Bytes of its files.
    pub newest_bytes: u64,
    /// How many they are.
    pub newest_files: u64,
    /// Whether it could not take everything.
    pub incomplete: bool,
    /// The newest backup that was proven, and its last proof.
    pub proven: Option<(u64, RestoreProof)>,
    /// What a restore of the newest backup would take now; not known without any proof.
    pub restore: Option<Estimate>,
    /// Bytes that its backups hold, each counted whole, forgotten ones that still stay with them.
    pub protected_bytes: u64,
    /// Bytes that these backups wrote; not known where one that they build on is gone.
    pub written_bytes: Option<u64>,
    /// A database's log.
    pub log: Option<LogSummary>,
}

/// What there is of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// The newest timeline.
    pub timeline: u32,
    /// How far it is signed to be stored.
    pub upto: crate::postgres::Lsn,
    /// When that was said.
    pub marked_ms: i64,
    /// Bytes of its objects.
    pub stored_bytes: u64,
    /// How far it is behind its server, where it is this machine that streams.
    pub lag: Option<Lag>,
}

/// What a restore to the newest point would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// How long, at the rate of the last proof.
    pub took_ms: u64,
    /// Bytes of files to restore.
    pub bytes: u64,
    /// Bytes of the log to restore and to replay.
    pub log_bytes: u64,
    /// The backup that was proven.
    pub proof_of: u64,
    /// What that measured.
    pub proof: RestoreProof,
}

impl Estimate {
    /// Files and log together at the measured rate: a proof measures no two. Nothing where what
    /// was proven was empty.
    fn new(bytes: u64, log_bytes: u64, proof_of: u64, proof: RestoreProof) -> Option<Estimate> {
        let all = |bytes, log_bytes| u128::from(bytes) + u128::from(log_bytes);
        let (wanted, measured) = (all(bytes, log_bytes), all(proof.bytes, proof.log_bytes));
        let took_ms = match (wanted, measured) {
            (0, 0) => proof.took_ms,
            (_, 0) => return None,
            _ => {
                let took_ms = u128::from(proof.took_ms).saturating_mul(wanted) / measured;
                u64::try_from(took_ms).unwrap_or(u64::MAX)
            }
        };
        Some(Estimate { took_ms, bytes, log_bytes, proof_of, proof })
    }
}

/// Sums up a repository; `memory` is where this machine's streams remember.
///
/// # Errors
/// Where the store cannot be listed, or the memory not be read.
pub fn summarize(repository: &Repository, memory: &Path) -> Result<Summary> {
    let mut stored_bytes = 0;
    for area in Area::ALL {
        let listed = repository.store().list(area, None)?;
        stored_bytes += listed.iter().map(|l| l.size_bytes).sum::<u64>();
    }
    let (state, ring) = (repository.state(), repository.ring());
    let streams = stored_by_stream(&**repository.store())?;
    let mut sources = of_state(state);
    for row in &mut sources {
        let Some(archive) = state.archives.get(&row.source) else { continue };
        let Some((timeline, upto)) = archive.newest() else { continue };
        let stream = stream_id(ring, &row.source, archive.system);
        row.log = Some(LogSummary {
            timeline,
            upto,
            marked_ms: archive.time_ms,
            stored_bytes: streams.get(&stream).copied().unwrap_or(0),
            lag: Lag::recall(memory, &ring.repository, &stream)?,
        });
    }
    Ok(Summary { stored_bytes, stored_log_bytes: streams.values().sum(), sources })
}

/// What the records say.
fn of_state(state: &State) -> Vec<SourceSummary> {
    let mut sources: BTreeMap<&str, Vec<(u64, &Backup)>> = BTreeMap::new();
    for (seq, backup) in &state.backups {
        sources.entry(&backup.source).or_default().push((*seq, backup));
    }
    let rows =
        sources.into_iter().filter_map(|(source, backups)| of_source(state, source, &backups));
    rows.collect()
}

fn of_source(state: &State, source: &str, backups: &[(u64, &Backup)]) -> Option<SourceSummary> {
    let (newest, backup) = newest_of(backups.iter().copied())?;
    let proof_of = |seq: &u64| state.proven.get(seq).map(|proof| (*seq, *proof));
    let proofs: Vec<_> = backups.iter().filter_map(|(seq, _)| proof_of(seq)).collect();
    let last_proof = proofs.iter().max_by_key(|(_, proof)| proof.time_ms);
    let log_bytes = state.log_bytes(backup);
    let protected: Vec<_> = state.protected().filter(|(_, b)| b.source == source).collect();
    Some(SourceSummary {
        source: source.to_owned(),
        backups: backups.len() as u64,
        newest,
        newest_ms: backup.subject.begun_ms,
        newest_bytes: backup.totals.bytes,
        newest_files: backup.totals.files,
        incomplete: !backup.skipped.is_empty(),
        proven: proofs.last().copied(),
        restore: last_proof
            .and_then(|(seq, proof)| Estimate::new(backup.totals.bytes, log_bytes, *seq, *proof)),
        protected_bytes: protected.iter().map(|(_, b)| b.totals.bytes).sum(),
        written_bytes: written(&protected),
        log: None,
    })
}

/// What backups wrote in all, where that is all that they hold: each builds on another one of
/// them, but for the first.
fn written(backups: &[(u64, &Backup)]) -> Option<u64> {
    let is_there = |seq: u64| backups.iter().any(|(known, _)| *known == seq);
    let parents: Option<Vec<bool>> = backups
        .iter()
        .map(|(_, b)| match b.subject.parent {
            Some(parent) => is_there(parent).then_some(true),
            None => Some(false),
        })
        .collect();
    let first = parents?.iter().filter(|has_parent| !**has_parent).count();
    (first == 1).then(|| backups.iter().map(|(_, b)| b.statistics.bytes_stored).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(wanted: (u64, u64), measured: (u64, u64), took_ms: u64) -> Option<u64> {
        let proof = RestoreProof { time_ms: 0, took_ms, bytes: measured.0, log_bytes: measured.1 };
        Estimate::new(wanted.0, wanted.1, 1, proof).map(|estimate| estimate.took_ms)
    }

    #[test]
    fn a_restore_takes_what_the_proof_measured() {
        assert_eq!(estimate((1000, 0), (1000, 0), 80), Some(80));
        assert_eq!(estimate((1000, 500), (500, 250), 80), Some(160), "twice as much");
        assert_eq!(estimate((500, 1000), (1500, 0), 80), Some(80), "the log counts as files do");
        assert_eq!(estimate((0, 0), (10, 0), 80), Some(0));
        assert_eq!(estimate((0, 0), (0, 0), 80), Some(80));
        assert_eq!(estimate((1, 0), (0, 0), 80), None, "nothing was measured");
        assert_eq!(estimate((u64::MAX, u64::MAX), (1, 0), u64::MAX), Some(u64::MAX));
    }
}
