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

/// What a node reports of itself is true when it is said: nothing acts under an epoch that it gives
/// evidence of (`wrong` is evidence of one under which something does), and nothing is active
/// (`left` says that something is) where it calls itself clear.
///
/// # Errors
/// It is not.
pub fn is_stated_truly(who: ReplicaId, wrong: Option<&Evidence>, left: bool) -> Verdict {
    hold(wrong.is_none(), "evidence", || {
        let about = wrong.map(|e| format!("epoch {} of {}, {}", e.epoch, e.resource, e.ground));
        format!("{who} states the end of {}, and it acts", about.unwrap_or_default())
    })?;
    hold(!left, "evidence", || format!("{who} calls itself clear while something is active there"))
}
