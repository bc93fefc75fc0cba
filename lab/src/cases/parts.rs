//! One of the three processes of a node is gone.

use std::time::Duration;

use drivers::sys::now;
use model::Span;
use rustix::process::Signal;

use super::lost::apart;
use crate::cluster::Cluster;
use crate::judge::{outage, verdict};
use crate::shell::Done;

/// How long a service manager waits before it starts a process again (packaging/systemd).
const RESTART: Duration = Duration::from_millis(100);
/// A node without a launcher loses what has a hot standby elsewhere with its lease: long before
/// the five seconds after which it loses the rest.
const SOON: Span = Span::from_ms(2_500);

fn killed(cluster: &mut Cluster, part: &'static str) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let fault = now();
    cluster.part(active, part)?.signal(Signal::KILL)?;
    std::thread::sleep(RESTART);
    cluster.restart_part(active, part)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    let scene = cluster.until_whole()?;
    let up = cluster.holdings()?.iter().filter(|h| h.to > fault).count();
    if up < 2 {
        return Err("the address never went away".into());
    }
    let place = if scene.active == active { "back on its node" } else { "on another node" };
    Ok(format!("an outage of {} ms, then {place}; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_killed_launcher_takes_its_address_with_it(cluster: &mut Cluster) -> Done<String> {
    killed(cluster, "launcher")
}

/// What an agent decided by one launcher's list must not reach the next launcher, whose list is
/// another: it would run what the agent calls gone. The agent sleeps while its launcher is
/// replaced, and wakes at once, within its lease, about its end, and after it.
pub(super) fn a_launcher_that_is_replaced_under_a_frozen_agent_runs_nothing_twice(
    cluster: &mut Cluster,
) -> Done<String> {
    let mut pauses = Vec::new();
    for asleep in [20, 150, 450, 900].map(Duration::from_millis) {
        let scene = cluster.until_whole()?;
        let (active, fault) = (scene.active, now());
        let launched = cluster.part(active, "launcher")?.id();
        let agent = cluster.part(active, "agent")?;
        let status = format!("/proc/{}/stat", agent.id());
        agent.signal(Signal::STOP)?;
        cluster.part(active, "launcher")?.signal(Signal::KILL)?;
        cluster.restart_part(active, "launcher")?;
        std::thread::sleep(asleep);
        let status = std::fs::read_to_string(status).map_err(|e| e.to_string())?;
        if !status.contains(") T ") || cluster.part(active, "launcher")?.id() == launched {
            return Err(format!("no frozen agent, or no other launcher: {status}"));
        }
        cluster.part(active, "agent")?.signal(Signal::CONT)?;
        cluster.until_served()?;
        cluster.until_whole()?;
        if cluster.times_up(fault)? < 2 {
            return Err("the address never went away".into());
        }
        pauses.push(outage(cluster, fault).as_ms());
    }
    Ok(format!("outages of {pauses:?} ms; {}", verdict(cluster)?))
}

/// Nobody starts it again: the coordinator gives the node up.
pub(super) fn a_launcher_that_stays_away_loses_its_service_to_another_node(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let fault = now();
    cluster.part(active, "launcher")?.signal(Signal::KILL)?;
    cluster.until_scene("a service elsewhere", |scene| scene.active != active)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    if outage > SOON {
        return Err(format!("an outage of {} ms", outage.as_ms()));
    }
    cluster.restart_part(active, "launcher")?;
    let scene = cluster.until_whole()?;
    if scene.active == active {
        return Err("it went back by itself".into());
    }
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_killed_guard_takes_the_address_with_it(cluster: &mut Cluster) -> Done<String> {
    killed(cluster, "guard")
}

pub(super) fn a_killed_agent_that_returns_in_time_costs_nothing(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    // Neither coordinator nor active: its agent alone is there to be missed.
    let third = 3 - coordinator - active;
    let fault = now();
    cluster.part(third, "agent")?.signal(Signal::KILL)?;
    cluster.restart_part(third, "agent")?;
    cluster.until_whole()?;
    cluster.until_served()?;
    let longest = outage(cluster, fault);
    let up = cluster.holdings()?.iter().filter(|h| h.to > fault).count();
    if up != 1 {
        return Err(format!("the address was brought up {up} times"));
    }
    Ok(format!("nothing moved, longest pause {} ms; {}", longest.as_ms(), verdict(cluster)?))
}
