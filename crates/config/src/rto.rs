//! How long a resource is away after a failure, as a sum whose parts an operator can check. Each
//! part is an upper bound of DESIGN.md, "Time, leases, epochs", with allowances for the network
//! and the disk where nothing was measured.

use model::spec::{ClusterSpec, Promote, ResourceSpec, Standby};
use model::{Profile, Span, Timers};
use serde::Serialize;

/// What a budget allows for the network and the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// A datagram there and its answer back.
    pub round_trip: Span,
    /// Making a log entry durable.
    pub fsync: Span,
}

impl Allowance {
    /// What the environment that a profile is for most often keeps.
    #[must_use]
    pub const fn of(profile: Profile) -> Allowance {
        let (round_trip_ms, fsync_ms) = match profile {
            Profile::Fast => (1, 4),
            Profile::Lan => (2, 20),
            Profile::Cloud => (10, 50),
            Profile::Wan => (150, 50),
        };
        Allowance { round_trip: Span::from_ms(round_trip_ms), fsync: Span::from_ms(fsync_ms) }
    }

    /// An election: candidates wait up to three heartbeats so as not to collide, then pre-vote
    /// and vote take a round trip each, with a durable write before each answer that counts.
    #[must_use]
    pub fn election(&self, timers: &Timers) -> Span {
        timers.heartbeat * 3 + (self.round_trip + self.fsync) * 2
    }

    /// A commit: the entry goes out while it is written here, and comes back written there.
    #[must_use]
    pub fn commit(&self) -> Span {
        self.round_trip + self.fsync
    }
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The active instance's process exits.
    ProcessKilled,
    /// The active instance runs on but its health checks fail.
    ProcessHung,
    /// The node of the active instance is gone.
    NodeLost,
    /// That node, being the coordinator too.
    CoordinatorLost,
}

impl Failure {
    /// All of them, the quickest to recover first.
    pub const ALL: [Failure; 4] =
        [Failure::ProcessKilled, Failure::ProcessHung, Failure::NodeLost, Failure::CoordinatorLost];

    /// As words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::ProcessKilled => "process killed",
            Failure::ProcessHung => "process hung",
            Failure::NodeLost => "node lost",
            Failure::CoordinatorLost => "node lost that is also coordinator",
        }
    }
}

/// One part of a sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What happens in it.
    pub what: &'static str,
    /// What it follows from.
    pub formula: String,
    /// How long it takes at most.
    pub span: Span,
}

/// The cluster's part of a recovery, and what the resource itself does after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// What fails.
    pub failure: Failure,
    /// The cluster's part.
    pub steps: Vec<Step>,
    /// What the resource still has to do: `start`, `promote`, or stop first.
    pub rest: &'static str,
    /// How long the specification lets it take.
    pub rest_limit: Span,
}

impl Budget {
    /// The cluster's part in all.
    #[must_use]
    pub fn total(&self) -> Span {
        self.steps.iter().fold(Span::ZERO, |sum, step| sum + step.span)
    }

    /// `lease 500.5 ms + decide 20 ms + … = 573 ms`.
    #[must_use]
    pub fn sum(&self) -> String {
        let part = |step: &Step| format!("{} {}", step.what, words(step.span));
        let parts: Vec<String> = self.steps.iter().map(part).collect();
        format!("{} = {}", parts.join(" + "), words(self.total()))
    }
}

/// A span in milliseconds, with a decimal only where it has one.
#[must_use]
pub(crate) fn words(span: Span) -> String {
    let tenths = span.0.div_ceil(100_000);
    match tenths % 10 {
        0 => format!("{} ms", tenths / 10),
        tenth => format!("{}.{tenth} ms", tenths / 10),
    }
}

/// The budgets of a resource, one for each failure that applies to it.
#[must_use]
pub fn budgets(spec: &ClusterSpec, resource: &ResourceSpec, allowance: Allowance) -> Vec<Budget> {
    let timers = spec.timers();
    let others = spec.nodes.iter().filter(|(name, node)| resource.allows(name, node)).count() > 1;
    let hot = resource.standby == Standby::Hot && others;
    Failure::ALL
        .into_iter()
        .filter(|failure| {
            others || matches!(failure, Failure::ProcessKilled | Failure::ProcessHung)
        })
        .filter_map(|failure| {
            let mut steps = detection(failure, resource, &timers, allowance)?;
            steps.extend(decision(&timers, allowance));
            let (rest, rest_limit) = rest(failure, resource, hot);
            Some(Budget { failure, steps, rest, rest_limit })
        })
        .collect()
}

fn step(what: &'static str, formula: impl Into<String>, span: Span) -> Step {
    Step { what, formula: formula.into(), span }
}

/// From the failure to the moment from which another may be active.
fn detection(
    failure: Failure,
    resource: &ResourceSpec,
    timers: &Timers,
    allowance: Allowance,
) -> Option<Vec<Step>> {
    let stretched = |span: Span| span.stretched(timers.drift_ppm);
    let half_trip = Span(allowance.round_trip.0 / 2);
    Some(match failure {
        Failure::ProcessKilled => vec![
            step("notice", "its exit is an event", Span::from_ms(1)),
            step("report", "half a round trip", half_trip),
        ],
        Failure::ProcessHung => {
            let check = resource.health.iter().min_by_key(|check| check.detect_ms())?;
            let formula =
                format!("{} ms × {} + {} ms", check.every_ms, check.failures, check.timeout_ms);
            vec![
                step("notice", formula, Span::from_ms(check.detect_ms())),
                step("report", "half a round trip", half_trip),
            ]
        }
        Failure::NodeLost => vec![
            step("lease", "L·(1+ρ)", stretched(timers.lease)),
            step("last grant's way", "half a round trip", half_trip),
        ],
        Failure::CoordinatorLost => vec![
            step("promise", "P·(1+ρ)", stretched(timers.promise)),
            step("election", "3 h + 2 (trip + fsync)", allowance.election(timers)),
            step("grace", "G·(1+ρ)", stretched(timers.grace)),
        ],
    })
}

/// From that moment to the instance's order to be active.
fn decision(timers: &Timers, allowance: Allowance) -> [Step; 3] {
    [
        step("decide", "h", timers.heartbeat),
        step("commit", "trip + fsync", allowance.commit()),
        step("hand out", "half a round trip", Span(allowance.round_trip.0 / 2)),
    ]
}

fn rest(failure: Failure, resource: &ResourceSpec, hot: bool) -> (&'static str, Span) {
    let process = resource.kind.program();
    let stop_first = failure == Failure::ProcessHung;
    let promotes = hot && process.promote == Promote::Socket;
    let ms = if promotes { process.promote_ms } else { process.start_ms };
    let stop_ms = if stop_first { process.stop_ms } else { 0 };
    let what = match (promotes, stop_first) {
        (true, false) => "promotion",
        (true, true) => "stop and promotion",
        (false, false) => "start",
        (false, true) => "stop and start",
    };
    (what, Span::from_ms(ms.saturating_add(stop_ms)))
}

/// The budgets of a resource as text: each part on a line, and what the target leaves.
#[must_use]
pub fn render(name: &str, resource: &ResourceSpec, budgets: &[Budget]) -> String {
    let target = resource.rto_ms.map(Span::from_ms);
    let mut out = match target {
        Some(target) => format!("recovery of \"{name}\", target {}\n", words(target)),
        None => format!("recovery of \"{name}\", no target\n"),
    };
    for budget in budgets {
        out += &format!("  {}\n", budget.failure.as_str());
        for step in &budget.steps {
            out += &format!("    {:<18}{:>10}   {}\n", step.what, words(step.span), step.formula);
        }
        let (total, limit) = (budget.total(), words(budget.rest_limit));
        out += &format!("    {:<18}{:>10}\n", "in all", words(total));
        let rest = match target {
            Some(target) if target <= total => "nothing is left".to_string(),
            Some(target) => words(target - total),
            None => "any time".to_string(),
        };
        out += &format!("    for {:<14}{rest:>10}   its limit is {limit}\n", budget.rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_in_milliseconds_rounded_up() {
        for (ns, text) in [(5_000_000, "5 ms"), (500_500_000, "500.5 ms"), (1, "0.1 ms")] {
            assert_eq!(words(Span(ns)), text);
        }
    }
}
