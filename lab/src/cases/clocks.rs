//! Clocks jump, run away or stood still. Each node's processes read their own; store, client and
//! whoever watches the address have the true one.

use std::time::Duration;

use drivers::sys::now;

use super::lost::apart;
use crate::clock::{Clock, Skew};
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{Freeze, outage, verdict, verdict_but_for_the_address, verdict_of_the_store};
use crate::shell::{Done, pass, until};

/// Jumps of a wall clock, in hours: over days, back before the day of the certificates, and home.
const JUMPS_H: [i64; 3] = [240, -48, 0];
/// How long each lasts.
const LASTS: Duration = Duration::from_millis(700);
const HOUR_MS: i64 = 3_600_000;
/// What the runaway clock gains: it runs twice as fast as the others, far beyond the bound.
const GAIN_PPM: i64 = 1_000_000;
/// For so long orders reach a node that stands still.
const PILE_UP: Duration = Duration::from_millis(60);
/// Longer than a guard takes to stop what runs, once its address is down.
const STOPS: Duration = Duration::from_millis(500);
/// Longer than a lease: the longest time for which a woken node may believe in its own.
const BELIEVES: model::Span = model::Span::from_ms(700);

/// The wall clock that the newest event was told by, in milliseconds.
fn newest_event_ms(cluster: &Cluster) -> Done<i64> {
    let events = cluster.events()?;
    let newest = events.as_array().and_then(|all| all.last()).ok_or("no events")?;
    newest["wall_ms"].as_i64().ok_or_else(|| format!("no wall clock in {newest}"))
}

fn true_wall_ms() -> Done<i64> {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(|e| e.to_string())?;
    i64::try_from(since.as_millis()).map_err(|e| e.to_string())
}

pub(super) fn a_wall_clock_that_jumps_moves_nothing(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let third = 3 - coordinator - active;
    let from = now();
    let clocks = [(coordinator, cluster.clock(coordinator)?), (active, cluster.clock(active)?)];
    let mut seen = Vec::new();
    for hours in JUMPS_H {
        let skew = Skew { wall_ns: hours * HOUR_MS * 1_000_000, ..Skew::default() };
        for (node, clock) in &clocks {
            cluster.skew(*node, clock, skew)?;
        }
        pass(LASTS);
        // What the coordinator decides is told by its clock. One that is before the day of the
        // operator's certificate believes no operator.
        if hours >= 0 {
            let maintenance = ["maintenance", "--node", NODES[third]];
            cluster.ask(third, &[&maintenance[..], &["--for", "1m"]].concat())?;
            cluster.ask(third, &[&maintenance[..], &["--end"]].concat())?;
            let ahead = (newest_event_ms(cluster)? - true_wall_ms()?) / (HOUR_MS / 60);
            seen.push(format!("{ahead} min"));
            if (ahead - hours * 60).abs() > 1 {
                return Err(format!("a jump of {hours} h was not felt: {ahead} min ahead"));
            }
        }
    }
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if up != 1 || scene.active != active || scene.coordinator != coordinator {
        return Err(format!("{scene:?}; the address was brought up {up} times"));
    }
    let (seen, ms) = (seen.join(", "), longest.as_ms());
    Ok(format!("events told {seen} ahead; longest pause {ms} ms; {}", verdict(cluster)?))
}

/// The instance that has been active under the highest epoch.
fn newest_instance(cluster: &Cluster) -> Done<String> {
    let newest = cluster.records().intervals.into_iter().max_by_key(|i| (i.epoch, i.last));
    newest.map(|interval| interval.instance).ok_or_else(|| "nobody was ever active".to_owned())
}

/// How much of an instance the store has refused for its old epoch: proof that it tried.
fn refused(cluster: &Cluster, instance: &str) -> Done<usize> {
    let stored = cluster.records().stored;
    match stored.iter().filter(|s| s.verdict == "stale" && s.instance == instance).count() {
        0 => Err("the old holder tried nothing under its old epoch: it proves nothing".into()),
        refused => Ok(refused),
    }
}

pub(super) fn a_runaway_clock_takes_over_too_early_and_no_old_epoch_is_stored(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let instance = newest_instance(cluster)?;
    let others: Vec<&str> = NODES.iter().copied().filter(|name| *name != NODES[active]).collect();
    let clock = cluster.clock(coordinator)?;
    let skew = Skew { from: now(), gain_ppm: GAIN_PPM, ..Skew::default() };
    cluster.skew(coordinator, &clock, skew)?;
    // It still reaches client and store, and by its own clock its lease lasts.
    cluster.network.part(&[NODES[active]], &others)?;
    until("the end of its address", PATIENCE, || (!cluster.holds(active)?).then_some(()))?;
    cluster.skew(coordinator, &clock, skew.still(now()))?;
    cluster.until_scene("the service elsewhere", |scene| scene.active != active)?;
    cluster.until_served()?;
    cluster.network.heal()?;
    cluster.until_whole()?;
    let refused = refused(cluster, &instance)?;
    let proved = verdict_of_the_store(cluster)?;
    Ok(format!("taken over too early, {refused} writes of the old holder refused; {proved}"))
}

/// A machine wakes in the past: how long it believed in its lease, and how much of what it tried
/// was refused.
fn woken_up(
    cluster: &mut Cluster,
    active: usize,
    clock: &Clock,
    woken: model::Moment,
    instance: &str,
) -> Done<(model::Span, usize)> {
    until("the end of its address", PATIENCE, || (!cluster.holds(active)?).then_some(()))?;
    let down = cluster.holdings()?.iter().filter(|h| h.host == NODES[active]).map(|h| h.to).max();
    let believed = down.ok_or("it never held the address")?.since(woken);
    // The guard counts by the same clock how long a stop takes: one that is set right in the middle
    // of it has every stop fail, and a machine that may not be rebooted here stays so.
    pass(STOPS);
    cluster.skew(active, clock, Skew::default())?;
    cluster.until_whole()?;
    Ok((believed, refused(cluster, instance)?))
}

pub(super) fn a_machine_whose_clock_stood_still_while_it_was_paused_is_refused(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let instance = newest_instance(cluster)?;
    let clock = cluster.clock(active)?;
    let from = now();
    cluster.nodes[active].host.power.freeze()?;
    // Its kernel takes a few orders more: these it will find when it wakes.
    pass(PILE_UP);
    cluster.network.isolate(NODES[active])?;
    cluster.until_scene("the service elsewhere", |scene| scene.active != active)?;
    cluster.until_served()?;
    // Its host gives it back the moment at which it stopped.
    let away = now().since(from).0.cast_signed();
    clock.set(Skew { offset_ns: -away, ..Skew::default() })?;
    cluster.network.heal()?;
    let woken = now();
    cluster.nodes[active].host.power.wake()?;
    let tried = woken_up(cluster, active, &clock, woken, &instance);
    let freeze = Freeze { instance, from, to: woken + BELIEVES };
    let proved = verdict_but_for_the_address(cluster, Some(&freeze))?;
    // What the usual judge would call harm, two holders of the address, is looked at here.
    cluster.judged = true;
    let (believed, refused) = tried?;
    let ms = believed.as_ms();
    Ok(format!("woken, it believed for {ms} ms in its lease; {refused} writes refused; {proved}"))
}
