//! A store whose bytes are paced.

use super::Pacer;
use crate::store::{Area, Created, Listed, ObjectName, Protection, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Hands everything on, and waits for the bytes.
pub struct PacedStore {
    store: Arc<dyn Store>,
    pacer: Arc<Pacer>,
}

impl PacedStore {
    /// Paces a store.
    pub fn new(store: Arc<dyn Store>, pacer: Arc<Pacer>) -> PacedStore {
        PacedStore { store, pacer }
    }
}

impl Store for PacedStore {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        self.pacer.moved(bytes.len() as u64);
        self.store.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let bytes = self.store.get(name)?;
        self.pacer.moved(bytes.len() as u64);
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.store.get_range(name, offset, out)?;
        self.pacer.moved(out.len() as u64);
        Ok(())
    }

    fn let_go(&self, name: &ObjectName) {
        self.store.let_go(name);
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.store.size(name)
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        self.store.list(area, after)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.store.delete(name)
    }

    fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.store.delete_all(names)
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.store.remove_leftovers(age)
    }

    fn protection(&self) -> Result<Protection, StoreError> {
        self.store.protection()
    }

    fn ranges_are_cheap(&self) -> bool {
        self.store.ranges_are_cheap()
    }
}
