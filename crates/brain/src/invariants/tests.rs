use model::heartbeat::Grant;
use model::report::{Evidence, EvidenceGround};
use model::state::Renounced;
use model::{Moment, NodeName, ReplicaId, Span};

use super::*;
use crate::fixtures::{epoch, heartbeat, resource};

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);

#[test]
fn a_vote_before_the_promise_ends_needs_a_renounce_entry_of_that_candidate_and_term() {
    let vote = promise::Vote { voter: A, candidate: B, term: 5, at: 10, bound_until: 11 };
    let renounced = |term, candidate| [Renounced { term, candidate }];
    assert!(promise::keeps(&vote, &[]).is_err());
    assert!(promise::keeps(&vote, &renounced(4, B)).is_ok());
    assert!(promise::keeps(&vote, &renounced(4, A)).is_err());
    assert!(promise::keeps(&vote, &renounced(3, B)).is_err());
    assert!(promise::keeps(&promise::Vote { at: 11, ..vote }, &[]).is_ok());
}

#[test]
fn two_offices_may_overlap_as_long_as_one_has_no_authority() {
    let office = |replica, left| authority::Office { replica, term: 1, left };
    let (none, some) = (Span::ZERO, Span(1));
    assert!(authority::at_most_one(&[office(A, some), office(B, none)]).is_ok());
    assert!(authority::at_most_one(&[office(A, some), office(B, some)]).is_err());
}

#[test]
fn a_lease_ends_no_later_than_its_coordinator_counts() {
    let renewal = lease::Renewal { replica: A, end: 10, counted_until: 10 };
    assert!(lease::is_counted(&renewal).is_ok());
    assert!(lease::is_counted(&lease::Renewal { end: 11, ..renewal }).is_err());
}

#[test]
fn nothing_becomes_active_without_lease_and_guard() {
    let good = lease::Activation { replica: A, at: 9, end: Some(10), guarded: true };
    assert!(lease::covers(&good).is_ok());
    assert!(lease::covers(&lease::Activation { at: 10, ..good }).is_err());
    assert!(lease::covers(&lease::Activation { end: None, ..good }).is_err());
    assert!(lease::covers(&lease::Activation { guarded: false, ..good }).is_err());
}

#[test]
fn a_successor_waits_the_grace_and_after_a_transfer_the_lease() {
    let elected = succession::Election {
        coordinator: A,
        at: Moment(1_000),
        transferred: false,
        grace: Span(1_000_000),
        lease: Span(2_000_000),
        drift_ppm: 1_000,
    };
    let after = |span: u64| Moment(1_000 + span);
    assert!(succession::waits(&elected, B, after(1_001_000)).is_ok());
    assert!(succession::waits(&elected, B, after(1_000_999)).is_err());
    let transferred = succession::Election { transferred: true, ..elected };
    assert!(succession::waits(&transferred, B, after(1_001_000)).is_err());
    assert!(succession::waits(&transferred, B, after(2_002_000)).is_ok());
    assert!(succession::is_final(A, 3, true).is_err());
}

#[test]
fn a_takeover_waits_for_the_last_nanosecond_of_the_lease() {
    let takeover = takeover::Takeover { from: A, at: 10, lease_end: Some(10) };
    assert!(takeover::comes_after_the_lease(&takeover).is_ok());
    let early = takeover::Takeover { lease_end: Some(11), ..takeover };
    assert!(takeover::comes_after_the_lease(&early).is_err());
}

#[test]
fn evidence_names_resource_incarnation_and_epoch() {
    let evidence = Evidence {
        resource: resource(),
        epoch: epoch(3),
        replica: A,
        guard: None,
        ground: EvidenceGround::Empty,
        age_us: 0,
    };
    let held = evidence::Held { resource: resource(), replica: A, epoch: epoch(3), acts: false };
    assert!(evidence::proves(Some(&evidence), &held).is_ok());
    assert!(evidence::proves(None, &held).is_err());
    let newer = evidence::Held { epoch: epoch(4), ..held.clone() };
    assert!(evidence::proves(Some(&evidence), &newer).is_err());
    let other = evidence::Held { replica: B, ..held.clone() };
    assert!(evidence::proves(Some(&evidence), &other).is_err());
    let acting = evidence::Held { acts: true, ..held };
    assert!(evidence::proves(Some(&evidence), &acting).is_err());
}

#[test]
fn a_longer_lease_needs_its_commit() {
    let extension = absence::Extension { replica: A, committed: false };
    assert!(absence::is_committed(&extension).is_err());
}

#[test]
fn a_witness_neither_solicits_nor_grants() {
    let mut heartbeat = heartbeat(A, 1, 1);
    assert!(witness::is_silent(&heartbeat).is_ok());
    heartbeat.grant = Some(Grant { term: 1, span: Span(1), commit: 1 });
    assert!(witness::is_silent(&heartbeat).is_err());
}

#[test]
fn epochs_rise_and_are_handed_out() {
    assert!(epochs::grow(&resource(), epoch(3), epoch(4)).is_ok());
    assert!(epochs::grow(&resource(), epoch(3), epoch(3)).is_err());
    let node = NodeName::new("a").unwrap();
    assert!(epochs::were_handed_out(&resource(), &node, epoch(3), false).is_err());
}
