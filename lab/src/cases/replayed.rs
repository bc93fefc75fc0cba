//! Somebody on the network keeps what nodes said, and says it again.

use std::time::Duration;

use drivers::sys::now;

use super::lost::apart;
use crate::cluster::{ADDRESS, Cluster, NODES, PATIENCE, own_program};
use crate::judge::{outage, verdict};
use crate::shell::{Done, pass, run, until};

/// How long is listened.
const LISTEN: Duration = Duration::from_secs(2);
/// Fewer datagrams than this prove nothing.
const LEAST: u64 = 100;

/// Datagrams that the kernel of a host has handed to sockets.
fn delivered(cluster: &Cluster, node: usize) -> Done<u64> {
    let text = run(cluster.network.on(NODES[node]).args(["cat", "/proc/net/snmp"]))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().ok_or("no Udp")?, lines.next().ok_or("no Udp")?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "InDatagrams").ok_or("no InDatagrams")?;
    found.1.parse().map_err(|_| format!("{found:?}"))
}

pub(super) fn captured_heartbeats_keep_no_lease_alive(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let (own, file) = (own_program()?, cluster.path("captured"));
    let words = [own.as_str(), "capture-datagrams", &file];
    let host = &cluster.nodes[active].host;
    let listener = host.start(&cluster.network, "capture", &words)?;
    pass(LISTEN);
    drop(listener);
    // The judge's host alone still reaches the node, and says again what the others had said.
    let others: Vec<&str> =
        NODES.iter().copied().filter(|name| *name != NODES[active]).chain(["client"]).collect();
    let fault = now();
    cluster.network.part(&[NODES[active]], &others)?;
    let before = delivered(cluster, active)?;
    let words = [own.as_str(), "replay-datagrams", &file];
    let judge = &cluster.nodes[coordinator].host;
    // In the judge's namespace, whatever cgroup it is in.
    let replay = judge.observe(&cluster.network, "judge", "replay", &words)?;
    until("the end of its address", PATIENCE, || (!cluster.holds(active)?).then_some(()))?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    pass(LISTEN);
    let again = delivered(cluster, active)? - before;
    let held = cluster.holds(active).ok_or("no addresses to read")?;
    drop(replay);
    cluster.network.heal()?;
    cluster.until_whole()?;
    if again < LEAST || held {
        return Err(format!("{again} datagrams arrived; {ADDRESS} is back there: {held}"));
    }
    Ok(format!(
        "{again} replayed datagrams arrived and kept nothing: an outage of {} ms; {}",
        outage.as_ms(),
        verdict(cluster)?
    ))
}
