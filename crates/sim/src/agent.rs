//! The agent of a machine: the real kernel and pulse, driven with fake clocks, sockets and disks.

use brain::coordinator::Now;
use brain::member::InstanceEvent;
use brain::plant::Plant;
use brain::pulse::{Pulse, PulseConfig};
use journal::{MemoryDisk, OpenError, Options, Recovered, Replica, ReplicaConfig, Segments};
use kernel::{Input, Kernel, KernelConfig, Output};
use model::state::ClusterState;
use model::{ReplicaId, Span};

use brain::invariants::Violation;

use crate::cluster::node_name;
use crate::event::{Ev, Part};
use crate::plan::{Kind, MILLI};
use crate::world::{Agent, Disk, Page, World};

/// Small, so that runs meet rotation.
const SEGMENT_BYTES: u64 = 48 << 10;
/// Small, so that runs meet snapshots.
const SNAPSHOT_ENTRIES: u64 = 80;

impl World {
    pub(crate) fn on_start(&mut self, n: usize, part: Part, machine: u32) {
        let node = &mut self.nodes[n];
        if node.lost || node.machine != machine || (!node.up && part != Part::Machine) {
            return;
        }
        match part {
            Part::Machine => self.start_machine(n),
            Part::Agent if node.agent.is_none() => self.start_agent(n),
            Part::Launcher if node.launcher.is_none() => self.start_launcher(n),
            Part::Guard if node.guard.is_none() => self.start_guard(n),
            _ => {}
        }
    }

    fn start_machine(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        node.up = true;
        node.clock.reboot(now);
        let machine = node.machine;
        self.note(|| format!("{} starts", node_name(n)));
        for part in [Part::Launcher, Part::Guard, Part::Agent] {
            let delay = self.rng.skewed(MILLI, 300 * MILLI);
            self.after(delay, Ev::Start { node: n, part, machine });
        }
    }

    fn start_agent(&mut self, n: usize) {
        let Some(replica) = self.nodes[n].replica else { return self.on_rejoin(n) };
        let disk = match std::mem::replace(&mut self.nodes[n].disk, Disk::Moving) {
            Disk::Closed(disk) => disk,
            Disk::Open(segments) => segments.into_disk(),
            Disk::Moving => unreachable!("a disk is somewhere"),
        };
        let mut disk = disk;
        disk.heal();
        let spare = (self.now <= self.nodes[n].hindered_until).then(|| disk.clone());
        let (segments, mut recovered) = match open(disk) {
            Ok(opened) => opened,
            Err(OpenError::Damaged { .. }) if self.nodes[n].damaged.is_some() => {
                self.note(|| format!("{} finds its log damaged", node_name(n)));
                self.coverage.hit("damage-found");
                return self.set_aside(n);
            }
            Err(error) => return self.cannot_open(n, spare, &error),
        };
        self.judge_start(n, &recovered);
        let founder = replica.0 <= self.plan.kinds.len() as u64;
        if recovered.is_empty() && founder && self.plan.kinds[n] != Kind::Member {
            let kinds = self.plan.kinds.iter().enumerate();
            let voters = kinds.filter(|(_, kind)| **kind != Kind::Member);
            let voters: Vec<u64> = voters.map(|(v, _)| v as u64 + 1).collect();
            let founding = self.founding.clone();
            recovered = Recovered::bootstrap(&voters, founding).expect("a sound first state");
        }
        self.nodes[n].disk = Disk::Open(Box::new(segments));
        self.begin_agent(n, replica, recovered);
    }

    /// Where the disk is full or no file can be created that is no wonder: it is tried again.
    fn cannot_open(&mut self, n: usize, disk: Option<MemoryDisk>, error: &OpenError) {
        match (disk, error) {
            (Some(disk), OpenError::Disk(_)) => {
                self.nodes[n].disk = Disk::Closed(disk);
                self.coverage.hit("start-refused-by-disk");
                self.restart_agent_after(n, 500 * MILLI);
            }
            _ => self.fail(Violation { rule: "S4", what: error.to_string() }),
        }
    }

    fn begin_agent(&mut self, n: usize, replica: ReplicaId, recovered: Recovered) {
        let state: ClusterState = match recovered.snapshot() {
            Some(snapshot) => postcard::from_bytes(&snapshot.data).expect("a snapshot of ours"),
            None => ClusterState::default(),
        };
        let local = self.local(n);
        let node = &mut self.nodes[n];
        node.boot += 1;
        node.run += 1;
        let (boot, run) = (node.boot, node.run);
        let hard = recovered.hard_state();
        let (term, vote) = (hard.term, (hard.vote != 0).then_some(hard.vote));
        let config = PulseConfig {
            me: replica,
            boot,
            timers: state.spec.timers(),
            recorded_promise: node.promise,
            term,
            witness: node.kind == Kind::Witness,
            plants: self.plan.plants,
        };
        let mut pulse = Pulse::new(config, local);
        let ours = std::mem::replace(&mut node.ran, true);
        pulse.adopt_lease(local, node.page.filter(|_| ours).map(|page| page.end));
        let mut options = ReplicaConfig::new(replica.0);
        options.snapshot_after_entries = SNAPSHOT_ENTRIES;
        options.keep_entries = 20;
        // No priorities: the library refuses a lower one at equal length even where its own log is
        // of an older term, and then neither of two is ever elected (seed 102086). Witnesses come
        // last by their turn.
        let applied = recovered.snapshot().map_or(0, |snapshot| snapshot.index);
        let log = Replica::new(options, recovered).expect("a sound configuration");
        let config = KernelConfig { node: node.name.clone(), replica, boot };
        let mut kernel = Kernel::new(config, log, state, local);
        plant(&mut kernel, self.plan.plants);
        let agent = Agent {
            kernel,
            pulse,
            queue: Vec::new(),
            syncing: false,
            appended: None,
            wake: u64::MAX,
            applied,
            ballot: (term, vote),
            led: None,
            settled: false,
            peers: Vec::new(),
            lapses: 0,
            lease_base: node.page.map_or(0, |page| page.token),
            votes_filtered: 0,
        };
        node.agent = Some(Box::new(agent));
        self.note(|| format!("{} agent starts as {replica}, boot {boot}", node_name(n)));
        self.refresh_peers(n);
        self.break_all(n);
        self.find_what_was_left(n);
        self.ask_again(n);
        self.at(self.now, Ev::Beat { node: n, run });
        self.begin_hellos(n, run);
        self.drive(n, Input::Tick);
        if self.nodes[n].launcher.is_some() {
            self.tell_launcher_up(n);
        }
        self.tell_clear(n);
    }

    /// The agent dies; launcher, guard and instances live on.
    pub(crate) fn kill_agent(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.run += 1;
        node.agent_frozen = false;
        node.agent_parked.clear();
        if node.agent.take().is_none() {
            return;
        }
        node.disk = match std::mem::replace(&mut node.disk, Disk::Moving) {
            Disk::Open(segments) => Disk::Closed(segments.into_disk()),
            other => other,
        };
        self.note(|| format!("{} agent dies", node_name(n)));
        self.break_all(n);
    }

    pub(crate) fn restart_agent_after(&mut self, n: usize, delay: u64) {
        let machine = self.nodes[n].machine;
        self.after(delay, Ev::Start { node: n, part: Part::Agent, machine });
    }

    pub(crate) fn refresh_peers(&mut self, n: usize) {
        let all: Vec<(usize, ReplicaId)> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(other, node)| Some((other, node.replica?)))
            .collect();
        let names: Vec<_> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let members = &agent.kernel.state().members;
        let known = |name: &model::NodeName| names.iter().position(|other| other == name);
        agent.peers = if members.is_empty() {
            all
        } else {
            members.iter().filter_map(|(name, m)| Some((known(name)?, m.replica))).collect()
        };
        agent.peers.retain(|(other, _)| *other != n);
        let keep = agent.peers.iter().map(|(_, replica)| *replica).collect();
        agent.pulse.retain_peers(&keep);
    }

    /// A node that came back as a learner votes again.
    fn notice_promotion(&mut self, n: usize) {
        let Some(agent) = self.nodes[n].agent.as_ref() else { return };
        let voters = agent.kernel.replica().membership().voters;
        for node in &mut self.nodes {
            if node.learner && node.replica.is_some_and(|r| voters.contains(&r.0)) {
                node.learner = false;
                self.coverage.hit("learner-promoted");
            }
        }
    }

    pub(crate) fn on_beat(&mut self, n: usize, run: u32) {
        if self.nodes[n].run != run {
            return;
        }
        let local = self.local(n);
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_mut() else { return };
        agent.pulse.beat(local);
        let peers = std::mem::take(&mut agent.peers);
        let next = node.clock.truth(local + agent.pulse.timers().heartbeat);
        let witness = node.kind == Kind::Witness;
        for (to, replica) in &peers {
            let Some(agent) = self.nodes[n].agent.as_mut() else { return };
            let beat = agent.pulse.heartbeat_for(local, *replica);
            if witness {
                self.require(brain::invariants::witness::is_silent(&beat));
            }
            if beat.grant.is_some() {
                self.check_grant(n, *to, *replica);
            }
            self.send_heartbeat(n, *to, *replica, beat);
        }
        if let Some(agent) = self.nodes[n].agent.as_mut() {
            agent.peers = peers;
        }
        let jitter = self.rng.below(50_000);
        self.at(next + jitter, Ev::Beat { node: n, run });
        self.after_pulse(n);
    }

    pub(crate) fn on_wake(&mut self, n: usize, run: u32, at: u64) {
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_mut().filter(|a| node.run == run && a.wake == at) else {
            return;
        };
        agent.wake = u64::MAX;
        self.drive(n, Input::Tick);
    }

    /// Gives the kernel one input and does what it says.
    pub(crate) fn drive(&mut self, n: usize, input: Input) {
        let moment = self.local(n);
        let now = Now { moment, wall_ms: self.nodes[n].clock.wall_ms(self.now) };
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let mut out = std::mem::take(&mut self.out);
        agent.kernel.handle(&mut agent.pulse, now, input, &mut out);
        self.note_absences(&out);
        self.after_pulse(n);
        self.after_kernel(n);
        for output in out.drain(..) {
            self.carry_out(n, output);
        }
        self.out = out;
        self.schedule_wake(n);
    }

    fn schedule_wake(&mut self, n: usize) {
        let local = self.local(n);
        let now = self.now;
        let node = &mut self.nodes[n];
        let run = node.run;
        let Some(agent) = node.agent.as_mut() else { return };
        let at = node.clock.truth(agent.kernel.wake_at(&agent.pulse, local)).max(now + 1_000);
        if at < agent.wake {
            agent.wake = at;
            self.at(at, Ev::Wake { node: n, run, at });
        }
    }

    fn carry_out(&mut self, n: usize, output: Output) {
        let run = self.nodes[n].run;
        match output {
            Output::Send(to, message) => self.send_message(n, to, message),
            Output::Write(write) => {
                let Some(agent) = self.nodes[n].agent.as_mut() else { return };
                agent.queue.push(write);
                if !agent.syncing {
                    agent.syncing = true;
                    let delay = self.rng.range(5_000, 50_000);
                    self.after(delay, Ev::Append { node: n, run });
                }
            }
            Output::RecordPromise(_) if self.nodes[n].stalled_disk => {}
            Output::RecordPromise(promise) => {
                let sync = self.nodes[n].sync;
                self.after(sync, Ev::PromiseDurable { node: n, run, promise });
            }
            Output::Act(action) => {
                self.note(|| format!("{} wants {action:?}", node_name(n)));
                self.check_company(n, &action);
                let node = &self.nodes[n];
                let Some((launcher, agent)) = node.launcher.zip(node.agent.as_ref()) else {
                    return;
                };
                if agent.kernel.member().session() != node.session {
                    return self.coverage.hit("order-on-an-older-list");
                }
                let delay = self.rng.range(20_000, 300_000);
                let action = Box::new(action);
                self.after(delay, Ev::Act { node: n, launcher, action });
            }
            Output::Answer(number, answer) => self.on_answer(n, number, &answer),
            Output::Happened { event, leading } => self.on_happened(n, &event, leading),
            Output::Reconfigured => {
                self.refresh_peers(n);
                self.notice_promotion(n);
            }
            Output::Halt(why) => self.on_halt(n, &why),
        }
    }

    pub(crate) fn on_append(&mut self, n: usize, run: u32) {
        let node = &mut self.nodes[n];
        let (Some(agent), Disk::Open(segments)) = (node.agent.as_mut(), &mut node.disk) else {
            return;
        };
        if node.run != run {
            return;
        }
        let writes = std::mem::take(&mut agent.queue);
        agent.appended = writes.last().map(|write| write.id);
        let done = segments.append(&writes);
        let appended = agent.appended;
        let sync = node.sync;
        if let Err(fatal) = done {
            return self.stop_for_disk(n, &fatal.cause);
        }
        let delay = self.rng.range(sync / 2, sync * 2);
        if self.nodes[n].stalled_disk {
            return;
        }
        self.after(delay, Ev::Synced { node: n, run });
        if std::mem::take(&mut self.nodes[n].doomed) && !self.healed {
            let machine = self.nodes[n].machine;
            let soon = self.rng.below(delay);
            self.after(soon, Ev::Crash { node: n, machine });
        }
        if let Some(id) = appended.filter(|_| self.plan.plants.has(Plant::AckBeforeFsync)) {
            self.drive(n, Input::Written(id));
        }
    }

    pub(crate) fn on_synced(&mut self, n: usize, run: u32) {
        let node = &mut self.nodes[n];
        let (Some(agent), Disk::Open(segments)) = (node.agent.as_mut(), &mut node.disk) else {
            return;
        };
        if node.run != run {
            return;
        }
        let idle = agent.queue.is_empty();
        let synced = segments.sync().and_then(|()| segments.settle(idle));
        let careless = self.plan.plants.has(Plant::FailedSyncReported);
        if let Some(fatal) = synced.err().filter(|_| !careless) {
            return self.stop_for_disk(n, &fatal.cause);
        }
        agent.syncing = !idle;
        let written = agent.appended.take();
        if !idle {
            let delay = self.rng.range(5_000, 50_000);
            self.after(delay, Ev::Append { node: n, run });
        }
        if let Some(id) = written {
            self.drive(n, Input::Written(id));
        }
    }

    pub(crate) fn on_promise(&mut self, n: usize, run: u32, promise: Span) {
        let node = &mut self.nodes[n];
        if node.run == run && node.agent.is_some() {
            node.promise = node.promise.max(promise);
            self.drive(n, Input::PromiseRecorded(promise));
        }
    }

    pub(crate) fn on_tell(&mut self, n: usize, run: u32, event: InstanceEvent) {
        if self.nodes[n].run == run {
            self.note(|| format!("{} hears {event:?}", node_name(n)));
            self.drive(n, Input::Instance(event));
        }
    }

    /// Copies the lease into the page that the guard reads.
    pub(crate) fn write_page(&mut self, n: usize) {
        let local = self.local(n);
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_mut() else { return };
        let token = agent.lease_base + agent.pulse.check_lease(local);
        let Some(end) = agent.pulse.lease_end() else { return };
        let fresh = match node.page {
            Some(page) if page.end == end => return,
            Some(page) => page.token != token,
            None => true,
        };
        node.page = Some(Page { end, token });
        self.after_renewal(n, end, fresh);
    }
}

pub(crate) fn open(disk: MemoryDisk) -> Result<(Segments<MemoryDisk>, Recovered), OpenError> {
    Segments::open(disk, Options { segment_bytes: SEGMENT_BYTES })
}

#[cfg(feature = "plant")]
fn plant(kernel: &mut Kernel, plants: brain::Plants) {
    kernel.plant(plants);
}

#[cfg(not(feature = "plant"))]
fn plant(_: &mut Kernel, _: brain::Plants) {}
