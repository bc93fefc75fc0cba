//! One armed instance: what the guard needs to stop it, and how far it has got with that.

use std::io;
use std::path::Path;

use model::{Epoch, Moment, Span};

use super::statement::Cause;
use super::wire::ToGuard;
use crate::lease::InstanceLease;
use crate::process::containment::{CgroupHandle, Containment, TreeHandle};
use crate::process::table;

/// Most instances armed at once: the most resources of a cluster.
pub const ARMED_MAX: usize = model::spec::RESOURCES_MAX;

/// First pause between two looks whether a killed instance is gone.
const LOOK_FIRST: Span = Span::from_us(500);
/// Longest pause.
const LOOK_LONGEST: Span = Span::from_ms(50);

/// How far the guard has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Covered by the lease.
    Armed,
    /// Killed; not seen to be gone yet.
    Killing {
        /// Since when.
        since: Moment,
        /// When to look next.
        next: Moment,
        /// Pause before the look after that.
        pause: Span,
        /// Why it was killed.
        cause: Cause,
        /// Whether the kill limit has passed and that was answered.
        escalated: bool,
    },
}

/// One armed instance.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) resource: String,
    pub(super) epoch: Epoch,
    pub(super) containment: Containment,
    pub(super) lease: InstanceLease,
    /// The node's lease that it became active under.
    pub(super) lease_number: u64,
    pub(super) state: State,
}

impl Armed {
    /// Opens everything that stopping it will need, so that nothing has to be opened then.
    pub(super) fn prepare(arm: &ToGuard<'_>) -> io::Result<Armed> {
        let ToGuard::Arm { resource, epoch, cgroup, pid, started, lease, lease_number, socket } =
            *arm
        else {
            return Err(io::Error::other("not an order to arm"));
        };
        let containment = if cgroup.is_empty() {
            let leader = i32::try_from(pid).map_err(io::Error::other)?;
            if table::started(leader) != Some(started) {
                return Err(io::Error::other("its leading process is gone"));
            }
            Containment::Tree(TreeHandle { leader, started, socket: socket.to_owned() })
        } else {
            Containment::Cgroup(CgroupHandle::open(Path::new(cgroup))?)
        };
        let lease = InstanceLease::open_writable(Path::new(lease))?;
        let (resource, state) = (resource.to_owned(), State::Armed);
        Ok(Armed { resource, epoch, containment, lease, lease_number, state })
    }

    /// How its emptiness is seen, for statements.
    pub(super) fn seen_by(&self) -> &'static str {
        match self.containment {
            Containment::Cgroup(_) => "cgroup",
            Containment::Tree(_) => "process-scan",
        }
    }

    /// Kills it at once; whether it goes is looked at later.
    pub(super) fn kill(&mut self, now: Moment, cause: Cause) {
        if let Err(error) = self.containment.kill_at_once() {
            tracing::error!(resource = self.resource, %error, "the first kill failed");
        }
        let (next, pause) = (now, LOOK_FIRST);
        self.state = State::Killing { since: now, next, pause, cause, escalated: false };
    }

    /// After a look that still found something: when to look again.
    pub(super) fn look_later(&mut self, now: Moment) {
        if let State::Killing { next, pause, .. } = &mut self.state {
            *next = now + *pause;
            *pause = (*pause * 2).min(LOOK_LONGEST);
        }
    }
}
