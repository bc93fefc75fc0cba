//! A new generation from the control state of the one before: after a majority of the voters was
//! lost for good, or from an exported file.
//!
//! Every lease and every assignment of the generation before is void, and none of its voters is
//! one any more. What keeps an instance of it and one of the new generation apart:
//!
//! - its epochs are below every epoch of the new one, so whatever checks epochs refuses it;
//! - nothing is placed before the longest lease that it can have been granted has passed;
//! - no replica id of it is a member, so no message, vote or heartbeat of it counts here;
//! - it hears of the higher generation on any contact, and stops for good (the transport's part);
//! - its holders stay listed as such until then, so that a stuck one is still a stuck one.

use alloc::string::String;
use alloc::vec;

use model::authority::Trust;
use model::state::{Awaited, ClusterState, Event, EventKind, HISTORY_MAX, Refounding, WaitOut};
use model::{Epoch, Profile, Reason, ReplicaId};

use super::nodes;
use crate::coordinator::operations::ABSENCE_MAX_MS;
use crate::plant::{Plant, Plants};

/// Replica ids skipped: as many incarnations may have joined in entries that nobody has any more.
pub const REPLICA_MARGIN: u64 = 1_000;
/// Log indices skipped, so that those of the new generation are above all that may be lost.
pub const INDEX_MARGIN: u64 = 1_000_000;
/// Terms skipped, for the same reason.
pub const TERM_MARGIN: u64 = 1_000;
/// Epochs skipped within the counter: a program that looks at the counter alone is safe too.
pub const EPOCH_MARGIN: u64 = 1_000_000;
/// Low bits of a generation that are drawn at random.
const RANDOM_BITS: u32 = 30;

/// Why no generation can begin like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefoundError {
    /// The control state is that of no cluster.
    NoCluster,
    /// The generation is not above the one before.
    Generation,
    /// The index is not above the one before.
    Index,
}

impl core::fmt::Display for RefoundError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            RefoundError::NoCluster => "there is no control state to go on from",
            RefoundError::Generation => "its generation is not above the one before",
            RefoundError::Index => "its first index is not above the last one before",
        })
    }
}

impl core::error::Error for RefoundError {}

/// A generation that is higher than `before` and `above`, and than every one that was drawn
/// earlier on a machine whose wall clock was right: the seconds lead, 30 random bits follow, so
/// that two people who begin one from the same state draw two. It fits into 63 bits until 2242.
#[must_use]
pub fn next_generation(before: u64, above: u64, wall_s: u64, random: u64) -> u64 {
    let floor = (before.max(above) >> RANDOM_BITS) + 1;
    let wall = wall_s.min((1 << 33) - 1);
    (wall.max(floor) << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1))
}

/// The longest that any instance may go on without a word from its coordinator, under whatever
/// profile: its last lease, or a planned absence.
#[must_use]
pub fn longest_lease_ms() -> u64 {
    let leases = Profile::ALL.iter().map(|profile| profile.timers().lease.as_ms());
    leases.fold(ABSENCE_MAX_MS, u64::max)
}

/// The control state that a new generation begins with.
///
/// # Errors
/// [`RefoundError`]; nothing can be founded then.
pub fn refound(
    before: &ClusterState,
    with: &Refounding,
    plants: Plants,
) -> Result<ClusterState, RefoundError> {
    if before.cluster_id == 0 {
        return Err(RefoundError::NoCluster);
    }
    let raised = !plants.has(Plant::GenerationNotRaised);
    if with.generation <= before.generation {
        return Err(RefoundError::Generation);
    }
    if with.index <= before.index {
        return Err(RefoundError::Index);
    }
    let mut state = before.clone();
    state.cluster_id = with.cluster_id;
    state.index = with.index;
    state.wall_ms = with.wall_ms;
    if state.authorities != with.authorities {
        // A rotation goes on where both authorities are known still, and ends with an import.
        state.authorities.clone_from(&with.authorities);
        let trust = &mut state.trust;
        (trust.version, trust.issuer, trust.rotation) = (with.index, None, None);
        trust.shut_out.clear();
    }
    if !with.keep_identities {
        state.trust = Trust::default();
    }
    if raised {
        state.generation = with.generation;
        let counter = before.last_epoch.counter.saturating_add(EPOCH_MARGIN);
        state.last_epoch = Epoch { generation: with.generation, counter };
    }
    bar(&mut state, with);
    void(&mut state);
    state.wait_out = Some(WaitOut { ms: with.wait_ms });
    remember(&mut state, before, with);
    Ok(state)
}

/// Nobody is a member but the founder, under a replica id that nobody had.
fn bar(state: &mut ClusterState, with: &Refounding) {
    let founder = &with.founder;
    let members = state.members.clone();
    if with.keep_identities {
        let awaited = members.iter().filter(|(name, _)| **name != founder.node);
        let awaited = awaited.map(|(name, member)| {
            (name.clone(), Awaited { role: member.role, barred: member.replica })
        });
        state.awaited.extend(awaited);
    } else {
        state.awaited.clear();
    }
    state.members.retain(|name, _| *name == founder.node);
    state.next_replica = state.next_replica.saturating_add(REPLICA_MARGIN);
    nodes::admit(state, founder);
}

/// What was promised to anyone in the generation before holds no more. Tokens go too: one that
/// was used in an entry that is lost would open the cluster a second time.
fn void(state: &mut ClusterState) {
    state.tokens.clear();
    state.absences.clear();
    state.longer = None;
    state.renounced = None;
    for held in state.resources.values_mut() {
        held.switchover = None;
        if let Some(holder) = &mut held.holder {
            holder.active = false;
        }
    }
}

fn remember(state: &mut ClusterState, before: &ClusterState, with: &Refounding) {
    while state.history.len() >= HISTORY_MAX {
        state.history.pop_front();
    }
    state.history.push_back(Event {
        index: with.index,
        at: state.now,
        wall_ms: with.wall_ms,
        by: state.replica_of(&with.founder.node).unwrap_or(ReplicaId(0)),
        what: EventKind::Refounded {
            kind: with.kind,
            before: before.generation,
            generation: with.generation,
            known: before.index,
            off: with.off.clone(),
            by: with.by.clone(),
            why: with.why.clone(),
        },
        reasons: vec![Reason::Asked { by: String::from(&*with.by) }],
    });
}

/// Applies [`model::Command::WaitedOut`].
pub(super) fn waited_out(state: &mut ClusterState, generation: u64) -> Option<Option<EventKind>> {
    if generation != state.generation {
        return None;
    }
    state.wait_out.take()?;
    Some(Some(EventKind::WaitedOut { generation }))
}

#[cfg(test)]
mod tests;
