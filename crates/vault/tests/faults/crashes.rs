//! The process killed at every change, and a full store.

use super::*;

#[test]
fn a_crash_at_every_change_of_a_backup_harms_nothing_and_leaks_nothing() {
    let small = small(1);
    fs::write(small.data().join("new"), noise(9, 100_000)).unwrap();
    let count = {
        let store = Arc::new(FailpointStore::new(small.copy(), Crash::Never));
        let mut repository = small.open(store.clone()).unwrap();
        back_up(&mut repository, &small.data()).unwrap();
        store.changes()
    };
    assert!(count >= 4, "{count} changes");
    for n in 1..=count {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let inner = small.copy();
            let mut crashing =
                small.open(Arc::new(FailpointStore::new(inner.clone(), crash))).unwrap();
            let result = back_up(&mut crashing, &small.data());
            assert!(result.is_err() || crash == Crash::After(count), "{crash:?}");
            let mut repository = small.open(inner.clone()).unwrap();
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&repository, &[0]);
            // The next backup works, and clean-up removes what the dead run left.
            back_up(&mut repository, &small.data()).unwrap();
            clean_fully(&mut repository, &small.clock);
            assert_no_garbage(&repository);
            assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
            small.assert_restorable(&repository, &[0]);
        }
    }
}

#[test]
fn a_crash_at_every_change_of_a_clean_up_harms_nothing() {
    let small = small(3);
    let prepare = |store: Arc<dyn Store>| {
        let mut repository = small.open(store).unwrap();
        let forget = vault::chain::Body::Forget { backups: vec![small.seqs[1]], why: "".into() };
        repository.append(forget, None, |_| Ok(())).unwrap();
        repository
    };
    let run = |repository: &mut Repository| -> vault::Result<()> {
        for _ in 0..3 {
            small.clock.advance(WAIT + Duration::from_secs(48 * 3600));
            cleanup::run(repository, &CleanupRequest::default())?;
        }
        Ok(())
    };
    let count = {
        let inner = small.copy();
        prepare(inner.clone());
        let store = Arc::new(FailpointStore::new(inner, Crash::Never));
        run(&mut small.open(store.clone()).unwrap()).unwrap();
        store.changes()
    };
    assert!(count >= 5, "{count} changes");
    for n in 1..=count {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let inner = small.copy();
            prepare(inner.clone());
            let mut crashing =
                small.open(Arc::new(FailpointStore::new(inner.clone(), crash))).unwrap();
            let result = run(&mut crashing);
            assert!(result.is_err() || crash == Crash::After(count), "{crash:?}");
            let mut repository = small.open(inner).unwrap();
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&repository, &[0, 2]);
            clean_fully(&mut repository, &small.clock);
            assert_no_garbage(&repository);
            small.assert_restorable(&repository, &[0, 2]);
        }
    }
}

#[test]
fn a_full_store_fails_the_backup_and_nothing_else() {
    let small = small(1);
    fs::write(small.data().join("new"), noise(9, 3 << 20)).unwrap();
    for capacity in [0, 1000, 1 << 20, 3 << 20] {
        let inner = small.copy();
        let store = Arc::new(FailpointStore::full_after(inner.clone(), capacity));
        let mut repository = small.open(store).unwrap();
        let error = back_up(&mut repository, &small.data()).unwrap_err();
        let text = vault::error::explain(&error);
        assert!(text.contains("no storage space"), "{text}");
        let repository = small.open(inner).unwrap();
        assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
        small.assert_restorable(&repository, &[0]);
    }
}

/// Copies everything from one repository to another.
fn copy(from: &Repository, to: &mut Repository) -> vault::Result<usize> {
    let request = CopyRequest { wanted: &[], host: "b".to_owned(), workers: 2 };
    vault::copy::run(from, to, &request).map(|copied| copied.len())
}

#[test]
fn a_crash_at_every_change_of_a_copy_harms_nothing_and_leaks_nothing() {
    let source = small(3);
    let from = source.open(source.store.clone()).unwrap();
    // What receives the copies holds backups of its own, which share nothing with them.
    let small = small_of("theirs", 1);
    let roots = |repository: &Repository| -> Vec<_> {
        let of = |b: &vault::chain::Backup| b.subject.copied.map(|_| b.subject.root);
        repository.state().backups.values().filter_map(of).collect()
    };
    let expect: Vec<_> = from.state().backups.values().map(|b| b.subject.root).collect();
    let count = {
        let store = Arc::new(FailpointStore::new(small.copy(), Crash::Never));
        let mut to = small.open(store.clone()).unwrap();
        assert_eq!(copy(&from, &mut to).unwrap(), 3);
        store.changes()
    };
    // Each of three copies begins, is recorded, and stores something in between.
    assert!(count >= 9, "{count} changes");
    let mut copied_before = BTreeSet::new();
    for n in 1..=count {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let inner = small.copy();
            let mut dying =
                small.open(Arc::new(FailpointStore::new(inner.clone(), crash))).unwrap();
            let result = copy(&from, &mut dying);
            assert!(result.is_err() || crash == Crash::After(count), "{crash:?}");
            let mut to = small.open(inner).unwrap();
            let report = verify(&to, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&to, &[0]);
            // What was recorded is whole, and the next run copies what is missing, and no more.
            let before = roots(&to);
            assert_eq!(before, expect[..before.len()], "{crash:?}");
            assert_eq!(copy(&from, &mut to).unwrap(), 3 - before.len(), "{crash:?}");
            assert_eq!(roots(&to), expect, "{crash:?}");
            copied_before.insert(before.len());
            clean_fully(&mut to, &small.clock);
            assert_no_garbage(&to);
            assert!(to.state().runs.is_empty(), "{crash:?}: a run that never ends");
            let report = verify(&to, Depth::Bytes).unwrap();
            assert!(report.is_intact(), "{crash:?}: {:?}", report.findings);
            small.assert_restorable(&to, &[0]);
            require_copies(&source, &to, &crash);
        }
    }
    assert_eq!(copied_before, BTreeSet::from([0, 1, 2, 3]), "deaths in each copy");
}

/// The copies restore to what was backed up at the source.
fn require_copies(source: &Small, to: &Repository, crash: &Crash) {
    let copies = to.state().backups.iter().filter(|(_, b)| b.subject.copied.is_some());
    for ((seq, _), print) in copies.zip(&source.prints) {
        let back = tempfile::tempdir().unwrap();
        let target = back.path().join("back");
        assert!(restore(to, *seq, &target).unwrap().is_complete(), "{crash:?}");
        assert_eq!(fingerprint(&target), *print, "{crash:?}");
    }
}
