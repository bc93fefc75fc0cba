//! The cluster machine: applies log entries to the replicated state, the same on every node.
//!
//! It decides nothing. A command whose precondition does not hold any more (a decision that was
//! overtaken on its way through the log) changes nothing but the clock and the index.

mod authority;
mod heads;
mod nodes;
pub mod refound;
mod resources;

use model::command::{Command, Entry};
use model::state::{ClusterState, Event, EventKind, HISTORY_MAX, Renounced};
use model::{ClusterMs, Reason};

use alloc::vec::Vec;

use crate::plant::Plants;

/// Whether an entry took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It did.
    Done,
    /// Its precondition did not hold; nothing was changed.
    Overtaken,
}

/// Applies one entry at its log index. Indices rise; an index that was applied already (a replay
/// after a snapshot) is passed over.
pub fn apply(state: &mut ClusterState, index: u64, entry: &Entry) -> Applied {
    apply_with(state, index, entry, Plants::NONE)
}

/// [`apply`] on a node with planted faults.
pub fn apply_with(state: &mut ClusterState, index: u64, entry: &Entry, plants: Plants) -> Applied {
    if index <= state.index {
        return Applied::Overtaken;
    }
    state.index = index;
    state.now = state.now.max(entry.now);
    state.wall_ms = entry.wall_ms;
    expire(state);
    match change(state, index, entry, plants) {
        Some(what) => {
            if let Some(kind) = what {
                remember(state, index, entry, kind);
            }
            Applied::Done
        }
        None => Applied::Overtaken,
    }
}

/// Entries of other kinds (an empty one of a new term, a membership change) only move the index.
pub fn skip(state: &mut ClusterState, index: u64) {
    state.index = state.index.max(index);
}

/// `None`: the precondition did not hold. `Some(None)`: done, nothing to remember.
fn change(
    state: &mut ClusterState,
    index: u64,
    entry: &Entry,
    plants: Plants,
) -> Option<Option<EventKind>> {
    match &entry.command {
        Command::Genesis(genesis) => nodes::genesis(state, genesis),
        Command::Barrier => Some(None),
        Command::Apply { version, spec, text } => {
            nodes::specify(state, *version, spec, text, plants)
        }
        Command::AddToken { token } => nodes::add_token(state, token),
        Command::UseToken { token, name } => nodes::use_token(state, token, name),
        Command::Join { request, replica } => nodes::join(state, request, *replica),
        Command::Forget { node } => nodes::forget(state, node),
        Command::Drain { node, until } => nodes::drain(state, node, *until),
        Command::Undrain { node } => nodes::undrain(state, node),
        Command::Maintenance { scope, until } => nodes::maintenance(state, scope, Some(*until)),
        Command::EndMaintenance { scope } => nodes::maintenance(state, scope, None),
        Command::Absence { replica, request, boot, for_ms } => {
            nodes::absence(state, index, *replica, *boot, *request, *for_ms)
        }
        Command::Renounce { term, candidate } => {
            state.renounced = Some(Renounced { term: *term, candidate: *candidate });
            Some(Some(EventKind::Renounced { term: *term, candidate: *candidate }))
        }
        Command::Rotate { to, step } => authority::rotate(state, index, *to, step),
        Command::Certify { name, role, authority } => {
            authority::certify(state, name, *role, *authority)
        }
        Command::Revoke { name, until } => authority::revoke(state, name, *until),
        Command::WaitedOut { generation } => refound::waited_out(state, *generation),
        Command::RecordHead { .. }
        | Command::NoteFork { .. }
        | Command::ClearFork { .. }
        | Command::AcceptHead { .. }
        | Command::ForgetRepository { .. } => heads::change(state, index, entry),
        _ => resources::change(state, index, entry, plants),
    }
}

/// Whether a move was asked for rather than forced by a failure.
pub(crate) fn planned(reasons: &[Reason]) -> bool {
    reasons.iter().any(is_order)
}

/// Whether a reason goes back to somebody's order.
pub(crate) fn is_order(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Asked { .. }
            | Reason::Draining { .. }
            | Reason::Failback { .. }
            | Reason::NotAllowed { .. }
            | Reason::SpecChanged { .. }
    )
}

fn expire(state: &mut ClusterState) {
    let now = state.now;
    let passed = |end: &Option<ClusterMs>| end.is_some_and(|end| end <= now);
    if passed(&state.maintenance_until) {
        state.maintenance_until = None;
    }
    for member in state.members.values_mut() {
        if passed(&member.drain_until) {
            member.drain_until = None;
        }
        if passed(&member.maintenance_until) {
            member.maintenance_until = None;
        }
    }
    for resource in state.resources.values_mut() {
        if passed(&resource.maintenance_until) {
            resource.maintenance_until = None;
        }
        resource.bans.retain(|_, until| *until > now);
    }
    authority::expire(state);
    state.tokens.retain(|_, token| token.expires > now);
    // Cluster time runs at most as fast as any node's clock, so twice the span is past drift.
    state.absences.retain(|_, absence| now.since(absence.at) <= absence.for_ms * 2);
    state.longer = state.longer.filter(|longer| now <= longer.until);
}

fn remember(state: &mut ClusterState, index: u64, entry: &Entry, what: EventKind) {
    while state.history.len() >= HISTORY_MAX {
        state.history.pop_front();
    }
    let reasons: Vec<Reason> = entry.reasons.clone();
    state.history.push_back(Event {
        index,
        at: state.now,
        wall_ms: entry.wall_ms,
        by: entry.by,
        what,
        reasons,
    });
}

#[cfg(test)]
mod tests;
