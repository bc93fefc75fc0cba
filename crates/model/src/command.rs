//! What the log holds: entries, each one command with its reasons.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authority::{AuthorityId, RotationStep};
use crate::ids::{Epoch, NodeName, ReplicaId, ResourceName};
use crate::operation::Scope;
use crate::reason::Reason;
use crate::report::{Evidence, Failure};
use crate::spec::ClusterSpec;
use crate::state::{FailureKey, Genesis, JoinRequest, Timing, TokenRecord, TokenRole};
use crate::time::ClusterMs;
use crate::vault::{ChainHead, RepositoryId, SourceNews};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The coordinator that decided it.
    pub by: ReplicaId,
    /// Cluster time of the decision.
    pub now: ClusterMs,
    /// The coordinator's wall clock at the decision, Unix milliseconds; for people.
    pub wall_ms: u64,
    /// Names the request it answers, so that the asker learns of the commit.
    pub request: Option<RequestId>,
    /// What is to be done.
    pub command: Command,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Names a request: who coordinates numbers those it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The node that took the request in.
    pub replica: ReplicaId,
    /// The start count of its agent.
    pub boot: u64,
    /// Its number there.
    pub number: u64,
}

/// A change of the control state. Applying one whose precondition does not hold changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry.
    Genesis(Genesis),
    /// Proof that the coordinator's disk and quorum work; carries cluster time on.
    Barrier,
    /// A new specification. Precondition: `version` is one higher than the present.
    Apply {
        /// Its version.
        version: u64,
        /// The specification.
        spec: ClusterSpec,
        /// The text it was read from.
        text: String,
    },
    /// One join is permitted.
    AddToken {
        /// What is kept of the token.
        token: TokenRecord,
    },
    /// A node is in, as this replica. Precondition: the replica id is the next free one and the
    /// token unused (or the request a rejoin).
    Join {
        /// What the node said.
        request: JoinRequest,
        /// Its incarnation.
        replica: ReplicaId,
    },
    /// A person or program used a token for a certificate. Precondition: it is unused.
    UseToken {
        /// Hash of its secret.
        token: [u8; 32],
        /// Under which name.
        name: NodeName,
    },
    /// A node is out.
    Forget {
        /// Which.
        node: NodeName,
    },
    /// A resource's new holder. Precondition: `previous` is the resource's highest epoch and
    /// `epoch` is higher than every epoch before.
    Assign {
        /// What.
        resource: ResourceName,
        /// To whom.
        node: NodeName,
        /// In which incarnation.
        replica: ReplicaId,
        /// The resource's highest epoch until now.
        previous: Epoch,
        /// The new epoch.
        epoch: Epoch,
        /// Why the previous holder can't act any more; none where there was no holder.
        evidence: Option<Evidence>,
    },
    /// The holder has to give up. Precondition: it holds this epoch.
    Release {
        /// What.
        resource: ResourceName,
        /// The epoch to give up.
        epoch: Epoch,
    },
    /// There is no holder any more. Precondition: the holder held this epoch.
    Vacate {
        /// What.
        resource: ResourceName,
        /// The epoch that ended.
        epoch: Epoch,
        /// Why it can't act any more.
        evidence: Option<Evidence>,
    },
    /// The holder is active. Precondition: it holds this epoch.
    Active {
        /// What.
        resource: ResourceName,
        /// Under which epoch.
        epoch: Epoch,
        /// Where the time went.
        timing: Timing,
    },
    /// The holder's instance can't be stopped, nor its node rebooted. Precondition: it holds this
    /// epoch.
    Stuck {
        /// What.
        resource: ResourceName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// An instance failed. Precondition: this failure is not recorded yet.
    Failed {
        /// What.
        resource: ResourceName,
        /// Where.
        node: NodeName,
        /// Which failure.
        key: FailureKey,
        /// Whether it was active, and under which epoch.
        epoch: Option<Epoch>,
        /// How.
        failure: Failure,
        /// The node is left out until then.
        ban_until: Option<ClusterMs>,
        /// Nothing is started before then.
        hold_until: Option<ClusterMs>,
    },
    /// A resource is kept out because it failed too often.
    Quarantine {
        /// Which.
        resource: ResourceName,
    },
    /// Failures, bans and quarantine are forgotten.
    Clear {
        /// Of which resource.
        resource: ResourceName,
    },
    /// A planned move begins.
    Switchover {
        /// What.
        resource: ResourceName,
        /// Where to.
        to: NodeName,
    },
    /// A planned move is given up.
    EndSwitchover {
        /// Of which resource.
        resource: ResourceName,
    },
    /// Leave alone.
    Maintenance {
        /// What.
        scope: Scope,
        /// Until when.
        until: ClusterMs,
    },
    /// Don't leave alone any longer.
    EndMaintenance {
        /// What.
        scope: Scope,
    },
    /// Place nothing there.
    Drain {
        /// Where.
        node: NodeName,
        /// Until when.
        until: ClusterMs,
    },
    /// The node may be used again.
    Undrain {
        /// Which.
        node: NodeName,
    },
    /// A longer lease for a planned absence (rule 7). It counts from the request's sending at
    /// the node, from their own append at successors.
    Absence {
        /// Who.
        replica: ReplicaId,
        /// The number the node gave its request in this boot.
        request: u64,
        /// The boot of the request.
        boot: u64,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// The coordinator gives up its office in favour of `candidate` (rule 4): it grants and
    /// solicits nothing more in `term`, and the candidate may stand in the term after it.
    Renounce {
        /// The term that is given up.
        term: u64,
        /// Who may stand.
        candidate: ReplicaId,
    },
    /// A coordinator has waited until no lease of an earlier generation can run any more.
    /// Precondition: it is this generation, and nobody has said so yet.
    WaitedOut {
        /// The present generation.
        generation: u64,
    },
    /// A repository's chain has come so far. Precondition: `previous` is what is remembered, and
    /// `head` is newer, or the same with news of sources.
    RecordHead {
        /// Which repository.
        repository: RepositoryId,
        /// What was remembered; the writer has seen that `head` follows it.
        previous: Option<ChainHead>,
        /// Its newest record.
        head: ChainHead,
        /// Who says so.
        by: String,
        /// What there is of sources.
        sources: Vec<SourceNews>,
    },
    /// A repository has a record that can't follow, or precede, what is remembered.
    /// Precondition: `known` is remembered, and `found` is not noted yet.
    NoteFork {
        /// Which repository.
        repository: RepositoryId,
        /// The record that was shown.
        found: ChainHead,
        /// The one remembered that it stands against.
        known: ChainHead,
        /// Who showed it.
        by: String,
    },
    /// An operator has looked into a fork: what is remembered holds. Precondition: it is noted.
    ClearFork {
        /// Which repository.
        repository: RepositoryId,
        /// The record that was shown.
        found: ChainHead,
    },
    /// An operator decided that another chain holds from now on. Precondition: `instead_of` is
    /// what is remembered.
    AcceptHead {
        /// Which repository.
        repository: RepositoryId,
        /// What was remembered.
        instead_of: ChainHead,
        /// What is to be remembered.
        head: ChainHead,
        /// Who said so.
        by: String,
    },
    /// A repository is remembered no more. Precondition: `head` is what is remembered.
    ForgetRepository {
        /// Which.
        repository: RepositoryId,
        /// What was remembered.
        head: ChainHead,
    },
    /// A step of a rotation of the authority. Precondition: the one before was taken, towards the
    /// same authority.
    Rotate {
        /// The new authority.
        to: AuthorityId,
        /// The step.
        step: RotationStep,
    },
    /// A person or program gets the next certificate. Precondition: its name is not refused.
    Certify {
        /// Whose.
        name: NodeName,
        /// As what.
        role: TokenRole,
        /// Which authority issues it.
        authority: AuthorityId,
    },
    /// Certificates of a person or program are refused.
    Revoke {
        /// Whose.
        name: NodeName,
        /// For so long.
        until: ClusterMs,
    },
}
