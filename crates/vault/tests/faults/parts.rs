//! Verification by rotating parts: a part a day, and nothing is left out.

use super::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use vault::postgres::Lsn;
use vault::store::{Created, Listed, StoreError};
use vault::verify::{VerifyReport, VerifyRequest};

/// A store that counts which objects are read as a whole.
struct Counting {
    store: Arc<MemoryStore>,
    whole: Mutex<BTreeMap<ObjectName, u32>>,
}

impl Counting {
    fn count(&self, name: &ObjectName, bytes: usize) {
        if self.store.size(name).is_ok_and(|size| size == bytes as u64) {
            *self.whole.lock().unwrap().entry(name.clone()).or_default() += 1;
        }
    }
}

impl Store for Counting {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        self.store.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let bytes = self.store.get(name)?;
        self.count(name, bytes.len());
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.count(name, if offset == 0 { out.len() } else { 0 });
        self.store.get_range(name, offset, out)
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

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.store.remove_leftovers(age)
    }

    fn ranges_are_cheap(&self) -> bool {
        self.store.ranges_are_cheap()
    }
}

/// Packs of many backups, and two logs in pieces of which some were joined.
fn repository_with_logs() -> Small {
    let small = small(24);
    let mut repository = small.open(small.store.clone()).unwrap();
    for (system, source) in [(3, "ledger"), (4, "stock")] {
        let (segment, part) = (16 << 20, 300_000);
        let mut archive = vault::wal::Archive::open(&repository, source, system, segment).unwrap();
        let mut at = segment;
        for round in 0..12 {
            let bytes = noise(system * 100 + round, part);
            archive.store(&repository, 1, Lsn(at), &bytes).unwrap();
            at += part as u64;
        }
        archive.store_history(&repository, 2, b"1\t0/2000000\tno\n").unwrap();
        archive.acknowledge(&mut repository, 1, (Lsn(segment), Lsn(at))).unwrap();
    }
    small
}

/// What a verification reads as a whole, of packs and pieces of logs, and its report.
fn read_by(small: &Small, depth: Depth) -> (BTreeMap<ObjectName, u32>, VerifyReport) {
    let store = Arc::new(Counting { store: small.store.clone(), whole: Mutex::default() });
    let repository = small.open(store.clone()).unwrap();
    store.whole.lock().unwrap().clear();
    let request = VerifyRequest { depth, workers: 2, bytes_read: Arc::default(), memory: None };
    let report = vault::verify::run(&repository, &request).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    let mut whole = std::mem::take(&mut *store.whole.lock().unwrap());
    whole.retain(|name, _| is_of_a_part(name));
    (whole, report)
}

/// Packs, and pieces of logs; histories are short, and every verification reads them.
fn is_of_a_part(name: &ObjectName) -> bool {
    let is_history = name.leaf().ends_with("history");
    matches!(name.area(), Area::Packs) || (name.area() == Area::Wal && !is_history)
}

#[test]
fn the_parts_of_a_verification_read_everything_once() {
    let small = repository_with_logs();
    let all: BTreeSet<ObjectName> =
        small.store.snapshot().into_keys().filter(is_of_a_part).collect();
    let packs = all.iter().filter(|name| name.area() == Area::Packs).count();
    assert!(packs >= 24 && all.len() - packs >= 24, "{packs} packs of {} objects", all.len());
    let (whole, report) = read_by(&small, Depth::Bytes);
    assert_eq!(whole.keys().cloned().collect::<BTreeSet<_>>(), all);
    let (shallow, _) = read_by(&small, Depth::Structure);
    assert_eq!(shallow, BTreeMap::new());
    for of in [1, 2, 7, 30] {
        let mut read: BTreeMap<ObjectName, u32> = BTreeMap::new();
        let (mut packs, mut bytes, mut largest) = (0, 0, 0);
        for part in 0..of {
            let (whole, report) = read_by(&small, Depth::Part { part, of });
            largest = whole.len().max(largest);
            whole.into_iter().for_each(|(name, count)| *read.entry(name).or_default() += count);
            (packs, bytes) = (packs + report.packs_read, bytes + report.bytes_read);
        }
        assert_eq!(read.keys().cloned().collect::<BTreeSet<_>>(), all, "{of} parts");
        assert!(read.values().all(|count| *count == 1), "{of} parts: {read:?}");
        assert_eq!((packs, bytes), (report.packs_read, report.bytes_read), "{of} parts");
        // A part is a part: chance does not put everything into one of them.
        assert!(of == 1 || largest < all.len() * 3 / 4, "{of} parts, {largest} objects in one");
    }
}

#[test]
fn damage_is_found_by_the_part_that_it_lies_in() {
    let small = repository_with_logs();
    for name in small.store.snapshot().keys().filter(|name| is_of_a_part(name)).step_by(5) {
        let store = small.copy();
        let mut bytes = small.store.get(name).unwrap();
        // In the middle of what is sealed, where only a whole reading comes.
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        store.overwrite(name, bytes);
        let repository = small.open(store).unwrap();
        let finds = |part: &u32| {
            let depth = Depth::Part { part: *part, of: 7 };
            let report = verify(&repository, depth).unwrap();
            report.findings.iter().any(|f| f.to_string().contains(name.leaf()))
        };
        let found = (0..7).filter(finds).count();
        let is_pack = name.area() == Area::Packs;
        // A pack's table is read every day, and a chunk of directories by whoever walks them.
        assert!(found == 1 || (is_pack && found == 7), "{name} was found by {found} parts");
    }
}
