//! Damage, loss, crashes, full disks and hostile repositories.

mod beside;
mod clocks;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod damage;
mod flips;
mod images;
mod keys;
mod parts;

use common::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vault::VaultError;
use vault::chain::Head;
use vault::cleanup::{self, CleanupRequest};
use vault::copy::CopyRequest;
use vault::repository::{OpenOptions, Repository};
use vault::store::failpoint::{Crash, FailpointStore};
use vault::store::memory::MemoryStore;
use vault::store::{Area, ObjectName, Store};
use vault::verify::Depth;

/// A repository with a few backups, small enough to try everything on.
struct Small {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    identity: age::x25519::Identity,
    clock: TestClock,
    seqs: Vec<u64>,
    prints: Vec<std::collections::BTreeMap<String, String>>,
}

fn small(backups: u32) -> Small {
    small_of("contents", backups)
}

/// As [`small`], with other words in the files.
fn small_of(words: &str, backups: u32) -> Small {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut repository, identity) = init(store.clone(), &clock);
    let (mut seqs, mut prints) = (Vec::new(), Vec::new());
    fs::write(data.join("sub/same"), "the same in all\n").unwrap();
    for round in 0..backups {
        fs::write(data.join(format!("file{round}")), format!("{words} {round}\n")).unwrap();
        seqs.push(back_up(&mut repository, &data).unwrap().seq);
        prints.push(fingerprint(&data));
    }
    Small { folder, store, identity, clock, seqs, prints }
}

impl Small {
    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn open(&self, store: Arc<dyn Store>) -> vault::Result<Repository> {
        Repository::open(store, &self.identity, self.clock.options())
    }

    fn copy(&self) -> Arc<MemoryStore> {
        Arc::new(MemoryStore::with(self.store.snapshot()))
    }

    /// Restores every backup and compares it with what was backed up.
    fn assert_restorable(&self, repository: &Repository, which: &[usize]) {
        for index in which {
            let back = tempfile::tempdir().unwrap();
            let target = back.path().join("back");
            let report = restore(repository, self.seqs[*index], &target).unwrap();
            assert!(report.is_complete(), "{:?}", report.notes);
            assert_eq!(fingerprint(&target), self.prints[*index]);
        }
    }
}

fn clean_fully(repository: &mut Repository, clock: &TestClock) {
    for _ in 0..4 {
        clock.advance(WAIT + Duration::from_secs(48 * 3600));
        cleanup::run(repository, &CleanupRequest::default()).unwrap();
    }
}

/// Every pack and segment in the store is used.
fn assert_no_garbage(repository: &Repository) {
    let index = vault::index::IndexSet::load(&**repository.store(), repository.ring()).unwrap();
    assert_eq!(index.superseded(), []);
    assert_eq!(index.unmentioned().count(), 0);
    assert!(!index.mentions_missing_packs());
    let live = cleanup::live_packs(repository).unwrap();
    let packs: BTreeSet<_> = index.packs().keys().copied().collect();
    assert_eq!(packs, live);
}

fn assert_restored(repository: &Repository, seq: u64, data: &Path) {
    let back = tempfile::tempdir().unwrap();
    let target = back.path().join("back");
    assert!(restore(repository, seq, &target).unwrap().is_complete());
    assert_eq!(fingerprint(&target), fingerprint(data));
}

/// A store that lists the chain as it was, and has what was appended since.
struct LateListing {
    store: Arc<MemoryStore>,
    listed: u64,
}

impl Store for LateListing {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn put_new(
        &self,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<vault::store::Created, vault::store::StoreError> {
        self.store.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, vault::store::StoreError> {
        self.store.get(name)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), vault::store::StoreError> {
        self.store.get_range(name, offset, out)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, vault::store::StoreError> {
        self.store.size(name)
    }

    fn list(
        &self,
        area: Area,
        after: Option<&ObjectName>,
    ) -> Result<Vec<vault::store::Listed>, vault::store::StoreError> {
        let mut listed = self.store.list(area, after)?;
        listed.retain(|l| l.name.record_seq().is_none_or(|seq| seq < self.listed));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), vault::store::StoreError> {
        self.store.delete(name)
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, vault::store::StoreError> {
        self.store.remove_leftovers(age)
    }

    fn ranges_are_cheap(&self) -> bool {
        true
    }
}
