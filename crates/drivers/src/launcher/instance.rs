//! One instance as the launcher holds it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use model::spec::ProcessSpec;
use model::{Epoch, Moment, ResourceName, Span};

use super::talk::Talk;
use crate::address::AddressHandle;
use crate::lease::InstanceLease;
use crate::process::containment::Containment;
use crate::process::logs::Output;
use crate::protocol::{InstanceView, Phase, Refusal, Role, Status, Why};

/// How far an instance has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// The guard was asked to arm it; nothing active runs yet.
    Arming {
        /// When that is given up.
        until: Moment,
        /// Whether a standby runs already; else the program waits behind its gate.
        promote: bool,
    },
    /// The gate is open; whether the program runs is not known yet.
    Executing,
    /// It runs and is not ready.
    Starting {
        /// When that is given up.
        until: Moment,
        /// When it counts as ready by time alone.
        ready_at: Option<Moment>,
    },
    /// It runs in its role.
    Running,
    /// It was (or will be, once connected) told to become active.
    Promoting {
        /// When that is given up.
        until: Moment,
    },
    /// It was told to become a standby.
    Demoting {
        /// When that is given up.
        until: Moment,
    },
    /// It was asked to stop.
    Stopping {
        /// Why.
        why: Why,
        /// When it is killed.
        kill_at: Moment,
    },
    /// It was killed.
    Killing {
        /// Why.
        why: Why,
        /// Since when.
        since: Moment,
        /// When to look again.
        next: Moment,
        /// Pause before the look after that.
        pause: Span,
        /// Whether the agent was told that it doesn't go.
        told: bool,
    },
}

/// One instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: u64,
    /// The agent's number for it.
    pub(super) number: u64,
    pub(super) resource: ResourceName,
    pub(super) spec: ProcessSpec,
    /// Active from the moment it may act.
    pub(super) role: Role,
    /// What it was started as; says what a start that is still going on leads to.
    pub(super) wanted: Role,
    pub(super) epoch: Epoch,
    pub(super) uid: u32,
    pub(super) pid: i32,
    pub(super) started: u64,
    pub(super) pidfd: OwnedFd,
    pub(super) containment: Containment,
    /// What its program may have brought up, for one that holds an address.
    pub(super) address: Option<AddressHandle>,
    /// The cgroup's directory, for commands of health checks.
    pub(super) cgroup_dir: Option<OwnedFd>,
    pub(super) lease: InstanceLease,
    pub(super) output: Option<Output>,
    pub(super) gate: Option<OwnedFd>,
    pub(super) errors: Option<OwnedFd>,
    pub(super) talk: Talk,
    pub(super) notify: Option<UnixDatagram>,
    pub(super) ready: bool,
    pub(super) stage: Stage,
    /// How the leading process ended; it is reaped then.
    pub(super) status: Option<Status>,
    pub(super) since: Moment,
    /// Incarnation of the guard that armed it last; 0 for none.
    pub(super) guard: u64,
    /// Whether the guard (as far as is known) has it armed.
    pub(super) armed: bool,
    /// Which lease of the node it became active under.
    pub(super) lease_number: u64,
    /// The start was refused, for this reason: it goes without evidence, as its program never
    /// ran, and the refusal is told once nothing of it is left.
    pub(super) refused: Option<Refusal>,
    /// Started as active under this epoch once it is gone.
    pub(super) then_active: Option<Epoch>,
}

impl Instance {
    /// Whether it is on its way out.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Killing { .. })
    }

    /// The phase that the agent is told.
    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Arming { promote: true, .. } | Stage::Promoting { .. } => Phase::Promoting,
            Stage::Arming { .. } | Stage::Executing | Stage::Starting { .. } => Phase::Starting,
            Stage::Running if self.role == Role::Active => Phase::Active,
            Stage::Running => Phase::Standby,
            Stage::Demoting { .. } => Phase::Demoting,
            Stage::Killing { told: true, .. } => Phase::Unkillable,
            Stage::Stopping { .. } | Stage::Killing { .. } => Phase::Stopping,
        }
    }

    /// As `List` tells it.
    pub(super) fn view(&self) -> InstanceView {
        // What is on its way to be active may be so before the agent reads this.
        let active = self.role == Role::Active || self.wanted == Role::Active;
        InstanceView {
            resource: self.resource.clone(),
            number: self.number,
            role: if active || self.then_active.is_some() { Role::Active } else { self.role },
            epoch: self.then_active.unwrap_or(self.epoch),
            pid: self.pid.unsigned_abs(),
            ready: self.ready,
            phase: self.phase(),
            since: self.since,
        }
    }

    /// When something is due with it, if anything is by time.
    pub(super) fn next_due(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Arming { until, .. }
            | Stage::Promoting { until }
            | Stage::Demoting { until } => Some(*until),
            Stage::Starting { until, ready_at } => Some(ready_at.map_or(*until, |r| r.min(*until))),
            Stage::Stopping { kill_at, .. } => Some(*kill_at),
            Stage::Killing { next, .. } => Some(*next),
            Stage::Executing | Stage::Running => None,
        }
    }
}
