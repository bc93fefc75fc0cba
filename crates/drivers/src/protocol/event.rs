//! What the launcher tells the agent.

use model::{Epoch, Moment, ResourceName};
use serde::{Deserialize, Serialize};

use super::Role;

/// Most bytes of an instance's last output that an event carries.
pub const TAIL_BYTES_MAX: usize = 2_048;

/// Proof that an instance is gone (DESIGN.md, rule 6): its cgroup was seen empty, or, without
/// cgroups, no descendant of it is left under the launcher and its process group is gone. It is
/// only ever made after that was seen, and its epoch is burnt: nothing becomes active under it
/// on this node again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of which resource.
    pub resource: ResourceName,
    /// The number that the agent gave the instance.
    pub number: u64,
    /// The instance's newest epoch.
    pub epoch: Epoch,
    /// The role it had at the end.
    pub role: Role,
    /// Incarnation of the guard that stood by; 0 for a standby that none had to.
    pub guard: u64,
    /// When it was seen to be gone, on this node's boot-time clock.
    pub at: Moment,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It left with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It never ran, or nobody could see how it ended.
    Unknown,
}

/// Why an instance was stopped or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It ended by itself.
    ItsOwn,
    /// The agent asked, for this reason.
    Asked(String),
    /// The lease ended (or was about to) and was not renewed.
    LeaseEnd,
    /// No living guard.
    GuardLost,
    /// It could not be started: what failed.
    StartFailed(String),
    /// It was not ready in time.
    NotReady,
    /// It did not become active: what it said.
    PromoteFailed(String),
    /// It did not become standby in time.
    DemoteFailed,
    /// It can change roles only by being stopped.
    RoleChange,
    /// The launcher is leaving.
    Shutdown,
}

/// An instance that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The proof.
    pub evidence: Evidence,
    /// How its leading process ended.
    pub status: Status,
    /// Why.
    pub why: Why,
    /// Its last output, at most [`TAIL_BYTES_MAX`] bytes; empty in a list.
    pub output_tail: String,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being started; not ready.
    Starting,
    /// Running and ready, as a standby.
    Standby,
    /// On its way from standby to active.
    Promoting,
    /// Running and ready, active.
    Active,
    /// On its way from active to standby.
    Demoting,
    /// Being stopped.
    Stopping,
    /// Killed, and still not gone.
    Unkillable,
}

/// One instance, as [`Event::Instances`] tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Of which resource.
    pub resource: ResourceName,
    /// The number that the agent gave it.
    pub number: u64,
    /// Its role; active from the moment it may act.
    pub role: Role,
    /// Its newest epoch.
    pub epoch: Epoch,
    /// Its leading process; 0 before there is one.
    pub pid: u32,
    /// Whether it became ready.
    pub ready: bool,
    /// What it is doing.
    pub phase: Phase,
    /// When it was started.
    pub since: Moment,
}

/// Which request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Specify.
    Specify,
    /// Start.
    Start,
    /// Promote.
    Promote,
    /// Demote.
    Demote,
    /// Stop.
    Stop,
    /// Ready.
    Ready,
    /// ExecProbe.
    ExecProbe,
}

/// Why a request was refused. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The committed specification doesn't name the resource (or the check).
    #[error("the committed specification names no such resource or check")]
    NotSpecified,
    /// The specification is older than the one known.
    #[error("a specification of version {known} is already known")]
    OldSpecification {
        /// The newer one.
        known: u64,
    },
    /// A higher epoch was seen.
    #[error("epoch {highest} was seen for this resource, which is higher")]
    StaleEpoch {
        /// The highest.
        highest: Epoch,
    },
    /// Nothing becomes active under this epoch here any more.
    #[error("this epoch is burnt on this node: its instance was stopped")]
    BurntEpoch,
    /// The node has no lease that covers more than the guard's stopping time.
    #[error("the node holds no lease")]
    NoLease,
    /// No living guard.
    #[error("no guard is there, or it did not answer: without a guard nothing becomes active")]
    NoGuard,
    /// It runs already, differently.
    #[error("an instance already runs")]
    AlreadyRunning,
    /// None runs.
    #[error("no instance runs")]
    NotRunning,
    /// It is changing already; ask again when it has.
    #[error("the instance is changing already")]
    Busy,
    /// Too many at once.
    #[error("the limit of {0} is reached")]
    Limit(u32),
    /// The launcher is leaving.
    #[error("the launcher is stopping")]
    Leaving,
    /// The host refused; what happened.
    #[error("it could not be prepared: {0}")]
    Host(String),
}

/// What the launcher tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Answer to `Hello`.
    Hello {
        /// The launcher's [`super::PROTOCOL_VERSION`].
        version: u32,
        /// Number of this launcher, random.
        launcher: u64,
        /// The guard's incarnation; 0 where none is connected.
        guard: u64,
        /// Version of the specification it holds; 0 for none.
        specification: u64,
        /// Whether instances have cgroups of their own.
        cgroups: bool,
    },
    /// Answer to `List`.
    Instances {
        /// What runs.
        running: Vec<InstanceView>,
        /// The last evidence of resources of which nothing runs.
        gone: Vec<Gone>,
        /// Epochs that are burnt here, the highest of each resource.
        burnt: Vec<(ResourceName, Epoch)>,
    },
    /// A specification was taken over.
    Specified {
        /// Its version.
        version: u64,
    },
    /// A request was refused.
    Refused {
        /// Which.
        asked: Asked,
        /// For which resource.
        resource: Option<ResourceName>,
        /// Under which epoch.
        epoch: Epoch,
        /// Why.
        why: Refusal,
    },
    /// The program runs.
    Started {
        /// Of which resource.
        resource: ResourceName,
        /// Its epoch.
        epoch: Epoch,
        /// In which role.
        role: Role,
        /// Its leading process.
        pid: u32,
    },
    /// It is ready (see `Ready` in the specification).
    Ready {
        /// Of which resource.
        resource: ResourceName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// It is active.
    Active {
        /// Of which resource.
        resource: ResourceName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// It is a standby again. This is its own word, no evidence.
    Standby {
        /// Of which resource.
        resource: ResourceName,
        /// The epoch it gave up.
        epoch: Epoch,
    },
    /// It did not become active. It is being stopped; evidence follows.
    PromoteFailed {
        /// Of which resource.
        resource: ResourceName,
        /// The epoch.
        epoch: Epoch,
        /// What it said.
        reason: String,
    },
    /// It ended by itself; what it left behind was killed, and everything is gone.
    Exited(Gone),
    /// It was stopped, and everything is gone.
    Stopped(Gone),
    /// It was killed and is still there. No evidence; the launcher keeps trying.
    StopFailed {
        /// Of which resource.
        resource: ResourceName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The guard stopped an instance because the lease ended; the epoch is burnt. Where `empty`
    /// is true, the guard itself has seen that it is gone.
    Burnt {
        /// Of which resource.
        resource: ResourceName,
        /// Which epoch.
        epoch: Epoch,
        /// The guard's incarnation.
        guard: u64,
        /// Whether everything is gone.
        empty: bool,
    },
    /// The guard could not stop an instance, and could not (or may not) reboot.
    GuardAlarm {
        /// Of which resource.
        resource: ResourceName,
        /// Which epoch.
        epoch: Epoch,
        /// What was tried.
        reason: String,
    },
    /// No living guard: active instances are being stopped, none is made active.
    GuardLost,
    /// A guard is there.
    GuardBack {
        /// Its incarnation.
        guard: u64,
    },
    /// A health check's command ended.
    ProbeResult {
        /// Of which resource.
        resource: ResourceName,
        /// Which health check.
        index: u32,
        /// Nothing where it passed, else what went wrong.
        failure: Option<String>,
    },
    /// The connection to the launcher is gone: the client makes this one itself. As the first and
    /// only event of a launcher it says why a connection is refused.
    Disconnected {
        /// What happened.
        reason: String,
    },
}
