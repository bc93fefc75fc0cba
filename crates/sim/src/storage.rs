//! Storage faults, and the atlas: which damage may be done, so that a quorum keeps every
//! acknowledged entry, and what has to follow from it.
//!
//! What damage means is told by the log's own start-up code, the same as in production. The atlas
//! allows damage on one node at a time, while all others are whole voters; a node whose damage
//! is found sets its log aside and comes back as a new incarnation. Damage that nobody can
//! find by looking at one disk (a lost end that looks like a crash) is allowed only where every
//! other voter has all that is lost, and only to entries: never to a vote.

use brain::invariants::Violation;
use journal::{Disk as _, DiskError, DiskOperation, MemoryDisk, Note, Recovered};

use crate::cluster::node_name;
use crate::event::{Ev, Undo};
use crate::fault::Fault;
use crate::plan::{Kind, MILLI};
use crate::rng::Rng;
use crate::world::{Disk, World};

/// The unit in which disks write.
const SECTOR_BYTES: usize = 512;

/// What was done to a node's log, and what it held before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damaged {
    /// Entries up to here were known as committed.
    commit: u64,
    /// The log ended here.
    last: u64,
    /// How often the machine had started: what an unsynced tail looks like after a loss of power
    /// says nothing of damage.
    machine: u32,
    /// The end of the log may be missing without a trace.
    silent: bool,
}

/// An empty disk, as forgetful of failed syncs as real ones.
pub(crate) fn new_disk() -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    disk.set_forgetful();
    disk
}

impl World {
    fn disk_mut(&mut self, n: usize) -> Option<&mut MemoryDisk> {
        match &mut self.nodes[n].disk {
            Disk::Closed(disk) => Some(disk),
            Disk::Open(segments) => Some(segments.disk_mut()),
            Disk::Moving => None,
        }
    }

    /// Whether every node runs, is known to all as the same incarnation and voter, and has on
    /// its disk what it was told: then any one disk may be lost.
    pub(crate) fn all_are_whole(&self) -> bool {
        let Some(state) = self.newest_state() else { return false };
        let replicas: Vec<Option<u64>> = self
            .nodes
            .iter()
            .filter(|node| node.kind != Kind::Member)
            .map(|node| node.replica.filter(|r| state.replica_of(&node.name) == Some(*r)))
            .map(|replica| replica.map(|r| r.0))
            .collect();
        self.nodes.iter().all(|node| {
            let whole = |log: &journal::Replica| {
                node.damaged.is_none_or(|d| d.silent && log.durable_index() >= d.last)
            };
            node.agent.as_ref().is_some_and(|agent| {
                let log = agent.kernel.replica();
                let membership = log.membership();
                let votes = |r: &Option<u64>| r.is_some_and(|r| membership.voters.contains(&r));
                // And would still know after a loss of power.
                let durable = log.writes_in_flight() == 0 && whole(log);
                durable && !membership.is_joint() && replicas.iter().all(votes)
            })
        })
    }

    /// Whether every other voter has on its disk all that this node has.
    fn others_have_all(&self, n: usize) -> bool {
        let Some(agent) = &self.nodes[n].agent else { return false };
        let log = agent.kernel.replica();
        let (last, chain) = (log.last_index(), log.chain_at(log.last_index()));
        let voters = self.nodes.iter().enumerate();
        voters.filter(|(other, node)| *other != n && node.kind != Kind::Member).all(|(_, node)| {
            node.agent.as_ref().is_some_and(|agent| {
                let log = agent.kernel.replica();
                log.durable_index() >= last && log.chain_at(last) == chain
            })
        })
    }

    /// Disk full, failing syncs, no descriptors: the log refuses before it acknowledges.
    pub(crate) fn hinder_storage(&mut self, fault: Fault, n: usize, length: u64) -> bool {
        let room = self.rng.below(2_000);
        let until = self.now + length;
        let Some(disk) = self.disk_mut(n) else { return false };
        match fault {
            Fault::SyncError => {
                disk.fail_next_sync();
                return true;
            }
            Fault::DiskFull => {
                let used = disk.used_bytes();
                disk.set_capacity(Some(used + room));
            }
            _ => {
                disk.set_no_descriptors(true);
                let node = &mut self.nodes[n];
                node.no_descriptors_until = node.no_descriptors_until.max(until);
            }
        }
        self.nodes[n].hindered_until = self.nodes[n].hindered_until.max(until);
        self.after(length, Ev::Undo(Undo::Storage { node: n }));
        true
    }

    pub(crate) fn unhinder_storage(&mut self, n: usize) {
        let passed = self.nodes[n].no_descriptors_until <= self.now;
        if let Some(disk) = self.disk_mut(n) {
            disk.set_capacity(None);
            if passed {
                disk.set_no_descriptors(false);
            }
        }
    }
}

impl World {
    /// Rot, lost and misdirected writes: what was durable is not what was written any more.
    pub(crate) fn damage_storage(&mut self, fault: Fault, n: usize) -> bool {
        if !self.all_are_whole() || !self.others_have_all(n) {
            return false;
        }
        let Some(agent) = &self.nodes[n].agent else { return false };
        let log = agent.kernel.replica();
        let (commit, last) = (log.commit_index(), log.last_index());
        if fault == Fault::LostWrite {
            // It shows when the power fails: until then the disk's own memory covers it.
            self.crash_machine(n, false);
        } else if self.rng.permille(700) {
            self.kill_agent(n);
            let delay = self.rng.skewed(10 * MILLI, 1_000 * MILLI);
            self.restart_agent_after(n, delay);
        }
        let mut rng = Rng::new(self.rng.draw());
        let Some(disk) = self.disk_mut(n) else { return false };
        let mut damaged = disk.clone();
        if !hurt(fault, &mut damaged, &mut rng) {
            return false;
        }
        let silent = fault == Fault::LostWrite && loses_end(disk, &damaged);
        if silent && !keeps_ballot(disk, &damaged) {
            return false;
        }
        *disk = damaged;
        let machine = self.nodes[n].machine;
        self.nodes[n].damaged = Some(Damaged { commit, last, machine, silent });
        self.note(|| format!("{} is damaged, in silence: {silent}", node_name(n)));
        true
    }

    /// The log opened although it had been damaged: nothing that was committed may be missing,
    /// unless nobody could have seen that.
    pub(crate) fn judge_start(&mut self, n: usize, recovered: &Recovered) {
        if recovered.notes().iter().any(|note| matches!(note, Note::TornTail { .. })) {
            self.coverage.hit("torn-tail");
        }
        if recovered.notes().iter().any(|note| matches!(note, Note::BadSnapshot { .. })) {
            self.coverage.hit("bad-snapshot-got-around");
        }
        let Some(damaged) = self.nodes[n].damaged else { return };
        if damaged.silent {
            return self.coverage.hit("end-lost-in-silence");
        }
        self.nodes[n].damaged = None;
        self.coverage.hit("damage-harmless");
        let end = recovered.end().index;
        if end < damaged.commit && damaged.machine == self.nodes[n].machine {
            let what = format!(
                "{} opened a damaged log as one that ends at {end}, although {} was committed",
                node_name(n),
                damaged.commit
            );
            self.fail(Violation { rule: "S4", what });
        }
    }

    /// The log can't go on. That is right where its end is missing, and nowhere else.
    pub(crate) fn on_halt(&mut self, n: usize, why: &str) {
        if self.nodes[n].damaged.is_some_and(|damaged| damaged.silent) {
            self.coverage.hit("safe-halt");
            self.note(|| format!("{} halts: {why}", node_name(n)));
            return self.set_aside(n);
        }
        let what = format!("{} halts: {why}", node_name(n));
        self.fail(Violation { rule: "S4", what });
    }

    /// A node gives up its log and asks for a new incarnation.
    pub(crate) fn set_aside(&mut self, n: usize) {
        self.kill_agent(n);
        let node = &mut self.nodes[n];
        node.disk = Disk::Closed(new_disk());
        node.replica = None;
        node.damaged = None;
        node.boot = 0;
        node.promise = model::Span::ZERO;
        node.bound_until = 0;
        self.on_rejoin(n);
    }

    /// An error of the disk ends the agent; a restart reads what is there.
    pub(crate) fn stop_for_disk(&mut self, n: usize, cause: &DiskError) {
        self.note(|| format!("{} stops: {cause}", node_name(n)));
        self.coverage.hit(match (cause.operation, cause.kind) {
            (_, std::io::ErrorKind::StorageFull) => "stopped-by-full-disk",
            (DiskOperation::SyncData, _) => "stopped-by-failed-sync",
            (DiskOperation::Create, _) if cause.os_code.is_some() => "stopped-without-descriptors",
            _ => "stopped-by-disk-error",
        });
        self.kill_agent(n);
        let delay = self.rng.skewed(50 * MILLI, 3_000 * MILLI);
        self.restart_agent_after(n, delay);
    }
}

/// Damages one file. False where that changed nothing.
fn hurt(fault: Fault, disk: &mut MemoryDisk, rng: &mut Rng) -> bool {
    let Ok(names) = disk.list() else { return false };
    let last = names.iter().rfind(|name| name.ends_with(".log")).cloned();
    let Some(name) = rng.pick(&names).cloned() else { return false };
    let Ok(source) = disk.read(&name) else { return false };
    let sectors = (source.len() / SECTOR_BYTES) as u64;
    if sectors == 0 {
        return false;
    }
    let from = rng.below(sectors) as usize * SECTOR_BYTES;
    match fault {
        Fault::BitRot => {
            let (byte, bit) = (rng.below(source.len() as u64), rng.below(8) as u8);
            disk.flip_bit(&name, byte, bit)
        }
        Fault::MisdirectedWrite => {
            let written = source[from..from + SECTOR_BYTES].to_vec();
            let Some(other) = rng.pick(&names).cloned() else { return false };
            let Ok(target) = disk.read(&other) else { return false };
            let to = rng.below((target.len() / SECTOR_BYTES) as u64) as usize * SECTOR_BYTES;
            let same = target.get(to..to + SECTOR_BYTES).is_none_or(|old| old == written);
            !same
                && disk
                    .damage(&other, |bytes| bytes[to..to + SECTOR_BYTES].copy_from_slice(&written))
        }
        // A sector that kept what was there before: nothing.
        _ if rng.permille(500) => {
            disk.damage(&name, |bytes| bytes[from..from + SECTOR_BYTES].fill(0))
        }
        // The last write, with the file's length.
        _ => last.is_some_and(|name| {
            let lost = rng.below(1_500) as usize + 1;
            disk.damage(&name, |bytes| bytes.truncate(bytes.len().saturating_sub(lost)))
        }),
    }
}

/// Whether a damaged disk opens as a shorter log.
fn loses_end(whole: &MemoryDisk, damaged: &MemoryDisk) -> bool {
    opened(whole).zip(opened(damaged)).is_some_and(|(whole, damaged)| {
        damaged.end() < whole.end() || damaged.hard_state() != whole.hard_state()
    })
}

/// Whether term and vote are on a damaged disk still.
fn keeps_ballot(whole: &MemoryDisk, damaged: &MemoryDisk) -> bool {
    opened(whole).zip(opened(damaged)).is_some_and(|(whole, damaged)| {
        let (whole, damaged) = (whole.hard_state(), damaged.hard_state());
        (whole.term, whole.vote) == (damaged.term, damaged.vote)
    })
}

/// What a start would read, were nothing in its way but damage.
fn opened(disk: &MemoryDisk) -> Option<Recovered> {
    let mut disk = disk.clone();
    disk.heal();
    disk.set_capacity(None);
    disk.set_no_descriptors(false);
    crate::agent::open(disk).ok().map(|(_, recovered)| recovered)
}
