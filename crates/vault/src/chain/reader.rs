//! Reads the chain: from its newest checkpoint for work, all of it for verification.

use super::record::{self, Record};
use super::{Body, CHECKPOINT_EVERY, Head, State};
use crate::error::{Rememberer, Result, VaultError, read_again};
use crate::keys::KeyRing;
use crate::store::{Area, ObjectName, Store};
use std::collections::{BTreeMap, BTreeSet};

/// A record that is missing, damaged, or does not follow the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its number.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

/// The chain as it was read.
#[derive(Clone, Debug)]
pub struct Chain {
    /// What its records say together.
    pub state: State,
    /// Its newest record.
    pub head: Head,
    /// What is wrong among the records read.
    pub problems: Vec<Problem>,
    /// Hashes of the records read.
    hashes: BTreeMap<u64, [u8; 32]>,
}

impl Chain {
    /// Reads from the newest readable checkpoint.
    ///
    /// # Errors
    /// Where there is no chain, no checkpoint and no first record that can be read, or the
    /// store fails.
    pub fn read(store: &dyn Store, ring: &KeyRing) -> Result<Chain> {
        let seqs = list(store)?;
        let newest = *seqs.last().expect("list refuses an empty chain");
        Chain::read_from(store, ring, &seqs, newest - newest % CHECKPOINT_EVERY)
    }

    /// Reads and links every record.
    ///
    /// # Errors
    /// As [`Chain::read`].
    pub fn read_all(store: &dyn Store, ring: &KeyRing) -> Result<Chain> {
        let seqs = list(store)?;
        match Chain::read_from(store, ring, &seqs, 0) {
            Ok(chain) => Ok(chain),
            // The first record is lost: what a checkpoint says still counts, with the loss.
            Err(error) if error.is_damage() => {
                let mut chain = Chain::read(store, ring)?;
                let what = crate::error::what(&error);
                chain.problems.insert(0, Problem { seq: 0, what });
                Ok(chain)
            }
            Err(error) => Err(error),
        }
    }

    fn read_from(
        store: &dyn Store,
        ring: &KeyRing,
        seqs: &BTreeSet<u64>,
        start: u64,
    ) -> Result<Chain> {
        let mut problems = Vec::new();
        let mut start = start;
        let (state, first) = loop {
            match fetch(store, ring, start, None).and_then(|r| begin(&r).map(|s| (s, r))) {
                Ok(found) => break found,
                Err(error) if start == 0 || !error.is_damage() => return Err(error),
                Err(error) => {
                    problems.push(Problem { seq: start, what: crate::error::what(&error) })
                }
            }
            start -= CHECKPOINT_EVERY;
        };
        let head = Head { seq: start, hash: first.hash };
        let hashes = BTreeMap::from([(start, first.hash)]);
        let mut chain = Chain { state, head, problems, hashes };
        let newest = *seqs.last().expect("list refuses an empty chain");
        for seq in start + 1..=newest {
            chain.take(store, ring, seq)?;
        }
        chain.problems.sort_by_key(|p| p.seq);
        chain.problems.dedup_by_key(|p| p.seq);
        Ok(chain)
    }

    /// Reads one further record; a missing or damaged one becomes a problem.
    fn take(&mut self, store: &dyn Store, ring: &KeyRing, seq: u64) -> Result<()> {
        match fetch(store, ring, seq, self.state.genesis.deletion_key) {
            Ok(record) if self.is_stale(&record) => {
                self.problems.push(Problem { seq, what: STALE.to_owned() });
            }
            Ok(record) => {
                let follows = self.head.seq + 1 == seq;
                if follows && record.statement.previous != self.head.hash {
                    let what = format!("it does not follow record {}", seq - 1);
                    self.problems.push(Problem { seq, what });
                }
                self.accept(&record);
            }
            Err(VaultError::Store(error)) if error.is_not_found() => {
                self.problems.push(Problem { seq, what: "it is missing".to_owned() });
            }
            // A key that is too old must not work on as if the record were only damaged.
            Err(error @ VaultError::NewerKey { .. }) => return Err(error),
            Err(error) if error.is_damage() => {
                self.problems.push(Problem { seq, what: crate::error::what(&error) });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether it is written under keys that had ended before it: by nobody who may write.
    fn is_stale(&self, record: &Record) -> bool {
        record.statement.epoch < self.state.epoch()
    }

    pub(super) fn accept(&mut self, record: &Record) {
        if let Body::Checkpoint(state) = &record.body
            && !self.problems.is_empty()
        {
            // Records before it were lost: the checkpoint knows what they said.
            self.state = (**state).clone();
        }
        self.state.apply(record);
        self.head = Head { seq: record.statement.seq, hash: record.hash };
        self.hashes.insert(self.head.seq, record.hash);
    }

    /// Reads what others appended since.
    ///
    /// # Errors
    /// Where a new record is damaged, or the store fails.
    pub fn advance(&mut self, store: &dyn Store, ring: &KeyRing) -> Result<()> {
        loop {
            let seq = self.head.seq + 1;
            match fetch(store, ring, seq, self.state.genesis.deletion_key) {
                Ok(record)
                    if record.statement.previous == self.head.hash && !self.is_stale(&record) =>
                {
                    self.accept(&record);
                }
                Ok(record) => {
                    let stale = self.is_stale(&record);
                    let what = if stale { STALE } else { "no successor of the one before" };
                    return Err(VaultError::BrokenChain {
                        seq,
                        what: what.to_owned(),
                        why: "someone else's decisions may be lost",
                    });
                }
                Err(VaultError::Store(error)) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses to go on where any record since `from` could not be read.
    ///
    /// # Errors
    /// Naming the first such record.
    pub fn require_whole(&self, from: u64, why: &'static str) -> Result<()> {
        match self.problems.iter().find(|p| p.seq >= from) {
            None => Ok(()),
            Some(p) => Err(VaultError::BrokenChain { seq: p.seq, what: p.what.clone(), why }),
        }
    }

    /// Checks that this chain contains a head that someone remembers.
    ///
    /// # Errors
    /// [`VaultError::RolledBack`] where it does not.
    pub fn contains(
        &self,
        store: &dyn Store,
        ring: &KeyRing,
        known: &Head,
        who: Rememberer,
    ) -> Result<()> {
        let rolled_back = |found: String| VaultError::RolledBack {
            location: store.describe(),
            who,
            remembered: known.seq,
            hash: crate::hex::encode(&known.hash[..8]),
            found,
        };
        if known.seq > self.head.seq {
            return Err(rolled_back(format!("and the newest there is {}", self.head.seq)));
        }
        let other = || rolled_back("and another record has that number".to_owned());
        if let Some(hash) = self.hashes.get(&known.seq) {
            return if *hash == known.hash { Ok(()) } else { Err(other()) };
        }
        if self.problems.iter().any(|p| p.seq == known.seq) {
            return Err(rolled_back("and that record is missing or damaged".to_owned()));
        }
        // Older than what was read: follow the links from it to the first record read.
        let first = *self.hashes.keys().next().expect("a chain has a record");
        let mut hash = known.hash;
        for seq in known.seq..=first {
            let record = fetch(store, ring, seq, self.state.genesis.deletion_key)?;
            let is_next = seq == known.seq || record.statement.previous == hash;
            if !is_next || (seq == known.seq && record.hash != known.hash) {
                return Err(other());
            }
            hash = record.hash;
        }
        if Some(&hash) == self.hashes.get(&first) { Ok(()) } else { Err(other()) }
    }

    /// The signed statement of a record and its signature, for proofs.
    ///
    /// # Errors
    /// Where the record cannot be read.
    pub fn signed(
        &self,
        store: &dyn Store,
        ring: &KeyRing,
        seq: u64,
    ) -> Result<(Vec<u8>, Vec<u8>, [u8; 32])> {
        let record = fetch(store, ring, seq, self.state.genesis.deletion_key)?;
        let epoch = record.statement.epoch;
        let key = ring.at(epoch).map(|k| k.verifying_key());
        let key = key.ok_or_else(|| VaultError::Keys(format!("key epoch {epoch} is unknown")))?;
        Ok((record.signed.0, record.signed.1, key))
    }
}

/// Said of a record that a revoked key may have written.
const STALE: &str = "written under keys that a rotation before it had ended: a key that was \
    revoked may have written it, and it does not count";

/// Records that may be missing below the newest: far more than can be lost by chance. Beyond it
/// the newest name is a lie, and looking for each number below it would never end.
const MISSING_MAX: u64 = 100_000;

/// The numbers of all records.
fn list(store: &dyn Store) -> Result<BTreeSet<u64>> {
    let listed = store.list(Area::Chain, None)?;
    let seqs: BTreeSet<u64> = listed.iter().filter_map(|l| l.name.record_seq()).collect();
    let newest = *seqs.last().ok_or_else(|| VaultError::NoRepository(store.describe()))?;
    if newest - (seqs.len() as u64 - 1) > MISSING_MAX {
        return Err(VaultError::BrokenChain {
            seq: newest,
            what: format!("far beyond the {} records that there are", seqs.len()),
            why: "no backup writes such a number: remove the object where nobody knows of it",
        });
    }
    Ok(seqs)
}

fn fetch(
    store: &dyn Store,
    ring: &KeyRing,
    seq: u64,
    deletion_key: Option<[u8; 32]>,
) -> Result<Record> {
    let name = ObjectName::of_record(seq);
    read_again(|| record::read(ring, seq, store.get(&name)?, deletion_key))
}

/// The state with which reading begins at this record.
fn begin(record: &Record) -> Result<State> {
    match &record.body {
        Body::Genesis(genesis) if record.statement.seq == 0 => Ok(State::new(genesis.clone())),
        Body::Checkpoint(state) => Ok((**state).clone()),
        _ => {
            let name = ObjectName::of_record(record.statement.seq);
            Err(VaultError::damaged(&name, "it is no checkpoint, as its number demands"))
        }
    }
}
