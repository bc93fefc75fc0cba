//! Rule 5: when instances are taken from a silent node, no lease of it is running.

use alloc::format;

use model::{ReplicaId, Span};

use super::{Verdict, hold};

/// A node that lost its instances because its last grant had passed.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Which.
    pub from: ReplicaId,
    /// When the decision took effect, in true time.
    pub at: u64,
    /// When the last lease ends that the node itself knows of, in true time.
    pub lease_end: Option<u64>,
}

/// No lease is running there.
///
/// # Errors
/// One is.
pub fn comes_after_the_lease(takeover: &Takeover) -> Verdict {
    let running = takeover.lease_end.filter(|end| *end > takeover.at);
    hold(running.is_none(), "takeover", || {
        format!(
            "{} lost its instances while its lease runs for {} ns more",
            takeover.from,
            running.unwrap_or_default() - takeover.at
        )
    })
}

/// A grant that a coordinator has just made: `silent` is for how long the node has received no beat
/// of it, in true time.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    /// To whom.
    pub to: ReplicaId,
    /// Since the node received the coordinator's newest beat, in nanoseconds.
    pub silent: u64,
    /// The lease, as the slower of two clocks measures it.
    pub lease: Span,
}

/// Who confirms no beats for a whole lease is granted nothing more: it may hear none.
///
/// # Errors
/// It was granted.
pub fn is_confirmed(granted: &Granted) -> Verdict {
    hold(granted.silent <= granted.lease.0, "takeover", || {
        let silent = Span(granted.silent);
        format!("{} was granted a lease although it has heard nothing for {silent}", granted.to)
    })
}
