//! Limits of a run, by bytes that are counted and a clock that only waiting moves.

mod common;

use common::*;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vault::pace::{Clock, Limits, Pacer};
use vault::repository::{OpenOptions, Repository};
use vault::store::memory::MemoryStore;
use vault::verify::Depth;

/// Time passes while someone waits, and while `work_ns` is done at each look.
#[derive(Default)]
struct CountedClock {
    now_ns: AtomicU64,
    busy_ns: AtomicU64,
    work_ns: u64,
    /// When each thread that waits may go on.
    waits: Mutex<u32>,
}

impl Clock for CountedClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns.fetch_add(self.work_ns, Ordering::SeqCst) + self.work_ns)
    }

    fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.fetch_add(self.work_ns, Ordering::SeqCst) + self.work_ns)
    }

    fn sleep(&self, time: Duration) {
        // Threads wait side by side: the clock goes to the end of the longest wait.
        let until = self.now_ns.load(Ordering::SeqCst) + time.as_nanos() as u64;
        self.now_ns.fetch_max(until, Ordering::SeqCst);
        *self.waits.lock().unwrap() += 1;
    }
}

struct Rig {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    identity: age::x25519::Identity,
    time: TestClock,
}

fn rig(length: usize) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    for number in 0..4 {
        let noise = noise(number, length / 4);
        fs::write(folder.path().join(format!("data/{number}")), noise).unwrap();
    }
    let (store, time) = (Arc::new(MemoryStore::new()), TestClock::new());
    let (_, identity) = init(store.clone(), &time);
    Rig { folder, store, identity, time }
}

impl Rig {
    fn open(&self, limits: Limits, clock: &Arc<CountedClock>) -> Repository {
        let pacer = Arc::new(Pacer::new(limits, 2, clock.clone()));
        let options = OpenOptions { pacer: Some(pacer), ..self.time.options() };
        Repository::open(self.store.clone(), &self.identity, options).unwrap()
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn a_backup_reads_no_faster_than_it_may() {
    let rig = rig(8 << 20);
    let clock = Arc::new(CountedClock::default());
    let limits = Limits { read_bytes: Some(MIB), ..Limits::default() };
    let mut repository = rig.open(limits, &clock);
    let outcome = back_up(&mut repository, &rig.folder.path().join("data")).unwrap();
    let read = outcome.backup.statistics.bytes_read;
    assert_eq!(read, 8 * MIB);
    assert_eq!(clock.now().as_secs(), 8);
    // And with the limit doubled, in half the time.
    let clock = Arc::new(CountedClock::default());
    let limits = Limits { read_bytes: Some(2 * MIB), ..Limits::default() };
    let mut repository = rig.open(limits, &clock);
    let source =
        vault::source::directory::DirectorySource::new(&rig.folder.path().join("data"), &[], false);
    let mut request = request(source.as_ref().unwrap());
    request.parent = vault::backup::Parent::None;
    vault::backup::run(&mut repository, &request).unwrap();
    assert_eq!(clock.now().as_secs(), 4);
}

#[test]
fn what_goes_to_the_repository_and_comes_from_it_is_paced() {
    let rig = rig(8 << 20);
    let clock = Arc::new(CountedClock::default());
    let limits = Limits { repository_bytes: Some(MIB), ..Limits::default() };
    let mut repository = rig.open(limits, &clock);
    let outcome = back_up(&mut repository, &rig.folder.path().join("data")).unwrap();
    let stored = outcome.backup.statistics.bytes_stored;
    assert!(stored >= 8 * MIB, "{stored}");
    let after_backup = clock.now();
    assert!(after_backup >= Duration::from_secs(stored / MIB), "{after_backup:?}");
    assert!(after_backup < Duration::from_secs(2 * stored / MIB), "{after_backup:?}");
    let report = verify(&repository, Depth::Bytes).unwrap();
    assert!(report.is_intact());
    let verified = clock.now() - after_backup;
    assert!(verified >= Duration::from_secs(report.bytes_read / MIB), "{verified:?}");
    let before = clock.now();
    let target = rig.folder.path().join("back");
    assert!(restore(&repository, outcome.seq, &target).unwrap().is_complete());
    assert!(clock.now() - before >= Duration::from_secs(8));
}

#[test]
fn a_run_is_busy_for_its_share_only() {
    let rig = rig(4 << 20);
    // Each look at the clock costs a millisecond of work: a quarter of two processors is half a
    // millisecond a millisecond.
    let clock = Arc::new(CountedClock { work_ns: 1_000_000, ..CountedClock::default() });
    let limits = Limits { processor_percent: Some(25), ..Limits::default() };
    let mut repository = rig.open(limits, &clock);
    for _ in 0..40 {
        back_up(&mut repository, &rig.folder.path().join("data")).unwrap();
        fs::write(rig.folder.path().join("data/0"), noise(clock.now().as_millis() as u64, 9999))
            .unwrap();
    }
    let (now, busy) = (clock.now(), clock.busy());
    assert!(busy > Duration::from_millis(200), "{busy:?}");
    assert!(busy <= now / 2 + Duration::from_millis(20), "{busy:?} of {now:?}");
    assert!(*clock.waits.lock().unwrap() > 0);
}
