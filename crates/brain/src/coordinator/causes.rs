//! Why a resource leaves its holder, for those who ask later.

use alloc::vec::Vec;

use model::report::{Evidence, EvidenceGround};
use model::state::{ClusterState, EventKind, FailureRecord, Holder};
use model::{Reason, ResourceName};

use super::{Coordinator, Now};
use crate::cluster;

impl Coordinator {
    /// Why it leaves its holder at all, where a failure or an order is behind that: the proof alone
    /// says that it can. A node that was lost is its own cause.
    pub(super) fn causes(
        &self,
        now: Now,
        state: &ClusterState,
        name: &ResourceName,
        holder: &Holder,
        evidence: &Evidence,
    ) -> Vec<Reason> {
        if evidence.ground == EvidenceGround::Lapsed {
            return Vec::new();
        }
        if holder.releasing {
            return released_for(state, name, holder);
        }
        let unrecorded = self.unrecorded(state, name, self.cluster_now(now.moment));
        let recorded =
            state.resources.get(name).into_iter().flat_map(|held| held.failures.iter().rev());
        let mut failures = unrecorded.iter().rev().chain(recorded);
        let its = failures.find(|f| f.node == holder.node && f.epoch == Some(holder.epoch));
        let failed =
            |f: &FailureRecord| Reason::Failed { node: f.node.clone(), failure: f.failure.clone() };
        its.map(failed).into_iter().collect()
    }
}

/// Why a holder had to give up, from the record of that decision.
fn released_for(state: &ClusterState, name: &ResourceName, holder: &Holder) -> Vec<Reason> {
    let told = state.history.iter().rev().find(|event| {
        matches!(&event.what, EventKind::Releasing { resource, epoch, .. }
            if resource == name && *epoch == holder.epoch)
    });
    let cause =
        |reason: &&Reason| cluster::is_order(reason) || matches!(reason, Reason::With { .. });
    told.into_iter().flat_map(|event| event.reasons.iter().filter(cause).cloned()).collect()
}
