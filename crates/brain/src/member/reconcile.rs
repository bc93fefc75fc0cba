//! Closes the gap between what the control state asks of this node and what its instances do.

use alloc::vec::Vec;

use model::report::{EvidenceGround, InstancePhase};
use model::state::ClusterState;
use model::{Epoch, Moment, ResourceName};

use super::wanted::Want;
use super::{Action, Instance, LeaseView, Member, StartRole};
use crate::plant::Plant;

impl Member {
    /// What to do now so that the instances do what the control state asks.
    pub fn reconcile(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
    ) -> Vec<Action> {
        self.waits = false;
        self.notice_lapse(now, state, lease);
        if !self.launcher {
            return Vec::new();
        }
        let mut actions = Vec::new();
        let names: Vec<ResourceName> = state
            .resources
            .keys()
            .chain(self.instances.keys().filter(|r| !state.resources.contains_key(*r)))
            .cloned()
            .collect();
        for resource in names {
            if let Some(action) = self.reconcile_one(now, state, lease, &resource) {
                self.dirty = true;
                actions.push(action);
            }
        }
        actions
    }

    /// A lapse burns what this node held, whether it runs or not; and a lease that began after a
    /// lapse (or a start) makes every assignment before it stale.
    fn notice_lapse(&mut self, now: Moment, state: &ClusterState, lease: LeaseView) {
        if lease.lapses > self.lapses_seen {
            self.lapses_seen = lease.lapses;
            self.stale_upto = u64::MAX;
        }
        if self.stale_upto == u64::MAX && lease.end.is_some() && lease.fresh_from != u64::MAX {
            self.stale_upto = lease.fresh_from;
        }
        let leased = lease.end.is_some() && lease.fresh_from != u64::MAX;
        self.dirty |= leased != core::mem::replace(&mut self.leased, leased);
        if !self.launcher {
            return;
        }
        self.burn_lapsed(now);
        let stale_upto = if lease.end.is_some() { self.stale_upto } else { u64::MAX };
        for (resource, held) in &state.resources {
            let Some(holder) = held.holder.as_ref().filter(|h| h.replica == self.config.replica)
            else {
                continue;
            };
            let index = held.moves.back().map_or(0, |m| m.index);
            let runs = self.instances.get(resource).is_some_and(|i| i.epoch == Some(holder.epoch));
            let lapsed = self.lapses_seen > 0 && lease.end.is_none();
            if !self.is_burnt(resource, holder.epoch) {
                // At a start nothing is known of the lease before the first grant: wait for it.
                let known = lease.end.is_some() && self.stale_upto != u64::MAX;
                if !runs && known && index <= stale_upto {
                    self.burn(now, resource, holder.epoch, EvidenceGround::NeverStarted);
                } else if lapsed {
                    self.burn(now, resource, holder.epoch, EvidenceGround::Lapsed);
                }
            }
        }
    }

    /// A lease that lapsed burns what it covered even where the next one has begun already (the
    /// whole machine stood still, and the first datagram after it brought a grant): somebody else
    /// may have been given the resource in between.
    fn burn_lapsed(&mut self, now: Moment) {
        let lapsed: Vec<(ResourceName, Epoch)> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.lapses < self.lapses_seen)
            .filter_map(|(resource, instance)| Some((resource.clone(), instance.epoch?)))
            .collect();
        for (resource, epoch) in lapsed {
            self.burn(now, &resource, epoch, EvidenceGround::Lapsed);
        }
    }

    fn reconcile_one(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
        resource: &ResourceName,
    ) -> Option<Action> {
        let wanted = self.wanted(now, state, lease, resource);
        let spec = state.spec.resources.get(resource);
        let Some(instance) = self.instances.get(resource) else {
            return self.start(now, state, resource, wanted);
        };
        let epoch = instance.epoch;
        let by_socket = spec.is_some_and(|s| s.kind.changes_roles());
        let stale_kind = || spec.is_some_and(|s| s.kind != instance.kind);
        match (instance.phase, wanted) {
            (InstancePhase::Stopping | InstancePhase::Stuck, _) => None,
            // A burnt epoch or a failed health check ends now; whether it also ends well is
            // secondary.
            (_, _) if epoch.is_some_and(|e| self.is_burnt(resource, e)) => {
                self.stop(resource, true)
            }
            (_, _) if !instance.healthy => {
                if let Some(epoch) = epoch {
                    self.burn(now, resource, epoch, EvidenceGround::Empty);
                }
                self.pause(now, state, resource);
                self.stop(resource, true)
            }
            // What became of it stands in entries that are not applied yet, as after a restart:
            // nothing is concluded from what was before it.
            (_, _) if epoch.is_some_and(|e| is_ahead(state, resource, e)) => None,
            (_, Want::Nothing) => self.stop(resource, false),
            (InstancePhase::Active | InstancePhase::Promoting, Want::Active(new)) => {
                if epoch == Some(new) {
                    return None;
                }
                if self.relabels() {
                    self.instances.get_mut(resource)?.epoch = Some(new);
                    return None;
                }
                // A new epoch restarts or re-promotes, it never relabels.
                self.give_up(resource, epoch, by_socket)
            }
            (InstancePhase::Active, Want::Standby) if self.relabels() => {
                // Planted: given up on paper alone, so that the next epoch finds it running.
                let epoch = self.instances.get_mut(resource)?.epoch.take()?;
                self.burn(now, resource, epoch, EvidenceGround::Demoted);
                None
            }
            (InstancePhase::Active, Want::Standby) => self.give_up(resource, epoch, by_socket),
            // One that can't change roles is restarted by the launcher as part of its promotion.
            (InstancePhase::Standby, Want::Active(_)) if stale_kind() => self.stop(resource, false),
            (InstancePhase::Standby, Want::Active(new)) => {
                let lapses = self.lapses_seen;
                let instance = self.instances.get_mut(resource)?;
                instance.phase = InstancePhase::Promoting;
                instance.epoch = Some(new);
                instance.lapses = lapses;
                Some(Action::Promote { resource: resource.clone(), epoch: new })
            }
            (InstancePhase::Standby, Want::Standby) if stale_kind() => self.stop(resource, false),
            _ => None,
        }
    }

    fn relabels(&self) -> bool {
        self.config.plants.has(Plant::EpochRelabelled)
    }

    fn give_up(
        &mut self,
        resource: &ResourceName,
        epoch: Option<Epoch>,
        by_socket: bool,
    ) -> Option<Action> {
        let epoch = epoch.filter(|_| by_socket);
        let Some(epoch) = epoch else { return self.stop(resource, false) };
        self.instances.get_mut(resource)?.phase = InstancePhase::Stopping;
        Some(Action::Demote { resource: resource.clone(), epoch })
    }

    fn stop(&mut self, resource: &ResourceName, at_once: bool) -> Option<Action> {
        let instance = self.instances.get_mut(resource)?;
        instance.phase = InstancePhase::Stopping;
        let (resource, number, epoch) = (resource.clone(), instance.number, instance.epoch);
        Some(Action::Stop { resource, number, epoch, at_once })
    }

    fn start(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        wanted: Want,
    ) -> Option<Action> {
        let spec = state.spec.resources.get(resource)?;
        let role = match wanted {
            Want::Nothing => return None,
            // Started as standby and promoted when ready, so that one path serves both.
            Want::Active(_) if spec.kind.changes_roles() => StartRole::Standby,
            Want::Active(epoch) => StartRole::Active(epoch),
            Want::Standby => StartRole::Standby,
        };
        if wanted == Want::Standby && self.pauses.get(resource).is_some_and(|(_, at)| now < *at) {
            self.waits = true;
            return None;
        }
        let epoch = match role {
            StartRole::Active(epoch) => Some(epoch),
            StartRole::Standby => None,
        };
        let kind = spec.kind.clone();
        let phase = InstancePhase::Starting;
        let lapses = self.lapses_seen;
        let (number, healthy, active_at) = (self.number(), true, Moment::ZERO);
        let instance = Instance { number, phase, epoch, healthy, active_at, kind, lapses };
        self.instances.insert(resource.clone(), instance);
        Some(Action::Start { resource: resource.clone(), number, role })
    }
}

/// Whether an epoch is one that this control state has not given out yet.
fn is_ahead(state: &ClusterState, resource: &ResourceName, epoch: Epoch) -> bool {
    let given = state.resources.get(resource).map_or(state.last_epoch, |held| held.epoch);
    epoch > given
}
