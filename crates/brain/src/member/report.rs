//! What this node tells the coordinator: its instances, failures, and evidence of what ended.

use alloc::vec::Vec;

use model::report::{Evidence, FailureReport, Heard, InstancePhase, InstanceStatus, Report};
use model::state::{ClusterState, FailureKey};
use model::{Epoch, Moment, ResourceName, Span};

use super::{Instance, Member};
use crate::plant::Plant;

impl Member {
    /// Forgets failures that the cluster has recorded.
    pub fn on_recorded(&mut self, key: FailureKey) {
        if key.replica == self.config.replica && key.boot == self.config.boot {
            self.failures.retain(|(f, _)| f.number > key.number);
        }
    }

    /// The control state came as a whole: entries that recorded failures were not applied one by
    /// one here.
    pub fn on_snapshot(&mut self, state: &ClusterState) {
        for failure in state.resources.values().flat_map(|held| &held.failures) {
            self.on_recorded(failure.key);
        }
    }

    /// The report as of now; it counts as sent.
    pub fn report(&mut self, now: Moment, state: &ClusterState, heard: Vec<Heard>) -> Report {
        self.dirty = false;
        self.reports += 1;
        Report {
            evidence: self.evidence(now, state),
            failures: self
                .failures
                .iter()
                .map(|(f, at)| FailureReport { age_us: now.since(*at).as_us(), ..f.clone() })
                .collect(),
            heard,
            ..self.peek(state)
        }
    }

    /// What this node runs, without evidence and failures; for `status`.
    #[must_use]
    pub fn peek(&self, state: &ClusterState) -> Report {
        Report {
            replica: self.config.replica,
            boot: self.config.boot,
            number: self.reports,
            applied: state.index,
            guard: self.guard,
            ready: self.launcher && self.guard.is_some(),
            clear: self.is_clear(),
            leased: self.leased,
            instances: self.instances.iter().map(status).collect(),
            evidence: Vec::new(),
            failures: Vec::new(),
            heard: Vec::new(),
            identity: self.identity.clone(),
        }
    }

    /// Whether, without a launcher or a guard, somebody sees that nothing is active here: the
    /// launcher that lost its guard, or the guard that lost its launcher.
    fn is_clear(&self) -> bool {
        if self.launcher {
            let careless = self.config.plants.has(Plant::ClearAlthoughActive);
            let active = self.instances.values().any(|i| i.epoch.is_some());
            self.guard.is_none() && (!active || careless)
        } else {
            self.clear
        }
    }

    /// Burnt epochs that the control state still lists as held here, and that no instance holds.
    fn evidence(&self, now: Moment, state: &ClusterState) -> Vec<Evidence> {
        if !self.launcher {
            return Vec::new();
        }
        let mine = |resource: &ResourceName| {
            let holder = state.resources.get(resource)?.holder.as_ref()?;
            (holder.replica == self.config.replica).then_some(holder.epoch)
        };
        let proven = |resource: &ResourceName, epoch: Epoch| {
            let holds = self.instances.get(resource).and_then(|i| i.epoch);
            let early = self.config.plants.has(Plant::EvidenceBeforeStop);
            early || holds.is_none_or(|holds| holds != epoch)
        };
        self.burnt
            .iter()
            .filter_map(|(resource, (burnt, ground, at))| {
                let epoch = mine(resource)?;
                (epoch <= *burnt && proven(resource, epoch)).then(|| Evidence {
                    resource: resource.clone(),
                    epoch,
                    replica: self.config.replica,
                    guard: self.guard,
                    ground: *ground,
                    age_us: now.since(*at).as_us(),
                })
            })
            .collect()
    }

    /// Resources that are active here now, with their epochs.
    pub fn active(&self) -> impl Iterator<Item = (&ResourceName, Epoch)> {
        self.instances
            .iter()
            .filter(|(_, i)| i.phase == InstancePhase::Active)
            .filter_map(|(r, i)| Some((r, i.epoch?)))
    }
}

fn status((resource, instance): (&ResourceName, &Instance)) -> InstanceStatus {
    InstanceStatus {
        resource: resource.clone(),
        phase: instance.phase,
        epoch: instance.epoch,
        healthy: instance.healthy,
        active_at_us: match instance.phase {
            InstancePhase::Active => Span(instance.active_at.0).as_us(),
            _ => 0,
        },
    }
}
