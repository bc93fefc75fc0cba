//! `idle`: what agent, launcher and guard of a node at rest cost, with few and many resources.
//!
//! Each node runs a binary of its own, so that the proportional set size of its three processes is
//! what a machine with one node holds in memory: pages that the three share count once, and no
//! other node shares any.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::{Cluster, NODES, Setup};
use crate::shell::{Done, run as run_program};

/// How many idle resources beside the service and its address.
const RESOURCES: [usize; 2] = [8, 98];
/// Until everything that a start leaves to do is done.
const SETTLE: Duration = Duration::from_secs(5);

/// What one node took.
#[derive(Debug, Serialize)]
struct Figures {
    resources: usize,
    node: String,
    coordinator: bool,
    /// Of one core, over the whole time.
    processor_percent: f64,
    /// Memory of the three together, each page once.
    resident_mb: f64,
    /// The sum of what each of the three calls resident: shared pages three times.
    resident_summed_mb: f64,
}

/// Measures for so many seconds, with few and with many resources.
pub(crate) fn run(setup: &Setup, seconds: u64, json: Option<&str>) -> Done<bool> {
    let mut table = Vec::new();
    let per_second = run_program(std::process::Command::new("getconf").arg("CLK_TCK"))?;
    let per_second: f64 = per_second.trim().parse().map_err(|_| "getconf CLK_TCK: no number")?;
    println!(
        "profile {}, {seconds} s; MB: each page once, and summed over the three",
        setup.profile
    );
    println!("{:<11}{:<6}{:<13}{:>9}{:>9}{:>9}", "resources", "node", "", "% core", "MB", "summed");
    for idle in RESOURCES {
        let setup = Setup { idle, own_binaries: true, ..setup.clone() };
        let cluster = Cluster::start(&setup)?;
        std::thread::sleep(SETTLE);
        let scene = cluster.until_whole()?;
        let before = ticks(&cluster)?;
        std::thread::sleep(Duration::from_secs(seconds));
        let after = ticks(&cluster)?;
        for (node, name) in NODES.iter().enumerate() {
            let used = (after[node] - before[node]) as f64 / per_second;
            let (once, summed) = memory_kb(&cluster, node)?;
            let figures = Figures {
                resources: idle + 2,
                node: (*name).to_owned(),
                coordinator: scene.coordinator == node,
                processor_percent: used * 100.0 / seconds as f64,
                resident_mb: once as f64 / 1024.0,
                resident_summed_mb: summed as f64 / 1024.0,
            };
            println!(
                "{:<11}{:<6}{:<13}{:>9.2}{:>9.1}{:>9.1}",
                figures.resources,
                figures.node,
                if figures.coordinator { "coordinator" } else { "" },
                figures.processor_percent,
                figures.resident_mb,
                figures.resident_summed_mb
            );
            table.push(figures);
        }
    }
    crate::bench::write_json(json, &table)?;
    Ok(true)
}

/// The three processes of a node, without what they started.
fn pids(cluster: &Cluster, node: usize) -> Done<Vec<u32>> {
    let parts = &cluster.nodes[node].parts;
    if parts.len() != 3 {
        return Err(format!("{} of 3 processes run on {}", parts.len(), NODES[node]));
    }
    Ok(parts.iter().map(|(_, program)| program.id()).collect())
}

/// Processor time of each node's three processes so far, in clock ticks.
fn ticks(cluster: &Cluster) -> Done<Vec<u64>> {
    let of = |pid: u32| {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        // The name may hold blanks: fields are counted behind its bracket, from the third.
        let fields: Vec<&str> =
            text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
        field(14).zip(field(15)).map(|(user, system)| user + system).ok_or(path)
    };
    let node = |node| pids(cluster, node)?.into_iter().map(of).sum::<Done<u64>>();
    (0..NODES.len()).map(node).collect()
}

/// Memory of a node's three processes, in KiB: each page once, and as each counts it.
fn memory_kb(cluster: &Cluster, node: usize) -> Done<(u64, u64)> {
    let (mut once, mut summed) = (0, 0);
    for pid in pids(cluster, node)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        once += of("Pss:").ok_or_else(|| format!("{path}: no Pss"))?;
        summed += of("Rss:").ok_or_else(|| format!("{path}: no Rss"))?;
    }
    Ok((once, summed))
}
