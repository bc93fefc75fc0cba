//! A repository written by an enemy who has the keys: what it says is checked like anything else.

mod common;

use common::*;
use std::fs;
use std::sync::Arc;
use vault::backup::{BackupRequest, Counters, Parent};
use vault::chain::{Chain, SourceKind};
use vault::source::{ScanContext, ScanEvent, ScanSink, Source};
use vault::store::memory::MemoryStore;
use vault::store::{ObjectName, Store};
use vault::tree::{Entry, EntryKind, Metadata, Stamp};

/// A source that tells lies.
struct Liar(Vec<Entry>);

impl Source for Liar {
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }
    fn origin(&self) -> String {
        "/../../etc/..".to_owned()
    }
    fn scan(&self, _: &ScanContext<'_>, sink: &mut dyn ScanSink) -> vault::Result<()> {
        let (name, stamp) = (Vec::new(), Stamp::default());
        let meta = Metadata { mode: 0o700, ..Metadata::default() };
        sink.event(ScanEvent::Enter { name, meta, stamp })?;
        for entry in &self.0 {
            sink.event(ScanEvent::Ready(Box::new(entry.clone())))?;
        }
        sink.event(ScanEvent::Leave)
    }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    let meta = Metadata { mode: 0o600, ..Metadata::default() };
    Entry { name: name.as_bytes().to_vec(), meta, kind, stamp: Stamp::default() }
}

/// Restores what the liar tells into `inner` and returns the notes; outside nothing may change.
fn restore_lies(entries: Vec<Entry>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    fs::write(folder.path().join("victim"), "untouched").unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let source = Liar(entries);
    let request = BackupRequest {
        name: "lies".to_owned(),
        host: "enemy".to_owned(),
        source: &source,
        parent: Parent::None,
        workers: 1,
        before: None,
        after: None,
        block_memory: None,
        counters: Arc::new(Counters::default()),
    };
    let seq = vault::backup::run(&mut repository, &request).unwrap().seq;
    let report = restore(&repository, seq, &target).unwrap();
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::read(folder.path().join("victim")).unwrap(), b"untouched");
    assert_eq!(fs::metadata(folder.path().join("victim")).map(|m| links(&m)).unwrap(), 1);
    report.notes.into_iter().map(|n| format!("{}: {}", n.path, n.what)).collect()
}

fn links(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[test]
fn names_that_leave_the_target_are_refused_with_all_beside_them() {
    for name in ["..", "../victim", "/etc/passwd", "a/b", "."] {
        let notes = restore_lies(vec![entry(name, EntryKind::Fifo)]);
        assert!(notes[0].contains("none that a directory can hold"), "{name}: {notes:?}");
    }
}

#[test]
fn further_names_of_outside_files_are_refused() {
    let link = EntryKind::HardLink { target: b"../victim".to_vec() };
    let notes = restore_lies(vec![entry("link", link)]);
    assert!(notes[0].contains("outside the backup"), "{notes:?}");
    // Through a link that the backup itself makes.
    let up = EntryKind::Symlink { target: b"..".to_vec() };
    let through = EntryKind::HardLink { target: b"a/victim".to_vec() };
    let notes = restore_lies(vec![entry("a", up), entry("b", through)]);
    assert!(notes.iter().any(|n| n.starts_with("b: ")), "{notes:?}");
}

#[test]
fn devices_are_made_only_where_asked_for() {
    let disk = EntryKind::BlockDevice { major: 8, minor: 0 };
    let notes = restore_lies(vec![entry("disk", disk)]);
    assert!(notes[0].contains("--devices"), "{notes:?}");
}

#[test]
fn one_name_twice_is_refused_when_it_is_written() {
    let twice = vec![entry("a", EntryKind::Fifo), entry("a", EntryKind::Socket)];
    let clock = TestClock::new();
    let (mut repository, _) = init(Arc::new(MemoryStore::new()), &clock);
    let source = Liar(twice);
    let request = BackupRequest {
        name: "lies".to_owned(),
        host: "enemy".to_owned(),
        source: &source,
        parent: Parent::None,
        workers: 1,
        before: None,
        after: None,
        block_memory: None,
        counters: Arc::new(Counters::default()),
    };
    assert!(vault::backup::run(&mut repository, &request).is_err());
}

#[test]
fn a_planted_record_number_is_refused_and_not_counted_down_from() {
    let store = Arc::new(MemoryStore::new());
    let clock = TestClock::new();
    let (repository, _) = init(store.clone(), &clock);
    let planted = ObjectName::of_record(u64::MAX);
    store.put_new(&planted, b"whatever").unwrap();
    let ring = repository.ring();
    for read in [Chain::read(&*store, ring), Chain::read_all(&*store, ring)] {
        let error = read.unwrap_err().to_string();
        assert!(error.contains("far beyond the 2 records"), "{error}");
    }
}
