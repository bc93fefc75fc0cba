//! What cases do to a cluster by hand: disks, memory, programs; and what they look at.

use std::path::PathBuf;
use std::process::Command;

use model::Moment;

use super::{ADDRESS, Cluster, NODES, PATIENCE};
use crate::cgroup::{Cgroup, MEMORY, PROCESSOR};
use crate::clock::{Clock, Skew};
use crate::disk::Disk;
use crate::shell::{Done, ip, run, until};

/// What a whole node gets: several times what it needs.
const MEMORY_BYTES: u64 = 512 << 20;
/// How often a share of a processor is dealt out anew.
const PERIOD_US: u64 = 34_000;

impl Cluster {
    /// Gives a node a small disk of its own, with all that its old one holds; returns once the
    /// cluster is whole again.
    pub(crate) fn small_disk(&mut self, node: usize) -> Done<String> {
        let (data, old) = (self.of(node, "data"), self.of(node, "data.old"));
        self.power_off(node)?;
        std::fs::rename(&data, &old).map_err(|e| e.to_string())?;
        std::fs::create_dir(&data).map_err(|e| e.to_string())?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256m", "tmpfs", &data]))?;
        self.mounts.push(data.clone());
        run(Command::new("cp").args(["-a", &format!("{old}/."), &data]))?;
        self.reboot(node)?;
        self.until_whole()?;
        Ok(data)
    }

    /// What a name stands for, as programs of a node find out.
    pub(crate) fn look_up(&self, name: &str) -> Done<String> {
        run(self.network.on(NODES[0]).args(["getent", "hosts", name]))
    }

    /// Whether a node may run something.
    pub(crate) fn runs(&self, node: usize) -> bool {
        node < self.setup.runners()
    }

    /// The disk of a node, in a cluster on such disks.
    pub(crate) fn disk(&self, node: usize) -> Done<&Disk> {
        self.disks.get(node).ok_or_else(|| "its disk is none of the lab's".to_owned())
    }

    /// Takes hold of the clocks of all that runs on a node.
    pub(crate) fn clock(&self, node: usize) -> Done<Clock> {
        self.stopped(node, Clock::take)
    }

    /// Sets the clocks of a node, between two moments of its processes.
    pub(crate) fn skew(&self, node: usize, clock: &Clock, skew: Skew) -> Done {
        self.stopped(node, |_| clock.set(skew))
    }

    fn stopped<T>(&self, node: usize, what: impl FnOnce(&Cgroup) -> Done<T>) -> Done<T> {
        let power = &self.nodes[node].host.power;
        power.freeze()?;
        let done = what(power);
        power.wake()?;
        done
    }

    /// A node that holds nothing joins with a token.
    pub(crate) fn join(&self, node: usize) -> Done {
        let token = self.token(node)?;
        self.join_with(node, &token)
    }

    /// A token by which a node may join.
    pub(crate) fn token(&self, node: usize) -> Done<String> {
        let name = NODES[node];
        let others = || (0..NODES.len()).filter(|other| *other != node);
        let on = |other: &usize| !self.nodes[*other].parts.is_empty();
        // Whoever is asked may have just started, or have just gained a voter: not at once.
        let words = ["token", "--node", name, "--role", self.setup.role(node)];
        let ask = || others().filter(on).find_map(|o| self.ask(o, &words).ok());
        until("a token", PATIENCE, ask)
    }

    /// The same, with a token that it has.
    pub(crate) fn join_with(&self, node: usize, token: &str) -> Done {
        let (name, data) = (NODES[node], self.of(node, "data"));
        let words = ["join", "--node", name, "--token", token.trim(), "--data", &data];
        self.command(name, &words).map(drop)
    }

    /// The program that nodes run.
    pub(crate) fn program(&self) -> &PathBuf {
        &self.setup.binary
    }

    /// Whatever is started from now on is another program.
    pub(crate) fn upgrade_to(&mut self, program: &str) {
        self.setup.binary = PathBuf::from(program);
    }

    /// Whether a host has the moving address; nothing where it does not tell.
    pub(crate) fn holds(&self, node: usize) -> Option<bool> {
        let namespace = self.network.namespace(NODES[node]);
        ip(&format!("-n {namespace} address show")).map(|text| text.contains(ADDRESS)).ok()
    }

    /// How often a host had the address since a moment: once, where it stayed where it was.
    pub(crate) fn times_up(&self, from: Moment) -> Done<usize> {
        Ok(self.holdings()?.iter().filter(|holding| holding.to > from).count())
    }

    /// Puts launcher, guard and agent of a node under one limit of memory. Returns the cgroup.
    pub(crate) fn limit_memory(&mut self, node: usize) -> Done<String> {
        let limit = ("memory.limit_in_bytes", MEMORY_BYTES.to_string());
        self.limit(node, MEMORY, &[limit])
    }

    /// Leaves launcher, guard and agent of a node so much of one core, in percent. Returns the
    /// cgroup.
    pub(crate) fn limit_processor(&mut self, node: usize, percent: u64) -> Done<String> {
        let us = |percent: u64| (percent * PERIOD_US / 100).to_string();
        let limits = [
            ("cpu.cfs_period_us", us(100)),
            ("cpu.cfs_quota_us", us(percent)),
            // What is real-time there may be no member without a share of that time.
            ("cpu.rt_period_us", us(100)),
            ("cpu.rt_runtime_us", us(percent)),
        ];
        self.limit(node, PROCESSOR, &limits)
    }

    fn limit(&mut self, node: usize, root: &str, limits: &[(&str, String)]) -> Done<String> {
        let path = format!("{root}/{}", self.network.namespace(NODES[node]));
        std::fs::create_dir(&path).map_err(|e| format!("{path}: {e}"))?;
        self.limits.push(path.clone());
        let write = |file: &str, text: &str| {
            std::fs::write(format!("{path}/{file}"), text)
                .map_err(|e| format!("{path}/{file}: {e}"))
        };
        for (file, text) in limits {
            write(file, text)?;
        }
        for (_, program) in &self.nodes[node].parts {
            write("cgroup.procs", &program.id().to_string())?;
        }
        Ok(path)
    }
}
