//! The heartbeat: the one datagram of the lease protocol (DESIGN.md, "Time, leases, epochs").
//!
//! Every node sends one to every other on every link each `h`. The same struct carries, where
//! they apply, the coordinator's round, a voter's acknowledgement of a round, and a lease grant.

use serde::{Deserialize, Serialize};

use crate::ids::ReplicaId;
use crate::time::Span;

/// One heartbeat, made for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who sends it.
    pub sender: ReplicaId,
    /// Counts the starts of the sender's agent; durable, so that it only rises.
    pub boot: u64,
    /// Counts heartbeats since that start. The copies for all links and destinations of one
    /// beat share it.
    pub seq: u64,
    /// The sender's Raft term.
    pub term: u64,
    /// The newest heartbeat that the sender has received from the destination.
    pub ack: Option<Ack>,
    /// Present where the sender coordinates and solicits promises: this heartbeat is a round.
    pub round: Option<Round>,
    /// Present where the sender binds itself to the destination's newest round (rule 1).
    pub promised: Option<Promised>,
    /// Present where the sender coordinates and grants the destination a lease (rule 3). It is
    /// counted from the sending of the heartbeat named in `ack`.
    pub grant: Option<Grant>,
    /// How many leases lapsed at the sender in this boot. A rise releases the node's old epochs.
    pub lapses: u64,
    /// The sender found that its own loop had stalled since the last beat.
    pub stalled: bool,
}

/// Names one heartbeat of the node that this is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ack {
    /// The boot it was sent in.
    pub boot: u64,
    /// Its number.
    pub seq: u64,
}

/// A coordinator's request that voters bind themselves to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The term in which the sender leads.
    pub term: u64,
    /// `P`: for how long.
    pub promise: Span,
}

/// The acknowledgement of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The round's term.
    pub term: u64,
    /// The round's heartbeat.
    pub round: Ack,
}

/// A lease, granted by the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The coordinator's term.
    pub term: u64,
    /// min(`L`, `R + G`), with `R` what remained of the coordinator's authority when it sent
    /// this. The coordinator works it out, so that a node that has not applied a change of
    /// profile yet can't believe in a longer lease than its coordinator does.
    pub span: Span,
    /// The coordinator's commit index. A node whose lease had lapsed (or that has just started)
    /// activates nothing before it has applied this much, so that it acts on no assignment that
    /// was taken from it in its absence.
    pub commit: u64,
}
