//! Something is gone for good, or for as long as a reboot takes.

use drivers::sys::now;
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, NODES};
use crate::judge::{outage, verdict};
use crate::shell::Done;

/// Sees that coordinator and active instance are on two nodes, by moving the service.
pub(crate) fn apart(cluster: &Cluster) -> Done<(usize, usize)> {
    let scene = cluster.until_whole()?;
    if scene.active != scene.coordinator {
        return Ok((scene.coordinator, scene.active));
    }
    let mut others = (1..NODES.len()).map(|step| (scene.coordinator + step) % NODES.len());
    let other = others.find(|node| cluster.runs(*node)).ok_or("no other node runs anything")?;
    cluster.switchover(scene.coordinator, other)?;
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    Ok((scene.coordinator, scene.active))
}

/// The node that is both, after moving the service there where it is not.
pub(crate) fn together(cluster: &Cluster) -> Done<usize> {
    let scene = cluster.until_whole()?;
    if scene.active != scene.coordinator {
        cluster.switchover(scene.coordinator, scene.coordinator)?;
    }
    cluster.until_served()?;
    let scene = cluster.until_whole()?;
    if scene.active != scene.coordinator {
        return Err("the coordinator moved meanwhile".into());
    }
    Ok(scene.active)
}

pub(super) fn a_killed_process_is_replaced_by_its_standby(cluster: &mut Cluster) -> Done<String> {
    let scene = cluster.until_whole()?;
    let pid = cluster.instance(scene.active)?;
    let pid = Pid::from_raw(pid.cast_signed()).ok_or("no process")?;
    let fault = now();
    kill_process(pid, Signal::KILL).map_err(|e| e.to_string())?;
    cluster.until_scene("a standby in its place", |s| s.active != scene.active)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_node_without_power_gives_its_address_to_another(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    // On no host of the lab any name can be looked up, and nobody needs one.
    if let Ok(told) = cluster.look_up("example.org") {
        return Err(format!("a name was looked up: {told}"));
    }
    let fault = now();
    cluster.power_off(active)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    cluster.until_scene("another node", |s| s.active != active)?;
    cluster.reboot(active)?;
    cluster.until_whole()?;
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_coordinator_s_death_disturbs_no_service_elsewhere(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let fault = now();
    cluster.power_off(coordinator)?;
    let scene = cluster.until_scene("another coordinator", |s| s.coordinator != coordinator)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    let up = cluster.holdings()?.iter().filter(|h| h.to > fault).count();
    if scene.active != active || up != 1 {
        return Err(format!("the service moved; the address was brought up {up} times"));
    }
    Ok(format!("the longest pause was {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn coordinator_and_active_node_at_once_are_survived(
    cluster: &mut Cluster,
) -> Done<String> {
    let both = together(cluster)?;
    let fault = now();
    cluster.power_off(both)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    cluster.until_scene("others", |s| s.coordinator != both && s.active != both)?;
    cluster.reboot(both)?;
    cluster.until_whole()?;
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn power_lost_everywhere_brings_everything_back(cluster: &mut Cluster) -> Done<String> {
    cluster.until_whole()?;
    for node in 0..NODES.len() {
        cluster.power_off(node)?;
    }
    let off = now();
    for node in 0..NODES.len() {
        cluster.reboot(node)?;
    }
    cluster.until_whole()?;
    let served = cluster.until_served()?;
    let back = served.since(off).as_ms();
    let proved = verdict(cluster)?;
    Ok(format!("served again {back} ms after the last was switched off; {proved}"))
}
