//! Launcher, guard and instances of a machine, faked: what they do to each other and when.

use brain::invariants::lease::{Activation, covers};
use brain::member::{Action, InstanceEvent, Running, StartRole, Undone};
use brain::plant::Plant;
use model::report::{Failure, InstancePhase};
use model::{Epoch, Moment, Span};

use crate::cluster::{RESOURCES, node_name, resource_name, resource_number};
use crate::event::{Ev, Part, Step};
use crate::plan::MILLI;
use crate::store::Judged;
use crate::world::{Inst, World};

/// Between two writes of an active instance.
const ORDER_EVERY: u64 = 40 * MILLI;

impl World {
    pub(crate) fn start_launcher(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.launcher.is_some() || node.launcher_lost {
            return;
        }
        if !node.instances.is_empty() {
            // It does not serve beside what it can't kill.
            let machine = node.machine;
            let again = Ev::Start { node: n, part: Part::Launcher, machine };
            return self.after(500 * MILLI, again);
        }
        node.launchers += 1;
        node.launcher = Some(node.launchers);
        self.note(|| format!("{} launcher starts", node_name(n)));
        self.tell_launcher_up(n);
    }

    pub(crate) fn start_guard(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.guards += 1;
        let guard = node.guards;
        node.guard = Some(guard);
        self.note(|| format!("{} guard starts", node_name(n)));
        if self.nodes[n].launcher.is_some() {
            self.tell(n, InstanceEvent::Guard(Some(guard)));
        }
        self.at(self.now, Ev::Guard { node: n, guard });
    }

    pub(crate) fn tell_launcher_up(&mut self, n: usize) {
        // What was decided on an older answer is dropped from now on.
        self.nodes[n].session += 1;
        let node = &self.nodes[n];
        let session = node.session;
        let running = node.instances.iter().map(|(r, inst)| {
            let phase = if inst.ending { InstancePhase::Stopping } else { inst.phase };
            let (resource, number, epoch) = (resource_name(*r), inst.number, inst.epoch);
            Running { resource, number, phase, epoch }
        });
        let (guard, running) = (node.guard, running.collect());
        let event = InstanceEvent::LauncherUp { session, guard, running };
        self.tell(n, event);
    }

    pub(crate) fn tell(&mut self, n: usize, event: InstanceEvent) {
        let run = self.nodes[n].run;
        if self.nodes[n].agent.is_some() {
            // One socket: what is said first is heard first.
            let event = Box::new(event);
            self.after(150_000, Ev::Tell { node: n, run, event });
        }
    }

    pub(crate) fn on_action(&mut self, n: usize, launcher: u32, action: Action) {
        if self.nodes[n].launcher != Some(launcher) {
            return;
        }
        let awake = self.nodes[n].launcher_awake;
        if self.now < awake {
            let action = Box::new(action);
            return self.at(awake, Ev::Act { node: n, launcher, action });
        }
        self.coverage.hit(action_name(&action));
        match action {
            Action::Start { resource, number, role } => {
                if let Some(r) = resource_number(&resource) {
                    self.start_instance(n, r, number, role);
                }
            }
            Action::Promote { resource, epoch } => {
                if let Some(r) = resource_number(&resource) {
                    self.promote(n, r, epoch);
                }
            }
            Action::Demote { resource, epoch } => {
                let inst = resource_number(&resource)
                    .and_then(|r| self.nodes[n].instances.get_mut(&r))
                    .filter(|inst| inst.epoch == Some(epoch) && !inst.ending);
                if let Some(inst) = inst {
                    inst.ending = true;
                    let id = inst.id;
                    let delay = self.rng.skewed(MILLI / 2, 20 * MILLI);
                    self.after(delay, Ev::Step { node: n, id, step: Step::Demoted });
                }
            }
            Action::Stop { resource, number, epoch, at_once } => {
                let longest = if at_once { 2 * MILLI } else { 60 * MILLI };
                if let Some(r) = resource_number(&resource) {
                    self.stop(n, r, (number, epoch), longest);
                }
            }
        }
    }

    fn stop(&mut self, n: usize, r: usize, (number, epoch): (u64, Option<Epoch>), longest: u64) {
        let node = &mut self.nodes[n];
        let Some(inst) = node.instances.get_mut(&r).filter(|inst| inst.number == number) else {
            // It isn't there: said, as evidence for its epoch, which is refused from now on.
            node.seen[r] = node.seen[r].max(epoch.unwrap_or_default());
            let failure = Failure::Exited { status: None, signal: None };
            let (resource, age, asked) = (resource_name(r), model::Span::ZERO, true);
            self.coverage.hit("stop-of-another");
            return self.tell(n, InstanceEvent::Gone { resource, number, failure, asked, age });
        };
        inst.ending = true;
        let (id, stuck) = (inst.id, inst.stuck);
        let (delay, step) = if stuck {
            (500 * MILLI, Step::StopLate)
        } else {
            (self.rng.skewed(MILLI / 2, longest), Step::Stopped)
        };
        self.after(delay, Ev::Step { node: n, id, step });
    }

    fn start_instance(&mut self, n: usize, r: usize, number: u64, role: StartRole) {
        self.check_pace(n, r);
        if let Some(inst) = self.nodes[n].instances.get(&r) {
            let ending = inst.ending;
            self.tell(n, InstanceEvent::NotNow(resource_name(r), Undone::Start));
            if !ending {
                // The agent knows something else than is: it asks for the list.
                self.coverage.hit("resync");
                self.tell_launcher_up(n);
            }
            return;
        }
        if self.now < self.nodes[n].no_descriptors_until {
            self.coverage.hit("start-refused-without-descriptors");
            let failure = Failure::StartFailed("too many open files".into());
            return self.refuse(n, r, failure, false);
        }
        if self.is_busy(n, r, Undone::Start) {
            return;
        }
        if self.misbehaves(3) {
            return self.refuse(n, r, Failure::StartFailed("no such file".into()), false);
        }
        let epoch = match role {
            StartRole::Active(epoch) if !self.may_activate(n, r, epoch) => {
                return self.decline(n, r, epoch, Undone::Start);
            }
            StartRole::Active(epoch) => Some(epoch),
            StartRole::Standby => None,
        };
        self.ids += 1;
        let id = self.ids;
        let inst = Inst {
            id,
            number,
            phase: InstancePhase::Starting,
            epoch: None,
            activation: 0,
            token: 0,
            stuck: false,
            given_up: false,
            ending: false,
        };
        self.nodes[n].instances.insert(r, inst);
        if let Some(epoch) = epoch {
            self.hand_out(n, r, epoch);
        }
        let delay = self.rng.skewed(2 * MILLI, 150 * MILLI);
        self.after(delay, Ev::Step { node: n, id, step: Step::Started });
    }

    fn promote(&mut self, n: usize, r: usize, epoch: Epoch) {
        let may = self.may_activate(n, r, epoch);
        let standby = self.nodes[n].instances.get(&r).is_some_and(|inst| {
            inst.phase == InstancePhase::Standby && inst.epoch.is_none() && !inst.ending
        });
        if !may || !standby {
            return self.decline(n, r, epoch, Undone::Promote);
        }
        if self.is_busy(n, r, Undone::Promote) {
            return;
        }
        if self.misbehaves(4) {
            return self.refuse(n, r, Failure::PromoteFailed("said no".into()), true);
        }
        self.hand_out(n, r, epoch);
        let Some(inst) = self.nodes[n].instances.get_mut(&r) else { return };
        inst.phase = InstancePhase::Promoting;
        let id = inst.id;
        let delay = self.rng.skewed(MILLI / 5, 20 * MILLI);
        self.after(delay, Ev::Step { node: n, id, step: Step::Promoted });
    }

    /// The launcher refuses old epochs, and asks the guard, who knows the lease.
    fn may_activate(&self, n: usize, r: usize, epoch: Epoch) -> bool {
        let local = self.local(n);
        let node = &self.nodes[n];
        let stopping = self.stopping(n);
        let armed = node.page.is_some_and(|page| local + stopping < page.end);
        let guarded = node.guard.is_some() || self.plan.plants.has(Plant::UnguardedActivation);
        guarded && armed && epoch > node.seen[r]
    }

    pub(crate) fn stopping(&self, n: usize) -> model::Span {
        let agent = self.nodes[n].agent.as_ref();
        agent.map_or(self.plan.profile.timers().stopping, |a| a.pulse.timers().stopping)
    }

    fn hand_out(&mut self, n: usize, r: usize, epoch: Epoch) {
        self.ids += 1;
        let activation = self.ids;
        let node = &mut self.nodes[n];
        let token = node.page.map_or(0, |page| page.token);
        let guarded = node.guard.is_some();
        let end = node.page.map(|page| node.clock.truth(page.end));
        node.seen[r] = epoch;
        if let Some(inst) = node.instances.get_mut(&r) {
            (inst.epoch, inst.activation, inst.token) = (Some(epoch), activation, token);
        }
        if let Some(replica) = self.nodes[n].replica {
            let activation = Activation { replica, at: self.now, end, guarded };
            self.require(covers(&activation));
        }
        self.note(|| format!("{} is handed {} under {epoch}", node_name(n), RESOURCES[r]));
        self.judge.handed.insert((r, n, epoch));
        self.after_activation(n, r);
    }

    fn find(&mut self, n: usize, id: u64) -> Option<(usize, &mut Inst)> {
        let mut all = self.nodes[n].instances.iter_mut();
        all.find(|(_, inst)| inst.id == id).map(|(r, inst)| (*r, inst))
    }

    pub(crate) fn on_step(&mut self, n: usize, id: u64, step: Step) {
        let Some((r, _)) = self.find(n, id) else { return };
        self.coverage.hit(step.name());
        let Some((_, inst)) = self.find(n, id) else { return };
        let resource = resource_name(r);
        match step {
            Step::Started | Step::Promoted if inst.ending => {}
            Step::Started if inst.epoch.is_none() => {
                inst.phase = InstancePhase::Standby;
                self.tell(n, InstanceEvent::Ready(resource));
            }
            Step::Started | Step::Promoted => {
                inst.phase = InstancePhase::Active;
                if let Some(epoch) = inst.epoch {
                    self.tell(n, InstanceEvent::Active(resource, epoch));
                    self.at(self.now, Ev::Order { node: n, id });
                }
            }
            Step::Demoted => {
                inst.phase = InstancePhase::Standby;
                inst.epoch = None;
                inst.ending = false;
                self.tell(n, InstanceEvent::Standby(resource));
            }
            Step::StopLate => {
                let active = inst.epoch.is_some();
                let launcher = self.nodes[n].launcher.is_some();
                if launcher {
                    self.tell(n, InstanceEvent::StopFailed(resource.clone()));
                }
                if active && self.plan.may_reboot {
                    self.coverage.hit("forced-reboot");
                    return self.crash_machine(n, false);
                }
                if launcher {
                    self.tell(n, InstanceEvent::Stuck(resource));
                }
            }
            Step::Stopped => self.gone(n, r, true),
            Step::Burnt => {
                // The guard's word comes first, the launcher's follows.
                let Some(epoch) = inst.epoch.take() else { return };
                inst.ending = true;
                inst.phase = InstancePhase::Stopping;
                self.coverage.hit("guard-stopped-an-instance");
                self.tell(n, InstanceEvent::Burnt { resource, epoch, gone: true });
                let delay = self.rng.range(MILLI / 10, 2 * MILLI);
                self.after(delay, Ev::Step { node: n, id, step: Step::Stopped });
            }
        }
    }

    pub(crate) fn gone(&mut self, n: usize, r: usize, asked: bool) {
        let Some(inst) = self.nodes[n].instances.remove(&r) else { return };
        if self.nodes[n].launcher.is_none() {
            return self.tell_clear(n);
        }
        let number = inst.number;
        let signal = if asked { 15 } else { 11 };
        let failure = Failure::Exited { status: None, signal: Some(signal) };
        let (resource, age) = (resource_name(r), model::Span::from_us(100));
        self.tell(n, InstanceEvent::Gone { resource, number, failure, asked, age });
    }

    /// The guard looks: what its lease no longer covers is stopped now.
    pub(crate) fn on_guard(&mut self, n: usize, guard: u64) {
        if self.nodes[n].guard != Some(guard) {
            return;
        }
        let local = self.local(n);
        let stopping = self.stopping(n);
        let page = self.nodes[n].page;
        let early = if self.plan.plants.has(Plant::GuardLate) { Span::ZERO } else { stopping };
        let start = page.map_or(Moment::ZERO, |page| page.end.before(early));
        let careless = self.plan.plants.has(Plant::LeaseOfAnother);
        let uncovered = |inst: &Inst| {
            let same = page.is_some_and(|page| page.token == inst.token) || careless;
            inst.epoch.is_some() && (local >= start || !same)
        };
        let late: Vec<(u64, bool)> = self.nodes[n]
            .instances
            .values()
            .filter(|inst| uncovered(inst))
            .map(|inst| (inst.id, inst.stuck))
            .collect();
        for (id, stuck) in late {
            self.tell_burning(n, id);
            self.note(|| format!("{} guard stops instance {id}", node_name(n)));
            if stuck && self.plan.may_reboot {
                self.coverage.hit("forced-reboot");
                return self.crash_machine(n, false);
            }
            let Some((_, inst)) = self.find(n, id) else { continue };
            inst.ending = true;
            if stuck {
                if !std::mem::replace(&mut inst.given_up, true) {
                    self.after(500 * MILLI, Ev::Step { node: n, id, step: Step::StopLate });
                }
            } else {
                let delay = self.rng.range(stopping.0 / 8, stopping.0 / 2);
                self.after(delay, Ev::Step { node: n, id, step: Step::Burnt });
            }
        }
        self.after_guard(n);
        let soon = self.now + self.plan.profile.timers().heartbeat.0;
        let next = if local < start { self.nodes[n].clock.truth(start) } else { soon };
        self.at(next, Ev::Guard { node: n, guard });
    }

    /// The guard's first word: the epoch is over; that the instance is gone it says later.
    fn tell_burning(&mut self, n: usize, id: u64) {
        let heard = self.nodes[n].launcher.is_some();
        let Some((r, inst)) = self.find(n, id) else { return };
        if let Some(epoch) = inst.epoch.filter(|_| heard && !inst.ending) {
            let resource = resource_name(r);
            self.tell(n, InstanceEvent::Burnt { resource, epoch, gone: false });
        }
    }

    pub(crate) fn kill_guard(&mut self, n: usize) {
        if self.nodes[n].guard.take().is_none() {
            return;
        }
        self.note(|| format!("{} guard dies", node_name(n)));
        // The launcher sees it at once: without a guard nothing is active.
        let active: Vec<(usize, u64)> = self.nodes[n]
            .instances
            .iter()
            .filter(|(_, inst)| inst.epoch.is_some() && !inst.stuck)
            .map(|(r, inst)| (*r, inst.id))
            .collect();
        // One that comes later knows nothing of what this one covered.
        self.nodes[n].clear = false;
        self.tell_clear(n);
        if self.nodes[n].launcher.is_some() {
            self.tell(n, InstanceEvent::Guard(None));
        }
        for (_, id) in active {
            let delay = self.rng.range(MILLI / 10, 2 * MILLI);
            self.after(delay, Ev::Step { node: n, id, step: Step::Burnt });
        }
        let machine = self.nodes[n].machine;
        let delay = self.rng.skewed(20 * MILLI, 2_000 * MILLI);
        self.after(delay, Ev::Start { node: n, part: Part::Guard, machine });
    }

    pub(crate) fn kill_launcher(&mut self, n: usize) {
        if self.nodes[n].launcher.take().is_none() {
            return;
        }
        self.note(|| format!("{} launcher dies", node_name(n)));
        // The guard kills what it ran; a stuck one stays.
        self.nodes[n].instances.retain(|_, inst| inst.stuck);
        self.tell(n, InstanceEvent::LauncherDown);
        self.nodes[n].clear = self.nodes[n].guard.is_some();
        self.tell_clear(n);
        if self.nodes[n].clear {
            let left: Vec<u64> = self.nodes[n].instances.values().map(|inst| inst.id).collect();
            for id in left {
                self.after(500 * MILLI, Ev::Step { node: n, id, step: Step::StopLate });
            }
        }
        let machine = self.nodes[n].machine;
        // Nobody supervises it: it stays away for long.
        let longest = if self.rng.permille(150) { 30_000 } else { 2_000 };
        let delay = self.rng.skewed(20 * MILLI, longest * MILLI);
        self.after(delay, Ev::Start { node: n, part: Part::Launcher, machine });
    }

    /// While there is no launcher, its guard says whether anything active is left.
    pub(crate) fn tell_clear(&mut self, n: usize) {
        let node = &self.nodes[n];
        if node.launcher.is_some() {
            return;
        }
        let left = node.instances.values().any(|inst| inst.epoch.is_some());
        let clear = node.clear && !left;
        self.tell(n, InstanceEvent::Clear(clear));
    }

    /// An active instance writes; the write may be on its way for long.
    pub(crate) fn on_order(&mut self, n: usize, id: u64) {
        let Some((r, inst)) = self.find(n, id) else { return };
        let Some(epoch) = inst.epoch.filter(|_| inst.phase == InstancePhase::Active) else {
            return;
        };
        let activation = inst.activation;
        let way = self.rng.skewed(MILLI / 10, 50 * MILLI);
        self.after(way, Ev::Store { resource: r, node: n, activation, epoch });
        let pause = self.rng.range(ORDER_EVERY / 2, ORDER_EVERY * 2);
        self.after(pause, Ev::Order { node: n, id });
    }

    pub(crate) fn on_store(&mut self, r: usize, n: usize, activation: u64, epoch: Epoch) {
        match self.stores[r].write(n, activation, epoch) {
            Ok(Judged::Accepted) => {}
            Ok(Judged::Stale) => self.coverage.hit("refused-stale-write"),
            Err(violation) => self.fail(violation),
        }
    }

    pub(crate) fn fail_health(&mut self, n: usize, r: usize) {
        let Some(inst) = self.nodes[n].instances.get(&r) else { return };
        let id = inst.id;
        let failed = Some(("tcp".into(), "refused".into()));
        self.tell(n, InstanceEvent::Health { resource: resource_name(r), failed });
        let delay = self.rng.skewed(100 * MILLI, 3_000 * MILLI);
        self.after(delay, Ev::Undo(crate::event::Undo::Healthy { node: n, id }));
    }

    pub(crate) fn recover_health(&mut self, n: usize, id: u64) {
        if let Some((r, _)) = self.find(n, id) {
            self.tell(n, InstanceEvent::Health { resource: resource_name(r), failed: None });
        }
    }
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Start { role: StartRole::Active(_), .. } => "action-start-active",
        Action::Start { role: StartRole::Standby, .. } => "action-start-standby",
        Action::Promote { .. } => "action-promote",
        Action::Demote { .. } => "action-demote",
        Action::Stop { at_once: true, .. } => "action-stop-at-once",
        Action::Stop { .. } => "action-stop",
    }
}
