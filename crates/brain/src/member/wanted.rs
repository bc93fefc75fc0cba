//! What one instance on this node should be now: nothing, standby, or active under an epoch.

use model::report::{EvidenceGround, InstancePhase};
use model::spec::{ResourceSpec, Standby};
use model::state::{ClusterState, Holder};
use model::{Epoch, Moment, ResourceName};

use super::{LeaseView, Member};
use crate::placement;
use crate::plant::Plant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    Standby,
    Active(Epoch),
}

impl Member {
    pub(super) fn wanted(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
        resource: &ResourceName,
    ) -> Want {
        let Some(spec) = state.spec.resources.get(resource) else {
            return self.unspecified(resource, state, now);
        };
        let Some(held) = state.resources.get(resource) else { return Want::Nothing };
        let standby = |wants: bool| if wants { Want::Standby } else { Want::Nothing };
        let hot = spec.standby == Standby::Hot
            && placement::may_run(state, resource, &self.config.node).is_ok();
        let by_name = self.config.plants.has(Plant::AssignmentByName);
        let mine = |h: &&Holder| {
            h.replica == self.config.replica || (by_name && h.node == self.config.node)
        };
        let Some(holder) = held.holder.as_ref().filter(mine) else {
            return standby(hot && held.quarantine.is_none());
        };
        let epoch = holder.epoch;
        if self.is_burnt(resource, epoch) {
            return standby(hot && held.quarantine.is_none());
        }
        if holder.releasing {
            let runs = self.instances.get(resource).is_some_and(|i| i.epoch == Some(epoch));
            if !runs {
                self.burn(now, resource, epoch, EvidenceGround::NeverStarted);
            } else if self.has_companion(state, resource) {
                return Want::Active(epoch);
            }
            return standby(hot && held.quarantine.is_none());
        }
        let active_already = self.instances.get(resource).is_some_and(|i| i.epoch == Some(epoch));
        let in_time = lease.end.is_some_and(|end| now + lease.stopping * 2 < end);
        let known = state.index >= lease.fresh_from && lease.fresh_from != u64::MAX;
        let guarded = self.guard.is_some() || self.config.plants.has(Plant::UnguardedActivation);
        let beside = self.has_what_it_runs_with(state, spec);
        if active_already || (in_time && known && guarded && beside) {
            return Want::Active(epoch);
        }
        // Not yet: no lease, no guard, not caught up, or what it runs `with` is not active. A
        // standby may wait for it.
        self.waits = true;
        if self.instances.contains_key(resource) { Want::Standby } else { standby(hot) }
    }

    /// What this one runs `with` is active here, as the control state wants it.
    fn has_what_it_runs_with(&self, state: &ClusterState, spec: &ResourceSpec) -> bool {
        let Some(other) = spec.with.as_ref() else { return true };
        if self.config.plants.has(Plant::CompanionFirst) {
            return true;
        }
        let holder = state.resources.get(other).and_then(|held| held.holder.as_ref());
        let instance = self.instances.get(other);
        instance.zip(holder).is_some_and(|(instance, holder)| {
            instance.phase == InstancePhase::Active && instance.epoch == Some(holder.epoch)
        })
    }

    /// Something that runs `with` this one may still act here: it goes first.
    fn has_companion(&self, state: &ClusterState, resource: &ResourceName) -> bool {
        let acts = |name: &ResourceName| {
            self.instances.get(name).is_some_and(|instance| instance.epoch.is_some())
        };
        !self.config.plants.has(Plant::CompanionLeft)
            && placement::companions(&state.spec, resource).any(acts)
    }

    fn unspecified(&mut self, resource: &ResourceName, state: &ClusterState, now: Moment) -> Want {
        let holder = state.resources.get(resource).and_then(|held| held.holder.as_ref());
        if let Some(holder) = holder.filter(|h| h.replica == self.config.replica)
            && holder.releasing
            && !self.instances.contains_key(resource)
        {
            self.burn(now, resource, holder.epoch, EvidenceGround::NeverStarted);
        }
        Want::Nothing
    }
}
