//! What launcher, guard and health checks tell, taken in: phases, burnt epochs, failures.

use alloc::string::String;
use alloc::vec::Vec;

use model::report::{EvidenceGround, Failure, FailureReport, InstancePhase, REPORT_FAILURES_MAX};
use model::spec::{RecoverySpec, ResourceKind};
use model::state::ClusterState;
use model::{Epoch, Moment, ResourceName, Span};

use super::{Instance, InstanceEvent, Member, Running, Undone};
use crate::plant::Plant;

impl Member {
    /// Takes in what launcher, guard or a health check tell.
    pub fn on_event(&mut self, now: Moment, state: &ClusterState, event: InstanceEvent) {
        self.dirty = true;
        match event {
            InstanceEvent::LauncherUp { session, guard, running } => {
                (self.launcher, self.clear) = (true, false);
                (self.guard, self.session) = (guard, session);
                self.adopt(now, state, running);
            }
            InstanceEvent::LauncherDown => {
                (self.launcher, self.clear) = (false, false);
                self.guard = None;
            }
            InstanceEvent::Clear(clear) => self.clear = clear && !self.launcher,
            InstanceEvent::Guard(guard) => self.guard = guard,
            InstanceEvent::Ready(resource) => {
                let starting =
                    |i: &&mut Instance| i.phase == InstancePhase::Starting && i.epoch.is_none();
                if let Some(instance) = self.instances.get_mut(&resource).filter(starting) {
                    instance.phase = InstancePhase::Standby;
                }
            }
            InstanceEvent::Standby(resource) => self.on_standby(now, &resource),
            InstanceEvent::Active(resource, epoch) => {
                if let Some(instance) = self.instances.get_mut(&resource) {
                    instance.phase = InstancePhase::Active;
                    instance.epoch = Some(epoch);
                    instance.active_at = now;
                }
            }
            InstanceEvent::Gone { resource, number, failure, asked, age } => {
                if self.is_it(&resource, number) {
                    self.on_gone(now, state, &resource, failure, asked, age);
                }
            }
            InstanceEvent::Burnt { resource, epoch, gone } => {
                self.burn(now, &resource, epoch, EvidenceGround::Lapsed);
                let over = gone || self.config.plants.has(Plant::BurntIsGone);
                let acted = |i: &&mut Instance| over && i.epoch == Some(epoch);
                if let Some(instance) = self.instances.get_mut(&resource).filter(acted) {
                    // Nothing of it acts any more; the launcher's own word, which ends it, follows.
                    instance.epoch = None;
                    instance.phase = InstancePhase::Stopping;
                }
            }
            InstanceEvent::Refused { resource, failure, runs } => {
                self.on_refused(now, state, &resource, failure, runs);
            }
            InstanceEvent::NotNow(resource, what) => self.on_not_now(now, state, &resource, what),
            InstanceEvent::EpochRefused(resource, epoch, what) => {
                self.burn(now, &resource, epoch, EvidenceGround::NeverStarted);
                self.on_not_now(now, state, &resource, what);
            }
            InstanceEvent::StopFailed(resource) => {
                self.note_failure(now, &resource, None, Failure::StopFailed, Span::ZERO);
            }
            InstanceEvent::Stuck(resource) => {
                if let Some(instance) = self.instances.get_mut(&resource) {
                    instance.phase = InstancePhase::Stuck;
                }
            }
            InstanceEvent::Health { resource, failed } => {
                self.on_health(now, &resource, failed);
            }
        }
    }

    fn on_health(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        failed: Option<(String, String)>,
    ) {
        let Some(instance) = self.instances.get_mut(resource) else { return };
        let was = core::mem::replace(&mut instance.healthy, failed.is_none());
        if let (true, Some((check, answer))) = (was, failed) {
            let epoch = instance.epoch;
            let failure = Failure::Unhealthy { check, answer };
            self.note_failure(now, resource, epoch, failure, Span::ZERO);
        }
    }

    fn adopt(&mut self, now: Moment, state: &ClusterState, running: Vec<Running>) {
        let before = core::mem::take(&mut self.instances);
        for Running { resource, number, phase, epoch } in running {
            let kind = match (before.get(&resource), state.spec.resources.get(&resource)) {
                (Some(instance), _) => instance.kind.clone(),
                (None, Some(spec)) => spec.kind.clone(),
                (None, None) => ResourceKind::Process(Default::default()),
            };
            // What was handed its epoch before this boot counts as of the boot's beginning.
            let lapses = before.get(&resource).map_or(0, |instance| instance.lapses);
            let (healthy, active_at) = (true, now);
            let instance = Instance { number, phase, epoch, healthy, active_at, kind, lapses };
            self.instances.insert(resource, instance);
        }
        // What ran under the launcher before and is not in its list is gone for good.
        for (resource, instance) in before {
            if let Some(epoch) = instance.epoch
                && !self.instances.contains_key(&resource)
            {
                self.burn(now, &resource, epoch, EvidenceGround::Empty);
            }
        }
    }

    fn on_standby(&mut self, now: Moment, resource: &ResourceName) {
        let Some(instance) = self.instances.get_mut(resource) else { return };
        instance.phase = InstancePhase::Standby;
        if let Some(epoch) = instance.epoch.take() {
            self.burn(now, resource, epoch, EvidenceGround::Demoted);
        }
    }

    fn on_gone(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        failure: Failure,
        asked: bool,
        age: Span,
    ) {
        let Some(instance) = self.instances.remove(resource) else { return };
        let was_starting = !asked && instance.phase == InstancePhase::Starting;
        let mut epoch = instance.epoch;
        if let Some(epoch) = epoch {
            let ground = match instance.kind {
                ResourceKind::Process(_) => EvidenceGround::Empty,
                ResourceKind::Address(_) => EvidenceGround::AddressGone,
            };
            self.burn(now.before(age), resource, epoch, ground);
        } else if was_starting {
            epoch = self.forgo(now, state, resource);
        }
        if !asked {
            self.note_failure(now, resource, epoch, failure, age);
            self.pause(now, state, resource);
        }
    }

    /// Whether a number is that of the present instance, and not of one before it.
    fn is_it(&self, resource: &ResourceName, number: u64) -> bool {
        self.instances.get(resource).is_some_and(|i| i.number == number)
    }

    /// Nothing was done: what was on its way to be started is not there, what was on its way to
    /// another role is what it was.
    fn on_not_now(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        what: Undone,
    ) {
        if what != Undone::End && self.config.plants.has(Plant::NotNowForgotten) {
            return;
        }
        let Some(instance) = self.instances.get_mut(resource) else { return };
        match (instance.phase, what) {
            (InstancePhase::Starting, Undone::Start) => {
                self.instances.remove(resource);
                self.pause(now, state, resource);
            }
            (InstancePhase::Promoting, Undone::Promote) => {
                instance.phase = InstancePhase::Standby;
                instance.epoch = None;
            }
            (InstancePhase::Stopping, Undone::End) if instance.epoch.is_some() => {
                instance.phase = InstancePhase::Active;
            }
            _ => {}
        }
    }

    fn on_refused(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        failure: Failure,
        runs: bool,
    ) {
        let mut epoch = self.instances.get(resource).and_then(|i| i.epoch);
        if let Some(epoch) = epoch {
            self.burn(now, resource, epoch, EvidenceGround::NeverStarted);
        } else if !runs {
            epoch = self.forgo(now, state, resource);
        }
        match self.instances.get_mut(resource) {
            Some(instance) if runs => {
                instance.phase = InstancePhase::Standby;
                instance.epoch = None;
            }
            _ => {
                self.instances.remove(resource);
                // A standby is wanted still; without a pause it would be tried again at once, and
                // again, each time with a failure for the log.
                self.pause(now, state, resource);
            }
        }
        self.note_failure(now, resource, epoch, failure, Span::ZERO);
    }

    /// What could not be started was to be active under an epoch that it has not been handed yet:
    /// it is not tried again under that one. Whether it is, after which pause, or where else, is
    /// the coordinator's to decide, as for what is started active at once.
    fn forgo(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
    ) -> Option<Epoch> {
        let holder = state.resources.get(resource)?.holder.as_ref()?;
        let epoch = Some(holder.epoch).filter(|_| holder.replica == self.config.replica)?;
        if self.is_burnt(resource, epoch) || self.config.plants.has(Plant::StartRetriedAtOnce) {
            return None;
        }
        self.burn(now, resource, epoch, EvidenceGround::NeverStarted);
        Some(epoch)
    }

    /// A standby that failed waits before it is started anew, longer each time, as its recovery
    /// says; what went well for a whole window begins afresh.
    pub(super) fn pause(&mut self, now: Moment, state: &ClusterState, resource: &ResourceName) {
        let spec = state.spec.resources.get(resource).map(|spec| spec.recovery.clone());
        let RecoverySpec { window_ms, backoff_ms, backoff_max_ms, .. } = spec.unwrap_or_default();
        let (count, since) = self.pauses.get(resource).copied().unwrap_or((0, now));
        let calm = now.since(since) > Span::from_ms(window_ms);
        let count = if calm { 0 } else { count.saturating_add(1) };
        let pause = match count {
            0 => 0,
            n => (backoff_ms << (n - 1).min(16)).min(backoff_max_ms),
        };
        self.pauses.insert(resource.clone(), (count, now + Span::from_ms(pause)));
    }

    pub(super) fn burn(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        epoch: Epoch,
        why: EvidenceGround,
    ) {
        let known = self.burnt.get(resource).map(|(e, _, _)| *e);
        if known.is_none_or(|known| epoch > known) {
            self.burnt.insert(resource.clone(), (epoch, why, now));
            self.dirty = true;
        }
    }

    pub(super) fn is_burnt(&self, resource: &ResourceName, epoch: Epoch) -> bool {
        self.burnt.get(resource).is_some_and(|(burnt, _, _)| epoch <= *burnt)
    }

    pub(super) fn note_failure(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        epoch: Option<Epoch>,
        failure: Failure,
        age: Span,
    ) {
        while self.failures.len() >= REPORT_FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures_seen += 1;
        let number = self.failures_seen;
        let resource = resource.clone();
        let report = FailureReport { resource, number, epoch, failure, age_us: 0 };
        self.failures.push_back((report, now.before(age)));
    }
}
