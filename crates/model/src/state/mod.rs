//! The replicated control state. It is changed by `brain::cluster::apply` alone.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authority::Trust;
use crate::ids::{Epoch, NodeName, ReplicaId, ResourceName};
use crate::profile::Profile;
use crate::reason::Reason;
use crate::report::{Evidence, Failure};
use crate::spec::ClusterSpec;
use crate::time::ClusterMs;
use crate::vault::{ChainRecord, RepositoryId};

mod generation;
mod history;

pub use generation::{Awaited, RefoundKind, Refounding, WHY_MAX, WaitOut};
pub use history::{Event, EventKind, RotatedStep, Timing};

/// Most events kept for `events` and `explain`; older ones are in the log and its archive.
pub const HISTORY_MAX: usize = 1_000;
/// Most failures kept per resource.
pub const FAILURES_MAX: usize = 64;
/// Most moves kept per resource.
pub const MOVES_MAX: usize = 16;
/// Most join tokens, used ones included until they expire.
pub const TOKENS_MAX: usize = 256;

/// All that the cluster has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ClusterState {
    /// Drawn at random by `init`; peers of another cluster are refused.
    pub cluster_id: u128,
    /// Rises when control state was imported or quorum overridden; part of every new epoch.
    pub generation: u64,
    /// Index of the last entry applied.
    pub index: u64,
    /// Cluster time of the last entry.
    pub now: ClusterMs,
    /// Wall clock of the last entry, Unix milliseconds; for people.
    pub wall_ms: u64,
    /// Version of the specification, from 1.
    pub spec_version: u64,
    /// The specification.
    pub spec: ClusterSpec,
    /// The text it was read from.
    pub spec_text: String,
    /// Certificates of the authorities that are trusted, PEM; the first one issues.
    pub authorities: Vec<String>,
    /// Nodes that joined.
    pub members: BTreeMap<NodeName, Member>,
    /// The next free replica id.
    pub next_replica: u64,
    /// Join tokens, by the hash of their secret.
    pub tokens: BTreeMap<[u8; 32], TokenRecord>,
    /// The highest epoch given to any resource.
    pub last_epoch: Epoch,
    /// Resources, as long as they are specified or held.
    pub resources: BTreeMap<ResourceName, ResourceState>,
    /// End of a maintenance of everything.
    pub maintenance_until: Option<ClusterMs>,
    /// The newest renounced term and who may stand after it.
    pub renounced: Option<Renounced>,
    /// Longer leases, by node incarnation.
    pub absences: BTreeMap<ReplicaId, Absence>,
    /// The profile with the longest lease that may have been granted with, besides the present
    /// one: a shorter one was applied lately.
    pub longer: Option<LongerProfile>,
    /// Members of an earlier generation that have not come back.
    pub awaited: BTreeMap<NodeName, Awaited>,
    /// Nothing is placed yet: leases of an earlier generation may run still.
    pub wait_out: Option<WaitOut>,
    /// How far the chains of the vault's repositories had come.
    pub repositories: BTreeMap<RepositoryId, ChainRecord>,
    /// What happened, oldest first.
    pub history: VecDeque<Event>,
    /// Who issues certificates, a rotation of the authority, people and who is refused.
    #[serde(default)]
    pub trust: Trust,
}

/// What the first entry holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// See [`ClusterState::cluster_id`].
    pub cluster_id: u128,
    /// See [`ClusterState::generation`].
    pub generation: u64,
    /// The specification.
    pub spec: ClusterSpec,
    /// Its text.
    pub text: String,
    /// Authority certificates, PEM.
    pub authorities: Vec<String>,
    /// The first node.
    pub first: JoinRequest,
}

/// See rule 4 and [`crate::Command::Renounce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renounced {
    /// The term that was given up.
    pub term: u64,
    /// Who may stand in the next.
    pub candidate: ReplicaId,
}

/// See rule 7 and [`crate::Command::Absence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Index of the entry.
    pub index: u64,
    /// When it was decided.
    pub at: ClusterMs,
    /// Boot of the request.
    pub boot: u64,
    /// Number of the request in that boot.
    pub request: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// See [`ClusterState::longer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongerProfile {
    /// Which.
    pub profile: Profile,
    /// Until when leases of it may run.
    pub until: ClusterMs,
}

/// What a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Votes and runs resources.
    Voter,
    /// Votes, runs nothing.
    Witness,
    /// Runs resources without a vote.
    Member,
}

/// What a join token lets its user be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// A node that votes and runs resources.
    Voter,
    /// A node that votes and runs nothing.
    Witness,
    /// A node that runs resources without a vote.
    Member,
    /// A person or program that may change the cluster.
    Operator,
    /// A person or program that may look.
    Viewer,
}

impl TokenRole {
    /// What a node that joins with it is; none for people and programs.
    #[must_use]
    pub const fn member(self) -> Option<MemberRole> {
        match self {
            TokenRole::Voter => Some(MemberRole::Voter),
            TokenRole::Witness => Some(MemberRole::Witness),
            TokenRole::Member => Some(MemberRole::Member),
            TokenRole::Operator | TokenRole::Viewer => None,
        }
    }
}

/// A node that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its present incarnation.
    pub replica: ReplicaId,
    /// What it may be.
    pub role: MemberRole,
    /// Public key for sealed datagrams (X25519).
    pub datagram_key: [u8; 32],
    /// When this incarnation joined.
    pub joined: ClusterMs,
    /// End of a drain.
    pub drain_until: Option<ClusterMs>,
    /// End of a maintenance of this node.
    pub maintenance_until: Option<ClusterMs>,
}

/// What a node says when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Its name in the specification.
    pub node: NodeName,
    /// What it wants to be.
    pub role: MemberRole,
    /// Hash of the token's secret; none for the first node and for a rejoin, which a certificate
    /// proves.
    pub token: Option<[u8; 32]>,
    /// Public key for sealed datagrams (X25519).
    pub datagram_key: [u8; 32],
}

/// What the cluster keeps of a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// BLAKE3 of the secret.
    pub hash: [u8; 32],
    /// The role it permits.
    pub role: TokenRole,
    /// The only name it permits, where set.
    pub node: Option<NodeName>,
    /// End of its life.
    pub expires: ClusterMs,
    /// Whether it was used.
    pub used: bool,
}

/// The state of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ResourceState {
    /// The highest epoch it was given.
    pub epoch: Epoch,
    /// Who may be active.
    pub holder: Option<Holder>,
    /// Where it was last.
    pub last_node: Option<NodeName>,
    /// A planned move under way.
    pub switchover: Option<Wanted>,
    /// Failures within memory, oldest first.
    pub failures: VecDeque<FailureRecord>,
    /// Nodes left out, and until when.
    pub bans: BTreeMap<NodeName, ClusterMs>,
    /// Kept out because it failed too often.
    pub quarantine: Option<Quarantine>,
    /// Nothing is started before then.
    pub hold_until: ClusterMs,
    /// End of a maintenance of this resource.
    pub maintenance_until: Option<ClusterMs>,
    /// Moves, oldest first.
    pub moves: VecDeque<Move>,
    /// The newest specification version that changed how it runs: a holder assigned under an
    /// older one has to start anew.
    pub changed_version: u64,
}

/// Who may be active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Since when.
    pub since: ClusterMs,
    /// Since when on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// It has to give up.
    pub releasing: bool,
    /// It said that it is active.
    pub active: bool,
    /// Its node said that the instance can't be stopped and that no reboot will end it: only
    /// proof that it is gone lets another node take over, a lapsed lease does not.
    pub stuck: bool,
    /// The specification version it was assigned under.
    pub spec_version: u64,
}

/// A planned move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where to.
    pub to: NodeName,
    /// Since when.
    pub since: ClusterMs,
}

/// Names a failure, so that it is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailureKey {
    /// Who reported it.
    pub replica: ReplicaId,
    /// In which boot.
    pub boot: u64,
    /// Its number there.
    pub number: u64,
}

/// A failure, remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// Which.
    pub key: FailureKey,
    /// Where.
    pub node: NodeName,
    /// Whether it was active, and under which epoch.
    pub epoch: Option<Epoch>,
    /// How.
    pub failure: Failure,
    /// When.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// Kept out because it failed too often. It ends by `clear` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Since when.
    pub since: ClusterMs,
    /// Since when on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A move of a resource, measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Index of the assignment.
    pub index: u64,
    /// From where; none for the first placement.
    pub from: Option<NodeName>,
    /// Where to.
    pub to: NodeName,
    /// The new epoch.
    pub epoch: Epoch,
    /// Whether an operator or a plan asked for it.
    pub planned: bool,
    /// When it was decided.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What it rests on.
    pub evidence: Option<Evidence>,
    /// Where the time went, once it is active.
    pub timing: Option<Timing>,
}

impl ClusterState {
    /// The node of an incarnation.
    #[must_use]
    pub fn node_of(&self, replica: ReplicaId) -> Option<&NodeName> {
        self.members.iter().find(|(_, m)| m.replica == replica).map(|(name, _)| name)
    }

    /// The present incarnation of a node.
    #[must_use]
    pub fn replica_of(&self, node: &NodeName) -> Option<ReplicaId> {
        self.members.get(node).map(|m| m.replica)
    }

    /// Whether the resource is covered by a maintenance of any kind.
    #[must_use]
    pub fn in_maintenance(&self, resource: &ResourceName) -> bool {
        let until = |end: Option<ClusterMs>| end.is_some_and(|end| end > self.now);
        let Some(state) = self.resources.get(resource) else {
            return until(self.maintenance_until);
        };
        let held_by = state.holder.as_ref().and_then(|h| self.members.get(&h.node));
        until(self.maintenance_until)
            || until(state.maintenance_until)
            || held_by.is_some_and(|m| until(m.maintenance_until))
    }

    /// Replica ids that belong into the consensus group.
    #[must_use]
    pub fn replicas(&self) -> BTreeSet<ReplicaId> {
        self.members.values().map(|m| m.replica).collect()
    }
}

impl ResourceState {
    /// The node of the holder.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.holder.as_ref().map(|h| &h.node)
    }
}
