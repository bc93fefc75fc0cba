//! One seed from beginning to end: faults, healing, and the wait until all runs again.

use std::cell::Cell;
use std::collections::BTreeSet;

use brain::invariants::Violation;
use brain::plant::Plant;
use model::report::InstancePhase;

use crate::cluster::{RESOURCES, resource_name};
use crate::coverage::Coverage;
use crate::event::{Ev, Part};
use crate::fault::Fault;
use crate::plan::{Class, MILLI, Plan, SECOND};
use crate::shrink::Disturbances;
use crate::world::World;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The class.
    pub class: Class,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// From healing until all ran, in nanoseconds.
    pub recovered: u64,
    /// The rule that was broken, when, and how.
    pub violation: Option<(Violation, u64)>,
    /// The last lines of the trace, where one was kept.
    pub lines: Vec<String>,
    /// What happened.
    pub coverage: Coverage,
    /// A hash over all that is left at the end.
    pub hash: String,
    /// Events that took place.
    pub steps: u64,
    /// What disturbed the run, by its number.
    pub disturbances: Vec<(u32, String)>,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The class, where not the seed decides.
    pub class: Option<Class>,
    /// A planted bug.
    pub plant: Option<Plant>,
    /// The classes of fault, where the seed is not to draw them.
    pub faults: Option<Vec<Fault>>,
    /// Operators ask eight times as often.
    pub busy: bool,
    /// The numbers of the disturbances that may happen, where not all may.
    pub only: Option<BTreeSet<u32>>,
    /// Keep the end of the trace.
    pub traced: bool,
    /// Print all of it.
    pub printed: bool,
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// The seed that this thread is running, for a message about a crash.
#[must_use]
pub fn current_seed() -> u64 {
    SEED.get()
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, request: Request) -> Outcome {
    SEED.set(seed);
    let mut plan = Plan::new(seed, request.class, request.plant);
    plan.faults = request.faults.unwrap_or(plan.faults);
    if request.busy {
        plan.operate_every /= 8;
    }
    let class = plan.class;
    let safety = plan.safety;
    let mut world = World::new(plan, Disturbances::only(request.only));
    if request.traced || request.printed {
        world.trace(request.printed);
    }
    world.run_until(safety);
    let mut recovered = 0;
    if world.violation.is_none() && class != Class::Drift {
        world.heal();
        recovered = world.wait_until_all_runs();
        world.check_failovers();
    }
    world.count_messages();
    Outcome {
        seed,
        class,
        simulated: world.now,
        recovered,
        hash: world.final_hash(),
        violation: world.violation.clone().map(|violation| (violation, world.now)),
        lines: world.last_lines(),
        coverage: world.coverage.clone(),
        steps: world.steps,
        disturbances: world.disturbances.happened().to_vec(),
    }
}

impl World {
    /// Every fault ends, but those that the class makes permanent.
    fn heal(&mut self) {
        self.healed = true;
        self.note(|| "HEALED".into());
        for n in 0..self.nodes.len() {
            self.nodes[n].clock.wall_offset_ms = 0;
            if self.nodes[n].up && self.nodes[n].launcher.is_none() {
                let machine = self.nodes[n].machine;
                self.after(2_000 * MILLI, Ev::Start { node: n, part: Part::Launcher, machine });
            }
            for r in 0..RESOURCES.len() {
                let stuck = self.nodes[n].instances.get(&r).is_some_and(|i| i.stuck);
                if stuck {
                    if let Some(inst) = self.nodes[n].instances.get_mut(&r) {
                        inst.stuck = false;
                    }
                    self.gone(n, r, false);
                }
            }
        }
    }

    /// How long healing may take: elections, leases that run out, an absence's rest, a rejoin
    /// with the catching up it needs.
    fn bound(&self) -> u64 {
        let lease = model::Profile::Wan.timers().lease.0;
        lease * 5 + 40 * SECOND
    }

    fn wait_until_all_runs(&mut self) -> u64 {
        let began = self.now;
        let mut since = None;
        while self.violation.is_none() && self.now - began < self.bound() {
            let next = self.now + 200 * MILLI;
            self.run_until(next);
            if (self.now / MILLI).is_multiple_of(1_000) {
                self.tidy_up();
                self.sweep();
            }
            self.check_office(began);
            match self.unsettled() {
                Some(_) => since = None,
                None => {
                    let first = *since.get_or_insert(self.now);
                    if self.now - first >= 2 * SECOND {
                        return first - began;
                    }
                }
            }
        }
        if let Some(why) = self.unsettled().filter(|_| self.violation.is_none()) {
            self.describe();
            let rule = if self.plan.class == Class::Minority { "L2" } else { "L1" };
            let after = (self.now - began) / SECOND;
            let what = format!("{after} s after healing {why}");
            self.fail(Violation { rule, what });
        }
        self.now - began
    }

    /// Where every node stands, for the trace.
    fn describe(&mut self) {
        for n in 0..self.nodes.len() {
            let node = &self.nodes[n];
            let line = match &node.agent {
                None => format!("{} has no agent; up: {}", node.name, node.up),
                Some(agent) => {
                    let log = agent.kernel.replica();
                    let bound = agent.pulse.promised_until().since(node.clock.local(self.now));
                    format!(
                        "{} is {:?}, {:?}, {:?}, log {} durable {} applied {}, {} writes waiting, \
                         bound for {bound}, lease {:?}, frozen {} {}",
                        node.name,
                        node.replica,
                        log.role(),
                        log.membership(),
                        log.last_index(),
                        log.durable_index(),
                        log.applied_index(),
                        log.writes_in_flight(),
                        agent.pulse.lease_end().map(|end| end.since(node.clock.local(self.now))),
                        node.frozen,
                        node.agent_frozen,
                    )
                }
            };
            self.note(|| line);
        }
    }

    /// A resource that could run and does not, and what is known of it.
    pub(crate) fn idle_resource(&self) -> Option<String> {
        let Some(c) = self.coordinator() else { return Some("nobody coordinates".into()) };
        let agent = self.nodes[c].agent.as_ref()?;
        let state = agent.kernel.state();
        for (r, name) in RESOURCES.iter().enumerate() {
            let lasting = matches!(self.plan.class, Class::Minority | Class::Flapping);
            let bound_to_victim = *name == "pinned" && self.plan.victim == 1;
            if lasting && (bound_to_victim || self.is_left_to_a_person(state, r)) {
                continue;
            }
            let Some(held) = state.resources.get(&resource_name(r)) else {
                return Some(format!("{name} is not specified"));
            };
            let Some(holder) = &held.holder else {
                return Some(format!("{name} has no holder"));
            };
            let n = self.nodes.iter().position(|node| node.name == holder.node)?;
            let instance = self.nodes[n].instances.get(&r);
            let runs = instance.is_some_and(|i| {
                i.epoch == Some(holder.epoch) && i.phase == InstancePhase::Active && !i.ending
            });
            if !runs {
                return Some(format!("{name} is not active on its holder {}", holder.node));
            }
            if !holder.active && !lasting {
                return Some(format!("{name} is not known to be active on {}", holder.node));
            }
        }
        None
    }

    /// L3 and L4: how often things moved unasked.
    fn check_failovers(&mut self) {
        let most = match self.plan.class {
            Class::Calm => 0,
            Class::Flapping => 5,
            _ => return,
        };
        // What runs `with` another follows it, planned or not.
        let own = self.judge.unplanned.iter().filter(|(r, _)| r.as_str() != "address");
        let worst = own.max_by_key(|(_, count)| **count);
        if let Some((resource, count)) = worst.filter(|(_, count)| **count > most) {
            let rule = if most == 0 { "L4" } else { "L3" };
            let what = format!("{resource} was moved {count} times unasked, {most} is the most");
            self.fail(Violation { rule, what });
        }
    }

    /// A hash over control states, stores and the number of events.
    fn final_hash(&mut self) -> String {
        let mut hasher = blake3::Hasher::new();
        for node in &self.nodes {
            if let Some(agent) = &node.agent {
                let hash = crate::checks::hash(agent.kernel.state(), &mut self.room);
                hasher.update(hash.as_bytes());
            }
        }
        for store in &self.stores {
            hasher.update(&store.accepted().to_le_bytes());
        }
        hasher.update(&self.steps.to_le_bytes()).update(&self.now.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }
}
