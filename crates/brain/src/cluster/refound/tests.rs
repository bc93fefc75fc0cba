use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::command::{Command, Entry};
use model::spec::Standby;
use model::state::{MemberRole, RefoundKind, TokenRecord, TokenRole};
use model::vault::{ChainHead, Digest, RepositoryId};
use model::{ClusterMs, NodeName};

use super::*;
use crate::cluster::{Applied, apply};
use crate::fixtures::{cluster_spec, epoch, genesis, node, request, resource, resource_spec};

fn entry(command: Command) -> Entry {
    let (by, now, wall_ms) = (ReplicaId(1), ClusterMs(0), 0);
    Entry { by, now, wall_ms, request: None, command, reasons: Vec::new() }
}

fn commit(state: &mut ClusterState, command: Command) -> Applied {
    let index = state.index + 1;
    apply(state, index, &entry(command))
}

fn token(byte: u8) -> Command {
    let (hash, role, node) = ([byte; 32], TokenRole::Voter, None);
    let expires = ClusterMs(10_000);
    Command::AddToken { token: TokenRecord { hash, role, node, expires, used: false } }
}

/// Nodes a, b, c; the resource is active on b under the seventh epoch.
fn before() -> ClusterState {
    let mut state = ClusterState::default();
    let names = ["a", "b", "c"];
    let spec = cluster_spec(&names, resource_spec(Standby::Hot));
    commit(&mut state, Command::Genesis(genesis(spec)));
    for (number, name) in names.iter().enumerate().skip(1) {
        commit(&mut state, token(number as u8));
        let request = request(name, Some(number as u8));
        let replica = ReplicaId(number as u64 + 1);
        assert_eq!(commit(&mut state, Command::Join { request, replica }), Applied::Done);
    }
    let (resource, previous, epoch, replica) =
        (resource(), Epoch::default(), epoch(7), ReplicaId(2));
    let (node, evidence) = (node("b"), None);
    commit(&mut state, Command::Assign { resource, node, replica, previous, epoch, evidence });
    let (resource, timing) = (crate::fixtures::resource(), Default::default());
    assert_eq!(commit(&mut state, Command::Active { resource, epoch, timing }), Applied::Done);
    commit(&mut state, token(9));
    state
}

fn with(before: &ClusterState) -> Refounding {
    Refounding {
        kind: RefoundKind::Recovered,
        cluster_id: before.cluster_id,
        generation: 5,
        index: before.index + INDEX_MARGIN,
        founder: request("a", None),
        keep_identities: true,
        authorities: before.authorities.clone(),
        wait_ms: longest_lease_ms(),
        off: Vec::from([node("b"), node("c")]),
        by: String::from("carla"),
        why: String::from("the rack burnt"),
        wall_ms: 1_000,
    }
}

fn begun() -> ClusterState {
    let before = before();
    refound(&before, &with(&before), Plants::NONE).unwrap()
}

#[test]
fn epochs_of_a_new_generation_are_above_all_before_by_generation_and_by_counter() {
    let state = begun();
    assert_eq!(state.generation, 5);
    assert!(state.last_epoch > before().last_epoch);
    assert!(state.last_epoch.counter >= before().last_epoch.counter + EPOCH_MARGIN);
}

#[test]
fn nobody_of_the_generation_before_is_a_member_under_the_id_it_had() {
    let (before, state) = (before(), begun());
    let had: Vec<ReplicaId> = before.members.values().map(|m| m.replica).collect();
    assert_eq!(had.len(), 3);
    let founder = state.replica_of(&node("a")).unwrap();
    assert_eq!(state.members.len(), 1);
    assert!(founder.0 >= before.next_replica + REPLICA_MARGIN, "{founder}");
    assert_eq!(state.next_replica, founder.0 + 1);
    let awaited: BTreeMap<NodeName, Awaited> = ["b", "c"]
        .map(|name| (node(name), before.replica_of(&node(name)).unwrap()))
        .map(|(name, barred)| (name, Awaited { role: MemberRole::Voter, barred }))
        .into();
    assert_eq!(state.awaited, awaited);
}

#[test]
fn a_member_of_the_generation_before_comes_back_under_a_new_incarnation_alone() {
    let mut state = begun();
    let replica = ReplicaId(state.next_replica);
    let stranger = Command::Join { request: request("d", None), replica };
    assert_eq!(commit(&mut state, stranger), Applied::Overtaken);
    let back = Command::Join { request: request("b", None), replica };
    assert_eq!(commit(&mut state, back), Applied::Done);
    assert_eq!(state.replica_of(&node("b")), Some(replica));
    assert!(!state.awaited.contains_key(&node("b")));
    // One that is forgotten meanwhile needs a token.
    assert_eq!(commit(&mut state, Command::Forget { node: node("c") }), Applied::Done);
    let replica = ReplicaId(state.next_replica);
    let back = Command::Join { request: request("c", None), replica };
    assert_eq!(commit(&mut state, back), Applied::Overtaken);
}

#[test]
fn promises_tokens_and_plans_of_the_generation_before_are_void_and_its_holder_is_known() {
    let state = begun();
    assert!(state.tokens.is_empty() && state.absences.is_empty() && state.renounced.is_none());
    let held = &state.resources[&resource()];
    let holder = held.holder.as_ref().unwrap();
    assert_eq!((holder.epoch, holder.replica, holder.active), (epoch(7), ReplicaId(2), false));
    assert_eq!(state.wait_out, Some(WaitOut { ms: 10_000 }));
}

#[test]
fn who_why_and_what_was_known_are_in_the_history() {
    let state = begun();
    let event = state.history.back().unwrap();
    let EventKind::Refounded { before, generation, known, by, why, off, .. } = &event.what else {
        panic!("{event:?}")
    };
    assert_eq!((*before, *generation, *known), (1, 5, super::tests::before().index));
    assert_eq!((by.as_str(), why.as_str(), off.len()), ("carla", "the rack burnt", 2));
    assert_eq!(event.index, state.index);
}

#[test]
fn an_imported_state_without_the_old_authority_awaits_nobody() {
    let before = before();
    let other = Refounding { keep_identities: false, cluster_id: 77, ..with(&before) };
    let state = refound(&before, &other, Plants::NONE).unwrap();
    assert!(state.awaited.is_empty());
    assert_eq!(state.cluster_id, 77);
}

#[test]
fn a_generation_or_index_that_is_not_higher_begins_nothing() {
    let before = before();
    let check = |with: Refounding, expected| {
        assert_eq!(refound(&before, &with, Plants::NONE), Err(expected));
    };
    check(Refounding { generation: 1, ..with(&before) }, RefoundError::Generation);
    check(Refounding { index: before.index, ..with(&before) }, RefoundError::Index);
    let nothing = ClusterState::default();
    let begun = refound(&nothing, &with(&before), Plants::NONE);
    assert_eq!(begun, Err(RefoundError::NoCluster));
}

#[test]
fn the_wait_is_over_once_and_for_its_own_generation_alone() {
    let mut state = begun();
    assert_eq!(commit(&mut state, Command::WaitedOut { generation: 1 }), Applied::Overtaken);
    assert!(state.wait_out.is_some());
    assert_eq!(commit(&mut state, Command::WaitedOut { generation: 5 }), Applied::Done);
    assert_eq!(state.wait_out, None);
    assert_eq!(commit(&mut state, Command::WaitedOut { generation: 5 }), Applied::Overtaken);
}

#[test]
fn generations_rise_and_two_from_one_state_differ() {
    let wall = 1_790_000_000;
    let first = next_generation(1, 0, wall, 17);
    let twin = next_generation(1, 0, wall, 18);
    assert!(first > 1 && twin > 1 && first != twin);
    assert!(first < 1 << 63, "databases keep signed numbers");
    // A clock that was set back, or a store that has seen more.
    assert!(next_generation(first, 0, 0, 0) > first);
    assert!(next_generation(1, twin, 0, 0) > twin);
    // From an older file, later: above what was begun meanwhile.
    assert!(next_generation(1, 0, wall + 1, 0) > first.max(twin));
    assert!(next_generation(1, 0, u64::MAX, u64::MAX) < 1 << 63);
}

#[test]
fn no_lease_lasts_longer_than_is_waited() {
    for profile in Profile::ALL {
        assert!(longest_lease_ms() >= profile.timers().lease.as_ms(), "{profile}");
    }
    assert!(longest_lease_ms() >= ABSENCE_MAX_MS);
}

#[test]
fn a_node_that_is_specified_no_more_is_awaited_no_more() {
    let mut state = begun();
    let spec = cluster_spec(&["a", "b"], resource_spec(Standby::Hot));
    let version = state.spec_version + 1;
    let apply = Command::Apply { version, spec, text: String::new() };
    assert_eq!(commit(&mut state, apply), Applied::Done);
    assert_eq!(state.awaited.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_is_remembered_of_repositories_is_remembered_in_a_new_generation() {
    let mut before = before();
    let head = ChainHead { number: 4, hash: Digest([4; 32]) };
    let (repository, previous) = (RepositoryId([1; 16]), None);
    let (by, sources) = (String::from("a"), Vec::new());
    commit(&mut before, Command::RecordHead { repository, previous, head, by, sources });
    let after = refound(&before, &with(&before), Plants::NONE).unwrap();
    assert_eq!(after.repositories, before.repositories);
    assert_eq!(after.repositories[&repository].head, head);
}

#[test]
fn people_are_refused_as_before_unless_another_authority_is_believed() {
    let mut before = before();
    let revoked = model::authority::Revoked { until: ClusterMs(5), wall_ms: 0 };
    before.trust.revoked.insert(NodeName::new("mallory").unwrap(), revoked);
    for (keep_identities, kept) in [(true, 1), (false, 0)] {
        let with = Refounding { keep_identities, ..with(&before) };
        let state = refound(&before, &with, Plants::NONE).unwrap();
        assert_eq!(state.trust.revoked.len(), kept);
    }
}
