//! Damage, loss, crashes, full disks and hostile repositories.

mod common;

use common::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vault::VaultError;
use vault::chain::Head;
use vault::cleanup::{self, CleanupRequest};
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
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut repository, identity) = init(store.clone(), &clock);
    let (mut seqs, mut prints) = (Vec::new(), Vec::new());
    fs::write(data.join("sub/same"), "the same in all\n").unwrap();
    for round in 0..backups {
        fs::write(data.join(format!("file{round}")), format!("contents {round}\n")).unwrap();
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

#[test]
fn a_bit_flipped_at_every_byte_is_found() {
    let small = small(2);
    let objects = small.store.snapshot();
    let mut tried = 0;
    for (name, bytes) in &objects {
        for byte in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[byte] ^= 1 << (byte % 8);
            let store = small.copy();
            store.overwrite(name, altered);
            // Either the repository refuses to open, or verification names the object.
            if let Ok(repository) = small.open(store) {
                let report = verify(&repository, Depth::Bytes).unwrap();
                assert!(!report.is_intact(), "{name} byte {byte}");
                let named = report.findings.iter().any(|f| {
                    let text = f.to_string();
                    let record = name.record_seq().map(|seq| format!("record {seq}:"));
                    text.contains(name.leaf()) || record.is_some_and(|r| text.contains(&r))
                });
                assert!(named, "{name} byte {byte}: {:?}", report.findings);
            }
            tried += 1;
        }
    }
    assert!(tried > 4000, "{tried} bytes");
}

/// Flips a bit of a pack and returns what verification says.
fn flipped(small: &Small, name: &ObjectName, byte: usize) -> vault::verify::VerifyReport {
    let store = small.copy();
    let mut altered = small.store.get(name).unwrap();
    altered[byte] ^= 0x10;
    store.overwrite(name, altered);
    let repository = small.open(store).unwrap();
    verify(&repository, Depth::Bytes).unwrap()
}

#[test]
fn damage_in_what_no_backup_refers_to_is_named_and_harms_no_backup() {
    // A file that changes while it is read is read again: what was stored of the first reading
    // belongs to no backup, like everything of a run whose last step failed.
    let small = small(2);
    let before: BTreeSet<ObjectName> = small.store.snapshot().into_keys().collect();
    fs::write(small.data().join("file0"), noise(7, 100_000)).unwrap();
    let mut repository = small.open(small.store.clone()).unwrap();
    let source = vault::source::directory::DirectorySource::new(&small.data(), &[], false);
    let source = source.unwrap();
    let failing =
        vault::backup::BackupRequest { after: Some("false".to_owned()), ..request(&source) };
    let failed = vault::backup::run(&mut repository, &failing);
    assert!(matches!(failed, Err(VaultError::Command { .. })), "{failed:?}");
    let objects = small.store.snapshot();
    let orphan = objects.keys().find(|n| n.area() == Area::Packs && !before.contains(n));
    let orphan = orphan.expect("the failed run stored something");
    let report = flipped(&small, orphan, objects[orphan].len() / 2);
    let named = report.findings.iter().any(|f| f.to_string().contains(orphan.leaf()));
    assert!(named && report.damaged_backups.is_empty(), "{report:?}");
}

#[test]
fn a_damaged_header_of_a_pack_damages_every_backup_that_needs_it() {
    let small = small(2);
    let objects = small.store.snapshot();
    let packs = objects.keys().filter(|n| n.area() == Area::Packs);
    let mut damaged: BTreeSet<u64> = BTreeSet::new();
    for pack in packs {
        // Byte 20 is salt of the header: no chunk opens any more. The last byte is the table's
        // length: every chunk still opens by the index.
        let report = flipped(&small, pack, 20);
        assert!(!report.damaged_backups.is_empty(), "{pack}: {report:?}");
        damaged.extend(&report.damaged_backups);
        let report = flipped(&small, pack, objects[pack].len() - 1);
        assert!(!report.is_intact() && report.damaged_backups.is_empty(), "{pack}: {report:?}");
    }
    assert_eq!(damaged, small.seqs.iter().copied().collect());
}

#[test]
fn every_object_removed_in_turn_is_named_and_the_rest_restored() {
    let small = small(3);
    for name in small.store.snapshot().keys() {
        let store = small.copy();
        store.delete(name).unwrap();
        let repository = match small.open(store.clone()) {
            Ok(repository) => repository,
            Err(error) => {
                // Without its only key, or its first record, nothing opens, and it says why.
                let lone = name.area() == Area::Keys || name.record_seq() == Some(0);
                assert!(lone, "{name}: {error}");
                continue;
            }
        };
        let newest = name.record_seq().is_some_and(|seq| seq == small.seqs[2]);
        let report = verify(&repository, Depth::Structure).unwrap();
        // The newest record leaves no gap: only a remembered head shows that it is gone.
        assert_eq!(report.is_intact(), newest, "{name}: {:?}", report.findings);
        let damaged: BTreeSet<u64> = report.damaged_backups.iter().copied().collect();
        for (index, seq) in small.seqs.iter().enumerate() {
            if repository.state().backups.contains_key(seq) && !damaged.contains(seq) {
                small.assert_restorable(&repository, &[index]);
            } else if let Some(backup) = repository.state().backups.get(seq) {
                let back = tempfile::tempdir().unwrap();
                let request = restore_request(&back.path().join("back"));
                let blobs = repository.blobs().unwrap();
                let report = vault::restore::run(&blobs, backup, &request);
                assert!(report.is_err() || !report.unwrap().is_complete(), "{name}");
            } else {
                assert_eq!(name.record_seq(), Some(*seq), "{name}");
            }
        }
    }
}

#[test]
fn the_newest_backup_removed_is_caught_against_a_remembered_head() {
    let small = small(2);
    let head = small.open(small.store.clone()).unwrap().chain().head;
    let store = small.copy();
    store.delete(&ObjectName::of_record(small.seqs[1])).unwrap();
    let open = |expect: Option<Head>| {
        let options = OpenOptions { expect, ..small.clock.options() };
        Repository::open(store.clone(), &small.identity, options)
    };
    assert!(!verify(&open(None).unwrap(), Depth::Bytes).unwrap().fresh);
    let error = open(Some(head)).err().unwrap();
    assert!(matches!(error, VaultError::RolledBack { .. }), "{error}");
    // An older head is contained, whatever was read.
    let first = Head { seq: head.seq, hash: [7; 32] };
    let whole = Repository::open(
        small.store.clone(),
        &small.identity,
        OpenOptions { expect: Some(first), ..small.clock.options() },
    );
    assert!(matches!(whole.err().unwrap(), VaultError::RolledBack { .. }));
}

#[test]
fn a_crash_at_every_change_of_a_backup_harms_nothing_and_leaks_nothing() {
    let small = small(1);
    fs::write(small.data().join("new"), noise(9, 100_000)).unwrap();
    let count = {
        let store = Arc::new(FailpointStore::new(small.copy(), Crash::Never));
        let mut repository = small.open(store.clone()).unwrap();
        back_up(&mut repository, &small.data()).unwrap();
        store.changes()
    };
    assert!(count >= 4, "{count} changes");
    for n in 1..=count {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let inner = small.copy();
            let mut crashing =
                small.open(Arc::new(FailpointStore::new(inner.clone(), crash))).unwrap();
            let result = back_up(&mut crashing, &small.data());
            assert!(result.is_err() || crash == Crash::After(count), "{crash:?}");
            let mut repository = small.open(inner.clone()).unwrap();
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&repository, &[0]);
            // The next backup works, and clean-up removes what the dead run left.
            back_up(&mut repository, &small.data()).unwrap();
            clean_fully(&mut repository, &small.clock);
            assert_no_garbage(&repository);
            assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
            small.assert_restorable(&repository, &[0]);
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

#[test]
fn a_crash_at_every_change_of_a_clean_up_harms_nothing() {
    let small = small(3);
    let prepare = |store: Arc<dyn Store>| {
        let mut repository = small.open(store).unwrap();
        let forget = vault::chain::Body::Forget { backups: vec![small.seqs[1]], why: "".into() };
        repository.append(forget, None, |_| Ok(())).unwrap();
        repository
    };
    let run = |repository: &mut Repository| -> vault::Result<()> {
        for _ in 0..3 {
            small.clock.advance(WAIT + Duration::from_secs(48 * 3600));
            cleanup::run(repository, &CleanupRequest::default())?;
        }
        Ok(())
    };
    let count = {
        let inner = small.copy();
        prepare(inner.clone());
        let store = Arc::new(FailpointStore::new(inner, Crash::Never));
        run(&mut small.open(store.clone()).unwrap()).unwrap();
        store.changes()
    };
    assert!(count >= 5, "{count} changes");
    for n in 1..=count {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let inner = small.copy();
            prepare(inner.clone());
            let mut crashing =
                small.open(Arc::new(FailpointStore::new(inner.clone(), crash))).unwrap();
            let result = run(&mut crashing);
            assert!(result.is_err() || crash == Crash::After(count), "{crash:?}");
            let mut repository = small.open(inner).unwrap();
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&repository, &[0, 2]);
            clean_fully(&mut repository, &small.clock);
            assert_no_garbage(&repository);
            small.assert_restorable(&repository, &[0, 2]);
        }
    }
}

#[test]
fn a_full_store_fails_the_backup_and_nothing_else() {
    let small = small(1);
    fs::write(small.data().join("new"), noise(9, 3 << 20)).unwrap();
    for capacity in [0, 1000, 1 << 20, 3 << 20] {
        let inner = small.copy();
        let store = Arc::new(FailpointStore::full_after(inner.clone(), capacity));
        let mut repository = small.open(store).unwrap();
        let error = back_up(&mut repository, &small.data()).unwrap_err();
        let text = vault::error::explain(&error);
        assert!(text.contains("no storage space"), "{text}");
        let repository = small.open(inner).unwrap();
        assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
        small.assert_restorable(&repository, &[0]);
    }
}

#[test]
fn a_wrong_key_is_told_before_anything_is_written() {
    let small = small(1);
    let before = small.store.snapshot();
    let stranger = age::x25519::Identity::generate();
    let error = Repository::open(small.store.clone(), &stranger, small.clock.options());
    let error = error.err().unwrap();
    assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
    assert_eq!(small.store.snapshot(), before);
    let empty = Repository::open(Arc::new(MemoryStore::new()), &stranger, small.clock.options());
    assert!(matches!(empty.err().unwrap(), VaultError::NoRepository(_)));
}

#[test]
fn a_revoked_key_opens_nothing_that_follows() {
    let small = small(1);
    let mut repository = small.open(small.store.clone()).unwrap();
    let other = age::x25519::Identity::generate();
    let new = vault::repository::NewRecipient {
        holder: vault::keys::wrap::Holder::Recovery,
        label: "recovery".to_owned(),
        recipient: other.to_public().to_string(),
    };
    repository.add_key(&new).unwrap();
    repository.test_key(&other).unwrap();
    assert_eq!(repository.rotate(&["machine".to_owned()], None).unwrap(), 1);
    back_up(&mut repository, &small.data()).unwrap();
    let error = small.open(small.store.clone()).err().unwrap();
    assert!(matches!(error, VaultError::NewerKey { .. }), "{error}");
    let reopened = Repository::open(small.store.clone(), &other, small.clock.options()).unwrap();
    small.assert_restorable(&reopened, &[0]);
    assert!(verify(&reopened, Depth::Bytes).unwrap().is_intact());
    assert!(repository.rotate(&["recovery".to_owned()], None).is_err(), "nobody would be left");
}

#[test]
fn a_damaged_index_is_replaced_by_what_the_packs_say() {
    let small = small(2);
    let store = small.copy();
    for listed in store.list(Area::Index, None).unwrap() {
        store.delete(&listed.name).unwrap();
    }
    let mut repository = small.open(store).unwrap();
    assert!(!verify(&repository, Depth::Structure).unwrap().is_intact());
    small.assert_restorable(&repository, &[0, 1]);
    clean_fully(&mut repository, &small.clock);
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    assert_no_garbage(&repository);
    small.assert_restorable(&repository, &[0, 1]);
}

#[test]
fn a_lost_pack_is_stored_again_by_the_next_backup() {
    let small = small(1);
    let store = small.copy();
    for listed in store.list(Area::Packs, None).unwrap() {
        store.delete(&listed.name).unwrap();
    }
    let mut repository = small.open(store).unwrap();
    let report = verify(&repository, Depth::Structure).unwrap();
    assert_eq!(report.damaged_backups, [small.seqs[0]]);
    back_up(&mut repository, &small.data()).unwrap();
    // Equal contents have equal chunks: the old backup is whole again too.
    assert!(verify(&repository, Depth::Bytes).unwrap().damaged_backups.is_empty());
    small.assert_restorable(&repository, &[0]);
}

#[test]
fn a_clean_up_beside_a_running_backup_takes_nothing_that_it_uses() {
    let small = small(2);
    let path = small.data();
    let mut writer = small.open(small.store.clone()).unwrap();
    let mut cleaner = small.open(small.store.clone()).unwrap();
    // A run begins, and only then the backup that it will build on is forgotten and cleaned up.
    let run = vault::chain::RunId([5; 16]);
    let begin = vault::chain::Body::Begin { run, source: "data".into(), host: "b".into() };
    writer.append(begin, None, |_| Ok(())).unwrap();
    let forget = vault::chain::Body::Forget { backups: small.seqs.clone(), why: "".into() };
    cleaner.append(forget, None, |_| Ok(())).unwrap();
    let before = small.store.list(Area::Packs, None).unwrap();
    for _ in 0..3 {
        small.clock.advance(WAIT + Duration::from_secs(60));
        cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    }
    assert_eq!(small.store.list(Area::Packs, None).unwrap(), before, "the sweep waits");
    // A run that shows no life for a day loses its right to record, and the sweep goes on.
    clean_fully(&mut cleaner, &small.clock);
    writer.refresh().unwrap();
    assert!(!writer.state().runs.contains_key(&run));
    assert!(small.store.list(Area::Packs, None).unwrap().is_empty());
    // The next backup finds nothing to build on and stores everything anew.
    let seq = back_up(&mut writer, &path).unwrap().seq;
    assert!(verify(&writer, Depth::Bytes).unwrap().is_intact());
    assert_restored(&writer, seq, &path);
}

fn assert_restored(repository: &Repository, seq: u64, data: &Path) {
    let back = tempfile::tempdir().unwrap();
    let target = back.path().join("back");
    assert!(restore(repository, seq, &target).unwrap().is_complete());
    assert_eq!(fingerprint(&target), fingerprint(data));
}

#[test]
fn doomed_chunks_that_a_new_backup_needs_are_stored_again_or_spared() {
    let small = small(2);
    let mut cleaner = small.open(small.store.clone()).unwrap();
    let forget = vault::chain::Body::Forget { backups: small.seqs.clone(), why: "".into() };
    cleaner.append(forget, None, |_| Ok(())).unwrap();
    small.clock.advance(WAIT + Duration::from_secs(60));
    cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    assert_eq!(cleaner.state().marks.len(), 1);
    // The mark is in the chain: whoever begins now does not build on what it dooms.
    let mut writer = small.open(small.store.clone()).unwrap();
    let seq = back_up(&mut writer, &small.data()).unwrap().seq;
    clean_fully(&mut cleaner, &small.clock);
    writer.refresh().unwrap();
    assert!(verify(&writer, Depth::Bytes).unwrap().is_intact());
    assert_restored(&writer, seq, &small.data());
}

#[test]
fn an_append_only_repository_forgets_nothing_without_its_deletion_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let key = vault::keys::deletion::DeletionKey::random();
    let (mut repository, _) = init_with(store.clone(), &clock, Some(key.verifying_key()));
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let forget = || vault::chain::Body::Forget { backups: vec![seq], why: "".into() };
    let error = repository.append(forget(), None, |_| Ok(())).unwrap_err();
    assert!(matches!(error, VaultError::NeedsDeletionKey(_)), "{error}");
    let error = cleanup::run(&mut repository, &CleanupRequest::default()).unwrap_err();
    assert!(matches!(error, VaultError::NeedsDeletionKey(_)), "{error}");
    let wrong = vault::keys::deletion::DeletionKey::random();
    let error = repository.append(forget(), Some(&wrong), |_| Ok(())).unwrap_err();
    assert!(matches!(error, VaultError::Refused(_)), "{error}");
    assert_eq!(repository.state().backups.len(), 1);
    let request = CleanupRequest { deletion: Some(&key), ..CleanupRequest::default() };
    let mut owner = repository;
    owner.append(forget(), Some(&key), |_| Ok(())).unwrap();
    cleanup::run(&mut owner, &request).unwrap();
    // The waiting time protects what was forgotten.
    assert_eq!(owner.state().forgotten.len(), 1);
    assert!(verify(&owner, Depth::Bytes).unwrap().is_intact());
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(60));
        cleanup::run(&mut owner, &request).unwrap();
    }
    assert!(store.list(Area::Packs, None).unwrap().is_empty());
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

#[test]
fn what_was_appended_while_the_chain_was_read_is_no_rollback() {
    let small = small(2);
    let head = small.open(small.store.clone()).unwrap().chain().head;
    // Another process of this machine appended it, and remembers it.
    let options = || OpenOptions { expect: Some(head), ..small.clock.options() };
    for listed in head.seq - 1..=head.seq {
        let store = Arc::new(LateListing { store: small.store.clone(), listed });
        let repository = Repository::open(store, &small.identity, options()).unwrap();
        assert_eq!(repository.chain().head, head);
    }
    // Where it is gone, it is gone.
    let store = small.copy();
    store.delete(&ObjectName::of_record(head.seq)).unwrap();
    let opened = Repository::open(store, &small.identity, options());
    assert!(matches!(opened, Err(VaultError::RolledBack { .. })));
}
