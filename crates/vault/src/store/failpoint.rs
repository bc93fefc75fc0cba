//! A store that fails where it is told to: the tests of crashes and of bad storage use it.

use super::{Area, Created, Listed, ObjectName, Store, StoreError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the process dies, counted in writes and deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before the `n`th takes effect; everything after fails too.
    Before(u64),
    /// After it took effect, without an answer.
    After(u64),
    /// Never.
    Never,
}

/// Wraps a store and counts its changes.
pub struct FailpointStore {
    inner: Arc<dyn Store>,
    crash: Crash,
    changes: AtomicU64,
    capacity_bytes: Option<u64>,
    written_bytes: AtomicU64,
}

impl FailpointStore {
    /// Dies at `crash`.
    pub fn new(inner: Arc<dyn Store>, crash: Crash) -> FailpointStore {
        FailpointStore {
            inner,
            crash,
            changes: AtomicU64::new(0),
            capacity_bytes: None,
            written_bytes: AtomicU64::new(0),
        }
    }

    /// Refuses, as a full disk, what goes beyond `capacity_bytes`.
    pub fn full_after(inner: Arc<dyn Store>, capacity_bytes: u64) -> FailpointStore {
        let mut store = FailpointStore::new(inner, Crash::Never);
        store.capacity_bytes = Some(capacity_bytes);
        store
    }

    /// How many changes were asked for.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn change<T>(
        &self,
        name: &ObjectName,
        act: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let count = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.crash {
            Crash::Before(n) if count >= n => Err(failure(name, io::ErrorKind::Interrupted)),
            Crash::After(n) if count == n => {
                act()?;
                Err(failure(name, io::ErrorKind::Interrupted))
            }
            Crash::After(n) if count > n => Err(failure(name, io::ErrorKind::Interrupted)),
            _ => act(),
        }
    }
}

fn failure(name: &ObjectName, kind: io::ErrorKind) -> StoreError {
    StoreError::Io { action: "change", what: name.to_string(), source: kind.into() }
}

impl Store for FailpointStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        let length = bytes.len() as u64;
        let written = self.written_bytes.fetch_add(length, Ordering::SeqCst) + length;
        if self.capacity_bytes.is_some_and(|c| written > c) {
            return Err(failure(name, io::ErrorKind::StorageFull));
        }
        self.change(name, || self.inner.put_new(name, bytes))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.inner.get_range(name, offset, out)
    }

    fn let_go(&self, name: &ObjectName) {
        self.inner.let_go(name);
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.inner.size(name)
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(area, after)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.change(name, || self.inner.delete(name))
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.inner.remove_leftovers(age)
    }

    fn ranges_are_cheap(&self) -> bool {
        self.inner.ranges_are_cheap()
    }
}
