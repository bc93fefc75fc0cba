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
    /// When it ends, as of the newest promise and configuration.
    until: Option<Moment>,
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
            until: None,
        });
        let wait = if self.config.plants.has(Plant::SuccessorDoesNotWait) {
            Span::ZERO
        } else {
            self.succession_wait(now, succession)
        };
        if self.config.plants.has(Plant::AbsenceOfOneOffice) {
            self.grants.forget_absences();
        }
        let anew = !self.config.plants.has(Plant::GrantsOfEarlierOffice);
        self.grants.inherit(now, now + wait, known, anew);
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
    /// all there is: it is in office, a quorum is bound to it at this moment, and it has applied
    /// what it knows to be committed (others may have before it, where its own disk is slow).
    #[must_use]
    pub fn speaks_for_all(&self, now: Moment, applied: u64) -> bool {
        let careless = self.config.plants.has(Plant::SpeaksWithoutAuthority);
        let bound = careless || self.authority_left(now) > Span::ZERO;
        self.in_office() && bound && applied >= self.raft.commit
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
        let fresh = authority.barrier.is_some() && !self.barrier_is_old(now);
        let lives = now.since(self.alive) <= t.stall_limit;
        let silent = self.config.witness && !self.config.plants.has(Plant::WitnessSolicits);
        let solicits = fresh && lives && !authority.renounced && !silent;
        solicits.then_some(Round { term: authority.term, promise: t.promise })
    }

    pub(super) fn note_promise(&mut self, now: Moment, from: ReplicaId, promised: Promised) {
        if promised.round.boot != self.config.boot {
            return;
        }
        let Some(sent) = self.sent(promised.round.seq) else { return };
        let Some(authority) = &mut self.authority else { return };
        if promised.term == authority.term && sent.promise > Span::ZERO {
            let until = authority.acknowledged.entry(from).or_default();
            let doubled = self.config.plants.has(Plant::AuthorityDoubled);
            let promise = if doubled { sent.promise * 2 } else { sent.promise };
            let late = self.config.plants.has(Plant::AuthorityFromReceipt);
            *until = (*until).max(if late { now } else { sent.at } + promise);
            self.count_promises();
        }
    }

    /// When the present authority ends; none where there is none.
    #[must_use]
    pub fn authority_until(&self) -> Option<Moment> {
        self.authority.as_ref()?.until
    }

    /// Works out when the authority ends, after a promise or a change of configuration.
    pub(super) fn count_promises(&mut self) {
        let until = self.promised_by_quorums();
        if let Some(authority) = &mut self.authority {
            authority.until = until;
        }
    }

    fn promised_by_quorums(&self) -> Option<Moment> {
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
    /// it and lost it, or will lose it, as its disk or quorum does nothing any more. Those who
    /// would follow it count their wait from its last word in the log: were it in office until its
    /// authority ends, leases would end before another is elected. Renounced ones and witnesses
    /// are on their way out anyway.
    #[must_use]
    pub fn must_step_down(&self, now: Moment) -> bool {
        let Some(authority) = &self.authority else { return false };
        let t = &self.config.timers;
        let settled = now.since(authority.since) > t.promise + t.grace;
        let stays = self.config.plants.has(Plant::StaysWithoutAuthority);
        let lost = settled && self.authority_left(now) == Span::ZERO;
        (lost || self.barrier_is_old(now)) && !stays
    }

    /// Whether barriers were committed, and then no more.
    fn barrier_is_old(&self, now: Moment) -> bool {
        let at = self.authority.as_ref().and_then(|authority| authority.barrier);
        let once = self.config.plants.has(Plant::BarrierOnce);
        at.is_some_and(|at| now.since(at) > self.config.timers.barrier_limit) && !once
    }
}
