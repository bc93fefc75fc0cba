//! The lease in shared memory: [`LeasePage`] for agent, launcher and guard, [`InstanceLease`] for
//! one instance. Both are files that are mapped, so that reading a lease costs nanoseconds and
//! none of the three processes waits for another.

mod instance;
mod page;

pub use instance::{INSTANCE_LEASE_BYTES, InstanceLease, LeaseRole};
pub use page::{Beat, LeasePage, PageError};

use model::{Span, Timers};

/// How often guard, launcher and agent show that they live: two heartbeats.
#[must_use]
pub const fn beat_every(timers: &Timers) -> Span {
    Span(timers.heartbeat.0 * 2)
}

/// How old a beat may be before its owner counts as gone: one lease. Until then a guard that only
/// got no processor costs nobody a failover; the launcher's own second line holds meanwhile.
#[must_use]
pub const fn beat_limit(timers: &Timers) -> Span {
    timers.lease
}
