//! Stopping: the signal, the wait, the kill, the look whether everything is gone, and only then
//! the word of it.

use model::{Moment, Span};
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, wait};

use super::KILL_LIMIT;
use super::core::Launcher;
use super::instance::{Instance, Stage};
use crate::address::AddressHandle;
use crate::process::containment::{Asker, Containment};
use crate::process::signals::signal_by_name;
use crate::protocol::{Asked, Event, Evidence, Gone, Refusal, Role, Status, Why};
use crate::sys;

/// First pause between two looks whether a killed instance is gone.
const LOOK_FIRST: Span = Span::from_us(500);
/// Longest pause.
const LOOK_LONGEST: Span = Span::from_ms(100);
/// Most children reaped at one time; the signal comes again where more wait.
const REAP_PER_TURN: usize = 4_096;

impl Launcher {
    /// Asks an instance to stop, and kills it when its time is over. The lease goes first.
    pub(super) fn stop(&mut self, id: u64, why: Why) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.is_ending() {
            return;
        }
        instance.lease.revoke();
        let signal = signal_by_name(&instance.spec.stop_signal).unwrap_or(Signal::TERM);
        let running = instance.gate.is_none() && instance.status.is_none();
        if !running || instance.spec.stop_ms == 0 {
            return self.kill(id, why);
        }
        let kill_at = sys::now() + Span::from_ms(instance.spec.stop_ms);
        if let Err(errno) = pidfd_send_signal(&instance.pidfd, signal) {
            tracing::warn!(resource = %instance.resource, %errno, "the stop signal failed");
            return self.kill(id, why);
        }
        instance.stage = Stage::Stopping { why, kill_at };
    }

    /// Kills an instance with everything it started.
    pub(super) fn kill(&mut self, id: u64, why: Why) {
        let now = sys::now();
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if matches!(instance.stage, Stage::Killing { .. }) {
            return;
        }
        instance.lease.revoke();
        instance.gate = None;
        let uncovered = matches!(why, Why::LeaseEnd | Why::GuardLost);
        if let Err(error) = instance.containment.kill_at_once() {
            tracing::error!(resource = %instance.resource, %error, "the first kill failed");
        }
        if let Some(Err(error)) = instance.address.as_ref().map(AddressHandle::take_down) {
            tracing::error!(resource = %instance.resource, %error, "the address stays");
        }
        // A stop that was asked for keeps its reason, unless the lease cut it short.
        let why = match (&instance.stage, uncovered) {
            (Stage::Stopping { why, .. }, false) => why.clone(),
            _ => why,
        };
        let (since, next, pause) = (now, now, LOOK_FIRST);
        instance.stage = Stage::Killing { why, since, next, pause, told: false };
        let (resource, epoch, role) = (instance.resource.clone(), instance.epoch, instance.role);
        if role == Role::Active {
            self.burn(&resource, epoch);
        }
        self.kill_probes_of(&resource);
        self.reap();
        self.look(id);
    }

    /// Looks whether a killed instance is gone.
    pub(super) fn look(&mut self, id: u64) {
        let known = self.children_of_others(id);
        let me = rustix::process::getpid().as_raw_pid();
        let asker = Asker { launcher: me, known: Some(&known) };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Stage::Killing { since, next, pause, told, .. } = &mut instance.stage else { return };
        let reaped = instance.status.is_some();
        // What could bring the address back is gone before it is looked for.
        let struck = instance.containment.strike(&mut self.table, asker);
        let empty = match struck.and_then(|empty| Ok(empty && strike(instance.address.as_ref())?)) {
            Ok(empty) => empty && !self.options.plants.leftover_seen(),
            Err(error) => {
                tracing::debug!(resource = %instance.resource, %error, "can't tell yet");
                false
            }
        };
        if reaped && empty {
            return self.finish(id);
        }
        let now = sys::now();
        *next = now + *pause;
        *pause = (*pause * 2).min(LOOK_LONGEST);
        if now.since(*since) > KILL_LIMIT && !*told {
            *told = true;
            let (resource, epoch) = (instance.resource.clone(), instance.epoch);
            tracing::error!(%resource, %epoch, "killed, and still not gone");
            self.tell(&Event::StopFailed { resource: resource.clone(), epoch });
            self.hand_to_guard(&resource, epoch);
        }
    }

    /// Children of the launcher that belong to other instances.
    fn children_of_others(&self, id: u64) -> Vec<i32> {
        let Some(own) = self.instances.get(&id) else { return Vec::new() };
        let leaders = self.instances.values().filter(|i| i.id != id).map(|i| i.pid);
        let probes = self.probes.values().filter(|p| p.resource != own.resource).map(|p| p.pid);
        leaders.chain(probes).collect()
    }

    /// Everything was seen to be gone: says so, with evidence, and only then clears up.
    fn finish(&mut self, id: u64) {
        let Some(mut instance) = self.instances.remove(&id) else { return };
        let tail = instance.output.take().map(|o| o.finish()).unwrap_or_default();
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        if instance.armed {
            self.disarm(&resource, epoch);
        }
        let refused = instance.refused.take();
        self.forget(&instance);
        self.write_pids();
        // To the agent, a promotion by restart is one instance throughout.
        let then = instance.then_active.filter(|_| self.leaving.is_none());
        match (refused, then) {
            (Some(why), _) => self.refuse(Asked::Start, Some(resource), epoch, why),
            (None, Some(epoch)) => match self.start_promoted(&resource, instance.number, epoch) {
                Ok(()) => {}
                Err(why) => {
                    self.tell_gone(&instance, tail);
                    self.refuse(Asked::Promote, Some(resource), epoch, why);
                }
            },
            (None, None) => self.tell_gone(&instance, tail),
        }
    }

    fn tell_gone(&mut self, instance: &Instance, output_tail: String) {
        let Stage::Killing { why, .. } = &instance.stage else { return };
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        if instance.role == Role::Active {
            self.burn(&resource, epoch);
        }
        let (role, guard, at) = (instance.role, instance.guard, sys::now());
        let number = instance.number;
        let evidence = Evidence { resource: resource.clone(), number, epoch, role, guard, at };
        let status = instance.status.unwrap_or(Status::Unknown);
        let own = *why == Why::ItsOwn;
        let gone = Gone { evidence, status, why: why.clone(), output_tail };
        self.gone.insert(resource, gone.clone());
        self.tell(&if own { Event::Exited(gone) } else { Event::Stopped(gone) });
    }

    /// The second half of a promotion by restart.
    fn start_promoted(
        &mut self,
        resource: &model::ResourceName,
        number: u64,
        epoch: model::Epoch,
    ) -> Result<(), Refusal> {
        self.may_activate()?;
        self.epochs.check(resource, epoch, true)?;
        self.start(resource, number, Role::Active, epoch)
    }

    /// Stops watching, and removes what lies in directories.
    fn forget(&mut self, instance: &Instance) {
        self.poll.remove(&instance.pidfd);
        if let Some(errors) = &instance.errors {
            self.poll.remove(errors);
        }
        self.poll.remove(&instance.talk.listener);
        if let Some(stream) = &instance.talk.stream {
            self.poll.remove(stream);
        }
        if let Some(notify) = &instance.notify {
            self.poll.remove(notify);
        }
        if let Containment::Cgroup(cgroup) = &instance.containment {
            self.poll.remove(cgroup.events());
            if let Err(error) = crate::process::cgroup::remove(&cgroup.path) {
                tracing::warn!(%error, path = %cgroup.path.display(), "a cgroup stays");
            }
        }
        let run_dir = &self.options.run_dir;
        for path in [
            run_dir.instance_socket(&instance.resource),
            run_dir.instance_lease(&instance.resource),
            run_dir.notify_socket(&instance.resource),
        ] {
            if let Err(error) = crate::process::plan::remove_stale(&path) {
                tracing::warn!(%error, path = %path.display(), "a file stays");
            }
        }
    }

    pub(super) fn on_cgroup_changed(&mut self, id: u64) {
        let killing = |i: &Instance| matches!(i.stage, Stage::Killing { .. });
        if self.instances.get(&id).is_some_and(killing) {
            self.reap();
            self.look(id);
        }
    }

    /// Reaps children: leaders, health checks, and orphans that fell to the launcher.
    pub(super) fn reap(&mut self) {
        let mut ended = Vec::new();
        for _ in 0..REAP_PER_TURN {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => ended.push((pid, status_of(status))),
                Ok(None) | Err(_) => break,
            }
        }
        for (pid, status) in ended {
            self.on_ended(pid, status);
        }
    }

    fn on_ended(&mut self, pid: Pid, status: Status) {
        let pid = pid.as_raw_pid();
        if self.on_probe_ended(pid, status) {
            return;
        }
        let leads = |i: &&mut Instance| i.pid == pid && i.status.is_none();
        let Some(instance) = self.instances.values_mut().find(leads) else {
            return self.look_at_trees();
        };
        instance.status = Some(status);
        self.poll.remove(&instance.pidfd);
        let id = instance.id;
        let killed = status == Status::Signal(libc::SIGKILL) && instance.role == Role::Active;
        let stage = instance.stage.clone();
        match stage {
            Stage::Killing { .. } => self.look(id),
            Stage::Stopping { why, .. } => self.kill(id, why),
            // Killed when the lease was over: that was the guard, whose word may come later.
            _ if killed && !self.covered(self.options.timers.stopping) => {
                self.kill(id, Why::LeaseEnd);
            }
            // Its last words on the error pipe say more than its status.
            Stage::Executing => {
                self.on_executed(id);
                self.kill(id, Why::ItsOwn);
            }
            _ => self.kill(id, Why::ItsOwn),
        }
    }

    /// An orphan has gone: instances without a cgroup may be empty now.
    fn look_at_trees(&mut self) {
        let now = sys::now();
        for instance in self.instances.values_mut() {
            let tree = matches!(instance.containment, Containment::Tree(_));
            if let Stage::Killing { next, .. } = &mut instance.stage
                && tree
            {
                *next = Moment(next.0.min(now.0));
            }
        }
    }
}

/// Whether no address is up.
fn strike(address: Option<&AddressHandle>) -> std::io::Result<bool> {
    address.map_or(Ok(true), AddressHandle::strike)
}

/// How a process ended.
pub(super) fn status_of(status: rustix::process::WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Status::Code(code),
        (None, Some(signal)) => Status::Signal(signal),
        (None, None) => Status::Unknown,
    }
}
