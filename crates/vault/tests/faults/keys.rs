//! Wrong, revoked and missing keys.

use super::*;

#[test]
fn a_wrong_key_is_told_before_anything_is_written() {
    let small = small(1);
    let before = small.store.snapshot();
    let stranger = age::x25519::Identity::generate();
    let error = Repository::open(small.store.clone(), &stranger, small.clock.options());
    let error = error.err().unwrap();
    assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
    assert_eq!(small.store.snapshot(), before);
    let empty = Repository::open(Arc::new(MemoryStore::new()), &stranger, small.clock.options());
    assert!(matches!(empty.err().unwrap(), VaultError::NoRepository(_)));
}

#[test]
fn a_revoked_key_opens_nothing_that_follows() {
    let small = small(1);
    let mut repository = small.open(small.store.clone()).unwrap();
    let other = age::x25519::Identity::generate();
    let new = vault::repository::NewRecipient {
        holder: vault::keys::wrap::Holder::Recovery,
        label: "recovery".to_owned(),
        recipient: other.to_public().to_string(),
    };
    repository.add_key(&new).unwrap();
    repository.test_key(&other).unwrap();
    let mut before = small.open(small.store.clone()).unwrap();
    assert_eq!(repository.rotate(&["machine".to_owned()], None).unwrap(), 1);
    // Nothing is written under the new keys yet: the old one still opens what there is, is no
    // key of the repository any more, and writes nothing.
    let mut after = small.open(small.store.clone()).unwrap();
    let error = after.test_key(&small.identity).unwrap_err().to_string();
    assert!(error.contains("revoked"), "{error}");
    after.test_key(&other).unwrap();
    let stored = small.store.snapshot();
    for repository in [&mut before, &mut after] {
        let error = back_up(repository, &small.data()).unwrap_err().to_string();
        assert!(error.contains("the keys were rotated"), "{error}");
    }
    assert_eq!(small.store.snapshot(), stored);
    back_up(&mut repository, &small.data()).unwrap();
    let error = small.open(small.store.clone()).err().unwrap();
    assert!(matches!(error, VaultError::NewerKey { .. }), "{error}");
    let reopened = Repository::open(small.store.clone(), &other, small.clock.options()).unwrap();
    small.assert_restorable(&reopened, &[0]);
    assert!(verify(&reopened, Depth::Bytes).unwrap().is_intact());
    assert!(repository.rotate(&["recovery".to_owned()], None).is_err(), "nobody would be left");
}

#[test]
fn an_append_only_repository_forgets_nothing_without_its_deletion_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let key = vault::keys::deletion::DeletionKey::random();
    let (mut repository, _) = init_with(store.clone(), &clock, Some(key.verifying_key()));
    let seq = back_up(&mut repository, &data).unwrap().seq;
    let forget = || vault::chain::Body::Forget { backups: vec![seq], why: "".into() };
    let error = repository.append(forget(), None, |_| Ok(())).unwrap_err();
    assert!(matches!(error, VaultError::NeedsDeletionKey(_)), "{error}");
    let error = cleanup::run(&mut repository, &CleanupRequest::default()).unwrap_err();
    assert!(matches!(error, VaultError::NeedsDeletionKey(_)), "{error}");
    let wrong = vault::keys::deletion::DeletionKey::random();
    let error = repository.append(forget(), Some(&wrong), |_| Ok(())).unwrap_err();
    assert!(matches!(error, VaultError::Refused(_)), "{error}");
    assert_eq!(repository.state().backups.len(), 1);
    let request = CleanupRequest { deletion: Some(&key), ..CleanupRequest::default() };
    let mut owner = repository;
    owner.append(forget(), Some(&key), |_| Ok(())).unwrap();
    cleanup::run(&mut owner, &request).unwrap();
    // The waiting time protects what was forgotten.
    assert_eq!(owner.state().forgotten.len(), 1);
    assert!(verify(&owner, Depth::Bytes).unwrap().is_intact());
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(60));
        cleanup::run(&mut owner, &request).unwrap();
    }
    assert!(store.list(Area::Packs, None).unwrap().is_empty());
}
