//! The seam between HTTP and the cluster: a [`Call`] goes in, a [`Reply`] comes out.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use model::vault::{ChainHead, RepositoryId, SourceNews};
use model::{NodeName, ResourceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::{Caller, CertificateRequest, DatagramPublicKey, Role};

/// A boxed future, so that a [`Backend`] can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What answers calls.
pub trait Backend: Send + Sync + 'static {
    /// Answers a call that `api::access` has let through. There is a caller wherever the route
    /// asks for one.
    fn call(&self, caller: Option<Caller>, call: Call) -> BoxFuture<'_, Reply>;
}

/// Whose view of the cluster is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the node that is asked.
    Own,
    /// That of whoever speaks for the cluster, where the node that is asked knows who that is.
    Coordinator,
}

/// A request that was understood and let through.
#[derive(Debug, Clone)]
pub enum Call {
    /// `GET /livez`
    Live,
    /// `GET /readyz`
    Ready,
    /// `GET /resources/{name}/active`
    Active(ResourceName),
    /// `GET /v1/status`
    Status(Whose),
    /// `GET /v1/explain/{resource}`
    Explain(ResourceName, Whose),
    /// `GET /v1/events`
    Events {
        /// Those with a larger number than this.
        after: u64,
        /// At most so many.
        limit: usize,
        /// Where there is none yet, the answer may wait this long for one.
        wait: Duration,
    },
    /// `GET /v1/spec`
    Spec,
    /// `GET /metrics`
    Metrics,
    /// `POST /v1/operations`: the operation as JSON.
    Operate(Value),
    /// `POST /v1/apply`
    Apply {
        /// The text of a `cluster.toml`.
        text: String,
        /// The version of the specification that it is to replace; none for the one of the moment.
        base: Option<u64>,
    },
    /// `POST /v1/tokens`
    CreateToken(CreateToken),
    /// `POST /v1/join`
    Join(Box<Join>),
    /// `POST /v1/rejoin`: the calling node comes back as a new incarnation, with this key.
    Rejoin(DatagramPublicKey),
    /// `POST /v1/renew`: the caller gets a certificate of its own role and name over this key.
    Renew(Box<Renewal>),
    /// `GET /v1/state`
    State,
    /// `GET /v1/position`
    Position,
    /// `GET /v1/vault`
    Vault {
        /// What this node knows will do, where no coordinator can be asked.
        local: bool,
    },
    /// `POST /v1/vault/heads`
    RecordHead(Box<HeadBody>),
    /// `POST /v1/vault/forks`
    ReportFork(ForkBody),
    /// `GET /v1/authority`
    Authority,
    /// `POST /v1/authority`
    BeginRotation(BeginRotation),
}

/// How far a repository's chain has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HeadBody {
    /// The repository's id, 32 hexadecimal digits.
    #[cfg_attr(test, schema(value_type = String))]
    pub repository: RepositoryId,
    /// What the cluster remembered (`number:hash`), where the writer has seen that `head` follows
    /// it; none where it remembered nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub previous: Option<ChainHead>,
    /// The newest record, `number:hash`.
    #[cfg_attr(test, schema(value_type = String))]
    pub head: ChainHead,
    /// What there is of sources: `source`, `newest`, `proven`; 128 at most.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Vec<serde_json::Value>))]
    pub sources: Vec<SourceNews>,
}

/// A repository that does not contain what the cluster remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkBody {
    /// The repository's id, 32 hexadecimal digits.
    #[cfg_attr(test, schema(value_type = String))]
    pub repository: RepositoryId,
    /// The newest record that is there, `number:hash`.
    #[cfg_attr(test, schema(value_type = String))]
    pub found: ChainHead,
    /// The record remembered that it does not contain.
    #[cfg_attr(test, schema(value_type = String))]
    pub known: ChainHead,
}

/// A rotation of the authority that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BeginRotation {
    /// The present key is in wrong hands: nobody gets in by it from now on.
    #[serde(default)]
    pub compromised: bool,
}

/// A request for the next certificate.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The key, checked.
    pub request: CertificateRequest,
    /// As it was sent.
    pub body: RenewBody,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// The role it gives.
    pub role: Role,
    /// The only name it is good for, where it is to be bound to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub name: Option<NodeName>,
    /// How long it lives, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_ms: Option<u64>,
}

/// Somebody who joins with a token.
#[derive(Clone)]
pub struct Join {
    /// The token's secret.
    pub secret: [u8; 32],
    /// The name it wants.
    pub name: NodeName,
    /// Its key.
    pub request: CertificateRequest,
    /// Nodes only: the public half of its datagram key.
    pub datagram_key: Option<DatagramPublicKey>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The body of a join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    /// The token's secret, 64 hex digits.
    pub secret: String,
    /// The name it wants.
    pub name: String,
    /// A certificate request (PKCS#10, PEM).
    pub request: String,
    /// Nodes only: the public half of its datagram key, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram_key: Option<String>,
}

impl std::fmt::Debug for JoinBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinBody").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The body of a rejoin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RejoinBody {
    /// The public half of the node's datagram key, 64 hex digits.
    pub datagram_key: String,
}

/// The body of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewBody {
    /// A certificate request (PKCS#10, PEM).
    pub request: String,
    /// Nodes only: that it comes from the node that joined, for each voter by its replica id, 64
    /// hex digits. Asked for while the authority's key is in wrong hands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proofs: BTreeMap<u64, String>,
}

/// What whoever joins or renews gets back; a join may carry more beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Issued {
    /// Its certificate and the authority's (PEM).
    pub certificate: String,
    /// All authorities that are believed (PEM).
    pub authorities: String,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// 200 with JSON.
    Json(Value),
    /// 200 with text: metrics.
    Text(String),
    /// A yes (200) or no (503) for load balancers and supervisors, with its reason.
    Health {
        /// Whether it is a yes.
        yes: bool,
        /// Why.
        detail: Value,
    },
    /// This node can't, the coordinator can (421).
    Elsewhere {
        /// The node to ask.
        coordinator: NodeName,
        /// Its API.
        address: SocketAddr,
    },
    /// No.
    Refused(Refusal, Problem),
}

/// Kinds of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request makes no sense (400).
    Invalid,
    /// The caller may not (403).
    Denied,
    /// There is no such thing (404).
    NotFound,
    /// It does not fit the state of the cluster (409).
    Conflict,
    /// It can't be done now, and nothing was: no quorum, no coordinator (503). A client asks
    /// another node.
    Unavailable,
    /// It may have been done or not (504): nobody else may be asked to do it.
    Unknown,
    /// A mistake of ours (500).
    Internal,
}

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Problem {
    /// A stable word for programs.
    pub code: String,
    /// What happened and why it matters.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(code: &str, message: impl ToString, help: impl ToString) -> Problem {
        Problem { code: code.into(), message: message.to_string(), help: help.to_string() }
    }
}

/// The body of a 421 answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Elsewhere {
    /// The node to ask.
    #[cfg_attr(test, schema(value_type = String))]
    pub coordinator: NodeName,
    /// Its API, as address and port.
    #[cfg_attr(test, schema(value_type = String))]
    pub address: SocketAddr,
}
