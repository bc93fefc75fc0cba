//! Operators' requests: checked, and turned into commands.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use model::command::{Command, RequestId};
use model::operation::{Operation, Refusal, Scope, WINDOW_MAX_MS};
use model::report::{Evidence, EvidenceGround};
use model::spec::{NODES_MAX, RESOURCES_MAX, VOTERS_MAX};
use model::state::{ClusterState, JoinRequest, TOKENS_MAX};
use model::{ClusterSpec, NodeName, Reason, ReplicaId, ResourceName};

use super::heads::{self, Said};
use super::{Coordinator, Decision, Group, Now};
use crate::authority;
use crate::placement::{self, NodeHealth, View, Wish};
use crate::pulse::Pulse;
use crate::token::{self, Bearer};

/// Who asks: the request's name and the person or node, from the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Names the request.
    pub request: RequestId,
    /// Who asks.
    pub by: String,
}

/// An answer that needs no waiting, or the promise of one at commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Given to the log; the answer comes with the commit.
    Proposed,
    /// Nothing was to be done.
    Unchanged,
}

impl Coordinator {
    /// Takes an operation in: proposes what it needs, or refuses it and changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] with the cause.
    pub fn operate(
        &mut self,
        now: Now,
        state: &ClusterState,
        pulse: &Pulse,
        group: &Group,
        asker: &Asker,
        operation: Operation,
    ) -> Result<(Taken, Vec<Decision>), Refusal> {
        if !self.is_settled() || !pulse.in_office() {
            return Err(Refusal::NotCoordinator { coordinator: None });
        }
        let mut out = Vec::new();
        let view = self.view(now.moment, state, pulse, group);
        let reasons = vec![Reason::Asked { by: asker.by.clone() }];
        if let Operation::Transfer { to } = &operation {
            let candidate = match to {
                Some(node) => Some(voter(state, node)?),
                None => self.successor(state, group),
            };
            let candidate = candidate.ok_or(Refusal::NoCandidate)?;
            if candidate == self.me {
                return Ok((Taken::Unchanged, out));
            }
            let active = group.progress.get(&candidate).is_some_and(|p| p.active);
            if !active {
                return Err(Refusal::NoCandidate);
            }
            self.renounce(now, pulse, candidate, reasons, &mut out);
            return Ok((Taken::Unchanged, out));
        }
        let command = match self.command(now, state, &view, &asker.by, operation)? {
            Some(command) => command,
            // No entry of the log stands behind this answer: it must be true now.
            None if !pulse.speaks_for_all(now.moment, state.index) => {
                return Err(Refusal::NotCoordinator { coordinator: None });
            }
            None => return Ok((Taken::Unchanged, out)),
        };
        self.propose_for(now, Some(asker.request), command, reasons, &mut out);
        Ok((Taken::Proposed, out))
    }

    fn command(
        &mut self,
        now: Now,
        state: &ClusterState,
        view: &View,
        by: &str,
        operation: Operation,
    ) -> Result<Option<Command>, Refusal> {
        if gives_access(&operation) {
            authority::admits(state)?;
        }
        let clock = self.cluster_now(now.moment);
        let until = |for_ms: u64| {
            let sound = for_ms > 0 && for_ms <= WINDOW_MAX_MS;
            sound.then(|| clock.plus(for_ms)).ok_or(Refusal::BadWindow)
        };
        Ok(Some(match operation {
            Operation::Switchover { resource, to } => {
                return self.switchover(state, view, resource, to);
            }
            Operation::Failover { resource } => self.failover(state, resource)?,
            Operation::ConfirmStopped { resource, node } => {
                self.confirm_stopped(state, view, resource, &node)?
            }
            Operation::Drain { node, for_ms } => {
                known_node(state, &node)?;
                Command::Drain { node, until: until(for_ms)? }
            }
            Operation::Undrain { node } => {
                known_node(state, &node)?;
                Command::Undrain { node }
            }
            Operation::Maintenance { scope, for_ms } => {
                known_scope(state, &scope)?;
                Command::Maintenance { scope, until: until(for_ms)? }
            }
            Operation::EndMaintenance { scope } => {
                known_scope(state, &scope)?;
                Command::EndMaintenance { scope }
            }
            Operation::Clear { resource } => {
                held(state, &resource)?;
                Command::Clear { resource }
            }
            Operation::Apply { spec, text, base } => return apply(state, spec, text, base),
            Operation::AddToken { token } => {
                if state.tokens.len() >= TOKENS_MAX {
                    return Err(Refusal::Busy);
                }
                Command::AddToken { token }
            }
            Operation::UseToken { token, name } => use_token(state, token, name)?,
            Operation::Join(request) => join(state, request)?,
            Operation::Rejoin(request) => rejoin(state, request)?,
            Operation::Forget { node } => self.forget(state, node)?,
            Operation::Absence { replica, for_ms } => {
                let _ = (replica, for_ms);
                return Err(Refusal::NotNow(String::from("only a node itself can ask for this")));
            }
            Operation::Rotate(order) => {
                return authority::rotate(state, &authority::identities(view), order);
            }
            Operation::Certify { name, role, authority } => {
                authority::certify(state, name, role, authority)?
            }
            Operation::Revoke { name } => return authority::revoke(state, clock, by, name),
            Operation::Transfer { .. } => return Ok(None),
            of_a_repository => return repository(state, by, of_a_repository),
        }))
    }

    fn forget(&self, state: &ClusterState, node: NodeName) -> Result<Command, Refusal> {
        known_or_awaited(state, &node)?;
        if state.replica_of(&node) == Some(self.me) {
            let why = String::from("it coordinates; transfer the office first");
            return Err(Refusal::NotNow(why));
        }
        Ok(Command::Forget { node })
    }

    fn failover(&self, state: &ClusterState, resource: ResourceName) -> Result<Command, Refusal> {
        let held = held(state, &resource)?;
        let Some(holder) = held.holder.as_ref().filter(|h| !h.releasing) else {
            return Err(Refusal::NotNow(String::from("it has no holder to fail over")));
        };
        // Nobody would be told to take it before the maintenance ends.
        if state.in_maintenance(&resource) {
            return Err(Refusal::NotNow(String::from("it is in maintenance; end that first")));
        }
        let epoch = holder.epoch;
        self.not_pending(&resource)?;
        Ok(Command::Release { resource, epoch })
    }

    /// A person stands in for the proof that a stuck instance is gone. A machine that still says
    /// something is not off.
    fn confirm_stopped(
        &self,
        state: &ClusterState,
        view: &View,
        resource: ResourceName,
        node: &NodeName,
    ) -> Result<Command, Refusal> {
        let held = held(state, &resource)?;
        let Some(holder) = held.holder.as_ref().filter(|h| h.stuck && h.node == *node) else {
            return Err(Refusal::NotNow(format!("no instance of it is stuck on {node}")));
        };
        if view.get(node).is_some_and(|seen| seen.health != NodeHealth::Down) {
            return Err(Refusal::NotNow(format!("{node} still answers: power it off first")));
        }
        self.not_pending(&resource)?;
        let evidence = Evidence {
            resource: resource.clone(),
            epoch: holder.epoch,
            replica: holder.replica,
            guard: None,
            ground: EvidenceGround::Confirmed,
            age_us: 0,
        };
        Ok(Command::Vacate { resource, epoch: holder.epoch, evidence: Some(evidence) })
    }

    /// A node asks for a longer lease (rule 7).
    #[allow(clippy::too_many_arguments)]
    pub fn absence(
        &mut self,
        now: Now,
        state: &ClusterState,
        replica: ReplicaId,
        boot: u64,
        request: u64,
        for_ms: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        // As long as one node alone is the new generation, nobody else tells those of an earlier
        // one that it is over: no instance of it may go on while its agent is away.
        let lone = state.members.len() == 1 && !state.awaited.is_empty();
        let known = state.node_of(replica).is_some();
        if self.is_settled() && known && !lone && for_ms <= ABSENCE_MAX_MS {
            let command = Command::Absence { replica, boot, request, for_ms };
            self.propose(now, command, Vec::new(), &mut out);
        }
        out
    }

    fn not_pending(&self, resource: &ResourceName) -> Result<(), Refusal> {
        if self.is_pending(resource) {
            let why = String::from("another decision on it is on its way; ask again in a moment");
            return Err(Refusal::NotNow(why));
        }
        Ok(())
    }

    fn switchover(
        &self,
        state: &ClusterState,
        view: &View,
        resource: ResourceName,
        to: Option<NodeName>,
    ) -> Result<Option<Command>, Refusal> {
        let held = held(state, &resource)?;
        self.not_pending(&resource)?;
        if held.quarantine.is_some() {
            let why = String::from("it is quarantined; `clear` it first");
            return Err(Refusal::NotNow(why));
        }
        if state.in_maintenance(&resource) {
            return Err(Refusal::NotNow(String::from("it is in maintenance; end that first")));
        }
        let here = held.node().cloned();
        let to = match to {
            Some(node) => {
                known_node(state, &node)?;
                node
            }
            None => {
                let wish = Wish { target: None, avoid: here.clone() };
                let (best, _) = placement::choose(state, view, &resource, &wish);
                best.filter(|node| Some(node) != here.as_ref()).ok_or(Refusal::NoCandidate)?
            }
        };
        if Some(&to) == here.as_ref() {
            return Ok(None);
        }
        let bound = state.spec.resources.get(&resource).and_then(|s| s.with.clone());
        if let Some(other) = bound {
            let why = alloc::format!("it runs with {other}; switch that over instead");
            return Err(Refusal::CannotPlace { node: to, why });
        }
        if let Err(why) = placement::may_take(state, view, &resource, &to) {
            return Err(Refusal::CannotPlace { node: to, why: why.to_string() });
        }
        Ok(Some(Command::Switchover { resource, to }))
    }
}

/// What is said of a repository of the vault.
fn repository(
    state: &ClusterState,
    by: &str,
    operation: Operation,
) -> Result<Option<Command>, Refusal> {
    Ok(Some(match operation {
        Operation::RecordHead { repository, previous, head, sources } => {
            return heads::record(state, by, Said { repository, previous, head, sources });
        }
        Operation::ReportFork { repository, found, known } => {
            heads::fork(state, by, repository, found, known)?
        }
        Operation::ClearFork { repository, found } => heads::clear(state, repository, found)?,
        Operation::AcceptHead { repository, instead_of, head } => {
            heads::must_be(state, &repository, &instead_of)?;
            Command::AcceptHead { repository, instead_of, head, by: String::from(by) }
        }
        Operation::ForgetRepository { repository, head } => {
            heads::must_be(state, &repository, &head)?;
            Command::ForgetRepository { repository, head }
        }
        _ => return Ok(None),
    }))
}

/// Longest planned absence, in milliseconds.
pub const ABSENCE_MAX_MS: u64 = 10_000;

/// Whether it lets somebody in.
fn gives_access(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::AddToken { .. }
            | Operation::UseToken { .. }
            | Operation::Join(_)
            | Operation::Rejoin(_)
            | Operation::Certify { .. }
    )
}

fn held<'a>(
    state: &'a ClusterState,
    resource: &ResourceName,
) -> Result<&'a model::state::ResourceState, Refusal> {
    state.resources.get(resource).ok_or_else(|| Refusal::NoSuchResource(resource.clone()))
}

/// A member, or one of an earlier generation that has not come back.
fn known_or_awaited(state: &ClusterState, node: &NodeName) -> Result<(), Refusal> {
    if state.awaited.contains_key(node) { Ok(()) } else { known_node(state, node) }
}

fn known_node(state: &ClusterState, node: &NodeName) -> Result<(), Refusal> {
    if state.members.contains_key(node) {
        return Ok(());
    }
    Err(Refusal::NoSuchNode(node.clone()))
}

fn voter(state: &ClusterState, node: &NodeName) -> Result<ReplicaId, Refusal> {
    known_node(state, node)?;
    let member = &state.members[node];
    if member.role != model::state::MemberRole::Voter {
        let why = String::from("only a voter that runs resources can coordinate");
        return Err(Refusal::CannotPlace { node: node.clone(), why });
    }
    Ok(member.replica)
}

fn known_scope(state: &ClusterState, scope: &Scope) -> Result<(), Refusal> {
    match scope {
        Scope::Cluster => Ok(()),
        Scope::Node(node) => known_node(state, node),
        Scope::Resource(resource) => held(state, resource).map(|_| ()),
    }
}

fn apply(
    state: &ClusterState,
    spec: ClusterSpec,
    text: String,
    base: Option<u64>,
) -> Result<Option<Command>, Refusal> {
    if base.is_some_and(|base| base != state.spec_version) {
        return Err(Refusal::VersionMismatch { version: state.spec_version });
    }
    if spec.name != state.spec.name {
        let (new, old) = (&spec.name, &state.spec.name);
        let why = alloc::format!("this cluster is {old:?}, the specification is for {new:?}");
        return Err(Refusal::BadSpec(why));
    }
    let too_many = spec.nodes.len() > NODES_MAX
        || spec.resources.len() > RESOURCES_MAX
        || spec.voters().count() > VOTERS_MAX;
    if too_many {
        return Err(Refusal::BadSpec(String::from("it is larger than a cluster can be")));
    }
    if let Some(node) = state.members.keys().find(|node| !spec.nodes.contains_key(*node)) {
        let why = alloc::format!("node {node} has joined; `forget` it before leaving it out");
        return Err(Refusal::BadSpec(why));
    }
    if spec == state.spec {
        return Ok(None);
    }
    Ok(Some(Command::Apply { version: state.spec_version + 1, spec, text }))
}

fn use_token(state: &ClusterState, hash: [u8; 32], name: NodeName) -> Result<Command, Refusal> {
    if state.trust.revoked.contains_key(&name) {
        return Err(Refusal::BadToken(String::from("this name is refused; take another")));
    }
    good_token(state, &hash, Bearer::Person(&name))?;
    Ok(Command::UseToken { token: hash, name })
}

fn good_token(state: &ClusterState, hash: &[u8; 32], bearer: Bearer<'_>) -> Result<(), Refusal> {
    let bad = |why| Err(Refusal::BadToken(String::from(why)));
    token::refusal(state, hash, bearer).map_or(Ok(()), bad)
}

/// A node that lost its log comes back under a new incarnation, as what it was.
fn rejoin(state: &ClusterState, request: JoinRequest) -> Result<Command, Refusal> {
    let request = JoinRequest { token: None, ..request };
    known_or_awaited(state, &request.node)?;
    let member = state.members.get(&request.node).map(|member| member.role);
    let role = member.or_else(|| state.awaited.get(&request.node).map(|awaited| awaited.role));
    let role = role.ok_or_else(|| Refusal::NoSuchNode(request.node.clone()))?;
    let request = JoinRequest { role, ..request };
    Ok(Command::Join { request, replica: ReplicaId(state.next_replica) })
}

fn join(state: &ClusterState, request: JoinRequest) -> Result<Command, Refusal> {
    let none = || Refusal::BadToken(String::from("there is none"));
    let hash = request.token.ok_or_else(none)?;
    good_token(state, &hash, Bearer::Node(&request))?;
    if !state.spec.nodes.contains_key(&request.node) {
        return Err(Refusal::NoSuchNode(request.node));
    }
    Ok(Command::Join { request, replica: ReplicaId(state.next_replica) })
}
