//! Three kinds of time, kept apart by type.
//!
//! [`Moment`] and [`Span`] are for expiry: nanoseconds on one node's boot-time clock
//! (`CLOCK_BOOTTIME`, which goes on in suspend). A moment means nothing on another node.
//! [`ClusterMs`] is the cluster's own time: it is stamped into log entries by the coordinator,
//! never goes back, and drives back-off, maintenance windows and token expiry. Wall-clock
//! milliseconds (`wall_ms: u64`, Unix epoch) are for people only.

use core::fmt;
use core::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Serialize};

/// A point on this node's boot-time clock, in nanoseconds since boot.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Moment(pub u64);

/// A length of time in nanoseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Span {
        Span(ms * 1_000_000)
    }

    /// A span of whole microseconds.
    #[must_use]
    pub const fn from_us(us: u64) -> Span {
        Span(us * 1_000)
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole microseconds, rounded down.
    #[must_use]
    pub const fn as_us(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds with their fraction, for people.
    #[must_use]
    pub fn as_ms_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This span as the slower of two drifting clocks must wait it out: `span · (1 + ρ)`, with ρ
    /// in parts per million, rounded up.
    #[must_use]
    pub const fn stretched(self, drift_ppm: u64) -> Span {
        Span(self.0 + (self.0 as u128 * drift_ppm as u128).div_ceil(1_000_000) as u64)
    }
}

impl Moment {
    /// The beginning of the clock.
    pub const ZERO: Moment = Moment(0);

    /// How long ago `earlier` was; zero where it is later than this moment.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved back, at most to the beginning of the clock.
    #[must_use]
    pub const fn before(self, span: Span) -> Moment {
        Moment(self.0.saturating_sub(span.0))
    }
}

impl Add<Span> for Moment {
    type Output = Moment;
    fn add(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Moment {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Mul<u64> for Span {
    type Output = Span;
    fn mul(self, by: u64) -> Span {
        Span(self.0.saturating_mul(by))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 10_000_000 => write!(f, "{:.2} ms", self.as_ms_f64()),
            ns if ns < 10_000_000_000 => write!(f, "{} ms", self.as_ms()),
            ns => write!(f, "{:.1} s", ns as f64 / 1e9),
        }
    }
}

/// Milliseconds of cluster time. It starts at 0 with the cluster, runs while there is a
/// coordinator, and never goes back, whatever any wall clock does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct ClusterMs(pub u64);

impl ClusterMs {
    /// Later by so many milliseconds.
    #[must_use]
    pub const fn plus(self, ms: u64) -> ClusterMs {
        ClusterMs(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; zero where that is later.
    #[must_use]
    pub const fn since(self, earlier: ClusterMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretching_rounds_up_so_that_no_nanosecond_is_lost() {
        assert_eq!(Span(1).stretched(1), Span(2));
        assert_eq!(Span::from_ms(500).stretched(1_000), Span(500_500_000));
        assert_eq!(Span::ZERO.stretched(1_000), Span::ZERO);
    }

    #[test]
    fn moments_do_not_wrap() {
        assert_eq!(Moment(5).since(Moment(9)), Span::ZERO);
        assert_eq!(Moment(5).before(Span(9)), Moment::ZERO);
        assert_eq!(Moment(u64::MAX) + Span(1), Moment(u64::MAX));
    }
}
