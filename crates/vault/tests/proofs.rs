//! Inclusion proofs, equality with live data, export.

mod common;

use common::*;
use std::fs;
use std::sync::Arc;
use vault::proof::{Proof, prove};
use vault::source::directory::DirectorySource;
use vault::store::memory::MemoryStore;

#[test]
fn a_file_of_a_large_directory_is_proven_to_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    for n in 0..1500 {
        fs::write(data.join(format!("a/deep/{n:05}")), format!("{n}")).unwrap();
    }
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let blobs = repository.blobs().unwrap();
    for path in ["a/deep/00777", "a/deep/er/noise", "text", "z-also-one"] {
        let proof = prove(&repository, &blobs, seq, path.as_bytes()).unwrap();
        let text = serde_json::to_string(&proof).unwrap();
        let proven = serde_json::from_str::<Proof>(&text).unwrap().check().unwrap();
        let contents = fs::read(data.join(path)).unwrap();
        assert_eq!(proven.hash, *blake3::hash(&contents).as_bytes(), "{path}");
        assert_eq!(proven.size_bytes, contents.len() as u64);
        assert_eq!(proven.key, repository.state().verifying_keys[&0]);
        let expect = if path == "z-also-one" { "a/one" } else { path };
        assert_eq!(proven.path, expect.as_bytes());
        refuse_every_change(&proof);
    }
    for path in ["absent", "a", "a/link"] {
        assert!(prove(&repository, &blobs, seq, path.as_bytes()).is_err(), "{path}");
    }
}

/// Any one hexadecimal digit changed, any step left out: the proof no longer holds.
fn refuse_every_change(proof: &Proof) {
    let flip = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).unwrap()
    };
    for step in 0..proof.steps.len() {
        for at in 0..proof.steps[step].entry.len() {
            let mut changed = proof.clone();
            changed.steps[step].entry = flip(&changed.steps[step].entry, at);
            assert!(changed.check().is_err(), "step {step} digit {at}");
        }
        let mut changed = proof.clone();
        changed.steps.remove(step);
        assert!(changed.check().is_err(), "without step {step}");
    }
    for at in 0..proof.statement.len() {
        let changed = Proof { statement: flip(&proof.statement, at), ..proof.clone() };
        assert!(changed.check().is_err(), "statement digit {at}");
    }
}

#[test]
fn live_data_equals_its_backup_until_a_byte_changes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let blobs = repository.blobs().unwrap();
    let backup = &repository.state().backups[&seq];
    let compare = |path: &std::path::Path| {
        let source = DirectorySource::new(path, &[], false).unwrap();
        vault::compare::compare(&blobs, backup, &source, path).unwrap()
    };
    assert!(compare(&data).is_equal());
    let back = folder.path().join("back");
    restore(&repository, seq, &back).unwrap();
    assert!(compare(&back).is_equal(), "{:?}", compare(&back).differences);
    let path = data.join("a/deep/er/noise");
    let mut bytes = fs::read(&path).unwrap();
    bytes[150_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::write(data.join("new"), "new").unwrap();
    fs::remove_file(data.join("text")).unwrap();
    let comparison = compare(&data);
    assert!(!comparison.is_equal());
    let what = |path: &str| {
        let found = comparison.differences.iter().find(|(p, _)| p == path);
        found.map(|(_, what)| what.clone()).unwrap_or_default()
    };
    assert!(what("a/deep/er/noise").starts_with("differs in bytes "));
    assert_eq!(what("new"), "is in the live data only");
    assert_eq!(what("text"), "is in the backup only");
}

#[test]
fn an_exported_tar_unpacks_to_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    sample_tree(&data);
    let long = "long-".repeat(40);
    fs::write(data.join(&long), "long").unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let mut bytes = Vec::new();
    let backup = &repository.state().backups[&seq];
    let blobs = repository.blobs().unwrap();
    vault::export::to_tar(&blobs, backup, b"", &mut bytes).unwrap();
    fs::create_dir(&back).unwrap();
    let status = {
        use std::io::Write;
        let mut child = std::process::Command::new("tar")
            .args(["-x", "-p", "-C"])
            .arg(&back)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        child.wait().unwrap()
    };
    assert!(status.success());
    let names = |root| fingerprint(root).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&back), names(&data));
    for path in ["text", "a/deep/er/noise", "z-also-one", &long] {
        assert_eq!(fs::read(back.join(path)).unwrap(), fs::read(data.join(path)).unwrap());
    }
}

#[test]
fn a_copy_in_another_repository_has_the_same_root_and_a_damaged_one_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    fs::write(data.join("large"), noise(7, 20 << 20)).unwrap();
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut from, _) = init(store.clone(), &clock);
    let seq = back_up(&mut from, &data).unwrap().seq;
    let (mut to, _) = init(Arc::new(MemoryStore::new()), &clock);
    let backup = from.state().backups[&seq].clone();
    let copy = |to: &mut vault::repository::Repository| {
        let blobs = from.blobs().unwrap();
        let source = vault::source::copy::CopySource::new(blobs, backup.clone());
        let request = vault::backup::BackupRequest {
            name: "data".to_owned(),
            host: "b".to_owned(),
            source: &source,
            parent: vault::backup::Parent::None,
            workers: 2,
            before: None,
            after: None,
            block_memory: None,
            counters: Arc::default(),
        };
        vault::backup::run(to, &request)
    };
    let copied = copy(&mut to).unwrap();
    assert_eq!(copied.backup.subject.root, backup.subject.root);
    let back = folder.path().join("back");
    assert!(restore(&to, copied.seq, &back).unwrap().is_complete());
    assert_eq!(fingerprint(&back), fingerprint(&data));
    // One altered chunk: the copy fails, and nothing is recorded.
    use vault::store::{Area, Store};
    let packs = store.list(Area::Packs, None).unwrap();
    let largest = packs.iter().max_by_key(|l| l.size_bytes).unwrap();
    let mut bytes = store.get(&largest.name).unwrap();
    bytes[5000] ^= 1;
    store.overwrite(&largest.name, bytes);
    let (mut third, _) = init(Arc::new(MemoryStore::new()), &clock);
    assert!(copy(&mut third).unwrap_err().is_damage());
    assert!(third.state().backups.is_empty());
}
