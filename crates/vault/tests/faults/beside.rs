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
