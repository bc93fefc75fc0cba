//! Rule 8: a witness solicits no promises and grants nothing.

use alloc::format;

use model::Heartbeat;

use super::{Verdict, hold};

/// A witness's heartbeat is neither a round nor a grant.
///
/// # Errors
/// It is.
pub fn is_silent(heartbeat: &Heartbeat) -> Verdict {
    hold(heartbeat.round.is_none() && heartbeat.grant.is_none(), "witness", || {
        format!("{} is a witness and acts as coordinator", heartbeat.sender)
    })
}
