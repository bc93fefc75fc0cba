//! What is flipped, removed or put back.

use super::*;

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
