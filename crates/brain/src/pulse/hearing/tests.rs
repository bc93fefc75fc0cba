use model::ReplicaId;

use super::*;
use crate::fixtures::heartbeat;

const H: Span = Span::from_ms(20);

/// Hears one beat after another, each so many milliseconds after the one before.
struct Heard {
    hearing: Hearing,
    now: Moment,
    seq: u64,
}

impl Heard {
    fn first() -> Heard {
        let hearing = Hearing::default();
        let mut heard = Heard { hearing, now: Moment(100_000_000_000), seq: 0 };
        heard.after(0, 1);
        heard
    }

    fn after(&mut self, ms: u64, numbers: u64) {
        self.now += Span::from_ms(ms);
        self.seq += numbers;
        let beat = heartbeat(ReplicaId(1), self.seq, 1);
        assert!(self.hearing.receive(self.now, 0, &beat, H));
    }

    fn is_suspect_after(&self, ms: u64) -> bool {
        self.hearing.suspect(self.now + Span::from_ms(ms), H)
    }
}

#[test]
fn who_beats_regularly_is_suspect_after_three_intervals() {
    let mut heard = Heard::first();
    (0..200).for_each(|_| heard.after(20, 1));
    assert!(!heard.is_suspect_after(60));
    assert!(heard.is_suspect_after(61));
}

#[test]
fn who_beats_irregularly_is_waited_for_longer() {
    let mut heard = Heard::first();
    (0..100).for_each(|_| {
        heard.after(10, 1);
        heard.after(30, 1);
    });
    // A mean of 20 ms and eight deviations of 10 ms.
    assert!(!heard.is_suspect_after(95));
    assert!(heard.is_suspect_after(105));
}

#[test]
fn what_is_missing_among_the_numbers_is_lost() {
    let mut heard = Heard::first();
    heard.after(20, 1);
    assert_eq!(heard.hearing.lost_percent(), 0);
    heard.after(220, 11);
    // 1 - (0.99^10 * 0.99 + 0.01), in percent.
    assert_eq!(heard.hearing.lost_percent(), 9);
    (0..200).for_each(|_| heard.after(20, 1));
    assert_eq!(heard.hearing.lost_percent(), 1, "it fades");
}

#[test]
fn a_link_is_heard_for_as_long_as_it_is_asked_for() {
    let heard = Heard::first();
    assert_eq!(heard.hearing.links_heard(heard.now + H, H), 1);
    assert_eq!(heard.hearing.links_heard(heard.now + H + Span(1), H), 0);
}
