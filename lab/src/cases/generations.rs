//! A majority is gone for good, or the whole cluster: an operator begins a new generation, and the
//! old one comes back.

use drivers::sys::now;
use rustix::process::Signal;
use serde_json::Value;

use super::lost::apart;
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, until};

/// Both steps of what can't be undone: reads what the first one shows, then confirms exactly that.
fn confirmed(cluster: &Cluster, node: usize, words: &[&str], off: &[usize]) -> Done {
    let shown = cluster.command(NODES[node], words)?;
    let shown: Value = serde_json::from_str(&shown).map_err(|e| e.to_string())?;
    let token = shown["token"].as_str().ok_or("no token to confirm with")?;
    let confirm = ["--cluster", "lab", "--token", token, "--by", "lab", "--why", "a case"];
    let mut all = [words, &confirm].concat();
    off.iter().for_each(|node| all.extend(["--off", NODES[*node]]));
    cluster.command(NODES[node], &all).map(drop)
}

/// Nodes of the old generation are switched on, all at once: their agents hear of the new one, end,
/// and are started again as a service manager does.
fn return_of(cluster: &mut Cluster, nodes: &[usize]) -> Done {
    for node in nodes {
        cluster.reboot(*node)?;
    }
    for node in nodes {
        until("the end of an old generation", PATIENCE, || {
            cluster.part(*node, "agent").ok()?.has_ended().then_some(())
        })
        .map_err(|error| format!("{}: {error}", NODES[*node]))?;
        cluster.restart_part(*node, "agent")?;
    }
    Ok(())
}

fn generation(cluster: &Cluster) -> u64 {
    let stored = cluster.records().stored;
    stored.iter().map(|stored| stored.epoch.generation).max().unwrap_or(0)
}

pub(super) fn a_lost_quorum_is_recovered_and_the_old_majority_is_superseded(
    cluster: &mut Cluster,
) -> Done<String> {
    // The survivor has the service, and must let go of it before anything else.
    let (_, survivor) = apart(cluster)?;
    let lost: Vec<usize> = (0..NODES.len()).filter(|node| *node != survivor).collect();
    let (fault, old) = (now(), generation(cluster));
    for node in &lost {
        cluster.power_off(*node)?;
    }
    until("the end of its address", PATIENCE, || (!cluster.holds(survivor)?).then_some(()))?;
    let alone = ["maintenance", "--node", NODES[survivor], "--for", "1m"];
    if let Ok(told) = cluster.ask(survivor, &alone) {
        return Err(format!("one of three decided: {told}"));
    }
    cluster.part(survivor, "agent")?.signal(Signal::KILL)?;
    until("the agent's end", PATIENCE, || {
        cluster.part(survivor, "agent").ok()?.has_ended().then_some(())
    })?;
    let data = cluster.of(survivor, "data");
    confirmed(cluster, survivor, &["recover-quorum", "--json", "--data", &data], &lost)?;
    cluster.restart_part(survivor, "agent")?;
    cluster.until_served()?;
    let outage = outage(cluster, fault);
    return_of(cluster, &lost)?;
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let new = generation(cluster);
    if new <= old {
        return Err(format!("generation {old} and then {new}"));
    }
    // Whether the survivor kept it throughout says something of the machine that plays this.
    let stayed = if scene.active == survivor { "stayed" } else { "moved once more" };
    Ok(format!(
        "closed without a quorum, served again by hand after {} ms under generation {new}; the \
         old majority came back into it and the service {stayed}; {}",
        outage.as_ms(),
        verdict(cluster)?
    ))
}

pub(super) fn an_exported_state_founds_the_cluster_anew(cluster: &mut Cluster) -> Done<String> {
    cluster.until_whole()?;
    let (file, old) = (cluster.path("kept.state"), generation(cluster));
    cluster.ask(0, &["state", "export", "--out", &file])?;
    let (data, kept) = (cluster.of(0, "data"), cluster.of(0, "data.kept"));
    let authority = format!("{kept}/identity/authority.key");
    let import = ["state", "import", &file, "--json", "--node", NODES[0], "--data", &data];
    let import = [&import[..], &["--authority", &authority]].concat();
    for node in 0..NODES.len() {
        cluster.power_off(node)?;
    }
    let off = now();
    std::fs::rename(&data, &kept).map_err(|e| e.to_string())?;
    cluster.plug(0)?;
    confirmed(cluster, 0, &import, &[1, 2])?;
    cluster.reboot(0)?;
    cluster.until_served()?;
    let back = outage(cluster, off);
    return_of(cluster, &[1, 2])?;
    cluster.until_whole()?;
    cluster.until_served()?;
    let new = generation(cluster);
    if new <= old {
        return Err(format!("generation {old} and then {new}"));
    }
    Ok(format!(
        "served again after {} ms under generation {new}, and the old nodes came back into it; {}",
        back.as_ms(),
        verdict(cluster)?
    ))
}
