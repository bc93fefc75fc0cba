//! Committed entries: applied to the control state, and told to everyone who waits for them.

use std::collections::VecDeque;

use brain::cluster::{self, Applied};
use brain::coordinator::Now;
use brain::plant::{Plant, Plants};
use brain::pulse::Pulse;
use journal::{Committed, Payload};
use model::command::{Command, Entry};
use model::operation::{Outcome, Refusal};
use model::state::{ClusterState, FailureKey};
use model::{ReplicaId, Span};

use crate::{Kernel, Output};

impl Kernel {
    /// Runs the log library until it wants nothing more.
    pub(crate) fn run_raft(&mut self, pulse: &mut Pulse, now: Now, out: &mut Vec<Output>) {
        while let Some(mut work) = self.replica.work() {
            if let Some(snapshot) = &work.installed_snapshot {
                self.install(pulse, now, &snapshot.data, out);
            }
            self.notice_leader(pulse, now);
            for committed in &work.committed {
                self.apply(pulse, now, committed, out);
                self.replica.applied(committed.index);
            }
            if pulse.plants().has(Plant::VoteNotRecorded)
                && let Some(write) = work.write.as_mut().filter(|write| write.entries.is_empty())
                && let Some(hard_state) = &mut write.hard_state
            {
                hard_state.vote = 0;
            }
            // Writes go out before messages only by habit; the library holds back itself what
            // may leave after they are durable.
            out.extend(work.write.map(Output::Write));
            for message in work.send {
                let to = ReplicaId(message.to);
                let proof = self.proof_for(pulse, &message);
                match journal::encode_message(&message) {
                    Ok(bytes) => {
                        out.push(Output::Send(to, crate::PeerMessage::Raft { bytes, proof }));
                    }
                    Err(_) => self.filtered.strange += 1,
                }
            }
            self.compact(pulse.plants());
        }
        self.notice_leader(pulse, now);
        self.refresh_pulse(pulse);
    }

    fn install(&mut self, pulse: &mut Pulse, now: Now, data: &[u8], out: &mut Vec<Output>) {
        match postcard::from_bytes::<ClusterState>(data) {
            Ok(state) => {
                self.state = state;
                self.member.on_snapshot(&self.state);
                self.regroup = true;
                self.wait_out_image(pulse, now);
                self.notice_configuration(pulse, now, out);
                self.look = true;
            }
            Err(error) => out.push(Output::Halt(format!(
                "a snapshot from the coordinator can't be read ({error}): this node's version \
                 does not know its format; upgrade it"
            ))),
        }
    }

    /// Longer leases that a state image tells of, at the start or from a coordinator: none of their
    /// entries will be applied here, and they may run still (rules 4 and 7).
    pub(crate) fn wait_out_image(&mut self, pulse: &mut Pulse, now: Now) {
        self.wait_out_longer(pulse, now);
        for (replica, absence) in &self.state.absences {
            let span = Span::from_ms(absence.for_ms);
            pulse.granted_for_absence(now.moment, *replica, span);
        }
    }

    fn wait_out_longer(&self, pulse: &mut Pulse, now: Now) {
        if let Some(longer) = &self.state.longer {
            pulse.predecessors_may_use(now.moment, longer.profile.timers());
        }
    }

    fn apply(&mut self, pulse: &mut Pulse, now: Now, committed: &Committed, out: &mut Vec<Output>) {
        self.look = true;
        let data = match &committed.payload {
            Payload::Data(data) => data,
            Payload::Empty => return cluster::skip(&mut self.state, committed.index),
            Payload::Membership { .. } => {
                cluster::skip(&mut self.state, committed.index);
                self.proposed_voters = None;
                self.regroup = true;
                self.coordinator.on_membership();
                return out.push(Output::Reconfigured);
            }
        };
        let entry: Entry = match postcard::from_bytes(data) {
            Ok(entry) => entry,
            Err(error) => {
                let index = committed.index;
                out.push(Output::Halt(format!(
                    "entry {index} of the log can't be read ({error}): this node's version does \
                     not know its format; upgrade it"
                )));
                return;
            }
        };
        let events = self.state.history.back().map_or(0, |event| event.index);
        let plants = pulse.plants();
        let applied = cluster::apply_with(&mut self.state, committed.index, &entry, plants);
        let own_term = self.leads == Some(committed.term);
        if own_term && pulse.plants().has(Plant::StatesDiffer) {
            self.state.wall_ms += 1;
        }
        let (state, moment) = (&self.state, now.moment);
        self.coordinator.on_applied(moment, state, &entry, applied, own_term);
        if applied == Applied::Done {
            self.applied(pulse, now, &entry, own_term, out);
        }
        if let Some(event) = self.state.history.back().filter(|event| event.index > events) {
            out.push(Output::Happened { event: event.clone(), leading: own_term });
        }
        self.answer(plants, committed.index, &entry, applied, out);
    }

    fn applied(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        entry: &Entry,
        own_term: bool,
        out: &mut Vec<Output>,
    ) {
        match &entry.command {
            Command::Barrier if own_term => pulse.barrier_committed(now.moment),
            Command::Failed { key: FailureKey { replica, boot, number }, .. } => {
                let key = FailureKey { replica: *replica, boot: *boot, number: *number };
                self.member.on_recorded(key);
            }
            Command::Absence { replica, boot, request, for_ms } => {
                let span = Span::from_ms(*for_ms);
                pulse.granted_for_absence(now.moment, *replica, span);
                let asked = self.asked_absence.take_if(|(number, ..)| {
                    *replica == self.config.replica
                        && *boot == self.config.boot
                        && *number == *request
                });
                if let Some((_, asked, _)) = asked {
                    pulse.extend_for_absence(now.moment, asked, span);
                }
            }
            Command::Renounce { term, candidate } if own_term && self.leads == Some(*term) => {
                self.hand_over(*candidate);
            }
            Command::Apply { .. }
            | Command::Join { .. }
            | Command::Forget { .. }
            | Command::Rotate { .. }
            | Command::Revoke { .. } => {
                self.notice_configuration(pulse, now, out);
            }
            _ => {}
        }
    }

    /// Refused where the candidate votes no more: then the office ends here and now.
    fn hand_over(&mut self, candidate: ReplicaId) {
        if self.replica.transfer(candidate.0).is_err() {
            self.replica.step_down();
        }
    }

    pub(crate) fn notice_configuration(
        &mut self,
        pulse: &mut Pulse,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let timers = self.state.spec.timers();
        if timers != *pulse.timers() {
            pulse.set_timers(now.moment, timers);
        }
        self.wait_out_longer(pulse, now);
        out.push(Output::Reconfigured);
    }

    /// Answers the request that an entry was made for, where it was taken in here.
    fn answer(
        &mut self,
        plants: Plants,
        index: u64,
        entry: &Entry,
        applied: Applied,
        out: &mut Vec<Output>,
    ) {
        let Some(request) = entry.request else { return };
        let this_boot = request.boot == self.config.boot || plants.has(Plant::AnswerOfEarlierBoot);
        if request.replica != self.config.replica || !this_boot {
            return;
        }
        let result = match (applied, &entry.command) {
            (Applied::Done, Command::Join { replica, .. }) => {
                Ok(Outcome::Joined { index, replica: *replica })
            }
            (Applied::Done, Command::NoteFork { found, known, .. }) => {
                Err(Refusal::Forked { found: *found, known: *known })
            }
            (Applied::Done, _) => Ok(Outcome::Committed { index }),
            (Applied::Overtaken, Command::RecordHead { repository, .. }) => {
                let head = self.state.repositories.get(repository).map(|chain| chain.head);
                Err(Refusal::HeadMoved { head })
            }
            (Applied::Overtaken, _) => Err(Refusal::NotNow(String::from(
                "another decision came first; look at the state and ask again",
            ))),
        };
        self.requests.answer(request.number, result, out);
    }

    /// Hands a state image to the log once enough entries came after the last one.
    fn compact(&mut self, plants: Plants) {
        if !self.replica.wants_snapshot() {
            return;
        }
        let mut image = postcard::to_allocvec(&self.state).expect("plain data has an encoding");
        if plants.has(Plant::ImageWithoutHistory) {
            let state = ClusterState { history: VecDeque::new(), ..self.state.clone() };
            image = postcard::to_allocvec(&state).expect("plain data has an encoding");
        }
        if self.replica.snapshot(self.state.index, image).is_err() {
            self.filtered.strange += 1;
        }
    }
}
