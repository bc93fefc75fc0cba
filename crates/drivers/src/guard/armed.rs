//! One armed instance: what the guard needs to stop it, and how far it has got with that.

use std::io;
use std::path::Path;

use model::{Epoch, Moment, Span};

use super::statement::Cause;
use super::wire::ToGuard;
use crate::address::AddressHandle;
use crate::lease::InstanceLease;
use crate::process::containment::{Asker, CgroupHandle, Containment, TreeHandle};
use crate::process::table::{self, ProcessTable};

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
    pub(super) address: Option<AddressHandle>,
    pub(super) lease: InstanceLease,
    /// The node's lease that it became active under.
    pub(super) lease_number: u64,
    pub(super) state: State,
}

impl Armed {
    /// Opens everything that stopping it will need, so that nothing has to be opened then.
    pub(super) fn prepare(arm: &ToGuard<'_>) -> io::Result<Armed> {
        let ToGuard::Arm {
            resource,
            epoch,
            cgroup,
            pid,
            started,
            lease,
            lease_number,
            socket,
            address,
        } = *arm
        else {
            return Err(io::Error::other("not an order to arm"));
        };
        let address = match address {
            "" => None,
            text => {
                same_network(pid)?;
                Some(AddressHandle::open(text.parse().map_err(io::Error::other)?)?)
            }
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
        Ok(Armed { resource, epoch, containment, address, lease, lease_number, state })
    }

    /// How its emptiness is seen, for statements.
    pub(super) fn seen_by(&self) -> &'static str {
        match (&self.containment, &self.address) {
            (Containment::Cgroup(_), None) => "cgroup",
            (Containment::Tree(_), None) => "process-scan",
            (Containment::Cgroup(_), Some(_)) => "cgroup+netlink",
            (Containment::Tree(_), Some(_)) => "process-scan+netlink",
        }
    }

    /// Takes its address down, if it has one. The kernel may have to wait for its own lock here,
    /// so that all processes are killed first.
    pub(super) fn take_down(&self) {
        if let Some(Err(error)) = self.address.as_ref().map(AddressHandle::take_down) {
            tracing::error!(resource = self.resource, %error, "the address stays");
        }
    }

    /// Whether nothing of it is left; what is left is killed, and taken down, again. The address
    /// comes last: by then nobody is there who could bring it back.
    pub(super) fn strike(&self, table: &mut ProcessTable, asker: Asker<'_>) -> io::Result<bool> {
        let empty = self.containment.strike(table, asker)?;
        Ok(empty && self.address.as_ref().map_or(Ok(true), AddressHandle::strike)?)
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

/// A guard in another network namespace would see every address gone that is none of its own.
fn same_network(pid: u32) -> io::Result<()> {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    if of("self")? == of(&pid.to_string())? {
        return Ok(());
    }
    Err(io::Error::other("the guard is in another network namespace than the address"))
}
