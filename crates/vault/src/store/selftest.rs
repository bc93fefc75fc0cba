//! The safety self-test of `vault init`: does this store keep the promises on which the chain
//! and the clean-up stand? A store that lies here would lose backups later, in silence.

use super::{Area, Created, ObjectName, Store, StoreError};
use std::sync::Barrier;
use std::thread;

/// How many writers race for one name.
pub const RACERS: usize = 16;
/// How many races are run.
pub const RACES: usize = 4;

/// A promise that the store broke, or could not be asked about.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// Two writers both believe that they made an object.
    #[error(
        "{location} is not safe for a repository: {winners} of {RACERS} writers that raced to \
         create one object were told that they had won, there must be exactly one. Two backups \
         would overwrite each other's records. Use a store with conditional writes \
         (If-None-Match), or a local directory"
    )]
    Race {
        /// Which store.
        location: String,
        /// How many were told so.
        winners: usize,
    },
    /// A create replaced what was there.
    #[error(
        "{location} is not safe for a repository: creating an object that existed changed it. \
         Records could be replaced. Use a store with conditional writes"
    )]
    Overwritten {
        /// Which store.
        location: String,
    },
    /// Reads or listings lag behind writes.
    #[error(
        "{location} is not safe for a repository: {what}. A clean-up could not see a running \
         backup. Use a store whose reads and listings follow its writes at once"
    )]
    Stale {
        /// Which store.
        location: String,
        /// What lagged.
        what: &'static str,
    },
    /// A range is not what was asked for.
    #[error(
        "{location} is not safe for a repository: a ranged read returned other bytes than were \
         asked for. Use a store that answers range requests"
    )]
    Range {
        /// Which store.
        location: String,
    },
    /// The store failed while it was tried.
    #[error("the store could not be tried")]
    Store(#[from] StoreError),
}

/// Tries the store and leaves nothing behind. `may_delete` is false where the credentials must
/// not delete (append-only): then the truth of deletions is not asked about.
///
/// # Errors
/// The first broken promise, or the store's failure.
pub fn run(store: &dyn Store, may_delete: bool) -> Result<(), SelfTestError> {
    for _ in 0..RACES {
        race(store, may_delete)?;
    }
    Ok(())
}

fn race(store: &dyn Store, may_delete: bool) -> Result<(), SelfTestError> {
    let location = || store.describe();
    let leaf = crate::hex::encode(&crate::random::bytes::<16>());
    let name = ObjectName::new(Area::Probe, &leaf).expect("hexadecimal digits make a leaf");
    // No two ranges of a content are alike, so that one taken from elsewhere shows.
    let content =
        |racer: usize| (0..4096 + racer).map(|at| (at % 251) as u8 ^ racer as u8).collect();
    let contents: Vec<Vec<u8>> = (0..RACERS).map(content).collect();
    let start = Barrier::new(RACERS);
    let results: Vec<Result<Created, StoreError>> = thread::scope(|scope| {
        let racers: Vec<_> = contents
            .iter()
            .map(|content| {
                scope.spawn(|| {
                    start.wait();
                    store.put_new(&name, content)
                })
            })
            .collect();
        racers.into_iter().map(|r| r.join().expect("a racer does not panic")).collect()
    });
    let checked = judge(store, &name, &contents, results);
    if may_delete {
        store.delete(&name)?;
        checked?;
        if !store.get(&name).is_err_and(|e| e.is_not_found()) {
            return Err(SelfTestError::Stale {
                location: location(),
                what: "a deleted object could still be read",
            });
        }
        if store.list(Area::Probe, None)?.iter().any(|l| l.name == name) {
            return Err(SelfTestError::Stale {
                location: location(),
                what: "a deleted object was still listed",
            });
        }
        return Ok(());
    }
    checked
}

fn judge(
    store: &dyn Store,
    name: &ObjectName,
    contents: &[Vec<u8>],
    results: Vec<Result<Created, StoreError>>,
) -> Result<(), SelfTestError> {
    let location = || store.describe();
    let mut winner = None;
    let mut winners = 0;
    for (racer, result) in results.into_iter().enumerate() {
        if result? == Created::New {
            winner = Some(racer);
            winners += 1;
        }
    }
    if winners == 0 {
        // The winner's first answer may have been lost, so that its second try found its own.
        let stored = store.get(name)?;
        winner = contents.iter().position(|content| *content == stored);
    }
    let Some(winner) = winner.filter(|_| winners <= 1) else {
        return Err(SelfTestError::Race { location: location(), winners });
    };
    let content = &contents[winner];
    if store.get(name)? != *content {
        return Err(SelfTestError::Overwritten { location: location() });
    }
    let again = store.put_new(name, b"another")?;
    if again != Created::Exists || store.get(name)? != *content {
        return Err(SelfTestError::Overwritten { location: location() });
    }
    let listed = store.list(Area::Probe, None)?;
    let size_bytes = listed.iter().find(|l| l.name == *name).map(|l| l.size_bytes);
    if size_bytes != Some(content.len() as u64) || store.size(name)? != content.len() as u64 {
        return Err(SelfTestError::Stale {
            location: location(),
            what: "a new object was not listed with its length",
        });
    }
    let mut range = [0; 100];
    store.get_range(name, 1000, &mut range)?;
    let past_the_end = store.get_range(name, 4090 + winner as u64, &mut [0; 100]);
    if range[..] != content[1000..1100] || past_the_end.is_ok() {
        return Err(SelfTestError::Range { location: location() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Listed, local::LocalStore, memory::MemoryStore};
    use std::time::Duration;

    /// A store that breaks one promise.
    #[derive(Default)]
    struct Liar {
        inner: MemoryStore,
        every_create_wins: bool,
        create_replaces: bool,
        listing_lags: bool,
        delete_lies: bool,
        range_ignored: bool,
    }

    impl Store for Liar {
        fn describe(&self) -> String {
            "liar".to_owned()
        }
        fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
            let created = self.inner.put_new(name, bytes)?;
            if self.create_replaces {
                self.inner.overwrite(name, bytes.to_vec());
            }
            Ok(if self.every_create_wins { Created::New } else { created })
        }
        fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
            self.inner.get(name)
        }
        fn get_range(&self, name: &ObjectName, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
            self.inner.get_range(name, if self.range_ignored { 0 } else { at }, out)
        }
        fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
            self.inner.size(name)
        }
        fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
            if self.listing_lags { Ok(Vec::new()) } else { self.inner.list(area, after) }
        }
        fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
            if self.delete_lies { Ok(()) } else { self.inner.delete(name) }
        }
        fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
            self.inner.remove_leftovers(age)
        }
        fn ranges_are_cheap(&self) -> bool {
            true
        }
    }

    #[test]
    fn honest_stores_pass_and_keep_no_probe() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalStore::create(&folder.path().join("repository")).unwrap();
        let stores: [&dyn Store; 2] = [&MemoryStore::new(), &local];
        for store in stores {
            run(store, true).unwrap();
            assert_eq!(store.list(Area::Probe, None).unwrap(), []);
        }
    }

    #[test]
    fn each_broken_promise_is_named() {
        let check = |liar: Liar, expect: &str| {
            let error = run(&liar, true).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(Liar { every_create_wins: true, ..Liar::default() }, "16 of 16 writers");
        check(Liar { create_replaces: true, ..Liar::default() }, "changed it");
        check(Liar { listing_lags: true, ..Liar::default() }, "not listed");
        check(Liar { delete_lies: true, ..Liar::default() }, "could still be read");
        check(Liar { range_ignored: true, ..Liar::default() }, "ranged read");
    }
}
