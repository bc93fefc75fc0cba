//! A disk is slow, stalls, fails, refuses, loses.

use std::time::Duration;

use drivers::sys::now;
use model::Moment;
use rustix::process::Signal;

use super::disks::decide;
use super::lost::apart;
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::disk::Fault;
use crate::judge::{outage, verdict};
use crate::shell::{Done, pass, until};

/// How much longer everything takes on a slow disk.
const SLOW: Duration = Duration::from_millis(30);
/// In how many syncs an agent is killed, one after the other.
const STEPS: u64 = 6;
/// How long a disk stalls: several times as long as any lease.
const STALLED: Duration = Duration::from_secs(3);

/// Whether a node's agent ended.
fn agent_ends(cluster: &mut Cluster, node: usize) -> Done {
    until("the agent's end", PATIENCE, || {
        cluster.part(node, "agent").ok()?.has_ended().then_some(())
    })
    .map_err(|error| format!("{}: {error}", NODES[node]))
}

/// Nothing is missed of the service that runs elsewhere.
fn unmoved(cluster: &mut Cluster, from: Moment, active: usize) -> Done<String> {
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if up != 1 || scene.active != active {
        return Err(format!("{scene:?}; the address was brought up {up} times"));
    }
    Ok(format!("nothing moved, longest pause {} ms; {}", longest.as_ms(), verdict(cluster)?))
}

pub(super) fn a_stalled_disk_costs_the_coordinator_its_office_and_no_order(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let from = now();
    cluster.disk(coordinator)?.strike(Fault::Slow(SLOW));
    decide(cluster, coordinator, active)?;
    let slow = cluster.disk(coordinator)?.felt();
    cluster.disk(coordinator)?.strike(Fault::Stalled { after: 0 });
    // The others decide without it.
    decide(cluster, coordinator, active)?;
    pass(STALLED);
    let office = cluster.until_scene("a coordinator", |_| true)?.coordinator;
    let stalled = cluster.disk(coordinator)?.felt();
    cluster.disk(coordinator)?.heal();
    if slow == 0 || stalled == 0 {
        return Err(format!("{slow} slow and {stalled} stalled: not felt"));
    }
    if office == coordinator {
        return Err("a coordinator whose disk does nothing any more stayed in office".into());
    }
    let proved = unmoved(cluster, from, active)?;
    Ok(format!("{slow} slow, {stalled} stalled, and another took office; {proved}"))
}

pub(super) fn an_agent_that_dies_in_any_of_its_syncs_goes_on_from_there(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let (from, mut taken_back) = (now(), 0);
    for step in 0..STEPS {
        cluster.disk(third)?.strike(Fault::Stalled { after: step });
        until("a sync to die in", PATIENCE, || {
            decide(cluster, third, active).ok()?;
            (cluster.disk(third).ok()?.felt() > 0).then_some(())
        })?;
        cluster.part(third, "agent")?.signal(Signal::KILL)?;
        cluster.disk(third)?.abandon();
        agent_ends(cluster, third)?;
        // Every other time the power went with it.
        if step % 2 == 1 {
            taken_back += cluster.disk(third)?.lose_unsynced()?;
        }
        cluster.restart_part(third, "agent")?;
        cluster.until_whole()?;
    }
    let proved = unmoved(cluster, from, active)?;
    Ok(format!("killed in {STEPS} syncs, {taken_back} writes taken back; {proved}"))
}

pub(super) fn a_failed_sync_stops_the_agent_which_never_syncs_that_file_again(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let from = now();
    cluster.disk(coordinator)?.strike(Fault::SyncFails);
    decide(cluster, coordinator, active)?;
    agent_ends(cluster, coordinator)?;
    let (failed, again) = (cluster.disk(coordinator)?.felt(), cluster.disk(coordinator)?.retried());
    if failed != 1 || again != 0 {
        return Err(format!("{failed} syncs failed, {again} of the same file followed"));
    }
    cluster.restart_part(coordinator, "agent")?;
    let proved = unmoved(cluster, from, active)?;
    Ok(format!("one sync failed and the agent ended at once; {proved}"))
}

pub(super) fn a_disk_that_refuses_stops_its_own_node_alone(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let from = now();
    for fault in [Fault::Full, Fault::ReadOnly] {
        cluster.disk(third)?.strike(fault);
        decide(cluster, third, active)?;
        agent_ends(cluster, third)?;
        let felt = cluster.disk(third)?.felt();
        if felt == 0 {
            return Err(format!("{fault:?} was not felt"));
        }
        // As long as it lasts, a start says so and ends.
        cluster.restart_part(third, "agent")?;
        agent_ends(cluster, third)?;
        cluster.disk(third)?.heal();
        cluster.restart_part(third, "agent")?;
        cluster.until_whole()?;
    }
    cluster.disk(third)?.strike(Fault::ReadFails);
    cluster.restart_part(third, "agent")?;
    agent_ends(cluster, third)?;
    let felt = cluster.disk(third)?.felt();
    cluster.disk(third)?.heal();
    cluster.restart_part(third, "agent")?;
    if felt == 0 {
        return Err("nothing was read".into());
    }
    let proved = unmoved(cluster, from, active)?;
    Ok(format!("full, read-only and unreadable: each time its agent alone ended; {proved}"))
}

pub(super) fn writes_that_a_disk_lost_are_found(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let from = now();
    cluster.disk(third)?.strike(Fault::WriteLost);
    decide(cluster, third, active)?;
    let lost = cluster.disk(third)?.felt();
    cluster.disk(third)?.heal();
    // What follows is written, behind what is missing.
    decide(cluster, third, active)?;
    cluster.power_off(third)?;
    cluster.reboot(third)?;
    if lost == 0 {
        return Err("nothing was lost".into());
    }
    let proved = unmoved(cluster, from, active)?;
    let aside = aside(cluster, third)?;
    Ok(format!("{lost} writes lost; found: {aside}; {proved}"))
}

/// What a start made of a log that is not as it was written.
fn aside(cluster: &Cluster, node: usize) -> Done<String> {
    let entries = std::fs::read_dir(cluster.of(node, "data")).map_err(|e| e.to_string())?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let aside: Vec<String> = names.filter(|name| name.starts_with("log.aside-")).collect();
    if aside.is_empty() {
        return Err("the log with a hole was not set aside".into());
    }
    Ok(aside.join(", "))
}

pub(super) fn power_lost_everywhere_with_all_that_was_not_synced_loses_no_order(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    // Something is always under way when the power goes.
    decide(cluster, coordinator, active)?;
    for node in 0..NODES.len() {
        cluster.power_off(node)?;
    }
    let off = now();
    let mut lost = 0;
    for node in 0..NODES.len() {
        lost += cluster.disk(node)?.lose_unsynced()?;
    }
    for node in 0..NODES.len() {
        cluster.reboot(node)?;
    }
    cluster.until_whole()?;
    let back = cluster.until_served()?.since(off).as_ms();
    Ok(format!("{lost} writes taken back; served again after {back} ms; {}", verdict(cluster)?))
}
