//! Durations in buckets of powers of two: cheap to record, good enough for percentiles.

use std::time::Duration;

/// Buckets by the microseconds' bit length: 0, 1, 2..3, 4..7, … up to about 36 minutes.
const BUCKETS: usize = 32;

/// A histogram of durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    buckets: [u64; BUCKETS],
    count: u64,
    sum_us: u64,
    last_us: u64,
    max_us: u64,
}

impl Durations {
    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.last_us = us;
        self.max_us = self.max_us.max(us);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The latest one, in microseconds.
    pub fn last_us(&self) -> u64 {
        self.last_us
    }

    /// The longest one, in microseconds.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// An upper bound in microseconds that `per_mille` of a thousand stay below; 0 without any.
    pub fn quantile_us(&self, per_mille: u64) -> u64 {
        let wanted = self.count.saturating_mul(per_mille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if wanted > 0 && seen >= wanted {
                return ((1_u64 << bucket) - 1).min(self.max_us);
            }
        }
        0
    }

    /// Each bucket's upper bound in microseconds and its count, for exporters.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(bucket, count)| ((1_u64 << bucket) - 1, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_bound_what_was_recorded() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile_us(500), 0);
        for us in [0, 1, 3, 100, 900] {
            durations.record(Duration::from_micros(us));
        }
        assert_eq!(durations.quantile_us(500), 3);
        assert_eq!(durations.quantile_us(800), 127);
        assert_eq!(durations.quantile_us(1000), 900);
        assert_eq!((durations.count(), durations.last_us(), durations.max_us()), (5, 900, 900));
        durations.record(Duration::MAX);
        assert_eq!(durations.max_us(), u64::MAX);
        assert_eq!(durations.buckets().map(|(_, count)| count).sum::<u64>(), 6);
    }
}
