//! The state of a repository: what its records say, one after the other.

use super::record::{Record, Signer};
use super::{Backup, Body, Forgotten, Genesis, Mark, RunId};
use crate::keys::wrap::KeyEntry;
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
    /// When each backup was last proven by a restore, and how long that took in milliseconds.
    pub proven: BTreeMap<u64, (i64, u64)>,
    /// Records that were signed by the wrong key and don't count.
    pub refused: Vec<(u64, String)>,
}

/// Refused records that the state remembers.
const REFUSED_MAX: usize = 1000;

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
            refused: Vec::new(),
        }
    }

    /// Whether deletion needs its own key.
    pub fn is_append_only(&self) -> bool {
        self.genesis.deletion_key.is_some()
    }

    /// The newest backup of a source, or of any.
    pub fn newest(&self, source: Option<&str>) -> Option<(u64, &Backup)> {
        let mut backups = self.backups.iter().rev();
        backups.find(|(_, b)| source.is_none_or(|s| b.source == s)).map(|(seq, b)| (*seq, b))
    }

    /// Every backup whose contents must stay: those wanted, and those forgotten not long ago.
    pub fn protected(&self) -> impl Iterator<Item = (u64, &Backup)> {
        let wanted = self.backups.iter().map(|(seq, b)| (*seq, b));
        wanted.chain(self.forgotten.iter().map(|(seq, f)| (*seq, &f.backup)))
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
            Body::Proven { backup, took_ms, .. } => {
                if self.backups.contains_key(backup) {
                    self.proven.insert(*backup, (time_ms, *took_ms));
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
