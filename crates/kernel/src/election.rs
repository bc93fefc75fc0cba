//! The filter in front of the log library (rule 1), and when this node stands.

use brain::coordinator::Now;
use brain::plant::Plant;
use brain::pulse::Pulse;
use brain::pulse::promise::Ballot;
use journal::{Message, MessageType, StepError};
use model::state::{MemberRole, Renounced};
use model::{ReplicaId, Span};

use crate::{Kernel, Output};

/// Failed attempts to be elected double the wait for the next one so many times: a disk or a
/// processor that is too slow for the profile gets its coordinator all the same.
const ATTEMPTS_MAX: u32 = 3;

/// How long a voter that began waits for the others before it stands. A majority that slept
/// through the recovery of its quorum hears from the new generation in this time, also where the
/// first packet of a connection is lost (one second), and never gets to lead beside it.
const MEETING: Span = Span::from_ms(2_000);

/// What the filter held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filtered {
    /// Pre-votes and votes that a promise forbade.
    pub votes: u64,
    /// Orders to stand that a promise forbade.
    pub stands: u64,
    /// Messages of this replica to itself, of an unknown sender, or not readable.
    pub strange: u64,
    /// What a member without a vote may not say.
    pub role: u64,
}

impl Kernel {
    pub(crate) fn on_raft(
        &mut self,
        pulse: &Pulse,
        now: Now,
        from: ReplicaId,
        bytes: &[u8],
        proof: Option<Renounced>,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = journal::decode_message(bytes) else {
            self.filtered.strange += 1;
            return;
        };
        if message.from != from.0 || message.to != self.config.replica.0 {
            self.filtered.strange += 1;
            return;
        }
        if !self.may_pass(pulse, now, &message, proof) {
            return;
        }
        let term = message.term;
        let leads = matches!(
            message.msg_type(),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        match self.replica.step(message) {
            Ok(()) => {}
            Err(error @ StepError::LostEntries { .. })
                if !pulse.plants().has(Plant::LostEntriesIgnored) =>
            {
                return out.push(Output::Halt(format!(
                    "{error}; this node's log went back in time (a restored image, a wiped disk): \
                     it must rejoin as a new incarnation"
                )));
            }
            Err(_) => self.filtered.strange += 1,
        }
        let status = self.replica.role();
        if leads && status.term == term && status.leader == Some(from.0) {
            self.leader_heard = now.moment;
        }
    }

    fn may_pass(
        &mut self,
        pulse: &Pulse,
        now: Now,
        message: &Message,
        proof: Option<Renounced>,
    ) -> bool {
        // Only a proof that came along counts, not what this node applied itself: a candidate that
        // does not know of the renounce entry would wait for its predecessor's grace alone.
        match message.msg_type() {
            MessageType::MsgRequestPreVote | MessageType::MsgRequestVote => {
                let candidate = ReplicaId(message.from);
                let ballot = Ballot { candidate, term: message.term, proof };
                let may = pulse.may_support(now.moment, ballot);
                self.filtered.votes += u64::from(!may);
                may
            }
            MessageType::MsgTimeoutNow => {
                let candidate = self.config.replica;
                let ballot = Ballot { candidate, term: message.term + 1, proof };
                let may = pulse.may_support(now.moment, ballot);
                self.filtered.stands += u64::from(!may);
                self.proof = if may { proof } else { None };
                may
            }
            _ => true,
        }
    }

    /// The proof to send along with a message.
    pub(crate) fn proof_for(&self, pulse: &Pulse, message: &Message) -> Option<Renounced> {
        let of_any_term = pulse.plants().has(Plant::ProofOfAnyTerm);
        match message.msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if of_any_term => {
                self.state.renounced.filter(|p| p.candidate == self.config.replica)
            }
            MessageType::MsgRequestVote => self
                .proof
                .filter(|p| p.candidate == self.config.replica && p.term + 1 == message.term),
            MessageType::MsgTimeoutNow => self.state.renounced.filter(|p| p.term == message.term),
            _ => None,
        }
    }

    /// Stands for election where nobody leads and no promise forbids it. Voters take turns by
    /// rank, so that two rarely stand at once; pre-vote keeps a hopeless candidacy harmless.
    pub(crate) fn consider_standing(&mut self, pulse: &Pulse, now: Now) {
        let me = self.config.replica;
        let status = self.replica.role();
        let configurations = &self.configurations;
        let votes = configurations.iter().any(|voters| voters.contains(&me));
        if status.leader == Some(me.0) || !votes {
            return;
        }
        let h = pulse.timers().heartbeat;
        let lone = configurations.iter().all(|voters| voters.len() == 1);
        let silent = now.moment.since(self.leader_heard) > pulse.timers().promise;
        let ballot = Ballot { candidate: me, term: status.term + 1, proof: None };
        let careless = pulse.plants().has(Plant::StandsWhileBound);
        let may_stand = careless || pulse.may_support(now.moment, ballot);
        if !may_stand || !(silent || lone || status.leader.is_none()) {
            // The wait for a turn begins when the promise ends, not before.
            self.stand_after = self.stand_after.max(pulse.promised_until() + h * self.turn());
            return;
        }
        if now.moment < self.stand_after {
            return;
        }
        if !self.has_met_voters(pulse, now) {
            self.stand_after = now.moment + h;
            return;
        }
        self.proof = None;
        // An election must be over before the next one begins, on slow machines too: half the
        // grace is what it may take at most.
        let election = Span(pulse.timers().grace.0 / 2).max(h * 2);
        let unbounded = pulse.plants().has(Plant::PatienceUnbounded);
        let doubled = self.attempts.min(if unbounded { 32 } else { ATTEMPTS_MAX });
        let patience = election * (1 << doubled);
        self.attempts += 1;
        self.stand_after = now.moment + patience + h * self.turn();
        // A refusal means that something durable is still on its way; the next turn tries again.
        if self.replica.campaign().is_err() {
            self.stand_after = now.moment + h;
        }
    }

    /// Whether every other voter was heard since this kernel began, or had its time to be.
    fn has_met_voters(&self, pulse: &Pulse, now: Now) -> bool {
        let waited = now.moment.since(self.since) >= MEETING.max(pulse.timers().promise * 2);
        let heard = |voter: &ReplicaId| {
            *voter == self.config.replica || pulse.hearing().any(|(peer, _)| peer == *voter)
        };
        waited || self.configurations.iter().flatten().all(heard)
    }

    /// How many heartbeats this voter lets pass before it stands: none for the first, more for
    /// the others, and witnesses come last, because they would only hand over.
    fn turn(&self) -> u64 {
        let me = self.config.replica;
        let members = || self.state.members.values();
        let voters = || members().filter(|m| m.role == MemberRole::Voter).map(|m| m.replica);
        if !voters().any(|voter| voter == me) {
            return voters().count() as u64 + 1;
        }
        voters().filter(|voter| *voter < me && Some(*voter) != self.leader).count() as u64
    }
}
