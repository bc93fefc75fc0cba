//! Which segment is fetched next: no file and no clock in it.

use crate::postgres::{Lsn, SegmentName};
use crate::wal::Catalog;
use std::time::Duration;

/// What a worker does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Fetches this one.
    Fetch(SegmentName),
    /// Looks again after a pause.
    Wait(Duration),
    /// Ends.
    End,
}

/// Where the server is, and how far ahead of it fetching has come.
#[derive(Debug)]
pub(super) struct Aim {
    segment_bytes: u64,
    capacity: usize,
    /// The last segment that the server asked for and did not find ready.
    asked: Option<SegmentName>,
    next: Option<SegmentName>,
}

/// The segment that follows on the same timeline.
pub(super) fn after(segment: SegmentName, segment_bytes: u64) -> SegmentName {
    SegmentName { start: Lsn(segment.start.0 + segment_bytes), ..segment }
}

/// Whether every byte of a segment is in the repository.
pub(super) fn is_whole(catalog: &Catalog, segment: SegmentName, segment_bytes: u64) -> bool {
    let end = after(segment, segment_bytes).start;
    let mut at = segment.start;
    while let Some((_, upto)) = catalog.piece_at(segment.timeline, at).filter(|_| at < end) {
        at = upto;
    }
    at >= end
}

impl Aim {
    pub(super) fn new(segment_bytes: u64, capacity: usize) -> Aim {
        Aim { segment_bytes, capacity, asked: None, next: None }
    }

    /// The server asked for this one, which was not ready. True where that is news.
    pub(super) fn asked(&mut self, segment: SegmentName) -> bool {
        if self.asked == Some(segment) {
            return false;
        }
        self.asked = Some(segment);
        let following = after(segment, self.segment_bytes);
        // What is ahead of it on its timeline is on its way already, or ready.
        let on_its_way = self.next.filter(|next| {
            let most = following.start.0 + self.capacity as u64 * self.segment_bytes;
            next.timeline == segment.timeline && (following.start.0..=most).contains(&next.start.0)
        });
        self.next = Some(on_its_way.unwrap_or(following));
        true
    }

    /// Whether a queued segment is one that the server has still to ask for.
    pub(super) fn is_ahead(&self, segment: SegmentName) -> bool {
        let (Some(asked), Some(next)) = (self.asked, self.next) else { return false };
        segment.timeline == asked.timeline && segment > asked && segment < next
    }

    /// The next segment to fetch where so many are queued and it is whole.
    pub(super) fn next(
        &mut self,
        queued: usize,
        is_whole: impl Fn(SegmentName) -> bool,
    ) -> Option<SegmentName> {
        let next = self.next.filter(|next| queued < self.capacity && is_whole(*next))?;
        self.next = Some(after(next, self.segment_bytes));
        Some(next)
    }

    /// Whether nothing more can be fetched.
    pub(super) fn is_at_end(&self, is_whole: impl Fn(SegmentName) -> bool) -> bool {
        !self.next.is_some_and(is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName { timeline, start: Lsn(number * SEGMENT) }
    }

    fn aimed(timeline: u32, number: u64) -> Aim {
        let mut aim = Aim::new(SEGMENT, 3);
        assert!(aim.asked(segment(timeline, number)));
        aim
    }

    #[test]
    fn what_follows_is_fetched_up_to_the_capacity_and_to_the_end_of_what_is_whole() {
        let mut aim = aimed(1, 7);
        let whole = |s: SegmentName| s.start < Lsn(10 * SEGMENT);
        assert_eq!(aim.next(0, whole), Some(segment(1, 8)));
        assert_eq!(aim.next(3, whole), None);
        assert!(!aim.is_at_end(whole));
        assert_eq!(aim.next(2, whole), Some(segment(1, 9)));
        assert_eq!(aim.next(0, whole), None);
        assert!(aim.is_at_end(whole));
        assert_eq!(Aim::new(SEGMENT, 3).next(0, |_| true), None, "nobody asked yet");
    }

    #[test]
    fn the_same_question_changes_nothing() {
        let mut aim = aimed(1, 7);
        assert_eq!(aim.next(0, |_| true), Some(segment(1, 8)));
        assert!(!aim.asked(segment(1, 7)));
        assert_eq!(aim.next(1, |_| true), Some(segment(1, 9)));
    }

    #[test]
    fn who_overtook_the_queue_is_followed_and_what_is_on_its_way_is_kept() {
        let mut aim = aimed(1, 7);
        (0..3).for_each(|queued| assert!(aim.next(queued, |_| true).is_some()));
        // 8 was not ready when it was asked for; 9 and 10 are on their way.
        assert!(aim.asked(segment(1, 8)));
        assert!(!aim.is_ahead(segment(1, 8)) && aim.is_ahead(segment(1, 9)));
        assert_eq!(aim.next(2, |_| true), Some(segment(1, 11)));
    }

    #[test]
    fn another_timeline_or_a_leap_begins_anew() {
        for elsewhere in [segment(2, 8), segment(1, 3), segment(1, 40)] {
            let mut aim = aimed(1, 7);
            (0..3).for_each(|queued| assert!(aim.next(queued, |_| true).is_some()));
            assert!(aim.asked(elsewhere));
            assert!((8..=10).all(|n| !aim.is_ahead(segment(1, n))), "{elsewhere:?}");
            assert_eq!(aim.next(0, |_| true), Some(after(elsewhere, SEGMENT)));
        }
    }

    #[test]
    fn whole_is_what_has_no_gap_from_its_first_to_its_last_byte() {
        let mut catalog = Catalog::default();
        catalog.add(1, Lsn(0), Lsn(SEGMENT));
        catalog.add(1, Lsn(SEGMENT), Lsn(2 * SEGMENT - 1));
        catalog.add(1, Lsn(2 * SEGMENT), Lsn(2 * SEGMENT + 5));
        catalog.add(1, Lsn(2 * SEGMENT + 5), Lsn(3 * SEGMENT));
        let found = [0, 1, 2, 3].map(|n| is_whole(&catalog, segment(1, n), SEGMENT));
        assert_eq!(found, [true, false, true, false]);
        assert!(!is_whole(&catalog, segment(2, 0), SEGMENT));
    }
}
