//! `failover`: outages as a client on its own host sees them, asking every 5 ms through the
//! moving address; and where their time went, as the cluster recorded it.

use std::time::Duration;

use drivers::sys::now;
use model::state::Timing;
use model::{Moment, Span};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;

use crate::cases::lost::{apart, together};
use crate::cluster::{Cluster, NODES, REMEMBERED, Setup};
use crate::judge::{outage, verdict};
use crate::shell::{Done, pass};

/// One row of the table.
struct Row {
    name: &'static str,
    /// Makes the fault, and undoes it when it was seen through; the moment of the fault.
    strike: fn(&mut Cluster) -> Done<Struck>,
    /// By profile (`""` for any): median and longest outage that it may have, in milliseconds.
    goals: &'static [(&'static str, f64, f64)],
}

impl Row {
    fn goal(&self, profile: &str) -> Option<(f64, f64)> {
        let mut goals = self.goals.iter().filter(|(of, ..)| of.is_empty() || *of == profile);
        goals.next().map(|(_, median, longest)| (*median, *longest))
    }
}

/// A node is lost, the address moves.
const NODE_LOST: &[(&str, f64, f64)] = &[("lan", 560.0, 900.0), ("fast", 180.0, 300.0)];

/// A client that asks every 5 ms sees no pause shorter than this as one.
const NO_PAUSE_MS: f64 = 10.0;
/// After a partition has healed, so long is watched.
const WATCHED: Duration = Duration::from_secs(1);
/// Longer than what failed is remembered.
const FORGOTTEN_AFTER: Duration = REMEMBERED.saturating_add(Duration::from_millis(200));

/// A fault, and how it is undone.
struct Struck {
    at: Moment,
    mend: Mend,
}

enum Mend {
    Nothing,
    Reboot(usize),
    Heal,
}

const ROWS: &[Row] = &[
    Row { name: "process-killed", strike: process_killed, goals: &[("", 20.0, 60.0)] },
    Row { name: "node-killed", strike: node_killed, goals: NODE_LOST },
    Row { name: "node-cut", strike: node_cut, goals: NODE_LOST },
    Row { name: "coordinator-killed", strike: coordinator_killed, goals: &[] },
    Row { name: "coordinator-and-active", strike: both_killed, goals: &[("lan", 750.0, 1_200.0)] },
    Row { name: "switchover", strike: switchover, goals: &[("", 12.0, 40.0)] },
    Row { name: "partition-healed", strike: partition_healed, goals: &[("", 0.0, 40.0)] },
];

/// What one row measured.
#[derive(Debug, Serialize)]
struct Figures {
    row: String,
    profile: String,
    rounds: usize,
    median_ms: f64,
    max_ms: f64,
    all_ms: Vec<f64>,
    goal_median_ms: Option<f64>,
    goal_max_ms: Option<f64>,
    met: Option<bool>,
    /// Medians of the phases of the service's move, in milliseconds.
    detect_ms: f64,
    decide_ms: f64,
    commit_ms: f64,
    fence_ms: f64,
    promote_ms: f64,
    /// From the service's being active to the address's being up and announced: median.
    announce_ms: f64,
}

/// Measures all rows, or those whose name contains a word.
pub(crate) fn failover(
    setup: &Setup,
    rounds: usize,
    only: Option<&str>,
    json: Option<&str>,
) -> Done<bool> {
    let mut table = Vec::new();
    println!("profile {}, {rounds} rounds each, milliseconds", setup.profile);
    println!(
        "{:<24}{:>8}{:>8}{:>14}{:>9}{:>8}{:>8}{:>8}{:>9}{:>10}",
        "", "median", "max", "goal", "detect", "decide", "commit", "fence", "promote", "announce"
    );
    for row in ROWS.iter().filter(|row| only.is_none_or(|word| row.name.contains(word))) {
        let figures = measure(setup, row, rounds)?;
        println!(
            "{:<24}{:>8.1}{:>8.1}{:>14}{:>9.1}{:>8.1}{:>8.1}{:>8.1}{:>9.1}{:>10.1}",
            figures.row,
            figures.median_ms,
            figures.max_ms,
            goal(&figures),
            figures.detect_ms,
            figures.decide_ms,
            figures.commit_ms,
            figures.fence_ms,
            figures.promote_ms,
            figures.announce_ms
        );
        table.push(figures);
    }
    write_json(json, &table)?;
    Ok(table.iter().all(|figures| figures.met != Some(false)))
}

/// Median and longest that it may have, and whether it has.
fn goal(figures: &Figures) -> String {
    let stated = figures.goal_median_ms.zip(figures.goal_max_ms).zip(figures.met);
    stated.map_or(String::new(), |((median, max), met)| {
        format!("{median:.0}, {max:.0} {}", if met { "met" } else { "MISSED" })
    })
}

/// Writes a table where a file is named for it.
pub(crate) fn write_json(path: Option<&str>, table: &impl Serialize) -> Done {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(table).map_err(|e| e.to_string())?;
    std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))
}

fn measure(setup: &Setup, row: &Row, rounds: usize) -> Done<Figures> {
    let mut cluster = Cluster::start(setup)?;
    let (mut outages, mut phases) = (Vec::new(), Vec::new());
    let goal = row.goal(&setup.profile);
    for _ in 0..rounds {
        let struck = (row.strike)(&mut cluster)?;
        cluster.until_served()?;
        outages.push(outage(&cluster, struck.at));
        // A move of before, which put everybody in place, is none of the fault's.
        if cluster.holdings()?.iter().any(|holding| holding.from > struck.at) {
            phases.extend(last_phases(&cluster.events()?));
        }
        match struck.mend {
            Mend::Nothing => {}
            Mend::Reboot(node) => cluster.reboot(node)?,
            Mend::Heal => cluster.network.heal()?,
        }
        cluster.until_whole()?;
        cluster.until_served()?;
    }
    verdict(&mut cluster).map_err(|why| format!("{}: {why}", row.name))?;
    let of = |pick: fn(&Phases) -> f64| median(phases.iter().map(pick).collect());
    let mut all_ms: Vec<f64> = outages.iter().map(|span| ms(*span)).collect();
    if goal.is_some_and(|(median, _)| median == 0.0) {
        all_ms.iter_mut().filter(|ms| **ms <= NO_PAUSE_MS).for_each(|ms| *ms = 0.0);
    }
    let max_ms = all_ms.iter().copied().fold(0.0, f64::max);
    let kept = |(most, longest)| median(all_ms.clone()) <= most && max_ms <= longest;
    Ok(Figures {
        goal_median_ms: goal.map(|goal| goal.0),
        goal_max_ms: goal.map(|goal| goal.1),
        met: goal.map(kept),
        row: row.name.to_owned(),
        profile: setup.profile.clone(),
        rounds,
        median_ms: median(all_ms.clone()),
        max_ms,
        all_ms,
        detect_ms: of(|p| p.detect),
        decide_ms: of(|p| p.decide),
        commit_ms: of(|p| p.commit),
        fence_ms: of(|p| p.fence),
        promote_ms: of(|p| p.promote),
        announce_ms: of(|p| p.announce),
    })
}

fn ms(span: Span) -> f64 {
    span.0 as f64 / 1e6
}

/// The middle value; of an even number, the mean of the middle two; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Where the time of one move went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Phases {
    detect: f64,
    decide: f64,
    commit: f64,
    fence: f64,
    promote: f64,
    announce: f64,
}

/// The phases of the newest move of the service, and what its address took after it.
fn last_phases(events: &Value) -> Option<Phases> {
    let list = events.as_array().or_else(|| events["events"].as_array())?;
    let of = |resource: &str| {
        let active = list.iter().rev().filter_map(|event| event.pointer("/what/active"));
        let mut own = active.filter(|what| what["resource"] == resource);
        serde_json::from_value::<Timing>(own.next()?.get("timing")?.clone()).ok()
    };
    let (orders, address) = (of("orders")?, of("orders-address")?);
    let ms = |us: u64| us as f64 / 1e3;
    Some(Phases {
        detect: ms(orders.detect_us),
        decide: ms(orders.decide_us),
        commit: ms(orders.commit_us),
        fence: ms(orders.fence_us),
        promote: ms(orders.promote_us),
        // It is assigned while the service is promoted, and comes up after it.
        announce: ms((address.commit_us + address.promote_us).saturating_sub(orders.promote_us)),
    })
}

fn process_killed(cluster: &mut Cluster) -> Done<Struck> {
    // Killed on two nodes within the window of its recovery it would be poison, and stay.
    std::thread::sleep(FORGOTTEN_AFTER);
    let scene = cluster.until_whole()?;
    let pid = Pid::from_raw(cluster.instance(scene.active)?.cast_signed()).ok_or("no process")?;
    let at = now();
    kill_process(pid, Signal::KILL).map_err(|e| e.to_string())?;
    cluster.until_scene("a standby in its place", |s| s.active != scene.active)?;
    Ok(Struck { at, mend: Mend::Nothing })
}

fn node_killed(cluster: &mut Cluster) -> Done<Struck> {
    let (_, active) = apart(cluster)?;
    let at = now();
    cluster.power_off(active)?;
    Ok(Struck { at, mend: Mend::Reboot(active) })
}

fn node_cut(cluster: &mut Cluster) -> Done<Struck> {
    let (_, active) = apart(cluster)?;
    let at = now();
    cluster.network.isolate(NODES[active])?;
    Ok(Struck { at, mend: Mend::Heal })
}

/// The cut is over: what a client sees that the service had moved away from the node, and stays.
fn partition_healed(cluster: &mut Cluster) -> Done<Struck> {
    let (_, active) = apart(cluster)?;
    cluster.network.isolate(NODES[active])?;
    cluster.until_scene("the service elsewhere", |s| s.active != active)?;
    cluster.until_served()?;
    // The pause of the move itself is another row's.
    pass(WATCHED);
    let at = now();
    cluster.network.heal()?;
    cluster.until_whole()?;
    pass(WATCHED);
    Ok(Struck { at, mend: Mend::Nothing })
}

fn coordinator_killed(cluster: &mut Cluster) -> Done<Struck> {
    let (coordinator, _) = apart(cluster)?;
    let at = now();
    cluster.power_off(coordinator)?;
    cluster.until_scene("another coordinator", |s| s.coordinator != coordinator)?;
    Ok(Struck { at, mend: Mend::Reboot(coordinator) })
}

fn both_killed(cluster: &mut Cluster) -> Done<Struck> {
    let both = together(cluster)?;
    let at = now();
    cluster.power_off(both)?;
    Ok(Struck { at, mend: Mend::Reboot(both) })
}

fn switchover(cluster: &mut Cluster) -> Done<Struck> {
    let scene = cluster.until_whole()?;
    let at = now();
    cluster.switchover(scene.coordinator, (scene.active + 1) % NODES.len())?;
    Ok(Struck { at, mend: Mend::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
