//! Rule 7: a longer lease is believed in only once its entry is committed.

use alloc::format;

use model::ReplicaId;

use super::{Verdict, hold};

/// A lease that runs past what its coordinator granted by heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Extension {
    /// Whose.
    pub replica: ReplicaId,
    /// Whether the entry that permits it is committed.
    pub committed: bool,
}

/// It is committed.
///
/// # Errors
/// It isn't.
pub fn is_committed(extension: &Extension) -> Verdict {
    hold(extension.committed, "absence", || {
        format!("{} counts on a longer lease that was never committed", extension.replica)
    })
}
