//! Every path of three voters within a bound keeps the rules, and a broken rule is found.

use brain::plant::Plant;
use sim::search::{Bound, search};

const BOUND: Bound = Bound { ticks: 14, disturbances: 2, elections: 1 };

#[test]
fn every_path_within_the_bound_keeps_the_rules() {
    let searched = search(None, BOUND);
    assert!(searched.broken.is_none(), "{:?}", searched.broken);
    assert!(searched.steps > 10_000 && searched.takeovers > 100, "{searched:?}");
}

fn finds(plant: Plant) {
    let (violation, path) = search(Some(plant), BOUND).broken.expect("a planted bug is found");
    println!("{plant:?}: {} {}\n{}", violation.rule, violation.what, path.join("\n"));
}

#[test]
fn a_vote_before_the_promise_ends_is_found() {
    finds(Plant::VoteBeforePromiseEnds);
}

#[test]
fn a_promise_kept_for_half_its_time_is_found() {
    finds(Plant::PromiseHalved);
}

#[test]
fn a_successor_that_does_not_wait_is_found() {
    finds(Plant::SuccessorDoesNotWait);
}

#[test]
fn a_lease_without_bound_is_found() {
    finds(Plant::LeaseUnbounded);
}

#[test]
fn a_takeover_before_the_last_grant_has_passed_is_found() {
    finds(Plant::TakeoverBeforeLapse);
}

#[test]
fn authority_without_a_quorum_is_found() {
    finds(Plant::AuthorityOfOne);
}

#[test]
fn authority_beyond_the_promises_is_found() {
    finds(Plant::AuthorityDoubled);
}
