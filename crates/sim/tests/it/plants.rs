//! Each planted bug breaks an invariant within 2,000 seeds; without it the same seed holds.

use brain::plant::Plant;
use sim::fault::Fault;
use sim::{Class, Request, run};

/// Seeds that a planted bug may survive at most.
const SEEDS_MAX: u64 = 2_000;

pub(crate) fn check(plant: Plant, rules: &[&str]) {
    check_in(Class::Swarm, plant, rules);
}

pub(crate) fn check_in(class: Class, plant: Plant, rules: &[&str]) {
    check_with(Request { class: Some(class), plant: Some(plant), ..Request::default() }, rules);
}

/// Where a bug takes what few seeds bring, the faults that it takes are given.
pub(crate) fn check_under(faults: &[Fault], plant: Plant, rules: &[&str]) {
    let (class, faults) = (Some(Class::Swarm), Some(faults.to_vec()));
    check_with(Request { class, plant: Some(plant), faults, ..Request::default() }, rules);
}

fn check_with(request: Request, rules: &[&str]) {
    // One that breaks liveness first is not caught yet: the rule it is about has to be broken.
    check_within(SEEDS_MAX, request, |rule| rules.contains(&rule));
}

/// The planted bug breaks a rule that counts before so many seeds have passed; the seed that
/// shows it holds without it.
pub(crate) fn check_within(seeds: u64, request: Request, counts: impl Fn(&str) -> bool) {
    check_from(0, seeds, request, counts);
}

/// The same from another seed on: where a search has found the one that shows it, the many before
/// it need not be run each time.
pub(crate) fn check_from(first: u64, seeds: u64, request: Request, counts: impl Fn(&str) -> bool) {
    let plant = request.plant.expect("a planted bug");
    for seed in first..first + seeds {
        let Some((violation, _)) = run(seed, request.clone()).violation else { continue };
        if !counts(violation.rule) {
            continue;
        }
        let sound = run(seed, Request { plant: None, ..request });
        assert!(sound.violation.is_none(), "seed {seed} fails without {plant:?} too");
        println!("{plant:?}: caught by seed {seed}, rule {}", violation.rule);
        return;
    }
    panic!("{plant:?} survived {seeds} seeds from {first}");
}

#[test]
fn a_vote_before_the_promise_ends_is_caught() {
    check(Plant::VoteBeforePromiseEnds, &["promise", "authority"]);
}

#[test]
fn a_promise_forgotten_by_a_restart_is_caught() {
    check(Plant::PromiseForgottenByRestart, &["promise", "authority"]);
}

#[test]
fn a_lease_counted_from_receipt_is_caught() {
    check(Plant::LeaseFromReceipt, &["lease", "takeover", "S2"]);
}

#[test]
fn a_lease_not_bounded_by_authority_and_grace_is_caught() {
    check(Plant::LeaseUnbounded, &["lease", "takeover", "S2"]);
}

#[test]
fn an_acknowledgement_to_a_barred_node_is_caught() {
    check(Plant::AckToBarred, &["lease", "takeover", "S2"]);
}

#[test]
fn an_epoch_that_is_not_raised_is_caught() {
    check(Plant::EpochNotRaised, &["epochs", "S1"]);
}

#[test]
fn a_relabelled_instance_is_caught() {
    check(Plant::EpochRelabelled, &["epochs", "evidence", "S1", "S2"]);
}

#[test]
fn evidence_of_an_older_epoch_is_caught() {
    check(Plant::EvidenceOfOlderEpoch, &["evidence", "S2"]);
}

#[test]
fn a_successor_that_does_not_wait_is_caught() {
    check(Plant::SuccessorDoesNotWait, &["succession", "takeover", "S2"]);
}

#[test]
fn an_acknowledgement_before_fsync_is_caught() {
    check(Plant::AckBeforeFsync, &["S3", "S4", "promise", "authority"]);
}

#[test]
fn a_longer_lease_honoured_before_its_commit_is_caught() {
    check(Plant::AbsenceBeforeCommit, &["absence", "takeover", "S2"]);
}

#[test]
fn a_transfer_without_renouncing_is_caught() {
    check(Plant::TransferWithoutRenounce, &["succession", "authority"]);
}

#[test]
fn a_takeover_from_an_instance_that_cannot_be_stopped_is_caught() {
    check(Plant::StuckForgotten, &["evidence"]);
}

#[test]
fn a_guard_that_takes_any_lease_for_its_own_is_caught() {
    check_under(&[Fault::NodePause], Plant::LeaseOfAnother, &["lease"]);
}

#[test]
fn a_new_generation_with_the_epochs_of_the_old_is_caught() {
    check_in(Class::Recovery, Plant::GenerationNotRaised, &["epochs", "S1"]);
}

#[test]
fn a_new_generation_that_does_not_wait_for_old_leases_is_caught() {
    check_in(Class::Recovery, Plant::WaitOutSkipped, &["S2", "takeover"]);
}

#[test]
fn an_old_majority_that_goes_on_beside_a_new_generation_is_caught() {
    check_in(Class::Recovery, Plant::SupersededGoesOn, &["S2", "authority"]);
}

#[test]
fn a_poisoned_resource_that_goes_back_against_an_order_is_caught() {
    let faults = [Fault::InstanceExit, Fault::Unhealthy];
    let (class, plant) = (Some(Class::Swarm), Some(Plant::PoisonOverOrders));
    let faults = Some(faults.to_vec());
    check_with(Request { class, plant, faults, busy: true, ..Request::default() }, &["L3"]);
}
