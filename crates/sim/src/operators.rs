//! Operators and nodes that ask for things, at random moments.

use kernel::Input;
use model::operation::{Operation, Outcome, Refusal, Scope};
use model::report::InstancePhase;
use model::spec::{ClusterSpec, ResourceKind, ResourceSpec};
use model::state::ClusterState;
use model::{Profile, ResourceName};

use crate::cluster::{RESOURCES, join_request, node_name, resource_name};
use crate::event::{Ev, Part};
use crate::plan::{MILLI, SECOND};
use crate::world::World;

/// Names a request: numbers begin anew with every start of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// The node that took it in.
    pub(crate) via: usize,
    /// Which start of its agent.
    pub(crate) run: u32,
    pub(crate) number: u64,
}

/// A node asks again to rejoin after this long without an answer.
const REJOIN_WAIT: u64 = 11 * SECOND;

impl World {
    pub(crate) fn on_operate(&mut self) {
        self.disturb(World::operate);
    }

    fn operate(&mut self, number: u32) {
        let every = self.plan.operate_every;
        let next = self.rng.range(every / 4, every * 2);
        if self.healed || self.now + SECOND > self.plan.safety {
            return;
        }
        self.after(next, Ev::Operate);
        self.sweep();
        let n = self.rng.below(self.nodes.len() as u64) as usize;
        let r = self.rng.below(RESOURCES.len() as u64) as usize;
        let resource = resource_name(r);
        let node = node_name(self.rng.below(self.nodes.len() as u64) as usize);
        let for_ms = self.rng.range(500, 8_000);
        let scope = match self.rng.below(3) {
            0 => Scope::Cluster,
            1 => Scope::Node(node.clone()),
            _ => Scope::Resource(resource.clone()),
        };
        let to = self.rng.permille(500).then(|| node.clone());
        if !self.is_allowed(number, || format!("an operator at {}", node_name(n))) {
            return;
        }
        let operation = match self.rng.below(16) {
            0..3 => Operation::Switchover { resource, to },
            3..5 => Operation::Failover { resource },
            5 => Operation::Drain { node, for_ms },
            6 => Operation::Undrain { node },
            7 => Operation::Maintenance { scope, for_ms },
            8 => Operation::EndMaintenance { scope },
            9 => Operation::Clear { resource },
            10..12 => return self.change_specification(n, r),
            12..14 => Operation::Transfer { to: to.filter(|_| self.rng.permille(300)) },
            _ => return self.ask_for_absence(n),
        };
        self.ask(n, operation);
    }

    /// The name of the next request through a node.
    fn next_request(&self, n: usize) -> Asked {
        let node = &self.nodes[n];
        Asked { via: n, run: node.run, number: node.asked + 1 }
    }

    /// Asks through a node.
    pub(crate) fn ask(&mut self, n: usize, operation: Operation) {
        let asked = self.next_request(n);
        self.note(|| format!("{} is asked for {operation:?}", node_name(n)));
        let node = &mut self.nodes[n];
        if node.agent.is_none() || node.frozen || node.agent_frozen {
            return;
        }
        node.asked = asked.number;
        // A node that rejoins asks again by itself, elsewhere.
        let rejoins = matches!(operation, Operation::Rejoin(_));
        node.unanswered = (!rejoins).then(|| operation.clone());
        self.judge.asked.insert(asked, self.judge.applied);
        let number = asked.number;
        self.drive(n, Input::Operate { number, by: "operator".into(), operation });
    }

    /// The agent is back: whoever asked the one before and was not answered asks this one.
    pub(crate) fn ask_again(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.asked = 0;
        if node.unanswered.is_some() && !self.healed {
            let run = node.run;
            let delay = self.rng.skewed(MILLI, 100 * MILLI);
            self.after(delay, Ev::AskAgain { node: n, run });
        }
    }

    pub(crate) fn on_ask_again(&mut self, n: usize, run: u32) {
        let node = &mut self.nodes[n];
        if node.run == run
            && let Some(operation) = node.unanswered.take()
        {
            self.coverage.hit("asked-again");
            self.ask(n, operation);
        }
    }

    fn change_specification(&mut self, n: usize, r: usize) {
        let Some(state) = self.nodes[n].agent.as_ref().map(|a| a.kernel.state()) else { return };
        let mut spec: ClusterSpec = state.spec.clone();
        if spec.nodes.is_empty() {
            return;
        }
        if self.rng.permille(150) {
            // Taken out, or put back: its epochs go on growing.
            if spec.resources.remove(&optional()).is_none() {
                spec.resources.extend(self.first_specification(&optional()));
            }
            self.coverage.hit("resource-taken-out-or-put-back");
        } else if self.rng.permille(400) {
            // Only what fits these machines: `check` refuses the others.
            let fits = |p: &Profile| p.timers().heartbeat >= self.plan.profile.timers().heartbeat;
            let fitting: Vec<Profile> = Profile::ALL.into_iter().filter(fits).collect();
            spec.profile = *self.rng.pick(&fitting).unwrap_or(&self.plan.profile);
            self.coverage.hit("profile-change");
        } else if let Some(resource) = spec.resources.get_mut(&resource_name(r)) {
            let value = self.rng.below(1_000).to_string();
            if let ResourceKind::Process(process) = &mut resource.kind {
                process.environment.insert("CHANGED".into(), value);
            }
        }
        self.ask(n, Operation::Apply { spec, text: String::new(), base: None });
    }

    fn first_specification(&self, name: &ResourceName) -> Option<(ResourceName, ResourceSpec)> {
        let first: ClusterState = postcard::from_bytes(&self.founding).ok()?;
        first.spec.resources.get_key_value(name).map(|(name, spec)| (name.clone(), spec.clone()))
    }

    /// Rule 7: an agent is about to be restarted.
    fn ask_for_absence(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.agent.is_none() || node.frozen || node.agent_frozen {
            return;
        }
        node.absent = Some(self.now);
        let run = node.run;
        let for_ms = self.rng.range(2_000, 10_001);
        self.note(|| format!("{} wants to be absent for {for_ms} ms", node_name(n)));
        self.drive(n, Input::WantAbsence { for_ms });
        self.on_absence_asked(n);
        let deadline = self.now + 2 * SECOND;
        self.after(5 * MILLI, Ev::Leave { node: n, run, deadline });
    }

    pub(crate) fn on_leave(&mut self, n: usize, run: u32, deadline: u64) {
        let local = self.local(n);
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_ref().filter(|_| node.run == run) else { return };
        let lease = agent.pulse.timers().lease;
        let longer = agent.pulse.lease_end().filter(|end| *end > local + lease * 2);
        let Some(end) = longer else {
            if self.now < deadline {
                self.after(20 * MILLI, Ev::Leave { node: n, run, deadline });
            }
            return;
        };
        let active = node.instances.iter().filter(|(_, i)| i.phase == InstancePhase::Active);
        node.left = Some((self.now, active.map(|(r, i)| (*r, i.activation)).collect()));
        let left = node.clock.truth(end).saturating_sub(self.now);
        self.kill_agent(n);
        let delay = self.rng.range(lease.0, left.max(lease.0 + 1));
        self.restart_agent_after(n, delay);
    }

    /// The agent is back: what was active when it left should be, still.
    pub(crate) fn find_what_was_left(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some((at, active)) = node.left.take() else { return };
        let same = |(r, activation): &(usize, u64)| {
            node.instances.get(r).is_some_and(|i| i.activation == *activation)
        };
        let long = self.now - at > self.plan.profile.timers().lease.0;
        if long && !active.is_empty() && active.iter().all(same) {
            self.coverage.hit("absence-honoured");
        }
    }

    /// A node without incarnation asks to rejoin under a new one, through any other.
    pub(crate) fn on_rejoin(&mut self, n: usize) {
        let node = &self.nodes[n];
        if node.replica.is_some() || node.agent.is_some() || !node.up {
            return;
        }
        if node.rejoining.is_some_and(|(_, at)| self.now - at < REJOIN_WAIT) {
            return self.after(SECOND, Ev::Rejoin { node: n });
        }
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|o| *o != n && self.nodes[*o].agent.is_some() && !self.nodes[*o].frozen)
            .filter(|o| !self.nodes[*o].agent_frozen)
            .collect();
        if let Some(via) = self.rng.pick(&others).copied() {
            // The answer may come at once, so the request is noted before it is made.
            self.nodes[n].rejoining = Some((self.next_request(via), self.now));
            self.ask(via, Operation::Rejoin(join_request(&self.plan, n)));
        }
        self.after(SECOND, Ev::Rejoin { node: n });
    }

    pub(crate) fn on_answer(&mut self, via: usize, number: u64, answer: &Result<Outcome, Refusal>) {
        self.note(|| format!("{} answers request {number}: {answer:?}", node_name(via)));
        let node = &mut self.nodes[via];
        let asked = Asked { via, run: node.run, number };
        // Where nobody coordinates, one asks again and again.
        if number == node.asked && !matches!(answer, Err(Refusal::NotCoordinator { .. })) {
            node.unanswered = None;
        }
        let before = self.judge.asked.remove(&asked);
        if let Ok(Outcome::Committed { index } | Outcome::Joined { index, .. }) = answer {
            self.check_told(via, *index);
            self.check_order(via, *index, before);
        }
        let own = |node: &crate::world::Node| node.rejoining.is_some_and(|(own, _)| own == asked);
        let Some(n) = self.nodes.iter().position(own) else { return };
        self.nodes[n].rejoining = None;
        if let Ok(Outcome::Joined { replica, .. }) = answer {
            self.coverage.hit("rejoin");
            self.note(|| format!("{} is {replica} from now on", node_name(n)));
            self.nodes[n].replica = Some(*replica);
            self.nodes[n].ran = false;
            self.nodes[n].learner = true;
            let machine = self.nodes[n].machine;
            self.after(MILLI, Ev::Start { node: n, part: Part::Agent, machine });
        }
    }

    /// A node whose name belongs to a newer incarnation sets its log aside and rejoins.
    pub(crate) fn sweep(&mut self) {
        for n in 0..self.nodes.len() {
            let newest = self.newest_state().and_then(|s| s.replica_of(&self.nodes[n].name));
            let node = &self.nodes[n];
            let overtaken = node.replica.zip(newest).is_some_and(|(mine, newest)| newest > mine);
            if overtaken && node.up && node.rejoining.is_none() {
                self.set_aside(n);
            }
        }
    }

    /// After healing, operators undo what would keep resources from running.
    pub(crate) fn tidy_up(&mut self) {
        let Some(c) = self.coordinator() else { return };
        let Some(state) = self.nodes[c].agent.as_ref().map(|a| a.kernel.state()) else { return };
        let mut asks = Vec::new();
        for (resource, held) in &state.resources {
            if held.quarantine.is_some() || !held.bans.is_empty() {
                asks.push(Operation::Clear { resource: resource.clone() });
            }
            if held.maintenance_until.is_some() {
                asks.push(Operation::EndMaintenance { scope: Scope::Resource(resource.clone()) });
            }
        }
        for (node, member) in &state.members {
            if member.maintenance_until.is_some() {
                asks.push(Operation::EndMaintenance { scope: Scope::Node(node.clone()) });
            }
            if member.drain_until.is_some() {
                asks.push(Operation::Undrain { node: node.clone() });
            }
        }
        if state.maintenance_until.is_some() {
            asks.push(Operation::EndMaintenance { scope: Scope::Cluster });
        }
        if !state.spec.resources.contains_key(&optional()) && !state.spec.nodes.is_empty() {
            let mut spec = state.spec.clone();
            spec.resources.extend(self.first_specification(&optional()));
            asks.push(Operation::Apply { spec, text: String::new(), base: None });
        }
        for operation in asks {
            self.ask(c, operation);
        }
    }
}

/// The resource that operators take out of the specification now and then.
fn optional() -> ResourceName {
    resource_name(1)
}
