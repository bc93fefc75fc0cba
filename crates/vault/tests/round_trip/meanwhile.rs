//! Files that change while they are read, and files that changed without a trace.
//!
//! The clock of the pacer is told of every reading between the two looks at the file's inode:
//! it is where these tests write.

use super::*;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;
use vault::backup::BackupOutcome;
use vault::pace::{Clock, Limits, Pacer};
use vault::source::directory::DirectorySource;
use vault::source::{ScanContext, ScanEvent, ScanSink, Source, inode};

/// What is done to a file that was just read from: the how-manieth reading it was, its path.
type Deed = fn(u64, &Path);

/// Does a deed at each reading. Nobody waits for it.
struct Meddler {
    path: PathBuf,
    deed: Deed,
    readings: Mutex<u64>,
}

impl Clock for Meddler {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn busy(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {
        let mut readings = self.readings.lock().unwrap();
        *readings += 1;
        (self.deed)(*readings, &self.path);
    }
}

/// A folder with the one file `data/file` of this length, and what became of its backup.
struct Meddled {
    folder: tempfile::TempDir,
    repository: Repository,
    outcome: BackupOutcome,
}

fn meddled(length: usize, deed: Deed) -> Meddled {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let path = data.join("file");
    fs::write(&path, noise(0, length)).unwrap();
    let (clock, store) = (TestClock::new(), memory());
    let (_, identity) = init(store.clone(), &clock);
    // The slowest limit: after every byte read from the source someone has to wait.
    let limits = Limits { read_bytes: Some(1), ..Limits::default() };
    let meddler = Arc::new(Meddler { path, deed, readings: Mutex::new(0) });
    let pacer = Some(Arc::new(Pacer::new(limits, 1, meddler)));
    let options = vault::repository::OpenOptions { pacer, ..clock.options() };
    let mut repository = Repository::open(store, &identity, options).unwrap();
    let outcome = back_up(&mut repository, &data).unwrap();
    Meddled { folder, repository, outcome }
}

impl Meddled {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What comes back is what is there now, and the next backup finds nothing to read.
    fn assert_is_as_it_is_now(&mut self, what: &str) {
        assert_eq!(self.outcome.backup.skipped, [], "{what}");
        let back = self.folder.path().join("back");
        let report = restore(&self.repository, self.outcome.seq, &back).unwrap();
        assert!(report.is_complete(), "{what}: {:?}", report.notes);
        assert_eq!(fingerprint(&back), fingerprint(&self.data()), "{what}");
        assert!(verify(&self.repository, Depth::Bytes).unwrap().is_intact(), "{what}");
        let next = back_up(&mut self.repository, &self.folder.path().join("data")).unwrap();
        assert_eq!(next.backup.statistics.files_read, 0, "{what}");
        assert_eq!(next.backup.subject.root, self.outcome.backup.subject.root, "{what}");
    }
}

/// A time for every deed: a file's own time stamps are too coarse to tell two of them apart.
fn stamp(file: &fs::File, deed: u64) {
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + deed)).unwrap();
}

fn rewrite(deed: u64, path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&noise(deed, length as usize), 0).unwrap();
    stamp(&file, deed);
}

fn append(deed: u64, path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&noise(deed, 70_000), file.metadata().unwrap().len()).unwrap();
    stamp(&file, deed);
}

fn shorten(deed: u64, path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(700).unwrap();
    stamp(&file, deed);
}

fn once(reading: u64, path: &Path, deed: Deed) {
    if reading == 1 {
        deed(reading, path);
    }
}

/// One chunk; several chunks, read by one thread; segments, read by several.
const LENGTHS: [usize; 3] = [1000, 3 << 20, 40 << 20];

#[test]
fn a_file_that_changes_once_while_it_is_read_is_read_again() {
    let rewrite: Deed = |reading, path| once(reading, path, rewrite);
    let append: Deed = |reading, path| once(reading, path, append);
    let shorten: Deed = |reading, path| once(reading, path, shorten);
    for length in LENGTHS {
        for (name, deed) in [("rewritten", rewrite), ("longer", append), ("shorter", shorten)] {
            let what = format!("{length} bytes, {name}");
            let mut meddled = meddled(length, deed);
            let read = meddled.outcome.backup.statistics.bytes_read;
            let now = fs::metadata(meddled.data().join("file")).unwrap().len();
            assert!(read > now, "{what}: {read} bytes were read, {now} are there");
            meddled.assert_is_as_it_is_now(&what);
        }
    }
}

#[test]
fn a_file_that_keeps_changing_is_said_and_kept_as_it_was_read() {
    for length in LENGTHS {
        for (name, deed) in [("rewritten", rewrite as Deed), ("longer", append)] {
            let mut meddled = meddled(length, deed);
            let what = format!("{length} bytes, {name}");
            let skipped = &meddled.outcome.backup.skipped;
            assert_eq!(skipped.len(), 1, "{what}: {skipped:?}");
            assert_eq!(skipped[0].path, "file", "{what}");
            assert!(skipped[0].why.contains("kept changing"), "{what}: {skipped:?}");
            // What was read comes back, and is checked like any other file.
            let back = meddled.folder.path().join("back");
            let report = restore(&meddled.repository, meddled.outcome.seq, &back).unwrap();
            assert!(report.is_complete(), "{what}: {:?}", report.notes);
            assert!(back.join("file").metadata().unwrap().len() >= length as u64, "{what}");
            assert!(verify(&meddled.repository, Depth::Bytes).unwrap().is_intact(), "{what}");
            // What was kept may be of several moments: the next backup reads the file again,
            // although nothing was written since.
            let next = back_up(&mut meddled.repository, &meddled.folder.path().join("data"));
            assert_eq!(next.unwrap().backup.statistics.files_read, 1, "{what}");
        }
    }
}

fn set_attribute(_: u64, path: &Path) {
    let changed = || fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let before = changed();
    // The inode's own time stamp moves with the system's tick.
    while changed() == before {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "user.note", b"new", flags).unwrap();
    }
}

#[test]
fn attributes_that_change_while_a_file_is_read_are_read_again() {
    if !metadata::has_attributes() {
        return;
    }
    for length in LENGTHS {
        let mut meddled = meddled(length, |reading, path| once(reading, path, set_attribute));
        let now = fingerprint(&meddled.data());
        assert!(now["file"].contains("user.note"), "{now:?}");
        meddled.assert_is_as_it_is_now(&format!("{length} bytes"));
    }
}

/// A directory with one file whose stamps say that nothing happened since, with other contents:
/// a disk that gave other bytes, a program that writes below the file system.
struct Rotten<'a> {
    folder: &'a Path,
    contents: vault::tree::Entry,
}

impl Source for Rotten<'_> {
    fn kind(&self) -> vault::chain::SourceKind {
        vault::chain::SourceKind::Directory
    }

    fn origin(&self) -> String {
        self.folder.display().to_string()
    }

    fn scan(&self, _: &ScanContext<'_>, sink: &mut dyn ScanSink) -> vault::Result<()> {
        let look = |path: &Path| inode::look_open(fs::File::open(path).unwrap()).unwrap();
        let (top, seen) = (look(self.folder), look(&self.folder.join("file")));
        let (meta, stamp) = (top.metadata(Vec::new()), top.stamp);
        sink.event(ScanEvent::Enter { name: Vec::new(), meta, stamp })?;
        let (meta, stamp) = (seen.metadata(Vec::new()), seen.stamp);
        let entry = vault::tree::Entry { meta, stamp, ..self.contents.clone() };
        sink.event(ScanEvent::Ready(Box::new(entry)))?;
        sink.event(ScanEvent::Leave)
    }
}

#[test]
fn contents_that_changed_without_a_trace_are_found_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "before").unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let first = back_up(&mut repository, &data).unwrap();
    // The length and the time stamp that programs can set are the same; the inode's own is not.
    let modified = fs::metadata(data.join("file")).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(data.join("file")).unwrap();
    let stamp = || inode::look_open(&file).unwrap().stamp;
    let before = stamp();
    while stamp() == before {
        file.write_all_at(b"behind", 0).unwrap();
        file.set_modified(modified).unwrap();
    }
    let second = back_up(&mut repository, &data).unwrap();
    assert_eq!(second.backup.statistics.files_read, 1);
    assert_ne!(second.backup.subject.root, first.backup.subject.root);

    // Even that is the same: nothing but the contents tells.
    let blobs = repository.blobs().unwrap();
    let old = vault::tree::find_path(&blobs, &first.backup.top, b"file").unwrap();
    let rotten = Rotten { folder: &data, contents: old };
    let hidden = vault::backup::run(&mut repository, &request_for(&rotten)).unwrap();
    let missed = back_up(&mut repository, &data).unwrap();
    assert_eq!(missed.backup.statistics.files_read, 0);
    assert_eq!(missed.backup.subject.root, hidden.backup.subject.root);
    let source = DirectorySource::new(&data, &[], false).unwrap();
    let mut reread = request_for(&source);
    reread.parent = vault::backup::Parent::None;
    let found = vault::backup::run(&mut repository, &reread).unwrap();
    assert_eq!(found.backup.statistics.files_read, 1);
    assert_eq!(found.backup.subject.root, second.backup.subject.root);
    restore(&repository, found.seq, &back).unwrap();
    assert_eq!(fs::read(back.join("file")).unwrap(), b"behind");
}
