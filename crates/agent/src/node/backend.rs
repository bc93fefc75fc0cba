//! Answers the API's calls: reads from the core thread, gives operations to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::operation::{Operation, Outcome, Refusal as OperationRefusal};
use model::state::{ClusterState, JoinRequest, TokenRecord, TokenRole};
use model::{ClusterSpec, NodeName, ResourceName};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::core::{CoreInput, Question};
use super::files::DataDir;
use super::join::Welcome;
use super::shared::{Shared, lock};
use crate::api::call::{CreateToken, Join};
use crate::api::{Backend, BoxFuture, Call, Metrics, Problem, Refusal, Reply};
use crate::identity::{
    Authority, Caller, CertificateRequest, ClusterId, IdentityFiles, JoinToken, Role, Subject,
    Validity, token, wall_s,
};

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
            Call::Status => {
                let mut status = self.status().await?;
                status["shortfalls"] = json!(*lock(&self.shared.shortfalls));
                Ok(Reply::Json(status))
            }
            Call::Explain(resource) => self.explain(resource).await,
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
            Call::Apply(text) => self.apply(by, text).await,
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
            Call::Renew(request) => self.renew(caller, &request).await,
            Call::State => self.export_state().await,
            Call::Position => self.position().await,
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

    async fn explain(&self, resource: ResourceName) -> Answer {
        let name = resource.clone();
        let explanation = self.ask(|to| Question::Explain(resource, to)).await?;
        let explanation =
            explanation.ok_or_else(|| not_found(&format!("there is no resource {name}")))?;
        serde_json::to_value(explanation).map(Reply::Json).map_err(internal)
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
                json!({
                    "index": event.index, "wall_ms": event.wall_ms, "by": by,
                    "what": event.what, "because": because
                })
            })
            .collect();
        let newest = state.history.back().map_or(0, |event| event.index);
        Ok(Reply::Json(json!({ "events": events, "newest": newest })))
    }

    /// Gives an operation to the cluster and waits for its outcome.
    async fn operate(&self, by: String, operation: Operation) -> Result<Outcome, Reply> {
        let (to, answer) = oneshot::channel();
        self.shared.offer(CoreInput::Operate(by, operation, to));
        match tokio::time::timeout(COMMIT_WAIT, answer).await {
            Ok(Ok(Ok(outcome))) => Ok(outcome),
            Ok(Ok(Err(refusal))) => Err(self.elsewhere(&refusal).unwrap_or(refused(&refusal))),
            _ => Err(refused(&OperationRefusal::Unknown)),
        }
    }

    /// Where to ask instead: a member without a vote can't forward what an operator asks.
    fn elsewhere(&self, refusal: &OperationRefusal) -> Option<Reply> {
        let OperationRefusal::NotCoordinator { coordinator: Some(coordinator) } = refusal else {
            return None;
        };
        let state = Arc::clone(&lock(&self.state));
        let place = state.spec.nodes.get(coordinator)?;
        let port = super::peers::ports(&state.spec, coordinator).api;
        let address = SocketAddr::new(*place.links.first()?, port);
        Some(Reply::Elsewhere { coordinator: coordinator.clone(), address })
    }

    async fn apply(&self, by: String, text: String) -> Answer {
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
        let present = self.state().await?.spec_version;
        let base = Some(present);
        let outcome = self.operate(by, Operation::Apply { spec, text, base }).await?;
        let version = if outcome == Outcome::Unchanged { present } else { present + 1 };
        Ok(Reply::Json(json!({ "version": version, "outcome": outcome })))
    }

    fn authority(&self) -> Result<Authority, Reply> {
        let files = IdentityFiles::new(self.data.path());
        match files.load_authority() {
            Ok(Some(authority)) => Ok(authority),
            Ok(None) => Err(Reply::Refused(
                Refusal::Unavailable,
                Problem::new(
                    "no-authority",
                    format!("node {} does not hold the authority's key", self.node),
                    "Ask a voter that runs resources.",
                ),
            )),
            Err(error) => Err(internal(error)),
        }
    }

    async fn create_token(&self, by: String, request: CreateToken) -> Answer {
        let authority = self.authority()?;
        let state = self.state().await?;
        let addresses = endpoints(&state.spec, &self.node);
        let token = JoinToken::new(
            self.cluster,
            authority.fingerprint(),
            request.role,
            request.name.clone(),
            addresses,
        );
        let life = request.life_ms.unwrap_or(token::LIFE_MS);
        let record = TokenRecord {
            hash: token::hash(token.secret()),
            role: token_role(request.role),
            node: request.name,
            expires: state.now.plus(life),
            used: false,
        };
        self.operate(by, Operation::AddToken { token: record }).await?;
        Ok(Reply::Json(json!({ "token": *token.to_text(), "expires_ms": life })))
    }

    async fn join(&self, join: Join) -> Answer {
        let authority = self.authority()?;
        let hash = token::hash(&join.secret);
        let state = self.state().await?;
        let record = state.tokens.get(&hash);
        let record = record.ok_or_else(|| denied("the join token is unknown or has expired"))?;
        let role = identity_role(record.role);
        let by = join.name.to_string();
        let replica = match (record.role.member(), join.datagram_key) {
            (Some(member), Some(key)) => {
                let request = JoinRequest {
                    node: join.name.clone(),
                    role: member,
                    token: Some(hash),
                    datagram_key: key.0,
                };
                match self.operate(by, Operation::Join(request)).await? {
                    Outcome::Joined { replica, .. } => Some(replica),
                    _ => return Err(internal("a join ended otherwise")),
                }
            }
            (None, _) => {
                let operation = Operation::UseToken { token: hash, name: join.name.clone() };
                self.operate(by, operation).await?;
                None
            }
            (Some(_), None) => return Err(denied("the token is for a node, which names its key")),
        };
        let links = state.spec.nodes.get(&join.name).map(|n| n.links.clone()).unwrap_or_default();
        let subject = Subject { cluster: self.cluster, role, name: join.name };
        let validity = Validity::days(wall_s(), super::found::CERTIFICATE_DAYS);
        let certificate =
            authority.issue(&subject, &join.request, &links, validity).map_err(internal)?;
        let welcome = Welcome {
            certificate,
            authorities: authority.certificate().to_pem(),
            cluster: state.spec.name.clone(),
            replica,
            profile: state.spec.profile,
            endpoints: endpoints(&state.spec, &self.node),
            authority_key: (role == Role::Voter).then(|| authority.key_pem().to_string()),
        };
        serde_json::to_value(welcome).map(Reply::Json).map_err(internal)
    }

    async fn renew(&self, caller: Option<Caller>, request: &CertificateRequest) -> Answer {
        let caller = caller.ok_or_else(|| denied("renewing needs a certificate"))?;
        let authority = self.authority()?;
        let state = self.state().await?;
        if caller.role.is_node() && !state.members.contains_key(&caller.name) {
            return Err(denied("this node is no member any more"));
        }
        let links = state.spec.nodes.get(&caller.name).map(|n| n.links.clone()).unwrap_or_default();
        let validity = Validity::days(wall_s(), super::found::CERTIFICATE_DAYS);
        let certificate =
            authority.issue(&caller.subject(), request, &links, validity).map_err(internal)?;
        Ok(Reply::Json(json!({
            "certificate": certificate, "authorities": authority.certificate().to_pem()
        })))
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
        Ok(())
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

fn token_role(role: Role) -> TokenRole {
    match role {
        Role::Voter => TokenRole::Voter,
        Role::Witness => TokenRole::Witness,
        Role::Member => TokenRole::Member,
        Role::Operator => TokenRole::Operator,
        Role::Viewer => TokenRole::Viewer,
    }
}

fn identity_role(role: TokenRole) -> Role {
    match role {
        TokenRole::Voter => Role::Voter,
        TokenRole::Witness => Role::Witness,
        TokenRole::Member => Role::Member,
        TokenRole::Operator => Role::Operator,
        TokenRole::Viewer => Role::Viewer,
    }
}

fn internal(error: impl ToString) -> Reply {
    let help = "This is a defect; please report it with the agent's log.";
    Reply::Refused(Refusal::Internal, Problem::new("internal", error, help))
}

fn denied(why: &str) -> Reply {
    let help = "Ask an operator for a new token.";
    Reply::Refused(Refusal::Denied, Problem::new("denied", why, help))
}

fn not_found(what: &str) -> Reply {
    let help = "`backstay status` lists what there is.";
    Reply::Refused(Refusal::NotFound, Problem::new("not-found", what, help))
}

fn refused(refusal: &OperationRefusal) -> Reply {
    use OperationRefusal as R;
    let (kind, code, help) = match refusal {
        R::NotCoordinator { .. } => {
            (Refusal::Unavailable, "no-coordinator", "Try again in a moment; check the quorum.")
        }
        R::Unknown => (Refusal::Unknown, "unknown-outcome", "Look before you repeat it."),
        R::NoSuchResource(_) | R::NoSuchNode(_) => {
            (Refusal::NotFound, "not-found", "`backstay status` lists what there is.")
        }
        R::CannotPlace { .. } | R::NoCandidate => {
            (Refusal::Conflict, "cannot-place", "`backstay explain RESOURCE` says more.")
        }
        R::VersionMismatch { .. } => {
            (Refusal::Conflict, "version", "Look at `backstay diff` and apply again.")
        }
        R::BadSpec(_) => (Refusal::Invalid, "bad-specification", "Run `backstay check` on it."),
        R::BadWindow => (Refusal::Invalid, "bad-window", "Say `--for 2h`, for example."),
        R::BadToken(_) => (Refusal::Denied, "bad-token", "Ask an operator for a new one."),
        R::Busy => (Refusal::Unavailable, "busy", "Try again in a moment."),
        R::NotNow(_) => (Refusal::Conflict, "not-now", "`backstay status` says what is under way."),
    };
    Reply::Refused(kind, Problem::new(code, refusal, help))
}
