//! Inclusion proofs, equality with live data, export.

mod common;

use common::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use vault::backup::BackupRequest;
use vault::copy::CopyRequest;
use vault::proof::{Proof, prove};
use vault::rehearsal::DirectoryRehearsal;
use vault::retention::{Policy, decide};
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

/// Exports a path of the newest backup and has the system's `tar` unpack it.
fn unpacked(repository: &vault::repository::Repository, path: &str, into: &Path) -> u64 {
    let mut bytes = Vec::new();
    let (_, backup) = repository.state().newest(None).unwrap();
    let blobs = repository.blobs().unwrap();
    let members = vault::export::to_tar(&blobs, backup, path.as_bytes(), &mut bytes).unwrap();
    fs::create_dir(into).unwrap();
    let mut child = std::process::Command::new("tar")
        .args(["-x", "-p", "--xattrs", "--xattrs-include=*", "-C"])
        .arg(into)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    members
}

/// A tree with what a tar's header has no room for.
fn tree_for_tar(data: &Path) {
    sample_tree(data);
    let long = [&[0xff][..], "long-".repeat(40).as_bytes()].concat();
    fs::write(data.join(OsStr::from_bytes(&long)), "long").unwrap();
    std::os::unix::fs::symlink(format!("./{}", "x//".repeat(60)), data.join("far")).unwrap();
    // Two further names below `b` of a file whose first name lies in `a`.
    fs::create_dir(data.join("b")).unwrap();
    for further in ["a/deep/also", "b/also", "b/once-more"] {
        fs::hard_link(data.join("a/one"), data.join(further)).unwrap();
    }
    let acl = [(1u16, 6u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in acl.into_iter().chain([(32, 0, u32::MAX)]) {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let attributes: [(&str, &[u8]); 3] = [
        ("user.a=b%", b"an = and\na line, \0 and \xff"),
        ("user.plain", b"kept"),
        ("system.posix_acl_access", &value),
    ];
    for (name, value) in attributes {
        // A file system without them has nothing to lose.
        let _ = rustix::fs::lsetxattr(data.join("text"), name, value, XattrFlags::empty());
    }
    let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(4_999_999_991);
    let file = fs::File::options().write(true).open(data.join("a/nothing")).unwrap();
    file.set_modified(before).unwrap();
    if rustix::process::geteuid().is_root() {
        let large = Some(2_000_000_000);
        std::os::unix::fs::chown(data.join("a/deep/er/noise"), large, large).unwrap();
    }
}

#[test]
fn an_exported_tar_unpacks_to_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    tree_for_tar(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    back_up(&mut repository, &data).unwrap();
    let back = folder.path().join("back");
    let members = unpacked(&repository, "", &back);
    assert_eq!(fingerprint(&back), fingerprint(&data));
    assert_eq!(members, fingerprint(&data).len() as u64);
}

#[test]
fn an_exported_path_unpacks_alone_with_its_further_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    tree_for_tar(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    back_up(&mut repository, &data).unwrap();
    let check = |path: &str, names: u64| {
        let back = folder.path().join(path.replace('/', "-"));
        unpacked(&repository, path, &back);
        // Names outside the path are not exported, so the file has fewer of them.
        let line = |line: String| line.replace("5 names", &format!("{names} names"));
        let expect = fingerprint(&data.join(path)).into_iter().map(|(k, v)| (k, line(v)));
        assert_eq!(fingerprint(&back), expect.collect(), "{path}");
    };
    check("a", 2);
    check("./b/", 2);
    let back = folder.path().join("single");
    assert_eq!(unpacked(&repository, "b/also", &back), 1);
    assert_eq!(fs::read(back.join("also")).unwrap(), b"one\n");
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
        let source = vault::source::copy::CopySource::new(blobs, seq, backup.clone());
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

#[test]
fn copies_keep_the_times_of_their_originals_and_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut from, _) = init(Arc::new(MemoryStore::new()), &clock);
    let (mut to, _) = init(Arc::new(MemoryStore::new()), &clock);
    // The data does not change: three points in time with one root.
    let originals: Vec<_> = (0..3)
        .map(|_| {
            clock.advance(Duration::from_secs(24 * 3600));
            back_up(&mut from, &data).unwrap()
        })
        .collect();
    clock.advance(Duration::from_secs(30 * 24 * 3600));
    let request = CopyRequest { wanted: &[], host: "b".to_owned(), workers: 2 };
    let before_ms = to.now_ms();
    let copies = vault::copy::run(&from, &mut to, &request).unwrap();
    assert_eq!(copies.len(), 3);
    for (original, (seq, copy)) in originals.iter().zip(&copies) {
        assert_eq!(*seq, original.seq);
        let (expect, found) = (&original.backup.subject, &to.state().backups[&copy.seq].subject);
        assert_eq!((found.begun_ms, found.ended_ms), (expect.begun_ms, expect.ended_ms));
        assert_eq!((found.root, found.parent), (expect.root, None));
        let copied = found.copied.unwrap();
        assert_eq!((copied.repository, copied.record), (from.ring().repository, *seq));
        assert!(copied.time_ms > before_ms, "{copied:?}");
        assert_eq!(copy.backup.host, "a", "the machine that was backed up");
        // A stranger is told, too.
        let proof = prove(&to, &to.blobs().unwrap(), copy.seq, b"text").unwrap();
        assert_eq!(proof.check().unwrap().subject, *found);
    }
    // Retention sees three days.
    let policy = Policy { daily: 3, ..Policy::default() };
    let (proven, zone) = (Default::default(), jiff::tz::TimeZone::UTC);
    let decisions = decide(&to.state().backups, &proven, &policy, to.now_ms(), &zone);
    assert_eq!(decisions.len(), 3);
    assert!(decisions.iter().all(|d| d.reasons.contains(&"daily".to_owned())), "{decisions:?}");
    // What is there is not copied again, nor what is not wanted; what does not exist is said.
    assert!(vault::copy::run(&from, &mut to, &request).unwrap().is_empty());
    let absent = CopyRequest { wanted: &[999], host: "b".to_owned(), workers: 2 };
    assert!(vault::copy::run(&from, &mut to, &absent).is_err());
    assert_eq!(to.state().backups.len(), 3);
}

#[test]
fn an_older_copy_is_not_the_newest_backup() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut from, _) = init(Arc::new(MemoryStore::new()), &clock);
    let (mut to, _) = init(Arc::new(MemoryStore::new()), &clock);
    let first = back_up(&mut from, &data).unwrap().seq;
    clock.advance(Duration::from_secs(3600));
    let own = back_up(&mut to, &data).unwrap().seq;
    clock.advance(Duration::from_secs(3600));
    let second = back_up(&mut from, &data).unwrap().seq;
    let mut copy = |seq| {
        let request = CopyRequest { wanted: &[seq], host: "b".to_owned(), workers: 2 };
        let copied = vault::copy::run(&from, &mut to, &request).unwrap().remove(0).1.seq;
        (copied, to.state().newest(Some("data")).unwrap().0)
    };
    // Recorded later than the repository's own one, it stands for an earlier moment.
    assert_eq!(copy(first).1, own);
    let (copied, newest) = copy(second);
    assert_eq!(newest, copied);
    clock.advance(Duration::from_secs(1));
    let last = back_up(&mut to, &data).unwrap().seq;
    assert_eq!(to.state().newest(None).unwrap().0, last);
}

/// A tree with one of everything, devices included where this machine lets us make them.
fn tree_with_nodes(data: &Path) -> bool {
    tree_for_tar(data);
    let rights = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, data.join("a/pipe"), FileType::Fifo, rights, 0).unwrap();
    mknodat(CWD, data.join("socket"), FileType::Socket, rights, 0).unwrap();
    let null = mknodat(CWD, data.join("null"), FileType::CharacterDevice, rights, makedev(1, 3));
    let block = mknodat(CWD, data.join("disk"), FileType::BlockDevice, rights, makedev(7, 9));
    null.is_ok() && block.is_ok()
}

#[test]
fn a_directory_with_pipes_sockets_and_devices_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let (data, scratch) = (folder.path().join("data"), folder.path().join("scratch"));
    let devices = tree_with_nodes(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let blobs = repository.blobs().unwrap();
    let backup = repository.state().backups[&seq].clone();
    let rehearsal = DirectoryRehearsal::restore(&blobs, &backup, &scratch, 2).unwrap();
    let checked = rehearsal.check().unwrap();
    // Further names and what has no contents are compared, and are no files.
    assert_eq!(checked.files, 5, "{checked:?}");
    assert_eq!(checked.bytes, backup.totals.bytes);
    if rustix::process::geteuid().is_root() {
        assert!(devices, "root could make no devices");
        assert!(checked.unchecked.is_empty(), "{checked:?}");
        assert_eq!(fingerprint(&scratch), fingerprint(&data));
    } else {
        assert!(checked.unchecked[0].contains("owners"), "{checked:?}");
    }
}

#[test]
fn a_single_file_and_a_commands_output_are_proven() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("single"), noise(5, 400_000)).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let file = back_up(&mut repository, &folder.path().join("single")).unwrap().backup;
    let source = vault::source::command::CommandSource::new("seq 1 1000", "dump");
    let request = BackupRequest::plain("dump", "a", &source, 2);
    let dump = vault::backup::run(&mut repository, &request).unwrap().backup;
    let blobs = repository.blobs().unwrap();
    for (name, backup) in [("single", file), ("dump", dump)] {
        let scratch = folder.path().join(format!("scratch-{name}"));
        let rehearsal = DirectoryRehearsal::restore(&blobs, &backup, &scratch, 2).unwrap();
        let checked = rehearsal.check().unwrap();
        assert_eq!((checked.files, checked.bytes), (1, backup.totals.bytes), "{name}");
        let found = fs::read_dir(&scratch).unwrap().next().unwrap().unwrap().path();
        fs::write(found, "something else").unwrap();
        assert!(rehearsal.check().is_err(), "{name}");
    }
}

#[test]
fn a_restore_with_another_root_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    let (data, scratch) = (folder.path().join("data"), folder.path().join("scratch"));
    tree_with_nodes(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let blobs = repository.blobs().unwrap();
    let backup = repository.state().backups[&seq].clone();
    let check = |what: &str, harm: &dyn Fn()| {
        let rehearsal = DirectoryRehearsal::restore(&blobs, &backup, &scratch, 2).unwrap();
        rehearsal.check().unwrap_or_else(|error| panic!("before {what}: {error}"));
        harm();
        let error = rehearsal.check().map(|_| what).unwrap_err().to_string();
        assert!(error.contains("NOT proven"), "{what}: {error}");
        fs::remove_dir_all(&scratch).unwrap();
    };
    let at = |path: &str| scratch.join(path);
    let rights = |path: &str, mode| {
        fs::set_permissions(at(path), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let keep_time = |path: &str, change: &dyn Fn()| {
        let time = fs::metadata(at(path)).unwrap().modified().unwrap();
        change();
        fs::File::open(at(path)).unwrap().set_modified(time).unwrap();
    };
    check("a byte", &|| {
        keep_time("a/deep/er/noise", &|| {
            let file = fs::File::options().write(true).open(at("a/deep/er/noise")).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"?", 200_000).unwrap();
        });
    });
    check("a time", &|| {
        fs::File::open(at("text")).unwrap().set_modified(SystemTime::now()).unwrap();
    });
    check("rights", &|| rights("text", 0o604));
    check("a directory's rights", &|| rights("empty", 0o700));
    check("an attribute", &|| {
        if rustix::fs::lremovexattr(at("text"), "user.plain").is_err() {
            rights("text", 0o600); // This file system has no attributes.
        }
    });
    check("a missing file", &|| {
        keep_time("a", &|| fs::remove_file(at("a/nothing")).unwrap());
    });
    check("a missing directory", &|| keep_time("", &|| fs::remove_dir(at("empty")).unwrap()));
    check("something more", &|| keep_time("empty", &|| fs::write(at("empty/x"), "").unwrap()));
    check("a link elsewhere", &|| {
        let link = at("a/link");
        keep_time("a", &|| {
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink("../next", &link).unwrap();
        });
    });
    check("a further name that is none", &|| {
        keep_time("b", &|| {
            fs::remove_file(at("b/also")).unwrap();
            fs::copy(at("a/one"), at("b/also")).unwrap();
        });
    });
    check("a pipe that is a file", &|| {
        keep_time("a", &|| {
            fs::remove_file(at("a/pipe")).unwrap();
            fs::write(at("a/pipe"), "").unwrap();
        });
    });
}

#[test]
fn a_directory_with_a_damaged_chunk_is_not_proven() {
    use vault::store::{Area, Store};
    let folder = tempfile::tempdir().unwrap();
    let (data, scratch) = (folder.path().join("data"), folder.path().join("scratch"));
    sample_tree(&data);
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut repository, _) = init(store.clone(), &clock);
    let backup = back_up(&mut repository, &data).unwrap().backup;
    let packs = store.list(Area::Packs, None).unwrap();
    let largest = packs.iter().max_by_key(|l| l.size_bytes).unwrap();
    let mut bytes = store.get(&largest.name).unwrap();
    bytes[5000] ^= 1;
    store.overwrite(&largest.name, bytes);
    let blobs = repository.blobs().unwrap();
    let rehearsal = DirectoryRehearsal::restore(&blobs, &backup, &scratch, 2);
    let error = rehearsal.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("NOT proven"), "{error}");
}
