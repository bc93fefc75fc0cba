//! What has to be so again once faults have healed, besides that everything runs: somebody
//! coordinates soon, every voter votes, and the coordinator knows what the nodes know.

use brain::invariants::Violation;
use model::state::ClusterState;
use model::{Span, Timers};

use crate::cluster::{WAITS, node_name, resource_name};
use crate::plan::{Class, Kind, SECOND};
use crate::world::{Agent, Node, World};

/// A report comes every second; this much on top for its way.
const REPORT_LATE: Span = Span::from_ms(2_000);
/// Machines and agents that were off are back after so long.
const STARTS_WITHIN: u64 = 10 * SECOND;
/// Attempts of one voter to be elected that may fail because another stands as well.
const ATTEMPTS: u64 = 3;

impl World {
    /// What is not yet as it should be, after healing.
    pub(crate) fn unsettled(&self) -> Option<String> {
        self.idle_resource().or_else(|| {
            let lasting = matches!(self.plan.class, Class::Minority | Class::Flapping);
            let coordinator = self.coordinator().filter(|_| !lasting)?;
            let agent = self.nodes[coordinator].agent.as_ref()?;
            let nodes = self.nodes.iter().filter(|node| !node.lost);
            nodes.into_iter().find_map(|node| self.unheard(coordinator, agent, node))
        })
    }

    /// It could not be stopped, or what it waits for could not, on a node that stays half-dead and
    /// so will never say that it is gone: a person has to.
    pub(crate) fn is_left_to_a_person(&self, state: &ClusterState, r: usize) -> bool {
        let victim = &self.nodes[self.plan.victim].name;
        let stuck = |r: usize| {
            let held = state.resources.get(&resource_name(r));
            let holder = held.and_then(|held| held.holder.as_ref());
            holder.is_some_and(|holder| holder.stuck && holder.node == *victim)
        };
        stuck(r) || WAITS.iter().any(|(waits, before)| *waits == r && stuck(*before))
    }

    /// What the coordinator lacks of a node: its vote, its word, its failures.
    fn unheard(&self, coordinator: usize, agent: &Agent, node: &Node) -> Option<String> {
        let name = &node.name;
        let Some((replica, run)) = node.replica.zip(node.agent.as_ref()) else {
            return Some(format!("{name} has no agent or is no member"));
        };
        if node.kind != Kind::Member
            && !agent.kernel.replica().membership().voters.contains(&replica.0)
        {
            return Some(format!("{name} does not vote"));
        }
        let known = agent.kernel.report_of(replica);
        let now = self.nodes[coordinator].clock.local(self.now);
        let fresh = known.filter(|(report, at)| {
            report.boot == run.pulse.boot() && now.since(*at) < kernel::REPORT_EVERY + REPORT_LATE
        });
        let Some((report, _)) = fresh else {
            return Some(format!("{} has no fresh report of {name}", node_name(coordinator)));
        };
        let specified = &agent.kernel.state().spec.resources;
        let failure = report.failures.iter().find(|f| specified.contains_key(&f.resource));
        failure.map(|f| format!("failure {} of {} on {name} is not recorded", f.number, f.resource))
    }

    /// Somebody coordinates soon after healing: attempts to be elected that failed while nobody
    /// could be do not make the next one wait for ever.
    pub(crate) fn check_office(&mut self, healed: u64) {
        let recovered = self.plan.class == Class::Recovery;
        if self.coordinator().is_some() {
            self.led_since_healing = true;
        }
        if recovered || self.led_since_healing || self.violation.is_some() {
            return;
        }
        let timers =
            self.nodes.iter().filter_map(|node| Some(*node.agent.as_ref()?.pulse.timers()));
        let longest = timers.max_by_key(|t| t.lease).unwrap_or(self.plan.profile.timers());
        let after = self.now - healed;
        if after > STARTS_WITHIN + election_ns(&longest) {
            let what = format!("{} s after healing nobody has coordinated", after / SECOND);
            self.fail(Violation { rule: "L1", what });
        }
    }
}

/// What it takes at most until somebody is elected: promises end, voters meet, and some attempts
/// fail, each followed by the longest patience (eight times half the grace).
fn election_ns(timers: &Timers) -> u64 {
    timers.promise.0 * 3 + ATTEMPTS * 4 * timers.grace.0
}
