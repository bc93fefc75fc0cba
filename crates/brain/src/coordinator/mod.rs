//! The coordinator machine: runs where the Raft leader is, judges nodes, places instances.
//!
//! It can be lost at any moment: what it decided is in the log, what it knew comes back with the
//! next reports. [`Coordinator::reconcile`] is level-triggered; each pass looks at all resources
//! and returns the decisions that are due now. One subject has at most one decision on its way
//! through the log. Rules 4, 5 and 6 of DESIGN.md are kept in [`eviction`].

pub mod alarm;
mod causes;
pub mod eviction;
pub mod failures;
mod generation;
mod heads;
pub mod membership;
pub mod operations;
pub mod resources;
pub mod timing;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::command::{Command, Entry, RequestId};
use model::report::Report;
use model::state::{ClusterState, FailureKey};
use model::{ClusterMs, Epoch, Moment, NodeName, Reason, ReplicaId, ResourceName, Span};

use crate::cluster::Applied;
use crate::placement::{NodeHealth, NodeView, View};
use crate::plant::{Plant, Plants};
use crate::pulse::Pulse;
use timing::Trace;

pub use membership::{Group, MembershipChange, Progress};

/// A node whose log is this many entries behind is still catching up.
pub const CATCHING_UP_ENTRIES: u64 = 1_000;

/// One decision, on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Give this to the log.
    Propose(Box<Entry>),
    /// Change who replicates or votes.
    Membership(MembershipChange),
}

/// What a proposal is about; one per subject is on its way at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Resource(ResourceName),
    Failure(FailureKey),
    Barrier,
    Renounce,
    Membership,
    WaitedOut,
}

/// The clocks of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// This node's boot-time clock.
    pub moment: Moment,
    /// This node's wall clock, Unix milliseconds; for people.
    pub wall_ms: u64,
}

/// The coordinator machine. It exists on every node and is idle where the node does not lead.
#[derive(Debug, Clone)]
pub struct Coordinator {
    me: ReplicaId,
    term: Option<u64>,
    /// Everything of earlier terms is applied.
    settled: bool,
    /// Shared with each look's view of the nodes.
    reports: BTreeMap<ReplicaId, (Arc<Report>, Moment)>,
    healthy_since: BTreeMap<ReplicaId, Moment>,
    suspect_since: BTreeMap<ReplicaId, Moment>,
    /// Nodes that report that they can run nothing, and since when.
    unready_since: BTreeMap<ReplicaId, Moment>,
    /// How far the logs that are behind have come, and since when they are there.
    standing: BTreeMap<ReplicaId, (u64, Moment)>,
    pending: BTreeSet<Subject>,
    last_barrier: Option<Moment>,
    /// Cluster time and the moment it was read, so that it runs on between entries.
    clock: (ClusterMs, Moment),
    last_epoch: Epoch,
    traces: BTreeMap<ResourceName, Trace>,
    alarms: alarm::Alarms,
    /// Planted faults of what the pulse is not at hand for; none in production.
    plants: Plants,
}

impl Coordinator {
    /// An idle coordinator of this node.
    #[must_use]
    pub fn new(me: ReplicaId) -> Coordinator {
        Coordinator {
            me,
            term: None,
            settled: false,
            reports: BTreeMap::new(),
            healthy_since: BTreeMap::new(),
            suspect_since: BTreeMap::new(),
            unready_since: BTreeMap::new(),
            standing: BTreeMap::new(),
            pending: BTreeSet::new(),
            last_barrier: None,
            clock: (ClusterMs(0), Moment::ZERO),
            last_epoch: Epoch::default(),
            traces: BTreeMap::new(),
            alarms: alarm::Alarms::default(),
            plants: Plants::NONE,
        }
    }

    /// Plants faults.
    #[cfg(feature = "plant")]
    pub fn plant(&mut self, plants: Plants) {
        self.plants = plants;
    }

    /// Everything volatile goes; what is wrong in the cluster is told across offices.
    fn begin_anew(&mut self) {
        let alarms = core::mem::take(&mut self.alarms);
        let mut pending = core::mem::take(&mut self.pending);
        if !self.plants.has(Plant::PendingOutlivesOffice) {
            pending.clear();
        }
        let plants = self.plants;
        *self = Coordinator { alarms, pending, plants, ..Self::new(self.me) };
    }

    /// This node leads in a term: everything volatile begins anew.
    pub fn lead(&mut self, now: Moment, term: u64, state: &ClusterState) {
        self.begin_anew();
        self.term = Some(term);
        self.clock = (state.now, now);
        self.last_epoch = state.last_epoch;
    }

    /// This node leads no more.
    pub fn follow(&mut self) {
        self.begin_anew();
    }

    /// Whether this node leads and knows all that was decided before.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.term.is_some() && self.settled
    }

    /// Takes in a node's report. One that is older than what is known is passed over.
    pub fn on_report(&mut self, now: Moment, report: Report) {
        let by_number = self.plants.has(Plant::ReportsByNumberAlone);
        let age = |report: &Report| (if by_number { 0 } else { report.boot }, report.number);
        let known = self.reports.get(&report.replica);
        let older = known.is_some_and(|(known, _)| age(known) >= age(&report));
        if self.term.is_some() && !older {
            if !report.ready && self.plants.has(Plant::UnreadyRestarted) {
                self.unready_since.insert(report.replica, now);
            } else if !report.ready {
                self.unready_since.entry(report.replica).or_insert(now);
            } else if !self.plants.has(Plant::UnreadyForever) {
                self.unready_since.remove(&report.replica);
            }
            self.reports.insert(report.replica, (Arc::new(report), now));
        }
    }

    /// An entry was applied.
    pub fn on_applied(
        &mut self,
        now: Moment,
        state: &ClusterState,
        entry: &Entry,
        applied: Applied,
        own_term: bool,
    ) {
        if self.term.is_none() {
            return;
        }
        if state.now > self.cluster_now(now) {
            self.clock = (state.now, now);
        }
        self.last_epoch = self.last_epoch.max(state.last_epoch);
        if !own_term {
            return;
        }
        if entry.command == Command::Barrier {
            self.settled = true;
        }
        if let Some(subject) = subject(&entry.command) {
            self.pending.remove(&subject);
        }
        if applied == Applied::Done {
            self.trace_applied(now, &entry.command);
        }
    }

    /// A membership change was applied, or given up by the library.
    pub fn on_membership(&mut self) {
        self.pending.remove(&Subject::Membership);
    }

    /// Cluster time now.
    #[must_use]
    pub fn cluster_now(&self, now: Moment) -> ClusterMs {
        let (at, read) = self.clock;
        at.plus(now.since(read).as_ms())
    }

    /// The decisions that are due. Empty where this node does not lead.
    pub fn reconcile(
        &mut self,
        now: Now,
        state: &ClusterState,
        pulse: &mut Pulse,
        group: &Group,
    ) -> Vec<Decision> {
        if self.term.is_none() {
            return Vec::new();
        }
        let mut out = Vec::new();
        self.barrier(now, pulse, &mut out);
        if !self.settled || !pulse.in_office() || pulse.authority_left(now.moment) == Span::ZERO {
            self.hand_over_if_witness(now, state, pulse, group, &mut out);
            return out;
        }
        let view = self.view(now.moment, state, pulse, group);
        self.membership(now.moment, state, pulse, group, &mut out);
        if pulse.may_judge(now.moment) {
            self.record_failures(now, state, &mut out);
            if self.has_waited_out(now, state, pulse, &mut out) {
                self.place(now, state, pulse, &view, &mut out);
            }
            self.unbar_idle(state, pulse);
        }
        self.alarms.watch(now, state, &view, group);
        out
    }

    fn barrier(&mut self, now: Now, pulse: &Pulse, out: &mut Vec<Decision>) {
        let every = pulse.timers().barrier_every;
        let due = self.last_barrier.is_none_or(|at| now.moment.since(at) >= every);
        if due && !self.pending.contains(&Subject::Barrier) {
            self.last_barrier = Some(now.moment);
            self.propose(now, Command::Barrier, Vec::new(), out);
        }
    }

    fn propose(
        &mut self,
        now: Now,
        command: Command,
        reasons: Vec<Reason>,
        out: &mut Vec<Decision>,
    ) {
        self.propose_for(now, None, command, reasons, out);
    }

    fn propose_for(
        &mut self,
        now: Now,
        request: Option<RequestId>,
        command: Command,
        reasons: Vec<Reason>,
        out: &mut Vec<Decision>,
    ) {
        if let Some(subject) = subject(&command) {
            self.pending.insert(subject);
        }
        self.trace_proposed(now.moment, &command);
        let entry = Entry {
            by: self.me,
            now: if self.plants.has(Plant::ClusterTimeFromWall) {
                ClusterMs(now.wall_ms)
            } else {
                self.cluster_now(now.moment)
            },
            wall_ms: now.wall_ms,
            request,
            command,
            reasons,
        };
        out.push(Decision::Propose(Box::new(entry)));
    }

    /// What this coordinator sees of the nodes.
    pub fn view(
        &mut self,
        now: Moment,
        state: &ClusterState,
        pulse: &Pulse,
        group: &Group,
    ) -> View {
        let interval = pulse.timers().heartbeat;
        let mut view = View::new();
        for (name, member) in &state.members {
            let replica = member.replica;
            let me = replica == self.me;
            let lost = now >= pulse.granted_until(replica);
            let hearing = pulse.hearing_of(replica);
            let suspect = !me && hearing.is_none_or(|h| h.suspect(now, interval));
            let health = match (lost, suspect) {
                (true, _) => NodeHealth::Down,
                (false, true) => NodeHealth::Suspect,
                (false, false) => NodeHealth::Healthy,
            };
            self.note_health(now, replica, health);
            let report = self.reports.get(&replica).map(|(report, _)| Arc::clone(report));
            let behind = |applied: u64| state.index.saturating_sub(applied);
            let near = |r: &Arc<Report>| behind(r.applied) < CATCHING_UP_ENTRIES;
            self.note_log(now, group, replica);
            let stands_still = self.stands_still(now, pulse, replica).is_some();
            let caught_up = me || (report.as_ref().is_some_and(near) && !stands_still);
            let replicated = group.voters.contains(&replica) || group.learners.contains(&replica);
            // One that a rotation of the authority left behind beats still, and learns nothing new.
            let reached = replicated && !state.trust.shut_out.contains(name);
            let ready = reached && report.as_ref().is_some_and(|r| r.ready);
            let leased = report.as_ref().is_some_and(|r| r.leased);
            let seen = NodeView { replica, health, ready, leased, caught_up, report };
            view.insert(name.clone(), seen);
        }
        view
    }

    fn note_health(&mut self, now: Moment, replica: ReplicaId, health: NodeHealth) {
        if health == NodeHealth::Healthy {
            self.healthy_since.entry(replica).or_insert(now);
            self.suspect_since.remove(&replica);
        } else {
            self.healthy_since.remove(&replica);
            self.suspect_since.entry(replica).or_insert(now);
        }
    }

    /// The newest report of a node, and when it came.
    #[must_use]
    pub fn report_of(&self, replica: ReplicaId) -> Option<(&Report, Moment)> {
        self.reports.get(&replica).map(|(report, at)| (&**report, *at))
    }

    /// The newest report of a node.
    fn report(&self, replica: ReplicaId) -> Option<&Report> {
        self.reports.get(&replica).map(|(report, _)| &**report)
    }

    fn is_pending(&self, resource: &ResourceName) -> bool {
        !self.pending.is_empty() && self.pending.contains(&Subject::Resource(resource.clone()))
    }

    fn next_epoch(&mut self, pulse: &Pulse, state: &ClusterState, held: Epoch) -> Epoch {
        if pulse.plants().has(Plant::EpochNotRaised) {
            return held;
        }
        if pulse.plants().has(Plant::EpochPerResource) {
            return held.max(Epoch { generation: state.generation, counter: 0 }).next();
        }
        let newest = self.last_epoch.max(state.last_epoch);
        let base = Epoch { generation: state.generation, counter: 0 };
        self.last_epoch = newest.max(base).next();
        self.last_epoch
    }

    /// What is wrong or unsafe at the moment, and what changed since the last call.
    pub fn alarms(&mut self) -> &mut alarm::Alarms {
        &mut self.alarms
    }
}

/// The subject of a command, where only one on it may be on its way.
fn subject(command: &Command) -> Option<Subject> {
    match command {
        Command::Assign { resource, .. }
        | Command::Release { resource, .. }
        | Command::Vacate { resource, .. }
        | Command::Active { resource, .. }
        | Command::Stuck { resource, .. }
        | Command::Quarantine { resource }
        | Command::Switchover { resource, .. }
        | Command::EndSwitchover { resource } => Some(Subject::Resource(resource.clone())),
        Command::Failed { key, .. } => Some(Subject::Failure(*key)),
        Command::Barrier => Some(Subject::Barrier),
        Command::Renounce { .. } => Some(Subject::Renounce),
        Command::WaitedOut { .. } => Some(Subject::WaitedOut),
        _ => None,
    }
}

/// The node names of a list, for reasons.
fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeName>) -> Vec<NodeName> {
    nodes.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
