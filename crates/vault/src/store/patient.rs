//! A store whose failed requests are tried again. An object store fails now and then, dawdles and
//! loses answers; one such request must not cost the whole clean-up or backup that made it.

use super::{Area, Created, Listed, ObjectName, Protection, Store, StoreError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a request is tried in all.
pub const TRIES_MAX: u32 = 6;
/// The longest pause before the second try; it doubles from try to try.
pub const PAUSE: Duration = Duration::from_millis(100);
/// After this long a request is not tried again: whoever waits for it wants to know.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Hands everything on, and asks again where the store failed for the moment.
pub struct PatientStore {
    store: Arc<dyn Store>,
    pause: Duration,
}

impl PatientStore {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>) -> PatientStore {
        PatientStore::with_pause(store, PAUSE)
    }

    /// As [`PatientStore::new`], with another pause before the second try.
    pub fn with_pause(store: Arc<dyn Store>, pause: Duration) -> PatientStore {
        PatientStore { store, pause }
    }

    /// Tries until it is done, or the failure is for good, or the tries are used up.
    fn patiently<T>(
        &self,
        mut request: impl FnMut(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let mut pause = self.pause;
        for _ in 1..TRIES_MAX {
            match request(&*self.store) {
                Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {}
                other => return other,
            }
            thread::sleep(shortened(pause));
            pause *= 2;
        }
        request(&*self.store)
    }
}

/// Between half of the pause and all of it, so that clients that failed together don't come back
/// together.
fn shortened(pause: Duration) -> Duration {
    let [drawn] = crate::random::bytes::<1>();
    pause / 2 + pause / 2 * u32::from(drawn) / u32::from(u8::MAX)
}

impl Store for PatientStore {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        let mut failed = false;
        let created = self.patiently(|store| {
            let created = store.put_new(name, bytes);
            failed |= created.is_err();
            created
        })?;
        // A try that failed may have reached the store: then what is there is ours.
        if created == Created::Exists && failed && self.get(name)? == bytes {
            return Ok(Created::New);
        }
        Ok(created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.patiently(|store| store.get(name))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.patiently(|store| store.get_range(name, offset, out))
    }

    fn let_go(&self, name: &ObjectName) {
        self.store.let_go(name);
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.patiently(|store| store.size(name))
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        self.patiently(|store| store.list(area, after))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.patiently(|store| store.delete(name))
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.store.remove_leftovers(age)
    }

    fn protection(&self) -> Result<Protection, StoreError> {
        self.patiently(|store| store.protection())
    }

    fn ranges_are_cheap(&self) -> bool {
        self.store.ranges_are_cheap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Fails its first requests; creates take effect all the same where `after` says so.
    #[derive(Default)]
    struct Failing {
        inner: MemoryStore,
        failures: AtomicU32,
        requests: AtomicU32,
        after: bool,
        kind: Option<io::ErrorKind>,
    }

    impl Failing {
        fn fail(&self, name: &ObjectName) -> Result<(), StoreError> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let left = self.failures.load(Ordering::SeqCst);
            if left == 0 {
                return Ok(());
            }
            self.failures.store(left - 1, Ordering::SeqCst);
            let source = self.kind.unwrap_or(io::ErrorKind::ConnectionReset).into();
            Err(StoreError::Io { action: "reach", what: name.to_string(), source })
        }
    }

    impl Store for Failing {
        fn describe(&self) -> String {
            "failing".to_owned()
        }
        fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
            if self.after {
                let created = self.inner.put_new(name, bytes)?;
                return self.fail(name).map(|()| created);
            }
            self.fail(name)?;
            self.inner.put_new(name, bytes)
        }
        fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
            self.fail(name)?;
            self.inner.get(name)
        }
        fn get_range(&self, name: &ObjectName, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
            self.inner.get_range(name, at, out)
        }
        fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
            self.inner.size(name)
        }
        fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
            self.inner.list(area, after)
        }
        fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
            self.inner.delete(name)
        }
        fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
            self.inner.remove_leftovers(age)
        }
        fn ranges_are_cheap(&self) -> bool {
            true
        }
    }

    fn patient(store: &Arc<Failing>) -> PatientStore {
        PatientStore::with_pause(Arc::<Failing>::clone(store), Duration::from_micros(1))
    }

    fn failing(failures: u32, after: bool, kind: Option<io::ErrorKind>) -> Arc<Failing> {
        Arc::new(Failing { failures: failures.into(), after, kind, ..Failing::default() })
    }

    #[test]
    fn a_request_is_tried_so_often_and_not_once_more() {
        let name = ObjectName::of_record(1);
        let store = patient(&failing(TRIES_MAX - 1, false, None));
        assert_eq!(store.put_new(&name, b"x").unwrap(), Created::New);
        assert_eq!(store.get(&name).unwrap(), b"x");
        let inner = failing(TRIES_MAX, false, None);
        assert!(patient(&inner).put_new(&name, b"x").is_err());
        assert_eq!(inner.requests.load(Ordering::SeqCst), TRIES_MAX);
    }

    #[test]
    fn what_fails_for_good_is_not_tried_again() {
        let denied = Some(io::ErrorKind::PermissionDenied);
        for (inner, absent) in [(failing(9, false, denied), false), (failing(0, false, None), true)]
        {
            let got = patient(&inner).get(&ObjectName::of_record(1));
            assert!(got.is_err_and(|error| error.is_not_found() == absent));
            assert_eq!(inner.requests.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn a_lost_answer_makes_neither_two_winners_nor_none() {
        let name = ObjectName::of_record(1);
        let lost = patient(&failing(1, true, None));
        assert_eq!(lost.put_new(&name, b"mine").unwrap(), Created::New);
        // The name was another writer's before the answer was lost.
        let inner = failing(0, true, None);
        let taken = patient(&inner);
        assert_eq!(taken.put_new(&name, b"theirs").unwrap(), Created::New);
        inner.failures.store(1, Ordering::SeqCst);
        assert_eq!(taken.put_new(&name, b"mine").unwrap(), Created::Exists);
    }
}
