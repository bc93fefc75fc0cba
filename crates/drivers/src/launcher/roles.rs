//! Promotion and demotion: by a line on the instance's socket, or by stopping and starting.

use model::spec::Promote;
use model::{Epoch, ResourceName, Span};

use super::ARM_CONFIRM;
use super::core::{Launcher, Source};
use super::instance::{Instance, Stage};
use super::talk::{FromProgram, ToProgram};
use crate::protocol::{Event, Refusal, Role, Why};
use crate::sys;

/// How long a change of role may take where the specification says nothing.
const PROMOTE_MS: u64 = 10_000;
/// Most of a program's own words that are kept.
const REASON_BYTES_MAX: usize = 256;

fn role_change_limit(instance: &Instance) -> Span {
    match instance.spec.promote_ms {
        0 => Span::from_ms(PROMOTE_MS),
        ms => Span::from_ms(ms),
    }
}

impl Launcher {
    pub(super) fn on_promote(
        &mut self,
        resource: &ResourceName,
        epoch: Epoch,
    ) -> Result<(), Refusal> {
        if self.leaving.is_some() {
            return Err(Refusal::Leaving);
        }
        if !self.resources.contains_key(resource) {
            return Err(Refusal::NotSpecified);
        }
        self.epochs.check(resource, epoch, true)?;
        let Some(instance) = self.instance_of(resource) else { return Err(Refusal::NotRunning) };
        let id = instance.id;
        if instance.role == Role::Active {
            if instance.epoch != epoch {
                return Err(Refusal::AlreadyRunning);
            }
            if instance.stage == Stage::Running && instance.ready {
                self.tell(&Event::Active { resource: resource.clone(), epoch });
            }
            return Ok(());
        }
        if instance.stage != Stage::Running {
            return Err(Refusal::Busy);
        }
        self.may_activate()?;
        self.epochs.see(resource, epoch);
        let Some(instance) = self.instances.get_mut(&id) else { return Err(Refusal::NotRunning) };
        if instance.spec.promote == Promote::Restart {
            instance.then_active = Some(epoch);
            self.stop(id, Why::RoleChange);
            return Ok(());
        }
        let before = std::mem::replace(&mut instance.epoch, epoch);
        instance.stage = Stage::Arming { until: sys::now() + ARM_CONFIRM, promote: true };
        if !self.arm(id, epoch) {
            if let Some(instance) = self.instances.get_mut(&id) {
                (instance.stage, instance.epoch) = (Stage::Running, before);
            }
            return Err(Refusal::NoGuard);
        }
        self.prepare_companions(resource);
        Ok(())
    }

    /// The addresses that come up after this resource look meanwhile whether they are free.
    fn prepare_companions(&mut self, resource: &ResourceName) {
        let with = |name| self.resources.get(name).and_then(|spec| spec.with.as_ref());
        for instance in self.instances.values_mut() {
            let next = instance.address.is_some()
                && with(&instance.resource) == Some(resource)
                && instance.role == Role::Standby
                && instance.stage == Stage::Running;
            // One that is not connected looks when it is promoted.
            if next && !instance.talk.tell(ToProgram::Prepare {}) {
                tracing::debug!(resource = %instance.resource, "not connected yet");
            }
        }
    }

    /// Armed: the program is told now, or as soon as it connects.
    pub(super) fn tell_promotion(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let until = sys::now() + role_change_limit(instance);
        instance.stage = Stage::Promoting { until };
        let epoch = instance.epoch;
        if !instance.talk.tell(ToProgram::Promote { epoch }) {
            tracing::info!(resource = %instance.resource, "not connected yet; told when it is");
        }
    }

    /// It may be in any state now: it is stopped.
    pub(super) fn on_promote_failed(&mut self, id: u64, reason: String) {
        let Some(instance) = self.instances.get(&id) else { return };
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        self.tell(&Event::PromoteFailed { resource, epoch, reason: reason.clone() });
        self.stop(id, Why::PromoteFailed(reason));
    }

    pub(super) fn on_demote(
        &mut self,
        resource: &ResourceName,
        epoch: Epoch,
    ) -> Result<(), Refusal> {
        self.epochs.check(resource, epoch, false)?;
        let Some(instance) = self.instance_of(resource) else { return Err(Refusal::NotRunning) };
        let id = instance.id;
        if instance.is_ending() {
            return Err(Refusal::Busy);
        }
        if instance.role == Role::Standby && instance.stage == Stage::Running {
            let epoch = instance.epoch;
            self.tell(&Event::Standby { resource: resource.clone(), epoch });
            return Ok(());
        }
        self.epochs.see(resource, epoch);
        let Some(instance) = self.instances.get_mut(&id) else { return Err(Refusal::NotRunning) };
        let by_socket = instance.spec.promote == Promote::Socket
            && matches!(instance.stage, Stage::Running | Stage::Promoting { .. });
        if !by_socket {
            self.stop(id, Why::RoleChange);
            return Ok(());
        }
        // The lease goes first: from here on the program's own check says no.
        instance.lease.revoke();
        instance.stage = Stage::Demoting { until: sys::now() + role_change_limit(instance) };
        let given_up = instance.epoch;
        let told = instance.talk.tell(ToProgram::Demote { epoch: given_up });
        self.burn(resource, given_up);
        if !told {
            self.stop(id, Why::DemoteFailed);
        }
        Ok(())
    }

    fn on_stood_by(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.address.as_ref().is_some_and(|address| !address.is_gone().unwrap_or(false)) {
            tracing::error!(resource = %instance.resource, "a standby, but its address is up");
            return self.kill(id, Why::DemoteFailed);
        }
        instance.role = Role::Standby;
        instance.wanted = Role::Standby;
        instance.stage = Stage::Running;
        instance.armed = false;
        instance.lease.stand_by();
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        self.disarm(&resource, epoch);
        self.tell(&Event::Standby { resource, epoch });
    }

    pub(super) fn on_talk_connecting(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let old = instance.talk.hang_up();
        if let Some(old) = old {
            self.poll.remove(&old);
        }
        match instance.talk.accept(instance.uid) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                return tracing::warn!(resource = %instance.resource, %error, "can't connect");
            }
        }
        if let Some(stream) = &instance.talk.stream
            && let Err(error) = self.poll.add(stream, Source::Talk.token(id))
        {
            tracing::error!(%error, "an instance's connection can't be watched");
        }
        let epoch = instance.epoch;
        match instance.stage {
            Stage::Promoting { .. } => instance.talk.tell(ToProgram::Promote { epoch }),
            Stage::Demoting { .. } => instance.talk.tell(ToProgram::Demote { epoch }),
            _ => true,
        };
    }

    pub(super) fn on_talk(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let heard = instance.talk.hear();
        if heard.garbage {
            self.talk_garbage += 1;
            let count = self.talk_garbage;
            tracing::warn!(resource = %instance.resource, count, "garbage on BACKSTAY_SOCKET");
        }
        if (heard.closed || heard.garbage)
            && let Some(stream) = instance.talk.hang_up()
        {
            self.poll.remove(&stream);
        }
        for line in heard.lines {
            self.on_line(id, line);
        }
    }

    fn on_line(&mut self, id: u64, line: FromProgram) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let promoting = matches!(instance.stage, Stage::Promoting { .. });
        let demoting = matches!(instance.stage, Stage::Demoting { .. });
        match line {
            FromProgram::Active { epoch } if promoting && epoch == instance.epoch.to_string() => {
                instance.stage = Stage::Running;
                let (resource, epoch) = (instance.resource.clone(), instance.epoch);
                self.tell(&Event::Active { resource, epoch });
            }
            FromProgram::Standby {} if demoting => self.on_stood_by(id),
            FromProgram::Failed { mut reason } if promoting => {
                let cut = reason.floor_char_boundary(REASON_BYTES_MAX);
                reason.truncate(cut);
                self.on_promote_failed(id, reason);
            }
            FromProgram::Failed { .. } if demoting => self.stop(id, Why::DemoteFailed),
            other => {
                tracing::info!(resource = %instance.resource, ?other, "said unasked; no effect");
            }
        }
    }
}
