//! What `backstay init` measured of the machines, and what follows from it for the profile. The
//! file is TOML, so that an operator can read it; `check --measurement FILE` reads it back.

use std::path::Path;

use model::{Profile, Span};
use serde::{Deserialize, Serialize};

use crate::lapse;
use crate::load::TEXT_BYTES_MAX;
use crate::rto::Allowance;

/// The version of the file's form.
pub const MEASUREMENT_VERSION: u32 = 1;
/// A profile under which leases lapse more often than this with nothing wrong is refused.
pub const LAPSES_PER_YEAR_MAX: f64 = 1.0;
/// Between [`LAPSES_PER_YEAR_MAX`] and this many a year, a warning tells the rate.
pub const LAPSES_PER_YEAR_NOTED: f64 = 0.01;

/// A measurement of a set of machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// [`MEASUREMENT_VERSION`].
    pub version: u32,
    /// How long was measured, in seconds.
    pub seconds: u64,
    /// The cluster it was measured for; empty where that is not known.
    #[serde(default)]
    pub cluster: String,
    /// Nodes that did not answer: neither their machine nor the links to them are known.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// The network, link by link; of several pairs of nodes the worst counts.
    #[serde(default)]
    pub links: Vec<LinkMeasurement>,
    /// The machines.
    pub nodes: Vec<NodeMeasurement>,
}

/// One link between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkMeasurement {
    /// Which link it is, from 0, as in the order of `links`.
    pub link: usize,
    /// From this node.
    pub from: String,
    /// To that node.
    pub to: String,
    /// Datagrams that never came, of a hundred.
    pub loss_percent: f64,
    /// Round trip that 99.9 % stay below, in milliseconds.
    pub late_p999_ms: f64,
    /// Longest time without any datagram, in milliseconds: losses that came together.
    pub silence_max_ms: f64,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeMeasurement {
    /// Its name.
    pub name: String,
    /// Longest time that the measuring thread was not run, in milliseconds.
    pub stall_max_ms: f64,
    /// Fsync that 99 % stay below, in milliseconds.
    pub fsync_p99_ms: f64,
    /// Slowest fsync, in milliseconds.
    pub fsync_max_ms: f64,
    /// Real-time priority was granted.
    pub realtime: bool,
}

/// Why a measurement can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MeasurementError {
    /// The file can't be read.
    #[error("can't read the measurement {path}: check the path, or measure with `backstay init`")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not a measurement.
    #[error("{path} is not a measurement of this version: {reason}; run `backstay init` again")]
    Form {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Measurement {
    /// Reads a measurement.
    ///
    /// # Errors
    /// Where the file can't be read, is no measurement, or has numbers that none can have.
    pub fn load(path: &Path) -> Result<Measurement, MeasurementError> {
        let name = path.display().to_string();
        let form = |reason: String| MeasurementError::Form { path: name.clone(), reason };
        let bytes = std::fs::read(path)
            .map_err(|source| MeasurementError::Read { path: name.clone(), source })?;
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(form(format!("it is larger than {TEXT_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| form("it is not text".to_string()))?;
        Measurement::parse(&text).map_err(form)
    }

    /// Reads a measurement from its text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Measurement, String> {
        let found: Measurement =
            toml::from_str(text).map_err(|error| error.message().to_string())?;
        if found.version != MEASUREMENT_VERSION {
            return Err(format!("version {} instead of {MEASUREMENT_VERSION}", found.version));
        }
        let links =
            found.links.iter().flat_map(|l| [l.loss_percent, l.late_p999_ms, l.silence_max_ms]);
        let nodes =
            found.nodes.iter().flat_map(|n| [n.stall_max_ms, n.fsync_p99_ms, n.fsync_max_ms]);
        if links.chain(nodes).any(|number| !number.is_finite() || number < 0.0) {
            return Err("a number is negative or no number".to_string());
        }
        if found.links.iter().any(|link| link.loss_percent > 100.0) {
            return Err("a loss of more than 100 %".to_string());
        }
        if found.nodes.is_empty() {
            return Err("it has no nodes".to_string());
        }
        Ok(found)
    }

    /// The measurement as the text of its file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // A struct of numbers, texts and lists always has a TOML form.
        toml::to_string(self).unwrap_or_default()
    }

    /// The share of datagrams lost on each link: of the pairs that use it, the worst.
    #[must_use]
    pub fn loss_by_link(&self) -> Vec<f64> {
        let mut worst: std::collections::BTreeMap<usize, f64> = std::collections::BTreeMap::new();
        for link in &self.links {
            let entry = worst.entry(link.link).or_default();
            *entry = entry.max(link.loss_percent / 100.0);
        }
        worst.into_values().collect()
    }

    /// The round trip that nearly all stay below, in milliseconds, on the quickest link: one that
    /// arrives suffices. None where no link was measured.
    #[must_use]
    pub fn late_ms(&self) -> Option<f64> {
        self.quickest(|link| link.late_p999_ms)
    }

    /// The longest silence on the link that was silent the least; none where none was measured.
    #[must_use]
    pub fn silence_ms(&self) -> Option<f64> {
        self.quickest(|link| link.silence_max_ms)
    }

    /// Over all pairs of a link the worst, over the links the best.
    fn quickest(&self, of: impl Fn(&LinkMeasurement) -> f64) -> Option<f64> {
        let mut worst: std::collections::BTreeMap<usize, f64> = std::collections::BTreeMap::new();
        for link in &self.links {
            let entry = worst.entry(link.link).or_default();
            *entry = entry.max(of(link));
        }
        worst.into_values().reduce(f64::min)
    }

    /// What a budget under that profile allows for with these machines: where no link was
    /// measured, the round trip is the profile's own allowance.
    #[must_use]
    pub fn allowance(&self, profile: Profile) -> Allowance {
        let fsync_ms = self.nodes.iter().map(|n| n.fsync_p99_ms).fold(0.0, f64::max);
        let round_trip = self.late_ms().map_or(Allowance::of(profile).round_trip, span);
        Allowance { round_trip, fsync: span(fsync_ms) }
    }

    /// What is missing for a judgement of a profile made for a site of one's own.
    #[must_use]
    pub fn gap(&self) -> Option<Problem> {
        if !self.unknown.is_empty() {
            let names: Vec<String> = self.unknown.iter().map(|n| format!("\"{n}\"")).collect();
            return Some(format!(
                "{} did not answer, so nothing is known of machine and links there",
                names.join(", ")
            ));
        }
        let none = self.links.is_empty();
        none.then(|| "no link was measured, so loss and round trip are not known".to_string())
    }
}

/// Milliseconds with a fraction as a span.
fn span(ms: f64) -> Span {
    Span((ms * 1e6).ceil() as u64)
}

/// One way in which a measurement breaks a profile, as a sentence.
pub type Problem = String;

/// What of a measurement breaks a profile; empty where it fits.
#[must_use]
pub fn problems(profile: Profile, measured: &Measurement, voters: usize) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    measured.nodes.iter().for_each(|node| machine(profile, node, &mut problems));
    network(profile, measured, voters, &mut problems);
    problems
}

/// What of one machine breaks a profile.
fn machine(profile: Profile, node: &NodeMeasurement, problems: &mut Vec<Problem>) {
    let timers = profile.timers();
    let (name, stall) = (&node.name, span(node.stall_max_ms));
    if stall >= timers.stopping {
        problems.push(format!(
            "\"{name}\" stood still for {stall}; the guard has k = {} to stop what a lease no \
             longer covers",
            timers.stopping
        ));
    }
    if span(node.fsync_max_ms) >= timers.barrier_limit {
        problems.push(format!(
            "an fsync of \"{name}\" took {}; after {} without a durable barrier, heartbeats stop",
            span(node.fsync_max_ms),
            timers.barrier_limit
        ));
    }
    if profile == Profile::Fast && !node.realtime {
        problems.push(format!("\"{name}\" was not granted real-time priority"));
    }
}

/// What of the network, and of disks and network together, breaks a profile.
fn network(profile: Profile, measured: &Measurement, voters: usize, problems: &mut Vec<Problem>) {
    let timers = profile.timers();
    let allowance = measured.allowance(profile);
    let drift = timers.lease.stretched(timers.drift_ppm) - timers.lease;
    let needed = allowance.election(&timers) + allowance.round_trip + timers.stopping + drift;
    if needed > timers.grace {
        problems.push(format!(
            "an election takes {} + round trip {} + k {} + drift {drift} = {needed}; the grace \
             G is {}",
            allowance.election(&timers),
            allowance.round_trip,
            timers.stopping,
            timers.grace
        ));
    }
    if let Some(silence) = measured.silence_ms().map(span)
        && silence >= timers.promise
    {
        problems.push(format!(
            "even the best link was silent for {silence}; the promise P is {}",
            timers.promise
        ));
    }
    if let Some(lapses) = lapse::expect(profile, measured, voters)
        && lapses.per_year() > LAPSES_PER_YEAR_MAX
    {
        problems.push(lapses.to_string());
    }
}

/// The fastest profile that the measurement bears, and why it is that one. Where a node did not
/// answer or no link was measured, it is none that is made for a site of one's own.
#[must_use]
pub fn pick_profile(measured: &Measurement, voters: usize) -> (Profile, String) {
    let mut against: Option<(Profile, Problem)> = None;
    for profile in Profile::ALL {
        let gap = measured.gap().filter(|_| profile < Profile::Cloud);
        let first = gap.or_else(|| problems(profile, measured, voters).into_iter().next());
        let Some(problem) = first else {
            let reason = match against {
                Some((faster, problem)) => format!("\"{faster}\" does not fit: {problem}"),
                None => "nothing measured stands against the fastest one".to_string(),
            };
            return (profile, reason);
        };
        against = Some((profile, problem));
    }
    let problem = against.map(|(_, problem)| problem).unwrap_or_default();
    (Profile::Wan, format!("no profile fits these machines, not even this one: {problem}"))
}
