//! When an address is announced: at once, a few times soon after, as frames get lost and switches
//! learn slowly, and from then on every so often; and again from the beginning whenever somebody
//! may have heard something else.

use model::{Moment, Span};

/// Pauses between the first announcements.
const SOON: [Span; 5] = [
    Span::from_ms(10),
    Span::from_ms(40),
    Span::from_ms(150),
    Span::from_ms(300),
    Span::from_ms(500),
];
/// Pause between the later ones.
const LATER: Span = Span::from_ms(1_000);
/// Between two announcements that something from outside caused lies at least this.
const CALM: Span = Span::from_ms(10);

/// The schedule of one address that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    next: Moment,
    made: usize,
    last: Option<Moment>,
}

impl Schedule {
    /// Begins now.
    pub(super) fn begin(now: Moment) -> Schedule {
        Schedule { next: now, made: 0, last: None }
    }

    /// Begins anew, but keeps its distance from the last one.
    pub(super) fn again(&mut self, now: Moment) {
        let calm = self.last.map_or(now, |last| last + CALM);
        let soon = Moment(calm.0.max(now.0));
        if self.made > 0 {
            *self = Schedule { next: Moment(soon.0.min(self.next.0)), made: 0, last: self.last };
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Moment {
        self.next
    }

    /// Whether one is due; it counts as made then.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + SOON.get(self.made).copied().unwrap_or(LATER);
        self.made += 1;
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_ones_come_quickly_and_the_later_ones_every_second() {
        let mut schedule = Schedule::begin(Moment(0));
        let mut made = Vec::new();
        for ms in 0..4_000 {
            if schedule.is_due(Moment(ms * MS)) {
                made.push(ms);
            }
        }
        assert_eq!(made, [0, 10, 50, 200, 500, 1_000, 2_000, 3_000]);
    }

    #[test]
    fn a_conflict_begins_them_anew_and_a_storm_of_conflicts_is_no_storm_of_answers() {
        let mut schedule = Schedule::begin(Moment(0));
        assert!(schedule.is_due(Moment(0)));
        let mut made = 0;
        for us in 0..100_000 {
            schedule.again(Moment(us * 1_000));
            made += u32::from(schedule.is_due(Moment(us * 1_000)));
        }
        assert!((8..=10).contains(&made), "{made} in 100 ms");
    }
}
