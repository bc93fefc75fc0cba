//! What a pacer reads; an argument, so that a test counts bytes and not seconds.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Time, work done, and waiting.
pub trait Clock: Send + Sync {
    /// Time since some moment; it never goes back.
    fn now(&self) -> Duration;

    /// How long this process has been busy, on all processors together.
    fn busy(&self) -> Duration;

    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        duration(clock_gettime(ClockId::Monotonic))
    }

    fn busy(&self) -> Duration {
        duration(clock_gettime(ClockId::ProcessCPUTime))
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
