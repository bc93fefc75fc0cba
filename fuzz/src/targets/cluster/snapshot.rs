//! Snapshot files, behind their hash.

use journal::fuzzing::{snapshot, snapshot_begin};

use crate::Target;

pub(crate) const TARGET: Target =
    Target::new("snapshot", "snapshot files, behind their hash", read, seeds);

fn read(input: &[u8]) {
    let _raw = snapshot(input);
    let _begun = snapshot(&[&snapshot_begin(), input].concat());
}

fn seeds() -> Vec<Vec<u8>> {
    let mut bytes: Vec<u8> = [7u64, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend_from_slice(&[3; 32]);
    for list in [&[1u64, 2, 3][..], &[], &[4], &[]] {
        bytes.extend_from_slice(&(list.len() as u32).to_le_bytes());
        bytes.extend(list.iter().flat_map(|id| id.to_le_bytes()));
    }
    bytes.push(0);
    bytes.extend_from_slice(&5u64.to_le_bytes());
    bytes.extend_from_slice(b"state");
    vec![bytes.clone(), [snapshot_begin(), bytes].concat()]
}
