//! The state of a repository: what its records say, one after the other.

use super::record::{Record, Signer};
use super::{Backup, Body, Forgotten, Genesis, Mark, RunId};
use crate::keys::wrap::KeyEntry;
use crate::postgres::{Lsn, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The record with which it began.
    pub begun: u64,
    /// What it backs up.
    pub source: String,
    /// On which machine.
    pub host: String,
    /// When it last showed life, by its own clock.
    pub time_ms: i64,
}

/// What a repository holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The first record's contents.
    pub genesis: Genesis,
    /// The recipients.
    pub keys: Vec<KeyEntry>,
    /// The verifying key of each epoch.
    pub verifying_keys: BTreeMap<u32, [u8; 32]>,
    /// The backups, by record number.
    pub backups: BTreeMap<u64, Backup>,
    /// Backups that were forgotten and are still protected.
    pub forgotten: BTreeMap<u64, Forgotten>,
    /// Runs under way.
    pub runs: BTreeMap<RunId, Run>,
    /// Marks not swept yet.
    pub marks: BTreeMap<u64, Mark>,
    /// When each backup was last proven by a restore, and what that measured.
    pub proven: BTreeMap<u64, RestoreProof>,
    /// How far each database's log is stored, by source.
    pub archives: BTreeMap<String, ArchiveState>,
    /// Records that were signed by the wrong key and don't count.
    pub refused: Vec<(u64, String)>,
}

/// What the last proof of a backup measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreProof {
    /// When.
    pub time_ms: i64,
    /// How long the restore took; a database's, until it had replayed its log and was open.
    pub took_ms: u64,
    /// Bytes of the files that were restored.
    pub bytes: u64,
    /// Bytes of the log that was restored and replayed with them.
    pub log_bytes: u64,
}

/// How far a database's log is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveState {
    /// The database system's identity.
    pub system: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// The stretches that were acknowledged, by timeline; ascending, and apart.
    pub marks: BTreeMap<u32, Vec<(Lsn, Lsn)>>,
    /// When that was last said.
    pub time_ms: i64,
}

/// Stretches of one timeline that the state remembers; the oldest go first.
const STRETCHES_MAX: usize = 1000;

impl ArchiveState {
    /// Adds a stretch; those that it touches become one with it.
    pub fn acknowledge(&mut self, timeline: u32, from: Lsn, upto: Lsn) {
        let marks = self.marks.entry(timeline).or_default();
        let (mut from, mut upto) = (from, upto);
        marks.retain(|(start, end)| {
            let touches = *start <= upto && from <= *end;
            if touches {
                (from, upto) = (from.min(*start), upto.max(*end));
            }
            !touches
        });
        let place = marks.partition_point(|(start, _)| *start < from);
        marks.insert(place, (from, upto));
        if marks.len() > STRETCHES_MAX {
            marks.remove(0);
        }
    }

    /// The newest timeline, and how far it is stored.
    pub fn newest(&self) -> Option<(u32, Lsn)> {
        let (timeline, stretches) = self.marks.iter().next_back()?;
        Some((*timeline, stretches.last()?.1))
    }

    /// The end of the stretch of a timeline that holds a position, or ends with it.
    pub fn acknowledged(&self, timeline: u32, at: Lsn) -> Option<Lsn> {
        let marks = self.marks.get(&timeline)?;
        marks.iter().find(|(start, end)| *start <= at && at <= *end).map(|(_, end)| *end)
    }
}

/// Refused records that the state remembers.
const REFUSED_MAX: usize = 1000;

/// The newest of these backups. Those made here follow each other by number, whatever the clocks
/// of their machines said; a copy, which may be recorded long after, is placed by its time.
pub fn newest_of<'a>(
    backups: impl IntoIterator<Item = (u64, &'a Backup)>,
) -> Option<(u64, &'a Backup)> {
    let (copies, own): (Vec<_>, Vec<_>) =
        backups.into_iter().partition(|(_, b)| b.subject.copied.is_some());
    let own = own.into_iter().max_by_key(|(seq, _)| *seq);
    let copy = copies.into_iter().max_by_key(|(seq, b)| (b.subject.begun_ms, *seq));
    match (own, copy) {
        (Some(own), Some(copy)) if copy.1.subject.begun_ms <= own.1.subject.begun_ms => Some(own),
        (own, copy) => copy.or(own),
    }
}

impl State {
    /// The state after the first record.
    pub fn new(genesis: Genesis) -> State {
        State {
            keys: genesis.keys.clone(),
            verifying_keys: BTreeMap::from([(0, genesis.verifying_key)]),
            genesis,
            backups: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            runs: BTreeMap::new(),
            marks: BTreeMap::new(),
            proven: BTreeMap::new(),
            archives: BTreeMap::new(),
            refused: Vec::new(),
        }
    }

    /// Whether deletion needs its own key.
    pub fn is_append_only(&self) -> bool {
        self.genesis.deletion_key.is_some()
    }

    /// The key epoch of what is written now.
    pub fn epoch(&self) -> u32 {
        self.verifying_keys.keys().last().copied().unwrap_or_default()
    }

    /// The newest backup of a source, or of any.
    pub fn newest(&self, source: Option<&str>) -> Option<(u64, &Backup)> {
        let all = self.backups.iter().map(|(seq, b)| (*seq, b));
        newest_of(all.filter(|(_, b)| source.is_none_or(|s| b.source == s)))
    }

    /// Every backup whose contents must stay: those wanted, and those forgotten not long ago.
    pub fn protected(&self) -> impl Iterator<Item = (u64, &Backup)> {
        let wanted = self.backups.iter().map(|(seq, b)| (*seq, b));
        wanted.chain(self.forgotten.iter().map(|(seq, f)| (*seq, &f.backup)))
    }

    /// Bytes of the log that a restore of this backup to the newest point replays: from where its
    /// own replay begins to the end of what was acknowledged. Positions count on over a change of
    /// timelines. Zero for what is no database.
    pub fn log_bytes(&self, backup: &Backup) -> u64 {
        let Some(position) = Position::parse(&backup.subject.position) else { return 0 };
        let archive = self.archives.get(&backup.source);
        let end = archive.filter(|archive| archive.system == position.system).and_then(|archive| {
            match archive.newest() {
                Some((timeline, end)) if timeline > position.timeline => Some(end),
                _ => archive.acknowledged(position.timeline, position.stop),
            }
        });
        let end = end.unwrap_or(position.stop).max(position.stop);
        end.0.saturating_sub(position.start.0)
    }

    /// Takes the next record in.
    pub(super) fn apply(&mut self, record: &Record) {
        let seq = record.statement.seq;
        let time_ms = record.statement.time_ms;
        if self.is_append_only()
            && record.body.removes()
            && record.statement.signer != Signer::Deletion
        {
            if self.refused.len() < REFUSED_MAX {
                let why = format!("`{}` without the deletion key", record.body.word());
                self.refused.push((seq, why));
            }
            return;
        }
        match &record.body {
            Body::Genesis(_) | Body::Checkpoint(_) => {}
            Body::Begin { run, source, host } => {
                let (source, host) = (source.clone(), host.clone());
                self.runs.insert(*run, Run { begun: seq, source, host, time_ms });
            }
            Body::Renew { run } => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.time_ms = time_ms;
                }
            }
            // A fenced run's backup cannot follow: its writer has read the fence. One whose
            // beginning is lost counts all the same.
            Body::Backup(backup) => {
                self.runs.remove(&backup.run);
                self.backups.insert(seq, (**backup).clone());
            }
            Body::Abandon { run } | Body::Fence { run } => {
                self.runs.remove(run);
            }
            Body::Forget { backups, .. } => self.forget(backups, time_ms),
            Body::Mark(mark) => self.mark(seq, mark),
            Body::Swept { mark, .. } => {
                self.marks.remove(mark);
            }
            Body::KeyAdded(entry) => self.keys.push(entry.clone()),
            Body::Rotated { epoch, verifying_key, keys, .. } => {
                self.verifying_keys.insert(*epoch, *verifying_key);
                self.keys.clone_from(keys);
            }
            Body::Archived { source, system, segment_bytes, timeline, from, upto } => {
                let archive = self.archives.entry(source.clone()).or_insert(ArchiveState {
                    system: *system,
                    segment_bytes: *segment_bytes,
                    marks: BTreeMap::new(),
                    time_ms,
                });
                if archive.system == *system {
                    archive.acknowledge(*timeline, *from, *upto);
                    archive.time_ms = time_ms;
                }
            }
            Body::Proven { backup, took_ms, bytes, .. } => {
                if let Some(restored) = self.backups.get(backup) {
                    let log_bytes = self.log_bytes(restored);
                    let (took_ms, bytes) = (*took_ms, *bytes);
                    let proof = RestoreProof { time_ms, took_ms, bytes, log_bytes };
                    self.proven.insert(*backup, proof);
                }
            }
        }
    }

    fn forget(&mut self, backups: &[u64], time_ms: i64) {
        for seq in backups {
            if let Some(backup) = self.backups.remove(seq) {
                self.forgotten.insert(*seq, Forgotten { backup, time_ms });
                self.proven.remove(seq);
            }
        }
    }

    fn mark(&mut self, seq: u64, mark: &Mark) {
        mark.released.iter().for_each(|s| {
            self.forgotten.remove(s);
        });
        self.marks.insert(seq, mark.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_touch_are_one() {
        let mut archive =
            ArchiveState { system: 1, segment_bytes: 1, marks: BTreeMap::new(), time_ms: 0 };
        for (from, upto) in [(10, 20), (40, 50), (20, 30), (5, 11), (60, 70), (49, 55)] {
            archive.acknowledge(1, Lsn(from), Lsn(upto));
        }
        let expect = [(5, 30), (40, 55), (60, 70)].map(|(a, b)| (Lsn(a), Lsn(b)));
        assert_eq!(archive.marks[&1], expect);
        assert_eq!(archive.acknowledged(1, Lsn(30)), Some(Lsn(30)));
        assert_eq!(archive.acknowledged(1, Lsn(40)), Some(Lsn(55)));
        assert_eq!(archive.acknowledged(1, Lsn(35)), None);
        assert_eq!(archive.acknowledged(2, Lsn(40)), None);
        archive.acknowledge(1, Lsn(0), Lsn(100));
        assert_eq!(archive.marks[&1], [(Lsn(0), Lsn(100))]);
    }
}
