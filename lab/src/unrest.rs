//! `false-failover`: machines and links that are bad, but not dead, must not move anything; and a
//! node that dies in the midst of it must still be replaced in time.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use config::lapse::{lapses_within, slot_loss, slots, window_chance};
use drivers::lease::LeasePage;
use drivers::run_dir::RunDir;
use drivers::sys::now;
use model::{Profile, Span};
use serde::Serialize;
use serde_json::Value;

use crate::cases::lost::apart;
use crate::cluster::{Cluster, NODES, Setup};
use crate::judge::{outage, verdict};
use crate::network::{Flaw, LINKS};
use crate::shell::Done;

/// Heartbeats lost of a hundred.
const LOST_PERCENT: u8 = 30;
/// Processes that do nothing but use a core, on two cores.
const SPINNERS: usize = 4;
/// The node is killed when this is left.
const LAST: Duration = Duration::from_secs(60);
/// A time too short for a minute at its end is for trying it out.
const LEAST: Duration = Duration::from_secs(120);

/// What is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unrest {
    Processors,
    Loss,
    LinkAndLoss,
}

const ALL: [(Unrest, &str); 3] = [
    (Unrest::Processors, "cores overloaded"),
    (Unrest::Loss, "30 % loss on all links"),
    (Unrest::LinkAndLoss, "one link dead, 30 % on the other"),
];

/// What a time under unrest showed.
#[derive(Debug, Serialize)]
struct Figures {
    unrest: String,
    minutes: f64,
    /// Moves of the service before the kill.
    failovers: u64,
    /// Leases that lapsed on the three nodes before the kill.
    lapses: u64,
    /// Lapses to be expected of independent losses, over the same time.
    computed_lapses: f64,
    /// Heartbeats that did not arrive: proof that the fault was felt.
    lost: u64,
    /// Outage of the real kill, in milliseconds.
    kill_outage_ms: f64,
}

/// Plays all, so many minutes each.
pub(crate) fn run(
    setup: &Setup,
    minutes: u64,
    only: Option<&str>,
    json: Option<&str>,
) -> Done<bool> {
    let (mut table, mut fine) = (Vec::new(), true);
    println!("profile {}, {minutes} min each, a node killed in the last minute", setup.profile);
    println!(
        "{:<34}{:>10}{:>8}{:>10}{:>9}{:>12}",
        "", "failovers", "lapses", "computed", "lost", "kill, ms"
    );
    for (unrest, name) in ALL.iter().filter(|(_, name)| only.is_none_or(|w| name.contains(w))) {
        let figures = play(setup, *unrest, name, Duration::from_secs(minutes * 60))?;
        println!(
            "{:<34}{:>10}{:>8}{:>10.2}{:>9}{:>12.1}",
            figures.unrest,
            figures.failovers,
            figures.lapses,
            figures.computed_lapses,
            figures.lost,
            figures.kill_outage_ms
        );
        fine &= figures.failovers == 0;
        table.push(figures);
    }
    crate::bench::write_json(json, &table)?;
    Ok(fine)
}

fn play(setup: &Setup, unrest: Unrest, name: &str, time: Duration) -> Done<Figures> {
    let mut cluster = Cluster::start(setup)?;
    // The node that will be killed is not the coordinator, which would be another row.
    let (_, active) = apart(&cluster)?;
    let (epoch, lapses) = (epoch(&cluster)?, lapses(&cluster)?);
    let begun = Instant::now();
    let spinners = begin(&mut cluster, unrest)?;
    let quiet = if time >= LEAST { time - LAST } else { time / 2 };
    std::thread::sleep(quiet);
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let moved = self::epoch(&cluster)? - epoch;
    let lapsed = self::lapses(&cluster)? - lapses;
    let active = if moved == 0 { active } else { cluster.until_whole()?.active };
    let fault = now();
    cluster.power_off(active)?;
    cluster.until_scene("the service elsewhere", |scene| scene.active != active)?;
    cluster.until_served()?;
    let kill_outage_ms = outage(&cluster, fault).as_ms_f64();
    drop(spinners);
    let lost = cluster.network.dropped()?;
    cluster.network.heal()?;
    cluster.reboot(active)?;
    cluster.until_whole()?;
    verdict(&mut cluster).map_err(|why| format!("{name}: {why}"))?;
    let profile = setup.profile.parse().map_err(|_| "an unknown profile")?;
    let computed_lapses = computed_a_minute(profile, unrest) * minutes * NODES.len() as f64;
    let unrest = name.to_owned();
    Ok(Figures {
        unrest,
        minutes,
        failovers: moved,
        lapses: lapsed,
        computed_lapses,
        lost,
        kill_outage_ms,
    })
}

/// Lapses of one node's lease in a minute, were losses all there is.
fn computed_a_minute(profile: Profile, unrest: Unrest) -> f64 {
    let share = f64::from(LOST_PERCENT) / 100.0;
    let loss = match unrest {
        Unrest::Processors => return 0.0,
        Unrest::Loss => slot_loss(&[share; LINKS]),
        Unrest::LinkAndLoss => slot_loss(&[share]),
    };
    let t = profile.timers();
    let chance = window_chance(loss, slots(t.lease - t.stopping, Span::ZERO, t.heartbeat));
    lapses_within(60.0, t.heartbeat, chance, loss)
}

/// What goes on as long as it lives.
struct Spinners(Vec<Child>);

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // They are ours, and nothing waits for them but this.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn begin(cluster: &mut Cluster, unrest: Unrest) -> Done<Spinners> {
    let mut spinners = Spinners(Vec::new());
    if unrest == Unrest::Processors {
        for _ in 0..SPINNERS {
            let mut command = Command::new("sh");
            let spin = command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            spinners.0.push(spin.spawn().map_err(|e| e.to_string())?);
        }
        return Ok(spinners);
    }
    let pairs = NODES.iter().flat_map(|a| NODES.iter().map(move |b| (*a, *b)));
    let pairs: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
    let lossy = pairs.iter().map(|(a, b)| Flaw {
        lost_percent: LOST_PERCENT,
        heartbeats_only: true,
        ..Flaw::cut(a, b)
    });
    let dead = pairs.iter().filter(|_| unrest == Unrest::LinkAndLoss);
    // The second: the address and the client are on the first.
    let dead = dead.map(|(a, b)| Flaw { link: Some(LINKS - 1), ..Flaw::cut(a, b) });
    let flaws: Vec<Flaw> = lossy.chain(dead).collect();
    cluster.network.add(flaws)?;
    Ok(spinners)
}

/// The counter of the service's epoch: it rises with every move.
fn epoch(cluster: &Cluster) -> Done<u64> {
    let status = (0..NODES.len()).find_map(|node| cluster.status(node)).ok_or("no status")?;
    let resources = status["resources"].as_array().ok_or("no resources")?;
    let orders = resources.iter().find(|r| r["name"] == "orders").ok_or("no service")?;
    counter(&orders["epoch"]).ok_or_else(|| format!("no epoch in {orders}"))
}

fn counter(epoch: &Value) -> Option<u64> {
    epoch["counter"].as_u64().or_else(|| epoch.as_str()?.rsplit('.').next()?.parse().ok())
}

/// Leases that have lapsed on all nodes: each new one has a new number in the lease page.
fn lapses(cluster: &Cluster) -> Done<u64> {
    let of = |node| {
        let run = RunDir::new(cluster.of(node, "run"));
        LeasePage::open(&run.lease_page())
            .map(|page| page.lease_number())
            .map_err(|e| e.to_string())
    };
    (0..NODES.len()).map(of).sum()
}
