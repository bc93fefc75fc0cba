//! A node that is heard and has no launcher, or no guard, or a log that stands still.

use model::Reason;

use super::*;
use crate::coordinator::eviction::UNREADY;

/// The holder's node lost its launcher; it goes on beating.
fn without_a_launcher(clear: bool) -> Office {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    office.activate();
    let epoch = office.held().epoch;
    let report = office.report(B, vec![instance(InstancePhase::Active, Some(epoch))]);
    (report.ready, report.clear) = (false, clear);
    let commands = office.pass_for(UNREADY.as_ms() - 100);
    assert_eq!(commands, [], "it may come back by itself");
    office
}

fn unready(office: &Office) -> bool {
    let moves = &office.held().moves;
    moves.back().is_some_and(|m| m.reasons.iter().any(|r| matches!(r, Reason::NotReady { .. })))
}

/// Nothing is decided before the last grant of b has passed.
fn until_bs_grant_has_passed(office: &mut Office) {
    let granted = office.pulse.granted_until(B);
    assert!(granted > office.now, "a grant is still out");
    while office.now + Span::from_ms(20) < granted {
        office.now += Span::from_ms(20);
        assert!(office.pass().iter().all(|c| *c == Command::Barrier), "not before it has passed");
    }
}

#[test]
fn what_its_guard_saw_end_is_taken_over_after_the_last_grant() {
    let mut office = without_a_launcher(true);
    let epoch = office.held().epoch;
    office.pass_for(120);
    until_bs_grant_has_passed(&mut office);
    office.pass_for(100);
    assert!(office.held().epoch > epoch && unready(&office), "{:?}", office.held().moves);
    assert_ne!(office.holder().map(|(node, _)| node), Some("b"));
}

#[test]
fn a_hot_standby_elsewhere_need_not_wait_for_the_launcher() {
    let mut office = Office::new(Standby::Hot, |spec| spec.prefer = vec![node("b")]);
    office.activate();
    office.report(C, vec![instance(InstancePhase::Standby, None)]);
    let epoch = office.held().epoch;
    let report = office.report(B, vec![instance(InstancePhase::Active, Some(epoch))]);
    (report.ready, report.clear) = (false, false);
    assert_eq!(office.pass_for(1_000), [], "nobody has seen yet that it ended");
    office.reports.get_mut(&B).unwrap().clear = true;
    office.reports.get_mut(&B).unwrap().number += 1;
    let granted = office.pulse.granted_until(B) + Span::from_ms(20);
    assert_eq!(office.pass_for(40), [], "a grant is out");
    assert!(office.pulse.granted_until(B) <= granted, "and none follows it");
    office.pass_for(1_000);
    assert_eq!(office.holder().map(|(node, _)| node), Some("c"));
    assert!(unready(&office), "{:?}", office.held().moves);
}

#[test]
fn what_nobody_saw_end_counts_as_stuck_and_stays() {
    let mut office = without_a_launcher(false);
    let epoch = office.held().epoch;
    assert_eq!(office.pass_for(200), [Command::Stuck { resource: resource(), epoch }]);
    assert_eq!(office.pass_for(20_000), [], "time proves nothing here");
    assert!(office.pulse.granted_until(B) > office.now, "and what runs there may go on");
    office.report(B, Vec::new()).evidence.push(evidence(B, epoch));
    office.pass_for(100);
    assert!(office.held().epoch > epoch && !unready(&office));
}

#[test]
fn a_launcher_that_comes_back_in_time_changes_nothing() {
    let mut office = without_a_launcher(true);
    let epoch = office.held().epoch;
    office.report(B, vec![instance(InstancePhase::Active, Some(epoch))]);
    assert_eq!(office.pass_for(UNREADY.as_ms()), []);
    let report = office.report(B, vec![instance(InstancePhase::Active, Some(epoch))]);
    (report.ready, report.clear) = (false, true);
    assert_eq!(office.pass_for(UNREADY.as_ms() - 100), [], "the time begins anew");
}

/// Commands of a time in which the log grows and b's stands still; b is heard all the while.
fn while_bs_log_stands_still(office: &mut Office, ms: u64) -> Vec<Command> {
    office.group.last_index += 1;
    office.pass_for(ms)
}

#[test]
fn who_can_not_learn_what_it_was_given_is_granted_nothing_more() {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    let epoch = office.held().epoch;
    assert_eq!(office.holder().map(|(node, _)| node), Some("b"));
    let patience = UNREADY.max(office.pulse.timers().barrier_limit).as_ms();
    assert_eq!(while_bs_log_stands_still(&mut office, patience - 100), [], "a disk may be slow");
    office.pass_for(120);
    until_bs_grant_has_passed(&mut office);
    office.pass_for(100);
    assert!(office.held().epoch > epoch, "{:?}", office.held());
    assert_ne!(office.holder().map(|(node, _)| node), Some("b"), "which learns of nothing");
    let reasons = &office.held().moves.back().unwrap().reasons;
    assert!(reasons.iter().any(|r| matches!(r, Reason::LogStandsStill { .. })), "{reasons:?}");
}

#[test]
fn who_reports_that_all_is_well_goes_on_though_its_log_stands_still() {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    office.activate();
    for _ in 0..60 {
        office.reports.get_mut(&B).unwrap().number += 1;
        assert_eq!(while_bs_log_stands_still(&mut office, 1_000), []);
    }
    assert_eq!(office.holder().map(|(node, _)| node), Some("b"));
    assert!(office.pulse.granted_until(B) > office.now);
}

#[test]
fn of_whom_nothing_is_known_but_beats_another_takes_over() {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    office.activate();
    while_bs_log_stands_still(&mut office, 7_000);
    assert!(office.holder().is_some_and(|(node, _)| node != "b"), "{:?}", office.held());
}
