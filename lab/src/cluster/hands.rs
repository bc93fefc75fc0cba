//! What cases do to a cluster by hand: disks, memory, programs; and what they look at.

use std::path::PathBuf;
use std::process::Command;

use model::Moment;

use super::{ADDRESS, Cluster, NODES, PATIENCE};
use crate::cgroup::MEMORY;
use crate::shell::{Done, ip, run, until};

/// What a whole node gets: several times what it needs.
const MEMORY_BYTES: u64 = 512 << 20;

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

    /// A node that holds nothing joins with a token.
    pub(crate) fn join(&self, node: usize) -> Done {
        let name = NODES[node];
        let others = || (0..NODES.len()).filter(|other| *other != node);
        let on = |other: &usize| !self.nodes[*other].parts.is_empty();
        // Whoever is asked may have just started, or have just gained a voter: not at once.
        let ask = || others().filter(on).find_map(|o| self.ask(o, &["token", "--node", name]).ok());
        let token = until("a token", PATIENCE, ask)?;
        let data = self.of(node, "data");
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
        let path = format!("{MEMORY}/{}", self.network.namespace(NODES[node]));
        let failed = |e: std::io::Error| format!("{path}: {e}");
        std::fs::create_dir(&path).map_err(failed)?;
        self.limits.push(path.clone());
        let limit = format!("{path}/memory.limit_in_bytes");
        std::fs::write(limit, MEMORY_BYTES.to_string()).map_err(failed)?;
        for (_, program) in &self.nodes[node].parts {
            std::fs::write(format!("{path}/cgroup.procs"), program.id().to_string())
                .map_err(failed)?;
        }
        Ok(path)
    }
}
