//! What begins a new generation: quorum-loss recovery and import of exported control state.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{JoinRequest, MemberRole};
use crate::ids::{NodeName, ReplicaId};

/// Longest reason that a person may give for a new generation, in bytes.
pub const WHY_MAX: usize = 500;

/// How a generation came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefoundKind {
    /// A majority of the voters was lost for good; a survivor's log went on.
    Recovered,
    /// The control state came from an exported file.
    Imported,
}

/// All that a new generation begins with, beside the control state of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refounding {
    /// How it came about.
    pub kind: RefoundKind,
    /// The cluster's id from now on: another one where the authority is another.
    pub cluster_id: u128,
    /// Higher than every generation before, and drawn by nobody else.
    pub generation: u64,
    /// The log index at which it begins, above all of the generation before.
    pub index: u64,
    /// The only member that it begins with: a voter.
    pub founder: JoinRequest,
    /// The other members may come back by certificate: the authority is still the same.
    pub keep_identities: bool,
    /// Certificates of the authorities that are trusted, PEM.
    pub authorities: Vec<String>,
    /// How long leases of earlier generations may still run, in milliseconds.
    pub wait_ms: u64,
    /// Nodes that a person has said are off.
    pub off: Vec<NodeName>,
    /// Who did it.
    pub by: String,
    /// Why, in that person's words; [`WHY_MAX`] bytes at most.
    pub why: String,
    /// When, Unix milliseconds.
    pub wall_ms: u64,
}

/// A member of an earlier generation: barred as what it was, welcome under a new incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// What it may be when it comes back.
    pub role: MemberRole,
    /// The incarnation that is barred for good.
    pub barred: ReplicaId,
}

/// Leases of earlier generations may run still: nothing is placed before a coordinator of this
/// one has waited so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitOut {
    /// How long, in milliseconds, from the coordinator's election.
    pub ms: u64,
}
