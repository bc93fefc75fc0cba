//! The core thread: owns the kernel, feeds it inputs, carries out what it says.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brain::coordinator::Now;
use brain::coordinator::alarm::Change;
use brain::duty::duties;
use brain::explain::Explanation;
use drivers::run_dir::RunDir;
use kernel::{Input, Kernel, Output, PeerMessage, Status};
use model::operation::{Operation, Outcome, Refusal};
use model::state::{ClusterState, Event, EventKind};
use model::vault::{ChainRecord, Duty, RepositoryId};
use model::{NodeName, ReplicaId, ResourceName};
use tokio::sync::oneshot;

use super::checks::Checks;
use super::figures::Commits;
use super::files::DataDir;
use super::launcher_link::LauncherLink;
use super::shared::{Shared, lock};
use crate::api::Metrics;

/// Inputs taken in before the outputs are carried out and time is looked at again.
const BATCH: usize = 64;

/// What reaches the core thread.
pub enum CoreInput {
    /// An input of the kernel.
    Kernel(Input),
    /// A peer's message, not decoded yet.
    Peer(ReplicaId, bytes::Bytes),
    /// An operation, and where its answer goes.
    Operate(String, Operation, oneshot::Sender<Result<Outcome, Refusal>>),
    /// A question about the present.
    Ask(Question),
    /// The log can't go on.
    LogFailed(String),
    /// A higher generation began.
    Superseded(u64),
    /// End.
    Stop,
}

/// A question about the present, and where its answer goes.
pub enum Question {
    /// The cluster as this node sees it.
    Status(oneshot::Sender<Status>),
    /// Why a resource is where it is.
    Explain(ResourceName, oneshot::Sender<Option<Explanation>>),
    /// The control state.
    State(oneshot::Sender<Arc<ClusterState>>),
    /// Where this node's log stands.
    Position(oneshot::Sender<Position>),
    /// What is remembered of the vault.
    Vault(oneshot::Sender<VaultView>),
}

/// What a node knows of the vault.
#[derive(Debug, Clone)]
pub struct VaultView {
    /// A quorum is bound to this node at this moment: nothing newer was acknowledged.
    pub authoritative: bool,
    /// The coordinator it knows.
    pub coordinator: Option<NodeName>,
    /// How far the repositories' chains had come.
    pub repositories: BTreeMap<RepositoryId, ChainRecord>,
    /// Where tasks of resources run.
    pub duties: Vec<Duty>,
}

/// Where a node's log stands, for a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Term of the last entry.
    pub last_term: u64,
    /// The last index.
    pub last_index: u64,
    /// The last index known to be committed.
    pub committed: u64,
    /// Its generation.
    pub generation: u64,
}

/// Something for hooks.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An event of the log, on the coordinator.
    Event(Event),
    /// Redundancy was lost or is back.
    Redundancy(Change),
}

/// Everything the core thread needs.
pub struct Core {
    /// The kernel.
    pub kernel: Kernel,
    /// The agent's shared state.
    pub shared: Arc<Shared>,
    /// Inputs.
    pub inputs: Receiver<CoreInput>,
    /// The log's writer.
    pub writer: journal::Writer<journal::RealDisk>,
    /// The peer transport.
    pub peers: super::peers::PeerTable,
    /// The launcher.
    pub launcher: LauncherLink,
    /// Health checks.
    pub checks: Arc<Checks>,
    /// The data directory.
    pub data: DataDir,
    /// The run directory.
    pub run: RunDir,
    /// Where notices for hooks go.
    pub notices: tokio::sync::mpsc::Sender<Notice>,
    /// The newest event index, for those who wait for events.
    pub newest_event: tokio::sync::watch::Sender<u64>,
    /// Counts changes of members, specification and authorities, for those who wait for one.
    pub reconfigurations: tokio::sync::watch::Sender<u64>,
    /// The control state for those who only read.
    pub state: Arc<Mutex<Arc<ClusterState>>>,
    /// Answers that are waited for.
    pub waiting: BTreeMap<u64, oneshot::Sender<Result<Outcome, Refusal>>>,
    /// Numbers operations.
    pub operations: u64,
    /// Where times are noted.
    pub metrics: Arc<Metrics>,
    /// Entries on their way to their commit.
    pub(super) commits: Commits,
}

/// Why the core thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The node can't go on, and why.
    Halted(String),
}

impl Core {
    /// Runs until told to stop or until the node can't go on.
    pub fn run(mut self) -> Ended {
        self.reconfigured();
        let mut out = Vec::new();
        loop {
            let wake = {
                let pulse = lock(&self.shared.pulse);
                self.kernel.wake_at(&pulse, drivers::sys::now())
            };
            let wait = Duration::from_nanos(wake.since(drivers::sys::now()).0);
            let first = match self.inputs.recv_timeout(wait) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => {
                    let late = drivers::sys::now().since(wake);
                    self.metrics.stall.observe(late.as_ms_f64() / 1e3);
                    CoreInput::Kernel(Input::Tick)
                }
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
            };
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(input) = next {
                if let Some(ended) = self.take(input, &mut out) {
                    return ended;
                }
                taken += 1;
                next = if taken < BATCH { self.inputs.try_recv().ok() } else { None };
            }
            if let Some(ended) = self.carry_out(&mut out) {
                return ended;
            }
        }
    }

    fn take(&mut self, input: CoreInput, out: &mut Vec<Output>) -> Option<Ended> {
        let input = match input {
            CoreInput::Kernel(input) => input,
            CoreInput::Peer(from, bytes) => match PeerMessage::decode(&bytes) {
                Ok(message) => Input::Peer(from, message),
                Err(error) => {
                    tracing::warn!(%from, %error, "a peer's message was dropped");
                    return None;
                }
            },
            CoreInput::Operate(by, operation, answer) => {
                self.operations += 1;
                self.waiting.retain(|_, answer| !answer.is_closed());
                self.waiting.insert(self.operations, answer);
                Input::Operate { number: self.operations, by, operation }
            }
            CoreInput::Ask(question) => {
                self.answer(question);
                return None;
            }
            CoreInput::LogFailed(why) => return Some(Ended::Halted(why)),
            CoreInput::Superseded(generation) => return Some(self.superseded(generation)),
            CoreInput::Stop => return Some(Ended::Stopped),
        };
        let mut pulse = lock(&self.shared.pulse);
        self.kernel.handle(&mut pulse, now(), input, out);
        None
    }

    fn answer(&mut self, question: Question) {
        let pulse = lock(&self.shared.pulse);
        let now = drivers::sys::now();
        // Whoever asked may have gone away meanwhile; nobody is owed the answer then.
        let heard = match question {
            Question::Status(to) => to.send(self.kernel.status(&pulse, now)).is_ok(),
            Question::Explain(resource, to) => {
                to.send(self.kernel.explain(&pulse, now, &resource)).is_ok()
            }
            Question::State(to) => to.send(Arc::new(self.kernel.state().clone())).is_ok(),
            Question::Position(to) => to.send(self.position()).is_ok(),
            Question::Vault(to) => {
                let state = self.kernel.state();
                let view = VaultView {
                    authoritative: self.kernel.speaks_for_all(&pulse, now),
                    coordinator: self.kernel.leader().and_then(|l| state.node_of(l)).cloned(),
                    repositories: state.repositories.clone(),
                    duties: duties(state),
                };
                to.send(view).is_ok()
            }
        };
        tracing::trace!(heard, "answered");
    }

    fn position(&self) -> Position {
        let log = self.kernel.replica();
        Position {
            last_term: log.last_term(),
            last_index: log.last_index(),
            committed: log.commit_index(),
            generation: self.kernel.state().generation,
        }
    }

    /// A higher generation began: nothing that this node holds counts any more. First its lease
    /// goes, then the fact is on disk, then it ends.
    fn superseded(&self, generation: u64) -> Ended {
        self.shared.end_lease(drivers::sys::now());
        let own = self.kernel.state().generation;
        let replica = ReplicaId(self.kernel.replica().id());
        match self.data.supersede(generation) {
            Ok(()) => Ended::Halted(super::superseded::farewell(own, generation, replica)),
            Err(error) => Ended::Halted(error.to_string()),
        }
    }

    fn carry_out(&mut self, out: &mut Vec<Output>) -> Option<Ended> {
        let mut reconfigured = false;
        for output in out.drain(..) {
            match output {
                Output::Send(to, message) => self.peers.send(to, &message),
                Output::Write(write) => {
                    if let Some(last) = write.entries.last() {
                        self.commits.given(last.index, drivers::sys::now());
                    }
                    if let Err(error) = self.writer.submit(write) {
                        return Some(Ended::Halted(error.to_string()));
                    }
                }
                Output::RecordPromise(promise) => {
                    if let Err(error) = self.data.set_promise(promise) {
                        return Some(Ended::Halted(error.to_string()));
                    }
                    lock(&self.shared.pulse).promise_recorded(promise);
                }
                Output::Act(action) => {
                    let session = self.kernel.member().session();
                    self.launcher.act(action, session, self.kernel.state());
                }
                Output::Answer(number, result) => {
                    if let Some(to) = self.waiting.remove(&number) {
                        let heard = to.send(result).is_ok();
                        tracing::trace!(heard, "answered");
                    }
                }
                Output::Happened { event, leading } => {
                    self.newest_event.send_replace(event.index);
                    if leading && is_failover(&event.what) {
                        self.metrics.failovers.inc();
                    }
                    if leading && self.notices.try_send(Notice::Event(event)).is_err() {
                        tracing::warn!("hooks don't keep up: a notice was dropped");
                    }
                }
                Output::Reconfigured => reconfigured = true,
                Output::Halt(why) => return Some(Ended::Halted(why)),
            }
        }
        if reconfigured {
            self.reconfigured();
        }
        self.after();
        None
    }

    /// What follows every batch: lease files of what is active, alarms, connections, figures.
    fn after(&mut self) {
        {
            let mut lease = lock(&self.shared.lease);
            if !lease.holds(self.kernel.member().active()) {
                let active = self.kernel.member().active();
                lease.set_active(&self.run, active.map(|(r, e)| (r.clone(), e)).collect());
            }
        }
        let now = drivers::sys::now();
        self.shared.publish_lease(now);
        let replica = self.kernel.replica();
        let leads = self.kernel.leader() == Some(ReplicaId(replica.id()));
        self.commits.committed(replica.commit_index(), leads, now, &self.metrics.commit);
        for change in self.kernel.coordinator().alarms().take_changes() {
            if self.notices.try_send(Notice::Redundancy(change)).is_err() {
                tracing::warn!("hooks don't keep up: a notice was dropped");
            }
        }
        if let Some(connected) = self.peers.newly_connected() {
            self.kernel.set_connected(connected);
        }
    }

    /// Members, specification or authorities changed: tell everyone who keeps a copy.
    fn reconfigured(&mut self) {
        let state = self.kernel.state();
        self.peers.follow(state, &self.shared);
        self.launcher.specify(state);
        self.checks.specify(state);
        *lock(&self.state) = Arc::new(state.clone());
        self.reconfigurations.send_modify(|count| *count += 1);
    }
}

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Now { moment: drivers::sys::now(), wall_ms: wall.map_or(0, |since| since.as_millis() as u64) }
}

/// Whether a resource was taken from a node without anybody's order.
fn is_failover(what: &EventKind) -> bool {
    matches!(what, EventKind::Assigned { from: Some(from), to, planned: false, .. } if from != to)
}
