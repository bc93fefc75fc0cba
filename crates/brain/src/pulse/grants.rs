//! Rules 4 and 5: what a coordinator has granted, and to whom it grants nothing more.
//!
//! A node counts as granted until the receipt of its newest acknowledged heartbeat plus what was
//! granted for it, stretched by drift. Takeover bars a node first, under the same lock, so that
//! no grant can be on its way when the decision is made.

use alloc::collections::BTreeMap;

use model::heartbeat::Grant;
use model::{Moment, ReplicaId, Span};

use super::Pulse;
use crate::plant::Plant;

/// All grants of one term of office.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    nodes: BTreeMap<ReplicaId, Granted>,
    /// Nodes that nobody told of when the office began: as long as this, they may hold a grant.
    inherited_until: Moment,
    /// Ends of longer leases for planned absences, counted from our own append. They outlive
    /// terms of office: a successor waits them out too.
    absences: BTreeMap<ReplicaId, Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Granted {
    until: Moment,
    barred: bool,
}

impl Grants {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.inherited_until = Moment::ZERO;
    }

    pub(super) fn inherit(
        &mut self,
        now: Moment,
        until: Moment,
        known: impl IntoIterator<Item = ReplicaId>,
        anew: bool,
    ) {
        debug_assert!(until >= now);
        self.inherited_until = until;
        if anew {
            self.nodes.clear();
        }
        for node in known {
            self.nodes.entry(node).or_insert(Granted { until, barred: false });
        }
    }

    /// Planted: they should outlive terms of office.
    pub(super) fn forget_absences(&mut self) {
        self.absences.clear();
    }

    /// Every node counts as granted until then at least.
    pub(super) fn wait_until(&mut self, until: Moment) {
        self.inherited_until = self.inherited_until.max(until);
        for granted in self.nodes.values_mut() {
            granted.until = granted.until.max(until);
        }
    }

    pub(super) fn granted(&mut self, node: ReplicaId, until: Moment, shortens: bool) {
        let inherited = self.inherited_until;
        let granted = self.nodes.entry(node).or_insert(Granted { until: inherited, barred: false });
        granted.until = if shortens { until } else { granted.until.max(until) };
    }

    pub(super) fn is_barred(&self, node: ReplicaId) -> bool {
        self.nodes.get(&node).is_some_and(|g| g.barred)
    }

    fn until(&self, node: ReplicaId) -> Moment {
        let granted = self.nodes.get(&node).map_or(self.inherited_until, |g| g.until);
        self.absences.get(&node).map_or(granted, |absence| granted.max(*absence))
    }
}

impl Pulse {
    /// Makes and bookkeeps a grant for a peer's newest heartbeat, where this coordinator may.
    pub(super) fn grant_for(&mut self, now: Moment, to: ReplicaId) -> Option<Grant> {
        let round = self.round(now)?;
        let authority = self.authority_left(now);
        if authority == Span::ZERO {
            return None;
        }
        let ack_to_barred = self.config.plants.has(Plant::AckToBarred);
        if self.grants.is_barred(to) && !ack_to_barred {
            return None;
        }
        let t = self.config.timers;
        let hearing = self.hearing.get(&to)?;
        let received = hearing.received;
        // A node that hears nothing of us (one-way link) gets no grants it would never learn of:
        // it must have acknowledged a beat of ours within the last lease.
        let ack = hearing.acked.filter(|ack| ack.boot == self.config.boot)?;
        let acked = self.sent(ack.seq).map(|sent| sent.at);
        let confirms = acked.is_some_and(|at| now.since(at) <= t.lease);
        if !confirms && !self.config.plants.has(Plant::GrantsUnconfirmed) {
            return None;
        }
        let span = super::lease::span(&t, authority, self.config.plants);
        let uncounted = self.config.plants.has(Plant::GrantNotCounted);
        let careless = uncounted || (self.grants.is_barred(to) && ack_to_barred);
        if !careless {
            let sound = t.lease.min(authority + t.grace);
            let exact = self.config.plants.has(Plant::GrantWithoutDrift);
            let drift_ppm = if exact { 0 } else { t.drift_ppm };
            let ours = self.config.plants.has(Plant::GrantFromOurSending);
            let from = acked.filter(|_| ours).unwrap_or(received);
            let shortens = self.config.plants.has(Plant::GrantShortened);
            self.grants.granted(to, from + sound.stretched(drift_ppm), shortens);
        }
        Some(Grant { term: round.term, span, commit: self.raft.commit })
    }

    /// Until when a node may believe that it holds a lease, for all that this coordinator knows.
    #[must_use]
    pub fn granted_until(&self, node: ReplicaId) -> Moment {
        self.grants.until(node)
    }

    /// A longer lease was committed for a node (rule 7); successors count from their own append.
    pub fn granted_for_absence(&mut self, now: Moment, node: ReplicaId, span: Span) {
        if self.config.plants.has(Plant::AbsenceUncounted) {
            return;
        }
        let until = now + span.stretched(self.config.timers.drift_ppm);
        self.grants.absences.retain(|_, end| *end > now);
        let absence = self.grants.absences.entry(node).or_insert(until);
        *absence = (*absence).max(until);
    }

    /// Bars a node whose last grant has passed, so that it can be taken over (rule 5). False, and
    /// nothing is changed, where it still holds one or this node does not coordinate.
    pub fn bar_if_lapsed(&mut self, now: Moment, node: ReplicaId) -> bool {
        let early = self.config.plants.has(Plant::TakeoverBeforeLapse);
        if self.authority.is_none() || (now < self.grants.until(node) && !early) {
            return false;
        }
        if self.config.plants.has(Plant::TakeoverWithoutBar) {
            return true;
        }
        self.bar(node);
        true
    }

    /// Grants a node nothing more: its last grant will pass.
    pub fn bar(&mut self, node: ReplicaId) {
        let until = self.grants.until(node);
        self.grants.nodes.entry(node).or_insert(Granted { until, barred: false }).barred = true;
    }

    /// The takeover is committed or given up: the node may be granted again.
    pub fn unbar(&mut self, node: ReplicaId) {
        if let Some(granted) = self.grants.nodes.get_mut(&node) {
            granted.barred = false;
        }
    }
}
