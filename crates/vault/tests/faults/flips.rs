//! Random bits flipped in a larger repository.

use super::*;

/// How many flips are tried; BACKSTAY_TEST_FLIPS says another number, for long runs.
const FLIPS: u64 = 300;

#[test]
fn random_bits_flipped_in_a_larger_repository_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut repository, identity) = init(store.clone(), &clock);
    for round in 0..3 {
        fs::write(data.join(format!("noise{round}")), noise(round, 400_000)).unwrap();
        back_up(&mut repository, &data).unwrap();
    }
    let objects: Vec<(ObjectName, Vec<u8>)> = store.snapshot().into_iter().collect();
    let total: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(total > 1_000_000, "{total} bytes");
    let wanted = std::env::var("BACKSTAY_TEST_FLIPS").ok();
    let flips = wanted.map_or(FLIPS, |text| text.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let flips = (first as u64..flips).step_by(threads);
            let (objects, identity, clock) = (&objects, &identity, &clock);
            scope.spawn(move || flip_each(flips, objects, identity, clock));
        }
    });
}

/// Flips one bit after another in a copy of these objects, and looks whether it is found.
fn flip_each(
    flips: impl Iterator<Item = u64>,
    objects: &[(ObjectName, Vec<u8>)],
    identity: &age::x25519::Identity,
    clock: &TestClock,
) {
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in objects {
        store.overwrite(name, bytes.clone());
    }
    let total: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    for flip in flips {
        let random = noise(1000 + flip, 16);
        let place = |at: usize| u64::from_le_bytes(*random[at..].first_chunk().unwrap());
        // Half of them by objects, so that small ones are hit, too; half by bytes.
        let ((name, original), byte) = if flip % 2 == 0 {
            let object = &objects[(place(0) % objects.len() as u64) as usize];
            (object, place(8) % object.1.len() as u64)
        } else {
            let mut byte = place(8) % total;
            let hit = objects.iter().find(|(_, bytes)| {
                let here = byte < bytes.len() as u64;
                byte -= if here { 0 } else { bytes.len() as u64 };
                here
            });
            (hit.unwrap(), byte)
        };
        let mut altered = original.clone();
        altered[byte as usize] ^= 1 << (place(0) >> 61);
        store.overwrite(name, altered);
        if let Ok(repository) = Repository::open(store.clone(), identity, clock.options()) {
            let report = verify(&repository, Depth::Bytes).unwrap();
            assert!(!report.is_intact(), "flip {flip}: {name} byte {byte}");
        }
        store.overwrite(name, original.clone());
    }
    let repository = Repository::open(store, identity, clock.options()).unwrap();
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
}
