//! Starting an instance: files, cgroup, a child behind its gate, the guard's confirmation, and
//! only then the program.

use std::io;
use std::os::fd::OwnedFd;

use model::spec::{ProcessSpec, Ready};
use model::{Epoch, Moment, ResourceName};

use super::core::{Launcher, Source};
use super::instance::{Instance, Stage};
use super::talk::Talk;
use super::{ARM_CONFIRM, leftovers};
use crate::address::{self, AddressHandle};
use crate::lease::InstanceLease;
use crate::process::containment::{CgroupHandle, Containment, TreeHandle};
use crate::process::logs::Output;
use crate::process::plan::{self, Naming, PlanError};
use crate::process::user::{self, Account};
use crate::process::{notify, table};
use crate::protocol::{Asked, Event, Refusal, Role, Why};
use crate::sys::{self, Gated, SpawnFailure};

/// Everything that is made before the child.
struct Prepared {
    output: Output,
    cgroup: Option<(CgroupHandle, OwnedFd)>,
    talk: Talk,
    lease: InstanceLease,
    notify: Option<std::os::unix::net::UnixDatagram>,
    plan: sys::SpawnPlan,
    account: Account,
}

impl Launcher {
    /// Starts an instance; the checks are done.
    pub(super) fn start(
        &mut self,
        resource: &ResourceName,
        number: u64,
        role: Role,
        epoch: Epoch,
    ) -> Result<(), Refusal> {
        if self.instances.len() >= model::spec::RESOURCES_MAX {
            return Err(Refusal::Limit(model::spec::RESOURCES_MAX as u32));
        }
        let Some(spec) = self.resources.get(resource) else { return Err(Refusal::NotSpecified) };
        let (spec, address) = address::of_instance(&spec.kind, &self.options.keeper)
            .map_err(|error| Refusal::Host(chain(&error)))?;
        let id = self.number();
        let made = self.make((id, number), resource, &spec, address, role, epoch);
        let instance = made.map_err(|error| {
            tracing::error!(%resource, error = %chain(&error), "can't be prepared");
            self.remove_cgroup_of(id, resource);
            Refusal::Host(chain(&error))
        })?;
        self.gone.remove(resource);
        self.instances.insert(id, instance);
        self.write_pids();
        if role == Role::Standby {
            self.open_gate(id);
        } else if !self.arm(id, epoch) {
            self.drop_unstarted(id, Refusal::NoGuard);
        }
        Ok(())
    }

    /// A name that no other cgroup of this launcher has.
    fn cgroup_name(id: u64, resource: &ResourceName) -> String {
        format!("i.{resource}.{id}")
    }

    fn remove_cgroup_of(&self, id: u64, resource: &ResourceName) {
        let Some(root) = &self.cgroups else { return };
        let path = root.path().join(Self::cgroup_name(id, resource));
        if path.exists()
            && let Err(error) = crate::process::cgroup::remove(&path)
        {
            tracing::warn!(%error, path = %path.display(), "a cgroup stays");
        }
    }

    fn prepare(
        &mut self,
        id: u64,
        spec: &ProcessSpec,
        naming: Naming<'_>,
    ) -> Result<Prepared, PlanError> {
        let run_dir = &self.options.run_dir;
        let resource = naming.resource;
        let account = user::account(spec)?;
        let cgroup = match &self.cgroups {
            Some(root) => Some(root.create(&Self::cgroup_name(id, resource), &spec.limits)?),
            None => None,
        };
        let dir = cgroup.as_ref().map(|(_, dir)| dir.try_clone()).transpose()?;
        let lease = InstanceLease::create(&run_dir.instance_lease(resource))?;
        if let Some(uid) = self.options.agent_uid {
            std::os::unix::fs::chown(run_dir.instance_lease(resource), Some(uid), None)?;
        }
        let talk = Talk::bind(&run_dir.instance_socket(resource), account.uid)?;
        let notify = match spec.ready {
            Ready::Notify => {
                let path = run_dir.notify_socket(resource);
                let socket = notify::bind(&path)?;
                if account.identity.is_some() {
                    std::os::unix::fs::chown(&path, Some(account.uid), None)?;
                }
                Some(socket)
            }
            _ => None,
        };
        let (output, into) = self.logs.capture(id, Some((resource.as_str(), &spec.log)))?;
        let limited = |c: &str| self.cgroups.as_ref().is_some_and(|root| root.has(c));
        let (plan, account) = plan::plan(spec, naming, into, dir, limited)?;
        Ok(Prepared { output, cgroup, talk, lease, notify, plan, account })
    }

    fn make(
        &mut self,
        (id, number): (u64, u64),
        resource: &ResourceName,
        spec: &ProcessSpec,
        address: Option<AddressHandle>,
        role: Role,
        epoch: Epoch,
    ) -> Result<Instance, PlanError> {
        let run_dir = self.options.run_dir.clone();
        if let Some(address) = &address {
            let known = self.instances.values().filter_map(|i| i.address.as_ref());
            address::write_down(&run_dir, known.chain([address]).map(AddressHandle::at))?;
        }
        let naming = Naming { run_dir: &run_dir, resource, role, epoch };
        let mut made = self.prepare(id, spec, naming)?;
        if address.is_some() {
            // A keeper that is killed leaves the address where it is.
            made.plan.orphan_signal = libc::SIGTERM;
        }
        let gated = sys::spawn(&made.plan)?;
        let Gated { pid, pidfd, gate, errors, in_cgroup } = gated;
        let pid = pid.as_raw_pid();
        let (cgroup, cgroup_dir) = made.cgroup.unzip();
        if let Some(cgroup) = &cgroup
            && !in_cgroup
        {
            std::fs::write(cgroup.path.join("cgroup.procs"), pid.to_string())?;
        }
        let started = table::started(pid).ok_or_else(|| io::Error::other("its child is gone"))?;
        let socket = run_dir.instance_socket(resource).to_string_lossy().into_owned();
        let containment = match cgroup {
            Some(cgroup) => Containment::Cgroup(cgroup),
            None => Containment::Tree(TreeHandle { leader: pid, started, socket }),
        };
        let now = sys::now();
        let instance = Instance {
            id,
            number,
            resource: resource.clone(),
            spec: spec.clone(),
            role: Role::Standby,
            wanted: role,
            epoch,
            uid: made.account.uid,
            pid,
            started,
            pidfd,
            containment,
            address,
            cgroup_dir,
            lease: made.lease,
            output: Some(made.output),
            gate: Some(gate),
            errors: Some(errors),
            talk: made.talk,
            notify: made.notify,
            ready: false,
            stage: Stage::Arming { until: now + ARM_CONFIRM, promote: false },
            status: None,
            since: now,
            guard: 0,
            armed: false,
            lease_number: 0,
            refused: None,
            then_active: None,
        };
        self.watch_instance(&instance)?;
        Ok(instance)
    }

    fn watch_instance(&self, instance: &Instance) -> io::Result<()> {
        let id = instance.id;
        self.poll.add(&instance.pidfd, Source::Exit.token(id))?;
        if let Some(errors) = &instance.errors {
            self.poll.add(errors, Source::Errors.token(id))?;
        }
        self.poll.add(&instance.talk.listener, Source::TalkListener.token(id))?;
        if let Some(notify) = &instance.notify {
            self.poll.add(notify, Source::Notify.token(id))?;
        }
        if let Containment::Cgroup(cgroup) = &instance.containment {
            self.poll.add_changes(cgroup.events(), Source::Cgroup.token(id))?;
        }
        Ok(())
    }

    /// The guard will stop it: from here on it may act.
    pub(super) fn on_arm_confirmed(&mut self, id: u64) {
        let stopping = self.options.timers.stopping;
        let now = sys::now();
        // The end first, then the number: see `LeasePage::set_lease`.
        let end = self.page.lease_end(now, self.options.longest_lease);
        let lease = self.page.lease_number();
        let incarnation = self.guard.incarnation;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Stage::Arming { promote, .. } = instance.stage else { return };
        instance.armed = true;
        instance.guard = incarnation;
        let covered = |end: &Moment| now + stopping < *end && lease == instance.lease_number;
        let Some(end) = end.filter(covered) else {
            return self.on_arm_failed(id);
        };
        instance.role = Role::Active;
        instance.wanted = Role::Active;
        instance.lease.activate(instance.epoch, lease, end);
        if promote {
            self.tell_promotion(id);
        } else {
            self.open_gate(id);
        }
    }

    /// The guard won't stop it, or says nothing: it does not become active.
    pub(super) fn on_arm_failed(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Stage::Arming { promote, .. } = instance.stage else { return };
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        instance.armed = false;
        if promote {
            instance.stage = Stage::Running;
        }
        self.disarm(&resource, epoch);
        let covered = self.covered(self.options.timers.stopping);
        let why = if covered { Refusal::NoGuard } else { Refusal::NoLease };
        if promote {
            self.refuse(Asked::Promote, Some(resource), epoch, why);
        } else {
            self.drop_unstarted(id, why);
        }
    }

    /// Ends a child whose program never ran.
    fn drop_unstarted(&mut self, id: u64, why: Refusal) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.refused = Some(why);
            instance.gate = None;
        }
        self.kill(id, Why::StartFailed("not armed".into()));
    }

    /// Lets the child run its program.
    fn open_gate(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(gate) = instance.gate.take() else { return };
        instance.stage = Stage::Executing;
        if let Err(errno) = rustix::io::write(&gate, b"g") {
            tracing::warn!(%errno, "a child is gone before its program ran");
        }
    }

    /// The child runs its program now, or says why not.
    pub(super) fn on_executed(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(errors) = instance.errors.take() else { return };
        let mut report = [0u8; 8];
        let len = match rustix::io::read(&errors, &mut report) {
            Ok(len) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                instance.errors = Some(errors);
                return;
            }
            Err(_) => 0,
        };
        self.poll.remove(&errors);
        if let Some(SpawnFailure { step, errno }) = SpawnFailure::decode(&report[..len]) {
            let error = io::Error::from_raw_os_error(errno);
            let program = instance.spec.command.first().map_or("", String::as_str);
            let text = format!("{step} failed for {program}: {error}");
            return self.kill(id, Why::StartFailed(text));
        }
        if instance.stage == Stage::Executing {
            let (resource, epoch) = (instance.resource.clone(), instance.epoch);
            let (role, pid) = (instance.role, instance.pid.unsigned_abs());
            self.tell(&Event::Started { resource, epoch, role, pid });
            self.on_started(id);
        }
    }

    /// Writes down the processes that a later launcher would have to kill.
    pub(super) fn write_pids(&self) {
        let living = self.instances.values().map(|i| (i.pid, i.started));
        if let Err(error) = leftovers::write_pids(&self.options.run_dir, living) {
            tracing::error!(%error, "the list of processes can't be written");
        }
        let up = self.instances.values().filter_map(|i| i.address.as_ref());
        if let Err(error) = address::write_down(&self.options.run_dir, up.map(AddressHandle::at)) {
            tracing::error!(%error, "the list of addresses can't be written");
        }
    }

    /// What is due by time with one instance.
    pub(super) fn on_due(&mut self, id: u64, now: Moment) {
        let Some(instance) = self.instances.get(&id) else { return };
        match &instance.stage {
            Stage::Arming { .. } => self.on_arm_failed(id),
            Stage::Starting { ready_at: Some(at), .. } if *at <= now => self.on_ready(id),
            Stage::Starting { .. } => self.stop(id, Why::NotReady),
            Stage::Promoting { .. } => {
                let reason = "it did not say that it is active in time".to_owned();
                self.on_promote_failed(id, reason);
            }
            Stage::Demoting { .. } => self.kill(id, Why::DemoteFailed),
            Stage::Stopping { why, .. } => {
                let why = why.clone();
                self.kill(id, why);
            }
            Stage::Killing { .. } => self.look(id),
            Stage::Executing | Stage::Running => {}
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
