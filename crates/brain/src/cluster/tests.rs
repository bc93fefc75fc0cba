use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use model::report::{Failure, FailureSignature};
use model::spec::{ClusterSpec, Standby};
use model::state::{FailureKey, TokenRecord, TokenRole};
use model::{Epoch, Profile, ReplicaId};

use super::*;
use crate::fixtures::{cluster_spec, epoch, genesis, node, request, resource, resource_spec};

fn spec() -> ClusterSpec {
    cluster_spec(&["a", "b"], resource_spec(Standby::Cold))
}

struct Log {
    state: ClusterState,
    at_ms: u64,
}

impl Log {
    fn new() -> Log {
        let mut log = Log { state: ClusterState::default(), at_ms: 0 };
        let genesis = genesis(spec());
        assert_eq!(log.apply(Command::Genesis(genesis)), Applied::Done);
        log
    }

    fn apply(&mut self, command: Command) -> Applied {
        let entry = Entry {
            by: ReplicaId(1),
            now: ClusterMs(self.at_ms),
            wall_ms: 0,
            request: None,
            command,
            reasons: Vec::new(),
        };
        let index = self.state.index + 1;
        apply(&mut self.state, index, &entry)
    }

    /// Applies a command that must change nothing but index and clock.
    fn refuses(&mut self, command: Command) {
        let before = self.state.clone();
        assert_eq!(self.apply(command.clone()), Applied::Overtaken, "{command:?}");
        let index = self.state.index;
        assert_eq!(self.state, ClusterState { index, ..before }, "{command:?}");
    }

    fn token(&mut self, byte: u8) {
        let token = TokenRecord {
            hash: [byte; 32],
            role: TokenRole::Voter,
            node: None,
            expires: ClusterMs(10_000),
            used: false,
        };
        assert_eq!(self.apply(Command::AddToken { token }), Applied::Done);
    }
}

fn assign(replica: u64, previous: u64, new: u64) -> Command {
    Command::Assign {
        resource: resource(),
        node: node("a"),
        replica: ReplicaId(replica),
        previous: if previous == 0 { Epoch::default() } else { epoch(previous) },
        epoch: epoch(new),
        evidence: None,
    }
}

#[test]
fn an_assignment_that_was_overtaken_changes_nothing() {
    let mut log = Log::new();
    assert_eq!(log.apply(assign(1, 0, 1)), Applied::Done);
    log.refuses(assign(1, 0, 2));
    log.refuses(assign(9, 1, 2));
    let gone = Command::Vacate { resource: resource(), epoch: epoch(7), evidence: None };
    log.refuses(gone);
    log.refuses(Command::Release { resource: resource(), epoch: epoch(7) });
    assert_eq!(log.state.resources[&resource()].epoch, epoch(1));
}

#[test]
fn an_epoch_that_is_not_higher_than_every_one_before_changes_nothing() {
    let mut log = Log::new();
    assert_eq!(log.apply(assign(1, 0, 5)), Applied::Done);
    log.refuses(assign(1, 5, 5));
    log.refuses(assign(1, 5, 4));
}

#[test]
fn an_index_is_applied_once() {
    let mut log = Log::new();
    let entry = Entry {
        by: ReplicaId(1),
        now: ClusterMs(5),
        wall_ms: 5,
        request: None,
        command: Command::Barrier,
        reasons: Vec::new(),
    };
    let before = log.state.clone();
    assert_eq!(apply(&mut log.state, 1, &entry), Applied::Overtaken);
    assert_eq!(log.state, before);
}

#[test]
fn cluster_time_never_goes_back() {
    let mut log = Log::new();
    for (at_ms, expected) in [(100, 100), (50, 100), (101, 101)] {
        log.at_ms = at_ms;
        log.apply(Command::Barrier);
        assert_eq!(log.state.now, ClusterMs(expected));
    }
}

#[test]
fn a_token_is_good_for_one_join_until_it_expires() {
    let mut log = Log::new();
    let join = |byte, replica| Command::Join {
        request: request("b", Some(byte)),
        replica: ReplicaId(replica),
    };
    log.refuses(join(1, 2));
    log.token(1);
    log.refuses(join(1, 3));
    assert_eq!(log.apply(join(1, 2)), Applied::Done);
    log.refuses(join(1, 3));
    log.token(2);
    log.at_ms = 10_000;
    log.apply(Command::Barrier);
    log.refuses(join(2, 3));
}

#[test]
fn a_token_without_a_name_replaces_no_member() {
    let mut log = Log::new();
    let join = |byte, replica| Command::Join {
        request: request("b", Some(byte)),
        replica: ReplicaId(replica),
    };
    log.token(1);
    log.token(2);
    assert_eq!(log.apply(join(1, 2)), Applied::Done);
    log.refuses(join(2, 3));
    assert!(!log.state.tokens[&[2; 32]].used, "it is good for another node still");
    log.state.tokens.get_mut(&[2; 32]).unwrap().node = Some(node("b"));
    assert_eq!(log.apply(join(2, 3)), Applied::Done);
}

#[test]
fn a_rejoin_takes_a_new_incarnation_of_a_known_node_alone() {
    let mut log = Log::new();
    let join =
        |name, replica| Command::Join { request: request(name, None), replica: ReplicaId(replica) };
    log.refuses(join("b", 2));
    assert_eq!(log.apply(join("a", 2)), Applied::Done);
    assert_eq!(log.state.replica_of(&node("a")), Some(ReplicaId(2)));
    log.refuses(assign(1, 0, 1));
}

#[test]
fn a_failure_is_counted_once() {
    let mut log = Log::new();
    let failed = Command::Failed {
        resource: resource(),
        node: node("a"),
        key: FailureKey { replica: ReplicaId(1), boot: 1, number: 1 },
        epoch: None,
        failure: Failure::NotReady,
        ban_until: Some(ClusterMs(700)),
        hold_until: None,
    };
    assert_eq!(log.apply(failed.clone()), Applied::Done);
    log.refuses(failed);
    let held = &log.state.resources[&resource()];
    assert_eq!(held.failures.len(), 1);
    assert_eq!(held.failures[0].failure.signature(), FailureSignature::NotReady);
    log.at_ms = 700;
    log.apply(Command::Barrier);
    assert!(log.state.resources[&resource()].bans.is_empty(), "the ban has passed");
}

#[test]
fn windows_end_by_themselves() {
    let mut log = Log::new();
    let until = ClusterMs(50);
    for command in [
        Command::Maintenance { scope: model::operation::Scope::Cluster, until },
        Command::Drain { node: node("a"), until },
    ] {
        assert_eq!(log.apply(command), Applied::Done);
    }
    assert!(log.state.in_maintenance(&resource()));
    log.at_ms = 50;
    log.apply(Command::Barrier);
    assert!(!log.state.in_maintenance(&resource()));
    assert_eq!(log.state.members[&node("a")].drain_until, None);
}

#[test]
fn a_resource_that_is_specified_no_more_stays_until_its_holder_gave_it_up() {
    let mut log = Log::new();
    log.apply(assign(1, 0, 1));
    let spec = ClusterSpec { resources: BTreeMap::new(), ..spec() };
    let text = String::new();
    assert_eq!(log.apply(Command::Apply { version: 2, spec, text }), Applied::Done);
    assert!(log.state.resources.contains_key(&resource()));
    log.apply(Command::Vacate { resource: resource(), epoch: epoch(1), evidence: None });
    assert!(log.state.resources.is_empty());
    // Back again, its epochs go on.
    log.apply(Command::Apply { version: 3, spec: self::spec(), text: String::new() });
    assert_eq!(log.state.last_epoch, epoch(1));
}

#[test]
fn a_specification_follows_the_one_it_was_made_for() {
    let mut log = Log::new();
    for version in [1, 3] {
        log.refuses(Command::Apply { version, spec: spec(), text: String::new() });
    }
}

#[test]
fn history_and_moves_have_their_limits() {
    let mut log = Log::new();
    for n in 1..=HISTORY_MAX as u64 + 10 {
        log.apply(assign(1, n - 1, n));
    }
    assert_eq!(log.state.history.len(), HISTORY_MAX);
    let moves = &log.state.resources[&resource()].moves;
    assert_eq!(moves.len(), model::state::MOVES_MAX);
    assert_eq!(moves.back().map(|m| m.epoch.counter), Some(HISTORY_MAX as u64 + 10));
}

#[test]
fn equal_entries_give_equal_states() {
    let run = || {
        let mut log = Log::new();
        log.apply(assign(1, 0, 1));
        log.apply(Command::Release { resource: resource(), epoch: epoch(1) });
        log.state
    };
    assert_eq!(vec![run()], vec![run()]);
}

#[test]
#[cfg(feature = "plant")]
fn only_the_faults_that_propose_old_epochs_are_let_through() {
    use crate::plant::Plant;
    for plant in Plant::ALL {
        let mut log = Log::new();
        assert_eq!(log.apply(assign(1, 0, 5)), Applied::Done);
        let command = assign(1, 5, 5);
        let now = log.state.now;
        let (by, reasons) = (ReplicaId(1), Vec::new());
        let entry = Entry { by, now, wall_ms: 0, request: None, command, reasons };
        let index = log.state.index + 1;
        let applied = apply_with(&mut log.state, index, &entry, Plants::one(plant));
        let lifts = matches!(plant, Plant::EpochNotRaised | Plant::EpochPerResource);
        assert_eq!(applied == Applied::Done, lifts, "{plant:?}");
    }
}

#[test]
fn an_absence_is_kept_for_twice_its_span_because_clocks_drift() {
    let mut log = Log::new();
    let absence = Command::Absence { replica: ReplicaId(1), boot: 1, request: 1, for_ms: 1_000 };
    assert_eq!(log.apply(absence), Applied::Done);
    for (at_ms, kept) in [(2_000, 1), (2_001, 0)] {
        log.at_ms = at_ms;
        log.apply(Command::Barrier);
        assert_eq!(log.state.absences.len(), kept, "at {at_ms} ms");
    }
}

#[test]
fn a_shorter_absence_does_not_end_a_longer_one_that_was_committed_before() {
    let mut log = Log::new();
    let absence = |for_ms| Command::Absence { replica: ReplicaId(1), boot: 1, request: 1, for_ms };
    log.apply(absence(9_000));
    log.at_ms = 2_000;
    log.apply(absence(1_000));
    assert_eq!(log.state.absences[&ReplicaId(1)].for_ms, 7_000);
    log.at_ms = 3_000;
    log.apply(absence(8_000));
    assert_eq!(log.state.absences[&ReplicaId(1)].for_ms, 8_000);
}

/// Seed 80003028 of the simulator: a node that had joined by a state image became coordinator, and
/// waited by the new profile alone.
#[test]
fn the_longest_profile_that_was_in_force_lately_is_remembered_until_its_leases_have_ended() {
    let mut log = Log::new();
    let apply_profile = |log: &mut Log, profile| {
        let (version, spec) = (log.state.spec_version + 1, ClusterSpec { profile, ..spec() });
        assert_eq!(log.apply(Command::Apply { version, spec, text: String::new() }), Applied::Done);
        log.state.longer.map(|longer| (longer.profile, longer.until.0))
    };
    assert_eq!(log.state.longer, None, "nobody granted before the cluster began");
    assert_eq!(apply_profile(&mut log, Profile::Wan), None, "a longer one takes nothing back");
    log.at_ms = 1_000;
    // Four leases until a coordinator that applies nothing gives up, half a one of authority, one
    // that was granted with the last of it, one for drift.
    assert_eq!(apply_profile(&mut log, Profile::Cloud), Some((Profile::Wan, 53_000)));
    log.at_ms = 2_000;
    assert_eq!(apply_profile(&mut log, Profile::Lan), Some((Profile::Wan, 53_000)));
    // The shorter of two may outlive the longer: both are waited for by the longer.
    apply_profile(&mut log, Profile::Cloud);
    log.at_ms = 50_000;
    assert_eq!(apply_profile(&mut log, Profile::Lan), Some((Profile::Wan, 63_000)));
    log.at_ms = 63_001;
    log.apply(Command::Barrier);
    assert_eq!(log.state.longer, None);
}

#[test]
fn a_token_that_is_known_is_not_added_again() {
    let mut log = Log::new();
    log.token(1);
    let (hash, role, expires) = ([1; 32], TokenRole::Witness, ClusterMs(20_000));
    let token = TokenRecord { hash, role, node: None, expires, used: false };
    log.refuses(Command::AddToken { token });
}
