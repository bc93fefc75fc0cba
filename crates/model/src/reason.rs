//! Why something was decided: data here, sentences in [`core::fmt::Display`] alone.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, NodeName, ResourceName};
use crate::report::{EvidenceGround, Failure};

/// One reason of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The cluster or the resource is new.
    FirstPlacement,
    /// The instance failed.
    Failed {
        /// Where.
        node: NodeName,
        /// How.
        failure: Failure,
    },
    /// The node was not heard until its last grant had passed.
    NodeLost {
        /// Which.
        node: NodeName,
        /// How long it had been silent, in milliseconds.
        silent_ms: u64,
    },
    /// The node said itself that its lease had lapsed.
    LeaseLapsed {
        /// Which.
        node: NodeName,
    },
    /// The node had no launcher or no guard for long, and its last grant has passed.
    NotReady {
        /// Which.
        node: NodeName,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// The node's replica was replaced by a newer incarnation or removed.
    NodeReplaced {
        /// Which.
        node: NodeName,
    },
    /// The old holder can never act again under its epoch.
    Evidence {
        /// The holder.
        node: NodeName,
        /// The burnt epoch.
        epoch: Epoch,
        /// What the evidence rests on.
        ground: EvidenceGround,
    },
    /// Someone asked for it.
    Asked {
        /// Who, from the certificate.
        by: String,
    },
    /// The node is being drained.
    Draining {
        /// Which.
        node: NodeName,
    },
    /// The node left the specification or may no longer run this.
    NotAllowed {
        /// Which.
        node: NodeName,
    },
    /// The specification changed.
    SpecChanged {
        /// Its new version.
        version: u64,
    },
    /// Chosen: a ready hot standby.
    StandbyReady {
        /// Where.
        node: NodeName,
    },
    /// Chosen: the place it is or was.
    Stays {
        /// Where.
        node: NodeName,
    },
    /// Chosen: listed in `prefer`.
    Preferred {
        /// Where.
        node: NodeName,
        /// Place in the list, from 1.
        rank: u32,
    },
    /// Chosen: the fewest active instances.
    LeastBusy {
        /// Where.
        node: NodeName,
    },
    /// Chosen or bound: `with` another resource.
    With {
        /// The other.
        resource: ResourceName,
        /// Where that is.
        node: NodeName,
    },
    /// Waits until another resource is active.
    After {
        /// The other.
        resource: ResourceName,
    },
    /// A node that was not chosen, and why.
    Rejected {
        /// Which.
        node: NodeName,
        /// Why.
        why: WhyNot,
    },
    /// Restart number `n` of `of` within the window.
    Restart {
        /// Which restart this is.
        n: u32,
        /// How many are allowed.
        of: u32,
        /// Pause before it, in milliseconds.
        pause_ms: u64,
    },
    /// The restarts on this node are used up.
    RestartsUsedUp {
        /// Where.
        node: NodeName,
    },
    /// It failed the same way on several nodes: it would fail anywhere.
    Poison {
        /// Where it failed.
        nodes: Vec<NodeName>,
        /// How.
        failure: Failure,
    },
    /// Nowhere to go.
    NoCandidate,
    /// A preferred node came back and failback is automatic.
    Failback {
        /// Which.
        node: NodeName,
    },
    /// A resource reported a higher epoch than the cluster knew.
    HigherEpochSeen {
        /// The epoch.
        epoch: Epoch,
    },
    /// The set end of a maintenance, drain or ban has passed.
    Expired,
    /// The holder belonged to an earlier generation, whose leases were waited for.
    EarlierGeneration {
        /// The present generation.
        generation: u64,
    },
    /// The node is heard, but its log stood still, and its last grant has passed.
    LogStandsStill {
        /// Which.
        node: NodeName,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// Why a node was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyNot {
    /// It is a witness.
    Witness,
    /// It has not joined.
    NotJoined,
    /// It is not heard.
    Down,
    /// Its launcher or guard is not there.
    NotReady,
    /// It has lost its lease and holds no other yet.
    NoLease,
    /// It is being drained.
    Draining,
    /// It is in maintenance.
    Maintenance,
    /// The resource may not be placed there.
    NotInNodes,
    /// It failed there too often; until this cluster time in milliseconds.
    Banned {
        /// End of the ban.
        until_ms: u64,
    },
    /// It is still catching up with the log.
    CatchingUp,
    /// `with` binds the resource to another node.
    With {
        /// To which resource.
        resource: ResourceName,
    },
    /// Another node is better.
    Outranked,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Witness => write!(f, "it is a witness"),
            WhyNot::NotJoined => write!(f, "it has not joined"),
            WhyNot::Down => write!(f, "it is not heard"),
            WhyNot::NotReady => write!(f, "its launcher or guard is not running"),
            WhyNot::NoLease => write!(f, "it holds no lease"),
            WhyNot::Draining => write!(f, "it is being drained"),
            WhyNot::Maintenance => write!(f, "it is in maintenance"),
            WhyNot::NotInNodes => write!(f, "the resource's `nodes` doesn't list it"),
            WhyNot::Banned { .. } => write!(f, "the resource failed there too often"),
            WhyNot::CatchingUp => write!(f, "it is still catching up with the log"),
            WhyNot::With { resource } => write!(f, "{resource} is elsewhere"),
            WhyNot::Outranked => write!(f, "another node is better"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Exited { signal: Some(signal), .. } => {
                write!(f, "its process was killed by signal {signal}")
            }
            Failure::Exited { status: Some(status), .. } => {
                write!(f, "its process exited with status {status}")
            }
            Failure::Exited { .. } => write!(f, "its process is gone"),
            Failure::Unhealthy { check, answer } => {
                write!(f, "health check {check} failed: {answer}")
            }
            Failure::StartFailed(why) => write!(f, "it could not be started: {why}"),
            Failure::NotReady => write!(f, "it was not ready in time"),
            Failure::PromoteFailed(why) => write!(f, "it did not become active: {why}"),
            Failure::StopFailed => write!(f, "it could not be stopped"),
        }
    }
}

impl fmt::Display for EvidenceGround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EvidenceGround::Empty => "its processes are gone",
            EvidenceGround::Demoted => "it confirmed its demotion",
            EvidenceGround::NeverStarted => "it was never started there",
            EvidenceGround::Lapsed => "its lease lapsed and the guard stopped it",
            EvidenceGround::Confirmed => "a person confirmed that its machine is off",
            EvidenceGround::AddressGone => "its address is gone",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::FirstPlacement => write!(f, "it had no place yet"),
            Reason::Failed { node, failure } => write!(f, "on {node} {failure}"),
            Reason::NodeLost { node, silent_ms } => {
                write!(f, "{node} was silent for {silent_ms} ms and its last lease has passed")
            }
            Reason::LeaseLapsed { node } => write!(f, "{node}'s lease lapsed"),
            Reason::LogStandsStill { node, for_ms } => write!(
                f,
                "{node} is heard, but its log has stood still for {for_ms} ms (look at its disk), \
                 and its last lease has passed"
            ),
            Reason::NotReady { node, for_ms } => write!(
                f,
                "{node} had no launcher or no guard for {for_ms} ms and its last lease has passed"
            ),
            Reason::NodeReplaced { node } => {
                write!(f, "{node} came back as a new incarnation or was removed")
            }
            Reason::Evidence { node, epoch, ground } => {
                write!(f, "epoch {epoch} can't act on {node} again: {ground}")
            }
            Reason::Asked { by } => write!(f, "{by} asked for it"),
            Reason::Draining { node } => write!(f, "{node} is being drained"),
            Reason::NotAllowed { node } => write!(f, "it may no longer run on {node}"),
            Reason::SpecChanged { version } => write!(f, "specification {version} changed it"),
            Reason::StandbyReady { node } => write!(f, "{node} has a ready hot standby"),
            Reason::Stays { node } => write!(f, "it was on {node} already"),
            Reason::Preferred { node, rank } => write!(f, "{node} is number {rank} in `prefer`"),
            Reason::LeastBusy { node } => write!(f, "{node} has the least to do"),
            Reason::With { resource, node } => write!(f, "{resource} is on {node}"),
            Reason::After { resource } => write!(f, "{resource} is not active yet"),
            Reason::Rejected { node, why } => write!(f, "not {node}: {why}"),
            Reason::Restart { n, of, pause_ms } => {
                write!(f, "restart {n} of {of}, after a pause of {pause_ms} ms")
            }
            Reason::RestartsUsedUp { node } => write!(f, "its restarts on {node} are used up"),
            Reason::Poison { nodes, failure } => {
                write!(f, "it failed the same way on")?;
                for (i, node) in nodes.iter().enumerate() {
                    write!(f, "{} {node}", if i == 0 { "" } else { "," })?;
                }
                write!(f, " ({failure}), so it would fail anywhere")
            }
            Reason::NoCandidate => write!(f, "no node can run it"),
            Reason::Failback { node } => write!(f, "{node} is back and failback is automatic"),
            Reason::HigherEpochSeen { epoch } => write!(f, "it reported epoch {epoch}"),
            Reason::Expired => write!(f, "its set end has passed"),
            Reason::EarlierGeneration { generation } => write!(
                f,
                "generation {generation} began anew, and leases of the one before were waited for"
            ),
        }
    }
}
