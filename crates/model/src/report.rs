//! What a node's member machine tells the coordinator, over the peer connection.
//!
//! A report is whole: it replaces the one before it. It is sent when something changed and every
//! second besides, so that losing one costs nothing.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authority::Identity;
use crate::ids::{Epoch, ReplicaId, ResourceName};

/// Most failures carried in one report; older ones wait for the next.
pub const REPORT_FAILURES_MAX: usize = 32;

/// The state of one node, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub replica: ReplicaId,
    /// The start count of its agent.
    pub boot: u64,
    /// Rises with each report of a boot.
    pub number: u64,
    /// How far it has applied the log.
    pub applied: u64,
    /// The incarnation of its guard, where one is alive and confirmed.
    pub guard: Option<u64>,
    /// Whether it can run anything at all: launcher and guard are there.
    pub ready: bool,
    /// It can't run anything, and nothing active is left: the guard that covered what a lost
    /// launcher ran has seen so, or the launcher itself, which lost its guard.
    pub clear: bool,
    /// Whether it holds a lease under which something may become active.
    pub leased: bool,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
    /// Epochs that can never be active here (again).
    pub evidence: Vec<Evidence>,
    /// Failures that the cluster state doesn't list yet, oldest first.
    pub failures: Vec<FailureReport>,
    /// Peers it hears, per link.
    pub heard: Vec<Heard>,
    /// Its certificate, as its agent has told.
    pub identity: Option<Identity>,
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstancePhase {
    /// Started, not ready yet.
    Starting,
    /// Ready, not active.
    Standby,
    /// Being promoted.
    Promoting,
    /// Active.
    Active,
    /// Being demoted or stopped.
    Stopping,
    /// It was asked to stop and did not; it may still act.
    Stuck,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Of which resource.
    pub resource: ResourceName,
    /// What it does.
    pub phase: InstancePhase,
    /// The epoch it holds, where it was handed one.
    pub epoch: Option<Epoch>,
    /// Whether its health checks pass.
    pub healthy: bool,
    /// When it became active on this node's boot-time clock in microseconds; 0 where it isn't.
    pub active_at_us: u64,
}

/// A statement that cannot be taken back (rule 6): on this node, this epoch is not active and
/// never will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The resource.
    pub resource: ResourceName,
    /// The burnt epoch.
    pub epoch: Epoch,
    /// The node's incarnation.
    pub replica: ReplicaId,
    /// The guard's incarnation, where it took part.
    pub guard: Option<u64>,
    /// What it rests on.
    pub ground: EvidenceGround,
    /// How long ago it came about, in microseconds, when the report was made.
    pub age_us: u64,
}

/// What evidence rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceGround {
    /// The instance's processes are gone and its cgroup (or process tree) is empty.
    Empty,
    /// The instance confirmed that it was demoted.
    Demoted,
    /// The epoch was never acted on here, and is refused from now on.
    NeverStarted,
    /// The node's lease lapsed and its guard stopped what it covered.
    Lapsed,
    /// A person confirmed that the machine is off.
    Confirmed,
    /// What held the address is gone, and so is the address: the kernel lists it no more.
    AddressGone,
}

/// One failure of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReport {
    /// Of which resource.
    pub resource: ResourceName,
    /// Counts failures of this boot; with replica and boot it names the failure.
    pub number: u64,
    /// Whether the instance was active, and under which epoch.
    pub epoch: Option<Epoch>,
    /// What failed.
    pub failure: Failure,
    /// How long ago, in microseconds, when the report was made.
    pub age_us: u64,
}

/// How an instance failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    /// It exited by itself.
    Exited {
        /// Exit status, where it exited.
        status: Option<i32>,
        /// Signal number, where it was killed.
        signal: Option<i32>,
    },
    /// A health check failed as often as its limit says.
    Unhealthy {
        /// Which check, in words.
        check: String,
        /// What it answered.
        answer: String,
    },
    /// It could not be started.
    StartFailed(String),
    /// It was not ready in time.
    NotReady,
    /// It refused to become active or took too long.
    PromoteFailed(String),
    /// It could not be stopped.
    StopFailed,
}

impl Failure {
    /// The way it failed, without the particulars: the poison guard compares these.
    #[must_use]
    pub fn signature(&self) -> FailureSignature {
        match self {
            Failure::Exited { status, signal } => {
                FailureSignature::Exited { status: *status, signal: *signal }
            }
            Failure::Unhealthy { .. } => FailureSignature::Unhealthy,
            Failure::StartFailed(_) => FailureSignature::StartFailed,
            Failure::NotReady => FailureSignature::NotReady,
            Failure::PromoteFailed(_) => FailureSignature::PromoteFailed,
            Failure::StopFailed => FailureSignature::StopFailed,
        }
    }
}

/// See [`Failure::signature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureSignature {
    /// Exited alike.
    Exited {
        /// Exit status.
        status: Option<i32>,
        /// Signal number.
        signal: Option<i32>,
    },
    /// A health check failed.
    Unhealthy,
    /// Did not start.
    StartFailed,
    /// Was not ready in time.
    NotReady,
    /// Did not become active.
    PromoteFailed,
    /// Did not stop.
    StopFailed,
}

/// Whom a node hears, on which links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The peer.
    pub peer: ReplicaId,
    /// Bit `i` is set where the peer was heard on link `i` within the last ten intervals.
    pub links: u16,
    /// Whether the peer connection is up.
    pub connected: bool,
    /// Datagrams lost of the last hundred, over all links.
    pub lost_percent: u8,
}
