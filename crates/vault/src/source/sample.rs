//! A look at what is said to be unchanged.

use std::sync::atomic::{AtomicU64, Ordering};

/// Chooses, by a seed, some of the blocks that a map calls unchanged, and counts them.
#[derive(Debug)]
pub struct Sample {
    seed: [u8; 32],
    percent: u8,
    compared: AtomicU64,
    unread: AtomicU64,
}

impl Sample {
    /// So many percent of the blocks; 100 is all of them.
    pub fn new(percent: u8, seed: [u8; 32]) -> Sample {
        Sample { seed, percent, compared: AtomicU64::new(0), unread: AtomicU64::new(0) }
    }

    /// Whether the block that begins at `offset` is to be read.
    pub fn takes(&self, offset: u64) -> bool {
        let hash = blake3::keyed_hash(&self.seed, &offset.to_le_bytes());
        let (first, _) = hash.as_bytes().split_at(8);
        let number = first.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        number % 100 < u64::from(self.percent)
    }

    /// A block that was said to be unchanged was read, and is.
    pub(crate) fn count_compared(&self) {
        self.compared.fetch_add(1, Ordering::Relaxed);
    }

    /// A block was taken from the parent unread.
    pub(crate) fn count_unread(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks compared, and blocks taken unread, so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.compared.load(Ordering::Relaxed), self.unread.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_that_share_and_another_seed_takes_others() {
        let taken = |percent, seed| -> Vec<u64> {
            let sample = Sample::new(percent, [seed; 32]);
            (0..10_000).map(|n| n * 65_536).filter(|at| sample.takes(*at)).collect()
        };
        assert_eq!((taken(0, 1).len(), taken(100, 1).len()), (0, 10_000));
        let (one, other) = (taken(10, 1), taken(10, 2));
        assert!((800..1200).contains(&one.len()), "{}", one.len());
        assert_eq!(one, taken(10, 1));
        assert_ne!(one, other);
    }
}
