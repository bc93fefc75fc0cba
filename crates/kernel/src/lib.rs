//! One node without I/O: brain and journal glued together.
//!
//! [`Kernel::handle`] takes one input and returns what is to be done. The agent drives it with
//! real clocks, sockets and disks, the simulator with fake ones; there is no second copy of the
//! glue that could differ. The [`brain::Pulse`] is passed in at each call because the agent
//! shares it with the heartbeat thread under a lock (DESIGN.md, rule 1).
//!
//! **Architecture invariant:** no I/O, no clock, no threads, no randomness. Nothing may rest on
//! the coordinator applying an entry before others do: a quorum can commit it while the
//! coordinator's own disk is slow.

mod apply;
mod election;
mod lead;
mod message;
pub mod replay;
mod requests;
mod role;
mod view;

use std::collections::BTreeSet;

use brain::Plant;
use brain::coordinator::{Coordinator, Group, Now};
use brain::member::{Action, InstanceEvent, LeaseView, Member, MemberConfig};
use brain::pulse::{Pulse, RaftView};
use journal::{Replica, Write, WriteId};
use model::authority::Identity;
use model::operation::{Operation, Outcome, Refusal};
use model::state::{ClusterState, Event, Renounced};
use model::{Moment, NodeName, ReplicaId, Span};

pub use election::Filtered;
pub use message::PeerMessage;
pub use view::{Health, NodeStatus, ResourceStatus, Status};

/// A report is sent at least this often.
pub const REPORT_EVERY: Span = Span::from_ms(1_000);

/// What a kernel is made with.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// This node's name.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// The start count of its agent.
    pub boot: u64,
}

/// Something that happened to this node.
#[derive(Debug)]
pub enum Input {
    /// Time passed; due at [`Kernel::wake_at`] at the latest.
    Tick,
    /// A message over the peer connection; its sender is authenticated.
    Peer(ReplicaId, PeerMessage),
    /// A write is durable.
    Written(WriteId),
    /// The larger promise is durable.
    PromiseRecorded(Span),
    /// Launcher, guard or a health check said something.
    Instance(InstanceEvent),
    /// Someone asks for an operation here; answered under this number.
    Operate {
        /// Names the request on this node.
        number: u64,
        /// Who asks, from the certificate.
        by: String,
        /// What for.
        operation: Operation,
    },
    /// This node's certificate or what it believes has changed.
    Identity(Identity),
    /// This node's agent is about to restart and wants its lease to last (rule 7).
    WantAbsence {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// Something to be done.
#[derive(Debug)]
pub enum Output {
    /// Send a message.
    Send(ReplicaId, PeerMessage),
    /// Make this durable, then say [`Input::Written`].
    Write(Write),
    /// Make the largest promise durable, then say [`Input::PromiseRecorded`].
    RecordPromise(Span),
    /// Have the launcher do this.
    Act(Action),
    /// A request's answer.
    Answer(u64, Result<Outcome, Refusal>),
    /// Something happened in the cluster (every node says so; `leading` on the coordinator,
    /// which is where hooks are called).
    Happened {
        /// What.
        event: Event,
        /// Whether this node coordinated when it was applied.
        leading: bool,
    },
    /// The control state changed its members, specification or authorities.
    Reconfigured,
    /// The log can't go on; the node has to stop.
    Halt(String),
}

/// One node without I/O.
pub struct Kernel {
    config: KernelConfig,
    replica: Replica,
    state: ClusterState,
    member: Member,
    coordinator: Coordinator,
    /// The leader of the last step, to notice changes.
    leader: Option<ReplicaId>,
    leads: Option<u64>,
    /// Voters as they will be once a proposed change is applied.
    proposed_voters: Option<BTreeSet<ReplicaId>>,
    leader_heard: Moment,
    next_raft_tick: Moment,
    last_report: Option<Moment>,
    heard_connected: BTreeSet<ReplicaId>,
    stand_after: Moment,
    /// When this kernel began; before it stands, it meets the other voters.
    since: Moment,
    /// Attempts to be elected since a leader was known.
    attempts: u32,
    proof: Option<Renounced>,
    filtered: Filtered,
    promise_asked: Span,
    requests: requests::Requests,
    asked_absence: Option<(u64, Moment, u64)>,
    absences: u64,
    look: bool,
    /// What the last pass of the member machine rested on; it looks again when that changes, and
    /// at every tick while it waits for what time alone changes.
    acted_on: Option<(u64, LeaseView)>,
    /// Voter sets of every configuration in force or proposed, as of the last change.
    configurations: Vec<BTreeSet<ReplicaId>>,
    regroup: bool,
    /// Who votes and who learns, as of the last change; see [`Kernel::look_at_group`].
    group: Group,
    /// The pulse knows the longer leases of the state that this kernel began with.
    begun: bool,
}

impl Kernel {
    /// A node that begins now, with its log as recovered: the state image first, committed
    /// entries follow as the log hands them over.
    #[must_use]
    pub fn new(config: KernelConfig, replica: Replica, state: ClusterState, now: Moment) -> Kernel {
        let member = Member::new(MemberConfig {
            node: config.node.clone(),
            replica: config.replica,
            boot: config.boot,
            plants: brain::Plants::NONE,
        });
        Kernel {
            member,
            coordinator: Coordinator::new(config.replica),
            leader: None,
            leads: None,
            proposed_voters: None,
            leader_heard: Moment::ZERO,
            next_raft_tick: now,
            last_report: None,
            heard_connected: BTreeSet::new(),
            stand_after: now,
            since: now,
            attempts: 0,
            proof: None,
            filtered: Filtered::default(),
            promise_asked: Span::ZERO,
            requests: requests::Requests::default(),
            asked_absence: None,
            absences: 0,
            look: true,
            acted_on: None,
            configurations: Vec::new(),
            regroup: true,
            group: Group::default(),
            begun: false,
            config,
            replica,
            state,
        }
    }

    /// Plants faults into the member and the coordinator machine (the pulse has its own).
    #[cfg(feature = "plant")]
    pub fn plant(&mut self, plants: brain::Plants) {
        self.coordinator.plant(plants);
        self.member = Member::new(MemberConfig {
            node: self.config.node.clone(),
            replica: self.config.replica,
            boot: self.config.boot,
            plants,
        });
    }

    /// Takes one input; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, pulse: &mut Pulse, now: Now, input: Input, out: &mut Vec<Output>) {
        pulse.raft_thread_lives(now.moment);
        if !core::mem::replace(&mut self.begun, true) {
            self.wait_out_image(pulse, now);
        }
        self.take(pulse, now, input, out);
        self.raft_ticks(pulse, now);
        self.run_raft(pulse, now, out);
        self.act(pulse, now, out);
        self.tell(pulse, now, out);
        self.decide(pulse, now, out);
        self.consider_standing(pulse, now);
        self.run_raft(pulse, now, out);
        self.record_promise(pulse, out);
        self.requests.expire(now.moment, out);
    }

    fn take(&mut self, pulse: &mut Pulse, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => {
                self.look = true;
                if self.member.waits() {
                    self.acted_on = None;
                }
            }
            Input::Peer(from, message) => self.on_peer(pulse, now, from, message, out),
            Input::Written(WriteId(id)) => {
                let ahead = u64::from(pulse.plants().has(Plant::WrittenOneAhead));
                self.replica.written(WriteId(id + ahead));
            }
            Input::PromiseRecorded(promise) => pulse.promise_recorded(promise),
            Input::Instance(event) => {
                self.acted_on = None;
                self.member.on_event(now.moment, &self.state, event);
            }
            Input::Operate { number, by, operation } => {
                self.operate(pulse, now, number, by, operation, out);
            }
            Input::Identity(identity) => self.member.set_identity(identity),
            Input::WantAbsence { for_ms } => self.want_absence(pulse, now, for_ms, out),
        }
    }

    /// Lets the log library's timers run; they only count, elections are ours.
    fn raft_ticks(&mut self, pulse: &Pulse, now: Now) {
        let every = pulse.timers().heartbeat;
        if now.moment.since(self.next_raft_tick) > every * 8 {
            // After a pause, missed ticks are not made up: nobody else waited for them either.
            self.next_raft_tick = now.moment;
        }
        while now.moment >= self.next_raft_tick {
            self.next_raft_tick += every;
            self.replica.tick();
            self.look = true;
        }
    }

    fn act(&mut self, pulse: &mut Pulse, now: Now, out: &mut Vec<Output>) {
        let lapses = pulse.check_lease(now.moment);
        let lease = LeaseView {
            end: pulse.lease_end(),
            fresh_from: pulse.lease_fresh_from(),
            lapses,
            stopping: pulse.timers().stopping,
        };
        // The end moves with every grant; that there is one is what matters between ticks.
        let rests_on = LeaseView { end: lease.end.map(|_| Moment::ZERO), ..lease };
        if self.acted_on.replace((self.state.index, rests_on)) == Some((self.state.index, rests_on))
        {
            return;
        }
        let actions = self.member.reconcile(now.moment, &self.state, lease);
        out.extend(actions.into_iter().map(Output::Act));
    }

    /// Reports to the coordinator, where something changed or a second has passed.
    fn tell(&mut self, pulse: &Pulse, now: Now, out: &mut Vec<Output>) {
        let once = pulse.plants().has(Plant::ReportNotRepeated);
        let since = |at| now.moment.since(at);
        let due = self.last_report.is_none_or(|at| since(at) >= REPORT_EVERY && !once);
        if !due && !self.member.is_dirty() {
            return;
        }
        let Some(leader) = self.leader else { return };
        self.last_report = Some(now.moment);
        let heard = self.heard(pulse, now.moment);
        let report = self.member.report(now.moment, &self.state, heard);
        if leader == self.config.replica {
            self.coordinator.on_report(now.moment, report);
            self.look = true;
        } else {
            out.push(Output::Send(leader, PeerMessage::Report(report)));
        }
    }

    fn decide(&mut self, pulse: &mut Pulse, now: Now, out: &mut Vec<Output>) {
        if self.leads.is_none() {
            return;
        }
        if pulse.must_step_down(now.moment) {
            self.replica.step_down();
            self.stand_after = now.moment + pulse.timers().back_off;
            return;
        }
        if !core::mem::take(&mut self.look) {
            return;
        }
        self.look_at_group();
        let decisions = self.coordinator.reconcile(now, &self.state, pulse, &self.group);
        self.carry_out(pulse, decisions, out);
    }

    fn record_promise(&mut self, pulse: &Pulse, out: &mut Vec<Output>) {
        if let Some(wanted) = pulse.promise_to_record().filter(|w| *w > self.promise_asked) {
            self.promise_asked = wanted;
            out.push(Output::RecordPromise(wanted));
        }
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn wake_at(&self, pulse: &Pulse, now: Moment) -> Moment {
        let mut at = self.next_raft_tick;
        if self.leads.is_some() {
            let holders = self.state.resources.values().filter_map(|held| held.holder.as_ref());
            for holder in holders {
                let end = pulse.granted_until(holder.replica);
                if end > now {
                    at = at.min(end);
                }
            }
        }
        let stand = pulse.promised_until().max(self.stand_after);
        if self.leads.is_none() && stand > now {
            at = at.min(stand);
        }
        if let Some(end) = pulse.lease_end().filter(|end| *end > now) {
            at = at.min(end);
        }
        at.max(now)
    }

    /// Tells the pulse what the log says.
    fn refresh_pulse(&mut self, pulse: &mut Pulse) {
        let changed = core::mem::take(&mut self.regroup);
        if changed {
            self.regroup();
        }
        let role = self.replica.role();
        pulse.set_raft(RaftView {
            term: role.term,
            leader: role.leader.map(ReplicaId),
            leader_heard: self.leader_heard,
            configurations: changed.then(|| self.configurations.clone()),
            commit: self.replica.commit_index(),
        });
    }

    /// Voter sets of every configuration in force or proposed, and the group that they make.
    fn regroup(&mut self) {
        let membership = self.replica.membership();
        self.group.voters.clear();
        self.group.learners = membership.learners.into_iter().map(ReplicaId).collect();
        self.configurations.clear();
        for voters in [membership.voters, membership.voters_outgoing] {
            let voters: BTreeSet<ReplicaId> = voters.into_iter().map(ReplicaId).collect();
            self.group.voters.extend(&voters);
            if !voters.is_empty() {
                self.configurations.push(voters);
            }
        }
        self.group.changing = self.configurations.len() > 1 || self.proposed_voters.is_some();
        self.configurations.extend(self.proposed_voters.clone());
    }

    /// The replicated control state.
    #[must_use]
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// The log.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The member machine.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// The coordinator machine.
    #[must_use]
    pub fn coordinator(&mut self) -> &mut Coordinator {
        &mut self.coordinator
    }

    /// Votes and candidacies that the filter held back.
    #[must_use]
    pub fn filtered(&self) -> Filtered {
        self.filtered
    }

    /// Which peers have a connection at the moment; reported to the coordinator.
    pub fn set_connected(&mut self, connected: BTreeSet<ReplicaId>) {
        self.heard_connected = connected;
    }

    /// The coordinator, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        self.leader
    }
}
