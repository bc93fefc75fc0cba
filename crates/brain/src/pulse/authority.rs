//! Rule 2, authority: how long a coordinator may rely on its voters' promises.
//!
//! It ends `P` after the newest send time that quorums of every configuration in force or
//! proposed have acknowledged. A new term begins with none. Without a living Raft thread or a
//! recent committed barrier, rounds stop, so that authority runs out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::heartbeat::{Promised, Round};
use model::{Moment, ReplicaId, Span};

use super::{Pulse, Succession};
use crate::plant::Plant;

/// A coordinator's standing in one term.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The term.
    pub term: u64,
    /// When it was elected.
    pub since: Moment,
    /// How it came to its office.
    pub(super) succession: Succession,
    /// The newest committed barrier of this term.
    barrier: Option<Moment>,
    /// It gave up its office (final for this term).
    renounced: bool,
    /// Until when each voter or learner has promised: sending time of the newest round it
    /// acknowledged plus the promise that this round asked for.
    acknowledged: BTreeMap<ReplicaId, Moment>,
}

impl Pulse {
    /// This node was elected: its authority begins with nothing, and every known node counts as
    /// granted by the predecessor (rule 4).
    pub fn lead(
        &mut self,
        now: Moment,
        term: u64,
        succession: Succession,
        known: impl IntoIterator<Item = ReplicaId>,
    ) {
        self.authority = Some(Authority {
            term,
            since: now,
            succession,
            barrier: None,
            renounced: false,
            acknowledged: BTreeMap::new(),
        });
        let wait = if self.config.plants.has(Plant::SuccessorDoesNotWait) {
            Span::ZERO
        } else {
            self.succession_wait(now, succession)
        };
        self.grants.inherit(now, now + wait, known);
    }

    /// A barrier that this coordinator proposed in its present term is committed and applied.
    pub fn barrier_committed(&mut self, now: Moment) {
        if let Some(authority) = &mut self.authority {
            authority.barrier = Some(now);
        }
    }

    /// Whether a barrier of the present term was ever committed.
    #[must_use]
    pub fn has_barrier(&self) -> bool {
        self.authority.as_ref().is_some_and(|a| a.barrier.is_some())
    }

    /// Gives up the office: no round and no grant in this term any more.
    pub fn renounce(&mut self) {
        if let Some(authority) = &mut self.authority {
            authority.renounced = !self.config.plants.has(Plant::TransferWithoutRenounce);
        }
    }

    /// Whether this node leads and has not renounced.
    #[must_use]
    pub fn in_office(&self) -> bool {
        self.authority.as_ref().is_some_and(|a| !a.renounced)
    }

    /// Whether nobody else can have decided anything by now, so that what this node has applied is
    /// all there is: it is in office, and a quorum is bound to it at this moment.
    #[must_use]
    pub fn speaks_for_all(&self, now: Moment) -> bool {
        self.in_office() && self.authority_left(now) > Span::ZERO
    }

    /// Since when this node leads.
    #[must_use]
    pub fn leading_since(&self) -> Option<Moment> {
        self.authority.as_ref().map(|a| a.since)
    }

    /// The round that a heartbeat sent now carries.
    pub(super) fn round(&self, now: Moment) -> Option<Round> {
        let authority = self.authority.as_ref()?;
        let t = &self.config.timers;
        let fresh = authority.barrier.is_some_and(|at| now.since(at) <= t.barrier_limit);
        let lives = now.since(self.alive) <= t.stall_limit;
        let silent = self.config.witness && !self.config.plants.has(Plant::WitnessSolicits);
        let solicits = fresh && lives && !authority.renounced && !silent;
        solicits.then_some(Round { term: authority.term, promise: t.promise })
    }

    pub(super) fn note_promise(&mut self, from: ReplicaId, promised: Promised) {
        if promised.round.boot != self.config.boot {
            return;
        }
        let Some(sent) = self.sent(promised.round.seq) else { return };
        let Some(authority) = &mut self.authority else { return };
        if promised.term == authority.term && sent.promise > Span::ZERO {
            let until = authority.acknowledged.entry(from).or_default();
            let doubled = self.config.plants.has(Plant::AuthorityDoubled);
            let promise = if doubled { sent.promise * 2 } else { sent.promise };
            *until = (*until).max(sent.at + promise);
        }
    }

    /// When the present authority ends; none where there is none.
    #[must_use]
    pub fn authority_until(&self) -> Option<Moment> {
        let authority = self.authority.as_ref()?;
        let mut end: Option<Moment> = None;
        for voters in self.raft.configurations.iter().flatten() {
            let mut until: Vec<Moment> =
                voters.iter().filter_map(|v| authority.acknowledged.get(v)).copied().collect();
            until.sort_unstable_by(|a, b| b.cmp(a));
            let lone = self.config.plants.has(Plant::AuthorityOfOne);
            let quorum = if lone { 1 } else { voters.len() / 2 + 1 };
            let by_quorum = *until.get(quorum - 1)?;
            end = Some(end.map_or(by_quorum, |end: Moment| end.min(by_quorum)));
        }
        end
    }

    /// Whether a voter or learner is bound to this coordinator now.
    #[must_use]
    pub fn has_promise_of(&self, now: Moment, replica: ReplicaId) -> bool {
        let authority = self.authority.as_ref();
        authority.and_then(|a| a.acknowledged.get(&replica)).is_some_and(|until| *until > now)
    }

    /// `R`: what remains of the authority.
    #[must_use]
    pub fn authority_left(&self, now: Moment) -> Span {
        self.authority_until().map_or(Span::ZERO, |until| until.since(now))
    }

    /// Whether a coordinator has to step down: it had a promise's time to gain authority, or had
    /// it and lost it. Renounced ones and witnesses are on their way out anyway.
    #[must_use]
    pub fn must_step_down(&self, now: Moment) -> bool {
        let Some(authority) = &self.authority else { return false };
        let t = &self.config.timers;
        let settled = now.since(authority.since) > t.promise + t.grace;
        settled && self.authority_left(now) == Span::ZERO
    }
}
