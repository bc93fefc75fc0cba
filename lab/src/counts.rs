//! What must happen so often or never: hosts that hold the address at once in many partitions,
//! services elsewhere that a coordinator's death disturbs.

use drivers::sys::now;
use model::Span;
use serde::Serialize;

use crate::bench::{median, write_json};
use crate::cases::links::partitions;
use crate::cases::lost::apart;
use crate::cluster::{Cluster, Setup};
use crate::judge::{outage, verdict};
use crate::shell::Done;
use crate::watch::most_at_once;

/// A count, and what it has to be.
#[derive(Debug, Serialize)]
struct Figures {
    what: &'static str,
    profile: String,
    rounds: usize,
    count: usize,
    goal: usize,
    met: bool,
    /// Longest pause of the client in each round, in milliseconds: median and longest.
    median_ms: f64,
    max_ms: f64,
    all_ms: Vec<f64>,
}

impl Figures {
    fn new(
        what: &'static str,
        setup: &Setup,
        (count, goal): (usize, usize),
        pauses: &[Span],
    ) -> Figures {
        let all_ms: Vec<f64> = pauses.iter().map(|span| span.as_ms_f64()).collect();
        Figures {
            what,
            profile: setup.profile.clone(),
            rounds: pauses.len(),
            count,
            goal,
            met: count == goal,
            median_ms: median(all_ms.clone()),
            max_ms: all_ms.iter().copied().fold(0.0, f64::max),
            all_ms,
        }
    }

    fn show(&self, json: Option<&str>) -> Done<bool> {
        let met = if self.met { "met" } else { "MISSED" };
        println!("profile {}, {} rounds", self.profile, self.rounds);
        println!("{:<46}{:>7}{:>7}{:>8}", "", "count", "goal", "");
        println!("{:<46}{:>7}{:>7}{met:>8}", self.what, self.count, self.goal);
        println!(
            "longest pause of a round, ms: median {:.1}, longest {:.1}",
            self.median_ms, self.max_ms
        );
        write_json(json, &[self])?;
        Ok(self.met)
    }
}

/// One cluster, so many partitions one after the other.
pub(crate) fn holders(setup: &Setup, rounds: usize, json: Option<&str>) -> Done<bool> {
    let mut cluster = Cluster::start(setup)?;
    let pauses = partitions(&mut cluster, rounds)?;
    let (most, shared) = most_at_once(&cluster.holdings()?);
    if most > 1 {
        println!("{most} hosts held it at once, for {} ms in all", shared.as_ms());
    } else {
        println!("{}", verdict(&mut cluster)?);
    }
    Figures::new("hosts holding the address at once", setup, (most, 1), &pauses).show(json)
}

/// One cluster, whose coordinator loses power again and again, while the service runs elsewhere.
pub(crate) fn disturbed(setup: &Setup, rounds: usize, json: Option<&str>) -> Done<bool> {
    let mut cluster = Cluster::start(setup)?;
    let (mut pauses, mut disturbed) = (Vec::new(), 0);
    for _ in 0..rounds {
        let (coordinator, active) = apart(&cluster)?;
        let fault = now();
        cluster.power_off(coordinator)?;
        let scene = cluster.until_scene("another coordinator", |s| s.coordinator != coordinator)?;
        cluster.until_served()?;
        pauses.push(outage(&cluster, fault));
        let moved = scene.active != active || cluster.times_up(fault)? != 1;
        disturbed += usize::from(moved);
        cluster.reboot(coordinator)?;
        cluster.until_whole()?;
    }
    println!("{}", verdict(&mut cluster)?);
    let what = "services elsewhere disturbed by its death";
    Figures::new(what, setup, (disturbed, 0), &pauses).show(json)
}
