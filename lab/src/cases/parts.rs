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
