//! A share of the processors. Pure: how long to wait after so much work.

use std::time::Duration;

/// Rest that is saved up, at most.
const CREDIT_MAX: Duration = Duration::from_secs(1);

/// Lets a process be busy for a share of the time that all processors have.
#[derive(Clone, Debug)]
pub struct Share {
    /// Hundredths of a processor.
    hundredths: u64,
    /// From when on, and from how much work on, is counted.
    began: Duration,
    busy: Duration,
}

impl Share {
    /// Counts from `now` on, when the process had been busy for `busy`.
    pub fn new(percent: u8, processors: usize, now: Duration, busy: Duration) -> Share {
        let percent = u64::from(percent.clamp(1, 100));
        let hundredths = percent * processors.max(1) as u64;
        Share { hundredths, began: now, busy }
    }

    /// How long to wait at `now`, having been busy for `busy` altogether.
    pub fn wait(&mut self, now: Duration, busy: Duration) -> Duration {
        let worked = busy.saturating_sub(self.busy).as_nanos() as u64;
        let needed = u128::from(worked) * 100 / u128::from(self.hundredths);
        let needed = Duration::from_nanos(u64::try_from(needed).unwrap_or(u64::MAX));
        let had = now.saturating_sub(self.began);
        let rested = had.saturating_sub(needed);
        if rested > CREDIT_MAX {
            self.began += rested - CREDIT_MAX;
        }
        needed.saturating_sub(had)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_followed_by_rest_and_rest_is_saved_for_a_second_only() {
        let second = Duration::from_secs(1);
        // A quarter of two processors: half a processor.
        let mut share = Share::new(25, 2, 10 * second, 3 * second);
        assert_eq!(share.wait(10 * second, 4 * second), 2 * second);
        assert_eq!(share.wait(12 * second, 4 * second), Duration::ZERO);
        // A minute of rest, then two seconds of work: one second of credit.
        assert_eq!(share.wait(72 * second, 4 * second), Duration::ZERO);
        assert_eq!(share.wait(72 * second, 6 * second), 3 * second);
    }
}
