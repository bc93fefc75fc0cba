//! A majority of the voters is lost for good, an operator recovers on a survivor, and the lost
//! ones come back: some with the disk and certificate that they had, some with nothing.
//!
//! What the agent's shell does around a generation (the hello that names it, the end of a node
//! that hears of a higher one) is done here as it is there.

use brain::cluster::refound::{TERM_MARGIN, longest_lease_ms, next_generation, refound};
use brain::invariants::Violation;
use brain::plant::Plant;
use journal::{End, MemoryDisk, Recovered, Replica, ReplicaConfig};
use kernel::Input;
use kernel::replay::replay;
use model::state::{ClusterState, RefoundKind, Refounding};
use model::{Moment, ReplicaId};

use crate::cluster::{join_request, node_name};
use crate::event::{Act, Ev, Part};
use crate::plan::{Class, Kind, MILLI, SECOND};
use crate::storage::new_disk;
use crate::world::{Disk, Page, World};

/// Indices that a generation skips here: more than a run writes.
const INDEX_MARGIN: u64 = 5_000;

/// What is left of a lost node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: machine and disk are gone.
    All,
    /// It is off, and its disk is whole.
    Power,
    /// Agent and disk are gone; launcher, guard and instances go on as long as the lease lasts.
    AgentAndDisk,
}

/// One disaster.
#[derive(Debug, Clone)]
pub(crate) struct Disaster {
    lost: Vec<(usize, Loss)>,
    /// A new generation began.
    pub(crate) recovered: bool,
}

impl World {
    pub(crate) fn on_disaster(&mut self, act: Act) {
        match act {
            Act::Begin => self.draw_disaster(),
            Act::Lose => self.lose_majority(),
            Act::Recover => self.recover_quorum(),
        }
    }

    /// Draws who is lost and how; nodes whose instances will outlive them are about to be away
    /// for a moment, and a survivor may miss what is decided last.
    fn draw_disaster(&mut self) {
        let mut voters: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].kind != Kind::Member).collect();
        let founders: Vec<usize> =
            voters.iter().copied().filter(|n| self.nodes[*n].kind == Kind::Voter).collect();
        let survivor = self.rng.pick(&founders).copied().unwrap_or(0);
        voters.retain(|n| *n != survivor);
        let majority = voters.len().div_ceil(2) + 1;
        let mut lost = Vec::new();
        while lost.len() < majority.min(voters.len() + lost.len()) && !voters.is_empty() {
            let at = self.rng.below(voters.len() as u64) as usize;
            let how = match self.rng.below(4) {
                0 => Loss::All,
                1 => Loss::AgentAndDisk,
                _ => Loss::Power,
            };
            lost.push((voters.swap_remove(at), how));
        }
        self.note(|| format!("DISASTER: {} stays, {lost:?} will be lost", node_name(survivor)));
        let delay = self.rng.range(100 * MILLI, 3 * SECOND);
        if self.rng.permille(500) {
            let pairs = self.both_ways(survivor);
            self.block(pairs, 3, true, delay);
        }
        for (n, how) in lost.clone() {
            if how == Loss::AgentAndDisk && self.nodes[n].agent.is_some() {
                self.nodes[n].absent = Some(self.now);
                self.drive(n, Input::WantAbsence { for_ms: longest_lease_ms() });
            }
        }
        self.disaster = Some(Disaster { lost, recovered: false });
        self.after(delay, Ev::Disaster(Act::Lose));
    }

    fn lose_majority(&mut self) {
        let lost = self.disaster.as_ref().map(|d| d.lost.clone()).unwrap_or_default();
        for (n, how) in lost {
            match how {
                Loss::All => self.crash_machine(n, true),
                Loss::Power => self.crash_machine(n, false),
                Loss::AgentAndDisk => {
                    self.kill_agent(n);
                    let node = &mut self.nodes[n];
                    node.disk = Disk::Closed(new_disk());
                    node.replica = None;
                    node.promise = model::Span::ZERO;
                    node.bound_until = 0;
                    node.rejoining = None;
                    node.left = None;
                    let lease = self.plan.profile.timers().lease.0;
                    let end = node.page.map_or(0, |page| node.clock.truth(page.end));
                    if end > self.now + lease && !node.instances.is_empty() {
                        self.coverage.hit("lease-outlived-its-quorum");
                    }
                }
            }
            self.nodes[n].lost = true;
        }
        let delay = self.rng.skewed(300 * MILLI, 8 * SECOND);
        self.after(delay, Ev::Disaster(Act::Recover));
    }

    /// The operator: the longest log among the survivors, its agent stopped, a new generation.
    fn recover_quorum(&mut self) {
        let whole = |n: &usize| {
            let node = &self.nodes[*n];
            let stands = node.kind == Kind::Voter && !node.lost && !node.frozen;
            let agent = node.agent.as_ref().filter(|_| stands)?;
            let log = agent.kernel.replica();
            Some((log.last_term(), log.last_index()))
        };
        let best = (0..self.nodes.len()).filter(|n| whole(n).is_some()).max_by_key(whole);
        let office = self.coordinator().is_some();
        let Some(n) = best.filter(|_| !office) else {
            // A survivor that is about to give up its office, or starts just now.
            return self.after(200 * MILLI, Ev::Disaster(Act::Recover));
        };
        self.kill_agent(n);
        let newest = self.judge.index();
        let disk = match std::mem::replace(&mut self.nodes[n].disk, Disk::Moving) {
            Disk::Closed(disk) => disk,
            Disk::Open(segments) => segments.into_disk(),
            Disk::Moving => unreachable!("a disk is somewhere"),
        };
        match self.begin_generation(n, disk) {
            Ok((disk, known)) => {
                self.nodes[n].disk = Disk::Closed(disk);
                if known < newest {
                    self.coverage.hit("survivor-behind");
                }
            }
            Err(what) => return self.fail(Violation { rule: "S4", what }),
        }
        self.coverage.hit("quorum-recovered");
        let lost = self.disaster.as_mut().map(|disaster| {
            disaster.recovered = true;
            disaster.lost.clone()
        });
        self.restart_agent_after(n, MILLI);
        // Often together: then they are a majority of the old generation.
        let together = self.rng.range(200 * MILLI, 15 * SECOND);
        for (n, _) in lost.unwrap_or_default() {
            let apart = if self.rng.permille(600) { 0 } else { self.rng.below(10 * SECOND) };
            self.after(together + apart, Ev::Mend { node: n });
        }
    }

    /// What `recover-quorum` does to a log.
    fn begin_generation(
        &mut self,
        n: usize,
        mut disk: MemoryDisk,
    ) -> Result<(MemoryDisk, u64), String> {
        disk.heal();
        let (_, old) = crate::agent::open(disk).map_err(|e| e.to_string())?;
        let before =
            replay(&old).map_err(|(index, error)| format!("entry {index}: {error}"))?.whole;
        let with = self.refounding(n, &before, old.end().index);
        let state = refound(&before, &with, self.plan.plants).map_err(|e| e.to_string())?;
        let replica = state.replica_of(&self.nodes[n].name).ok_or("it has no founder")?;
        let known = before.index;
        self.note(|| {
            let (name, generation) = (node_name(n), state.generation);
            format!("RECOVERY on {name} from index {known}: {replica} begins {generation}")
        });
        let image = postcard::to_allocvec(&state).map_err(|e| e.to_string())?;
        let term = old.hard_state().term.max(old.end().term) + TERM_MARGIN;
        let at = End { index: with.index, term };
        let recovered =
            Recovered::bootstrap_at(&[replica.0], image, at).map_err(|e| e.to_string())?;
        let mut log =
            Replica::new(ReplicaConfig::new(replica.0), recovered).map_err(|e| e.to_string())?;
        let (mut segments, _) = crate::agent::open(new_disk()).map_err(|e| e.to_string())?;
        while let Some(work) = log.work() {
            if let Some(write) = work.write {
                let id = write.id;
                segments.commit(&[write]).map_err(|e| e.to_string())?;
                log.written(id);
            }
        }
        self.nodes[n].replica = Some(replica);
        self.nodes[n].ran = false;
        // Who held what in entries that are lost, nobody knows any more.
        self.judge.holds(&state);
        // What the survivor lacked is lost, and said to be.
        self.judge.told = self.judge.told.min(state.index);
        Ok((segments.into_disk(), known))
    }

    fn refounding(&mut self, n: usize, before: &ClusterState, last_index: u64) -> Refounding {
        let random = self.rng.below(u64::MAX);
        let off = self.disaster.iter().flat_map(|d| &d.lost).map(|(n, _)| node_name(*n)).collect();
        Refounding {
            kind: RefoundKind::Recovered,
            cluster_id: before.cluster_id,
            generation: next_generation(before.generation, 0, self.now / SECOND, random),
            index: last_index.max(before.index) + INDEX_MARGIN,
            founder: join_request(&self.plan, n),
            keep_identities: true,
            authorities: before.authorities.clone(),
            wait_ms: longest_lease_ms(),
            off,
            by: "operator".into(),
            why: "the majority is lost".into(),
            wall_ms: self.nodes[n].clock.wall_ms(self.now),
        }
    }

    /// A lost node comes back with what it has.
    pub(crate) fn mend(&mut self, n: usize) {
        // As the guide says: the others are started while the survivor's agent runs.
        let anew = |node: &crate::world::Node| {
            node.agent.is_some() && node.replica.is_some_and(|replica| !is_old(replica))
        };
        if !self.nodes.iter().any(anew) {
            return self.after(200 * MILLI, Ev::Mend { node: n });
        }
        let node = &mut self.nodes[n];
        if !std::mem::replace(&mut node.lost, false) {
            return;
        }
        // What a loss of power had scheduled is no longer to come, nor the end of a slow disk.
        node.machine += 1;
        node.sync = self.plan.sync;
        let (machine, up) = (node.machine, node.up);
        self.note(|| format!("{} is mended", node_name(n)));
        let old = |node: &crate::world::Node| !node.lost && node.replica.is_some_and(is_old);
        let kinds = self.nodes.iter().filter(|node| node.kind != Kind::Member);
        let (woken, all) = (kinds.clone().filter(|node| old(node)).count(), kinds.count());
        if woken > all / 2 {
            self.coverage.hit("old-majority-woke");
        }
        if !up {
            return self.after(MILLI, Ev::Start { node: n, part: Part::Machine, machine });
        }
        for part in [Part::Launcher, Part::Guard, Part::Agent] {
            self.after(MILLI, Ev::Start { node: n, part, machine });
        }
    }

    pub(crate) fn begin_hellos(&mut self, n: usize, run: u32) {
        if self.plan.class == Class::Recovery {
            let delay = self.rng.range(MILLI, 30 * MILLI);
            self.after(delay, Ev::Hello { node: n, run });
        }
    }

    /// The hello of a peer connection: whoever is of a lower generation than anyone it reaches
    /// stops.
    pub(crate) fn on_hello(&mut self, n: usize, run: u32) {
        let generation = |n: usize| {
            let node = &self.nodes[n];
            let agent = node.agent.as_ref().filter(|_| !node.frozen && !node.agent_frozen);
            agent.map_or(0, |agent| agent.kernel.state().generation)
        };
        if self.nodes[n].run != run || self.nodes[n].agent.is_none() {
            return;
        }
        let mine = generation(n);
        let others = (0..self.nodes.len()).filter(|o| *o != n && self.network.flows(n, *o));
        let highest = others.map(generation).max().unwrap_or(0);
        let goes_on = self.plan.plants.has(Plant::SupersededGoesOn);
        if mine != 0 && highest > mine && !goes_on {
            return self.superseded(n);
        }
        // Whoever knows no generation yet is of any, and waits for a coordinator that knows it:
        // one that had joined the old cluster and heard nothing of it is joined again by hand.
        if mine == 0 && highest > FIRST_GENERATION && self.nodes[n].replica.is_some_and(is_old) {
            return self.superseded(n);
        }
        let pause = self.rng.range(250 * MILLI, 500 * MILLI);
        self.after(pause, Ev::Hello { node: n, run });
    }

    /// Its lease goes first, then it stops, and comes back as a new incarnation.
    fn superseded(&mut self, n: usize) {
        self.coverage.hit("superseded");
        self.note(|| format!("{} hears of a higher generation and stops", node_name(n)));
        let node = &mut self.nodes[n];
        node.page = node.page.map(|page| Page { end: Moment::ZERO, token: page.token + 1 });
        self.kill_agent(n);
        let node = &mut self.nodes[n];
        node.disk = Disk::Closed(new_disk());
        node.replica = None;
        node.rejoining = None;
        let delay = self.rng.range(100 * MILLI, 500 * MILLI);
        self.restart_agent_after(n, delay);
    }
}

/// The generation in which a cluster is founded.
const FIRST_GENERATION: u64 = 1;

/// Whether an incarnation is of the first generation.
fn is_old(replica: ReplicaId) -> bool {
    replica.0 < brain::cluster::refound::REPLICA_MARGIN
}
