//! Answers the API's calls: reads from the core thread, gives operations to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::authority::RotationOrder;
use model::operation::{Operation, Outcome, Refusal as OperationRefusal};
use model::state::{ClusterState, EventKind, JoinRequest};
use model::{ClusterSpec, NodeName, ResourceName};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::core::{CoreInput, Question};
use super::files::DataDir;
use super::refusals::{self, About};
use super::shared::{Shared, lock};
use crate::api::call::Whose;
use crate::api::{Backend, BoxFuture, Call, Metrics, Problem, Refusal, Reply};
use crate::identity::{Caller, ClusterId};

/// How long the core thread may take to answer a question.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long an operation may take to be committed; longer than the kernel waits.
const COMMIT_WAIT: Duration = Duration::from_secs(15);

/// The backend of the API.
pub struct NodeBackend {
    /// The agent's shared state.
    pub shared: Arc<Shared>,
    /// The data directory.
    pub data: DataDir,
    /// This node.
    pub node: NodeName,
    /// The cluster.
    pub cluster: ClusterId,
    /// The control state, as of the last change of configuration.
    pub state: Arc<Mutex<Arc<ClusterState>>>,
    /// The newest event.
    pub newest_event: watch::Receiver<u64>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The log's writer's figures.
    pub figures: super::figures::Figures,
    /// What is known of the `vault run` that this agent keeps alive.
    pub vault_run: super::vault_run::VaultRun,
}

impl Backend for NodeBackend {
    fn call(&self, caller: Option<Caller>, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            match self.answer(caller, call).await {
                Ok(reply) | Err(reply) => reply,
            }
        })
    }
}

pub(super) type Answer = Result<Reply, Reply>;

impl NodeBackend {
    async fn answer(&self, caller: Option<Caller>, call: Call) -> Answer {
        let by = caller.as_ref().map_or("nobody".to_owned(), |c| c.name.to_string());
        match call {
            Call::Live => Ok(Reply::Health { yes: true, detail: json!({ "node": self.node }) }),
            Call::Ready => self.ready().await,
            Call::Active(resource) => self.active(&resource).await,
            Call::Status(whose) => {
                self.view_of(whose).await?;
                let mut status = self.status().await?;
                status["shortfalls"] = json!(*lock(&self.shared.shortfalls));
                status["vault_run"] = self.vault_run.shown();
                Ok(Reply::Json(status))
            }
            Call::Explain(resource, whose) => {
                let authoritative = self.view_of(whose).await?;
                self.explain(resource, authoritative).await
            }
            Call::Events { after, limit, wait } => self.events(after, limit, wait).await,
            Call::Spec => {
                let state = self.state().await?;
                Ok(Reply::Json(json!({
                    "version": state.spec_version, "text": state.spec_text,
                    "members": state.members
                })))
            }
            Call::Metrics => {
                self.fill_metrics().await?;
                Ok(Reply::Text(self.metrics.encode()))
            }
            Call::Operate(value) => {
                let operation = operation(value)?;
                let outcome = self.operate(by, operation).await?;
                Ok(Reply::Json(json!({ "outcome": outcome })))
            }
            Call::Apply { text, base } => self.apply(by, text, base).await,
            Call::CreateToken(request) => self.create_token(by, request).await,
            Call::Join(join) => self.join(*join).await,
            Call::Rejoin(key) => {
                let caller = caller.ok_or_else(|| denied("a node shows its certificate"))?;
                let request = JoinRequest {
                    node: caller.name.clone(),
                    role: model::state::MemberRole::Member,
                    token: None,
                    datagram_key: key.0,
                };
                let outcome = self.operate(by, Operation::Rejoin(request)).await?;
                let Outcome::Joined { replica, .. } = outcome else {
                    return Err(internal("a rejoin ended otherwise"));
                };
                Ok(Reply::Json(json!({ "replica": replica })))
            }
            Call::Renew(renewal) => self.renew(caller, &renewal).await,
            Call::Authority => self.show_authority().await,
            Call::BeginRotation(begin) => self.begin_rotation(by, begin).await,
            Call::State => self.export_state().await,
            Call::Position => self.position().await,
            Call::Vault { local } => self.vault(local).await,
            Call::RecordHead(body) => self.record_head(by, *body).await,
            Call::ReportFork(body) => self.report_fork(by, body).await,
        }
    }

    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Reply> {
        let (to, answer) = oneshot::channel();
        self.shared.offer(CoreInput::Ask(question(to)));
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Reply::Refused(
                Refusal::Unavailable,
                Problem::new(
                    "busy",
                    "this node's core did not answer in time",
                    "Ask another node; look at this one's log.",
                ),
            )),
        }
    }

    pub(super) async fn state(&self) -> Result<Arc<ClusterState>, Reply> {
        self.ask(Question::State).await
    }

    async fn status(&self) -> Result<Value, Reply> {
        let status = self.ask(Question::Status).await?;
        serde_json::to_value(status).map_err(internal)
    }

    async fn ready(&self) -> Answer {
        let status = self.ask(Question::Status).await?;
        let yes = status.coordinator.is_some() && status.lease_ms.is_some();
        let detail = json!({
            "node": self.node, "coordinator": status.coordinator, "lease_ms": status.lease_ms
        });
        Ok(Reply::Health { yes, detail })
    }

    async fn active(&self, resource: &ResourceName) -> Answer {
        let status = self.ask(Question::Status).await?;
        let found = status.resources.iter().find(|r| r.name == *resource);
        let found = found.ok_or_else(|| not_found(&format!("there is no resource {resource}")))?;
        let here = status.nodes.iter().find(|n| n.name == self.node);
        let active_here = here.is_some_and(|n| {
            n.instances
                .iter()
                .any(|i| i.resource == *resource && i.phase == model::report::InstancePhase::Active)
        });
        let yes = active_here && status.lease_ms.is_some();
        let detail = json!({
            "resource": resource, "node": self.node, "holder": found.node,
            "epoch": found.epoch.map(|e| e.to_string())
        });
        Ok(Reply::Health { yes, detail })
    }

    /// Whether this node speaks for the cluster; who does, where that is asked for and known.
    async fn view_of(&self, whose: Whose) -> Result<bool, Reply> {
        let status = self.ask(Question::Status).await?;
        let other = status.coordinator.filter(|coordinator| *coordinator != self.node);
        if !status.authoritative && whose == Whose::Coordinator && other.is_some() {
            let refusal = OperationRefusal::NotCoordinator { coordinator: other };
            return self.elsewhere(&refusal).map_or(Ok(false), Err);
        }
        Ok(status.authoritative)
    }

    async fn explain(&self, resource: ResourceName, authoritative: bool) -> Answer {
        let name = resource.clone();
        let explanation = self.ask(|to| Question::Explain(resource, to)).await?;
        let explanation =
            explanation.ok_or_else(|| not_found(&format!("there is no resource {name}")))?;
        let mut said = serde_json::to_value(explanation).map_err(internal)?;
        said["node"] = json!(self.node);
        said["authoritative"] = json!(authoritative);
        Ok(Reply::Json(said))
    }

    async fn events(&self, after: u64, limit: usize, wait: Duration) -> Answer {
        let mut newest = self.newest_event.clone();
        if *newest.borrow_and_update() <= after {
            let more = newest.wait_for(|newest| *newest > after);
            if tokio::time::timeout(wait, more).await.is_err() {
                return Ok(Reply::Json(
                    json!({ "events": [], "newest": *self.newest_event.borrow() }),
                ));
            }
        }
        let state = self.state().await?;
        let fresh = state.history.iter().filter(|event| event.index > after).take(limit);
        let events: Vec<Value> = fresh
            .map(|event| {
                let because: Vec<String> = event.reasons.iter().map(ToString::to_string).collect();
                let by = state.node_of(event.by);
                let mut told = json!({
                    "index": event.index, "wall_ms": event.wall_ms, "by": by,
                    "what": event.what, "because": because
                });
                if let EventKind::Absent { replica: about, .. }
                | EventKind::Renounced { candidate: about, .. } = &event.what
                {
                    told["about"] = json!(state.node_of(*about));
                }
                told
            })
            .collect();
        let newest = state.history.back().map_or(0, |event| event.index);
        Ok(Reply::Json(json!({ "events": events, "newest": newest })))
    }

    /// Gives an operation to the cluster and waits for its outcome.
    pub(super) async fn operate(&self, by: String, operation: Operation) -> Result<Outcome, Reply> {
        let (to, answer) = oneshot::channel();
        let about = About::of(&operation);
        let refused = |refusal: &OperationRefusal| refusals::reply(&about, refusal);
        self.shared.offer(CoreInput::Operate(by, operation, to));
        match tokio::time::timeout(COMMIT_WAIT, answer).await {
            Ok(Ok(Ok(outcome))) => Ok(outcome),
            Ok(Ok(Err(refusal))) => Err(self.elsewhere(&refusal).unwrap_or(refused(&refusal))),
            _ => Err(refused(&OperationRefusal::Unknown)),
        }
    }

    /// Where to ask instead: a member without a vote can't forward what an operator asks.
    pub(super) fn elsewhere(&self, refusal: &OperationRefusal) -> Option<Reply> {
        let OperationRefusal::NotCoordinator { coordinator: Some(coordinator) } = refusal else {
            return None;
        };
        let state = Arc::clone(&lock(&self.state));
        let place = state.spec.nodes.get(coordinator)?;
        let port = super::peers::ports(&state.spec, coordinator).api;
        let address = SocketAddr::new(*place.links.first()?, port);
        Some(Reply::Elsewhere { coordinator: coordinator.clone(), address })
    }

    async fn apply(&self, by: String, text: String, base: Option<u64>) -> Answer {
        let parsed = config::parse(&text, "cluster.toml");
        let Some(spec) = parsed.spec else {
            let first: Vec<Value> =
                parsed.diagnostics.iter().map(|d| json!(d.to_json())).take(100).collect();
            let problem = Problem::new(
                "bad-specification",
                format!("the specification has errors, so nothing was changed: {}", json!(first)),
                "Run `backstay check` on it.",
            );
            return Err(Reply::Refused(Refusal::Invalid, problem));
        };
        // That nothing is to be done is for the coordinator to say: this node may lag.
        let base = match base {
            Some(base) => base,
            None => self.state().await?.spec_version,
        };
        let operation = Operation::Apply { spec, text, base: Some(base) };
        let outcome = self.operate(by, operation).await?;
        let version = if outcome == Outcome::Unchanged { base } else { base + 1 };
        Ok(Reply::Json(json!({ "version": version, "outcome": outcome })))
    }

    async fn fill_metrics(&self) -> Result<(), Reply> {
        let status = self.ask(Question::Status).await?;
        let m = &self.metrics;
        m.term.set(status.term as i64);
        m.commit_index.set(status.committed as i64);
        m.applied_index.set(status.applied as i64);
        m.lease_remaining.set(status.lease_ms.unwrap_or(0.0) / 1e3);
        m.authority_remaining.set(status.authority_ms.unwrap_or(0.0) / 1e3);
        let here = status.coordinator.as_ref() == Some(&self.node);
        for (role, is) in [("coordinator", here), ("follower", !here)] {
            m.consensus_role.get_or_create(&[("role", role)]).set(i64::from(is));
        }
        for heard in status.nodes.iter().filter(|n| n.name == self.node).flat_map(|n| &n.heard) {
            let state = self.state.clone();
            let Some(peer) = lock(&state).node_of(heard.peer).map(ToString::to_string) else {
                continue;
            };
            let connected = m.peer_connected.get_or_create_owned(&[("peer", peer)]);
            connected.set(i64::from(heard.connected));
        }
        m.quarantined.set(status.resources.iter().filter(|r| r.quarantined).count() as i64);
        for resource in &status.resources {
            let is = resource.active && resource.node.as_ref() == Some(&self.node);
            let label = [("resource", resource.name.to_string())];
            m.resource_active.get_or_create(&label).set(i64::from(is));
        }
        self.figures.fill(m);
        self.fill_vault_metrics().await
    }
}

fn operation(value: Value) -> Result<Operation, Reply> {
    let wrong = |why: String| {
        let problem = Problem::new(
            "bad-operation",
            why,
            "See /v1/openapi.json for the operations there are.",
        );
        Reply::Refused(Refusal::Invalid, problem)
    };
    let operation: Operation =
        serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    match operation {
        // Those have calls of their own, which check what they need to.
        Operation::Apply { .. }
        | Operation::AddToken { .. }
        | Operation::UseToken { .. }
        | Operation::Join(_)
        | Operation::Rejoin(_)
        | Operation::RecordHead { .. }
        | Operation::ReportFork { .. }
        | Operation::Rotate(RotationOrder::Begin(_))
        | Operation::Certify { .. }
        | Operation::Absence { .. } => Err(wrong("it has a call of its own".to_owned())),
        operation => Ok(operation),
    }
}

/// API addresses of all nodes, this one's first.
#[must_use]
pub fn endpoints(spec: &ClusterSpec, first: &NodeName) -> Vec<SocketAddr> {
    let of = |name: &NodeName| {
        let node = spec.nodes.get(name);
        let port = super::peers::ports(spec, name).api;
        node.map(|n| n.links.iter().map(move |ip| SocketAddr::new(*ip, port)).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let others = spec.nodes.keys().filter(|name| *name != first);
    of(first).into_iter().chain(others.flat_map(of)).collect()
}

pub(super) fn internal(error: impl ToString) -> Reply {
    let help = "This is a defect; please report it with the agent's log.";
    Reply::Refused(Refusal::Internal, Problem::new("internal", error, help))
}

pub(super) fn denied(why: &str) -> Reply {
    let help = "Ask an operator for a new token.";
    Reply::Refused(Refusal::Denied, Problem::new("denied", why, help))
}

fn not_found(what: &str) -> Reply {
    let help = "`backstay status` lists what there is.";
    Reply::Refused(Refusal::NotFound, Problem::new("not-found", what, help))
}
