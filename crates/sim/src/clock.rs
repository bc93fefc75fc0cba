//! A node's clocks against true time: the boot-time clock drifts, the wall clock jumps.

use model::Moment;

/// The clocks of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The boot-time clock when true time began (or would have, for a later boot).
    offset: i64,
    /// How much faster than true time it runs, in parts per million.
    ppm: i64,
    /// The wall clock against true time, in milliseconds.
    pub(crate) wall_offset_ms: i64,
}

/// Unix milliseconds when true time begins.
const WALL_START_MS: i64 = 1_700_000_000_000;
/// What the boot-time clock shows when a machine's agent can start at the earliest.
const BOOT_NS: i64 = 5_000_000_000;

impl Clock {
    /// A clock that runs `ppm` fast and shows `reads` at true time 0.
    #[must_use]
    pub(crate) fn new(reads: u64, ppm: i64) -> Clock {
        Clock { offset: reads as i64, ppm, wall_offset_ms: 0 }
    }

    /// The machine starts again: its boot-time clock begins anew.
    pub(crate) fn reboot(&mut self, now: u64) {
        self.offset = 0;
        self.offset = BOOT_NS - self.local(now).0 as i64;
    }

    /// What it reads at a true time.
    #[must_use]
    pub(crate) fn local(&self, now: u64) -> Moment {
        let run = now * (1_000_000 + self.ppm) as u64 / 1_000_000;
        Moment((run as i64 + self.offset).max(0) as u64)
    }

    /// The first true time at which it reads `moment` or later.
    #[must_use]
    pub(crate) fn truth(&self, moment: Moment) -> u64 {
        let run = (moment.0 as i64).saturating_sub(self.offset).max(0) as u64;
        // In two parts, so that 64 bits are enough: this is asked at every event.
        let rate = (1_000_000 + self.ppm) as u64;
        let rest = (run % rate * 1_000_000).div_ceil(rate);
        (run / rate * 1_000_000 + rest).min(1 << 62)
    }

    /// The wall clock at a true time, Unix milliseconds.
    #[must_use]
    pub(crate) fn wall_ms(&self, now: u64) -> u64 {
        (WALL_START_MS + (now / 1_000_000) as i64 + self.wall_offset_ms).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_the_first_moment_that_reads_so() {
        for ppm in [-499, -1, 0, 7, 499, 5_000] {
            let clock = Clock::new(77_000_000_000, ppm);
            for now in [1_000u64, 999_999_937, 61_234_567_891] {
                let truth = clock.truth(clock.local(now));
                assert!(truth <= now && now - truth <= 2, "{ppm} {now} {truth}");
                assert_eq!(clock.local(truth), clock.local(now));
            }
        }
    }

    #[test]
    fn a_reboot_sets_the_clock_back() {
        let mut clock = Clock::new(900_000_000_000, 300);
        clock.reboot(40_000_000_000);
        assert_eq!(clock.local(40_000_000_000), Moment(BOOT_NS as u64));
    }
}
