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

impl Appender<'_> {
    /// Appends the body, provided that `may` still agrees with every record before it. Returns
    /// the record's number.
    ///
    /// # Errors
    /// `may`'s, the store's, and where the deletion key is needed and missing.
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
