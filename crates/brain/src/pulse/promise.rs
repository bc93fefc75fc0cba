//! Rule 1, the promise: a voter that acknowledges a round binds itself.
//!
//! It neither votes for anyone nor stands for `P·(1+ρ)` from the receipt, having durably recorded
//! any larger `P` first. The one exception is the candidate that a renounce entry names, for the
//! one term that follows the renounced one.
//!
//! The promise is kept even towards the same coordinator standing again in a later term: its
//! successor-self would wait only the grace for grants of its earlier term, while they may run
//! for authority and grace.

use model::heartbeat::{Ack, Promised};
use model::state::Renounced;
use model::{Moment, ReplicaId, Span};

use super::{Pulse, PulseConfig};
use crate::plant::{Plant, Plants};

/// A voter's promise.
#[derive(Debug, Clone)]
pub struct Promise {
    /// Until when it binds.
    until: Moment,
    /// The term it was given in.
    term: u64,
    /// The newest round acknowledged, and whose.
    given: Option<(ReplicaId, Promised)>,
    /// Recorded durably: after a start, this much is waited for.
    recorded: Span,
    /// Asked for, larger than what is recorded.
    wanted: Option<Span>,
}

impl Promise {
    pub(super) fn after_start(config: &PulseConfig, now: Moment) -> Promise {
        let mut wait = config.recorded_promise.stretched(config.timers.drift_ppm);
        if config.plants.has(Plant::PromiseForgottenByRestart) {
            wait = Span::ZERO;
        }
        Promise {
            until: now + wait,
            term: config.term,
            given: None,
            recorded: config.recorded_promise,
            wanted: None,
        }
    }

    pub(super) fn consider(
        &mut self,
        plants: Plants,
        now: Moment,
        to: ReplicaId,
        round: Promised,
        promise: Span,
        drift_ppm: u64,
    ) {
        if promise > self.recorded && !plants.has(Plant::PromiseNotRecorded) {
            self.wanted = Some(self.wanted.map_or(promise, |w| w.max(promise)));
            return;
        }
        let newer = match &self.given {
            Some((whom, given)) => {
                (round.term, *whom != to, round.round) >= (given.term, false, given.round)
            }
            None => true,
        };
        if newer {
            let halved = plants.has(Plant::PromiseHalved);
            let promise = if halved { Span(promise.0 / 2) } else { promise };
            self.until = self.until.max(now + promise.stretched(drift_ppm));
            self.term = round.term;
            self.given = Some((to, round));
        }
    }

    pub(super) fn acknowledgement(&self, to: ReplicaId) -> Option<Promised> {
        self.given.filter(|(whom, _)| *whom == to).map(|(_, promised)| promised)
    }
}

/// What the vote filter is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot {
    /// Who stands (this node itself, where it is about to).
    pub candidate: ReplicaId,
    /// In which term.
    pub term: u64,
    /// The renounce entry that the candidate proves it holds, where it does.
    pub proof: Option<Renounced>,
}

impl Pulse {
    /// The filter in front of the consensus library: whether this node may support the ballot
    /// (pre-vote, vote and forced vote alike), or stand itself.
    #[must_use]
    pub fn may_support(&self, now: Moment, ballot: Ballot) -> bool {
        if now >= self.promise.until {
            return true;
        }
        if self.config.plants.has(Plant::VoteBeforePromiseEnds) {
            return true;
        }
        if self.config.plants.has(Plant::VoteForPromised)
            && self.promise.given.is_some_and(|(whom, _)| whom == ballot.candidate)
        {
            return true;
        }
        let of_any_term = self.config.plants.has(Plant::ProofOfAnyTerm);
        ballot.proof.is_some_and(|renounced| {
            if of_any_term {
                return renounced.candidate == ballot.candidate;
            }
            renounced.candidate == ballot.candidate
                && renounced.term + 1 == ballot.term
                && renounced.term >= self.promise.term
        })
    }

    /// Until when this node is bound.
    #[must_use]
    pub fn promised_until(&self) -> Moment {
        self.promise.until
    }

    /// A promise longer than any recorded is asked for: record it durably, then call
    /// [`Pulse::promise_recorded`]. Until then such rounds are not acknowledged.
    #[must_use]
    pub fn promise_to_record(&self) -> Option<Span> {
        self.promise.wanted.filter(|wanted| *wanted > self.promise.recorded)
    }

    /// This much is on disk now.
    pub fn promise_recorded(&mut self, promise: Span) {
        self.promise.recorded = self.promise.recorded.max(promise);
        if self.promise.wanted.is_some_and(|wanted| wanted <= self.promise.recorded) {
            self.promise.wanted = None;
        }
    }

    /// A coordinator is bound by its own rounds like any voter.
    pub(super) fn round_for_ourselves(&mut self, now: Moment) {
        let Some(round) = self.round(now) else { return };
        let id = Ack { boot: self.config.boot, seq: self.seq };
        let promised = Promised { term: round.term, round: id };
        let (me, drift) = (self.config.me, self.config.timers.drift_ppm);
        self.promise.consider(self.config.plants, now, me, promised, round.promise, drift);
        if self.promise.acknowledgement(me) == Some(promised) {
            self.note_promise(now, me, promised);
        }
    }
}
