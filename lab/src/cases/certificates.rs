//! A certificate runs out under way.

use std::process::Command;
use std::time::{Duration, Instant};

use drivers::sys::now;

use super::lost::apart;
use crate::clock::Skew;
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, pass, run, until};

/// How long a certificate lives from its issuer's now on.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How long the short one lives: a start, a look around and a switchover.
const SHORT: Duration = Duration::from_secs(9);
/// What is watched after it ran out: several leases.
const WATCHED: Duration = Duration::from_secs(2);

/// A node joins anew by issuers whose wall clocks are back by almost the life of a certificate.
/// Returns when it runs out.
fn join_for_a_moment(cluster: &mut Cluster, node: usize) -> Done<Instant> {
    let others: Vec<usize> = (0..NODES.len()).filter(|other| *other != node).collect();
    cluster.power_off(node)?;
    let token = cluster.token(node)?;
    let data = cluster.of(node, "data");
    std::fs::remove_dir_all(&data).map_err(|e| format!("{data}: {e}"))?;
    cluster.plug(node)?;
    let back = i64::try_from((LIFE - SHORT).as_nanos()).map_err(|e| e.to_string())?;
    let skew = Skew { wall_ns: -back, ..Skew::default() };
    let clocks = others.iter().map(|other| Ok((*other, cluster.clock(*other)?)));
    let clocks: Vec<_> = clocks.collect::<Done<_>>()?;
    for (other, clock) in &clocks {
        cluster.skew(*other, clock, skew)?;
    }
    let ends = Instant::now() + SHORT;
    cluster.join_with(node, &token)?;
    for (other, clock) in &clocks {
        cluster.skew(*other, clock, Skew::default())?;
    }
    Ok(ends)
}

/// Puts the authority's key away on all nodes, or back: without it nobody can issue anything.
fn keys(cluster: &Cluster, away: bool) -> Done {
    for node in 0..NODES.len() {
        let key = format!("{}/identity/authority.key", cluster.of(node, "data"));
        let kept = cluster.path(&format!("authority-{node}.key"));
        let (from, to) = if away { (&key, &kept) } else { (&kept, &key) };
        std::fs::rename(from, to).map_err(|e| format!("{from}: {e}"))?;
    }
    Ok(())
}

fn until_logged(cluster: &Cluster, node: usize, words: &str) -> Done {
    let log = cluster.of(node, "agent.log");
    until(words, PATIENCE, || std::fs::read_to_string(&log).ok()?.contains(words).then_some(()))
}

pub(super) fn a_certificate_that_runs_out_costs_no_service_and_is_renewed_afterwards(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let ends = join_for_a_moment(cluster, third)?;
    keys(cluster, true)?;
    cluster.reboot(third)?;
    cluster.until_whole()?;
    cluster.switchover(coordinator, third)?;
    cluster.until_served()?;
    let from = now();
    let scene = cluster.until_whole()?;
    let named = format!("certificate of {}", NODES[third]);
    until("an alarm of its certificate", PATIENCE, || {
        let said = cluster.alarms(scene.coordinator)?;
        said.iter().any(|alarm| alarm.contains(&named)).then_some(())
    })?;
    let early = ends.checked_duration_since(Instant::now()).ok_or("the alarm came too late")?;
    pass(early + WATCHED);
    let certificate = format!("{}/identity/node.pem", cluster.of(third, "data"));
    let good = ["x509", "-noout", "-checkend", "0", "-in", &certificate];
    if run(Command::new("openssl").args(good)).is_ok() {
        return Err("the certificate has not run out".into());
    }
    let up = cluster.times_up(from)?;
    cluster.until_served()?;
    keys(cluster, false)?;
    until_logged(cluster, third, "the certificate was renewed")?;
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let longest = outage(cluster, from);
    if up != 1 || cluster.times_up(from)? != 1 || scene.active != third {
        return Err(format!("{scene:?}; the address was brought up {up} times and then more"));
    }
    Ok(format!(
        "alarm {} s before its end; longest pause {} ms; {}",
        early.as_secs(),
        longest.as_ms(),
        verdict(cluster)?
    ))
}
