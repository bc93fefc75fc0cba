//! Bugs planted rule by rule: each breaks one sentence of the design, and has to be caught.

use brain::plant::Plant;
use sim::fault::Fault;

use crate::plants::{check, check_under};

#[test]
fn a_promise_kept_for_half_its_time_is_caught() {
    check(Plant::PromiseHalved, &["promise", "authority"]);
}

#[test]
fn a_promise_given_before_it_is_recorded_is_caught() {
    check(Plant::PromiseNotRecorded, &["promise", "authority"]);
}

#[test]
fn a_voter_that_stands_while_it_is_bound_is_caught() {
    check(Plant::StandsWhileBound, &["promise", "authority"]);
}

#[test]
fn a_renounce_entry_that_frees_for_ever_is_caught() {
    check(Plant::ProofOfAnyTerm, &["promise", "authority", "succession"]);
}

#[test]
fn authority_beyond_the_promises_is_caught() {
    check(Plant::AuthorityDoubled, &["authority"]);
}

#[test]
fn authority_without_a_quorum_is_caught() {
    check(Plant::AuthorityOfOne, &["authority"]);
}

#[test]
fn a_witness_that_solicits_promises_is_caught() {
    check(Plant::WitnessSolicits, &["witness"]);
}

#[test]
fn an_activation_without_a_guard_is_caught() {
    check(Plant::UnguardedActivation, &["lease"]);
}

#[test]
fn a_guard_that_begins_when_the_lease_has_ended_is_caught() {
    check(Plant::GuardLate, &["lease"]);
}

#[test]
fn a_transfer_that_waits_for_the_grace_alone_is_caught() {
    check(Plant::TransferWaitsGrace, &["succession"]);
}

#[test]
fn a_grant_that_is_not_counted_is_caught() {
    check(Plant::GrantNotCounted, &["lease", "takeover", "S2"]);
}

#[test]
fn a_grant_counted_without_drift_is_caught() {
    check(Plant::GrantWithoutDrift, &["lease", "takeover"]);
}

#[test]
fn a_takeover_before_the_last_grant_has_passed_is_caught() {
    check(Plant::TakeoverBeforeLapse, &["takeover", "S2"]);
}

#[test]
fn a_takeover_that_bars_nobody_is_caught() {
    check(Plant::TakeoverWithoutBar, &["takeover", "S2", "lease"]);
}

#[test]
fn a_barred_node_that_is_granted_again_is_caught() {
    check(Plant::UnbarredAtOnce, &["takeover", "S2", "lease"]);
}

#[test]
fn evidence_for_another_resource_is_caught() {
    check(Plant::EvidenceOfAnotherResource, &["evidence"]);
}

#[test]
fn evidence_before_the_stop_is_caught() {
    check(Plant::EvidenceBeforeStop, &["evidence", "S2"]);
}

#[test]
fn a_longer_lease_that_nobody_waits_for_is_caught() {
    check(Plant::AbsenceUncounted, &["takeover", "S2", "lease", "absence"]);
}

#[test]
fn a_longer_lease_that_counts_from_its_commit_is_caught() {
    check(Plant::AbsenceFromCommit, &["absence", "takeover", "S2"]);
}

#[test]
fn epochs_of_each_resource_alone_are_caught() {
    check(Plant::EpochPerResource, &["epochs"]);
}

#[test]
fn a_voter_that_goes_on_without_its_disk_is_caught() {
    check(Plant::LostDiskKeepsVote, &["S3", "S4", "promise"]);
}

#[test]
fn a_failed_sync_reported_as_written_is_caught() {
    check_under(
        &[Fault::SyncError, Fault::PowerLoss, Fault::NodeCrash, Fault::AgentCrash],
        Plant::FailedSyncReported,
        &["S3", "S4"],
    );
}

#[test]
fn states_that_differ_between_nodes_are_caught() {
    check(Plant::StatesDiffer, &["S3"]);
}

#[test]
fn a_companion_promoted_before_what_it_runs_with_is_caught() {
    check(Plant::CompanionFirst, &["with"]);
}

#[test]
fn a_companion_that_is_left_behind_is_caught() {
    check(Plant::CompanionLeft, &["with"]);
}

#[test]
fn starts_without_a_pause_are_caught() {
    check_under(&[Fault::DescriptorsGone], Plant::StartRetriedAtOnce, &["L3"]);
}
