//! A node runs short of something: descriptors, memory, processor.

use std::process::Command;
use std::time::Duration;

use drivers::sys::now;

use super::lost::apart;
use crate::cluster::{Cluster, NODES};
use crate::judge::{outage, verdict};
use crate::shell::{Done, pass, run, until};

/// How long it lasts.
const LASTS: Duration = Duration::from_secs(4);
/// What a slow node has of one core, in percent: about what it uses at rest.
const SHARE: u64 = 3;
/// Longest wait for what lacked nothing any more.
const SOON: Duration = Duration::from_secs(20);

/// Nothing moved, whoever was asked.
fn unmoved(cluster: &mut Cluster, from: model::Moment, active: usize) -> Done<String> {
    cluster.until_whole()?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    let scene = cluster.until_whole()?;
    if up != 1 || scene.active != active {
        return Err(format!("{scene:?}; the address was brought up {up} times"));
    }
    let proved = verdict(cluster)?;
    Ok(format!("nothing moved, longest pause {} ms; {proved}", longest.as_ms()))
}

/// The number that the next descriptor of a process would get.
fn next_descriptor(pid: u32) -> Done<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| e.to_string())?;
    let numbers = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let open: std::collections::BTreeSet<u64> = numbers.collect();
    (0..).find(|number| !open.contains(number)).ok_or_else(|| "no number".to_owned())
}

fn soft_limit(pid: u32) -> Done<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|e| e.to_string())?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let number = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    number.ok_or_else(|| format!("no limit of open files in {text}"))
}

pub(super) fn an_agent_without_a_descriptor_left_keeps_its_lease(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let (from, pid) = (now(), cluster.part(active, "agent")?.id());
    // The soft one alone: whoever lowers the hard one may not be allowed to raise it again.
    let set = |limit: u64| {
        let limit = format!("--nofile={limit}:");
        run(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]))
    };
    let before = soft_limit(pid)?;
    // Felt: whoever comes gets no answer. It may free a few at first.
    let felt = until("an API without descriptors", SOON, || {
        set(next_descriptor(pid).ok()?).ok()?;
        cluster.ask(active, &["status"]).is_err().then_some(())
    });
    pass(LASTS);
    set(before)?;
    felt?;
    unmoved(cluster, from, active)
}

/// How often a node had to wait for its share of the processor.
fn throttled(cgroup: &str) -> Done<u64> {
    let text = std::fs::read_to_string(format!("{cgroup}/cpu.stat")).map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
    line.and_then(|number| number.parse().ok()).ok_or_else(|| format!("no number in {text}"))
}

pub(super) fn a_slow_processor_moves_nothing(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let from = now();
    let cgroups =
        [cluster.limit_processor(coordinator, SHARE)?, cluster.limit_processor(active, SHARE)?];
    pass(LASTS);
    let proved = unmoved(cluster, from, active)?;
    let throttled: u64 = cgroups.iter().map(|cgroup| throttled(cgroup)).sum::<Done<_>>()?;
    if throttled == 0 {
        return Err("nobody had to wait for the processor".into());
    }
    Ok(format!("{throttled} waits for {SHARE} % of a core; {proved}"))
}

pub(super) fn a_service_that_eats_all_memory_dies_and_not_its_agent(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let (from, agent) = (now(), cluster.part(active, "agent")?.id());
    let memory = cluster.limit_memory(active)?;
    let hog = "dd if=/dev/zero of=/dev/null bs=2000M count=100000";
    let words = ["sh", "-c", &format!("echo $$ > {memory}/cgroup.procs && exec {hog}")];
    let host = &cluster.nodes[active].host;
    let mut eater = host.start(&cluster.network, "eater", &words)?;
    until("an end by lack of memory", SOON, || eater.has_ended().then_some(()))?;
    let killed = std::fs::read_to_string(format!("{memory}/memory.oom_control"));
    let killed = killed.map_err(|e| e.to_string())?;
    if !killed.lines().any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n != "0")) {
        return Err(format!("nobody was killed for memory: {killed}"));
    }
    if cluster.part(active, "agent")?.id() != agent || cluster.part(active, "agent")?.has_ended() {
        return Err(format!("the agent of {} is gone", NODES[active]));
    }
    unmoved(cluster, from, active)
}
