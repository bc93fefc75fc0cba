//! The world: machines, true time, and the queue of what happens next.

use std::collections::{BTreeMap, VecDeque};

use brain::invariants::Violation;
use brain::pulse::Pulse;
use journal::{MemoryDisk, Segments, Write, WriteId};
use kernel::{Kernel, Output};
use model::operation::Operation;
use model::report::InstancePhase;
use model::state::ClusterState;
use model::{Epoch, Moment, NodeName, ReplicaId, Span};

use crate::clock::Clock;
use crate::cluster::{RESOURCES, first_state, node_name, specification};
use crate::coverage::Coverage;
use crate::disaster::Disaster;
use crate::event::{Ev, Felt, Part, Undo};
use crate::judge::Judge;
use crate::network::Network;
use crate::operators::Asked;
use crate::plan::{Kind, MILLI, Plan, SECOND};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::shrink::Disturbances;
use crate::storage::{Damaged, new_disk};
use crate::store::Store;

/// Lines of the trace that a failure is shown with.
pub(crate) const TRACE_LINES: usize = 60;

/// The part of a machine's state that its agent loses when it dies.
pub(crate) struct Agent {
    pub(crate) kernel: Kernel,
    pub(crate) pulse: Pulse,
    /// Writes that wait for the disk.
    pub(crate) queue: Vec<Write>,
    /// A sync is under way.
    pub(crate) syncing: bool,
    /// The last write appended.
    pub(crate) appended: Option<WriteId>,
    /// When the next tick is scheduled.
    pub(crate) wake: u64,
    pub(crate) applied: u64,
    pub(crate) ballot: (u64, Option<u64>),
    pub(crate) led: Option<u64>,
    pub(crate) settled: bool,
    pub(crate) peers: Vec<(usize, ReplicaId)>,
    pub(crate) lapses: u64,
    /// The number of the page's lease when this agent started; each lapse adds one.
    pub(crate) lease_base: u64,
    pub(crate) votes_filtered: u64,
}

/// A running copy of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Inst {
    pub(crate) id: u64,
    /// The agent's number for it.
    pub(crate) number: u64,
    pub(crate) phase: InstancePhase,
    pub(crate) epoch: Option<Epoch>,
    /// Numbers the times an instance was handed an epoch.
    pub(crate) activation: u64,
    /// The lease under which it was handed its epoch.
    pub(crate) token: u64,
    pub(crate) stuck: bool,
    /// The guard has given up on it and will say so.
    pub(crate) given_up: bool,
    pub(crate) ending: bool,
}

/// The lease page: what the guard reads. It is in memory, so it outlives agents, not machines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) end: Moment,
    /// Another lease, another token.
    pub(crate) token: u64,
}

/// The files of the journal.
pub(crate) enum Disk {
    Closed(MemoryDisk),
    Open(Box<Segments<MemoryDisk>>),
    Moving,
}

/// One machine.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) kind: Kind,
    /// None: its disk is lost and it has no new incarnation yet.
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) clock: Clock,
    pub(crate) up: bool,
    /// Counts its starts.
    pub(crate) machine: u32,
    pub(crate) disk: Disk,
    pub(crate) boot: u64,
    pub(crate) promise: Span,
    pub(crate) page: Option<Page>,
    pub(crate) agent: Option<Box<Agent>>,
    /// Counts the agent's starts and deaths.
    pub(crate) run: u32,
    pub(crate) launcher: Option<u32>,
    pub(crate) launchers: u32,
    /// No launcher starts here any more.
    pub(crate) launcher_lost: bool,
    pub(crate) guard: Option<u64>,
    /// The guard that covered what a lost launcher ran lives, or the machine was started since.
    pub(crate) clear: bool,
    pub(crate) guards: u64,
    pub(crate) instances: BTreeMap<usize, Inst>,
    pub(crate) seen: [Epoch; RESOURCES.len()],
    /// Starts of each resource within a second: since when, and how many.
    pub(crate) starts: [(u64, u32); RESOURCES.len()],
    pub(crate) frozen: bool,
    /// After a freeze the launcher runs again from here on.
    pub(crate) launcher_awake: u64,
    pub(crate) agent_frozen: bool,
    pub(crate) pauses: u32,
    pub(crate) agent_pauses: u32,
    /// How often a launcher has told its agent what it runs.
    pub(crate) session: u64,
    pub(crate) parked: Vec<Ev>,
    pub(crate) agent_parked: Vec<Ev>,
    pub(crate) sync: u64,
    /// Its disk answers no sync any more.
    pub(crate) stalled_disk: bool,
    /// It loses power before its next write is durable.
    pub(crate) doomed: bool,
    /// What was done to its log.
    pub(crate) damaged: Option<Damaged>,
    /// True time until which its disk is full or no file can be created.
    pub(crate) hindered_until: u64,
    pub(crate) no_descriptors_until: u64,
    /// A new incarnation that has not been given its vote yet.
    pub(crate) learner: bool,
    pub(crate) starved: bool,
    /// Until then its agent hears nothing of the launcher: something said before still waits, and
    /// one socket keeps the order.
    pub(crate) hears_from: u64,
    /// True time until which its voter side is bound, whatever it remembers.
    pub(crate) bound_until: u64,
    /// Requests that it took in since its agent started.
    pub(crate) asked: u64,
    /// What an operator asked for here and has no answer to.
    pub(crate) unanswered: Option<Operation>,
    /// The request to rejoin under way, and when it was made.
    pub(crate) rejoining: Option<(Asked, u64)>,
    /// A longer lease was asked for at this true time.
    pub(crate) absent: Option<u64>,
    /// An agent of its present incarnation has run: the page's lease may be its own.
    pub(crate) ran: bool,
    /// It is off for good, until somebody mends it.
    pub(crate) lost: bool,
    /// What was active when the agent left, to be found again.
    pub(crate) left: Option<(u64, Vec<(usize, u64)>)>,
}

/// The world of one run.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    queue: Queue,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) stores: Vec<Store>,
    pub(crate) judge: Judge,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) healed: bool,
    pub(crate) led_since_healing: bool,
    pub(crate) ids: u64,
    pub(crate) out: Vec<Output>,
    pub(crate) founding: Vec<u8>,
    pub(crate) steps: u64,
    pub(crate) disaster: Option<Disaster>,
    pub(crate) disturbances: Disturbances,
    pub(crate) room: Vec<u8>,
    tracing: Option<Tracing>,
}

struct Tracing {
    lines: VecDeque<String>,
    print: bool,
}

impl World {
    /// The world of a plan, everything switched on at true time 0; of what disturbs it only what
    /// `disturbances` allows.
    #[must_use]
    pub fn new(plan: Plan, disturbances: Disturbances) -> World {
        let mut rng = Rng::new(plan.seed ^ 0x5eed);
        let spec = specification(&plan, &mut rng);
        let state = first_state(&plan, spec);
        let founding = postcard::to_allocvec(&state).expect("plain data has an encoding");
        let count = plan.kinds.len();
        let mut world = World {
            network: Network::new(count),
            stores: vec![Store::default(); RESOURCES.len()],
            judge: Judge::new(&state),
            coverage: Coverage::default(),
            violation: None,
            healed: false,
            led_since_healing: false,
            ids: 0,
            out: Vec::new(),
            founding,
            steps: 0,
            disaster: None,
            disturbances,
            room: Vec::new(),
            tracing: None,
            now: 0,
            queue: Queue::default(),
            nodes: Vec::new(),
            rng,
            plan,
        };
        for n in 0..count {
            let node = world.machine(n);
            world.nodes.push(node);
        }
        world.begin();
        world
    }

    fn machine(&mut self, n: usize) -> Node {
        let reads = self.rng.range(10 * SECOND, 100_000 * SECOND);
        Node {
            name: node_name(n),
            kind: self.plan.kinds[n],
            replica: Some(ReplicaId(n as u64 + 1)),
            clock: Clock::new(reads, self.plan.ppm[n]),
            up: true,
            machine: 0,
            disk: Disk::Closed(new_disk()),
            boot: 0,
            promise: Span::ZERO,
            page: None,
            agent: None,
            run: 0,
            launcher: None,
            launchers: 0,
            starts: [(0, 0); RESOURCES.len()],
            launcher_lost: false,
            guard: None,
            clear: true,
            guards: 0,
            instances: BTreeMap::new(),
            seen: [Epoch::default(); RESOURCES.len()],
            frozen: false,
            launcher_awake: 0,
            agent_frozen: false,
            pauses: 0,
            agent_pauses: 0,
            session: 0,
            parked: Vec::new(),
            agent_parked: Vec::new(),
            sync: self.plan.sync,
            stalled_disk: false,
            doomed: false,
            damaged: None,
            hindered_until: 0,
            no_descriptors_until: 0,
            learner: false,
            starved: self.plan.starved,
            hears_from: 0,
            bound_until: 0,
            asked: 0,
            unanswered: None,
            rejoining: None,
            absent: None,
            ran: false,
            lost: false,
            left: None,
        }
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            let machine = self.nodes[node].machine;
            for part in [Part::Launcher, Part::Guard, Part::Agent] {
                let delay = self.rng.range(0, 50 * MILLI);
                self.after(delay, Ev::Start { node, part, machine });
            }
        }
        if self.plan.ppm.iter().any(|ppm| *ppm != 0) {
            self.coverage.hit("drift");
        }
        if self.plan.kinds.contains(&Kind::Member) {
            self.coverage.hit("member-node");
        }
        self.network.loss = self.plan.loss;
        self.begin_faults();
    }

    /// Keeps the last lines of the trace, and prints each where wanted.
    pub fn trace(&mut self, print: bool) {
        self.tracing = Some(Tracing { lines: VecDeque::new(), print });
    }

    /// The last lines of the trace.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.tracing.as_ref().map(|t| t.lines.iter().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let Some(tracing) = &mut self.tracing else { return };
        let line = format!("{:>14.6} ms  {}", self.now as f64 / 1e6, line());
        if tracing.print {
            println!("{line}");
        }
        if tracing.lines.len() >= TRACE_LINES {
            tracing.lines.pop_front();
        }
        tracing.lines.push_back(line);
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        if self.violation.is_none() {
            self.note(|| format!("VIOLATION of {}: {}", violation.rule, violation.what));
            self.violation = Some(violation);
        }
    }

    pub(crate) fn require(&mut self, verdict: brain::invariants::Verdict) {
        if let Err(violation) = verdict {
            self.fail(violation);
        }
    }

    pub(crate) fn at(&mut self, at: u64, ev: Ev) {
        self.queue.push(at.max(self.now), ev);
    }

    pub(crate) fn after(&mut self, delay: u64, ev: Ev) {
        self.at(self.now + delay, ev);
    }

    /// What a node's boot-time clock reads.
    pub(crate) fn local(&self, n: usize) -> Moment {
        self.nodes[n].clock.local(self.now)
    }

    /// Runs until true time `until`, or until an invariant breaks.
    pub fn run_until(&mut self, until: u64) {
        while self.violation.is_none() {
            let Some((at, ev)) = self.queue.pop_until(until) else { break };
            self.now = at;
            self.steps += 1;
            self.route(ev);
        }
        if self.violation.is_none() {
            self.now = until;
        }
    }

    fn route(&mut self, ev: Ev) {
        let (n, agent) = match ev.felt() {
            Felt::World => return self.happen(ev),
            Felt::Agent(n) => (n, true),
            Felt::Machine(n) => (n, false),
        };
        let node = &mut self.nodes[n];
        if node.frozen {
            return node.parked.push(ev);
        }
        if agent && node.agent_frozen {
            return node.agent_parked.push(ev);
        }
        // The heartbeat thread has real-time priority; the rest waits for its share.
        let waits = !matches!(ev, Ev::Beat { .. } | Ev::Datagram { .. });
        if agent && node.starved && waits {
            let period = self.plan.profile.timers().heartbeat.0 * 2;
            let phase = (self.now + n as u64 * period / 3) % period;
            if phase > period / 10 {
                let later = self.now + period - phase;
                if matches!(ev, Ev::Tell { .. }) {
                    node.hears_from = later;
                }
                return self.at(later, ev);
            }
        }
        if matches!(ev, Ev::Tell { .. }) && self.now < node.hears_from {
            let later = node.hears_from;
            return self.at(later, ev);
        }
        self.happen(ev);
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Beat { node, run } => self.on_beat(node, run),
            Ev::Datagram { to, links, replica, beat } => {
                self.on_datagram(to, links, replica, &beat);
            }
            Ev::Stream { from, to, conn, mail } => self.on_stream(from, to, conn, mail),
            Ev::Wake { node, run, at } => self.on_wake(node, run, at),
            Ev::Append { node, run } => self.on_append(node, run),
            Ev::Synced { node, run } => self.on_synced(node, run),
            Ev::PromiseDurable { node, run, promise } => self.on_promise(node, run, promise),
            Ev::Act { node, launcher, action } => self.on_action(node, launcher, *action),
            Ev::Step { node, id, step } => self.on_step(node, id, step),
            Ev::Tell { node, run, event } => self.on_tell(node, run, *event),
            Ev::Guard { node, guard } => self.on_guard(node, guard),
            Ev::Order { node, id } => self.on_order(node, id),
            Ev::Store { resource, node, activation, epoch } => {
                self.on_store(resource, node, activation, epoch);
            }
            Ev::Start { node, part, machine } => self.on_start(node, part, machine),
            Ev::Thaw { node, pause } => self.thaw(node, pause),
            Ev::ThawAgent { node, pause } => self.thaw_agent(node, pause),
            Ev::Leave { node, run, deadline } => self.on_leave(node, run, deadline),
            Ev::Rejoin { node } => self.on_rejoin(node),
            Ev::Disaster(act) => self.on_disaster(act),
            Ev::Mend { node } => self.mend(node),
            Ev::Hello { node, run } => self.on_hello(node, run),
            Ev::Crash { node, machine } => {
                if self.nodes[node].machine == machine {
                    self.crash_machine(node, false);
                }
            }
            Ev::Fault => self.on_fault(),
            Ev::Operate => self.on_operate(),
            Ev::Flap => self.on_flap(),
            Ev::HalfDie => self.disturb(World::make_half_dead),
            Ev::AskAgain { node, run } => self.on_ask_again(node, run),
            Ev::Undo(undo) => self.undo(undo),
        }
    }

    fn undo(&mut self, undo: Undo) {
        self.note(|| format!("ends: {undo:?}"));
        match undo {
            Undo::Block { pairs, links, streams } => self.unblock(&pairs, links, streams),
            Undo::Loss(loss) => self.network.loss = self.network.loss.saturating_sub(loss),
            Undo::Delay(delay) => self.network.delay = self.network.delay.saturating_sub(delay),
            Undo::Sync { node, machine } => {
                if self.nodes[node].machine == machine {
                    self.nodes[node].sync = self.plan.sync;
                }
            }
            Undo::Starve { node } => self.nodes[node].starved = self.plan.starved,
            Undo::Healthy { node, id } => self.recover_health(node, id),
            Undo::Storage { node } => self.unhinder_storage(node),
        }
    }

    /// The node that is in office, where one is.
    pub(crate) fn coordinator(&self) -> Option<usize> {
        let office = |n: &usize| {
            let agent = self.nodes[*n].agent.as_ref()?;
            let term = agent.led?;
            agent.pulse.in_office().then_some(term)
        };
        (0..self.nodes.len()).filter(|n| office(n).is_some()).max_by_key(|n| office(n))
    }

    /// The newest control state that any node has applied.
    pub(crate) fn newest_state(&self) -> Option<&ClusterState> {
        let agents = self.nodes.iter().filter_map(|node| node.agent.as_ref());
        agents.map(|agent| agent.kernel.state()).max_by_key(|state| state.index)
    }

    /// The machine of an incarnation.
    pub(crate) fn node_of(&self, replica: ReplicaId) -> Option<usize> {
        self.nodes.iter().position(|node| node.replica == Some(replica))
    }
}
