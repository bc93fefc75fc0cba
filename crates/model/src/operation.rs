//! What operators ask for, and what they are answered.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeName, ReplicaId, ResourceName};
use crate::spec::ClusterSpec;
use crate::state::{JoinRequest, TokenRecord};

/// Longest maintenance or drain, in milliseconds: 30 days. There is none without an end.
pub const WINDOW_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// One request of an operator (or of a node: joining, planned absence).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A planned move that loses nothing.
    Switchover {
        /// What.
        resource: ResourceName,
        /// Where to; the best other node where absent.
        to: Option<NodeName>,
    },
    /// Give up the present instance as failed and move.
    Failover {
        /// What.
        resource: ResourceName,
    },
    /// A person has seen that the machine of a stuck instance is off.
    ConfirmStopped {
        /// What.
        resource: ResourceName,
        /// Where it ran.
        node: NodeName,
    },
    /// Move everything away from a node and place nothing there until the end.
    Drain {
        /// Which.
        node: NodeName,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// End a drain early.
    Undrain {
        /// Which.
        node: NodeName,
    },
    /// Leave alone: decide nothing within the scope until the end.
    Maintenance {
        /// What.
        scope: Scope,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// End a maintenance early.
    EndMaintenance {
        /// What.
        scope: Scope,
    },
    /// Forget failures, bans and quarantine of a resource.
    Clear {
        /// Which.
        resource: ResourceName,
    },
    /// Commit a specification.
    Apply {
        /// The specification.
        spec: ClusterSpec,
        /// The text it was read from.
        text: String,
        /// Refused unless the present version is this; anything where absent.
        base: Option<u64>,
    },
    /// Hand the coordinator's office to another voter.
    Transfer {
        /// To whom; the best where absent.
        to: Option<NodeName>,
    },
    /// Permit one join.
    AddToken {
        /// What is kept of the token: not the secret.
        token: TokenRecord,
    },
    /// A person or program uses a token for a certificate.
    UseToken {
        /// Hash of its secret.
        token: [u8; 32],
        /// Under which name.
        name: NodeName,
    },
    /// A node joins.
    Join(JoinRequest),
    /// A node whose log is lost comes back under a new incarnation, proven by its certificate.
    Rejoin(JoinRequest),
    /// A node leaves for good (it may be applied out of the specification afterwards).
    Forget {
        /// Which.
        node: NodeName,
    },
    /// A node asks for a longer lease, to restart its agent (rule 7).
    Absence {
        /// Who.
        replica: ReplicaId,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// What a maintenance covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything.
    Cluster,
    /// A node's instances.
    Node(NodeName),
    /// One resource.
    Resource(ResourceName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Cluster => write!(f, "the cluster"),
            Scope::Node(node) => write!(f, "node {node}"),
            Scope::Resource(resource) => write!(f, "resource {resource}"),
        }
    }
}

/// An operation's answer once it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in the log at this index.
    Committed {
        /// Index of the entry.
        index: u64,
    },
    /// The join is in the log; the node is this replica.
    Joined {
        /// Index of the entry.
        index: u64,
        /// The new incarnation.
        replica: ReplicaId,
    },
    /// Nothing was to be done.
    Unchanged,
}

/// Why an operation was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// This node does not coordinate; ask the one named, where one is known.
    NotCoordinator {
        /// The coordinator.
        coordinator: Option<NodeName>,
    },
    /// It was given to the log but the outcome was not learnt in time; it may still take effect.
    Unknown,
    /// There is no such resource.
    NoSuchResource(ResourceName),
    /// There is no such node.
    NoSuchNode(NodeName),
    /// The node can't take it, and why.
    CannotPlace {
        /// Which node.
        node: NodeName,
        /// Why, in words.
        why: String,
    },
    /// No node could take it.
    NoCandidate,
    /// The specification's version is another than the one stated.
    VersionMismatch {
        /// The present version.
        version: u64,
    },
    /// The specification can't replace the present one, and why.
    BadSpec(String),
    /// A window needs an end within [`WINDOW_MAX_MS`].
    BadWindow,
    /// The token is unknown, used, expired or for another role or node.
    BadToken(String),
    /// The queue is full; ask again.
    Busy,
    /// The resource is in maintenance or quarantined, or another operation on it is under way.
    NotNow(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotCoordinator { coordinator: Some(node) } => {
                write!(f, "this node does not coordinate, {node} does")
            }
            Refusal::NotCoordinator { coordinator: None } => {
                write!(f, "there is no coordinator at the moment; quorum may be lost")
            }
            Refusal::Unknown => write!(
                f,
                "the outcome was not learnt in time; look at `backstay events` before asking again"
            ),
            Refusal::NoSuchResource(resource) => write!(f, "there is no resource {resource}"),
            Refusal::NoSuchNode(node) => write!(f, "there is no node {node}"),
            Refusal::CannotPlace { node, why } => write!(f, "{node} can't take it: {why}"),
            Refusal::NoCandidate => write!(f, "no other node can take it"),
            Refusal::VersionMismatch { version } => {
                write!(f, "the specification has changed meanwhile; it is at version {version}")
            }
            Refusal::BadSpec(why) => write!(f, "{why}"),
            Refusal::BadWindow => write!(f, "it needs an end, at most 30 days away"),
            Refusal::BadToken(why) => write!(f, "the join token was refused: {why}"),
            Refusal::Busy => write!(f, "too many operations are waiting; ask again"),
            Refusal::NotNow(why) => write!(f, "{why}"),
        }
    }
}

impl core::error::Error for Refusal {}
