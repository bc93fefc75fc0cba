//! Clean-up beside backups, and two that store one log.

use super::*;

#[test]
fn a_clean_up_beside_a_running_backup_takes_nothing_that_it_uses() {
    let small = small(2);
    let path = small.data();
    let mut writer = small.open(small.store.clone()).unwrap();
    let mut cleaner = small.open(small.store.clone()).unwrap();
    // A run begins, and only then the backup that it will build on is forgotten and cleaned up.
    let run = vault::chain::RunId([5; 16]);
    let begin = vault::chain::Body::Begin { run, source: "data".into(), host: "b".into() };
    writer.append(begin, None, |_| Ok(())).unwrap();
    let forget = vault::chain::Body::Forget { backups: small.seqs.clone(), why: "".into() };
    cleaner.append(forget, None, |_| Ok(())).unwrap();
    let before = small.store.list(Area::Packs, None).unwrap();
    for _ in 0..3 {
        small.clock.advance(WAIT + Duration::from_secs(60));
        cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    }
    assert_eq!(small.store.list(Area::Packs, None).unwrap(), before, "the sweep waits");
    // A run that shows no life for a day loses its right to record, and the sweep goes on.
    clean_fully(&mut cleaner, &small.clock);
    writer.refresh().unwrap();
    assert!(!writer.state().runs.contains_key(&run));
    assert!(small.store.list(Area::Packs, None).unwrap().is_empty());
    // The next backup finds nothing to build on and stores everything anew.
    let seq = back_up(&mut writer, &path).unwrap().seq;
    assert!(verify(&writer, Depth::Bytes).unwrap().is_intact());
    assert_restored(&writer, seq, &path);
}

#[test]
fn doomed_chunks_that_a_new_backup_needs_are_stored_again_or_spared() {
    let small = small(2);
    let mut cleaner = small.open(small.store.clone()).unwrap();
    let forget = vault::chain::Body::Forget { backups: small.seqs.clone(), why: "".into() };
    cleaner.append(forget, None, |_| Ok(())).unwrap();
    small.clock.advance(WAIT + Duration::from_secs(60));
    cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    assert_eq!(cleaner.state().marks.len(), 1);
    // The mark is in the chain: whoever begins now does not build on what it dooms.
    let mut writer = small.open(small.store.clone()).unwrap();
    let seq = back_up(&mut writer, &small.data()).unwrap().seq;
    clean_fully(&mut cleaner, &small.clock);
    writer.refresh().unwrap();
    assert!(verify(&writer, Depth::Bytes).unwrap().is_intact());
    assert_restored(&writer, seq, &small.data());
}

#[test]
fn a_log_that_two_store_at_one_moment_is_stored_and_two_logs_are_refused() {
    let small = small(0);
    let (begin, bytes) = (vault::postgres::Lsn(16 << 20), vec![7; 3 << 20]);
    let open = || {
        let repository = small.open(small.store.clone()).unwrap();
        let archive = vault::wal::Archive::open(&repository, "ledger", 9, 16 << 20).unwrap();
        (repository, archive)
    };
    // Each knows of none of the others' pieces.
    let (mut stream, mut backup, mut stranger) = (open(), open(), open());
    stream.1.store(&stream.0, 1, begin, &bytes).unwrap();
    backup.1.store(&backup.0, 1, begin, &bytes).unwrap();
    let error = stranger.1.store(&stranger.0, 1, begin, &vec![8; 3 << 20]).unwrap_err();
    assert!(error.to_string().contains("two servers write one log"), "{error}");
    stream.1.store_history(&stream.0, 2, b"1\t0/2000000\tno\n").unwrap();
    backup.1.store_history(&backup.0, 2, b"1\t0/2000000\tno\n").unwrap();
    assert!(stranger.1.store_history(&stranger.0, 2, b"1\t0/3000000\tno\n").is_err());
    let (repository, archive) = open();
    let (store, ring) = (&**repository.store(), repository.ring());
    let range = begin..vault::postgres::Lsn(begin.0 + bytes.len() as u64);
    let read = vault::wal::fetch_stretch(store, ring, archive.catalog(), 1, range).unwrap();
    assert!(read == bytes);
}

/// A repository with two backups, of which the second needs little of the first one's pack: a
/// clean-up rewrites that pack, and deletes the old one. `data` is as the second has it.
fn with_a_pack_to_rewrite() -> (Small, u64) {
    let small = small(0);
    let mut repository = small.open(small.store.clone()).unwrap();
    for number in 0..40 {
        fs::write(small.data().join(format!("sub/file{number}")), noise(number, 2000)).unwrap();
    }
    fs::write(small.data().join("large"), noise(99, 500_000)).unwrap();
    let first = back_up(&mut repository, &small.data()).unwrap().seq;
    fs::remove_file(small.data().join("large")).unwrap();
    let second = back_up(&mut repository, &small.data()).unwrap();
    assert_eq!(second.backup.statistics.files_read, 0);
    let forget = vault::chain::Body::Forget { backups: vec![first], why: "".into() };
    repository.append(forget, None, |_| Ok(())).unwrap();
    (small, second.seq)
}

/// The first phase, and the second; what they did.
fn mark(small: &Small) {
    small.clock.advance(WAIT + Duration::from_secs(60));
    let mut cleaner = small.open(small.store.clone()).unwrap();
    let report = cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    assert!(report.repacked > 0 && report.marked > 0, "{report:?}");
}

fn sweep(small: &Small) {
    small.clock.advance(WAIT + Duration::from_secs(60));
    let mut cleaner = small.open(small.store.clone()).unwrap();
    let report = cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    assert!(report.deleted > 0, "{report:?}");
}

/// A directory beside which a clean-up sweeps once the index of the backup is loaded.
struct SweptBeside<'a> {
    directory: vault::source::directory::DirectorySource,
    small: &'a Small,
    sweeps: std::sync::atomic::AtomicU32,
}

impl vault::source::Source for SweptBeside<'_> {
    fn kind(&self) -> vault::chain::SourceKind {
        self.directory.kind()
    }

    fn origin(&self) -> String {
        self.directory.origin()
    }

    fn scan(
        &self,
        context: &vault::source::ScanContext<'_>,
        sink: &mut dyn vault::source::ScanSink,
    ) -> vault::Result<()> {
        if self.sweeps.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            sweep(self.small);
        }
        self.directory.scan(context, sink)
    }
}

#[test]
fn a_backup_whose_index_is_older_than_a_sweep_loses_nothing() {
    for changed in [false, true] {
        let (small, _) = with_a_pack_to_rewrite();
        let mut writer = small.open(small.store.clone()).unwrap();
        mark(&small);
        if changed {
            // Chunks that only what is deleted holds, and some that it shares with the parent.
            fs::write(small.data().join("large"), noise(99, 500_000)).unwrap();
            fs::write(small.data().join("sub/again"), noise(7, 2000)).unwrap();
        }
        let directory = vault::source::directory::DirectorySource::new(&small.data(), &[], false);
        let (directory, sweeps) = (directory.unwrap(), std::sync::atomic::AtomicU32::new(0));
        let source = SweptBeside { directory, small: &small, sweeps };
        let request = vault::backup::BackupRequest::plain("data", "a", &source, 2);
        let outcome = vault::backup::run(&mut writer, &request).unwrap();
        assert_eq!(outcome.backup.skipped, []);
        let mut repository = small.open(small.store.clone()).unwrap();
        for _ in 0..2 {
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{changed}: {:?}", report.findings);
            assert_restored(&repository, outcome.seq, &small.data());
            clean_fully(&mut repository, &small.clock);
            repository.refresh().unwrap();
        }
        assert_no_garbage(&repository);
    }
}

#[test]
fn a_restore_whose_index_is_older_than_a_sweep_finds_what_was_rewritten() {
    let (small, seq) = with_a_pack_to_rewrite();
    let repository = small.open(small.store.clone()).unwrap();
    let blobs = repository.blobs().unwrap();
    let backup = repository.state().backups[&seq].clone();
    let (forgotten, gone) = repository.state().forgotten.first_key_value().unwrap();
    assert!(*forgotten < seq);
    mark(&small);
    sweep(&small);
    let request = restore_request(&small.folder.path().join("back"));
    let report = vault::restore::run(&blobs, &backup, &request).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(fingerprint(&request.target), fingerprint(&small.data()));
    // One that nobody protected any more is said to be damaged, and not taken for whole.
    let request = restore_request(&small.folder.path().join("gone"));
    let result = vault::restore::run(&blobs, &gone.backup, &request);
    let said = match result {
        Ok(report) => format!("{:?}", report.notes),
        Err(error) => vault::error::explain(&error),
    };
    assert!(said.contains("no pack of the repository holds it"), "{said}");
}

#[test]
fn a_sweep_whose_index_is_older_than_a_backup_spares_what_that_needs() {
    // The sweeping process opened the repository before the backup, and sweeps after it.
    let (small, _) = with_a_pack_to_rewrite();
    mark(&small);
    let mut cleaner = small.open(small.store.clone()).unwrap();
    cleaner.blobs().unwrap();
    fs::write(small.data().join("large"), noise(99, 500_000)).unwrap();
    let mut writer = small.open(small.store.clone()).unwrap();
    let seq = back_up(&mut writer, &small.data()).unwrap().seq;
    small.clock.advance(WAIT + Duration::from_secs(60));
    let report = cleanup::run(&mut cleaner, &CleanupRequest::default()).unwrap();
    assert!(report.deleted > 0, "{report:?}");
    assert!(verify(&cleaner, Depth::Bytes).unwrap().is_intact());
    assert_restored(&cleaner, seq, &small.data());
}
