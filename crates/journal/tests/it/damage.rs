//! Bit rot: every flipped bit is noticed, and a damaged log is left exactly as it is.

use journal::{Disk, MemoryDisk, OpenError, Recovered, Segments};

use crate::group::SMALL;
use crate::log_files::{log_of, log_with_snapshots, open};

fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter();
    names.map(|name| (name.clone(), disk.read(&name).unwrap())).collect()
}

fn same(a: &Recovered, b: &Recovered) -> bool {
    a.entries() == b.entries() && a.snapshot() == b.snapshot() && a.hard_state() == b.hard_state()
}

/// Flips each bit of each file; returns how many flips were refused, and how many were opened
/// around (an older snapshot stood in). Panics if any changed what comes back.
fn flip_everything(disk: &MemoryDisk) -> (usize, usize) {
    let (_, good) = open(disk.clone());
    let (mut refused, mut around) = (0, 0);
    for (name, bytes) in files(disk) {
        for offset in 0..bytes.len() as u64 {
            // One bit of each byte, a different one from byte to byte, to stay quick.
            let mut flipped = disk.clone();
            assert!(flipped.flip_bit(&name, offset, (offset % 8) as u8));
            let operations = flipped.operations();
            match Segments::open(flipped.clone(), SMALL) {
                Err(OpenError::Damaged { .. }) => {
                    refused += 1;
                    assert_eq!(flipped.operations(), operations, "a damaged log was touched");
                }
                Err(error) => panic!("{name} at {offset}: {error}"),
                Ok((_, recovered)) => {
                    let all = |r: &Recovered| r.snapshot().map_or(0, |s| s.index);
                    assert!(
                        name.ends_with(".snap"),
                        "{name} at {offset} opened: {:?}",
                        recovered.notes()
                    );
                    assert!(all(&recovered) <= all(&good));
                    let same_end = recovered.entries().last() == good.entries().last();
                    assert!(same(&recovered, &good) || same_end, "{name} at {offset}");
                    assert!(!recovered.notes().is_empty(), "{name} at {offset}: unnoticed");
                    around += 1;
                }
            }
        }
    }
    (refused, around)
}

#[test]
fn every_flipped_bit_of_a_log_is_damage() {
    let disk = log_of(30, SMALL);
    let names = disk.list().unwrap();
    assert!(names.len() >= 3, "several segments: {names:?}");
    let total: usize = files(&disk).iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(flip_everything(&disk), (total, 0));
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_noticed() {
    let disk = log_with_snapshots();
    let bytes = |ending: &str| -> usize {
        files(&disk).iter().filter(|(name, _)| name.ends_with(ending)).map(|(_, b)| b.len()).sum()
    };
    assert_eq!(flip_everything(&disk), (bytes(".log"), bytes(".snap")));
}

/// The test above would notice a reader that doesn't look: planted by giving back the flipped
/// bytes with their checksums mended, which only the chain can see.
#[test]
fn a_change_with_mended_checksums_breaks_the_chain() {
    let disk = log_of(3, SMALL);
    let (name, bytes) = files(&disk).remove(0);
    let at = bytes.windows(14).position(|window| window == b"entry number 2").unwrap();
    // The entry's data is the end of its payload; its fixed fields and the header come before.
    let (header, payload_end) = (at - 21 - 32, at + 14);
    let mut forged = bytes.clone();
    forged[at] ^= 1;
    let checksum = crc32fast::hash(&forged[header + 32..payload_end]);
    forged[header + 24..header + 28].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32fast::hash(&forged[header..header + 28]);
    forged[header + 28..header + 32].copy_from_slice(&checksum.to_le_bytes());
    let rewrite = |contents: &[u8]| {
        let mut disk = MemoryDisk::new();
        disk.create(&name).unwrap();
        disk.append(&name, contents).unwrap();
        disk
    };
    assert_eq!(open(rewrite(&bytes)).1.entries().len(), 3);
    let error = Segments::open(rewrite(&forged), SMALL).unwrap_err();
    assert!(error.to_string().contains("breaks the hash chain"), "{error}");
}

#[test]
fn garbage_in_place_of_any_file_never_panics() {
    let disk = log_of(10, SMALL);
    let mut chance = crate::group::Chance(7);
    for _ in 0..300 {
        let mut broken = disk.clone();
        for (name, bytes) in files(&disk) {
            let mut garbage = bytes.clone();
            for _ in 0..=chance.below(3) {
                let from = chance.below(garbage.len() as u64) as usize;
                let to = (from + chance.below(200) as usize).min(garbage.len());
                for byte in &mut garbage[from..to] {
                    *byte = chance.next() as u8;
                }
            }
            broken.remove(&name).unwrap();
            broken.create(&name).unwrap();
            broken.append(&name, &garbage).unwrap();
        }
        assert!(Segments::open(broken, SMALL).is_err());
    }
}
