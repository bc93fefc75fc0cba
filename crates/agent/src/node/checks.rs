//! Health checks of the instances on this node: which run, and what they say.
//!
//! The checks themselves are the drivers'; here is only which instances are asked, and since when:
//! from the moment they are ready, or from their start where readiness is what the checks prove.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use brain::member::InstanceEvent;
use drivers::health::{Change, Checker, ExecProbes, Watched};
use drivers::protocol::{Event, InstanceView, Request, Role};
use kernel::Input;
use model::spec::{HealthSpec, Probe, Ready};
use model::state::ClusterState;
use model::{Epoch, ResourceName, ResourceSpec};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::launcher_link::LauncherPort;
use super::shared::{Shared, lock};

/// Changes of health of one instance that wait to be told.
const CHANGES_MAX: usize = 16;

/// The running checks.
pub struct Checks {
    runtime: Handle,
    shared: Arc<Shared>,
    port: LauncherPort,
    exec: ExecProbes,
    specs: Mutex<BTreeMap<ResourceName, ResourceSpec>>,
    running: Mutex<BTreeMap<ResourceName, Running>>,
}

/// The checks of one instance; they end when this is dropped.
struct Running {
    _checker: Checker,
    role: watch::Sender<Role>,
}

impl Checks {
    /// No checks yet.
    #[must_use]
    pub fn new(runtime: Handle, shared: Arc<Shared>, port: LauncherPort) -> Checks {
        let asker = port.clone();
        let exec = ExecProbes::new(Arc::new(move |request: &Request| asker.ask(request)));
        let (specs, running) = (Mutex::default(), Mutex::default());
        Checks { runtime, shared, port, exec, specs, running }
    }

    /// Takes over the committed specification. Instances that run are asked by the new one from
    /// their next start on, or now where only their checks changed.
    pub fn specify(&self, state: &ClusterState) {
        let before = std::mem::replace(&mut *lock(&self.specs), state.spec.resources.clone());
        let changed = |name: &ResourceName| {
            before.get(name).map(|s| &s.health) != state.spec.resources.get(name).map(|s| &s.health)
        };
        let names: Vec<(ResourceName, Role)> = lock(&self.running)
            .iter()
            .filter(|(name, _)| changed(name))
            .map(|(name, running)| (name.clone(), *running.role.borrow()))
            .collect();
        for (name, role) in names {
            let epoch = state.resources.get(&name).map_or(Epoch::default(), |held| held.epoch);
            lock(&self.running).remove(&name);
            self.begin(&name, role, epoch, false);
        }
    }

    /// Takes in what the launcher says.
    pub fn on_event(&self, event: &Event) {
        self.exec.on_event(event);
        match event {
            Event::Started { resource, epoch, role, .. } if self.by_probe(resource) => {
                self.begin(resource, *role, *epoch, true);
            }
            Event::Ready { resource, epoch } if !self.by_probe(resource) => {
                self.begin(resource, Role::Standby, *epoch, false);
            }
            Event::Active { resource, epoch } => {
                self.begin(resource, Role::Active, *epoch, false);
                self.set_role(resource, Role::Active);
            }
            Event::Standby { resource, .. } => self.set_role(resource, Role::Standby),
            Event::Instances { running, .. } => {
                for InstanceView { resource, role, epoch, ready, .. } in running {
                    if *ready || self.by_probe(resource) {
                        self.begin(resource, *role, *epoch, !*ready);
                    }
                }
            }
            Event::Exited(gone) | Event::Stopped(gone) => {
                lock(&self.running).remove(&gone.evidence.resource);
            }
            Event::Disconnected { .. } => lock(&self.running).clear(),
            _ => {}
        }
    }

    fn by_probe(&self, resource: &ResourceName) -> bool {
        let specs = lock(&self.specs);
        specs.get(resource).is_some_and(|spec| spec.kind.program().ready == Ready::Probe)
    }

    fn set_role(&self, resource: &ResourceName, role: Role) {
        if let Some(running) = lock(&self.running).get(resource) {
            running.role.send_replace(role);
        }
    }

    /// Begins to ask an instance, unless it is asked already or has no checks.
    fn begin(&self, resource: &ResourceName, role: Role, epoch: Epoch, prove_ready: bool) {
        let Some(checks) = lock(&self.specs).get(resource).map(|spec| spec.health.clone()) else {
            return;
        };
        let mut running = lock(&self.running);
        if checks.is_empty() || running.contains_key(resource) {
            return;
        }
        let (role, watched_role) = watch::channel(role);
        let (changes, changed) = mpsc::channel(CHANGES_MAX);
        let watched = Watched { resource: resource.clone(), checks: checks.clone() };
        let _inside = self.runtime.enter();
        let checker = Checker::start(watched, &watched_role, &self.exec, changes);
        let telling = Telling {
            shared: Arc::clone(&self.shared),
            port: self.port.clone(),
            resource: resource.clone(),
            epoch,
            checks,
            prove_ready,
        };
        self.runtime.spawn(telling.run(changed));
        running.insert(resource.clone(), Running { _checker: checker, role });
    }
}

/// Tells what the checks of one instance find.
struct Telling {
    shared: Arc<Shared>,
    port: LauncherPort,
    resource: ResourceName,
    epoch: Epoch,
    checks: Vec<HealthSpec>,
    /// Its first health is what makes it ready; until then the launcher's time limit decides.
    prove_ready: bool,
}

impl Telling {
    async fn run(mut self, mut changed: mpsc::Receiver<Change>) {
        while let Some(change) = changed.recv().await {
            let failed = match change {
                Change::Healthy => {
                    if std::mem::take(&mut self.prove_ready) {
                        let (resource, epoch) = (self.resource.clone(), self.epoch);
                        self.port.send(&Request::Ready { resource, epoch });
                    }
                    None
                }
                Change::Unhealthy { .. } if self.prove_ready => continue,
                Change::Unhealthy { check, reason } => Some((self.name(check), reason)),
            };
            let resource = self.resource.clone();
            let event = InstanceEvent::Health { resource, failed };
            // Waits for room; the other worker goes on meanwhile.
            tokio::task::block_in_place(|| self.shared.give(Input::Instance(event)));
        }
    }

    fn name(&self, check: u32) -> String {
        let probe = self.checks.get(check as usize).map(|c| &c.probe);
        match probe {
            Some(Probe::Tcp(address)) => format!("tcp {address}"),
            Some(Probe::Http(url)) => format!("http {url}"),
            Some(Probe::Exec(command)) => format!("exec {}", command.join(" ")),
            None => format!("number {check}"),
        }
    }
}
