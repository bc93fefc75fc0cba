//! Nothing ends, but nothing goes on either.

use std::time::Duration;

use drivers::sys::now;
use model::Span;
use rustix::process::Signal;

use super::lost::apart;
use crate::cluster::{ADDRESS, Cluster, NODES};
use crate::judge::{Freeze, outage, verdict, verdict_but_for_the_address};
use crate::shell::{Done, ip, until};

/// How long a woken node may take to give up what it held: its guard's first look at the clock,
/// on a busy machine.
const WOKEN: Span = Span::from_ms(250);

pub(super) fn a_frozen_agent_loses_its_address_to_the_guard(cluster: &mut Cluster) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let fault = now();
    cluster.part(active, "agent")?.signal(Signal::STOP)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    cluster.until_scene("the service elsewhere", |s| s.active != active)?;
    let text = std::fs::read_to_string(cluster.of(active, "run/guard.statements"));
    let text = text.map_err(|e| e.to_string())?;
    let of_guard = |l: &&str| l.contains("+netlink") && l.contains("empty=true");
    let stated = text.lines().filter(of_guard).any(|l| l.contains("cause=lease-end"));
    cluster.part(active, "agent")?.signal(Signal::CONT)?;
    cluster.until_whole()?;
    if !stated {
        return Err(format!("the guard states nothing of the address: {text}"));
    }
    Ok(format!("an outage of {} ms, by the guard; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_frozen_node_is_replaced_and_refused_when_it_wakes(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let instance = cluster.records().intervals.into_iter().max_by_key(|i| (i.epoch, i.last));
    let instance = instance.ok_or("nobody was ever active")?.instance;
    let from = now();
    // Its kernel must not answer either, as that of a machine that stands still doesn't.
    cluster.network.isolate(NODES[active])?;
    cluster.nodes[active].host.power.freeze()?;
    cluster.until_served()?;
    let outage = outage(cluster, from);
    let held = |cluster: &Cluster| {
        let namespace = cluster.network.namespace(NODES[active]);
        ip(&format!("-n {namespace} address show")).map(|text| text.contains(ADDRESS))
    };
    if !held(cluster)? {
        return Err("the frozen host lost its address: the freeze was not felt".into());
    }
    cluster.network.heal()?;
    let woken = now();
    cluster.nodes[active].host.power.wake()?;
    until("the end of its address", Duration::from_secs(10), || {
        held(cluster).ok().filter(|held| !held)
    })?;
    let down = cluster.holdings()?.iter().filter(|h| h.host == NODES[active]).map(|h| h.to).max();
    let took = down.ok_or("it never held the address")?.since(woken);
    cluster.until_whole()?;
    if took > WOKEN {
        return Err(format!("woken, it held the address for {} ms more", took.as_ms()));
    }
    let freeze = Freeze { instance, from, to: woken + WOKEN };
    let proved = verdict_but_for_the_address(cluster, Some(&freeze))?;
    Ok(format!(
        "an outage of {} ms; woken, it gave the address up after {:.1} ms; {proved}",
        outage.as_ms(),
        took.0 as f64 / 1e6
    ))
}
