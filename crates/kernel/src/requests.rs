//! Operations that wait for their outcome, and planned absences.

use std::collections::BTreeMap;

use brain::coordinator::Now;
use brain::coordinator::operations::{Asker, Taken};
use brain::plant::Plant;
use brain::pulse::Pulse;
use model::command::RequestId;
use model::operation::{Operation, Outcome, Refusal};
use model::{Moment, ReplicaId, Span};

use crate::{Kernel, Output, PeerMessage};

/// Most operations that wait here.
pub(crate) const REQUESTS_MAX: usize = 256;
/// How long an operation waits for its outcome.
pub(crate) const REQUEST_WAIT: Span = Span::from_ms(10_000);

/// Operations taken in here that wait for their outcome.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<u64, Moment>,
}

impl Requests {
    pub(crate) fn answer(
        &mut self,
        number: u64,
        result: Result<Outcome, Refusal>,
        out: &mut Vec<Output>,
    ) {
        if self.waiting.remove(&number).is_some() {
            out.push(Output::Answer(number, result));
        }
    }

    pub(crate) fn expire(&mut self, now: Moment, out: &mut Vec<Output>) {
        let late = |at: &Moment| now.since(*at) > REQUEST_WAIT;
        for (number, _) in self.waiting.extract_if(.., |_, at| late(at)) {
            out.push(Output::Answer(number, Err(Refusal::Unknown)));
        }
    }
}

impl Kernel {
    pub(crate) fn operate(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        number: u64,
        by: String,
        operation: Operation,
        out: &mut Vec<Output>,
    ) {
        if self.requests.waiting.len() >= REQUESTS_MAX {
            return out.push(Output::Answer(number, Err(Refusal::Busy)));
        }
        self.requests.waiting.insert(number, now.moment);
        let boot = self.config.boot;
        match self.leader {
            Some(leader) if leader == self.config.replica => {
                let request = RequestId { replica: leader, boot, number };
                let early = self.coordinate(pulse, now, request, by, operation, out);
                if let Some(result) = early {
                    self.requests.answer(number, result, out);
                }
            }
            Some(leader) => {
                let message = PeerMessage::Operate { number, boot, by, operation };
                out.push(Output::Send(leader, message));
            }
            None => {
                let refusal = Refusal::NotCoordinator { coordinator: None };
                self.requests.answer(number, Err(refusal), out);
            }
        }
    }

    /// The coordinator's part of an operation. `None`: the answer comes with the commit.
    fn coordinate(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        request: RequestId,
        by: String,
        operation: Operation,
        out: &mut Vec<Output>,
    ) -> Option<Result<Outcome, Refusal>> {
        self.look_at_group();
        let asker = Asker { request, by };
        let joins = matches!(operation, Operation::Join(_) | Operation::Rejoin(_));
        let taken =
            self.coordinator.operate(now, &self.state, pulse, &self.group, &asker, operation);
        match taken {
            Ok((taken, decisions)) => {
                self.carry_out(pulse, decisions, out);
                let early = taken == Taken::Proposed && !joins;
                if early && pulse.plants().has(Plant::AnsweredWhenProposed) {
                    return Some(Ok(Outcome::Committed { index: self.replica.last_index() }));
                }
                (taken == Taken::Unchanged).then_some(Ok(Outcome::Unchanged))
            }
            Err(Refusal::NotCoordinator { .. }) => {
                let other = self.leader.filter(|l| *l != self.config.replica);
                let coordinator = other.and_then(|l| self.state.node_of(l)).cloned();
                Some(Err(Refusal::NotCoordinator { coordinator }))
            }
            Err(refusal) => Some(Err(refusal)),
        }
    }

    pub(crate) fn on_peer(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        from: ReplicaId,
        message: PeerMessage,
        out: &mut Vec<Output>,
    ) {
        if !self.may_say(from, &message) {
            return self.hold_to_role(from, message, out);
        }
        match message {
            PeerMessage::Raft { bytes, proof } => {
                self.on_raft(pulse, now, from, &bytes, proof, out);
            }
            PeerMessage::Report(report) if report.replica == from => {
                self.coordinator.on_report(now.moment, report);
                self.look = true;
            }
            PeerMessage::Report(_) => self.filtered.strange += 1,
            PeerMessage::Operate { number, boot, by, operation } => {
                let request = RequestId { replica: from, boot, number };
                if let Some(result) = self.coordinate(pulse, now, request, by, operation, out) {
                    let answer = PeerMessage::Answer { number, boot, result };
                    out.push(Output::Send(from, answer));
                }
            }
            PeerMessage::Answer { number, boot, result } if boot == self.config.boot => {
                self.requests.answer(number, result, out);
            }
            PeerMessage::Answer { .. } => {}
            PeerMessage::WantAbsence { boot, request, for_ms } => {
                self.grant_absence(pulse, now, from, boot, request, for_ms, out);
            }
        }
    }

    /// Rule 7: asks for a longer lease. It counts from now and holds once committed.
    pub(crate) fn want_absence(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        for_ms: u64,
        out: &mut Vec<Output>,
    ) {
        self.absences += 1;
        let request = self.absences;
        let (me, boot) = (self.config.replica, self.config.boot);
        self.asked_absence = Some((request, now.moment, for_ms));
        if pulse.plants().has(Plant::AbsenceBeforeCommit) {
            pulse.extend_for_absence(now.moment, now.moment, Span::from_ms(for_ms));
        }
        match self.leader {
            Some(leader) if leader == me => {
                self.grant_absence(pulse, now, me, boot, request, for_ms, out);
            }
            Some(leader) => {
                let message = PeerMessage::WantAbsence { boot, request, for_ms };
                out.push(Output::Send(leader, message));
            }
            None => {}
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn grant_absence(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        who: ReplicaId,
        boot: u64,
        request: u64,
        for_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let decisions = self.coordinator.absence(now, &self.state, who, boot, request, for_ms);
        let later = pulse.plants().has(Plant::AbsenceCountedWhenApplied);
        if !decisions.is_empty() && !later {
            // Counted from here, not from applying it: with a slow disk of our own, the node may
            // learn of the commit long before we do, and count on its longer lease.
            pulse.granted_for_absence(now.moment, who, Span::from_ms(for_ms));
        }
        self.carry_out(pulse, decisions, out);
    }
}
