//! One of the three processes of a node is gone.

use drivers::sys::now;
use model::Span;
use rustix::process::Signal;

use super::lost::apart;
use crate::cluster::Cluster;
use crate::judge::{outage, verdict};
use crate::shell::Done;

/// What a client may notice of an agent that is killed and started again.
const UNDISTURBED: Span = Span::from_ms(150);

fn killed(cluster: &mut Cluster, part: &'static str) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let fault = now();
    cluster.part(active, part)?.signal(Signal::KILL)?;
    cluster.until_scene("the service elsewhere", |s| s.active != active)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    cluster.restart_part(active, part)?;
    cluster.until_whole()?;
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_killed_launcher_takes_its_address_with_it(cluster: &mut Cluster) -> Done<String> {
    killed(cluster, "launcher")
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
    if longest > UNDISTURBED {
        return Err(format!("the client waited for {} ms", longest.as_ms()));
    }
    Ok(format!("the longest pause was {} ms; {}", longest.as_ms(), verdict(cluster)?))
}
