//! A rate. Pure: how long to wait after so many bytes.

use std::time::Duration;

/// Lets so many bytes pass a second. What was not used is not saved up.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_s: u64,
    /// When everything taken so far may have passed.
    free_at: Duration,
}

impl Bucket {
    /// A rate of at least one byte a second.
    pub fn new(bytes_per_s: u64) -> Bucket {
        Bucket { bytes_per_s: bytes_per_s.max(1), free_at: Duration::ZERO }
    }

    /// Takes bytes at `now`, and says how long their taker waits before it takes more.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.free_at = self.free_at.max(now).saturating_add(Duration::from_nanos(nanos));
        self.free_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_wait_for_all_that_was_taken_and_nothing_is_saved_up() {
        let mut bucket = Bucket::new(1000);
        let second = Duration::from_secs(1);
        assert_eq!(bucket.take(1000, Duration::ZERO), second);
        // Another thread takes as much at the same moment: it waits for both.
        assert_eq!(bucket.take(1000, Duration::ZERO), 2 * second);
        // An hour of rest is no credit.
        assert_eq!(bucket.take(500, 3600 * second), second / 2);
        assert!(bucket.take(u64::MAX, 3600 * second) > 3600 * second);
    }
}
