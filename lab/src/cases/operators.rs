//! What operators do on a working day: apply what is wrong, upgrade under load.

use drivers::sys::now;
use model::Span;
use rustix::process::Signal;

use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, until};

/// Longest pause that a client may see while agents are replaced one by one, on a machine that is
/// busy with other things. What is claimed is that nothing moves.
const UNNOTICED: Span = Span::from_ms(2_000);

/// Configurations with one mistake each: what the good one says, and what takes its place.
const MISTAKES: [(&str, &str); 7] = [
    ("profile = ", "profiel = "),
    ("standby = \"hot\"", "standby = \"warm\""),
    ("with = \"orders\"", "with = \"order\""),
    ("10.77.0.100/24", "10.77.0.1000/24"),
    ("name = \"b\"", "name = \"a\""),
    ("[[resource]]", "[[resource"),
    ("command = [", "command = [\"\", "),
];

fn version(cluster: &Cluster) -> Done<u64> {
    let status = (0..NODES.len()).find_map(|node| cluster.status(node)).ok_or("no status")?;
    status["spec_version"].as_u64().ok_or_else(|| format!("no version in {status}"))
}

pub(super) fn a_bad_configuration_is_refused_whole_and_the_old_one_stays(
    cluster: &mut Cluster,
) -> Done<String> {
    let scene = cluster.until_whole()?;
    let (from, before) = (now(), version(cluster)?);
    let good = std::fs::read_to_string(cluster.path("cluster.toml")).map_err(|e| e.to_string())?;
    let bad = cluster.path("bad.toml");
    let cut: Vec<String> =
        (1..8).map(|part| good[..good.len() * part / 8].to_owned() + "\n[").collect();
    let mistakes = MISTAKES.iter().map(|(right, wrong)| good.replacen(right, wrong, 1));
    let texts: Vec<String> = mistakes.chain(cut).collect();
    for text in &texts {
        if *text == good {
            return Err("a mistake that changes nothing is none".into());
        }
        std::fs::write(&bad, text).map_err(|e| e.to_string())?;
        if let Ok(told) = cluster.ask(0, &["apply", &bad]) {
            return Err(format!("it was applied: {told}\n{text}"));
        }
    }
    let after = version(cluster)?;
    if after != before || cluster.until_whole()? != scene || cluster.times_up(from)? != 1 {
        return Err(format!("version {before} is {after}, or something moved"));
    }
    // The good one is taken all the same: it was not the way there that was closed.
    let more = good.replacen("standby = \"hot\"", "standby = \"hot\"\nrto_ms = 60000", 1);
    std::fs::write(&bad, more).map_err(|e| e.to_string())?;
    cluster.ask(0, &["apply", &bad])?;
    if version(cluster)? != before + 1 {
        return Err("a good one was not committed".into());
    }
    cluster.until_served()?;
    Ok(format!("{} mistakes refused, version {before} stayed; {}", texts.len(), verdict(cluster)?))
}

pub(super) fn an_upgrade_under_load_moves_nothing(cluster: &mut Cluster) -> Done<String> {
    cluster.until_whole()?;
    let from = now();
    let new = cluster.path("backstay.new");
    std::fs::copy(cluster.program(), &new).map_err(|e| format!("{new}: {e}"))?;
    cluster.upgrade_to(&new);
    for (node, name) in NODES.iter().enumerate() {
        cluster.part(node, "agent")?.signal(Signal::TERM)?;
        until("the agent's end", PATIENCE, || {
            cluster.part(node, "agent").ok()?.has_ended().then_some(())
        })?;
        cluster.restart_part(node, "agent")?;
        cluster.until_whole()?;
        let link = format!("/proc/{}/exe", cluster.part(node, "agent")?.id());
        let runs = std::fs::read_link(&link).map_err(|e| format!("{link}: {e}"))?;
        if !runs.to_string_lossy().contains("backstay.new") {
            return Err(format!("{name} runs {}", runs.display()));
        }
    }
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if up != 1 || longest > UNNOTICED {
        return Err(format!("a pause of {} ms; brought up {up} times", longest.as_ms()));
    }
    Ok(format!(
        "three agents replaced, nothing moved, longest pause {} ms; {}",
        longest.as_ms(),
        verdict(cluster)?
    ))
}
