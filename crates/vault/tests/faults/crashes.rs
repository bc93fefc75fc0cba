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
