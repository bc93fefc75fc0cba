//! Rule 3, the lease: the timed right of a node to run active instances.
//!
//! It ends at (send time of the heartbeat acknowledged) + min(`L`, `R + G`), on this node's
//! boot-time clock. A lapsed lease burns its epochs; the next one is a new lease, under which
//! nothing is activated before the log is applied up to what the coordinator had committed.

use model::{Moment, Span, Timers};

use super::Pulse;
use crate::plant::{Plant, Plants};

/// A node's own lease.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    end: Option<Moment>,
    /// Activate nothing before this index is applied.
    fresh_from: u64,
    /// Term of the newest grant.
    term: u64,
    lapses: u64,
}

/// The span that a grant covers, from the sending of the heartbeat it acknowledges.
pub(super) fn span(t: &Timers, authority: Span, plants: Plants) -> Span {
    if plants.has(Plant::LeaseUnbounded) {
        return t.lease * 2;
    }
    t.lease.min(authority + t.grace)
}

impl Lease {
    pub(super) fn check(&mut self, now: Moment) {
        if self.end.is_some_and(|end| now >= end) {
            self.end = None;
            self.lapses += 1;
        }
    }

    pub(super) fn extend(&mut self, now: Moment, end: Moment, term: u64, commit: u64) {
        // A lease that has ended is not made longer: what follows it is another one.
        self.check(now);
        if term < self.term || end <= now {
            return;
        }
        self.term = term;
        match self.end {
            Some(present) => {
                self.end = Some(present.max(end));
                self.fresh_from =
                    if self.fresh_from == u64::MAX { commit } else { self.fresh_from };
            }
            None => {
                self.end = Some(end);
                self.fresh_from = commit;
            }
        }
    }

    pub(super) fn lapses(&self) -> u64 {
        self.lapses
    }
}

impl Pulse {
    /// When this node's lease ends; none where it has none.
    #[must_use]
    pub fn lease_end(&self) -> Option<Moment> {
        self.lease.end
    }

    /// Ends the lease where its time has passed. Returns how many have lapsed in this boot.
    pub fn check_lease(&mut self, now: Moment) -> u64 {
        self.lease.check(now);
        self.lease.lapses
    }

    /// The log index that must be applied before anything is activated under the present lease.
    #[must_use]
    pub fn lease_fresh_from(&self) -> u64 {
        self.lease.fresh_from
    }

    /// A started agent tells what lease its predecessor left in the lease page. Where it still
    /// runs (rule 7, or a restart within the lease) it goes on, but nothing new is activated
    /// before a grant says how far the log has to be applied. Otherwise it has lapsed.
    pub fn adopt_lease(&mut self, now: Moment, end: Option<Moment>) {
        match end.filter(|end| *end > now) {
            Some(end) => {
                self.lease.end = Some(end);
                self.lease.fresh_from = u64::MAX;
            }
            None => self.lease.lapses += 1,
        }
    }

    /// A planned absence, asked for at `asked`, is committed (rule 7).
    pub fn extend_for_absence(&mut self, now: Moment, asked: Moment, span: Span) {
        self.lease.check(now);
        let late = self.config.plants.has(Plant::AbsenceFromCommit);
        let asked = if late { now } else { asked };
        if let Some(end) = self.lease.end {
            self.lease.end = Some(end.max(asked + span));
        }
    }

    pub(super) fn lease_for_ourselves(&mut self, now: Moment) {
        if self.round(now).is_none() {
            return;
        }
        let authority = self.authority_left(now);
        let (term, commit) = (self.raft.term, self.raft.commit);
        let careless = self.config.plants.has(Plant::CoordinatorGrantsItself);
        if authority > Span::ZERO && (careless || !self.grants.is_barred(self.config.me)) {
            let span = span(&self.config.timers, authority, self.config.plants);
            self.lease.extend(now, now + span, term, commit);
            let t = self.config.timers;
            self.grants.granted(self.config.me, now + span.stretched(t.drift_ppm), false);
        }
    }
}
