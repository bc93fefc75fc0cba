//! The real disk: the same contract, on files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use journal::{Disk, DiskOperation, Note, OpenError, RealDisk, Segments, Writer};

use crate::group::SMALL;
use crate::log_files::{entry, state, write};

fn disk(path: &Path) -> RealDisk {
    RealDisk::open(path).expect("the directory opens")
}

#[test]
fn a_real_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = disk(directory.path());
    disk.create("a").unwrap();
    assert_eq!(disk.create("a").unwrap_err().kind, ErrorKind::AlreadyExists);
    disk.append("a", b"0123").unwrap();
    disk.append("a", b"45").unwrap();
    disk.sync_data("a").unwrap();
    disk.truncate("a", 5).unwrap();
    assert_eq!((disk.read("a").unwrap(), disk.len("a").unwrap()), (b"01234".to_vec(), 5));
    assert_eq!(disk.read_at("a", 3, 100).unwrap(), b"34");
    assert_eq!(disk.read_at("a", 9, 100).unwrap(), b"");
    disk.append("a", b"x").unwrap();
    disk.rename("a", "b").unwrap();
    disk.append("b", b"y").unwrap();
    disk.sync_data("b").unwrap();
    disk.sync_dir().unwrap();
    fs::create_dir(directory.path().join("subdirectory")).unwrap();
    assert_eq!(disk.list().unwrap(), ["b"]);
    assert_eq!(disk.read("b").unwrap(), b"01234xy");
    disk.remove("b").unwrap();
    assert_eq!(disk.len("b").unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(disk.append("b", b"").unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn two_processes_never_share_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let first = disk(directory.path());
    let refused = RealDisk::open(directory.path()).unwrap_err();
    assert_eq!((refused.operation, refused.kind), (DiskOperation::Lock, ErrorKind::WouldBlock));
    let said = OpenError::from(refused).to_string();
    assert!(said.contains("another process holds") && said.contains("fuser -v"), "{said}");
    assert!(!said.contains("Mend the disk"), "nothing is wrong with it: {said}");
    drop(first);
    disk(directory.path());
}

#[test]
fn a_log_survives_its_process_and_a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = Segments::open(disk(directory.path()), SMALL).unwrap();
    let (told, reports) = mpsc::channel();
    let writer = Writer::spawn(log, move |report| told.send(report.is_ok()).unwrap()).unwrap();
    let measured = writer.reader();
    for index in 1..=50 {
        writer.submit(write(index, vec![entry(index, 1, "real")], state(1, 0, index - 1))).unwrap();
        if index <= 2 {
            assert!(reports.recv_timeout(Duration::from_secs(30)).unwrap());
        }
    }
    // What the first group took was noted before the second was written.
    assert!(writer.stats().writes >= 1);
    drop(writer.stop().unwrap());
    let stats = measured();
    assert_eq!((stats.writes, stats.entries, stats.bytes), (50, 50, 50 * (24 + 4)));
    assert_eq!(
        (stats.group.count(), stats.sync.count()),
        (reports.iter().count() as u64 + 2, stats.group.count())
    );
    let (log, recovered) = Segments::open(disk(directory.path()), SMALL).unwrap();
    assert_eq!((recovered.entries().len(), recovered.notes().len()), (50, 0));
    let names = log.disk().list().unwrap();
    drop(log);
    // A record that the process did not finish: its header is not whole.
    let last = directory.path().join(names.last().unwrap());
    let mut bytes = fs::read(&last).unwrap();
    let whole = bytes.len();
    bytes.extend_from_slice(&[7; 20]);
    fs::write(&last, &bytes).unwrap();
    let (_, recovered) = Segments::open(disk(directory.path()), SMALL).unwrap();
    assert!(matches!(recovered.notes(), [Note::TornTail { bytes: 20, .. }]));
    assert_eq!(recovered.entries().len(), 50);
    assert_eq!(fs::metadata(&last).unwrap().len(), whole as u64);
}

#[test]
fn a_full_real_disk_says_so() {
    let directory = tempfile::tempdir().unwrap();
    // This device refuses every write as a full disk does.
    std::os::unix::fs::symlink("/dev/full", directory.path().join("full")).unwrap();
    let error = disk(directory.path()).append("full", b"x").unwrap_err();
    assert_eq!((error.kind, error.os_code), (ErrorKind::StorageFull, Some(28)));
    assert!(error.to_string().contains("append to \"full\""), "{error}");
}
