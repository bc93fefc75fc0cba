//! A failing seed is reduced to the fewest disturbances that still break the same rule.

use brain::plant::Plant;
use sim::{Class, Request, run, shrink};

/// Runs that the search may take here.
const RUNS_MAX: u32 = 60;

#[test]
fn a_failing_seed_is_reduced_to_what_it_takes() {
    let class = Some(Class::Swarm);
    let request = Request { class, plant: Some(Plant::StuckForgotten), ..Request::default() };
    let broken =
        |request: &Request| (0..200).find(|s| run(*s, request.clone()).violation.is_some());
    let seed = broken(&request).expect("a planted bug is caught");
    let whole = run(seed, request.clone());
    let (least, replay) = shrink(seed, &request, RUNS_MAX).expect("it fails");
    assert!(least.disturbances.len() < whole.disturbances.len() / 2, "{:?}", least.disturbances);
    let stuck = |(_, what): &(u32, String)| what.starts_with("stuck");
    assert!(least.disturbances.iter().any(stuck), "{:?}", least.disturbances);
    let again = run(seed, replay);
    let rule = |outcome: &sim::Outcome| outcome.violation.as_ref().map(|(v, at)| (v.rule, *at));
    assert_eq!(rule(&again), rule(&least), "the reduced form replays");
    assert_eq!(again.hash, least.hash);
    assert_eq!(rule(&again).map(|r| r.0), rule(&whole).map(|r| r.0), "and breaks the same rule");
}

#[test]
fn a_sound_seed_is_not_shrunk() {
    assert!(shrink(0, &Request::default(), RUNS_MAX).is_none());
}

#[test]
fn without_disturbances_nothing_happens_that_was_not_asked_for() {
    let only = Some(std::collections::BTreeSet::new());
    let calm = run(1, Request { class: Some(Class::Swarm), only, ..Request::default() });
    assert!(calm.violation.is_none() && calm.disturbances.is_empty());
}
