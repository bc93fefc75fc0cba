//! Applying what concerns nodes and the cluster as a whole.

use model::operation::Scope;
use model::spec::ClusterSpec;
use model::state::{
    Absence, ClusterState, EventKind, Genesis, JoinRequest, LongerProfile, Member, TOKENS_MAX,
    TokenRecord,
};
use model::{ClusterMs, Epoch, NodeName, Profile, ReplicaId};

use alloc::string::String;

use crate::plant::{Plant, Plants};
use crate::token::{self, Bearer};

type Change = Option<Option<EventKind>>;

pub(super) fn genesis(state: &mut ClusterState, genesis: &Genesis) -> Change {
    if state.cluster_id != 0 {
        return None;
    }
    state.cluster_id = genesis.cluster_id;
    state.generation = genesis.generation;
    state.last_epoch = Epoch { generation: genesis.generation, counter: 0 };
    state.authorities = genesis.authorities.clone();
    state.next_replica = 1;
    set_spec(state, 1, &genesis.spec, &genesis.text, Plants::NONE);
    admit(state, &genesis.first);
    Some(Some(EventKind::Began))
}

pub(super) fn specify(
    state: &mut ClusterState,
    version: u64,
    spec: &ClusterSpec,
    text: &str,
    plants: Plants,
) -> Change {
    if version != state.spec_version + 1 {
        return None;
    }
    let before = state.spec.profile;
    set_spec(state, version, spec, text, plants);
    remember_longer(state, before);
    Some(Some(EventKind::Applied { version }))
}

fn set_spec(
    state: &mut ClusterState,
    version: u64,
    spec: &ClusterSpec,
    text: &str,
    plants: Plants,
) {
    let before = core::mem::replace(&mut state.spec, spec.clone());
    state.spec_version = version;
    state.spec_text = String::from(text);
    for (name, now) in &state.spec.resources {
        let resource = state.resources.entry(name.clone()).or_default();
        let same = before.resources.get(name).is_some_and(|was| was.kind == now.kind);
        if !same {
            resource.changed_version = version;
        }
    }
    state.awaited.retain(|name, _| state.spec.nodes.contains_key(name));
    // A resource that is specified no more is kept until its holder has given it up.
    let spec = &state.spec;
    let kept = !plants.has(Plant::HeldResourceForgotten);
    state.resources.retain(|name, resource| {
        spec.resources.contains_key(name) || (resource.holder.is_some() && kept)
    });
}

/// See [`model::Timers::outlive`]; cluster time runs no faster than any clock.
fn remember_longer(state: &mut ClusterState, before: Profile) {
    let timers = before.timers();
    let lease = timers.lease;
    if lease <= state.spec.timers().lease {
        return;
    }
    let until = ClusterMs(state.now.0 + timers.outlive().as_ms());
    let known = state.longer.unwrap_or(LongerProfile { profile: before, until });
    let longer = known.profile.timers().lease > lease;
    let profile = if longer { known.profile } else { before };
    state.longer = Some(LongerProfile { profile, until: until.max(known.until) });
}

pub(super) fn add_token(state: &mut ClusterState, token: &TokenRecord) -> Change {
    if state.tokens.len() >= TOKENS_MAX || state.tokens.contains_key(&token.hash) {
        return None;
    }
    state.tokens.insert(token.hash, token.clone());
    Some(None)
}

pub(super) fn use_token(state: &mut ClusterState, hash: &[u8; 32], name: &NodeName) -> Change {
    if state.trust.revoked.contains_key(name) {
        return None;
    }
    spend(state, hash, Bearer::Person(name))?;
    let role = state.tokens.get(hash)?.role;
    super::authority::remember(state, name, role, state.trust.issuer);
    Some(None)
}

/// Marks a token as used, where it is good for this.
fn spend(state: &mut ClusterState, hash: &[u8; 32], bearer: Bearer<'_>) -> Option<()> {
    if token::refusal(state, hash, bearer).is_some() {
        return None;
    }
    state.tokens.get_mut(hash)?.used = true;
    Some(())
}

pub(super) fn join(state: &mut ClusterState, request: &JoinRequest, replica: ReplicaId) -> Change {
    if replica.0 != state.next_replica {
        return None;
    }
    match &request.token {
        Some(hash) => spend(state, hash, Bearer::Node(request))?,
        // A rejoin: only a node that is in already may take a new incarnation, or one that was
        // in an earlier generation.
        None if state.members.contains_key(&request.node) => {}
        None => {
            state.awaited.get(&request.node)?;
        }
    }
    admit(state, request);
    Some(Some(EventKind::Joined { node: request.node.clone(), replica }))
}

pub(super) fn admit(state: &mut ClusterState, request: &JoinRequest) {
    let before = state.members.get(&request.node);
    let member = Member {
        replica: ReplicaId(state.next_replica),
        role: request.role,
        datagram_key: request.datagram_key,
        joined: state.now,
        drain_until: before.and_then(|m| m.drain_until),
        maintenance_until: before.and_then(|m| m.maintenance_until),
    };
    state.next_replica += 1;
    state.awaited.remove(&request.node);
    state.trust.shut_out.remove(&request.node);
    state.members.insert(request.node.clone(), member);
}

pub(super) fn forget(state: &mut ClusterState, node: &NodeName) -> Change {
    state.trust.shut_out.remove(node);
    let (member, awaited) = (state.members.remove(node), state.awaited.remove(node));
    if member.is_none() && awaited.is_none() {
        return None;
    }
    Some(Some(EventKind::Left { node: node.clone() }))
}

pub(super) fn drain(state: &mut ClusterState, node: &NodeName, until: ClusterMs) -> Change {
    state.members.get_mut(node)?.drain_until = Some(until);
    Some(Some(EventKind::DrainBegan { node: node.clone(), until }))
}

pub(super) fn undrain(state: &mut ClusterState, node: &NodeName) -> Change {
    state.members.get_mut(node)?.drain_until.take()?;
    Some(Some(EventKind::DrainEnded { node: node.clone() }))
}

pub(super) fn maintenance(
    state: &mut ClusterState,
    scope: &Scope,
    until: Option<ClusterMs>,
) -> Change {
    let place = match scope {
        Scope::Cluster => &mut state.maintenance_until,
        Scope::Node(node) => &mut state.members.get_mut(node)?.maintenance_until,
        Scope::Resource(resource) => &mut state.resources.get_mut(resource)?.maintenance_until,
    };
    let before = core::mem::replace(place, until);
    match until {
        Some(until) => Some(Some(EventKind::MaintenanceBegan { scope: scope.clone(), until })),
        None => {
            before?;
            Some(Some(EventKind::MaintenanceEnded { scope: scope.clone() }))
        }
    }
}

pub(super) fn absence(
    state: &mut ClusterState,
    index: u64,
    replica: ReplicaId,
    boot: u64,
    request: u64,
    for_ms: u64,
) -> Change {
    state.node_of(replica)?;
    let at = state.now;
    // A longer one that was committed before runs on.
    let rest = |known: &Absence| known.for_ms.saturating_sub(at.since(known.at));
    let for_ms = for_ms.max(state.absences.get(&replica).map_or(0, rest));
    state.absences.insert(replica, Absence { index, at, boot, request, for_ms });
    Some(Some(EventKind::Absent { replica, for_ms }))
}
