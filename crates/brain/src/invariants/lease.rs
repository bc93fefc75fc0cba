//! Rule 3: no lease runs longer than its coordinator counts on, and nothing is active without one.

use alloc::format;

use model::ReplicaId;

use super::{Verdict, hold};

/// A lease that was renewed.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// Whose.
    pub replica: ReplicaId,
    /// Its end, in true time, on the holder's clock.
    pub end: u64,
    /// Until when the coordinator in office (or any other that might still be) counts the node
    /// as granted, in true time.
    pub counted_until: u64,
}

/// The holder believes in no more than the coordinator counts on.
///
/// # Errors
/// It does.
pub fn is_counted(renewal: &Renewal) -> Verdict {
    hold(renewal.end <= renewal.counted_until, "lease", || {
        format!(
            "{} believes in a lease that ends {} ns after its coordinator takes it for ended",
            renewal.replica,
            renewal.end - renewal.counted_until
        )
    })
}

/// Something became active.
#[derive(Debug, Clone, Copy)]
pub struct Activation {
    /// Where.
    pub replica: ReplicaId,
    /// When, in true time.
    pub at: u64,
    /// The end of the lease that the guard knows, in true time.
    pub end: Option<u64>,
    /// Whether a guard was alive.
    pub guarded: bool,
}

/// Nothing becomes active without a running lease and a living guard.
///
/// # Errors
/// It did.
pub fn covers(activation: &Activation) -> Verdict {
    let covered = activation.guarded && activation.end.is_some_and(|end| activation.at < end);
    hold(covered, "lease", || {
        format!("{} activated something without a lease or a guard", activation.replica)
    })
}

/// What a guard left running when it looked.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// Where.
    pub replica: ReplicaId,
    /// The lease that the instance became active under.
    pub under: u64,
    /// The lease that the page shows.
    pub shown: Option<u64>,
}

/// Where the guard has looked, nothing goes on that became active under another lease than the
/// one in force: the agent alone must not be what stops it.
///
/// # Errors
/// It does.
pub fn is_of_this_lease(left: &Left) -> Verdict {
    hold(left.shown == Some(left.under), "lease", || {
        format!(
            "the guard of {} saw lease {:?} and left an instance of lease {} running",
            left.replica, left.shown, left.under
        )
    })
}
