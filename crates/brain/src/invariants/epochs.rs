//! Rule 9: epochs only grow, have one holder, and are handed to an instance, never stuck on it.

use alloc::format;

use model::{Epoch, NodeName, ResourceName};

use super::{Verdict, hold};

/// A new assignment's epoch is higher than every one before it.
///
/// # Errors
/// It isn't.
pub fn grow(resource: &ResourceName, highest: Epoch, new: Epoch) -> Verdict {
    hold(new > highest, "epochs", || format!("{resource} was assigned epoch {new} after {highest}"))
}

/// What is recorded as active was handed that epoch there, by a start or a promotion.
///
/// # Errors
/// It was relabelled.
pub fn were_handed_out(
    resource: &ResourceName,
    node: &NodeName,
    epoch: Epoch,
    handed: bool,
) -> Verdict {
    hold(handed, "epochs", || {
        format!("{resource} counts as active on {node} under epoch {epoch}, which it never got")
    })
}
