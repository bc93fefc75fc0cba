//! Appends to the chain: the creator of the next number has decided the order.

use super::record::{self, Draft};
use super::{Body, CHECKPOINT_EVERY, Chain, State};
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::keys::deletion::DeletionKey;
use crate::store::{Created, Store, put_own};

/// How often a writer may lose the race for the next number.
pub const APPEND_TRIES_MAX: u32 = 1000;

/// What appending needs beside the chain.
pub struct Appender<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The keys.
    pub ring: &'a KeyRing,
    /// Signs instead of the writer's key.
    pub deletion: Option<&'a DeletionKey>,
    /// The time to write into the record.
    pub time_ms: i64,
}

/// What is written from a rotation on is under its keys, and nobody else's.
const ROTATED: &str = "the keys were rotated, and this process has the old ones: run the command \
    again. Where that is refused, too, this machine's key was revoked";

impl Appender<'_> {
    /// Appends the body, provided that `may` still agrees with every record before it. Returns
    /// the record's number.
    ///
    /// # Errors
    /// `may`'s, the store's, where the deletion key is needed and missing, and where the keys were
    /// rotated since the ring was read.
    pub fn append(
        &self,
        chain: &mut Chain,
        body: Body,
        may: impl Fn(&State) -> Result<()>,
    ) -> Result<u64> {
        if body.removes() && chain.state.is_append_only() && self.deletion.is_none() {
            return Err(VaultError::NeedsDeletionKey(body.word()));
        }
        if let Some(key) = self.deletion
            && chain.state.genesis.deletion_key != Some(key.verifying_key())
        {
            let what = "this is not the deletion key of this repository; nothing was written";
            return Err(VaultError::Refused(what.to_owned()));
        }
        for _ in 0..APPEND_TRIES_MAX {
            if chain.state.epoch() > self.ring.epoch() {
                return Err(VaultError::Keys(ROTATED.to_owned()));
            }
            may(&chain.state)?;
            let seq = chain.head.seq + 1;
            let is_checkpoint = seq.is_multiple_of(CHECKPOINT_EVERY);
            let next = match is_checkpoint {
                true => Body::Checkpoint(Box::new(chain.state.clone())),
                false => body.clone(),
            };
            let draft = Draft {
                ring: self.ring,
                seq,
                previous: chain.head.hash,
                time_ms: self.time_ms,
                deletion: self.deletion,
            };
            let (name, bytes, record) = record::write(&draft, next);
            match put_own(self.store, &name, &bytes)? {
                Created::New => {
                    chain.accept(&record);
                    if !is_checkpoint {
                        return Ok(seq);
                    }
                }
                Created::Exists => chain.advance(self.store, self.ring)?,
            }
        }
        let what = "the number of lost races for the next record".to_owned();
        Err(VaultError::Limit { what, limit: u64::from(APPEND_TRIES_MAX) })
    }

    /// Creates the first record; false where the repository exists already.
    ///
    /// # Errors
    /// The store's.
    pub fn create(&self, genesis: super::Genesis) -> Result<Option<Chain>> {
        let draft = Draft {
            ring: self.ring,
            seq: 0,
            previous: [0; 32],
            time_ms: self.time_ms,
            deletion: None,
        };
        let (name, bytes, _) = record::write(&draft, Body::Genesis(genesis));
        match put_own(self.store, &name, &bytes)? {
            Created::New => Chain::read(self.store, self.ring).map(Some),
            Created::Exists => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Genesis, RunId};
    use crate::store::memory::MemoryStore;

    fn abandon() -> Body {
        Body::Abandon { run: RunId([7; 16]) }
    }

    /// A chain with a rotation as its newest record, and the keys before and after it.
    fn rotated() -> (MemoryStore, KeyRing, KeyRing) {
        let (store, old) = (MemoryStore::new(), KeyRing::random());
        let new = old.rotated().unwrap();
        let genesis = Genesis {
            format: crate::repository::FORMAT_VERSION,
            verifying_key: old.current().verifying_key(),
            deletion_key: None,
            wait_ms: 0,
            keys: Vec::new(),
        };
        let by = Appender { store: &store, ring: &old, deletion: None, time_ms: 0 };
        let mut chain = by.create(genesis).unwrap().unwrap();
        let (keys, revoked) = (Vec::new(), Vec::new());
        let verifying_key = new.current().verifying_key();
        let body = Body::Rotated { epoch: new.epoch(), verifying_key, keys, revoked };
        by.append(&mut chain, body, |_| Ok(())).unwrap();
        (store, old, new)
    }

    #[test]
    fn nothing_is_appended_under_keys_that_were_rotated() {
        let (store, old, new) = rotated();
        let by = |ring| Appender { store: &store, ring, deletion: None, time_ms: 0 };
        // Read before the rotation or after it: the chain that is appended to knows of it.
        let mut chain = Chain::read(&store, &old).unwrap();
        let error = by(&old).append(&mut chain, abandon(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("rotated"), "{error}");
        assert_eq!(Chain::read(&store, &new).unwrap().head.seq, 1);
        assert_eq!(by(&new).append(&mut chain, abandon(), |_| Ok(())).unwrap(), 2);
    }

    #[test]
    fn a_record_under_keys_that_were_rotated_does_not_count() {
        let (store, old, new) = rotated();
        let mut reader = Chain::read(&store, &new).unwrap();
        // Whoever has the old keys, and may write to the store, puts one there.
        let run = RunId([9; 16]);
        let body = Body::Begin { run, source: "forged".into(), host: "revoked".into() };
        let previous = reader.head.hash;
        let draft = Draft { ring: &old, seq: 2, previous, time_ms: 0, deletion: None };
        let (name, bytes, _) = record::write(&draft, body);
        store.put_new(&name, &bytes).unwrap();
        for chain in [Chain::read(&store, &new), Chain::read_all(&store, &new)] {
            let chain = chain.unwrap();
            assert_eq!(chain.head.seq, 1);
            assert!(chain.state.runs.is_empty());
            let told = |p: &crate::chain::Problem| p.seq == 2 && p.what.contains("revoked");
            assert!(chain.problems.iter().any(told), "{:?}", chain.problems);
        }
        let error = reader.advance(&store, &new).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains("revoked"), "{error}");
    }
}
