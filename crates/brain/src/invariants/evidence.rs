//! Rule 6: evidence names what it is about, and is true.

use alloc::format;

use model::report::{Evidence, EvidenceGround};
use model::{Epoch, ReplicaId, ResourceName};

use super::{Verdict, hold};

/// The holder that evidence is about.
#[derive(Debug, Clone)]
pub struct Held {
    /// The resource.
    pub resource: ResourceName,
    /// The holder's incarnation.
    pub replica: ReplicaId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether an instance under this epoch could still act there, at this true moment.
    pub acts: bool,
}

/// It names resource, incarnation and epoch of the holder, and nothing acts under that epoch.
/// A lapse says nothing of a node whose clock runs while it is frozen: there takeover is judged.
///
/// # Errors
/// It is about something else, or wrong.
pub fn proves(evidence: Option<&Evidence>, held: &Held) -> Verdict {
    let Some(e) = evidence else {
        return hold(false, "evidence", || {
            format!("{} was taken from {} without evidence", held.resource, held.replica)
        });
    };
    let named = e.resource == held.resource && e.replica == held.replica && e.epoch == held.epoch;
    hold(named, "evidence", || {
        format!(
            "evidence of {} epoch {} on {} was used against epoch {} on {}",
            e.resource, e.epoch, e.replica, held.epoch, held.replica
        )
    })?;
    hold(!held.acts || e.ground == EvidenceGround::Lapsed, "evidence", || {
        format!("{} still acts under epoch {} although {}", held.replica, e.epoch, e.ground)
    })
}

/// An instance that its node could not stop keeps its resource: `acts` says whether one that was
/// recorded so is still there when another node takes over.
///
/// # Errors
/// It is.
pub fn is_gone(resource: &ResourceName, epoch: Epoch, acts: bool) -> Verdict {
    hold(!acts, "evidence", || {
        format!("{resource} was taken from an instance that can't be stopped, epoch {epoch}")
    })
}
