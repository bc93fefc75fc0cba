use alloc::vec;
use alloc::vec::Vec;

use model::heartbeat::{Ack, Grant, Heartbeat, Promised, Round};
use model::state::Renounced;
use model::{Moment, Profile, ReplicaId, Span, Timers};

use super::promise::Ballot;
use super::*;
use crate::fixtures::heartbeat;

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);
const C: ReplicaId = ReplicaId(3);

fn timers() -> Timers {
    Profile::Lan.timers()
}

fn ms(ms: u64) -> Moment {
    Moment(100_000_000_000 + ms * 1_000_000)
}

fn pulse(me: ReplicaId) -> Pulse {
    let config = PulseConfig {
        me,
        boot: 1,
        timers: timers(),
        recorded_promise: timers().promise,
        term: 1,
        witness: false,
        plants: Plants::NONE,
    };
    // Long before, so that the wait of its start is over.
    Pulse::new(config, Moment(50_000_000_000))
}

fn raft(leader: ReplicaId, term: u64, heard: Moment) -> RaftView {
    RaftView {
        term,
        leader: Some(leader),
        leader_heard: heard,
        configurations: Some(vec![BTreeSet::from([A, B, C])]),
        commit: 7,
    }
}

fn beat_of(sender: ReplicaId, seq: u64) -> Heartbeat {
    heartbeat(sender, seq, 2)
}

fn round_of(sender: ReplicaId, seq: u64) -> Heartbeat {
    let round = Some(Round { term: 2, promise: timers().promise });
    Heartbeat { round, ..beat_of(sender, seq) }
}

fn ballot(candidate: ReplicaId, term: u64) -> Ballot {
    Ballot { candidate, term, proof: None }
}

/// B, bound by a round of A that it received at 0 ms.
fn bound() -> Pulse {
    let mut b = pulse(B);
    b.set_raft(raft(A, 2, ms(0)));
    b.receive(ms(0), 0, &round_of(A, 1));
    b
}

/// A in office in term 2, with the acknowledgement of B for the round of its beat at 0 ms.
fn coordinator() -> Pulse {
    let mut a = pulse(A);
    a.set_raft(raft(A, 2, ms(0)));
    a.lead(ms(0), 2, Succession::Elected, [B, C]);
    a.raft_thread_lives(ms(0));
    a.barrier_committed(ms(0));
    a.beat(ms(0));
    acknowledge(&mut a, B, 1, ms(1));
    a
}

/// A peer's heartbeat that has heard the beat `seq` of ours and is bound to its round.
fn acknowledge(a: &mut Pulse, peer: ReplicaId, seq: u64, at: Moment) {
    let ack = Ack { boot: 1, seq };
    let promised = Some(Promised { term: 2, round: ack });
    a.receive(at, 0, &Heartbeat { ack: Some(ack), promised, ..beat_of(peer, seq) });
}

// Rule 1.

#[test]
fn a_vote_waits_for_the_last_nanosecond_of_the_promise() {
    let b = bound();
    let end = ms(0) + timers().promise.stretched(timers().drift_ppm);
    assert_eq!(b.promised_until(), end);
    for candidate in [A, B, C] {
        assert!(!b.may_support(end.before(Span(1)), ballot(candidate, 3)), "{candidate}");
        assert!(b.may_support(end, ballot(candidate, 3)), "{candidate}");
    }
}

#[test]
fn a_renounce_entry_frees_for_its_candidate_and_the_term_after_it_alone() {
    let b = bound();
    let with = |candidate, term, proof| Ballot { candidate, term, proof };
    let proof = |term, candidate| Some(Renounced { term, candidate });
    assert!(b.may_support(ms(1), with(C, 3, proof(2, C))));
    assert!(!b.may_support(ms(1), with(A, 3, proof(2, C))));
    assert!(!b.may_support(ms(1), with(C, 4, proof(2, C))));
    assert!(!b.may_support(ms(1), with(C, 2, proof(1, C))), "an older term's renunciation");
}

#[test]
fn a_restarted_voter_waits_out_the_largest_promise_it_ever_recorded() {
    let config = PulseConfig {
        me: B,
        boot: 2,
        timers: timers(),
        recorded_promise: Span::from_ms(4_000),
        term: 1,
        witness: false,
        plants: Plants::NONE,
    };
    let b = Pulse::new(config, ms(0));
    assert_eq!((b.me(), b.boot()), (B, 2));
    assert!(!b.may_support(ms(4_003), ballot(A, 3)));
    assert!(b.may_support(ms(4_004), ballot(A, 3)));
}

#[test]
fn a_larger_promise_is_recorded_before_it_is_given() {
    let mut b = bound();
    let longer = Span::from_ms(1_000);
    let round = Some(Round { term: 2, promise: longer });
    b.receive(ms(20), 0, &Heartbeat { round, ..beat_of(A, 2) });
    assert_eq!(b.promise_to_record(), Some(longer));
    assert_eq!(b.heartbeat_for(ms(21), A).promised.map(|p| p.round.seq), Some(1));
    b.promise_recorded(longer);
    b.receive(ms(40), 0, &Heartbeat { round, ..beat_of(A, 3) });
    assert_eq!(b.heartbeat_for(ms(41), A).promised.map(|p| p.round.seq), Some(3));
    assert_eq!(b.promise_to_record(), None);
}

#[test]
fn a_round_binds_only_from_the_leader_and_with_its_connection_alive() {
    let check = |leader, heard, expected: bool| {
        let mut b = pulse(B);
        b.set_raft(raft(leader, 2, heard));
        b.receive(ms(300), 0, &round_of(A, 1));
        assert_eq!(b.promised_until() > ms(300), expected, "{leader} {heard:?}");
    };
    check(A, ms(50), true);
    check(A, ms(49), false);
    check(C, ms(300), false);
}

// Rule 2.

#[test]
fn authority_ends_a_promise_after_the_sending_of_the_round_a_quorum_acknowledged() {
    let a = coordinator();
    assert_eq!(a.authority_until(), Some(ms(0) + timers().promise));
    assert_eq!(a.authority_left(ms(250)), Span::ZERO);
}

#[test]
fn a_node_speaks_for_all_while_it_is_bound_to_and_has_applied_what_is_committed() {
    let a = coordinator();
    assert!(a.speaks_for_all(ms(1), 7));
    assert!(!a.speaks_for_all(ms(1), 6), "others may have told of entry 7");
    assert!(!a.speaks_for_all(ms(250), 7), "its authority has ended");
    assert!(!bound().speaks_for_all(ms(1), 7), "it has no office");
}

#[test]
fn authority_needs_a_quorum_of_every_configuration() {
    let mut a = coordinator();
    let joint = vec![BTreeSet::from([A, B, C]), BTreeSet::from([A, C, ReplicaId(4)])];
    a.set_raft(RaftView { configurations: Some(joint), ..raft(A, 2, ms(0)) });
    assert_eq!(a.authority_until(), None);
    acknowledge(&mut a, C, 1, ms(2));
    assert_eq!(a.authority_until(), Some(ms(0) + timers().promise));
}

#[test]
fn a_new_term_begins_without_authority_and_old_acknowledgements_give_none() {
    let mut a = coordinator();
    a.set_raft(raft(A, 3, ms(0)));
    assert!(!a.in_office());
    a.lead(ms(5), 3, Succession::Elected, [B, C]);
    acknowledge(&mut a, B, 1, ms(6));
    assert_eq!(a.authority_left(ms(6)), Span::ZERO);
}

#[test]
fn rounds_stop_without_barrier_raft_thread_or_office() {
    let rounds = |a: &mut Pulse, at| a.heartbeat_for(at, B).round.is_some();
    let mut a = coordinator();
    assert!(rounds(&mut a, ms(10)));
    let limit = ms(0) + timers().stall_limit;
    assert!(rounds(&mut a, limit) && !rounds(&mut a, limit + Span(1)), "the Raft thread died");
    a.raft_thread_lives(ms(2_001));
    assert!(!rounds(&mut a, ms(2_001)), "the last barrier is too old");
    a.barrier_committed(ms(2_001));
    assert!(rounds(&mut a, ms(2_002)));
    a.renounce();
    assert!(!rounds(&mut a, ms(2_003)));
}

#[test]
fn a_coordinator_whose_barriers_end_steps_down_while_its_promises_last() {
    let mut a = coordinator();
    a.raft_thread_lives(ms(1_999));
    a.beat(ms(1_999));
    acknowledge(&mut a, B, 2, ms(2_000));
    assert!(!a.must_step_down(ms(2_000)), "the last barrier is as old as it may be");
    assert!(a.authority_left(ms(2_001)) > Span::ZERO);
    assert!(a.must_step_down(ms(2_001)), "its authority will end, and it leaves in time");
    a.barrier_committed(ms(2_001));
    assert!(!a.must_step_down(ms(2_002)));
}

// Rule 3.

fn granted(lease: u64, at: Moment) -> Pulse {
    let mut b = pulse(B);
    b.set_raft(raft(A, 2, ms(0)));
    b.beat(ms(0));
    grant(&mut b, 1, 1, Span::from_ms(lease), at);
    b
}

fn grant(b: &mut Pulse, seq: u64, acked: u64, span: Span, at: Moment) {
    let grant = Some(Grant { term: 2, span, commit: 9 });
    let ack = Some(Ack { boot: 1, seq: acked });
    b.receive(at, 0, &Heartbeat { ack, grant, ..beat_of(A, seq) });
}

#[test]
fn a_lease_counts_from_the_sending_of_what_was_acknowledged() {
    let b = granted(500, ms(40));
    assert_eq!(b.lease_end(), Some(ms(500)));
}

#[test]
fn a_lapsed_lease_is_not_revived_by_a_late_grant() {
    let mut b = granted(500, ms(40));
    assert_eq!(b.check_lease(ms(500)), 1);
    grant(&mut b, 2, 1, Span::from_ms(500), ms(501));
    assert_eq!((b.lease_end(), b.check_lease(ms(501))), (None, 1));
    assert_eq!(b.heartbeat_for(ms(502), A).lapses, 1, "it says so");
}

#[test]
fn a_lease_after_a_lapse_is_a_new_one_and_says_how_far_the_log_must_be_applied() {
    let mut b = granted(500, ms(40));
    b.beat(ms(600));
    grant(&mut b, 2, 2, Span::from_ms(500), ms(601));
    assert_eq!(b.lease_end(), Some(ms(1_100)));
    assert_eq!((b.check_lease(ms(602)), b.lease_fresh_from()), (1, 9));
}

#[test]
fn only_one_who_votes_grants_a_lease() {
    let mut b = granted(500, ms(40));
    let before = b.lease_end();
    b.beat(ms(60));
    let ack = Some(Ack { boot: 1, seq: 2 });
    let grant = Some(Grant { term: 9, span: Span::from_ms(3_600_000), commit: 9 });
    b.receive(ms(61), 0, &Heartbeat { ack, grant, ..beat_of(ReplicaId(4), 1) });
    assert_eq!(b.lease_end(), before, "a member without a vote gave an hour");
    let grant = Some(Grant { term: 2, span: Span::from_ms(500), commit: 9 });
    b.receive(ms(62), 0, &Heartbeat { ack, grant, ..beat_of(A, 2) });
    assert!(b.lease_end() > before, "and its term 9 keeps nobody else's out");
}

#[test]
fn a_grant_of_an_older_term_or_boot_is_passed_over() {
    let mut b = granted(500, ms(40));
    b.beat(ms(60));
    let old = Some(Grant { term: 1, span: Span::from_ms(500), commit: 9 });
    let ack = Some(Ack { boot: 1, seq: 2 });
    b.receive(ms(61), 0, &Heartbeat { ack, grant: old, ..beat_of(A, 2) });
    let grant = Some(Grant { term: 2, span: Span::from_ms(500), commit: 9 });
    let ack = Some(Ack { boot: 0, seq: 2 });
    b.receive(ms(62), 0, &Heartbeat { ack, grant, ..beat_of(A, 3) });
    assert_eq!(b.lease_end(), Some(ms(500)));
}

#[test]
fn a_grant_is_the_lease_or_what_authority_and_grace_leave() {
    let mut a = coordinator();
    let span = |a: &mut Pulse, at: Moment| {
        a.raft_thread_lives(at);
        a.heartbeat_for(at, B).grant.map(|g| g.span)
    };
    assert_eq!(span(&mut a, ms(0)), Some(Span::from_ms(500)));
    assert_eq!(span(&mut a, ms(100)), Some(Span::from_ms(400)));
    assert_eq!(span(&mut a, ms(249)), Some(Span::from_ms(251)));
    assert_eq!(span(&mut a, ms(250)), None);
}

// Rules 4 and 5.

#[test]
fn a_successor_counts_everyone_as_granted_for_grace_or_after_a_transfer_for_the_lease() {
    for (succession, wait) in
        [(Succession::Elected, timers().grace), (Succession::Transferred, timers().lease)]
    {
        let mut a = pulse(A);
        a.set_raft(raft(A, 2, ms(0)));
        a.lead(ms(0), 2, succession, [B]);
        let until = ms(0) + wait.stretched(timers().drift_ppm);
        for node in [B, C] {
            assert_eq!(a.granted_until(node), until, "{succession:?} {node}");
            assert!(!a.bar_if_lapsed(until.before(Span(1)), node));
        }
        assert!(a.bar_if_lapsed(until, B));
    }
}

#[test]
fn a_successor_waits_by_the_longer_profile_that_was_in_force_lately() {
    for (succession, wait) in [
        (Succession::Elected, Span::from_ms(4_000)),
        (Succession::Transferred, Span::from_ms(8_000)),
    ] {
        let mut a = pulse(A);
        a.set_timers(ms(0), Profile::Wan.timers());
        a.set_timers(ms(1), Profile::Cloud.timers());
        a.set_timers(ms(2), Profile::Lan.timers());
        a.set_raft(raft(A, 2, ms(3)));
        a.lead(ms(3), 2, succession, [B]);
        assert_eq!(a.granted_until(B), ms(3) + wait.stretched(1_000), "{succession:?}");
    }
}

#[test]
fn a_successor_waits_by_the_longer_profile_that_a_state_image_tells_of() {
    for before in [true, false] {
        let mut a = pulse(A);
        let tell = |a: &mut Pulse, at| a.predecessors_may_use(ms(at), Profile::Wan.timers());
        if before {
            tell(&mut a, 2);
        }
        a.set_raft(raft(A, 2, ms(3)));
        a.lead(ms(3), 2, Succession::Elected, [B]);
        if !before {
            tell(&mut a, 4);
        }
        let wait = Profile::Wan.timers().grace.stretched(1_000);
        assert_eq!(a.granted_until(B), ms(3) + wait, "told before: {before}");
    }
}

#[test]
fn a_barred_node_is_granted_nothing_until_it_is_unbarred() {
    let mut a = coordinator();
    let late = ms(0) + timers().lease.stretched(timers().drift_ppm) + Span::from_ms(10);
    for seq in 2..=25 {
        a.raft_thread_lives(ms(seq * 20));
        a.beat(ms(seq * 20));
        acknowledge(&mut a, B, seq, ms(seq * 20 + 1));
    }
    assert!(a.bar_if_lapsed(late, C), "C was never granted anything");
    let ack = Some(Ack { boot: 1, seq: 25 });
    a.receive(late, 0, &Heartbeat { ack, ..beat_of(C, 1) });
    assert!(a.heartbeat_for(late, B).grant.is_some());
    assert!(a.heartbeat_for(late, C).grant.is_none());
    a.unbar(C);
    assert!(a.heartbeat_for(late, C).grant.is_some());
}

#[test]
fn a_node_that_confirms_nothing_for_a_lease_is_granted_nothing() {
    let mut a = coordinator();
    let mut grants = Vec::new();
    for seq in 2..=30 {
        let at = ms(seq * 20);
        a.raft_thread_lives(at);
        a.beat(at);
        acknowledge(&mut a, B, seq, at);
        // C is heard, and hears nothing: it goes on naming our first beat.
        let ack = Some(Ack { boot: 1, seq: 1 });
        a.receive(at, 0, &Heartbeat { ack, ..beat_of(C, seq) });
        grants.push((seq * 20, a.heartbeat_for(at, C).grant.is_some()));
    }
    for (at, granted) in grants {
        assert_eq!(granted, at <= 500, "{at} ms");
    }
}

// Rule 7.

#[test]
fn an_absence_counts_from_the_request_and_never_revives_a_lapsed_lease() {
    let mut b = granted(500, ms(40));
    b.extend_for_absence(ms(100), ms(50), Span::from_ms(10_000));
    assert_eq!(b.lease_end(), Some(ms(10_050)));
    let mut late = granted(500, ms(40));
    late.extend_for_absence(ms(500), ms(50), Span::from_ms(10_000));
    assert_eq!(late.lease_end(), None);
}

#[test]
fn a_started_agent_goes_on_under_a_running_lease_and_activates_nothing_under_it() {
    let mut b = pulse(B);
    b.adopt_lease(ms(0), Some(ms(100)));
    assert_eq!((b.lease_end(), b.lease_fresh_from()), (Some(ms(100)), u64::MAX));
    let mut lapsed = pulse(B);
    lapsed.adopt_lease(ms(0), Some(ms(0)));
    assert_eq!((lapsed.lease_end(), lapsed.check_lease(ms(0))), (None, 1));
}

// Rule 8.

#[test]
fn a_witness_in_office_sends_neither_rounds_nor_grants() {
    let config = PulseConfig { witness: true, ..pulse(A).config };
    let mut a = Pulse::new(config, Moment(50_000_000_000));
    a.set_raft(raft(A, 2, ms(0)));
    a.lead(ms(0), 2, Succession::Elected, [B, C]);
    a.raft_thread_lives(ms(0));
    a.barrier_committed(ms(0));
    a.beat(ms(0));
    acknowledge(&mut a, B, 1, ms(1));
    let beat = a.heartbeat_for(ms(1), B);
    assert_eq!((beat.round, beat.grant), (None, None));
}

// A node whose own loop stalled says so, and judges nobody by the silence that it slept through.

#[test]
fn a_late_beat_is_told_and_judges_nobody_until_what_came_meanwhile_was_heard() {
    let (mut a, h) = (coordinator(), timers().heartbeat);
    assert!(a.may_judge(ms(0)) && !a.heartbeat_for(ms(0), B).stalled);
    let on_time = ms(0) + h * 4;
    a.beat(on_time);
    assert!(
        a.may_judge(on_time) && !a.heartbeat_for(on_time, B).stalled,
        "four beats are no stall"
    );
    let late = on_time + h * 4 + Span(1);
    a.beat(late);
    assert!(a.stalled() && a.heartbeat_for(late, B).stalled);
    let again = late + h * 3;
    assert!(!a.may_judge(late) && !a.may_judge(again.before(Span(1))) && a.may_judge(again));
    a.beat(late + h);
    assert!(!a.heartbeat_for(late + h, B).stalled, "it goes on as ever");
}

#[test]
fn what_a_peer_says_of_its_loop_is_remembered_with_its_last_beat() {
    let mut a = coordinator();
    let stalled = |a: &Pulse| a.hearing().any(|(id, heard)| id == B && heard.stalled);
    a.receive(ms(10), 0, &Heartbeat { stalled: true, ..beat_of(B, 2) });
    assert!(stalled(&a));
    a.receive(ms(20), 0, &beat_of(B, 3));
    assert!(!stalled(&a));
}

#[test]
fn a_quorum_is_more_than_half() {
    let five: BTreeSet<ReplicaId> = (1..=5).map(ReplicaId).collect();
    let mut a = coordinator();
    a.set_raft(RaftView { configurations: Some(vec![five]), ..raft(A, 2, ms(0)) });
    assert_eq!(a.authority_until(), None, "itself and B of five");
    acknowledge(&mut a, C, 1, ms(2));
    assert_eq!(a.authority_until(), Some(ms(0) + timers().promise));
    assert!(a.has_barrier() && !pulse(A).has_barrier());
}

#[test]
fn a_coordinator_leases_itself_while_it_has_authority_and_is_not_barred() {
    let beaten = |at: Moment, barred: bool| {
        let mut a = coordinator();
        if barred {
            a.bar(A);
        }
        a.raft_thread_lives(at);
        a.beat(at);
        a.lease_end()
    };
    let lease = beaten(ms(20), false).expect("a lease of its own");
    assert!(lease > ms(20) && lease <= ms(20) + timers().lease, "{lease:?}");
    assert_eq!(beaten(ms(20), true), None, "it is being taken over from");
    // The quorum's acknowledgement is older than the promise.
    assert_eq!(beaten(ms(0) + timers().promise + Span::from_ms(20), false), None);
}
