//! An opened repository: its store, its keys, its chain.

use crate::blobs::Blobs;
use crate::chain::{Appender, Body, Chain, Genesis, Head, HeadMemory, State};
use crate::cluster::{self, Link};
use crate::error::{Rememberer, Result, VaultError, read_again};
use crate::keys::KeyRing;
use crate::keys::deletion::DeletionKey;
use crate::keys::wrap::{Holder, KeyEntry, Wrapped, is_for, unwrap, wrap};
use crate::pace::{PacedStore, Pacer};
use crate::store::{Area, Created, Listed, Store, put_own, selftest};
use age::x25519::Identity;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the format that this code reads and writes.
pub const FORMAT_VERSION: u8 = 1;
/// Recipients of one repository.
pub const RECIPIENTS_MAX: usize = 256;

/// Milliseconds since 1970; an argument, so that tests can set the clock wrong.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's wall clock.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |d| d.as_millis() as i64)
    })
}

/// A recipient of a new repository.
pub struct NewRecipient {
    /// Who holds the secret half.
    pub holder: Holder,
    /// A name for people.
    pub label: String,
    /// `age1…`.
    pub recipient: String,
}

/// What a new repository is to be.
pub struct InitRequest {
    /// At least one.
    pub recipients: Vec<NewRecipient>,
    /// Append-only: the deletion key's verifying key.
    pub deletion_key: Option<[u8; 32]>,
    /// How long forgotten backups stay, and a mark waits before its sweep.
    pub wait: Duration,
}

/// What the caller knows and remembers.
#[derive(Clone)]
pub struct OpenOptions {
    /// Where this machine remembers heads.
    pub memory: Option<HeadMemory>,
    /// A head that the caller knows of.
    pub expect: Option<Head>,
    /// The clock.
    pub clock: Clock,
    /// Keeps what is read and stored within limits.
    pub pacer: Option<Arc<Pacer>>,
    /// A cluster that remembers heads, too.
    pub cluster: Option<Link>,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { memory: None, expect: None, clock: wall_clock(), pacer: None, cluster: None }
    }
}

/// Whether newer records may have been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The chain contains this head, the newest that is remembered.
    Contains(Head),
    /// Nobody here remembers a head.
    NotProvable,
}

/// An opened repository.
pub struct Repository {
    store: Arc<dyn Store>,
    ring: Arc<KeyRing>,
    chain: Chain,
    options: OpenOptions,
    freshness: Freshness,
    notes: Vec<String>,
}

impl Repository {
    /// Tries the store, makes the keys and the first record.
    ///
    /// # Errors
    /// Where the store is not safe, there is a repository already, or the store fails. An
    /// interrupted attempt leaves nothing that a second one would trip over.
    pub fn init(
        store: Arc<dyn Store>,
        request: &InitRequest,
        options: OpenOptions,
    ) -> Result<Repository> {
        if !store.list(Area::Chain, None)?.is_empty() {
            return Err(VaultError::Exists(store.describe()));
        }
        if request.recipients.is_empty() || request.recipients.len() > RECIPIENTS_MAX {
            let what = "the number of recipients (at least 1)".to_owned();
            return Err(VaultError::Limit { what, limit: RECIPIENTS_MAX as u64 });
        }
        selftest::run(&*store, request.deletion_key.is_none())?;
        let ring = Arc::new(KeyRing::random());
        let mut keys = Vec::new();
        for new in &request.recipients {
            let wrapped = wrap(&ring, new.holder, &new.label, &new.recipient)?;
            put_wrapped(&*store, &wrapped)?;
            keys.push(wrapped.entry);
        }
        let genesis = Genesis {
            format: FORMAT_VERSION,
            verifying_key: ring.current().verifying_key(),
            deletion_key: request.deletion_key,
            wait_ms: request.wait.as_millis() as u64,
            keys,
        };
        let time_ms = (options.clock)();
        let appender = Appender { store: &*store, ring: &ring, deletion: None, time_ms };
        let chain = appender.create(genesis)?;
        let chain = chain.ok_or_else(|| VaultError::Exists(store.describe()))?;
        let freshness = Freshness::Contains(chain.head);
        let repository = Repository { store, ring, chain, options, freshness, notes: Vec::new() };
        repository.remember()?;
        Ok(repository)
    }

    /// Opens a repository with a key. Nothing is written to it.
    ///
    /// # Errors
    /// Where there is none, the key is wrong, old or revoked, the chain cannot be read, or it
    /// lacks records that are remembered.
    pub fn open(
        store: Arc<dyn Store>,
        identity: &Identity,
        options: OpenOptions,
    ) -> Result<Repository> {
        let store = paced(store, options.pacer.as_ref());
        let (ring, chain) = unlock(&*store, identity)?;
        let recalled = match &options.memory {
            Some(memory) => memory.recall(&ring.repository)?,
            None => None,
        };
        let expect = options.expect;
        let ring = Arc::new(ring);
        let freshness = Freshness::NotProvable;
        let notes = Vec::new();
        let mut repository = Repository { store, ring, chain, options, freshness, notes };
        for (head, who) in recalled
            .map(|head| (head, Rememberer::Machine))
            .into_iter()
            .chain(expect.map(|head| (head, Rememberer::Caller)))
        {
            repository.must_contain(head, who)?;
        }
        cluster::compare(&mut repository)?;
        repository.remember()?;
        Ok(repository)
    }

    /// Checks that the chain contains a head that someone remembers.
    ///
    /// # Errors
    /// [`VaultError::RolledBack`] where it does not.
    pub(crate) fn must_contain(&mut self, head: Head, who: Rememberer) -> Result<()> {
        // It may have been appended, and remembered by another process or machine, after we read
        // the chain.
        if head.seq > self.chain.head.seq {
            match self.chain.advance(&*self.store, &self.ring) {
                Err(error) if !error.is_damage() => return Err(error),
                // What is damaged is not contained.
                _ => {}
            }
        }
        self.chain.contains(&*self.store, &self.ring, &head, who)?;
        let known = match self.freshness {
            Freshness::Contains(known) => Some(known),
            Freshness::NotProvable => None,
        };
        if known.is_none_or(|known| known.seq < head.seq) {
            self.freshness = Freshness::Contains(head);
        }
        Ok(())
    }

    /// What whoever opened it should hear, and what keeps nobody from working on it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// The cluster that remembers heads, where there is one.
    pub fn cluster(&self) -> Option<&Link> {
        self.options.cluster.as_ref()
    }

    fn remember(&self) -> Result<()> {
        match &self.options.memory {
            Some(memory) => memory.remember(&self.ring.repository, &self.chain.head),
            None => Ok(()),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The keys.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// The chain as last read.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What the chain says.
    pub fn state(&self) -> &State {
        &self.chain.state
    }

    /// Whether newer records may be missing.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// What keeps work on it within limits.
    pub fn pacer(&self) -> Option<&Arc<Pacer>> {
        self.options.pacer.as_ref()
    }

    /// The time, by the clock it was opened with.
    pub fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    /// The repository's identity, for people.
    pub fn id(&self) -> String {
        crate::hex::encode(&self.ring.repository)
    }

    /// Its chunks.
    ///
    /// # Errors
    /// Where the index cannot be listed.
    pub fn blobs(&self) -> Result<Blobs> {
        Blobs::open(Arc::clone(&self.store), Arc::clone(&self.ring))
    }

    /// Reads what others appended.
    ///
    /// # Errors
    /// Where new records cannot be read.
    pub fn refresh(&mut self) -> Result<()> {
        self.chain.advance(&*self.store, &self.ring)?;
        self.remember()
    }

    /// Appends a record and remembers the new head.
    ///
    /// # Errors
    /// See [`Appender::append`].
    pub fn append(
        &mut self,
        body: Body,
        deletion: Option<&DeletionKey>,
        may: impl Fn(&State) -> Result<()>,
    ) -> Result<u64> {
        let time_ms = self.now_ms();
        let appender = Appender { store: &*self.store, ring: &self.ring, deletion, time_ms };
        let seq = appender.append(&mut self.chain, body, may)?;
        self.remember()?;
        Ok(seq)
    }

    /// Wraps the keys for one more recipient.
    ///
    /// # Errors
    /// Where the recipient is no age recipient or the store fails.
    pub fn add_key(&mut self, new: &NewRecipient) -> Result<KeyEntry> {
        if self.state().keys.len() >= RECIPIENTS_MAX {
            let what = "the number of recipients".to_owned();
            return Err(VaultError::Limit { what, limit: RECIPIENTS_MAX as u64 });
        }
        let wrapped = wrap(&self.ring, new.holder, &new.label, &new.recipient)?;
        put_wrapped(&*self.store, &wrapped)?;
        let epoch = self.ring.epoch();
        self.append(Body::KeyAdded(wrapped.entry.clone()), None, |state| same_epoch(state, epoch))?;
        Ok(wrapped.entry)
    }

    /// Makes new keys for everything written from now on, without the recipients in `revoked`.
    /// What was written before stays readable to whoever had those keys.
    ///
    /// # Errors
    /// Where a name is unknown, nobody would be left, or the store fails.
    pub fn rotate(&mut self, revoked: &[String], deletion: Option<&DeletionKey>) -> Result<u32> {
        let is_revoked = |k: &KeyEntry| revoked.iter().any(|r| *r == k.label || *r == k.recipient);
        for name in revoked {
            let known = self.state().keys.iter().any(|k| k.label == *name || k.recipient == *name);
            if !known {
                return Err(VaultError::NotFound(format!("no key is called `{name}`")));
            }
        }
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.state().keys.iter().cloned().partition(is_revoked);
        if kept.is_empty() {
            let what = "nobody could open the repository any more: keep at least one key";
            return Err(VaultError::Refused(what.to_owned()));
        }
        if self.state().is_append_only() && deletion.is_none() {
            return Err(VaultError::NeedsDeletionKey("a rotation"));
        }
        let ring = self.ring.rotated()?;
        let mut keys = Vec::new();
        for key in &kept {
            let wrapped = wrap(&ring, key.holder, &key.label, &key.recipient)?;
            put_wrapped(&*self.store, &wrapped)?;
            keys.push(wrapped.entry);
        }
        let before = self.ring.epoch();
        let body = Body::Rotated {
            epoch: ring.epoch(),
            verifying_key: ring.current().verifying_key(),
            keys,
            revoked: gone.iter().map(|k| k.recipient.clone()).collect(),
        };
        // Signed by the old epoch, which vouches for the new one.
        self.append(body, deletion, |state| same_epoch(state, before))?;
        self.ring = Arc::new(ring);
        Ok(self.ring.epoch())
    }

    /// Proves that an identity opens the repository: its newest wrapped keys unwrap and read
    /// the newest record.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn test_key(&self, identity: &Identity) -> Result<()> {
        let (ring, chain) = unlock(&*self.store, identity)?;
        // By the chain, not by this opening: it may be with the very key that is tested.
        let newest = chain.state.epoch().max(self.state().epoch());
        let current = ring.epoch() == newest && chain.head.seq >= self.chain.head.seq;
        let recipient = identity.to_public().to_string();
        let is_listed = chain.state.keys.iter().any(|key| key.recipient == recipient);
        if current && is_listed && ring.chunk_id_key() == self.ring.chunk_id_key() {
            return Ok(());
        }
        let what = "the key opens only what was written before the newest rotation: it was \
                    revoked, or the object that holds the newest keys for it is lost";
        Err(VaultError::Keys(what.to_owned()))
    }
}

/// Refuses where the keys were rotated in between.
fn same_epoch(state: &State, epoch: u32) -> Result<()> {
    if state.epoch() == epoch {
        return Ok(());
    }
    Err(VaultError::Refused("the keys were rotated meanwhile; open the repository anew".to_owned()))
}

fn put_wrapped(store: &dyn Store, wrapped: &Wrapped) -> Result<()> {
    match put_own(store, &wrapped.entry.object, &wrapped.bytes)? {
        Created::New => Ok(()),
        Created::Exists => {
            Err(VaultError::Refused("a random name was taken; try again".to_owned()))
        }
    }
}

fn paced(store: Arc<dyn Store>, pacer: Option<&Arc<Pacer>>) -> Arc<dyn Store> {
    match pacer {
        Some(pacer) => Arc::new(PacedStore::new(store, Arc::clone(pacer))),
        None => store,
    }
}

/// Finds a wrapped ring that the identity opens and that reads this chain.
fn unlock(store: &dyn Store, identity: &Identity) -> Result<(KeyRing, Chain)> {
    let keys = store.list(Area::Keys, None)?;
    let ours: Vec<&Listed> = keys.iter().filter(|l| is_for(identity, &l.name)).collect();
    let mut failure = None;
    // Names end with the epoch: the newest is tried first.
    for listed in ours.iter().rev() {
        let what = "it does not open with the key that it is for";
        let damaged = || VaultError::damaged(&listed.name, what);
        let read = || unwrap(identity, &store.get(&listed.name)?).ok_or_else(damaged);
        let ring = match read_again(read) {
            Ok(ring) => ring,
            Err(VaultError::Store(error)) => return Err(error.into()),
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        match Chain::read(store, &ring) {
            Ok(chain) => return Ok((ring, chain)),
            // Left over from an attempt at `init` that another one won, or an old copy.
            Err(error) if error.is_damage() => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    if store.list(Area::Chain, None)?.is_empty() {
        return Err(VaultError::NoRepository(store.describe()));
    }
    Err(failure.unwrap_or_else(|| VaultError::WrongKey {
        recipient: identity.to_public().to_string(),
        location: store.describe(),
    }))
}
