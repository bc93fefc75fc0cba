//! A disk takes nothing more.

use std::fs::File;
use std::io::Write as _;

use drivers::sys::now;

use super::lost::apart;
use crate::cluster::Cluster;
use crate::judge::{outage, verdict};
use crate::shell::Done;

/// Sees that the coordinator has a small disk, and that the service is elsewhere.
fn set_up(cluster: &mut Cluster) -> Done<(usize, usize, String)> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let data = cluster.small_disk(third)?;
    cluster.transfer(coordinator, third)?;
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    if scene.coordinator != third {
        return Err("the office did not stay where it was put".into());
    }
    Ok((third, scene.active, data))
}

/// The disk is back: the node returns, whatever its agent made of it.
fn mended(cluster: &mut Cluster, node: usize, active: usize, from: model::Moment) -> Done<String> {
    cluster.until_served()?;
    let longest = outage(cluster, from);
    let moved = cluster.until_scene("a scene", |_| true)?.active != active;
    cluster.power_off(node)?;
    cluster.reboot(node)?;
    cluster.until_whole()?;
    let place = if moved { "the service moved" } else { "the service stayed" };
    Ok(format!("{place}, longest pause {} ms; {}", longest.as_ms(), verdict(cluster)?))
}

/// Decisions that must go to the log, asked from the others.
pub(super) fn decide(cluster: &Cluster, broken: usize, active: usize) -> Done {
    let third = 3 - broken - active;
    // While the office changes hands it is refused or unknown; the next attempt is another.
    let name = crate::cluster::NODES[third];
    crate::shell::until("a decision of the others", crate::cluster::PATIENCE, || {
        cluster.ask(third, &["maintenance", "--node", name, "--for", "1m"]).ok()?;
        cluster.ask(third, &["maintenance", "--node", name, "--end"]).ok()
    })
    .map(drop)
}

pub(super) fn a_full_disk_of_the_coordinator_costs_no_order(cluster: &mut Cluster) -> Done<String> {
    let (broken, active, data) = set_up(cluster)?;
    let from = now();
    let path = format!("{data}/filler");
    let mut filler = File::create(&path).map_err(|e| e.to_string())?;
    let block = vec![1u8; 1 << 16];
    while filler.write_all(&block).is_ok() {}
    // To the last byte.
    while filler.write_all(&[1]).is_ok() {}
    decide(cluster, broken, active)?;
    let proved = cluster.until_scene("a scene", |_| true)?;
    // As long as it is open, its room is not given back.
    drop(filler);
    std::fs::remove_file(&path).map_err(|e| e.to_string())?;
    let office = if proved.coordinator == broken { "stayed" } else { "passed on" };
    Ok(format!("the office {office}; {}", mended(cluster, broken, active, from)?))
}
