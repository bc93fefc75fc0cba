//! What one peer's heartbeats tell of it: the newest, on which links, and how regularly.

use model::heartbeat::{Ack, Heartbeat};
use model::{Moment, Span};

/// Links whose hearing is told apart; `model::spec::LINKS_MAX` fits.
pub const LINKS: usize = 8;

/// What is known of one peer's heartbeats.
#[derive(Debug, Clone, Default)]
pub struct Hearing {
    /// Boot of the newest heartbeat.
    pub boot: u64,
    /// Number of the newest heartbeat.
    pub seq: u64,
    /// When the newest was first received, on whichever link.
    pub received: Moment,
    /// The newest of our beats that it had received.
    pub acked: Option<Ack>,
    /// Leases that lapsed there.
    pub lapses: u64,
    /// It said that its own loop stalled.
    pub stalled: bool,
    /// When each link brought something last.
    pub links: [Option<Moment>; LINKS],
    interval: Interval,
    /// Heartbeats received and missing among the newest, as a share that decays.
    received_share: f32,
}

/// Running mean and deviation of the time between heartbeats, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    mean: f32,
    deviation: f32,
}

impl Hearing {
    /// Takes in a heartbeat; false where it is a copy, or older than what is known.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        link: u8,
        heartbeat: &Heartbeat,
        interval: Span,
    ) -> bool {
        if heartbeat.boot < self.boot {
            return false;
        }
        if let Some(seen) = self.links.get_mut(link as usize) {
            *seen = Some(now);
        }
        if heartbeat.boot == self.boot && heartbeat.seq <= self.seq {
            return false;
        }
        if heartbeat.boot > self.boot {
            let links = self.links;
            *self = Hearing { links, received_share: 1.0, ..Hearing::default() };
            self.interval =
                Interval { mean: interval.0 as f32, deviation: interval.0 as f32 / 4.0 };
        } else {
            let missing = (heartbeat.seq - self.seq - 1).min(100) as i32;
            self.received_share *= 0.99_f32.powi_(missing);
            self.received_share = 0.99 * self.received_share + 0.01;
            self.interval.note(now.since(self.received));
        }
        self.boot = heartbeat.boot;
        self.seq = heartbeat.seq;
        self.received = now;
        self.acked = heartbeat.ack;
        self.lapses = heartbeat.lapses;
        self.stalled = heartbeat.stalled;
        true
    }

    /// Whether its silence leaves its own history: longer than mean and eight deviations, and at
    /// least three intervals (phi-accrual with a normal tail at phi ≈ 15; Hayashibara et al.,
    /// "The φ accrual failure detector", 2004).
    #[must_use]
    pub fn suspect(&self, now: Moment, interval: Span) -> bool {
        let limit = self.interval.mean + 8.0 * self.interval.deviation;
        now.since(self.received).0 > (limit as u64).max(interval.0 * 3)
    }

    /// Links that brought a heartbeat within `within`, as a bit set.
    #[must_use]
    pub fn links_heard(&self, now: Moment, within: Span) -> u16 {
        let fresh = |seen: &Option<Moment>| seen.is_some_and(|at| now.since(at) <= within);
        self.links
            .iter()
            .enumerate()
            .filter(|(_, seen)| fresh(seen))
            .fold(0, |bits, (i, _)| bits | 1 << i)
    }

    /// Heartbeats lost on all links at once, in percent of about the last hundred.
    #[must_use]
    pub fn lost_percent(&self) -> u8 {
        ((1.0 - self.received_share) * 100.0) as u8
    }
}

impl Interval {
    fn note(&mut self, span: Span) {
        let span = span.0 as f32;
        let error = span - self.mean;
        self.mean += error / 16.0;
        let magnitude = if error < 0.0 { -error } else { error };
        self.deviation += (magnitude - self.deviation) / 16.0;
    }
}

trait Power {
    fn powi_(self, n: i32) -> Self;
}

impl Power for f32 {
    /// `f32::powi` needs `std`.
    fn powi_(self, n: i32) -> f32 {
        (0..n).fold(1.0, |product, _| product * self)
    }
}

#[cfg(test)]
mod tests;
