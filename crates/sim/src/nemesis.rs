//! Who breaks things: draws a fault, its victim and its length.

use brain::plant::Plant;
use journal::{Fault as DiskFault, Kept, Unsynced};
use model::ResourceName;
use model::report::InstancePhase;

use crate::cluster::{RESOURCES, node_name};
use crate::event::{Act, Ev, Part, Undo};
use crate::fault::Fault;
use crate::plan::{Class, MILLI, SECOND};
use crate::storage::new_disk;
use crate::world::{Disk, World};

impl World {
    pub(crate) fn begin_faults(&mut self) {
        let first = self.rng.range(SECOND, 4 * SECOND);
        let flapping = self.plan.class == Class::Flapping;
        if !self.plan.faults.is_empty() && !flapping {
            self.at(first, Ev::Fault);
        }
        match self.plan.class {
            Class::Swarm | Class::Drift => self.at(first * 2, Ev::Operate),
            Class::Flapping => self.at(first * 2, Ev::Flap),
            Class::Minority => {
                // From the beginning on, or while it holds things, leads, is relied on.
                let late = self.rng.permille(700);
                let at = if late { self.rng.range(5 * SECOND, 40 * SECOND) } else { 0 };
                self.at(at, Ev::HalfDie);
            }
            Class::Recovery => {
                self.at(first * 2, Ev::Operate);
                let at = self.rng.range(6 * SECOND, 20 * SECOND);
                self.at(at, Ev::Disaster(Act::Begin));
            }
            Class::Calm => {}
        }
    }

    fn others(&self, n: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != n).collect()
    }

    fn outward(&self, n: usize) -> Vec<(usize, usize)> {
        self.others(n).into_iter().map(|other| (n, other)).collect()
    }

    fn inward(&self, n: usize) -> Vec<(usize, usize)> {
        self.others(n).into_iter().map(|other| (other, n)).collect()
    }

    pub(crate) fn both_ways(&self, n: usize) -> Vec<(usize, usize)> {
        let mut pairs = self.outward(n);
        pairs.extend(self.inward(n));
        pairs
    }

    /// L2: one node is bad in one lasting way.
    pub(crate) fn make_half_dead(&mut self, number: u32) {
        let n = self.plan.victim;
        if !self.is_allowed(number, || format!("{} half-dead", node_name(n))) {
            return;
        }
        self.coverage.hit(Fault::OneWay.name());
        match self.rng.below(7) {
            0 => self.network.block(&self.outward(n), 3, false),
            1 => self.network.block(&self.inward(n), 3, false),
            2 => self.network.block(&self.outward(n), 0, true),
            3 => self.network.block(&self.both_ways(n), 3, true),
            4 => {
                self.nodes[n].launcher_lost = true;
                self.kill_launcher(n);
                self.coverage.hit("launcher-lost");
            }
            5 => {
                self.nodes[n].stalled_disk = true;
                self.coverage.hit("stalled-disk");
            }
            _ => self.nodes[n].sync = 2 * SECOND,
        }
        self.note(|| format!("{} is half-dead from now on", node_name(n)));
    }

    /// L3: one node comes and goes.
    pub(crate) fn on_flap(&mut self) {
        self.disturb(World::flap);
    }

    fn flap(&mut self, number: u32) {
        let n = self.plan.victim;
        let lease = self.plan.profile.timers().lease.0;
        let away = self.rng.range(lease, lease * 4);
        let back = self.rng.range(lease, lease * 6);
        self.after(away + back, Ev::Flap);
        if self.is_allowed(number, || format!("{} cut off", node_name(n))) {
            let pairs = self.both_ways(n);
            self.coverage.hit(Fault::Isolation.name());
            self.block(pairs, 3, false, away);
        }
    }

    /// Blocks for a while.
    pub(crate) fn block(
        &mut self,
        pairs: Vec<(usize, usize)>,
        links: u8,
        streams: bool,
        length: u64,
    ) {
        self.network.block(&pairs, links, streams);
        self.after(length, Ev::Undo(Undo::Block { pairs, links, streams }));
    }

    pub(crate) fn on_fault(&mut self) {
        self.disturb(World::strike);
    }

    fn strike(&mut self, number: u32) {
        let every = self.plan.fault_every;
        let next = self.rng.range(every / 8, every * 2);
        let left = self.plan.safety.saturating_sub(self.now);
        if left < SECOND {
            return;
        }
        self.after(next, Ev::Fault);
        self.sweep();
        let Some(fault) = self.rng.pick(&self.plan.faults).copied() else { return };
        let lease = self.plan.profile.timers().lease.0;
        // Often about as long as a lease: what ends just then is hardest to get right.
        let length = match self.rng.below(5) {
            0..2 => self.rng.range(lease * 3 / 4, lease * 3 / 2),
            _ => self.rng.skewed(lease / 8, lease * 8),
        };
        let length = length.min(12 * SECOND).min(left);
        let n = self.victim();
        let what = || format!("{} at {} for {} ms", fault.name(), node_name(n), length / MILLI);
        if !self.is_allowed(number, what) {
            return;
        }
        self.note(|| format!("FAULT {number}: {}", what()));
        if self.inject(fault, n, length) {
            self.coverage.hit(fault.name());
        }
    }

    /// Whom it hits: often the coordinator or a holder, where it hurts most.
    fn victim(&mut self) -> usize {
        let any = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(10) {
            0..4 => self.coordinator().unwrap_or(any),
            4..7 => self.holder().unwrap_or(any),
            _ => any,
        }
    }

    fn holder(&mut self) -> Option<usize> {
        let r = self.rng.below(RESOURCES.len() as u64) as usize;
        let name = ResourceName::new(RESOURCES[r]).ok()?;
        let holder = self.newest_state()?.resources.get(&name)?.node()?.clone();
        self.nodes.iter().position(|node| node.name == holder)
    }

    fn inject(&mut self, fault: Fault, n: usize, length: u64) -> bool {
        match fault {
            Fault::Loss => {
                let loss = self.rng.range(100, 900);
                self.network.loss += loss;
                self.after(length, Ev::Undo(Undo::Loss(loss)));
            }
            Fault::Delay => {
                let delay = self.rng.skewed(2 * MILLI, self.plan.profile.timers().promise.0);
                self.network.delay += delay;
                self.after(length, Ev::Undo(Undo::Delay(delay)));
            }
            Fault::Isolation
            | Fault::Partition
            | Fault::PartialPartition
            | Fault::OneWay
            | Fault::LinkDown
            | Fault::StreamStall
            | Fault::DatagramsLost => self.partition(fault, n, length),
            Fault::StreamCut => self.break_all(n),
            Fault::Blackout => return self.black_out(),
            Fault::AgentCrash => {
                let quick = self.rng.permille(600);
                let longest = if quick { 100 * MILLI } else { length.max(101 * MILLI) };
                let delay = self.rng.skewed(10 * MILLI, longest);
                self.kill_agent(n);
                self.restart_agent_after(n, delay);
            }
            Fault::LauncherDeath => self.kill_launcher(n),
            Fault::GuardDeath => self.kill_guard(n),
            Fault::NodeCrash if self.rng.permille(500) => self.nodes[n].doomed = true,
            Fault::NodeCrash => self.crash_machine(n, false),
            Fault::PowerLoss if self.rng.permille(500) => {
                self.nodes.iter_mut().for_each(|node| node.doomed = true);
            }
            Fault::PowerLoss => (0..self.nodes.len()).for_each(|n| self.crash_machine(n, false)),
            Fault::AgentPause => self.pause_agent(n, length),
            Fault::NodePause => self.pause(n, length),
            Fault::InstanceExit | Fault::Stuck | Fault::Unhealthy => {
                return self.hurt_instance(fault, n);
            }
            Fault::WallJump => {
                let jump = self.rng.below(20_000_000) as i64 - 10_000_000;
                self.nodes[n].clock.wall_offset_ms += jump;
            }
            Fault::SlowDisk => {
                self.nodes[n].sync = self.rng.skewed(10 * MILLI, 3 * SECOND);
                let machine = self.nodes[n].machine;
                self.after(length, Ev::Undo(Undo::Sync { node: n, machine }));
            }
            Fault::DiskError => return self.fail_disk(n),
            Fault::SyncError | Fault::DiskFull | Fault::DescriptorsGone => {
                return self.hinder_storage(fault, n, length);
            }
            Fault::BitRot | Fault::LostWrite | Fault::MisdirectedWrite => {
                return self.damage_storage(fault, n);
            }
            Fault::LostDisk => return self.lose_disk(n),
            Fault::Starved => {
                self.nodes[n].starved = true;
                self.after(length, Ev::Undo(Undo::Starve { node: n }));
            }
            // These wait for their moment; see `on_renounced` and `on_absence_asked`.
            Fault::TransferCut | Fault::AbsenceCut => return false,
        }
        true
    }

    /// Until everything heals, which is most of a run: now and then is enough.
    fn black_out(&mut self) -> bool {
        if self.left() < 20 * SECOND || !self.rng.permille(100) {
            return false;
        }
        let pairs = (0..self.nodes.len()).flat_map(|n| self.outward(n)).collect();
        self.block(pairs, 3, true, self.left());
        true
    }

    fn partition(&mut self, fault: Fault, n: usize, length: u64) {
        let others = self.others(n);
        let other = others[self.rng.below(others.len() as u64) as usize];
        let pairs = match fault {
            Fault::PartialPartition => vec![(n, other), (other, n)],
            Fault::OneWay if self.rng.permille(500) => self.outward(n),
            Fault::OneWay => self.inward(n),
            Fault::Partition => {
                let side = |m: usize| m == n || m == other;
                let all =
                    (0..self.nodes.len()).flat_map(|a| (0..self.nodes.len()).map(move |b| (a, b)));
                all.filter(|(a, b)| side(*a) != side(*b)).collect()
            }
            Fault::StreamStall if self.rng.permille(300) => vec![(n, other)],
            _ => self.both_ways(n),
        };
        let (links, streams) = match fault {
            Fault::LinkDown => (1 + self.rng.below(2) as u8, false),
            Fault::StreamStall => (0, true),
            _ => (3, false),
        };
        if fault == Fault::DatagramsLost {
            // Connections have other ways through, such as retransmission of TCP.
            self.network.loss += 990;
            return self.after(length, Ev::Undo(Undo::Loss(990)));
        }
        self.block(pairs, links, streams, length);
    }

    fn hurt_instance(&mut self, fault: Fault, n: usize) -> bool {
        let active: Vec<usize> = self.nodes[n]
            .instances
            .iter()
            .filter(|(_, i)| i.phase == InstancePhase::Active && !i.ending && !i.stuck)
            .map(|(r, _)| *r)
            .collect();
        let Some(r) = self.rng.pick(&active).copied() else { return false };
        match fault {
            Fault::InstanceExit => self.gone(n, r, false),
            Fault::Unhealthy => self.fail_health(n, r),
            _ => {
                if let Some(inst) = self.nodes[n].instances.get_mut(&r) {
                    inst.stuck = true;
                }
                // Sooner or later it is to be stopped; now and then that is now.
                if self.rng.permille(500) {
                    self.fail_health(n, r);
                }
            }
        }
        true
    }

    fn fail_disk(&mut self, n: usize) -> bool {
        let Disk::Open(segments) = &mut self.nodes[n].disk else { return false };
        let disk = segments.disk_mut();
        let at = disk.operations();
        let kind = std::io::ErrorKind::Other;
        disk.inject(DiskFault { at, kind, partial_bytes: 7, lasting: true });
        true
    }

    /// The power of one machine fails. What was not durable is lost in part.
    pub(crate) fn crash_machine(&mut self, n: usize, wipe: bool) {
        self.kill_agent(n);
        let rng = &mut self.rng;
        let node = &mut self.nodes[n];
        node.up = false;
        node.machine += 1;
        node.page = None;
        node.doomed = false;
        node.sync = self.plan.sync;
        node.launcher = None;
        node.guard = None;
        node.clear = true;
        node.instances.clear();
        node.seen = Default::default();
        node.frozen = false;
        node.parked.clear();
        node.left = None;
        node.absent = None;
        if let Disk::Closed(disk) = &mut node.disk {
            if wipe {
                *disk = new_disk();
            } else {
                disk.crash(|unsynced| kept(rng, unsynced));
            }
        }
        let keeps_vote = self.plan.plants.has(Plant::LostDiskKeepsVote);
        if wipe && !keeps_vote {
            node.replica = None;
            node.damaged = None;
            node.boot = 0;
            node.promise = model::Span::ZERO;
            node.bound_until = 0;
            node.rejoining = None;
        }
        let machine = node.machine;
        self.note(|| {
            format!("{} loses power{}", node_name(n), if wipe { " and disk" } else { "" })
        });
        let delay = self.rng.skewed(100 * MILLI, 6 * SECOND);
        self.after(delay, Ev::Start { node: n, part: Part::Machine, machine });
    }

    /// One disk at a time, and only where every node knows that the others are whole voters: two
    /// lost disks of three are too many, and so they are while a change that replaces the first
    /// is known to its coordinator alone.
    fn lose_disk(&mut self, n: usize) -> bool {
        if !self.all_are_whole() {
            return false;
        }
        self.crash_machine(n, true);
        true
    }

    /// The whole machine stands still; its clock runs on.
    fn pause(&mut self, n: usize, length: u64) {
        let node = &mut self.nodes[n];
        if node.frozen || !node.up {
            return;
        }
        node.frozen = true;
        node.pauses += 1;
        let pause = node.pauses;
        if length > self.plan.profile.timers().lease.0 {
            self.coverage.hit("longer-than-the-lease");
        }
        self.after(length, Ev::Thaw { node: n, pause });
    }

    pub(crate) fn thaw(&mut self, n: usize, pause: u32) {
        let node = &mut self.nodes[n];
        if !node.frozen || node.pauses != pause {
            return;
        }
        node.frozen = false;
        self.note(|| format!("{} wakes", node_name(n)));
        // Asked before it has looked at the clock.
        self.check_reader(n);
        if self.rng.permille(200) {
            self.nodes[n].launcher_awake = self.now + self.rng.below(100 * MILLI);
        }
        for ev in std::mem::take(&mut self.nodes[n].parked) {
            let late = matches!(ev, Ev::Guard { .. } | Ev::Order { .. } | Ev::Wake { .. });
            // Whoever wakes last may find that the others have been at work for a while.
            let longest = if self.rng.permille(200) { 100 * MILLI } else { 3 * MILLI };
            let delay = if late { self.rng.below(longest) } else { 0 };
            self.after(delay, ev);
        }
    }

    fn pause_agent(&mut self, n: usize, length: u64) {
        let node = &mut self.nodes[n];
        if node.agent.is_none() || node.agent_frozen {
            return;
        }
        node.agent_frozen = true;
        node.agent_pauses += 1;
        let pause = node.agent_pauses;
        self.after(length, Ev::ThawAgent { node: n, pause });
    }

    pub(crate) fn thaw_agent(&mut self, n: usize, pause: u32) {
        let node = &mut self.nodes[n];
        if !node.agent_frozen || node.agent_pauses != pause {
            return;
        }
        node.agent_frozen = false;
        self.note(|| format!("{} agent wakes", node_name(n)));
        self.check_reader(n);
        for ev in std::mem::take(&mut self.nodes[n].agent_parked) {
            let late = matches!(ev, Ev::Beat { .. } | Ev::Wake { .. });
            let delay = if late { self.rng.below(MILLI) } else { 0 };
            self.after(delay, ev);
        }
    }

    /// A coordinator's renounce entry took effect: sometimes it learns nothing more.
    pub(crate) fn on_renounced(&mut self, n: usize) {
        let on = self.plan.faults.contains(&Fault::TransferCut) && !self.healed;
        if on {
            self.disturb_in_between(|world, number| world.cut_transfer(n, number));
        }
    }

    fn cut_transfer(&mut self, n: usize, number: u32) {
        let what = || format!("transfer-cut at {}", node_name(n));
        if self.rng.permille(700) && self.is_allowed(number, what) {
            self.coverage.hit(Fault::TransferCut.name());
            let lease = self.plan.profile.timers().lease.0;
            let length = self.rng.range(lease / 4, lease * 2);
            let pairs = if self.rng.permille(500) { self.inward(n) } else { self.both_ways(n) };
            let delayed = self.rng.permille(500);
            self.block(pairs, if delayed { 3 } else { 0 }, true, length.min(self.left()));
        }
    }

    fn left(&self) -> u64 {
        self.plan.safety.saturating_sub(self.now)
    }

    /// A node asked for a longer lease: sometimes nobody hears it.
    pub(crate) fn on_absence_asked(&mut self, n: usize) {
        let on = self.plan.faults.contains(&Fault::AbsenceCut) && !self.healed;
        if on {
            self.disturb_in_between(|world, number| world.cut_absence(n, number));
        }
    }

    fn cut_absence(&mut self, n: usize, number: u32) {
        let what = || format!("absence-cut at {}", node_name(n));
        if self.rng.permille(500) && self.is_allowed(number, what) {
            self.coverage.hit(Fault::AbsenceCut.name());
            let lease = self.plan.profile.timers().lease.0;
            let length = self.rng.range(lease, lease * 8).min(self.left());
            self.block(self.both_ways(n), 3, true, length);
        }
    }
}

/// What a power loss leaves of something that was not durable.
fn kept(rng: &mut crate::rng::Rng, unsynced: &Unsynced<'_>) -> Kept {
    match unsynced {
        Unsynced::Directory { operations } => {
            Kept::first(rng.below(*operations as u64 + 1) as usize)
        }
        Unsynced::Cut { .. } => Kept::everything(),
        Unsynced::Tail { bytes, offset, .. } => match rng.below(4) {
            0 => Kept::nothing(),
            1 => Kept::everything(),
            2 => Kept::first(rng.below(*bytes as u64 + 1) as usize),
            _ => {
                let first = offset / 512;
                let sectors = *bytes as u64 / 512 + 1;
                let lost = first + rng.below(sectors);
                Kept { length: *bytes, lost_sectors: vec![lost] }
            }
        },
    }
}
