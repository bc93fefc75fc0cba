//! The member machine: what this node's instances should be doing, under which epoch, until when.
//!
//! It is level-triggered: [`Member::reconcile`] compares what the applied control state asks of
//! this node with what its instances do, and returns the actions that close the gap. Start-up,
//! recovery and normal work are the same loop. It acts on an assignment only under a lease, with a
//! living guard, and with a log applied far enough to know that the assignment was not taken back
//! (rules 3 and 5). What it gives up it burns, and never relabels (rules 6 and 9).

mod events;
mod reconcile;
mod report;
mod wanted;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use model::authority::Identity;
use model::report::{EvidenceGround, Failure, FailureReport, InstancePhase};
use model::spec::ResourceKind;
use model::{Epoch, Moment, NodeName, ReplicaId, ResourceName, Span};

use crate::plant::Plants;

/// What a member is made with.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Its node's name.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Start count of its agent.
    pub boot: u64,
    /// Planted faults; none in production.
    pub plants: Plants,
}

/// The role an instance is started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRole {
    /// Ready to be promoted.
    Standby,
    /// Active from the start, under this epoch.
    Active(Epoch),
}

/// What the launcher has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start an instance.
    Start {
        /// Of which resource.
        resource: ResourceName,
        /// Its number: what is told of another number is about another instance.
        number: u64,
        /// How.
        role: StartRole,
    },
    /// Make a standby active.
    Promote {
        /// Which.
        resource: ResourceName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Make an active one standby.
    Demote {
        /// Which.
        resource: ResourceName,
        /// The epoch it gives up.
        epoch: Epoch,
    },
    /// Stop it: ask, wait, kill.
    Stop {
        /// Which.
        resource: ResourceName,
        /// Its number.
        number: u64,
        /// The epoch that it was handed; none for a standby.
        epoch: Option<Epoch>,
        /// Kill it without asking: its epoch must end now.
        at_once: bool,
    },
}

/// An instance that the launcher has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Of which resource.
    pub resource: ResourceName,
    /// Its number.
    pub number: u64,
    /// What it does.
    pub phase: InstancePhase,
    /// The epoch that it was handed; none for a standby.
    pub epoch: Option<Epoch>,
}

/// What the launcher did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// A start.
    Start,
    /// A promotion.
    Promote,
    /// A demotion or a stop.
    End,
}

/// What launcher, guard and health checks tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceEvent {
    /// The launcher (and through it the guard) answers. What it runs is all there is, and all that
    /// will be: whoever carries this node's actions out drops those of before this event.
    LauncherUp {
        /// Which of its answers this is; see [`Member::session`].
        session: u64,
        /// Incarnation of the guard, where one is alive.
        guard: Option<u64>,
        /// What runs.
        running: Vec<Running>,
    },
    /// The launcher is gone; nothing is known of the instances.
    LauncherDown,
    /// The launcher is still gone; whether its guard has seen that nothing active is left.
    Clear(bool),
    /// The guard came or went.
    Guard(Option<u64>),
    /// It runs and is ready, in whatever role it was started in.
    Ready(ResourceName),
    /// It was demoted and is a standby again.
    Standby(ResourceName),
    /// It is active.
    Active(ResourceName, Epoch),
    /// It ended, and nothing is left of it. `asked`: it was stopped by us.
    Gone {
        /// Which.
        resource: ResourceName,
        /// Its number.
        number: u64,
        /// How it ended.
        failure: Failure,
        /// Whether it was told to.
        asked: bool,
        /// How long ago it ended.
        age: Span,
    },
    /// Nothing acts under this epoch here any more, and never will.
    Burnt {
        /// Of which resource.
        resource: ResourceName,
        /// Under which epoch.
        epoch: Epoch,
        /// The guard has seen that nothing is left of the instance that did.
        gone: bool,
    },
    /// It could not be started, or not promoted; it does not run, or runs as standby.
    Refused {
        /// Which.
        resource: ResourceName,
        /// How it failed.
        failure: Failure,
        /// Whether it still runs, unpromoted.
        runs: bool,
    },
    /// The launcher did nothing, for a reason that may pass (no lease, no guard, busy): ask again.
    NotNow(ResourceName, Undone),
    /// The launcher refuses this epoch for good.
    EpochRefused(ResourceName, Epoch, Undone),
    /// The launcher can't stop it.
    StopFailed(ResourceName),
    /// Neither launcher nor guard can stop it, and its node was not rebooted for it.
    Stuck(ResourceName),
    /// Its health changed.
    Health {
        /// Which.
        resource: ResourceName,
        /// The check that failed and its answer; none where all pass.
        failed: Option<(String, String)>,
    },
}

/// The lease as the member needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// Its end; none where there is none.
    pub end: Option<Moment>,
    /// See `Pulse::lease_fresh_from`.
    pub fresh_from: u64,
    /// Leases that lapsed in this boot.
    pub lapses: u64,
    /// The guard begins to stop this long before the end.
    pub stopping: Span,
}

#[derive(Debug, Clone)]
struct Instance {
    number: u64,
    phase: InstancePhase,
    epoch: Option<Epoch>,
    healthy: bool,
    active_at: Moment,
    /// What it was started from; a standby of another is started anew.
    kind: ResourceKind,
    /// Leases that had lapsed in this boot when it was handed its epoch.
    lapses: u64,
}

/// The member machine.
#[derive(Debug, Clone)]
pub struct Member {
    config: MemberConfig,
    launcher: bool,
    /// The guard has seen that a lost launcher left nothing active.
    clear: bool,
    /// A lease runs under which something may become active.
    leased: bool,
    guard: Option<u64>,
    /// The launcher's answer that the instances are known from.
    session: u64,
    instances: BTreeMap<ResourceName, Instance>,
    /// Per resource, the highest epoch that may never be active here, why, and since when.
    burnt: BTreeMap<ResourceName, (Epoch, EvidenceGround, Moment)>,
    failures: VecDeque<(FailureReport, Moment)>,
    failures_seen: u64,
    lapses_seen: u64,
    /// Assignments up to this index were made before the present lease.
    stale_upto: u64,
    pauses: BTreeMap<ResourceName, (u32, Moment)>,
    reports: u64,
    /// This node's certificate, as its agent tells.
    identity: Option<Identity>,
    /// Instances numbered in this boot.
    numbered: u64,
    dirty: bool,
    /// Something is held back that time alone will let through.
    waits: bool,
}

impl Member {
    /// A member that knows nothing of its instances yet.
    #[must_use]
    pub fn new(config: MemberConfig) -> Member {
        Member {
            config,
            launcher: false,
            clear: false,
            leased: false,
            guard: None,
            session: 0,
            instances: BTreeMap::new(),
            burnt: BTreeMap::new(),
            failures: VecDeque::new(),
            failures_seen: 0,
            lapses_seen: 0,
            stale_upto: u64::MAX,
            pauses: BTreeMap::new(),
            reports: 0,
            identity: None,
            numbered: 0,
            dirty: true,
            waits: false,
        }
    }

    /// Whether something changed that the coordinator should hear of now.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The launcher's answer that this node's actions rest on. One of before a newer answer must
    /// not be carried out: what is not in that answer is told to be gone for good.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Whether the last pass held something back that may go on although nothing else changes:
    /// a pause, or a lease too near its end.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// This node's certificate or what it believes has changed.
    pub fn set_identity(&mut self, identity: Identity) {
        self.dirty |= self.identity.as_ref() != Some(&identity);
        self.identity = Some(identity);
    }

    /// A number that no other instance of this node has.
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        let (replica, boot) = (self.config.replica.0, self.config.boot);
        (replica << 48).wrapping_add(boot << 24).wrapping_add(self.numbered)
    }

    /// The guard's incarnation, where one lives.
    #[must_use]
    pub fn guard(&self) -> Option<u64> {
        self.guard
    }

    /// Whether the launcher answers.
    #[must_use]
    pub fn has_launcher(&self) -> bool {
        self.launcher
    }
}

#[cfg(test)]
mod tests;
