//! A store between us and a good one that fails, dawdles, hands out less than there is, loses
//! answers, and says "deleted" of what it keeps. One seed, one run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vault::store::{Area, Created, Listed, ObjectName, Store, StoreError};

/// What it did, by the kind of misdeed.
#[derive(Debug, Default)]
pub struct Misdeeds {
    pub failed: AtomicU64,
    pub lost_answers: AtomicU64,
    pub short: AtomicU64,
    pub slow: AtomicU64,
    pub kept: AtomicU64,
}

/// One of so many deletions is a lie, the first among them.
const LIE_EVERY: u64 = 3;

/// The store.
pub struct Unreliable {
    inner: Arc<dyn Store>,
    state: AtomicU64,
    /// Misdeeds among a thousand calls, of each kind.
    permille: u64,
    /// Deletions so far. Few are asked for, so that chance alone might spare them all.
    deletions: AtomicU64,
    pub misdeeds: Misdeeds,
}

impl Unreliable {
    pub fn new(inner: Arc<dyn Store>, seed: u64, permille: u64) -> Unreliable {
        let state = AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let deletions = AtomicU64::new(0);
        Unreliable { inner, state, permille, deletions, misdeeds: Misdeeds::default() }
    }

    fn draw(&self, counter: &AtomicU64) -> bool {
        let next = |x: u64| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            Some(x ^ (x << 17))
        };
        let drawn = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        let does = drawn.is_ok_and(|drawn| (drawn >> 20) % 1000 < self.permille);
        counter.fetch_add(u64::from(does), Ordering::SeqCst);
        does
    }

    fn fail(&self, name: &ObjectName) -> Result<(), StoreError> {
        if self.draw(&self.misdeeds.slow) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        match self.draw(&self.misdeeds.failed) {
            true => Err(failure(name)),
            false => Ok(()),
        }
    }
}

fn failure(name: &ObjectName) -> StoreError {
    let source = Box::new(io::Error::from(io::ErrorKind::ConnectionReset));
    StoreError::Remote { action: "reach", what: name.to_string(), source }
}

impl Store for Unreliable {
    fn describe(&self) -> String {
        format!("{}, unreliable", self.inner.describe())
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        self.fail(name)?;
        let created = self.inner.put_new(name, bytes)?;
        match self.draw(&self.misdeeds.lost_answers) {
            true => Err(failure(name)),
            false => Ok(created),
        }
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.fail(name)?;
        let mut bytes = self.inner.get(name)?;
        if self.draw(&self.misdeeds.short) {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.fail(name)?;
        self.inner.get_range(name, offset, out)?;
        if self.draw(&self.misdeeds.short) {
            let half = out.len() / 2;
            out[half..].fill(0);
        }
        Ok(())
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.fail(name)?;
        self.inner.size(name)
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        self.fail(&ObjectName::of_record(0))?;
        self.inner.list(area, after)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.fail(name)?;
        if self.deletions.fetch_add(1, Ordering::SeqCst).is_multiple_of(LIE_EVERY) {
            self.misdeeds.kept.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        self.inner.delete(name)
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.inner.remove_leftovers(age)
    }

    fn ranges_are_cheap(&self) -> bool {
        self.inner.ranges_are_cheap()
    }
}
