//! Coming into office and leaving it, and carrying out what the coordinator machine decides.

use std::collections::BTreeSet;

use brain::coordinator::{Decision, MembershipChange, Now, Progress};
use brain::pulse::{Pulse, Succession};
use journal::MembershipStep;
use model::ReplicaId;
use model::command::{Command, Entry};

use crate::{Kernel, Output};

impl Kernel {
    /// Notices that another leads now, or this node does, or does no more.
    pub(crate) fn notice_leader(&mut self, pulse: &mut Pulse, now: Now) {
        let status = self.replica.role();
        let leader = status.leader.map(ReplicaId);
        if leader != self.leader {
            self.leader = leader;
            self.attempts = if leader.is_some() { 0 } else { self.attempts };
            self.last_report = None;
            self.look = true;
        }
        let leads = (leader == Some(self.config.replica)).then_some(status.term);
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        self.proposed_voters = None;
        self.regroup = true;
        self.refresh_pulse(pulse);
        let Some(term) = leads else { return self.coordinator.follow() };
        // Whoever stood on a renounce entry was elected while promises were still running.
        let transferred =
            self.proof.is_some_and(|p| p.candidate == self.config.replica && p.term + 1 == term);
        let succession = if transferred { Succession::Transferred } else { Succession::Elected };
        let holders = self.state.resources.values().filter_map(|held| held.holder.as_ref());
        let known: Vec<ReplicaId> =
            holders.map(|h| h.replica).chain(self.state.replicas()).collect();
        pulse.lead(now.moment, term, succession, known);
        self.coordinator.lead(now.moment, term, &self.state);
    }

    pub(crate) fn carry_out(
        &mut self,
        pulse: &mut Pulse,
        decisions: Vec<Decision>,
        out: &mut Vec<Output>,
    ) {
        for decision in decisions {
            match decision {
                Decision::Propose(entry) => self.propose(pulse, &entry, out),
                Decision::Membership(change) => self.change_membership(&change),
            }
        }
    }

    fn propose(&mut self, pulse: &mut Pulse, entry: &Entry, out: &mut Vec<Output>) {
        if let Command::Renounce { .. } = entry.command {
            // First give up, then tell (rule 4): the entry must be nowhere while we still grant.
            pulse.renounce();
        }
        let bytes = postcard::to_allocvec(entry).expect("plain data has an encoding");
        if self.replica.propose(bytes).is_err() {
            // Nothing was appended: in a transfer, or no leader any more. A proposal that is lost
            // would leave its subject waiting for ever, so office and volatile state go.
            self.replica.step_down();
            let own = entry.request.filter(|r| r.replica == self.config.replica);
            if let Some(request) = own {
                let refusal = model::Refusal::NotCoordinator { coordinator: None };
                self.requests.answer(request.number, Err(refusal), out);
            }
        }
    }

    fn change_membership(&mut self, change: &MembershipChange) {
        let mut voters: BTreeSet<ReplicaId> =
            self.replica.membership().voters.into_iter().map(ReplicaId).collect();
        let steps = match change {
            MembershipChange::AddLearner(replica) => vec![MembershipStep::AddLearner(replica.0)],
            MembershipChange::Promote { replica, instead_of } => {
                voters.insert(*replica);
                let mut steps = vec![MembershipStep::Promote(replica.0)];
                if let Some(lost) = instead_of {
                    voters.remove(lost);
                    steps.push(MembershipStep::Remove(lost.0));
                }
                steps
            }
            MembershipChange::Remove(replica) => {
                voters.remove(replica);
                vec![MembershipStep::Remove(replica.0)]
            }
        };
        let change = journal::MembershipChange { steps };
        match self.replica.propose_membership(&change) {
            // Rule 2: authority needs quorums of what is proposed as well, from now on.
            Ok(_) => {
                self.proposed_voters = Some(voters);
                self.regroup = true;
            }
            Err(_) => self.coordinator.on_membership(),
        }
    }

    /// Brings the consensus group, as the leader sees it, up to date: who belongs to it is told
    /// by [`Kernel::regroup`], how far they are changes all the time.
    pub(crate) fn look_at_group(&mut self) {
        self.group.last_index = self.replica.last_index();
        let progress = self.replica.progress().into_iter().map(|p| {
            (ReplicaId(p.id), Progress { matched: p.match_index, active: p.recent_active })
        });
        self.group.progress = progress.collect();
    }
}
