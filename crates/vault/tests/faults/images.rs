//! Disk images: what a map of changes saves, and what becomes of one that is wrong.

use super::common::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use vault::backup::{BackupOutcome, BackupRequest, Parent, Since};
use vault::compare::{Comparison, compare};
use vault::rehearsal::check_digests;
use vault::repository::Repository;
use vault::source::directory::DirectorySource;
use vault::source::image::{DirtyMap, IMAGE_BLOCK_BYTES, ImageSource};
use vault::source::{ScanContext, ScanEvent, ScanSink, Source};
use vault::store::memory::MemoryStore;
use vault::tree::EntryKind;
use vault::verify::Depth;

const IMAGE_BYTES: u64 = 64 << 20;
/// A last block that is none of 64 KiB.
const ODD_BYTES: u64 = IMAGE_BYTES + 4096;

/// A guest's disk, and a repository with its backups.
struct Guest {
    folder: tempfile::TempDir,
    repository: Repository,
}

/// A sparse image: data in two places, one block of written zeros, holes elsewhere.
fn guest() -> Guest {
    let folder = tempfile::tempdir().unwrap();
    let (repository, _) = init(Arc::new(MemoryStore::new()), &TestClock::new());
    let guest = Guest { folder, repository };
    let image = File::create(guest.image()).unwrap();
    image.set_len(ODD_BYTES).unwrap();
    image.write_all_at(&noise(1, 9 << 20), 3 << 20).unwrap();
    image.write_all_at(&noise(2, 4096), IMAGE_BYTES).unwrap();
    image.write_all_at(&vec![0; 1 << 20], 40 << 20).unwrap();
    guest
}

impl Guest {
    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.raw")
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let image = File::options().write(true).open(self.image()).unwrap();
        image.write_all_at(bytes, offset).unwrap();
    }

    /// A map as a hypervisor prints it, of these blocks.
    fn map(&self, blocks: &[u64]) -> String {
        let mut text = "[\n".to_owned();
        let mut at = 0;
        while at < ODD_BYTES {
            let length = IMAGE_BLOCK_BYTES.min(ODD_BYTES - at);
            let dirty = blocks.contains(&(at / IMAGE_BLOCK_BYTES));
            let (number, word) = if dirty { (1, "dirty") } else { (0, "clean") };
            text += if at == 0 { "" } else { ",\n" };
            text += &format!(
                "{{ \"offset\": {at}, \"length\": {length}, \"type\": {number}, \
                 \"description\": \"{word}\"}}"
            );
            at += length;
        }
        text + "\n]\n"
    }

    fn back_up(&mut self, parent: Parent, map: Option<(&str, u8)>) -> vault::Result<BackupOutcome> {
        let path = self.folder.path().join("map");
        let dirty = map.map(|(text, sample_percent)| {
            fs::write(&path, text).unwrap();
            DirtyMap { path: path.clone(), sample_percent }
        });
        let source = ImageSource::new(&self.image(), dirty)?;
        let request = BackupRequest {
            parent,
            block_memory: Some(self.folder.path().join("state")),
            ..BackupRequest::plain("disk", "a", &source, 2)
        };
        vault::backup::run(&mut self.repository, &request)
    }

    fn since(&mut self, seq: u64, map: &str, percent: u8) -> vault::Result<BackupOutcome> {
        self.back_up(Parent::Since(Since::Record(seq)), Some((map, percent)))
    }

    /// Fails, says so, and leaves no backup.
    fn refused(&mut self, seq: u64, map: &str, percent: u8, why: &str) {
        let before = self.repository.state().backups.len();
        let error = self.since(seq, map, percent).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(error.contains("Back up without --dirty"), "{error}");
        assert_eq!(self.repository.state().backups.len(), before, "{why}");
    }

    /// What is restored is the image, bit by bit.
    fn require_restored(&self, seq: u64) {
        let target = self.folder.path().join(format!("back{seq}"));
        let report = restore(&self.repository, seq, &target).unwrap();
        assert!(report.is_complete(), "{:?}", report.notes);
        let found = fs::read(target.join("disk.raw")).unwrap();
        let same = found == fs::read(self.image()).unwrap();
        assert!(same, "backup {seq} restores another image");
        let backup = &self.repository.state().backups[&seq];
        let blobs = self.repository.blobs().unwrap();
        let checked = check_digests(&blobs, backup, b"", &target, &[]).unwrap();
        assert_eq!(checked, (1, found.len() as u64));
        let mut stream = Vec::new();
        vault::restore::to_stream(&blobs, backup, b"", &mut stream).unwrap();
        assert!(stream == found, "the stream differs");
    }

    /// As a file and as an image, which is the same.
    fn compare(&self, seq: u64) -> Comparison {
        let backup = &self.repository.state().backups[&seq];
        let blobs = self.repository.blobs().unwrap();
        let file = DirectorySource::new(&self.image(), &[], false).unwrap();
        let image = ImageSource::new(&self.image(), None).unwrap();
        let [one, other] = [&file as &dyn Source, &image]
            .map(|source| compare(&blobs, backup, source, &self.image()).unwrap());
        assert_eq!(one, other);
        one
    }
}

/// Reads nothing, and lets something happen while it would.
struct Reading<F>(F);

impl<F: FnMut()> ScanSink for Reading<F> {
    fn event(&mut self, _event: ScanEvent) -> vault::Result<()> {
        Ok(())
    }

    fn settle(&mut self) -> vault::Result<()> {
        (self.0)();
        Ok(())
    }
}

/// Scattered over data, zeros and holes, the first and the last block among them.
fn scattered() -> Vec<u64> {
    (0..40).map(|n| n * 26).chain([ODD_BYTES / IMAGE_BLOCK_BYTES]).collect()
}

#[test]
fn only_what_the_map_names_is_read_and_all_of_it_comes_back() {
    let mut guest = guest();
    let full = guest.back_up(Parent::Newest, None).unwrap();
    assert!(full.backup.statistics.bytes_read <= 11 << 20, "{:?}", full.backup.statistics);
    assert!(full.backup.statistics.bytes_stored <= 10 << 20, "{:?}", full.backup.statistics);
    guest.require_restored(full.seq);

    let blocks = scattered();
    for (number, block) in blocks.iter().enumerate() {
        guest.write(block * IMAGE_BLOCK_BYTES + 512, &noise(number as u64 + 9, 1024));
    }
    let map = guest.map(&blocks);
    let next = guest.since(full.seq, &map, 0).unwrap();
    let read = next.backup.statistics.bytes_read;
    assert!(read <= blocks.len() as u64 * IMAGE_BLOCK_BYTES, "{read}");
    assert!(read >= blocks.len() as u64 * 4096, "{read}");
    assert_eq!(next.backup.subject.parent, Some(full.seq));
    guest.require_restored(next.seq);
    let EntryKind::File { root, .. } = &next.backup.top.kind else { panic!("no file") };
    assert_eq!(*root, *blake3::hash(&fs::read(guest.image()).unwrap()).as_bytes());

    // By its root, and with everything looked at.
    guest.write(5 << 20, b"once more");
    let map = format!("size {ODD_BYTES}\n{} 512\nend\n", 5 << 20);
    let since = Parent::Since(Since::Root(next.backup.subject.root));
    let last = guest.back_up(since, Some((&map, 100))).unwrap();
    assert!(last.note.unwrap().contains(" 0 blocks were taken from the parent unread"));
    guest.require_restored(last.seq);
    assert!(verify(&guest.repository, Depth::Bytes).unwrap().is_intact());

    // Without a map everything is read, and next to nothing is stored.
    let whole = guest.back_up(Parent::Newest, None).unwrap();
    assert!(whole.backup.statistics.bytes_read > 8 << 20);
    assert!(whole.backup.statistics.bytes_stored < 64 << 10, "{:?}", whole.backup.statistics);
    assert_eq!(whole.backup.subject.root, last.backup.subject.root);
}

#[test]
fn a_map_that_misses_a_changed_block_is_caught() {
    // Once in data, once in a hole, once back to zeros, once at the very end.
    let last = ODD_BYTES / IMAGE_BLOCK_BYTES;
    for (block, bytes) in [(50, noise(3, 1)), (700, noise(4, 1)), (51, vec![0; 65_536])] {
        let mut guest = guest();
        let full = guest.back_up(Parent::Newest, None).unwrap();
        let offset = block * IMAGE_BLOCK_BYTES;
        guest.write(offset, &bytes);
        guest.write(IMAGE_BYTES, b"read whatever the map says: its hash depends on the length");
        let lie = format!("bytes {offset} to {}", offset + IMAGE_BLOCK_BYTES);
        guest.refused(full.seq, &guest.map(&[49, 52, last]), 100, &lie);
        let honest = guest.map(&[block, last]);
        let outcome = guest.since(full.seq, &honest, 100).unwrap();
        guest.require_restored(outcome.seq);
    }
}

#[test]
fn a_map_that_does_not_fit_leaves_no_backup() {
    let mut guest = guest();
    let map = guest.map(&[50]);
    guest.refused(1, &map, 100, "there is no backup of `disk`");
    let first = guest.back_up(Parent::Newest, None).unwrap();
    guest.write(60 << 20, b"before the second");
    let second = guest.back_up(Parent::Newest, None).unwrap();
    let newest = format!("the newest backup of `disk` is {}", second.seq);
    guest.refused(first.seq, &map, 100, &newest);
    guest.refused(second.seq + 1, &map, 100, &newest);
    let error = guest.back_up(Parent::Since(Since::Root([7; 32])), Some((&map, 100)));
    assert!(error.unwrap_err().to_string().contains(&newest));

    guest.refused(second.seq, &map[..map.len() / 2], 0, "is not what `nbdinfo");
    let beyond = format!("size {ODD_BYTES}\n{} 8192\nend\n", IMAGE_BYTES);
    guest.refused(second.seq, &beyond, 0, "ends behind the image's end");
    let missing = guest.back_up(Parent::Since(Since::Record(second.seq)), None);
    assert!(missing.is_ok(), "a parent that is named needs no map");
    let third = missing.unwrap();

    File::options().write(true).open(guest.image()).unwrap().set_len(ODD_BYTES + 512).unwrap();
    guest.refused(third.seq, &map, 0, "bytes now and had");
    assert_eq!(guest.repository.state().backups.len(), 3);
}

#[test]
fn a_lost_memory_of_blocks_costs_time_only() {
    let mut guest = guest();
    let full = guest.back_up(Parent::Newest, None).unwrap();
    fs::remove_dir_all(guest.folder.path().join("state")).unwrap();
    // The map lies, and is not believed where nothing stands by it.
    guest.write(4 << 20, b"unsaid");
    let outcome = guest.since(full.seq, &guest.map(&[0]), 0).unwrap();
    assert!(outcome.note.unwrap().contains("the map was not used"));
    assert!(outcome.backup.statistics.bytes_read > 8 << 20);
    guest.require_restored(outcome.seq);
}

#[test]
fn one_changed_byte_is_found_by_a_comparison() {
    let mut guest = guest();
    let full = guest.back_up(Parent::Newest, None).unwrap();
    assert!(guest.compare(full.seq).is_equal());
    for offset in [(5 << 20) + 77, (50 << 20) + 3] {
        let was = fs::read(guest.image()).unwrap()[offset as usize];
        guest.write(offset, &[was ^ 1]);
        let found = guest.compare(full.seq);
        assert!(!found.is_equal());
        let [(_, what)] = &found.differences[..] else { panic!("{:?}", found.differences) };
        let stretch = what.strip_prefix("differs in bytes ").unwrap();
        let (from, end) = stretch.split_once("..").unwrap();
        let (from, end): (u64, u64) = (from.parse().unwrap(), end.parse().unwrap());
        assert!((from..end).contains(&offset), "{offset}: {what}");
        guest.write(offset, &[was]);
    }
}

#[test]
fn an_image_that_is_written_meanwhile_is_no_backup() {
    let mut guest = guest();
    let source = ImageSource::new(&guest.image(), None).unwrap();
    let context = ScanContext {
        parent: None,
        parent_position: "",
        repository: None,
        trusted_before_s: 0,
        may_reuse: &|_| Ok(false),
    };
    assert!(source.scan(&context, &mut Reading(|| ())).is_ok());
    let write = || guest.write(0, b"meanwhile");
    let error = source.scan(&context, &mut Reading(write)).unwrap_err().to_string();
    assert!(error.contains("was written while it was read"), "{error}");
    let pipe = guest.folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    for path in [pipe, guest.folder.path().to_owned()] {
        let source = ImageSource::new(&path, None).unwrap();
        let request = BackupRequest::plain("disk", "a", &source, 1);
        let error = vault::backup::run(&mut guest.repository, &request).unwrap_err().to_string();
        assert!(error.contains("neither a regular file nor a block device"), "{error}");
    }
}
