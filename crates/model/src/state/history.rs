//! What happened, and where the time of a move went.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authority::AuthorityId;
use crate::ids::{Epoch, NodeName, ReplicaId, ResourceName};
use crate::operation::Scope;
use crate::reason::Reason;
use crate::report::Failure;
use crate::state::RefoundKind;
use crate::time::ClusterMs;
use crate::vault::{ChainHead, RepositoryId};

/// Where the time of a move went, in microseconds, as the coordinator saw it. Their sum is the
/// measured recovery time of the resource, without what clients add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Timing {
    /// From the fault (last sign of life, exit of the process, order to move) until it was known.
    pub detect_us: u64,
    /// Until the old holder was proven unable to act.
    pub fence_us: u64,
    /// Until the decision was given to the log.
    pub decide_us: u64,
    /// Until it was committed and applied.
    pub commit_us: u64,
    /// Until the new holder was active.
    pub promote_us: u64,
}

impl Timing {
    /// The whole.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.detect_us + self.fence_us + self.decide_us + self.commit_us + self.promote_us
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Index of the entry.
    pub index: u64,
    /// When, in cluster time.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Who coordinated.
    pub by: ReplicaId,
    /// What.
    pub what: EventKind,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The cluster began.
    Began,
    /// A specification was committed.
    Applied {
        /// Its version.
        version: u64,
    },
    /// A node joined.
    Joined {
        /// Which.
        node: NodeName,
        /// Its incarnation.
        replica: ReplicaId,
    },
    /// A node left for good.
    Left {
        /// Which.
        node: NodeName,
    },
    /// A resource was given to a node.
    Assigned {
        /// What.
        resource: ResourceName,
        /// From where.
        from: Option<NodeName>,
        /// Where to.
        to: NodeName,
        /// Under which epoch.
        epoch: Epoch,
        /// Whether it was planned.
        planned: bool,
    },
    /// A holder was told to give up.
    Releasing {
        /// What.
        resource: ResourceName,
        /// Where.
        node: NodeName,
        /// Which epoch.
        epoch: Epoch,
    },
    /// A resource has no holder.
    Vacated {
        /// What.
        resource: ResourceName,
        /// Where it was.
        node: NodeName,
        /// Which epoch ended.
        epoch: Epoch,
    },
    /// A holder is active.
    Active {
        /// What.
        resource: ResourceName,
        /// Where.
        node: NodeName,
        /// Under which epoch.
        epoch: Epoch,
        /// Where the time went.
        timing: Timing,
    },
    /// An instance failed.
    Failed {
        /// What.
        resource: ResourceName,
        /// Where.
        node: NodeName,
        /// How.
        failure: Failure,
        /// End of the ban it led to.
        ban_until: Option<ClusterMs>,
    },
    /// A resource is kept out.
    Quarantined {
        /// Which.
        resource: ResourceName,
    },
    /// A resource's failures were forgotten.
    Cleared {
        /// Which.
        resource: ResourceName,
    },
    /// A planned move began.
    SwitchoverBegan {
        /// What.
        resource: ResourceName,
        /// Where to.
        to: NodeName,
    },
    /// A planned move was given up.
    SwitchoverEnded {
        /// What.
        resource: ResourceName,
    },
    /// An instance can't be stopped, and its node may not or can't be rebooted.
    Stuck {
        /// What.
        resource: ResourceName,
        /// Where.
        node: NodeName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// A maintenance began.
    MaintenanceBegan {
        /// Of what.
        scope: Scope,
        /// Until when.
        until: ClusterMs,
    },
    /// A maintenance ended.
    MaintenanceEnded {
        /// Of what.
        scope: Scope,
    },
    /// A drain began.
    DrainBegan {
        /// Where.
        node: NodeName,
        /// Until when.
        until: ClusterMs,
    },
    /// A drain ended.
    DrainEnded {
        /// Where.
        node: NodeName,
    },
    /// A node goes away for a moment and keeps its lease.
    Absent {
        /// Who.
        replica: ReplicaId,
        /// For how long at most, in milliseconds.
        for_ms: u64,
    },
    /// A coordinator handed over.
    Renounced {
        /// Its term.
        term: u64,
        /// To whom.
        candidate: ReplicaId,
    },
    /// A new generation began.
    Refounded {
        /// How.
        kind: RefoundKind,
        /// The generation before.
        before: u64,
        /// The new one.
        generation: u64,
        /// The last index that is known of the generation before.
        known: u64,
        /// Nodes that a person had said were off.
        off: Vec<NodeName>,
        /// Who did it.
        by: String,
        /// Why, in that person's words.
        why: String,
    },
    /// No lease of an earlier generation can run any more.
    WaitedOut {
        /// The present generation.
        generation: u64,
    },
    /// A repository of the vault is remembered from now on.
    RepositoryKnown {
        /// Which.
        repository: RepositoryId,
        /// Its newest record.
        head: ChainHead,
    },
    /// A repository of the vault has two histories.
    Forked {
        /// Which repository.
        repository: RepositoryId,
        /// The record that was shown.
        found: ChainHead,
        /// The one remembered.
        known: ChainHead,
        /// Who showed it.
        by: String,
    },
    /// What is remembered of a repository holds against a fork.
    ForkCleared {
        /// Which repository.
        repository: RepositoryId,
        /// The record that was shown.
        found: ChainHead,
    },
    /// Another chain of a repository holds from now on.
    HeadAccepted {
        /// Which repository.
        repository: RepositoryId,
        /// What was remembered.
        instead_of: ChainHead,
        /// What is remembered now.
        head: ChainHead,
    },
    /// A repository is remembered no more.
    RepositoryForgotten {
        /// Which.
        repository: RepositoryId,
        /// What was remembered.
        head: ChainHead,
    },
    /// A step of a rotation of the authority.
    Rotated {
        /// Which.
        step: RotatedStep,
        /// The authority that is given up.
        from: AuthorityId,
        /// The one that takes its place.
        to: AuthorityId,
        /// Members that are shut out by it.
        shut_out: Vec<NodeName>,
        /// People and programs that are known to be shut out by it.
        people: Vec<NodeName>,
    },
    /// A person or program got the next certificate.
    Certified {
        /// Whose.
        name: NodeName,
    },
    /// A person's or program's certificates are refused.
    Revoked {
        /// Whose.
        name: NodeName,
    },
}

/// What became of a rotation; see [`EventKind::Rotated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotatedStep {
    /// Everybody is to believe the new authority too.
    Began,
    /// The same, because the old one's key is in wrong hands.
    BeganCompromised,
    /// The new one issues.
    Renews,
    /// The old one is believed no more.
    Finished,
    /// It was broken off, nothing had been renewed.
    Aborted,
    /// It was broken off, and leads back.
    TurnedBack,
}
