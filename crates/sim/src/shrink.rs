//! What disturbs a run, numbered, and the search for the fewest of it that still break a rule.
//!
//! Every disturbance (a fault, an operator's command) draws from dice of its own, made of the
//! seed and its number. So one can be left out without changing what the others are; when they
//! meet the cluster changes, of course, and that is what the search tries.

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::rng::Rng;
use crate::run::{Outcome, Request, run};
use crate::world::World;

/// Disturbances that wait for a moment in a run (a transfer, an absence) count from here.
const BETWEEN: u32 = 1_000_000;
/// Runs that a search may take.
pub const SHRINK_RUNS_MAX: u32 = 300;

/// The disturbances of a run.
#[derive(Debug, Clone, Default)]
pub struct Disturbances {
    /// Those that may happen; all where there is no list.
    only: Option<BTreeSet<u32>>,
    next: u32,
    between: u32,
    happened: Vec<(u32, String)>,
}

impl Disturbances {
    /// Those of a list, or all.
    #[must_use]
    pub fn only(only: Option<BTreeSet<u32>>) -> Disturbances {
        Disturbances { only, ..Disturbances::default() }
    }

    /// What happened, with its number.
    #[must_use]
    pub fn happened(&self) -> &[(u32, String)] {
        &self.happened
    }
}

impl World {
    /// Lets the next disturbance of the schedule act, with dice of its own.
    pub(crate) fn disturb(&mut self, act: impl FnOnce(&mut World, u32)) {
        let number = self.disturbances.next;
        self.disturbances.next += 1;
        self.with_dice(number, act);
    }

    /// The same for one that a moment of the run brings.
    pub(crate) fn disturb_in_between(&mut self, act: impl FnOnce(&mut World, u32)) {
        let number = BETWEEN + self.disturbances.between;
        self.disturbances.between += 1;
        self.with_dice(number, act);
    }

    fn with_dice(&mut self, number: u32, act: impl FnOnce(&mut World, u32)) {
        let dice = dice(&self.plan, number);
        let shared = std::mem::replace(&mut self.rng, dice);
        act(self, number);
        self.rng = shared;
    }

    /// Whether a disturbance may happen; noted where it may.
    pub(crate) fn is_allowed(&mut self, number: u32, what: impl FnOnce() -> String) -> bool {
        let all = &mut self.disturbances;
        let allowed = all.only.as_ref().is_none_or(|only| only.contains(&number));
        if allowed {
            all.happened.push((number, what()));
        }
        allowed
    }
}

fn dice(plan: &Plan, number: u32) -> Rng {
    Rng::new(plan.seed.rotate_left(32) ^ (u64::from(number) + 1))
}

/// Runs a failing seed again and again with less of what disturbed it, at most `runs_max` times.
/// Returns the shortest run that breaks the same rule, and the request that makes it; `None`
/// where the request breaks none.
#[must_use]
pub fn shrink(seed: u64, request: &Request, runs_max: u32) -> Option<(Outcome, Request)> {
    let breaks = |numbers: &[u32]| {
        let only = Some(numbers.iter().copied().collect());
        let request = Request { only, traced: false, printed: false, ..request.clone() };
        let outcome = run(seed, request);
        let rule = outcome.violation.as_ref().map(|(violation, _)| violation.rule);
        rule.map(|rule| (rule, outcome))
    };
    let whole = run(seed, Request { traced: false, printed: false, ..request.clone() });
    let rule = whole.violation.as_ref()?.0.rule;
    let mut kept = numbers(&whole);
    let mut best = whole;
    let (mut runs, mut chunk) = (0, kept.len());
    while chunk > 0 {
        let (mut at, mut fewer) = (0, false);
        while at < kept.len() && runs < runs_max {
            let mut tried = kept.clone();
            tried.drain(at..(at + chunk).min(kept.len()));
            runs += 1;
            match breaks(&tried).filter(|(broken, _)| *broken == rule) {
                Some((_, outcome)) => {
                    kept = numbers(&outcome);
                    best = outcome;
                    fewer = true;
                }
                None => at += chunk,
            }
        }
        // At one at a time, until nothing can be left out any more.
        chunk = if chunk > 1 { chunk.div_ceil(2) } else { usize::from(fewer) };
        if runs >= runs_max {
            break;
        }
    }
    let only = Some(kept.into_iter().collect());
    Some((best, Request { only, ..request.clone() }))
}

fn numbers(outcome: &Outcome) -> Vec<u32> {
    outcome.disturbances.iter().map(|(number, _)| *number).collect()
}
