//! What was backed up comes back, and nothing else is touched.

mod common;
#[path = "round_trip/meanwhile.rs"]
mod meanwhile;
#[path = "round_trip/metadata.rs"]
mod metadata;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vault::repository::Repository;
use vault::restore::{Action, Change};
use vault::store::local::LocalStore;
use vault::store::memory::MemoryStore;
use vault::verify::Depth;

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    sample_tree(&data);
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(data.join("text"), Some(1234), Some(4321)).unwrap();
    }
    let attribute = rustix::fs::lsetxattr(
        data.join("text"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    );
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, data.join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let clock = TestClock::new();
    let store = Arc::new(LocalStore::create(&folder.path().join("repository")).unwrap());
    let (mut repository, identity) = init(store.clone(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    assert_eq!(outcome.backup.skipped, []);
    drop(repository);

    let repository = Repository::open(store, &identity, clock.options()).unwrap();
    let report = restore(&repository, outcome.seq, &back).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    let (expect, found) = (fingerprint(&data), fingerprint(&back));
    assert_eq!(found, expect);
    assert_eq!(attribute.is_ok(), found["text"].contains("user.note"));
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
}

#[test]
fn large_and_sparse_files_come_back_with_their_holes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    fs::create_dir(&data).unwrap();
    // Several segments, the last one short.
    fs::write(data.join("large"), noise(2, (40 << 20) + 12_345)).unwrap();
    let sparse = fs::File::create(data.join("sparse")).unwrap();
    sparse.set_len(100 << 20).unwrap();
    sparse.write_all_at(&noise(3, 100_000), 50 << 20).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    let report = restore(&repository, outcome.seq, &back).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    for name in ["large", "sparse"] {
        let hash = |root: &Path| blake3::hash(&fs::read(root.join(name)).unwrap());
        assert_eq!(hash(&data), hash(&back), "{name}");
        let mut out = Vec::new();
        let backup = &repository.state().backups[&outcome.seq];
        let blobs = repository.blobs().unwrap();
        vault::restore::to_stream(&blobs, backup, name.as_bytes(), &mut out).unwrap();
        assert_eq!(blake3::hash(&out), hash(&data), "{name}");
    }
    let room = |root: &Path| fs::metadata(root.join("sparse")).unwrap().blocks();
    assert!(room(&back) < 4096, "{} blocks", room(&back));
}

#[test]
fn an_unchanged_tree_is_not_read_again_and_a_change_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let first = back_up(&mut repository, &data).unwrap();
    let second = back_up(&mut repository, &data).unwrap();
    assert_eq!(second.backup.statistics.files_read, 0);
    assert_eq!(second.backup.statistics.bytes_stored, 0);
    assert_eq!(second.backup.subject.root, first.backup.subject.root);
    assert_eq!(second.backup.subject.parent, Some(first.seq));
    fs::write(data.join("a/one"), "two\n").unwrap();
    let third = back_up(&mut repository, &data).unwrap();
    assert_eq!(third.backup.statistics.files_read, 1);
    assert_ne!(third.backup.subject.root, first.backup.subject.root);
    let back = folder.path().join("back");
    restore(&repository, first.seq, &back).unwrap();
    assert_eq!(fs::read(back.join("a/one")).unwrap(), b"one\n");
    // Going to the newer one writes the difference only.
    let report = restore(&repository, third.seq, &back).unwrap();
    assert_eq!(report.bytes_written, 4);
    assert_eq!(fingerprint(&back), fingerprint(&data));
}

#[test]
fn a_restore_that_was_interrupted_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    restore(&repository, outcome.seq, &back).unwrap();
    // As if it had ended in the middle of a file.
    let file = fs::OpenOptions::new().write(true).open(back.join("a/deep/er/noise")).unwrap();
    file.set_len(200_000).unwrap();
    fs::remove_file(back.join("text")).unwrap();
    let report = restore(&repository, outcome.seq, &back).unwrap();
    assert_eq!(report.files_changed, 2);
    assert!(report.bytes_written < 300_000 + 270_000, "{}", report.bytes_written);
    assert_eq!(fingerprint(&back), fingerprint(&data));
}

#[test]
fn in_place_sets_aside_what_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let (data, aside) = (folder.path().join("data"), folder.path().join("aside"));
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    let before = fingerprint(&data);
    fs::write(data.join("text"), "a mistake").unwrap();
    fs::remove_dir(data.join("empty")).unwrap();
    fs::write(data.join("empty"), "a file now").unwrap();
    let mut request = restore_request(&data);
    request.set_aside = Some(aside.clone());
    let blobs = repository.blobs().unwrap();
    let backup = &repository.state().backups[&outcome.seq];
    let report = vault::restore::run(&blobs, backup, &request).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(report.set_aside, 2);
    assert_eq!(fs::read(aside.join("text")).unwrap(), b"a mistake");
    assert_eq!(fs::read(aside.join("empty")).unwrap(), b"a file now");
    assert_eq!(fingerprint(&data), before);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    fs::write(data.join("text"), "a mistake").unwrap();
    let before = fingerprint(&data);
    let blobs = repository.blobs().unwrap();
    let backup = &repository.state().backups[&outcome.seq];
    let mut request = restore_request(&data);
    request.dry_run = true;
    let report = vault::restore::run(&blobs, backup, &request).unwrap();
    assert_eq!((report.files_changed, report.bytes_written), (1, 0));
    assert_eq!(fingerprint(&data), before);
    request.target = folder.path().join("absent");
    request.counters = Arc::default();
    let report = vault::restore::run(&blobs, backup, &request).unwrap();
    assert_eq!(report.files_changed, 4);
    assert!(!request.target.exists());
}

#[test]
fn a_part_of_a_backup_is_restored_alone_with_its_further_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    let blobs = repository.blobs().unwrap();
    let backup = &repository.state().backups[&outcome.seq];
    let check = |path: &str, file: &str, expect: &[u8]| {
        let target = tempfile::tempdir().unwrap();
        let mut request = restore_request(target.path());
        request.path = path.as_bytes().to_vec();
        let report = vault::restore::run(&blobs, backup, &request).unwrap();
        assert!(report.is_complete(), "{:?}", report.notes);
        assert_eq!(fs::read(target.path().join(file)).unwrap(), expect, "{path}");
    };
    check("a", "one", b"one\n");
    check("a/one", "one", b"one\n");
    check("/a/deep/", "er/noise", &noise(1, 300_000));
    // Its first name is outside what is restored.
    check("z-also-one", "z-also-one", b"one\n");
    let mut request = restore_request(&folder.path().join("x"));
    request.path = b"a/absent".to_vec();
    assert!(vault::restore::run(&blobs, backup, &request).is_err());
}

#[test]
fn a_link_in_the_target_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    let outside = folder.path().join("outside");
    sample_tree(&data);
    fs::create_dir_all(&back).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("one"), "untouched").unwrap();
    std::os::unix::fs::symlink(&outside, back.join("a")).unwrap();
    fs::hard_link(outside.join("one"), back.join("text")).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    let report = restore(&repository, outcome.seq, &back).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(fs::read(outside.join("one")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fingerprint(&back), fingerprint(&data));
}

#[test]
fn what_a_command_says_is_kept_and_one_that_fails_fails_the_backup() {
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let run = |repository: &mut Repository, command: &str| {
        let source = vault::source::command::CommandSource::new(command, "dump");
        let mut request = request_for(&source);
        request.name = "dump".to_owned();
        vault::backup::run(repository, &request)
    };
    let outcome = run(&mut repository, "seq 1 100000").unwrap();
    let mut out = Vec::new();
    let backup = repository.state().backups[&outcome.seq].clone();
    let blobs = repository.blobs().unwrap();
    vault::restore::to_stream(&blobs, &backup, b"dump", &mut out).unwrap();
    assert!(out.ends_with(b"99999\n100000\n"));
    let error = run(&mut repository, "echo half; exit 3").unwrap_err().to_string();
    assert!(error.contains("exit status: 3"), "{error}");
    assert_eq!(repository.state().backups.len(), 1);
    assert!(repository.state().runs.is_empty(), "the failed run has ended");
}

fn request_for(source: &dyn vault::source::Source) -> vault::backup::BackupRequest<'_> {
    vault::backup::BackupRequest {
        name: "data".to_owned(),
        host: "a".to_owned(),
        source,
        parent: vault::backup::Parent::Newest,
        workers: 2,
        before: None,
        after: None,
        block_memory: None,
        counters: Arc::default(),
    }
}

#[test]
fn a_failed_hook_fails_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    sample_tree(&folder.path().join("data"));
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let source =
        vault::source::directory::DirectorySource::new(&folder.path().join("data"), &[], false)
            .unwrap();
    for (before, after) in [(Some("exit 1"), None), (None, Some("exit 1"))] {
        let mut request = request_for(&source);
        request.before = before.map(str::to_owned);
        request.after = after.map(str::to_owned);
        let result = vault::backup::run(&mut repository, &request);
        assert!(matches!(result, Err(vault::VaultError::Command { .. })));
    }
    assert!(repository.state().runs.is_empty());
}

#[test]
fn excluded_names_and_paths_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let excludes = ["noise".to_owned(), "/a/li*".to_owned(), "empty".to_owned()];
    let source = vault::source::directory::DirectorySource::new(&data, &excludes, false).unwrap();
    let outcome = vault::backup::run(&mut repository, &request_for(&source)).unwrap();
    let back = folder.path().join("back");
    restore(&repository, outcome.seq, &back).unwrap();
    let found = fingerprint(&back);
    for absent in ["a/deep/er/noise", "a/link", "empty"] {
        assert!(!found.contains_key(absent), "{absent}");
    }
    assert!(found.contains_key("a/deep/er"));
}

#[test]
fn many_backups_keep_the_chain_and_the_index_short_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let clock = TestClock::new();
    let store = memory();
    let (mut repository, identity) = init(store.clone(), &clock);
    let mut last = 0;
    for round in 0..70u32 {
        fs::write(data.join("file"), round.to_le_bytes()).unwrap();
        clock.advance(Duration::from_secs(10));
        last = back_up(&mut repository, &data).unwrap().seq;
    }
    let fresh = Repository::open(store, &identity, clock.options()).unwrap();
    assert_eq!(fresh.state(), repository.state());
    assert_eq!(fresh.state().backups.len(), 70);
    assert!(fresh.blobs().unwrap().index().segments().len() <= 20);
    let back = folder.path().join("back");
    restore(&fresh, last, &back).unwrap();
    assert_eq!(fs::read(back.join("file")).unwrap(), 69u32.to_le_bytes());
}

/// A tree with pairs of names, a large file, and directories to lose.
fn tree_to_mistreat(data: &Path) {
    sample_tree(data);
    for name in ["pair-wrong", "pair-apart", "pair-one"] {
        fs::write(data.join(name), format!("{name}\n")).unwrap();
        fs::hard_link(data.join(name), data.join(format!("{name}-too"))).unwrap();
    }
    fs::create_dir_all(data.join("gone/x")).unwrap();
    fs::write(data.join("gone/x/y"), "y").unwrap();
    fs::create_dir(data.join("linked")).unwrap();
    fs::write(data.join("linked/inner"), "inner").unwrap();
    fs::write(data.join("was-a-file"), "a file").unwrap();
    fs::write(data.join("large"), noise(4, 17 << 20)).unwrap();
    let rights = rustix::fs::Mode::RUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, data.join("pipe"), fifo, rights, 0).unwrap();
}

/// Every way in which a target can differ from a backup.
fn mistreat(at: &Path) {
    let rights = |path: &str| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(at.join(path), mode).unwrap();
    };
    let overwrite = |path: &str, offset| {
        let file = fs::File::options().write(true).open(at.join(path)).unwrap();
        file.write_all_at(b"?", offset).unwrap();
    };
    overwrite("text", 5);
    overwrite("large", 16 << 20);
    overwrite("pair-wrong", 0);
    fs::remove_file(at.join("a/nothing")).unwrap();
    fs::remove_dir(at.join("empty")).unwrap();
    fs::write(at.join("empty"), "in the way").unwrap();
    fs::remove_file(at.join("a/link")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at.join("a/link")).unwrap();
    rights("a/deep/er/noise");
    rights("pipe");
    fs::remove_file(at.join("pair-one-too")).unwrap();
    fs::remove_file(at.join("pair-apart-too")).unwrap();
    fs::copy(at.join("pair-apart"), at.join("pair-apart-too")).unwrap();
    fs::remove_dir_all(at.join("gone")).unwrap();
    fs::rename(at.join("linked"), at.join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", at.join("linked")).unwrap();
    fs::write(at.join("more"), "nobody's business").unwrap();
}

/// Every path with its inode, what it holds, and everything else; and its inodes held, so that
/// none of their numbers is used again.
type Snapshot = BTreeMap<String, (u64, String, String)>;

fn snapshot(root: &Path) -> (Snapshot, Vec<std::os::fd::OwnedFd>) {
    use rustix::fs::{Mode, OFlags};
    let mut held = Vec::new();
    if !root.exists() {
        return (Snapshot::new(), held);
    }
    let look = |(path, line): (String, String)| {
        let place = if path.is_empty() { root.to_owned() } else { root.join(&path) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        held.push(rustix::fs::open(&place, flags, Mode::empty()).unwrap());
        let inode = fs::symlink_metadata(&place).unwrap().ino();
        let kinds = ["directory", "link to", "special"];
        let kind = kinds.iter().find(|kind| line.starts_with(**kind));
        let first = line.split(' ').next().unwrap().to_owned();
        let contents = if kind.is_some() { String::new() } else { first };
        // How many names it has is no change of its own.
        let line = line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let line = line.replace(" 2 names", "");
        (path, (inode, contents, line))
    };
    let found = fingerprint(root).into_iter().map(look).collect();
    (found, held)
}

/// What a restore did, by looking at the target before and after.
fn changes(before: &Snapshot, after: &Snapshot, gone: Action) -> BTreeSet<Change> {
    let mut found = BTreeSet::new();
    let mut adjusted = BTreeSet::new();
    for (path, (inode, contents, line)) in after {
        let mut add = |action| {
            found.insert(Change { path: path.clone().into_bytes(), action });
        };
        match before.get(path) {
            None => add(Action::Make),
            Some((old, ..)) if old != inode => {
                add(gone);
                add(Action::Make);
            }
            Some((_, old, _)) if old != contents => add(Action::Rewrite),
            Some((.., old)) if old != line && adjusted.insert(*inode) => add(Action::Adjust),
            Some(_) => {}
        }
    }
    // What was in a directory goes aside with it.
    let kept = |path: &&String| gone == Action::Remove && !after.contains_key(*path);
    assert_eq!(before.keys().find(kept), None, "it is gone");
    found
}

#[test]
fn a_dry_run_lists_what_the_restore_then_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, absent) = (folder.path().join("data"), folder.path().join("absent"));
    tree_to_mistreat(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let backup = back_up(&mut repository, &data).unwrap().backup;
    let blobs = repository.blobs().unwrap();
    let check = |target: &Path, path: &str, aside: Option<&Path>, kinds: &[Action]| {
        let case = format!("{path} to {target:?}, aside {aside:?}");
        let (before, held) = snapshot(target);
        let mut request = restore_request(target);
        request.path = path.as_bytes().to_vec();
        request.set_aside = aside.map(Path::to_owned);
        request.dry_run = true;
        let planned = vault::restore::run(&blobs, &backup, &request).unwrap();
        assert!(planned.is_complete(), "{case}: {:?}", planned.notes);
        assert_eq!(snapshot(target).0, before, "{case}: a dry run changes nothing");
        request.dry_run = false;
        request.counters = Arc::default();
        let report = vault::restore::run(&blobs, &backup, &request).unwrap();
        assert!(report.is_complete(), "{case}: {:?}", report.notes);
        assert_eq!(report.plan, Default::default(), "{case}");
        let gone = if aside.is_some() { Action::SetAside } else { Action::Remove };
        let expect = changes(&before, &snapshot(target).0, gone);
        assert_eq!(planned.plan.listed, expect, "{case}");
        assert_eq!(planned.plan.more(), 0, "{case}");
        let found: Vec<Action> = planned.plan.counts.keys().copied().collect();
        assert_eq!(found, kinds, "{case}");
        drop(held);
        // Now it is right, and nothing is left to do.
        request.dry_run = true;
        let after = vault::restore::run(&blobs, &backup, &request).unwrap();
        assert_eq!(after.plan, Default::default(), "{case}: again");
    };
    check(&absent, "", None, &[Action::Make]);
    check(&folder.path().join("part"), "a", None, &[Action::Make]);
    check(&folder.path().join("single"), "text", None, &[Action::Make]);
    check(&absent, "", None, &[]);
    mistreat(&absent);
    let all = [Action::Remove, Action::Make, Action::Rewrite, Action::Adjust];
    check(&absent, "", None, &all);
    mistreat(&data);
    // Only what is moved aside may be a directory.
    fs::remove_file(data.join("was-a-file")).unwrap();
    fs::create_dir_all(data.join("was-a-file/full")).unwrap();
    let aside = folder.path().join("aside");
    check(&data, "", Some(&aside), &[Action::SetAside, Action::Make, Action::Adjust]);
}

#[test]
fn progress_counts_towards_what_is_restored_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let backup = back_up(&mut repository, &data).unwrap().backup;
    let blobs = repository.blobs().unwrap();
    for (number, path) in ["", "a", "a/deep", "a/one", "z-also-one", "text"].iter().enumerate() {
        let mut request = restore_request(&folder.path().join(number.to_string()));
        request.path = path.as_bytes().to_vec();
        let total = vault::restore::totals(&blobs, &backup, &request.path).unwrap().bytes;
        let report = vault::restore::run(&blobs, &backup, &request).unwrap();
        let done = request.counters.bytes.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((done, report.totals.bytes), (total, total), "{path}");
        assert!(total > 0 && (total < backup.totals.bytes || path.is_empty()), "{path}: {total}");
    }
}
