//! Makes a backup: scan, read, cut, seal, store, and one record that makes it count.
//!
//! One thread scans, some read and seal, some store, and the caller's thread builds the tree in
//! the order of the scan. Channels between them are bounded, and so is everything they hold.

mod ahead;
mod assemble;
mod blocks;
mod chunks;
mod content;
mod hooks;
mod memory;
mod read;
mod scan;
mod threads;

pub(crate) use memory::hashes_in;

pub use chunks::Counters;

use crate::chain::{Backup, Body, Copied, Run, RunId, Skipped, Statistics, Subject};
use crate::error::{Result, VaultError};
use crate::index::{IndexSet, SEGMENT_ENTRIES_MAX, SEGMENTS_BEFORE_MERGE, consolidate};
use crate::repository::Repository;
use crate::source::{Original, Source};
use crate::tree::Totals;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Threads that read and seal, at most.
pub const WORKERS_MAX: usize = 16;
/// Skipped files that a record lists; more are counted.
pub const SKIPPED_MAX: usize = 1000;
/// A run that lost its right to record starts again so often.
const ATTEMPTS_MAX: u32 = 3;
/// The longest source or host name.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;
/// Time stamps nearer than this to the parent's beginning may hide a later change.
const STAMP_MARGIN_S: i64 = 2;

/// With which backup the source is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same source.
    Newest,
    /// This one.
    Record(u64),
    /// The newest of the same source, which must be this one.
    Since(Since),
    /// With none: every file is read.
    None,
}

/// The backup since which a map of changes counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// By its number.
    Record(u64),
    /// By its root.
    Root([u8; 32]),
}

impl Since {
    /// Reads a number, or a whole root in hexadecimal.
    pub fn parse(text: &str) -> Option<Since> {
        let root = || crate::hex::decode_array(text).map(Since::Root);
        text.parse().ok().map(Since::Record).or_else(root)
    }

    fn is(self, seq: u64, backup: &Backup) -> bool {
        match self {
            Since::Record(number) => number == seq,
            Since::Root(root) => root == backup.subject.root,
        }
    }
}

impl std::fmt::Display for Since {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Since::Record(seq) => write!(f, "{seq}"),
            Since::Root(root) => f.write_str(&crate::hex::encode(root)),
        }
    }
}

/// What to back up, and how.
pub struct BackupRequest<'a> {
    /// The source's name in the repository.
    pub name: String,
    /// This machine.
    pub host: String,
    /// What is read.
    pub source: &'a dyn Source,
    /// With what it is compared.
    pub parent: Parent,
    /// Threads that read and seal.
    pub workers: usize,
    /// Run before; a failure fails the backup.
    pub before: Option<String>,
    /// Run after, whatever happened; a failure fails the backup.
    pub after: Option<String>,
    /// Where this machine remembers the blocks of files that are backed up by block.
    pub block_memory: Option<std::path::PathBuf>,
    /// Where progress is counted.
    pub counters: Arc<Counters>,
}

impl<'a> BackupRequest<'a> {
    /// A source as it is, compared with its newest backup: no hooks, nothing remembered, nothing
    /// shown on the way.
    pub fn plain(name: &str, host: &str, source: &'a dyn Source, workers: usize) -> Self {
        BackupRequest {
            name: name.to_owned(),
            host: host.to_owned(),
            source,
            parent: Parent::Newest,
            workers,
            before: None,
            after: None,
            block_memory: None,
            counters: Arc::new(Counters::default()),
        }
    }
}

/// A backup that is recorded.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// Its record.
    pub seq: u64,
    /// What was recorded.
    pub backup: Backup,
    /// What went wrong after it was recorded.
    pub warning: Option<String>,
    /// What the source says of how it was read.
    pub note: Option<String>,
}

/// What a run found, before it is recorded.
struct Harvest {
    top: crate::tree::Entry,
    skipped: Vec<Skipped>,
    skipped_more: u64,
}

/// Backs up the source and records it.
///
/// # Errors
/// Where the source or the store fails as a whole, or a hook does. Nothing is recorded then.
pub fn run(repository: &mut Repository, request: &BackupRequest<'_>) -> Result<BackupOutcome> {
    for name in [&request.name, &request.host] {
        if name.is_empty() || name.len() > SOURCE_NAME_BYTES_MAX {
            let what = "the length of a source's or host's name".to_owned();
            return Err(VaultError::Limit { what, limit: SOURCE_NAME_BYTES_MAX as u64 });
        }
    }
    // What is refused anyway needs no hook that freezes a guest.
    choose_parent(repository, request)?;
    let mut attempt = 1;
    loop {
        match attempt_once(repository, request) {
            Err(VaultError::Fenced) if attempt < ATTEMPTS_MAX => attempt += 1,
            other => return other,
        }
    }
}

fn attempt_once(repository: &mut Repository, request: &BackupRequest<'_>) -> Result<BackupOutcome> {
    let run = RunId(crate::random::bytes());
    let (source, host) = (request.name.clone(), request.host.clone());
    // Before anything is read of the repository: a clean-up whose mark follows waits for us,
    // and the marks before are known to us.
    let begun = repository.append(Body::Begin { run, source, host }, None, |_| Ok(()))?;
    // Recorded only after the last hook: a failed one fails the backup.
    let result = hooks::around(request, || harvest(repository, request, run)).and_then(
        |(backup, memory)| {
            request.source.before_record(repository)?;
            let mut outcome = record(repository, backup, begun)?;
            outcome.note = request.source.note();
            // Recorded by now: without it the next backup only takes longer.
            if let Some(Err(error)) = memory.map(memory::BlockMemoryWriter::finish) {
                outcome.warning = Some(crate::error::explain(&error));
            }
            Ok(outcome)
        },
    );
    if result.is_err() && !matches!(result, Err(VaultError::Fenced)) {
        // The run's end lets clean-ups go on sooner. Where even that fails, it is fenced later,
        // and the first failure is what the operator has to hear.
        let _ = repository.append(Body::Abandon { run }, None, |_| Ok(()));
    }
    result
}

fn harvest(
    repository: &mut Repository,
    request: &BackupRequest<'_>,
    run: RunId,
) -> Result<(Backup, Option<memory::BlockMemoryWriter>)> {
    let begun_ms = repository.now_ms();
    let parent = choose_parent(repository, request)?;
    let parent_seq = parent.as_ref().map(|(seq, _)| *seq);
    let (harvest, memory) = threads::harvest(repository, request, run, parent)?;
    let ended_ms = repository.now_ms();
    let counters = &request.counters;
    let backup = Backup {
        run,
        source: request.name.clone(),
        host: request.host.clone(),
        origin: request.source.origin(),
        kind: request.source.kind(),
        subject: Subject {
            root: crate::tree::entry_hash(&crate::tree::canonical(&harvest.top)),
            position: request.source.position(),
            begun_ms,
            ended_ms,
            parent: parent_seq,
            copied: None,
        },
        totals: Totals::of(&harvest.top),
        top: harvest.top,
        statistics: Statistics {
            took_ms: (ended_ms - begun_ms).max(0) as u64,
            ..counters.statistics()
        },
        skipped: harvest.skipped,
        skipped_more: harvest.skipped_more,
    };
    match request.source.original() {
        None => Ok((backup, memory)),
        Some(original) => Ok((as_copy(backup, &original, ended_ms)?, memory)),
    }
}

/// A copy says what its original says: of which machine and when, and what was left out there.
/// How much work it was is its own.
fn as_copy(backup: Backup, original: &Original<'_>, time_ms: i64) -> Result<Backup> {
    let Original { backup: from, repository, record } = *original;
    if from.subject.root != backup.subject.root {
        return Err(VaultError::Damaged {
            object: format!("the copy of `{}`", backup.source),
            what: "it has another root than the original, and was not recorded".to_owned(),
        });
    }
    let copied = Some(Copied { repository, record, time_ms });
    let (begun_ms, ended_ms) = (from.subject.begun_ms, from.subject.ended_ms);
    Ok(Backup {
        host: from.host.clone(),
        subject: Subject { begun_ms, ended_ms, copied, ..backup.subject },
        skipped: from.skipped.clone(),
        skipped_more: from.skipped_more,
        ..backup
    })
}

fn record(repository: &mut Repository, backup: Backup, begun: u64) -> Result<BackupOutcome> {
    let run = backup.run;
    // A lost record may have been the fence of this run, or a mark.
    repository.chain().require_whole(begun, "it may have ended this run")?;
    let body = Body::Backup(Box::new(backup.clone()));
    let seq = repository.append(body, None, |state| still_running(&state.runs, &run))?;
    merge_small_segments(repository)?;
    Ok(BackupOutcome { seq, backup, warning: None, note: None })
}

fn still_running(runs: &std::collections::BTreeMap<RunId, Run>, run: &RunId) -> Result<()> {
    if runs.contains_key(run) { Ok(()) } else { Err(VaultError::Fenced) }
}

fn choose_parent(
    repository: &Repository,
    request: &BackupRequest<'_>,
) -> Result<Option<(u64, Backup)>> {
    let state = repository.state();
    match request.parent {
        Parent::None => Ok(None),
        Parent::Newest => Ok(state.newest(Some(&request.name)).map(|(seq, b)| (seq, b.clone()))),
        Parent::Since(since) => match state.newest(Some(&request.name)) {
            Some((seq, backup)) if since.is(seq, backup) => Ok(Some((seq, backup.clone()))),
            newest => Err(not_since(&request.name, since, newest.map(|(seq, _)| seq))),
        },
        Parent::Record(seq) => match state.backups.get(&seq) {
            Some(backup) => Ok(Some((seq, backup.clone()))),
            None => Err(VaultError::NotFound(format!("there is no backup {seq}"))),
        },
    }
}

fn not_since(name: &str, since: Since, newest: Option<u64>) -> VaultError {
    let newest = match newest {
        Some(seq) => format!("the newest backup of `{name}` is {seq}"),
        None => format!("there is no backup of `{name}`"),
    };
    VaultError::Refused(format!(
        "the map counts since backup {since}, but {newest}: what it does not name may have changed \
         all the same. Back up without --dirty, which reads everything and compares, and start a \
         new bitmap with that backup"
    ))
}

/// Keeps look-ups quick. The backup is recorded by now: an error here is only said.
fn merge_small_segments(repository: &Repository) -> Result<()> {
    let is_small = |s: &crate::index::Segment| s.entries() < SEGMENT_ENTRIES_MAX as u64 / 2;
    let store = &**repository.store();
    let listed = store.list(crate::store::Area::Index, None)?;
    if listed.len() <= SEGMENTS_BEFORE_MERGE {
        return Ok(());
    }
    let index = IndexSet::load(store, repository.ring())?;
    if index.segments().iter().filter(|s| is_small(s)).count() > SEGMENTS_BEFORE_MERGE {
        consolidate(store, repository.ring(), &index, &BTreeSet::new(), is_small)?;
    }
    Ok(())
}
