//! Bugs planted from the design alone, by somebody who had not read this simulator: any rule may
//! catch them.

use brain::plant::Plant;
use sim::fault::Fault;
use sim::{Class, Request};

use crate::plants::check_from;

/// Seeds that a planted bug may survive at most.
const SEEDS_MAX: u64 = 400;

fn check(plant: Plant) {
    check_with(0, Request { plant: Some(plant), ..Request::default() });
}

fn check_in(class: Class, plant: Plant) {
    check_in_from(0, class, plant);
}

fn check_in_from(first: u64, class: Class, plant: Plant) {
    check_with(first, Request { class: Some(class), plant: Some(plant), ..Request::default() });
}

/// Where a bug takes what few seeds bring, the faults that it takes are given.
fn check_under(faults: &[Fault], plant: Plant) {
    check_under_from(0, faults, plant);
}

fn check_under_from(first: u64, faults: &[Fault], plant: Plant) {
    let (class, faults) = (Some(Class::Swarm), Some(faults.to_vec()));
    check_with(
        first,
        Request { class, plant: Some(plant), faults, busy: true, ..Request::default() },
    );
}

fn check_with(first: u64, request: Request) {
    check_from(first, SEEDS_MAX, request, |_| true);
}

#[test]
fn absence_of_one_office_is_caught() {
    check(Plant::AbsenceOfOneOffice);
}

#[test]
fn answered_when_proposed_is_caught() {
    check(Plant::AnsweredWhenProposed);
}

#[test]
fn assignment_by_name_is_caught() {
    check(Plant::AssignmentByName);
}

#[test]
fn authority_from_receipt_is_caught() {
    check(Plant::AuthorityFromReceipt);
}

#[test]
fn barred_for_good_is_caught() {
    check(Plant::BarredForGood);
}

#[test]
fn beats_by_number_alone_is_caught() {
    check(Plant::BeatsByNumberAlone);
}

#[test]
fn fresh_from_forgotten_is_caught() {
    check(Plant::FreshFromForgotten);
}

#[test]
fn grant_from_our_sending_is_caught() {
    check(Plant::GrantFromOurSending);
}

#[test]
fn grant_shortened_is_caught() {
    check(Plant::GrantShortened);
}

#[test]
fn grants_of_earlier_office_is_caught() {
    check(Plant::GrantsOfEarlierOffice);
}

#[test]
fn held_resource_forgotten_is_caught() {
    check(Plant::HeldResourceForgotten);
}

#[test]
fn image_without_history_is_caught() {
    check(Plant::ImageWithoutHistory);
}

#[test]
fn last_epoch_forgotten_is_caught() {
    check(Plant::LastEpochForgotten);
}

#[test]
fn pending_outlives_office_is_caught() {
    check(Plant::PendingOutlivesOffice);
}

#[test]
fn speaks_without_authority_is_caught() {
    check(Plant::SpeaksWithoutAuthority);
}

#[test]
fn vote_for_promised_is_caught() {
    check(Plant::VoteForPromised);
}

#[test]
fn unready_forever_is_caught() {
    check(Plant::UnreadyForever);
}

#[test]
fn waits_out_present_lease_is_caught() {
    check_in(Class::Recovery, Plant::WaitsOutPresentLease);
}

#[test]
fn failback_never_regretted_is_caught() {
    check_in(Class::Flapping, Plant::FailbackNeverRegretted);
}

#[test]
fn written_one_ahead_is_caught() {
    check_under(&[Fault::PowerLoss, Fault::NodeCrash, Fault::SlowDisk], Plant::WrittenOneAhead);
}

#[test]
fn vote_not_recorded_is_caught() {
    check_under(
        &[Fault::NodeCrash, Fault::PowerLoss, Fault::AgentCrash, Fault::Isolation],
        Plant::VoteNotRecorded,
    );
}

#[test]
fn cluster_time_from_wall_is_caught() {
    check_under(
        &[Fault::WallJump, Fault::NodeCrash, Fault::InstanceExit, Fault::AgentCrash],
        Plant::ClusterTimeFromWall,
    );
}

#[test]
fn stranger_keeps_vote_is_caught() {
    check_under(&[Fault::LostDisk, Fault::NodeCrash], Plant::StrangerKeepsVote);
}

#[test]
fn stays_without_authority_is_caught() {
    check_under(
        &[Fault::DatagramsLost, Fault::SlowDisk, Fault::Isolation],
        Plant::StaysWithoutAuthority,
    );
}

#[test]
fn coordinator_grants_itself_is_caught() {
    check_in(Class::Minority, Plant::CoordinatorGrantsItself);
}

#[test]
fn grants_unconfirmed_is_caught() {
    check_in(Class::Minority, Plant::GrantsUnconfirmed);
}

#[test]
fn unready_restarted_is_caught() {
    check_in_from(115, Class::Minority, Plant::UnreadyRestarted);
}

#[test]
fn barrier_once_is_caught() {
    check_in_from(75, Class::Minority, Plant::BarrierOnce);
}

#[test]
fn learner_gives_no_promise_is_caught() {
    check_under(&[Fault::LostDisk, Fault::NodeCrash], Plant::LearnerGivesNoPromise);
}

#[test]
fn reports_by_number_alone_is_caught() {
    check_under_from(145, &[Fault::AgentCrash, Fault::InstanceExit], Plant::ReportsByNumberAlone);
}

#[test]
fn report_not_repeated_is_caught() {
    check_under(&[Fault::StreamCut, Fault::InstanceExit], Plant::ReportNotRepeated);
}

#[test]
fn failure_of_earlier_boot_is_caught() {
    check_under(&[Fault::AgentCrash, Fault::InstanceExit], Plant::FailureOfEarlierBoot);
}

#[test]
fn patience_unbounded_is_caught() {
    check_under(&[Fault::Blackout], Plant::PatienceUnbounded);
}

#[test]
fn burnt_is_gone_is_caught() {
    check(Plant::BurntIsGone);
}

#[test]
fn clear_although_active_is_caught() {
    check(Plant::ClearAlthoughActive);
}

#[test]
fn not_now_forgotten_is_caught() {
    check(Plant::NotNowForgotten);
}

#[test]
fn lost_entries_ignored_is_caught() {
    check_under_from(1947, &[Fault::LostWrite, Fault::NodeCrash], Plant::LostEntriesIgnored);
}

#[test]
fn answer_of_earlier_boot_is_caught() {
    check_under_from(74, &[Fault::AgentCrash, Fault::SlowDisk], Plant::AnswerOfEarlierBoot);
}
