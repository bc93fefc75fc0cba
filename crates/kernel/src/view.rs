//! What this node can tell of the cluster: for `status`, `explain` and metrics.

use std::collections::BTreeMap;

use brain::authority::{Missing, identities, missing};
use brain::explain::{Explanation, explain};
use brain::placement::{NodeHealth, View};
use brain::pulse::Pulse;
use model::authority::{AuthorityId, Identity, RotationPhase};
use model::report::{Heard, InstanceStatus, Report};
use model::state::MemberRole;
use model::{Epoch, Moment, NodeName, ReplicaId, ResourceName, Span};
use serde::{Deserialize, Serialize};

use crate::Kernel;

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Heard as regularly as ever.
    Healthy,
    /// Its silence leaves its own history.
    Suspect,
    /// Its last grant has passed; or, asked of a node that doesn't coordinate, it is not heard.
    Down,
    /// Specified, but not joined.
    Absent,
}

/// One node, as another sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Its incarnation; none where it has not joined.
    pub replica: Option<ReplicaId>,
    /// Its role.
    pub role: Option<MemberRole>,
    /// How it stands.
    pub health: Health,
    /// Its own loop came late just now, as it says: it judges nobody by silence.
    pub stalled: bool,
    /// Whether it coordinates.
    pub coordinator: bool,
    /// Whether launcher and guard are there; none where it has not told this node.
    pub ready: Option<bool>,
    /// Milliseconds left of a drain.
    pub drain_ms: Option<u64>,
    /// Milliseconds left of a maintenance.
    pub maintenance_ms: Option<u64>,
    /// The last log index it is known to have applied.
    pub applied: Option<u64>,
    /// What it runs.
    pub instances: Vec<InstanceStatus>,
    /// Whom it hears.
    pub heard: Vec<Heard>,
    /// Its certificate and what it believes, as it has told.
    pub certificate: Option<Identity>,
}

/// A rotation of the authority under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotationStatus {
    /// The authority that is given up.
    pub from: AuthorityId,
    /// The one that takes its place.
    pub to: AuthorityId,
    /// How far it is.
    pub phase: RotationPhase,
    /// The old key is in wrong hands.
    pub compromised: bool,
    /// It was broken off and leads back.
    pub undone: bool,
    /// Since when, Unix milliseconds.
    pub began_wall_ms: u64,
    /// Members that the next step would leave behind, as the coordinator sees it; none where this
    /// node does not coordinate.
    pub missing: Option<Vec<Missing>>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: ResourceName,
    /// Where it is active, or told to be.
    pub node: Option<NodeName>,
    /// Under which epoch.
    pub epoch: Option<Epoch>,
    /// It said that it is active.
    pub active: bool,
    /// Whether it runs there now, as far as its node has told this one: in maintenance what has
    /// ended stays where it is, and without a quorum nobody is told of an end.
    pub running: Option<bool>,
    /// It has to give up.
    pub releasing: bool,
    /// Where ready standbys are, as reported to the coordinator.
    pub standbys: Vec<NodeName>,
    /// A planned move under way.
    pub switchover: Option<NodeName>,
    /// Kept out because it failed too often.
    pub quarantined: bool,
    /// Left alone.
    pub maintenance: bool,
    /// Unix milliseconds since when it is where it is.
    pub since_wall_ms: Option<u64>,
    /// Recovery-time target, and the slowest unplanned move remembered, in milliseconds.
    pub rto_ms: Option<u64>,
    /// See `rto_ms`.
    pub slowest_move_ms: Option<f64>,
    /// Failures remembered.
    pub failures: usize,
}

/// The cluster, as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The node that says this.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Profile in force.
    pub profile: String,
    /// The coordinator, where one is known.
    pub coordinator: Option<NodeName>,
    /// Raft term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Committed index.
    pub committed: u64,
    /// Specification version.
    pub spec_version: u64,
    /// Milliseconds left of this node's lease; none where it has none.
    pub lease_ms: Option<f64>,
    /// Milliseconds left of the coordinator's authority, where this node is it.
    pub authority_ms: Option<f64>,
    /// Milliseconds left of a maintenance of everything.
    pub maintenance_ms: Option<u64>,
    /// Whether the coordinator's view is in here (asked of the coordinator), or only this
    /// node's own.
    pub authoritative: bool,
    /// Nodes.
    pub nodes: Vec<NodeStatus>,
    /// Resources.
    pub resources: Vec<ResourceStatus>,
    /// What is wrong, in words.
    pub alarms: Vec<String>,
    /// A rotation of the authority under way.
    pub rotation: Option<RotationStatus>,
}

impl Kernel {
    /// The peers this node hears, per link.
    pub(crate) fn heard(&self, pulse: &Pulse, now: Moment) -> Vec<Heard> {
        let within = pulse.timers().heartbeat * 10;
        pulse
            .hearing()
            .map(|(peer, hearing)| Heard {
                peer,
                links: hearing.links_heard(now, within),
                connected: self.heard_connected.contains(&peer),
                lost_percent: hearing.lost_percent(),
            })
            .collect()
    }

    /// What the coordinator sees, where this node is that now: one that was frozen may be asked
    /// before it has looked at the clock, and others have long decided without it.
    fn coordinator_view(&mut self, pulse: &Pulse, now: Moment) -> Option<View> {
        self.speaks_for_all(pulse, now).then(|| {
            self.look_at_group();
            self.coordinator.view(now, &self.state, pulse, &self.group)
        })
    }

    /// The newest report of a node, where this one coordinates, and when it came.
    #[must_use]
    pub fn report_of(&self, replica: ReplicaId) -> Option<(&Report, Moment)> {
        self.coordinator.report_of(replica)
    }

    /// Whether what this node has applied is all that anybody was told is done.
    #[must_use]
    pub fn speaks_for_all(&self, pulse: &Pulse, now: Moment) -> bool {
        self.coordinator.is_settled() && pulse.speaks_for_all(now, self.state.index)
    }

    /// Explains a resource.
    pub fn explain(
        &mut self,
        pulse: &Pulse,
        now: Moment,
        resource: &ResourceName,
    ) -> Option<Explanation> {
        let view = self.coordinator_view(pulse, now);
        explain(&self.state, view.as_ref(), resource)
    }

    /// The cluster as this node sees it.
    pub fn status(&mut self, pulse: &Pulse, now: Moment) -> Status {
        let view = self.coordinator_view(pulse, now);
        let own = self.member.peek(&self.state);
        let left = |end: Moment| end.since(now).as_ms_f64();
        let cluster_ms = self.state.now;
        let until = |end: Option<model::ClusterMs>| {
            end.filter(|end| *end > cluster_ms).map(|end| end.since(cluster_ms))
        };
        let role = self.replica.role();
        Status {
            cluster: self.state.spec.name.clone(),
            node: self.config.node.clone(),
            replica: self.config.replica,
            profile: self.state.spec.profile.to_string(),
            coordinator: self.leader.and_then(|l| self.state.node_of(l)).cloned(),
            term: role.term,
            applied: self.state.index,
            committed: self.replica.commit_index(),
            spec_version: self.state.spec_version,
            lease_ms: pulse.lease_end().map(left),
            authority_ms: pulse.authority_until().map(left),
            maintenance_ms: until(self.state.maintenance_until),
            authoritative: view.is_some(),
            nodes: self.nodes(pulse, now, view.as_ref(), &own),
            resources: self.resources(view.as_ref(), &own),
            alarms: self.coordinator.alarms().raised().map(|(_, what)| what.to_owned()).collect(),
            rotation: self.rotation(view.as_ref()),
        }
    }

    fn rotation(&self, view: Option<&View>) -> Option<RotationStatus> {
        let rotation = self.state.trust.rotation.as_ref()?;
        Some(RotationStatus {
            from: rotation.from,
            to: rotation.to,
            phase: rotation.phase,
            compromised: rotation.compromised,
            undone: rotation.undone,
            began_wall_ms: rotation.wall_ms,
            missing: view.map(|view| missing(&self.state, &identities(view))),
        })
    }

    fn nodes(
        &self,
        pulse: &Pulse,
        now: Moment,
        view: Option<&View>,
        own: &Report,
    ) -> Vec<NodeStatus> {
        let hearing: BTreeMap<_, _> = pulse.hearing().collect();
        let until = |end: Option<model::ClusterMs>| {
            end.filter(|end| *end > self.state.now).map(|end| end.since(self.state.now))
        };
        let names = self.state.spec.nodes.keys().chain(self.state.members.keys());
        let names: std::collections::BTreeSet<&NodeName> = names.collect();
        let status = |name: &NodeName| {
            let member = self.state.members.get(name);
            let replica = member.map(|m| m.replica);
            let me = replica == Some(self.config.replica);
            let seen = view.and_then(|view| view.get(name));
            let report = if me { Some(own) } else { seen.and_then(|s| s.report.as_deref()) };
            let health = match (seen.map(|s| s.health), replica) {
                (_, None) => Health::Absent,
                (Some(NodeHealth::Healthy), _) => Health::Healthy,
                (Some(NodeHealth::Suspect), _) => Health::Suspect,
                (Some(NodeHealth::Down), _) => Health::Down,
                (None, Some(_)) if me => Health::Healthy,
                (None, Some(replica)) => match hearing.get(&replica) {
                    Some(h) if !h.suspect(now, pulse.timers().heartbeat) => Health::Healthy,
                    _ => Health::Down,
                },
            };
            NodeStatus {
                name: name.clone(),
                replica,
                role: member.map(|m| m.role),
                health,
                stalled: if me {
                    pulse.stalled()
                } else {
                    replica.is_some_and(|r| hearing.get(&r).is_some_and(|heard| heard.stalled))
                },
                coordinator: replica.is_some() && replica == self.leader,
                ready: report.map(|r| r.ready),
                drain_ms: member.and_then(|m| until(m.drain_until)),
                maintenance_ms: member.and_then(|m| until(m.maintenance_until)),
                applied: report.map(|r| r.applied),
                instances: report.map(|r| r.instances.clone()).unwrap_or_default(),
                heard: if me {
                    self.heard(pulse, now)
                } else {
                    report.map(|r| r.heard.clone()).unwrap_or_default()
                },
                certificate: report.and_then(|r| r.identity.clone()),
            }
        };
        names.into_iter().map(status).collect()
    }

    fn resources(&self, view: Option<&View>, own: &Report) -> Vec<ResourceStatus> {
        let standby_here = |name: &ResourceName| {
            own.instances
                .iter()
                .any(|i| i.resource == *name && i.phase == model::report::InstancePhase::Standby)
        };
        let status = |(name, held): (&ResourceName, &model::state::ResourceState)| {
            let holder = held.holder.as_ref();
            let standbys = match view {
                Some(view) => view
                    .iter()
                    .filter(|(_, seen)| seen.standby_ready(name))
                    .map(|(node, _)| node.clone())
                    .collect(),
                None if standby_here(name) => vec![self.config.node.clone()],
                None => Vec::new(),
            };
            let report = holder.and_then(|h| match h.replica == self.config.replica {
                true => Some(own),
                false => view.and_then(|view| view.get(&h.node)?.report.as_deref()),
            });
            let running = report.map(|report| {
                report
                    .instances
                    .iter()
                    .any(|i| i.resource == *name && i.phase == model::report::InstancePhase::Active)
            });
            let left = |m: &&model::state::Move| m.from.as_ref().is_some_and(|from| *from != m.to);
            let unplanned = held.moves.iter().filter(|m| !m.planned).filter(left);
            let slowest = unplanned.filter_map(|m| m.timing).map(|t| t.total_us()).max();
            ResourceStatus {
                name: name.clone(),
                node: holder.map(|h| h.node.clone()),
                epoch: holder.map(|h| h.epoch),
                active: holder.is_some_and(|h| h.active),
                running,
                releasing: holder.is_some_and(|h| h.releasing),
                standbys,
                switchover: held.switchover.as_ref().map(|w| w.to.clone()),
                quarantined: held.quarantine.is_some(),
                maintenance: self.state.in_maintenance(name),
                since_wall_ms: holder.map(|h| h.wall_ms),
                rto_ms: self.state.spec.resources.get(name).and_then(|s| s.rto_ms),
                slowest_move_ms: slowest.map(|us| Span::from_us(us).as_ms_f64()),
                failures: held.failures.len(),
            }
        };
        self.state.resources.iter().map(status).collect()
    }
}
