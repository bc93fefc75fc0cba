//! Every timer with its formula, for `backstay check` to print: an operator sets a profile, and
//! sees here what follows from it.

use model::{Profile, Span};
use serde::Serialize;

use crate::rto::{Allowance, words};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimerRow {
    /// Its name.
    pub name: &'static str,
    /// Its letter in the design, if it has one.
    pub letter: &'static str,
    /// Its value in nanoseconds.
    pub ns: u64,
    /// What it follows from.
    pub formula: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

/// The timers of a profile.
#[must_use]
pub fn table(profile: Profile) -> Vec<TimerRow> {
    let timers = profile.timers();
    let allowance = Allowance::of(profile);
    let row = |name, letter, span: Span, formula, meaning| TimerRow {
        name,
        letter,
        ns: span.0,
        formula,
        meaning,
    };
    let drift = timers.lease.stretched(timers.drift_ppm) - timers.lease;
    vec![
        row("heartbeat", "h", timers.heartbeat, "profile", "a datagram on every link"),
        row("lease", "L", timers.lease, "profile", "the right to be active, unless renewed"),
        row("stopping", "k", timers.stopping, "profile", "the guard stops instances this early"),
        row("promise", "P", timers.promise, "L / 2", "voters elect no other meanwhile"),
        row("grace", "G", timers.grace, "L - P", "an election must fit into it"),
        row("drift", "ρ·L", drift, "0.1 % of L", "how far two clocks part during a lease"),
        row("barrier", "", timers.barrier_every, "L", "proof that disk and quorum still work"),
        row("barrier limit", "", timers.barrier_limit, "4 L", "without it, heartbeats stop"),
        row("stall limit", "", timers.stall_limit, "P / 2", "a longer stall stops heartbeats"),
        row("back-off", "", timers.back_off, "2 L", "no candidate after stepping down"),
        row("round trip", "", allowance.round_trip, "allowance", "what a budget allows for one"),
        row("fsync", "", allowance.fsync, "allowance", "what a budget allows for one"),
        row("election", "", allowance.election(&timers), "3 h + 2 (trip + fsync)", "budgeted"),
        row("commit", "", allowance.commit(), "trip + fsync", "budgeted"),
    ]
}

/// The table as text, one timer a line.
#[must_use]
pub fn render(profile: Profile) -> String {
    let mut out = format!("timers of profile \"{profile}\"\n");
    for row in table(profile) {
        let line = format!(
            "  {:<14}{:<5}{:>9}   {:<24}{}",
            row.name,
            row.letter,
            words(Span(row.ns)),
            row.formula,
            row.meaning
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_fits_into_the_grace_of_every_profile_as_the_design_demands() {
        for profile in Profile::ALL {
            let (timers, allowance) = (profile.timers(), Allowance::of(profile));
            let drift = timers.lease.stretched(timers.drift_ppm) - timers.lease;
            let needed =
                allowance.election(&timers) + allowance.round_trip + timers.stopping + drift;
            assert!(needed <= timers.grace, "{profile}: {needed} > {}", timers.grace);
            assert!(render(profile).lines().all(|line| line.chars().count() <= 100));
        }
    }
}
