//! The cables are at fault, not the nodes.

use std::time::{Duration, Instant};

use drivers::sys::now;
use model::{Moment, Span};

use super::lost::apart;
use crate::cluster::{Cluster, NODES};
use crate::judge::{outage, verdict};
use crate::network::{Flaw, LINKS};
use crate::random::Random;
use crate::shell::{Done, pass};
use crate::watch::most_at_once;

/// How many partitions one case makes.
const PARTITIONS: usize = 12;
/// How long nothing must move under a lasting flaw.
const CALM: Duration = Duration::from_secs(15);
/// Longest pause that a client may see after a partition has healed, on a machine that is busy
/// with other things: far below what it costs where addresses are not announced again.
const HEALED: Span = Span::from_ms(400);

pub(super) fn a_node_cut_on_every_link_never_shares_its_address(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let fault = now();
    cluster.network.isolate(NODES[active])?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    cluster.network.heal()?;
    cluster.until_whole()?;
    Ok(format!("an outage of {} ms; never two holders; {}", outage.as_ms(), verdict(cluster)?))
}

/// So many partitions, one after the other; the client's longest pause in each.
pub(crate) fn partitions(cluster: &mut Cluster, rounds: usize) -> Done<Vec<Span>> {
    let (mut random, mut pauses) = (Random::new(7), Vec::new());
    for round in 0..rounds {
        let from = now();
        let lone = NODES[random.below(NODES.len())];
        let rest: Vec<&str> = NODES.iter().filter(|n| **n != lone).copied().collect();
        // Every other one leaves the client with the lone node.
        let (with_lone, with_rest): (&[&str], &[&str]) =
            if round % 2 == 0 { (&[], &["client", "judge"]) } else { (&["client"], &["judge"]) };
        let one = [&[lone], with_lone].concat();
        let other = [rest.as_slice(), with_rest].concat();
        cluster.network.part(&one, &other)?;
        pass(Duration::from_millis(900 + random.below(900) as u64));
        cluster.network.heal()?;
        pass(Duration::from_millis(random.below(600) as u64));
        pauses.push(outage(cluster, from));
    }
    cluster.until_whole()?;
    cluster.until_served()?;
    Ok(pauses)
}

pub(super) fn many_partitions_never_make_two_holders(cluster: &mut Cluster) -> Done<String> {
    partitions(cluster, PARTITIONS)?;
    let moves = cluster.holdings()?.len();
    Ok(format!(
        "{PARTITIONS} partitions, {moves} times a host got the address, never a second one; {}",
        verdict(cluster)?
    ))
}

/// A one-way cut of the active node from all others, until the service is elsewhere.
fn one_way(cluster: &mut Cluster, deaf: bool) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let others = NODES.iter().enumerate().filter(|(n, _)| *n != active).map(|(_, name)| *name);
    let lone = NODES[active];
    let flaw = |other: &str| if deaf { Flaw::cut(other, lone) } else { Flaw::cut(lone, other) };
    let flaws: Vec<Flaw> = others.map(flaw).collect();
    let fault = now();
    cluster.network.add(flaws)?;
    cluster.until_scene("the service elsewhere", |s| s.active != active)?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    let before = cluster.holdings()?.len();
    pass(Duration::from_secs(3));
    let moved = cluster.holdings()?.len() - before;
    cluster.network.heal()?;
    cluster.until_whole()?;
    if moved > 0 {
        return Err(format!("the address moved {moved} more times while nothing changed"));
    }
    Ok(format!("an outage of {} ms, and then calm; {}", outage.as_ms(), verdict(cluster)?))
}

pub(super) fn a_node_that_is_heard_and_hears_nobody_gives_up(
    cluster: &mut Cluster,
) -> Done<String> {
    one_way(cluster, true)
}

pub(super) fn a_node_that_hears_and_is_not_heard_gives_up(cluster: &mut Cluster) -> Done<String> {
    one_way(cluster, false)
}

pub(super) fn two_nodes_that_miss_each_other_alone_start_no_election_loop(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    cluster.network.part(&[NODES[coordinator]], &[NODES[active]])?;
    cluster.until_served()?;
    let settled = Instant::now();
    let mut seen = Vec::new();
    while settled.elapsed() < CALM {
        if let Some(scene) = (0..NODES.len()).find_map(|node| cluster.scene(node))
            && seen.last() != Some(&scene)
        {
            seen.push(scene);
        }
        pass(Duration::from_millis(100));
    }
    cluster.until_served()?;
    cluster.network.heal()?;
    cluster.until_whole()?;
    // One change of coordinator and one move may be what it takes to be whole without that path.
    if seen.is_empty() || seen.len() > 3 {
        return Err(format!("no rest: {seen:?}"));
    }
    Ok(format!(
        "{} settled states in {} s without that path; {}",
        seen.len(),
        CALM.as_secs(),
        verdict(cluster)?
    ))
}

pub(super) fn lost_heartbeats_and_doubled_frames_move_nothing(
    cluster: &mut Cluster,
) -> Done<String> {
    let before = cluster.until_whole()?;
    let pairs = NODES.iter().flat_map(|a| NODES.iter().map(move |b| (*a, *b)));
    let flaws: Vec<Flaw> = pairs
        .filter(|(a, b)| a != b)
        .map(|(a, b)| Flaw { lost_percent: 30, heartbeats_only: true, ..Flaw::cut(a, b) })
        .collect();
    cluster.network.add(flaws)?;
    for node in NODES {
        for link in 0..LINKS {
            cluster.network.duplicate(node, link, 20)?;
        }
    }
    pass(CALM);
    let lost = cluster.network.dropped()?;
    if lost < 100 {
        return Err(format!("only {lost} frames were lost: the fault was not felt"));
    }
    let after = cluster.until_scene("the same scene", |s| s.active == before.active)?;
    cluster.network.heal()?;
    let holdings = cluster.holdings()?.len();
    if holdings != 1 {
        return Err(format!("the address was brought up {holdings} times"));
    }
    let kept = if after == before { "nothing moved" } else { "only the coordinator changed" };
    Ok(format!("{lost} heartbeats lost in {} s, and {kept}; {}", CALM.as_secs(), verdict(cluster)?))
}

pub(super) fn a_healed_partition_costs_nothing(cluster: &mut Cluster) -> Done<String> {
    let (_, active) = apart(cluster)?;
    cluster.network.isolate(NODES[active])?;
    cluster.until_scene("the service elsewhere", |s| s.active != active)?;
    cluster.until_served()?;
    let healed: Moment = now();
    cluster.network.heal()?;
    cluster.until_whole()?;
    pass(Duration::from_secs(1));
    let (most, _) = most_at_once(&cluster.holdings()?);
    let longest = outage(cluster, healed);
    if longest > HEALED {
        return Err(format!("a pause of {} ms after it had healed", longest.as_ms()));
    }
    Ok(format!(
        "the longest pause after it had healed was {} ms, {most} holder; {}",
        longest.as_ms(),
        verdict(cluster)?
    ))
}
