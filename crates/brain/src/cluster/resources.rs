//! Applying what concerns resources.

use model::command::{Command, Entry};
use model::state::{
    ClusterState, EventKind, FAILURES_MAX, FailureRecord, Holder, MOVES_MAX, Move, Quarantine,
    ResourceState, Timing, Wanted,
};
use model::{ClusterMs, Epoch, ResourceName};

use super::planned;
use crate::plant::{Plant, Plants};

type Change = Option<Option<EventKind>>;

pub(super) fn change(
    state: &mut ClusterState,
    index: u64,
    entry: &Entry,
    plants: Plants,
) -> Change {
    match &entry.command {
        Command::Assign { .. } => assign(state, index, entry, plants),
        Command::Release { resource, epoch } => release(state, resource, *epoch),
        Command::Vacate { resource, epoch, .. } => vacate(state, resource, *epoch),
        Command::Active { resource, epoch, timing } => active(state, resource, *epoch, *timing),
        Command::Stuck { resource, epoch } => {
            let holder = held_mut(state, resource, *epoch)?.holder.as_mut()?;
            if core::mem::replace(&mut holder.stuck, true) {
                return None;
            }
            // It was to stop: it never becomes active again under this epoch.
            holder.releasing = true;
            let (resource, node, epoch) = (resource.clone(), holder.node.clone(), *epoch);
            Some(Some(EventKind::Stuck { resource, node, epoch }))
        }
        Command::Failed { .. } => failed(state, entry),
        Command::Quarantine { resource } => {
            let (since, wall_ms) = (state.now, entry.wall_ms);
            let held = state.resources.get_mut(resource)?;
            if held.quarantine.is_some() {
                return None;
            }
            let reasons = entry.reasons.clone();
            held.quarantine = Some(Quarantine { since, wall_ms, reasons });
            held.switchover = None;
            Some(Some(EventKind::Quarantined { resource: resource.clone() }))
        }
        Command::Clear { resource } => {
            let held = state.resources.get_mut(resource)?;
            held.failures.clear();
            held.bans.clear();
            held.quarantine = None;
            held.hold_until = ClusterMs(0);
            Some(Some(EventKind::Cleared { resource: resource.clone() }))
        }
        Command::Switchover { resource, to } => {
            state.members.get(to)?;
            let since = state.now;
            let held = state.resources.get_mut(resource)?;
            held.switchover = Some(Wanted { to: to.clone(), since });
            Some(Some(EventKind::SwitchoverBegan { resource: resource.clone(), to: to.clone() }))
        }
        Command::EndSwitchover { resource } => {
            state.resources.get_mut(resource)?.switchover.take()?;
            Some(Some(EventKind::SwitchoverEnded { resource: resource.clone() }))
        }
        _ => None,
    }
}

fn active(
    state: &mut ClusterState,
    resource: &ResourceName,
    epoch: Epoch,
    timing: Timing,
) -> Change {
    let held = held_mut(state, resource, epoch)?;
    let holder = held.holder.as_mut()?;
    if holder.active {
        return None;
    }
    holder.active = true;
    let node = holder.node.clone();
    if held.switchover.as_ref().is_some_and(|wanted| wanted.to == node) {
        held.switchover = None;
    }
    if let Some(last) = held.moves.back_mut().filter(|m| m.epoch == epoch) {
        last.timing = Some(timing);
    }
    Some(Some(EventKind::Active { resource: resource.clone(), node, epoch, timing }))
}

fn held_mut<'a>(
    state: &'a mut ClusterState,
    resource: &ResourceName,
    epoch: Epoch,
) -> Option<&'a mut ResourceState> {
    let held = state.resources.get_mut(resource)?;
    held.holder.as_ref().is_some_and(|h| h.epoch == epoch).then_some(held)
}

fn assign(state: &mut ClusterState, index: u64, entry: &Entry, plants: Plants) -> Change {
    let Command::Assign { resource, node, replica, previous, epoch, evidence } = &entry.command
    else {
        return None;
    };
    let member = state.members.get(node)?;
    let held = state.resources.get_mut(resource)?;
    if member.replica != *replica || held.epoch != *previous {
        return None;
    }
    // Rule 9: epochs only grow, over all resources, so that a resource that is taken out of the
    // specification and put back does not start again. Planted: what the two faults of the
    // coordinator propose would be refused here.
    let lax = plants.has(Plant::EpochNotRaised) || plants.has(Plant::EpochPerResource);
    if *epoch <= state.last_epoch && !lax {
        return None;
    }
    let from = held.holder.take().map(|h| h.node).or_else(|| held.last_node.clone());
    if !plants.has(Plant::LastEpochForgotten) {
        state.last_epoch = state.last_epoch.max(*epoch);
    }
    held.epoch = *epoch;
    held.last_node = Some(node.clone());
    held.holder = Some(Holder {
        node: node.clone(),
        replica: *replica,
        epoch: *epoch,
        since: state.now,
        wall_ms: entry.wall_ms,
        releasing: false,
        active: false,
        stuck: false,
        spec_version: state.spec_version,
    });
    while held.moves.len() >= MOVES_MAX {
        held.moves.pop_front();
    }
    let planned = planned(&entry.reasons);
    held.moves.push_back(Move {
        index,
        from: from.clone(),
        to: node.clone(),
        epoch: *epoch,
        planned,
        at: state.now,
        wall_ms: entry.wall_ms,
        reasons: entry.reasons.clone(),
        evidence: evidence.clone(),
        timing: None,
    });
    let (resource, to, epoch) = (resource.clone(), node.clone(), *epoch);
    Some(Some(EventKind::Assigned { resource, from, to, epoch, planned }))
}

fn release(state: &mut ClusterState, resource: &ResourceName, epoch: Epoch) -> Change {
    let holder = held_mut(state, resource, epoch)?.holder.as_mut()?;
    if holder.releasing {
        return None;
    }
    holder.releasing = true;
    let node = holder.node.clone();
    Some(Some(EventKind::Releasing { resource: resource.clone(), node, epoch }))
}

fn vacate(state: &mut ClusterState, resource: &ResourceName, epoch: Epoch) -> Change {
    let held = held_mut(state, resource, epoch)?;
    let holder = held.holder.take()?;
    held.last_node = Some(holder.node.clone());
    if !state.spec.resources.contains_key(resource) {
        state.resources.remove(resource);
    }
    Some(Some(EventKind::Vacated { resource: resource.clone(), node: holder.node, epoch }))
}

fn failed(state: &mut ClusterState, entry: &Entry) -> Change {
    let Command::Failed { resource, node, key, epoch, failure, ban_until, hold_until } =
        &entry.command
    else {
        return None;
    };
    let at = state.now;
    let held = state.resources.get_mut(resource)?;
    if held.failures.iter().any(|known| known.key == *key) {
        return None;
    }
    while held.failures.len() >= FAILURES_MAX {
        held.failures.pop_front();
    }
    held.failures.push_back(FailureRecord {
        key: *key,
        node: node.clone(),
        epoch: *epoch,
        failure: failure.clone(),
        at,
        wall_ms: entry.wall_ms,
    });
    if let Some(until) = ban_until {
        held.bans.insert(node.clone(), *until);
    }
    if let Some(until) = hold_until {
        held.hold_until = held.hold_until.max(*until);
    }
    let (resource, node) = (resource.clone(), node.clone());
    let (failure, ban_until) = (failure.clone(), *ban_until);
    Some(Some(EventKind::Failed { resource, node, failure, ban_until }))
}
