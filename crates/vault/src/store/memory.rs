//! A store in memory, for tests, rehearsals and fault searches.

use super::{Area, Created, Listed, ObjectName, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Objects in a map.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// A copy of everything it holds.
    pub fn snapshot(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        self.lock().clone()
    }

    /// A store with these objects.
    pub fn with(objects: BTreeMap<ObjectName, Vec<u8>>) -> MemoryStore {
        MemoryStore { objects: Mutex::new(objects) }
    }

    /// Replaces an object's bytes, as damage or an attacker would.
    pub fn overwrite(&self, name: &ObjectName, bytes: Vec<u8>) {
        self.lock().insert(name.clone(), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Vec<u8>>> {
        // A panic in another thread leaves the map whole: each verb is one map operation.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Ok(Created::Exists);
        }
        objects.insert(name.clone(), bytes.to_vec());
        Ok(Created::New)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.lock().get(name).cloned().ok_or_else(|| StoreError::NotFound(name.clone()))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let objects = self.lock();
        let bytes = objects.get(name).ok_or_else(|| StoreError::NotFound(name.clone()))?;
        let wanted_bytes = offset.saturating_add(out.len() as u64);
        let slice = usize::try_from(offset).ok().and_then(|from| {
            let to = from.checked_add(out.len())?;
            bytes.get(from..to)
        });
        let slice = slice.ok_or(StoreError::Short { name: name.clone(), wanted_bytes })?;
        out.copy_from_slice(slice);
        Ok(())
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let objects = self.lock();
        let bytes = objects.get(name).ok_or_else(|| StoreError::NotFound(name.clone()))?;
        Ok(bytes.len() as u64)
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        let objects = self.lock();
        let of_area = objects.iter().filter(|(n, _)| n.area() == area);
        let wanted = of_area.filter(|(n, _)| after.is_none_or(|a| *n > a));
        Ok(wanted.map(|(n, b)| Listed { name: n.clone(), size_bytes: b.len() as u64 }).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.lock().remove(name);
        Ok(())
    }

    fn remove_leftovers(&self, _age: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn ranges_are_cheap(&self) -> bool {
        true
    }
}
