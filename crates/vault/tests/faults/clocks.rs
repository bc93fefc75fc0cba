//! Clocks that are years ahead or behind: nothing that is needed is deleted, and nothing is
//! trusted that may have changed.

use super::*;
use std::sync::Mutex;
use vault::cleanup::CleanupReport;
use vault::source::directory::DirectorySource;
use vault::source::{ScanContext, ScanSink, Source};

const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A clock that is ahead of the repository's by years, or behind.
fn wrong(small: &Small, ahead: bool) -> TestClock {
    let years_ms = YEARS.as_millis() as i64;
    TestClock::at(small.clock.now_ms() + if ahead { years_ms } else { -years_ms })
}

fn open(small: &Small, clock: &TestClock) -> Repository {
    Repository::open(small.store.clone(), &small.identity, clock.options()).unwrap()
}

fn clean(repository: &mut Repository) -> CleanupReport {
    cleanup::run(repository, &CleanupRequest::default()).unwrap()
}

fn forget(repository: &mut Repository, backups: Vec<u64>) {
    let body = vault::chain::Body::Forget { backups, why: String::new() };
    repository.append(body, None, |_| Ok(())).unwrap();
}

/// A directory that somebody cleans up beside, once it was scanned for the first time.
struct Beside<'a> {
    directory: DirectorySource,
    cleaner: Mutex<Repository>,
    rounds: Mutex<u32>,
    clock: &'a TestClock,
}

impl Source for Beside<'_> {
    fn kind(&self) -> vault::chain::SourceKind {
        self.directory.kind()
    }

    fn origin(&self) -> String {
        self.directory.origin()
    }

    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> vault::Result<()> {
        self.directory.scan(context, sink)?;
        sink.settle()?;
        let mut rounds = self.rounds.lock().unwrap();
        *rounds += 1;
        if *rounds == 1 {
            let mut cleaner = self.cleaner.lock().unwrap();
            for _ in 0..3 {
                clean(&mut cleaner);
                self.clock.advance(YEARS);
            }
        }
        Ok(())
    }
}

#[test]
fn a_clean_up_years_ahead_beside_a_backup_costs_it_a_second_attempt_and_no_data() {
    let small = small(2);
    let ahead = wrong(&small, true);
    let mut cleaner = open(&small, &ahead);
    // What the backup finds unchanged is in backups that were forgotten just before.
    let mut writer = open(&small, &small.clock);
    let directory = DirectorySource::new(&small.data(), &[], false).unwrap();
    forget(&mut cleaner, small.seqs.clone());
    let before = small.store.list(Area::Packs, None).unwrap();
    let beside =
        Beside { directory, cleaner: Mutex::new(cleaner), rounds: Mutex::new(0), clock: &ahead };
    let request = vault::backup::BackupRequest::plain("data", "a", &beside, 2);
    let outcome = vault::backup::run(&mut writer, &request).unwrap();
    assert_eq!(*beside.rounds.lock().unwrap(), 2, "the first attempt was fenced");
    let after = small.store.list(Area::Packs, None).unwrap();
    assert!(before.iter().all(|pack| !after.contains(pack)), "what was forgotten is gone");
    for clock in [&small.clock, &ahead] {
        let mut repository = open(&small, clock);
        assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
        assert_restored(&repository, outcome.seq, &small.data());
        clean(&mut repository);
    }
    let repository = open(&small, &small.clock);
    assert_restored(&repository, outcome.seq, &small.data());
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
}

#[test]
fn clean_ups_of_any_clock_take_only_what_is_forgotten() {
    // Who marks, who sweeps, and who cleans up afterwards: a right clock, one ahead, one behind.
    for order in 0..27 {
        let small = small(3);
        let mut clocks = [small.clock.clone(), wrong(&small, true), wrong(&small, false)];
        let turns = [order % 3, order / 3 % 3, order / 9];
        forget(&mut open(&small, &clocks[turns[0]]), vec![small.seqs[1]]);
        for turn in turns.into_iter().chain([0]) {
            clean(&mut open(&small, &clocks[turn]));
            clocks.iter_mut().for_each(|clock| clock.advance(WAIT + Duration::from_secs(60)));
            let repository = open(&small, &clocks[turn]);
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{turns:?}: {:?}", report.findings);
            small.assert_restorable(&repository, &[0, 2]);
        }
        // A backup by a right clock comes through, and what it needs stays, whatever is marked.
        fs::write(small.data().join("file1"), "contents 1\n").unwrap();
        let mut repository = open(&small, &clocks[0]);
        let seq = back_up(&mut repository, &small.data()).unwrap().seq;
        for clock in &clocks {
            clean(&mut open(&small, clock));
            clock.advance(YEARS * 4);
            clean(&mut open(&small, clock));
        }
        repository.refresh().unwrap();
        assert_restored(&repository, seq, &small.data());
        assert!(verify(&repository, Depth::Bytes).unwrap().is_intact(), "{turns:?}");
    }
}

#[test]
fn a_clock_that_is_behind_waits_and_says_so() {
    let small = small(2);
    let mut marker = open(&small, &small.clock);
    forget(&mut marker, small.seqs[..1].to_vec());
    small.clock.advance(WAIT + Duration::from_secs(60));
    assert!(clean(&mut marker).marked > 0);
    let before = small.store.list(Area::Packs, None).unwrap();
    let behind = wrong(&small, false);
    for _ in 0..3 {
        let report = clean(&mut open(&small, &behind));
        assert_eq!(report.deleted, 0);
        assert!(report.waiting[0].contains("waits for another"), "{:?}", report.waiting);
        behind.advance(YEARS / 4);
    }
    assert_eq!(small.store.list(Area::Packs, None).unwrap(), before);
    small.clock.advance(WAIT + Duration::from_secs(60));
    assert!(clean(&mut open(&small, &small.clock)).deleted > 0);
    small.assert_restorable(&open(&small, &small.clock), &[1]);
}

#[test]
fn time_stamps_are_not_trusted_by_a_clock_that_is_behind_them() {
    let small = small(1);
    // The files are newer than the backup that a clock of 1990 makes of them.
    let behind = TestClock::at(631_152_000_000);
    let mut repository = open(&small, &behind);
    let mut parent = back_up(&mut repository, &small.data()).unwrap().seq;
    for _ in 0..2 {
        let outcome = back_up(&mut repository, &small.data()).unwrap();
        assert_eq!(outcome.backup.subject.parent, Some(parent));
        assert_eq!(outcome.backup.statistics.files_read, outcome.backup.totals.files);
        parent = outcome.seq;
    }
    // Once the clock is right, they are, from the second backup on.
    let mut repository = open(&small, &small.clock);
    back_up(&mut repository, &small.data()).unwrap();
    let outcome = back_up(&mut repository, &small.data()).unwrap();
    assert_eq!(outcome.backup.statistics.files_read, 0);
}
