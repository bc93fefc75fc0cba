//! Who may call what. This table is the only place that says so: the router is built from it, and
//! what is not in it does not exist.

use crate::identity::{Caller, Role, Standing};
use crate::net::counters::Denied;

/// Everything the API answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The process runs.
    Live,
    /// The node takes part.
    Ready,
    /// Whether a resource's active instance is here: for load balancers.
    Active,
    /// The API's description.
    OpenApi,
    /// The state of the cluster.
    Status,
    /// Why a resource is where it is.
    Explain,
    /// What happened.
    Events,
    /// The committed specification.
    Spec,
    /// For collectors.
    Metrics,
    /// An operator's operation.
    Operate,
    /// A new specification.
    Apply,
    /// A new join token.
    CreateToken,
    /// A node, person or program joins with a token.
    Join,
    /// A node that lost its disk and kept its certificate comes back as a new incarnation.
    Rejoin,
    /// The holder of a certificate gets the next one.
    Renew,
    /// The control state, to be kept.
    State,
    /// Where this node's log stands.
    Position,
    /// What the cluster remembers of the vault's repositories, and where their tasks run.
    Vault,
    /// A repository's chain has come so far.
    RecordHead,
    /// A repository lacks what the cluster remembers.
    ReportFork,
    /// The authorities, and who rests on which.
    Authority,
    /// A rotation of the authority begins.
    BeginRotation,
}

/// HTTP methods that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Changes.
    Post,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody who reaches the port, certificate or not.
    Everybody,
    /// Holders of a certificate with one of these roles that has not run out.
    Roles(&'static [Role]),
    /// Holders of any certificate; nodes also with one that has run out.
    Holders,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Method.
    pub verb: Verb,
    /// Path, with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub who: Who,
    /// Largest body, in bytes.
    pub body_max: usize,
}

/// Everyone with a certificate may look.
const LOOK: Who = Who::Roles(&Role::ALL);
/// Only nodes, each for itself.
const NODES: Who = Who::Roles(&[Role::Voter, Role::Witness, Role::Member]);
/// Whoever may make a backup. It can make a sound repository look old, never an old one look new.
const WRITERS: Who = Who::Roles(&[Role::Operator, Role::Voter, Role::Witness, Role::Member]);
/// Only operators may change the cluster: nodes are told what to do by its log.
const CHANGE: Who = Who::Roles(&[Role::Operator]);

impl Route {
    /// All of them.
    pub const ALL: [Route; 22] = [
        Route::Live,
        Route::Ready,
        Route::Active,
        Route::OpenApi,
        Route::Status,
        Route::Explain,
        Route::Events,
        Route::Spec,
        Route::Metrics,
        Route::Operate,
        Route::Apply,
        Route::CreateToken,
        Route::Join,
        Route::Rejoin,
        Route::Renew,
        Route::State,
        Route::Position,
        Route::Vault,
        Route::RecordHead,
        Route::ReportFork,
        Route::Authority,
        Route::BeginRotation,
    ];

    /// The line of the table.
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Route::Live => get("/livez", Who::Everybody),
            Route::Ready => get("/readyz", Who::Everybody),
            Route::Active => get("/resources/{name}/active", Who::Everybody),
            Route::OpenApi => get("/v1/openapi.json", LOOK),
            Route::Status => get("/v1/status", LOOK),
            Route::Explain => get("/v1/explain/{resource}", LOOK),
            Route::Events => get("/v1/events", LOOK),
            Route::Spec => get("/v1/spec", LOOK),
            Route::Metrics => get("/metrics", LOOK),
            Route::Operate => post("/v1/operations", CHANGE, 64 << 10),
            Route::Apply => post("/v1/apply", CHANGE, 4 << 20),
            Route::CreateToken => post("/v1/tokens", CHANGE, 4 << 10),
            // The token in the body says who may join.
            Route::Join => post("/v1/join", Who::Everybody, 16 << 10),
            Route::Rejoin => post("/v1/rejoin", NODES, 4 << 10),
            Route::Renew => post("/v1/renew", Who::Holders, 16 << 10),
            // It holds what was written into the specification: not for everyone who may look.
            Route::State => get("/v1/state", CHANGE),
            Route::Position => get("/v1/position", LOOK),
            Route::Vault => get("/v1/vault", LOOK),
            Route::RecordHead => post("/v1/vault/heads", WRITERS, 256 << 10),
            Route::ReportFork => post("/v1/vault/forks", WRITERS, 4 << 10),
            Route::Authority => get("/v1/authority", LOOK),
            Route::BeginRotation => post("/v1/authority", CHANGE, 4 << 10),
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.rule().path
    }
}

const fn get(path: &'static str, who: Who) -> Rule {
    Rule { verb: Verb::Get, path, who, body_max: 0 }
}

const fn post(path: &'static str, who: Who, body_max: usize) -> Rule {
    Rule { verb: Verb::Post, path, who, body_max }
}

/// Why a call was denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It needs a certificate.
    #[error("this call needs a certificate and none was shown")]
    Anonymous,
    /// The certificate has run out.
    #[error("the certificate of {0} has run out, and with it only renewing is open")]
    Expired(String),
    /// A person's or program's certificate has run out. Nobody vouches that it still belongs: a
    /// node has its place in the specification.
    #[error("the certificate of {0} has run out, and only a node's can be renewed then")]
    TooLate(String),
    /// Its name is refused.
    #[error("the certificates of {0} are refused since an operator said so")]
    Revoked(String),
    /// The authority that issued it is believed no more.
    #[error("the certificate of {0} is of an authority that is believed no more")]
    Outcast(String),
    /// The role may not make it.
    #[error("{name} has the role {role}, which may not make this call")]
    Role {
        /// Who called.
        name: String,
        /// With which role.
        role: Role,
    },
}

impl Denial {
    /// What it counts as.
    #[must_use]
    pub const fn counted_as(&self) -> Denied {
        match self {
            Denial::Anonymous => Denied::Anonymous,
            Denial::Expired(_) | Denial::TooLate(_) => Denied::Expired,
            Denial::Revoked(_) => Denied::Revoked,
            Denial::Outcast(_) => Denied::Authority,
            Denial::Role { .. } => Denied::Role,
        }
    }

    /// What to do.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Denial::Anonymous => {
                "pass an operator's or viewer's credential; an operator makes a token for one with \
                 `backstay token --role viewer`"
            }
            Denial::Expired(_) => {
                "a node's agent renews it when it starts; a person joins again with a new token"
            }
            Denial::TooLate(_) => "join again with a new token, which an operator makes",
            Denial::Revoked(_) => "ask an operator, who can give you a certificate by another name",
            Denial::Outcast(_) => "join again with a new token, which an operator makes",
            Denial::Role { .. } => "use the credential of somebody whose role may, an operator's",
        }
    }
}

/// Decides a call. Pure.
///
/// # Errors
/// [`Denial`].
pub fn decide(who: Who, caller: Option<&Caller>) -> Result<(), Denial> {
    let (Who::Roles(_) | Who::Holders) = who else { return Ok(()) };
    let caller = caller.ok_or(Denial::Anonymous)?;
    let name = || caller.name.to_string();
    match who {
        _ if caller.standing == Standing::Revoked => Err(Denial::Revoked(name())),
        _ if caller.standing == Standing::Outcast => Err(Denial::Outcast(name())),
        Who::Roles(_) if caller.expired => Err(Denial::Expired(name())),
        Who::Holders if caller.expired && !caller.role.is_node() => Err(Denial::TooLate(name())),
        Who::Roles(roles) if !roles.contains(&caller.role) => {
            Err(Denial::Role { name: name(), role: caller.role })
        }
        _ => Ok(()),
    }
}
