//! What operators ask for, and what they are answered.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::authority::{AuthorityId, RotationOrder};
use crate::ids::{NodeName, ReplicaId, ResourceName};
use crate::spec::ClusterSpec;
use crate::state::{JoinRequest, TokenRecord, TokenRole};
use crate::vault::{ChainHead, REPOSITORIES_MAX, RepositoryId, SourceNews};

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
    /// A repository's chain has come so far.
    RecordHead {
        /// Which repository.
        repository: RepositoryId,
        /// What the cluster remembered, where the writer has seen that `head` follows it.
        previous: Option<ChainHead>,
        /// The newest record.
        head: ChainHead,
        /// What there is of sources.
        sources: Vec<SourceNews>,
    },
    /// The repository does not contain what the cluster remembers.
    ReportFork {
        /// Which repository.
        repository: RepositoryId,
        /// Its newest record, as the one who asks finds it.
        found: ChainHead,
        /// What it does not contain.
        known: ChainHead,
    },
    /// A fork was looked into: what is remembered holds.
    ClearFork {
        /// Which repository.
        repository: RepositoryId,
        /// The record that stands against it.
        found: ChainHead,
    },
    /// Another chain of a repository holds from now on.
    AcceptHead {
        /// Which repository.
        repository: RepositoryId,
        /// What is remembered.
        instead_of: ChainHead,
        /// What is to be remembered instead.
        head: ChainHead,
    },
    /// Forget a repository.
    ForgetRepository {
        /// Which.
        repository: RepositoryId,
        /// What is remembered.
        head: ChainHead,
    },
    /// Change the cluster's authority, a step at a time.
    Rotate(RotationOrder),
    /// A person or program asks for the next certificate.
    Certify {
        /// Whose.
        name: NodeName,
        /// As what.
        role: TokenRole,
        /// Which authority would issue it.
        authority: AuthorityId,
    },
    /// Refuse a person's or program's certificates from now on.
    Revoke {
        /// Whose.
        name: NodeName,
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
    /// The cluster remembers another head of this repository than the one stated; none where it
    /// remembers no such repository.
    HeadMoved {
        /// What it remembers.
        head: Option<ChainHead>,
    },
    /// The record that was shown stands against one that the cluster remembers; it is noted.
    Forked {
        /// What was shown.
        found: ChainHead,
        /// What is remembered.
        known: ChainHead,
    },
    /// What was said of a repository keeps no limit.
    BadHead(String),
    /// The cluster remembers as many repositories as it may.
    TooManyRepositories,
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
            Refusal::HeadMoved { head: Some(head) } => {
                write!(f, "the cluster remembers record {head} of this repository by now")
            }
            Refusal::HeadMoved { head: None } => {
                write!(f, "the cluster remembers no such repository, or nothing of it")
            }
            Refusal::Forked { found, known } => write!(
                f,
                "record {found} stands against record {known}, which the cluster remembers: \
                 backups of this repository were removed or replaced, or an old copy was put back \
                 and went on. Nothing was recorded, and `backstay status` keeps the alarm"
            ),
            Refusal::BadHead(why) => write!(f, "it can't be recorded: {why}"),
            Refusal::TooManyRepositories => {
                write!(f, "the cluster remembers {REPOSITORIES_MAX} repositories already")
            }
        }
    }
}

impl core::error::Error for Refusal {}
