//! The all-knowing observer: after every step it holds the invariants against the whole world.

use brain::invariants::absence::{Extension, is_committed};
use brain::invariants::authority::{Office, at_most_one};
use brain::invariants::evidence::{Held, is_gone, proves};
use brain::invariants::lease::{Left, Renewal, is_counted, is_of_this_lease};
use brain::invariants::promise::{Vote, keeps};
use brain::invariants::succession::{Election, is_final, waits};
use brain::invariants::takeover::{Takeover, comes_after_the_lease};
use brain::invariants::{Violation, epochs};
use journal::RoleKind;
use kernel::Output;
use model::report::{Evidence, EvidenceGround};
use model::state::{ClusterState, Event, EventKind, Renounced};
use model::{Moment, Reason, ReplicaId, ResourceName, Span};

use crate::cluster::{RESOURCES, node_name, resource_number};
use crate::plan::Class;
use crate::world::World;

/// State hashes are compared at every so many entries.
const HASH_EVERY: u64 = 16;

impl World {
    /// Only the store judges where clocks drift beyond the bound.
    pub(crate) fn is_bounded(&self) -> bool {
        self.plan.class != Class::Drift
    }

    /// After anything that may have changed a pulse.
    pub(crate) fn after_pulse(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_mut() else { return };
        node.bound_until = node.bound_until.max(node.clock.truth(agent.pulse.promised_until()));
        self.write_page(n);
        if self.is_bounded() {
            self.check_authority(n);
        }
    }

    fn check_authority(&mut self, n: usize) {
        let in_office =
            |n: usize| self.nodes[n].agent.as_ref().is_some_and(|agent| agent.pulse.in_office());
        if !in_office(n) || (0..self.nodes.len()).filter(|n| in_office(*n)).count() < 2 {
            return;
        }
        let offices: Vec<Office> = self
            .nodes
            .iter()
            .filter_map(|node| {
                let (agent, replica) = (node.agent.as_ref()?, node.replica?);
                let left = agent.pulse.authority_left(node.clock.local(self.now));
                let term = agent.pulse.raft().term;
                agent.pulse.in_office().then_some(Office { replica, term, left })
            })
            .collect();
        self.require(at_most_one(&offices));
    }

    /// After every step of a kernel.
    pub(crate) fn after_kernel(&mut self, n: usize) {
        self.check_ballot(n);
        self.check_leader(n);
        self.check_log(n);
        self.count(n);
    }

    fn check_ballot(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (Some(agent), Some(voter)) = (node.agent.as_mut(), node.replica) else { return };
        let role = agent.kernel.replica().role();
        let ballot = (role.term, role.vote);
        if agent.ballot == ballot {
            return;
        }
        agent.ballot = ballot;
        let Some(candidate) = role.vote.map(ReplicaId) else { return };
        let vote =
            Vote { voter, candidate, term: role.term, at: self.now, bound_until: node.bound_until };
        self.note(|| format!("{} votes for {candidate} in term {}", node_name(n), role.term));
        if self.is_bounded() {
            let verdict = keeps(&vote, &self.judge.renounced);
            self.require(verdict);
        }
    }

    fn check_leader(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (Some(agent), Some(replica)) = (node.agent.as_mut(), node.replica) else { return };
        let role = agent.kernel.replica().role();
        let leads = (role.kind == RoleKind::Leader).then_some(role.term);
        if leads != agent.led {
            agent.led = leads;
            agent.settled = false;
            if let Some(term) = leads {
                self.on_leader(n, replica, term);
            }
        }
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        if agent.led.is_some() && !agent.settled && agent.kernel.coordinator().is_settled() {
            agent.settled = true;
            self.check_succession(n, replica);
        }
    }

    fn on_leader(&mut self, n: usize, replica: ReplicaId, term: u64) {
        self.note(|| format!("{} LEADS term {term}", node_name(n)));
        self.coverage.hit("election");
        if self.nodes[n].kind == crate::plan::Kind::Witness {
            self.coverage.hit("witness-led");
        }
        if !self.judge.holders.is_empty() {
            self.coverage.hit("coordinator-change-under-load");
        }
        if self.judge.renounced.iter().any(|r| r.term + 1 == term && r.candidate == replica) {
            self.coverage.hit("transfer");
        }
        let votes = |node: &&crate::world::Node| node.kind != crate::plan::Kind::Member;
        let voters = self.nodes.iter().filter(votes).count();
        let free = |node: &&crate::world::Node| node.bound_until <= self.now;
        let free = self.nodes.iter().filter(votes).filter(free).count();
        // A new generation's only voter is bound by nobody's promise but its own.
        let anew = self.disaster.as_ref().is_some_and(|disaster| disaster.recovered);
        self.judge.by_proof = free < voters / 2 + 1 && !anew;
        let other = *self.judge.leaders.entry(term).or_insert(replica);
        if other != replica {
            let what = format!("{other} and {replica} both led term {term}");
            self.fail(Violation { rule: "S3", what });
        }
    }

    fn check_succession(&mut self, n: usize, coordinator: ReplicaId) {
        if !self.is_bounded() {
            return;
        }
        let Some(agent) = self.nodes[n].agent.as_ref() else { return };
        let Some(at) = agent.pulse.leading_since() else { return };
        let timers = *agent.pulse.timers();
        let nodes = self.nodes.iter().filter(|other| other.replica != Some(coordinator));
        let granted: Vec<(ReplicaId, Moment)> = nodes
            .filter_map(|other| Some((other.replica?, agent.pulse.granted_until(other.replica?))))
            .collect();
        let election = Election {
            coordinator,
            at,
            transferred: self.judge.by_proof,
            grace: timers.grace,
            lease: timers.lease,
            drift_ppm: timers.drift_ppm,
        };
        for (node, until) in granted {
            self.require(waits(&election, node, until));
        }
    }

    fn check_log(&mut self, n: usize) {
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let (from, to) = (agent.applied, agent.kernel.replica().applied_index());
        if from == to {
            return;
        }
        agent.applied = to;
        self.judge.applied = self.judge.applied.max(to);
        if from > 0 && agent.kernel.replica().oldest_chain_index() > from {
            self.coverage.hit("snapshot-installed");
        }
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let mut differs = None;
        for index in from.max(agent.kernel.replica().oldest_chain_index()) + 1..=to {
            let Some(chain) = agent.kernel.replica().chain_at(index) else { continue };
            let at = index as usize;
            if self.judge.chains.len() <= at {
                self.judge.chains.resize(at + 64, None);
            }
            let known = *self.judge.chains[at].get_or_insert(chain);
            if known != chain {
                differs = Some(index);
            }
        }
        let state = agent.kernel.state();
        let room = &mut self.room;
        let due = state.index % HASH_EVERY == 0 && state.index == to;
        let hash = due.then(|| hash(state, room));
        // Cluster time began with true time; it runs as fast as some node's clock at most.
        let (cluster_ms, true_ms) = (state.now.0, self.now / 1_000_000);
        if self.plan.class != Class::Drift && cluster_ms > true_ms + true_ms / 1_000 + 1 {
            let what = format!("cluster time {cluster_ms} ms is ahead of {true_ms} ms");
            return self.fail(Violation { rule: "L3", what });
        }
        if let Some(index) = differs {
            let what = format!("{} holds another entry {index} than others", node_name(n));
            return self.fail(Violation { rule: "S3", what });
        }
        if let Some(hash) = hash
            && *self.judge.hashes.entry(to).or_insert(hash) != hash
        {
            let what = format!("{} has another state at entry {to} than others", node_name(n));
            self.fail(Violation { rule: "S3", what });
        }
    }

    fn count(&mut self, n: usize) {
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let filtered = agent.kernel.filtered();
        let votes = filtered.votes + filtered.stands;
        let newly_filtered = votes > agent.votes_filtered;
        agent.votes_filtered = votes;
        let local = self.nodes[n].clock.local(self.now);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let lapses = agent.pulse.check_lease(local);
        let lapsed = lapses > agent.lapses;
        agent.lapses = lapses;
        if newly_filtered {
            self.coverage.hit("filtered-vote");
        }
        if lapsed {
            self.note(|| format!("{} lease lapsed", node_name(n)));
            self.coverage.hit("lapse");
            self.judge.lapses += 1;
        }
    }

    /// The lease page says something new.
    pub(crate) fn after_renewal(&mut self, n: usize, end: Moment, fresh: bool) {
        if !self.is_bounded() {
            return;
        }
        let node = &self.nodes[n];
        let (end, Some(replica)) = (node.clock.truth(end), node.replica) else { return };
        // A grant may outlive its coordinator: then nobody is left to ask.
        let newest = self.judge.leaders.keys().next_back();
        let lives = |other: &crate::world::Node| {
            other.agent.as_ref().is_some_and(|a| a.led.is_some() && a.led.as_ref() == newest)
        };
        if !self.nodes.iter().any(lives) {
            return;
        }
        let counts = self.nodes.iter().filter_map(|other| {
            let agent = other.agent.as_ref().filter(|a| a.pulse.leading_since().is_some())?;
            Some(other.clock.truth(agent.pulse.granted_until(replica)))
        });
        let counted_until = counts.max();
        let committed = self.judge.absences.get(&replica).is_some_and(|until| end <= *until);
        if let Some(counted_until) = counted_until.filter(|until| end > *until)
            && !committed
        {
            let asked = node.absent.is_some();
            self.require(if asked {
                is_committed(&Extension { replica, committed })
            } else {
                is_counted(&Renewal { replica, end, counted_until })
            });
        }
        if fresh {
            for r in 0..RESOURCES.len() {
                self.check_disjoint(n, r);
            }
        }
    }

    /// The guard has looked.
    pub(crate) fn after_guard(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(replica) = node.replica else { return };
        let shown = node.page.map(|page| page.token);
        let left: Vec<u64> = node
            .instances
            .values()
            .filter(|inst| inst.epoch.is_some() && !inst.ending)
            .map(|inst| inst.token)
            .collect();
        for under in left {
            self.require(is_of_this_lease(&Left { replica, under, shown }));
        }
        self.check_guard_in_time(n);
    }

    /// Rule 3: what is active has stopped by the lease's end, so it began to stop before.
    fn check_guard_in_time(&mut self, n: usize) {
        let local = self.local(n);
        let node = &self.nodes[n];
        let stopping = self.stopping(n);
        let late = node.page.is_none_or(|page| local + stopping >= page.end);
        let left = node.instances.values().any(|inst| inst.epoch.is_some() && !inst.ending);
        if late && left {
            let what = format!("{} left an instance running when it had to begin", node_name(n));
            self.fail(Violation { rule: "lease", what });
        }
    }

    pub(crate) fn after_activation(&mut self, n: usize, r: usize) {
        if self.is_bounded() {
            self.check_disjoint(n, r);
        }
    }

    /// S2: nowhere else is this resource active under a running lease.
    fn check_disjoint(&mut self, n: usize, r: usize) {
        let covered = |n: usize| {
            let node = &self.nodes[n];
            let local = node.clock.local(self.now);
            let runs = node.page.is_some_and(|page| page.end > local);
            let same = |token| node.page.is_some_and(|page| page.token == token);
            node.instances.get(&r).and_then(|i| i.epoch.filter(|_| runs && same(i.token)))
        };
        let Some(mine) = covered(n) else { return };
        let mut others = (0..self.nodes.len()).filter(|other| *other != n);
        if let Some((other, epoch)) = others.find_map(|o| covered(o).map(|epoch| (o, epoch))) {
            let what = format!(
                "{} is active on {} under {mine} and on {} under {epoch}, both with a lease",
                RESOURCES[r],
                node_name(n),
                node_name(other)
            );
            self.fail(Violation { rule: "S2", what });
        }
    }

    /// A node applied an entry that changed something.
    pub(crate) fn on_happened(&mut self, n: usize, event: &Event, leading: bool) {
        if event.index <= self.judge.index {
            return;
        }
        self.judge.index = event.index;
        self.note(|| {
            format!(
                "{} applies {}: {:?} {:?}",
                node_name(n),
                event.index,
                event.what,
                event.reasons
            )
        });
        match &event.what {
            EventKind::Assigned { resource, from, to, epoch, planned } => {
                self.check_calm(resource);
                self.on_assigned(n, event, leading);
                // The incarnation is the assignment's own: the node may have joined anew in the
                // same step. Where another assignment followed in that step, it is not known.
                let state = self.nodes[n].agent.as_ref().map(|a| a.kernel.state());
                let holder = state
                    .and_then(|state| state.resources.get(resource)?.holder.as_ref())
                    .filter(|holder| holder.epoch == *epoch)
                    .map(|holder| (to.clone(), holder.replica, *epoch));
                let verdict = epochs::grow(resource, self.judge.highest, *epoch);
                self.require(verdict);
                self.judge.highest = self.judge.highest.max(*epoch);
                match holder {
                    Some(holder) => self.judge.holders.insert(resource.clone(), holder),
                    None => self.judge.holders.remove(resource),
                };
                if from.as_ref().is_some_and(|from| from != to) && !planned {
                    *self.judge.unplanned.entry(resource.clone()).or_default() += 1;
                }
            }
            EventKind::Vacated { resource, .. } => {
                self.on_taken(resource, event, leading, None);
                self.judge.holders.remove(resource);
            }
            EventKind::Active { resource, node, epoch, .. } => {
                let at = self.nodes.iter().position(|other| other.name == *node);
                let handed = resource_number(resource)
                    .zip(at)
                    .is_some_and(|(r, at)| self.judge.handed.contains(&(r, at, *epoch)));
                self.require(epochs::were_handed_out(resource, node, *epoch, handed));
            }
            EventKind::Renounced { term, candidate } => {
                self.judge.renounced.push(Renounced { term: *term, candidate: *candidate });
                self.check_renounced(n, *term);
                self.on_renounced(n);
            }
            EventKind::Stuck { resource, epoch, .. } => {
                self.coverage.hit("stuck-recorded");
                self.judge.stuck.insert((resource.clone(), *epoch));
            }
            EventKind::WaitedOut { .. } => self.coverage.hit("waited-out"),
            EventKind::Applied { .. } => self.coverage.hit("spec-change"),
            EventKind::Quarantined { .. } => self.coverage.hit("quarantine"),
            EventKind::SwitchoverBegan { .. } => self.coverage.hit("switchover"),
            other => self.coverage.hit_event(other),
        }
    }

    /// Committed absences, noted before anything else of the step is judged.
    pub(crate) fn note_absences(&mut self, out: &[Output]) {
        for output in out {
            if let Output::Happened { event, .. } = output
                && let EventKind::Absent { replica, for_ms } = &event.what
                && event.index > self.judge.index
            {
                let until = self.now + Span::from_ms(*for_ms).stretched(1_001).0;
                let known = self.judge.absences.entry(*replica).or_default();
                *known = (*known).max(until);
            }
        }
    }

    fn check_renounced(&mut self, n: usize, term: u64) {
        let (Some(agent), Some(replica)) = (&self.nodes[n].agent, self.nodes[n].replica) else {
            return;
        };
        if agent.pulse.leading_since().is_some() && agent.pulse.raft().term == term {
            let in_office = agent.pulse.in_office();
            self.require(is_final(replica, term, in_office));
        }
    }

    fn on_assigned(&mut self, n: usize, event: &Event, leading: bool) {
        let EventKind::Assigned { resource, epoch, .. } = &event.what else { return };
        let state = self.nodes[n].agent.as_ref().map(|agent| agent.kernel.state());
        let made = state
            .and_then(|state| state.resources.get(resource))
            .and_then(|held| held.moves.iter().rev().find(|m| m.epoch == *epoch));
        // A later entry of the same step may have replaced it already.
        let Some(evidence) = made.map(|m| m.evidence.clone()) else { return };
        self.on_taken(resource, event, leading, Some(evidence));
    }

    /// A holder lost its resource: by evidence, or because its last grant had passed.
    fn on_taken(
        &mut self,
        resource: &ResourceName,
        event: &Event,
        leading: bool,
        evidence: Option<Option<Evidence>>,
    ) {
        let Some((node, replica, epoch)) = self.judge.holders.get(resource).cloned() else {
            return;
        };
        let lapsed = event.reasons.iter().any(|r| {
            matches!(
                r,
                Reason::NodeLost { .. }
                    | Reason::LeaseLapsed { .. }
                    | Reason::NodeReplaced { .. }
                    | Reason::EarlierGeneration { .. }
                    | Reason::NotReady { .. }
                    | Reason::LogStandsStill { .. }
            )
        });
        if event.reasons.iter().any(|r| matches!(r, Reason::NotReady { .. })) {
            self.coverage.hit("takeover-from-the-unready");
        }
        self.coverage.hit(if lapsed { "takeover" } else { "takeover-by-evidence" });
        let at = self.nodes.iter().position(|other| other.name == node);
        if let Some(at) = at.filter(|_| self.judge.stuck.contains(&(resource.clone(), epoch))) {
            let inst = resource_number(resource).and_then(|r| self.nodes[at].instances.get(&r));
            let acts = inst.is_some_and(|inst| inst.epoch == Some(epoch));
            self.require(is_gone(resource, epoch, acts));
        }
        let Some(at) = at.filter(|at| self.nodes[*at].replica == Some(replica)) else { return };
        if !self.is_bounded() {
            return;
        }
        let old = &self.nodes[at];
        if lapsed && leading {
            let lease_end = old.page.map(|page| old.clock.truth(page.end));
            let takeover = Takeover { from: replica, at: self.now, lease_end };
            self.require(comes_after_the_lease(&takeover));
        }
        let Some(evidence) = evidence else { return };
        let r = resource_number(resource);
        let inst = r.and_then(|r| self.nodes[at].instances.get(&r));
        let acts = inst.is_some_and(|inst| inst.epoch == Some(epoch));
        let held = Held { resource: resource.clone(), replica, epoch, acts };
        let by_coordinator = evidence.as_ref().is_some_and(|e| e.ground == EvidenceGround::Lapsed);
        if leading || !by_coordinator {
            self.require(proves(evidence.as_ref(), &held));
        }
    }
}

/// A state's hash; `bytes` is room that is used again and again.
pub(crate) fn hash(state: &ClusterState, bytes: &mut Vec<u8>) -> blake3::Hash {
    bytes.clear();
    *bytes = postcard::to_extend(state, std::mem::take(bytes)).expect("plain data has an encoding");
    blake3::hash(bytes)
}
