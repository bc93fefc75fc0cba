//! What a node has on its disk is gone, damaged, or of yesterday.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use drivers::sys::now;
use serde_json::Value;

use super::lost::apart;
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, run, until};

/// Decisions between an image of a disk and its return.
const DECISIONS: usize = 5;

/// A node that neither leads nor serves, switched off.
fn third_off(cluster: &mut Cluster) -> Done<usize> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    cluster.power_off(third)?;
    Ok(third)
}

/// The incarnation that a node's own disk names.
fn replica(cluster: &Cluster, node: usize) -> Done<u64> {
    let path = format!("{}/node.json", cluster.of(node, "data"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let file: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    file["replica"].as_u64().ok_or_else(|| format!("no replica in {text}"))
}

/// It is whole again, as another incarnation, and nobody saw anything of it.
fn another(cluster: &mut Cluster, node: usize, old: u64, from: model::Moment) -> Done<String> {
    cluster.until_whole()?;
    cluster.until_served()?;
    let new = replica(cluster, node)?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if new <= old || up != 1 {
        return Err(format!("replica {old} and then {new}; the address was brought up {up} times"));
    }
    let proved = verdict(cluster)?;
    Ok(format!("replica {old} is {new}, longest pause {} ms; {proved}", longest.as_ms()))
}

pub(super) fn a_node_without_its_disk_joins_as_another_incarnation(
    cluster: &mut Cluster,
) -> Done<String> {
    let third = third_off(cluster)?;
    let (from, old) = (now(), replica(cluster, third)?);
    let data = cluster.of(third, "data");
    std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
    cluster.plug(third)?;
    cluster.join(third)?;
    cluster.reboot(third)?;
    another(cluster, third, old, from)
}

fn newest_segment(log: &Path) -> Done<PathBuf> {
    let all = std::fs::read_dir(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let files = all.filter_map(Result::ok).map(|entry| entry.path());
    let segments = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
    segments.max().ok_or_else(|| format!("no segment in {}", log.display()))
}

/// One bit, in the middle of what is written.
fn flip(path: &Path) -> Done<u64> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let bytes = std::fs::read(path).map_err(failed)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).ok_or("an empty segment")?;
    let at = end / 2;
    let file = std::fs::File::options().write(true).open(path).map_err(failed)?;
    file.write_all_at(&[bytes[at] ^ 1], at as u64).map_err(failed)?;
    Ok(at as u64)
}

pub(super) fn a_flipped_bit_in_the_log_is_found_and_nothing_of_it_is_believed(
    cluster: &mut Cluster,
) -> Done<String> {
    let third = third_off(cluster)?;
    let (from, old) = (now(), replica(cluster, third)?);
    let data = PathBuf::from(cluster.of(third, "data"));
    let segment = newest_segment(&data.join("log"))?;
    let at = flip(&segment)?;
    cluster.reboot(third)?;
    let proved = another(cluster, third, old, from)?;
    let aside =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("log.aside-");
    let entries = std::fs::read_dir(&data).map_err(|e| e.to_string())?;
    if !entries.filter_map(Result::ok).any(|entry| aside(&entry)) {
        return Err("the damaged log was not set aside".into());
    }
    Ok(format!("byte {at}: found, set aside; {proved}"))
}

pub(super) fn yesterday_s_image_of_a_disk_gets_no_second_vote(
    cluster: &mut Cluster,
) -> Done<String> {
    let third = third_off(cluster)?;
    let old = replica(cluster, third)?;
    let (data, image) = (cluster.of(third, "data"), cluster.of(third, "data.image"));
    run(Command::new("cp").args(["-a", &data, &image]))?;
    cluster.reboot(third)?;
    cluster.until_whole()?;
    // It votes on these, and then knows nothing of them.
    let name = NODES[third];
    for _ in 0..DECISIONS {
        until("a decision", PATIENCE, || {
            cluster.ask(third, &["maintenance", "--node", name, "--for", "1m"]).ok()?;
            cluster.ask(third, &["maintenance", "--node", name, "--end"]).ok()
        })?;
    }
    cluster.power_off(third)?;
    let from = now();
    std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
    std::fs::rename(&image, &data).map_err(|e| e.to_string())?;
    cluster.reboot(third)?;
    // It either finds out by itself and comes back as another, or says why and stays out; never
    // does it go on as what it was.
    let mut ended = false;
    until("a whole cluster or its end", PATIENCE, || {
        ended = cluster.part(third, "agent").ok()?.has_ended();
        let whole = cluster.scene(third).is_some();
        (ended || whole && replica(cluster, third).ok()? > old).then_some(())
    })?;
    cluster.until_served()?;
    let up = cluster.times_up(from)?;
    if up != 1 {
        return Err(format!("the address was brought up {up} times"));
    }
    let (longest, new) = (outage(cluster, from), replica(cluster, third)?);
    let what = if ended { "it stopped".to_owned() } else { format!("replica {old} is {new}") };
    Ok(format!("{what}, longest pause {} ms; {}", longest.as_ms(), verdict(cluster)?))
}
