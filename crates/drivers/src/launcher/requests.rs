//! What the agent asks, checked and passed on.

use model::{Epoch, ResourceName, Span};

use super::core::Launcher;
use super::instance::Stage;
use crate::protocol::{
    Asked, Event, Evidence, Gone, PROTOCOL_VERSION, Refusal, Request, Role, Status, Why,
};
use crate::sys;

impl Launcher {
    pub(super) fn on_request(&mut self, request: Request) {
        if !self.agent.greeted && !matches!(request, Request::Hello { .. }) {
            tracing::warn!("an agent that does not greet first is not heard");
            return;
        }
        match request {
            Request::Hello { version } => self.on_hello(version),
            Request::Specify { version, resources } => {
                if version < self.version || resources.len() > model::spec::RESOURCES_MAX {
                    let known = self.version;
                    let why = Refusal::OldSpecification { known };
                    return self.refuse(Asked::Specify, None, Epoch::default(), why);
                }
                (self.version, self.resources) = (version, resources);
                self.tell(&Event::Specified { version });
            }
            Request::Start { resource, number, role, epoch } => {
                let done = self.on_start(&resource, number, role, epoch);
                self.answer(Asked::Start, resource, epoch, done);
            }
            Request::Promote { resource, epoch } => {
                let done = self.on_promote(&resource, epoch);
                self.answer(Asked::Promote, resource, epoch, done);
            }
            Request::Demote { resource, epoch } => {
                let done = self.on_demote(&resource, epoch);
                self.answer(Asked::Demote, resource, epoch, done);
            }
            Request::Stop { resource, number, epoch, reason, at_once } => {
                let done = self.on_stop(&resource, (number, epoch), reason, at_once);
                self.answer(Asked::Stop, resource, epoch.unwrap_or_default(), done);
            }
            Request::Ready { resource, epoch } => {
                let done = self.on_probed_ready(&resource, epoch);
                self.answer(Asked::Ready, resource, epoch, done);
            }
            Request::ExecProbe { resource, index } => {
                let done = self.on_exec_probe(&resource, index);
                self.answer(Asked::ExecProbe, resource, Epoch::default(), done);
            }
            Request::List => self.on_list(),
        }
    }

    fn on_hello(&mut self, version: u32) {
        self.agent.greeted = true;
        self.tell(&Event::Hello {
            version: PROTOCOL_VERSION,
            launcher: self.number,
            guard: self.guard.incarnation,
            specification: self.version,
            cgroups: self.cgroups.is_some(),
        });
        // One of another version is told ours, and no more.
        self.agent.greeted = version == PROTOCOL_VERSION;
    }

    fn on_list(&mut self) {
        let running = self.instances.values().map(super::instance::Instance::view).collect();
        let gone = self
            .gone
            .values()
            .map(|gone| Gone { output_tail: String::new(), ..gone.clone() })
            .collect();
        let burnt = self.epochs.burnt();
        self.tell(&Event::Instances { running, gone, burnt });
    }

    fn answer(
        &mut self,
        asked: Asked,
        resource: ResourceName,
        epoch: Epoch,
        done: Result<(), Refusal>,
    ) {
        if let Err(why) = done {
            tracing::warn!(?asked, %resource, %epoch, %why, "refused");
            self.refuse(asked, Some(resource), epoch, why);
        }
    }

    pub(super) fn refuse(
        &mut self,
        asked: Asked,
        resource: Option<ResourceName>,
        epoch: Epoch,
        why: Refusal,
    ) {
        self.tell(&Event::Refused { asked, resource, epoch, why });
    }

    /// Whether anything may become active now.
    pub(super) fn may_activate(&self) -> Result<(), Refusal> {
        if !self.guard.is_up() {
            return Err(Refusal::NoGuard);
        }
        if !self.covered(self.options.timers.stopping) {
            return Err(Refusal::NoLease);
        }
        Ok(())
    }

    fn on_start(
        &mut self,
        resource: &ResourceName,
        number: u64,
        role: Role,
        epoch: Epoch,
    ) -> Result<(), Refusal> {
        if self.leaving.is_some() {
            return Err(Refusal::Leaving);
        }
        if !self.resources.contains_key(resource) {
            return Err(Refusal::NotSpecified);
        }
        self.epochs.check(resource, epoch, role == Role::Active)?;
        if let Some(instance) = self.instance_of(resource) {
            if instance.is_ending() {
                return Err(Refusal::Busy);
            }
            if (instance.number, instance.wanted, instance.epoch) != (number, role, epoch) {
                return Err(Refusal::AlreadyRunning);
            }
            self.tell_state(instance.id);
            return Ok(());
        }
        if role == Role::Active {
            self.may_activate()?;
        }
        self.epochs.see(resource, epoch);
        self.start(resource, number, role, epoch)
    }

    /// Tells again what is so, to an agent that asks for it again.
    fn tell_state(&mut self, id: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        let (ready, role, pid) = (instance.ready, instance.role, instance.pid.unsigned_abs());
        let active = instance.stage == Stage::Running && role == Role::Active;
        let runs =
            !matches!(instance.stage, Stage::Arming { promote: false, .. } | Stage::Executing);
        if runs {
            self.tell(&Event::Started { resource: resource.clone(), epoch, role, pid });
        }
        if ready {
            self.tell(&Event::Ready { resource: resource.clone(), epoch });
        }
        if ready && active {
            self.tell(&Event::Active { resource, epoch });
        }
    }

    fn on_stop(
        &mut self,
        resource: &ResourceName,
        (number, epoch): (u64, Option<Epoch>),
        mut reason: String,
        at_once: bool,
    ) -> Result<(), Refusal> {
        let cut = reason.floor_char_boundary(Request::REASON_BYTES_MAX);
        reason.truncate(cut);
        let why = Why::Asked(reason);
        let instance = self.instance_of(resource).filter(|i| i.number == number);
        if let Some(epoch) = epoch.filter(|e| instance.is_none_or(|i| i.epoch != *e)) {
            self.epochs.check(resource, epoch, false)?;
        }
        let Some(instance) = instance else {
            self.on_stop_of_stopped(resource, number, epoch, why);
            return Ok(());
        };
        let (id, active) = (instance.id, instance.role == Role::Active);
        if self.options.plants.no_fencing && active && !self.covered(Span::ZERO) {
            // Planted: a lapsed lease stops nothing, not even when the agent asks for it.
            return Err(Refusal::Busy);
        }
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.then_active = None;
        }
        if at_once {
            self.kill(id, why);
        } else {
            self.stop(id, why);
        }
        Ok(())
    }

    /// It doesn't run. That is evidence for its epoch too, once nothing can run under it later.
    fn on_stop_of_stopped(
        &mut self,
        resource: &ResourceName,
        number: u64,
        epoch: Option<Epoch>,
        why: Why,
    ) {
        if let Some(epoch) = epoch {
            self.burn(resource, epoch);
        }
        let known = self.gone.get(resource).filter(|gone| gone.evidence.number == number).cloned();
        let gone = known.unwrap_or_else(|| Gone {
            evidence: Evidence {
                resource: resource.clone(),
                number,
                epoch: epoch.unwrap_or_default(),
                role: Role::Standby,
                guard: self.guard.incarnation,
                at: sys::now(),
            },
            status: Status::Unknown,
            why,
            output_tail: String::new(),
        });
        if epoch.is_some() {
            self.gone.insert(resource.clone(), gone.clone());
        }
        self.tell(&Event::Stopped(gone));
    }
}
