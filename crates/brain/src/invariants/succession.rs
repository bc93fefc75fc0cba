//! Rule 4: a new coordinator counts everyone as granted for the grace (after a transfer, for the
//! lease); who renounced grants nothing more in that term.

use alloc::format;

use model::{Moment, ReplicaId, Span};

use super::{Verdict, hold};

/// A coordinator that came into office.
#[derive(Debug, Clone, Copy)]
pub struct Election {
    /// Who.
    pub coordinator: ReplicaId,
    /// When, on its own clock.
    pub at: Moment,
    /// Whether it stood on a renounce entry.
    pub transferred: bool,
    /// The predecessors' grace, the longest that may be in use.
    pub grace: Span,
    /// The predecessors' lease, the longest that may be in use.
    pub lease: Span,
    /// The bound on drift in parts per million.
    pub drift_ppm: u64,
}

/// It counts a node that it was not told of as granted for long enough.
///
/// # Errors
/// It would take the node over too early.
pub fn waits(election: &Election, node: ReplicaId, granted_until: Moment) -> Verdict {
    let wait = if election.transferred { election.lease } else { election.grace };
    let soonest = election.at + wait.stretched(election.drift_ppm);
    hold(granted_until >= soonest, "succession", || {
        format!(
            "{} counts {node} as granted for {} only, its predecessor may have granted {wait}",
            election.coordinator,
            granted_until.since(election.at)
        )
    })
}

/// Who renounced a term is out of office once anyone can know of it.
///
/// # Errors
/// It still solicits and grants.
pub fn is_final(coordinator: ReplicaId, term: u64, in_office: bool) -> Verdict {
    hold(!in_office, "succession", || {
        format!("{coordinator} renounced term {term} and grants leases in it still")
    })
}
