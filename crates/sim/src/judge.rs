//! What the observer remembers from step to step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use journal::Chain;
use model::state::{ClusterState, Renounced};
use model::{Epoch, NodeName, ReplicaId, ResourceName};

use crate::operators::Asked;

/// What the observer remembers.
pub(crate) struct Judge {
    pub(crate) highest: Epoch,
    pub(crate) holders: BTreeMap<ResourceName, (NodeName, ReplicaId, Epoch)>,
    pub(crate) leaders: BTreeMap<u64, ReplicaId>,
    pub(crate) chains: Vec<Option<Chain>>,
    pub(crate) hashes: BTreeMap<u64, blake3::Hash>,
    pub(crate) renounced: Vec<Renounced>,
    /// Until when a committed absence lets a replica's lease run, in true time.
    pub(crate) absences: BTreeMap<ReplicaId, u64>,
    pub(crate) handed: BTreeSet<(usize, usize, Epoch)>,
    /// Instances that were recorded as not to be stopped.
    pub(crate) stuck: BTreeSet<(ResourceName, Epoch)>,
    pub(crate) index: u64,
    /// The newest coordinator was elected while promises to its predecessor were running, so it
    /// can only have been by a renounce entry.
    pub(crate) by_proof: bool,
    pub(crate) unplanned: BTreeMap<ResourceName, u64>,
    /// When each resource was assigned last, newest last.
    pub(crate) assigned: BTreeMap<ResourceName, VecDeque<u64>>,
    pub(crate) lapses: u64,
    /// The newest entry that somebody was told is done.
    pub(crate) told: u64,
    /// The newest entry that somebody applied.
    pub(crate) applied: u64,
    /// Requests without an answer, each with what was applied when it was made.
    pub(crate) asked: BTreeMap<Asked, u64>,
}

impl Judge {
    pub(crate) fn new(state: &ClusterState) -> Judge {
        Judge {
            highest: state.last_epoch,
            holders: BTreeMap::new(),
            leaders: BTreeMap::new(),
            chains: Vec::new(),
            hashes: BTreeMap::new(),
            renounced: Vec::new(),
            absences: BTreeMap::new(),
            handed: BTreeSet::new(),
            stuck: BTreeSet::new(),
            index: state.index,
            by_proof: false,
            unplanned: BTreeMap::new(),
            assigned: BTreeMap::new(),
            lapses: 0,
            told: 0,
            applied: 0,
            asked: BTreeMap::new(),
        }
    }

    /// From here on a control state says who holds what, whatever was known before.
    pub(crate) fn holds(&mut self, state: &ClusterState) {
        let held = state.resources.iter().filter_map(|(name, held)| {
            let holder = held.holder.as_ref()?;
            Some((name.clone(), (holder.node.clone(), holder.replica, holder.epoch)))
        });
        self.holders = held.collect();
    }

    /// The newest index at which somebody applied a change.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }
}
