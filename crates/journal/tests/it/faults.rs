//! A disk that refuses: the log stops for good, says why, and acknowledges nothing more.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use journal::{
    Disk, DiskError, DiskOperation, Fault, Kept, MemoryDisk, Segments, SubmitError, WriteId, Writer,
};

use crate::group::{Group, SMALL};
use crate::log_files::{entry, open, state, write};

/// A disk that its test can still see while a log owns it.
pub(crate) struct Shared(pub(crate) Arc<Mutex<MemoryDisk>>);

impl Disk for Shared {
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.lock().unwrap().list()
    }
    fn len(&self, name: &str) -> Result<u64, DiskError> {
        self.0.lock().unwrap().len(name)
    }
    fn read(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        self.0.lock().unwrap().read(name)
    }
    fn read_at(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        self.0.lock().unwrap().read_at(name, offset, length)
    }
    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.0.lock().unwrap().create(name)
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.lock().unwrap().append(name, bytes)
    }
    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        self.0.lock().unwrap().sync_data(name)
    }
    fn sync_dir(&mut self) -> Result<(), DiskError> {
        self.0.lock().unwrap().sync_dir()
    }
    fn truncate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        self.0.lock().unwrap().truncate(name, length)
    }
    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.0.lock().unwrap().remove(name)
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.lock().unwrap().rename(from, to)
    }
}

#[test]
fn a_failed_sync_is_fatal_for_ever_and_never_retried() {
    let (mut log, _) = open(MemoryDisk::new());
    log.commit(&[write(1, vec![entry(1, 1, "a")], state(1, 0, 0))]).unwrap();
    log.append(&[write(2, vec![entry(2, 1, "b")], None)]).unwrap();
    let at = log.disk().operations();
    let once = Fault { at, kind: ErrorKind::Other, partial_bytes: 0, lasting: false };
    log.disk_mut().inject(once);
    let fatal = log.sync().unwrap_err();
    assert_eq!(fatal.cause.operation, DiskOperation::SyncData);
    let operations = log.disk().operations();
    // The disk would succeed now, and would be lying.
    assert!(log.sync().is_err() && log.append(&[]).is_err() && log.settle(true).is_err());
    assert!(log.commit(&[write(3, vec![entry(3, 1, "c")], None)]).is_err());
    assert_eq!(log.disk().operations(), operations, "the disk is left alone");
    assert_eq!(log.fatal().unwrap().cause.operation, DiskOperation::SyncData);
}

/// The kernel shows the next process a cache of what never reached the disk, and calls it written.
#[test]
fn what_a_failed_sync_dropped_is_durable_once_a_start_has_reported_it() {
    for later in [false, true] {
        let mut disk = MemoryDisk::new();
        disk.set_forgetful();
        let (mut log, _) = open(disk);
        log.commit(&[write(1, vec![entry(1, 1, "a")], state(1, 0, 0))]).unwrap();
        log.append(&[write(2, vec![entry(2, 1, "b")], None)]).unwrap();
        log.disk_mut().fail_next_sync();
        log.sync().unwrap_err();
        let (mut log, recovered) = open(log.into_disk());
        assert_eq!(recovered.entries().len(), 2, "it can be read");
        if later {
            log.commit(&[write(3, vec![entry(3, 1, "c")], None)]).unwrap();
        }
        let mut disk = log.into_disk();
        disk.crash(|_| Kept::nothing());
        let (_, recovered) = open(disk);
        assert_eq!(recovered.entries().len(), if later { 3 } else { 2 }, "and was reported");
    }
}

/// The disk of the test before is one that forgets: without a start in between the record is gone.
#[test]
fn what_a_failed_sync_dropped_is_gone_after_a_power_loss() {
    let mut disk = MemoryDisk::new();
    disk.set_forgetful();
    disk.create("x").unwrap();
    disk.append("x", b"first").unwrap();
    disk.sync_data("x").unwrap();
    disk.sync_dir().unwrap();
    disk.append("x", b"lost").unwrap();
    disk.fail_next_sync();
    assert!(disk.sync_data("x").is_err());
    disk.append("x", b"last").unwrap();
    disk.sync_data("x").unwrap();
    assert_eq!(disk.read("x").unwrap(), b"firstlostlast");
    disk.crash(|_| Kept::nothing());
    assert_eq!(disk.read("x").unwrap(), b"first\0\0\0\0last");
}

#[test]
fn without_descriptors_no_file_is_created() {
    let mut disk = MemoryDisk::new();
    disk.set_no_descriptors(true);
    let (mut log, _) = open(disk);
    let fatal = log.commit(&[write(1, vec![entry(1, 1, "a")], state(1, 0, 0))]).unwrap_err();
    assert_eq!((fatal.cause.operation, fatal.cause.os_code), (DiskOperation::Create, Some(24)));
}

#[test]
fn a_full_disk_is_fatal_and_says_so() {
    let (mut log, _) = open(MemoryDisk::new());
    log.commit(&[write(1, vec![entry(1, 1, "a")], state(1, 0, 0))]).unwrap();
    let used = log.disk().len("00000000000000000001.log").unwrap();
    log.disk_mut().set_capacity(Some(used + 40));
    let fatal = log.append(&[write(2, vec![entry(2, 1, "b")], None)]).unwrap_err();
    assert_eq!(fatal.cause.kind, ErrorKind::StorageFull);
    let said = fatal.to_string();
    assert!(said.contains("append to") && said.contains("no storage space"), "{said}");
    assert!(said.contains("Mend the disk"), "{said}");
    // What fitted is a torn tail; with space again, the log goes on after what was acknowledged.
    let mut disk = log.into_disk();
    disk.set_capacity(None);
    let (_, recovered) = open(disk);
    assert_eq!(recovered.entries(), [entry(1, 1, "a")]);
}

#[test]
fn a_leader_on_a_full_disk_acknowledges_nothing() {
    let mut group = Group::founded(&[1]);
    group.elect(1);
    let index = group.replica(1).propose(vec![7; 500]).unwrap().index;
    group.pump(1);
    let node = group.running(1);
    node.segments.disk_mut().set_capacity(Some(0));
    let write = node.pending.pop_front().unwrap();
    assert!(node.segments.commit(&[write]).is_err());
    group.tick(5);
    assert!(group.replica(1).commit_index() < index);
}

fn writer_over(disk: MemoryDisk) -> (Writer<MemoryDisk>, mpsc::Receiver<Result<WriteId, String>>) {
    let (log, _) = Segments::open(disk, SMALL).unwrap();
    let (told, reports) = mpsc::channel();
    let writer = Writer::spawn(log, move |report| {
        told.send(report.map_err(|fatal| fatal.to_string())).unwrap();
    });
    (writer.unwrap(), reports)
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_writer_reports_everything_it_made_durable() {
    let (writer, reports) = writer_over(MemoryDisk::new());
    for index in 1..=100 {
        writer.submit(write(index, vec![entry(index, 1, "x")], state(1, 0, index - 1))).unwrap();
    }
    let mut last = 0;
    while last < 100 {
        last = reports.recv_timeout(PATIENCE).unwrap().unwrap().0;
    }
    // The last group is counted a moment after it is reported.
    let until = std::time::Instant::now() + PATIENCE;
    while writer.stats().writes < 100 && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    let stats = writer.stats();
    assert!((1..=100).contains(&stats.group.count()), "{stats:?}");
    assert_eq!(stats.sync.count(), stats.group.count());
    assert_eq!((stats.writes, stats.entries), (100, 100));
    assert!(stats.bytes >= 100 && stats.bytes < 100 * 1_024, "{stats:?}");
    let log = writer.stop().unwrap();
    let (_, recovered) = open(log.into_disk());
    assert_eq!(recovered.entries().len(), 100);
}

#[test]
fn the_writer_stops_at_the_first_failure() {
    let mut disk = MemoryDisk::new();
    disk.inject(Fault { at: 2, kind: ErrorKind::Other, partial_bytes: 0, lasting: false });
    let (writer, reports) = writer_over(disk);
    writer.submit(write(1, vec![entry(1, 1, "x")], state(1, 0, 0))).unwrap();
    let said = reports.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(said.contains("the journal stopped"), "{said}");
    assert!(reports.recv_timeout(PATIENCE).is_err(), "one report, and the thread is gone");
    assert_eq!(writer.submit(write(2, Vec::new(), state(1, 0, 1))), Err(SubmitError::Stopped));
    assert!(writer.stop().unwrap().fatal().is_some());
}
