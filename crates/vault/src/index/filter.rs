//! A Bloom filter: says "certainly absent" of most ids that a segment does not hold, so that a
//! first backup reads no index blocks.

use crate::chunk::ChunkId;

/// Bits an entry: with [`PROBES`] about one false answer in a hundred.
const BITS_PER_ENTRY: usize = 10;
const PROBES: u64 = 7;

/// An empty filter for so many entries.
pub(super) fn new(entries: usize) -> Vec<u8> {
    vec![0; (entries * BITS_PER_ENTRY).div_ceil(8).max(8)]
}

/// Adds an id.
pub(super) fn add(filter: &mut [u8], id: &ChunkId) {
    for bit in bits(filter.len(), id) {
        filter[bit / 8] |= 1 << (bit % 8);
    }
}

/// Whether the id may have been added.
pub(super) fn may_hold(filter: &[u8], id: &ChunkId) -> bool {
    !filter.is_empty() && bits(filter.len(), id).all(|bit| filter[bit / 8] >> (bit % 8) & 1 == 1)
}

/// Ids are uniform already, so their own bytes serve as hashes.
fn bits(filter_bytes: usize, id: &ChunkId) -> impl Iterator<Item = usize> {
    let total = filter_bytes as u64 * 8;
    let half = |at: usize| u64::from_le_bytes(*id.0[at..].first_chunk().expect("32 bytes"));
    let (start, step) = (half(8), half(16) | 1);
    (0..PROBES).map(move |i| (start.wrapping_add(step.wrapping_mul(i)) % total) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_denied_and_little_else_is_claimed() {
        let id = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let mut filter = new(2000);
        (0..2000).for_each(|n| add(&mut filter, &id(n)));
        assert!((0..2000).all(|n| may_hold(&filter, &id(n))));
        let wrong = (2000..12000).filter(|n| may_hold(&filter, &id(*n))).count();
        assert!(wrong < 200, "{wrong} of 10000");
    }
}
