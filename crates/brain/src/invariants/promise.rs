//! Rule 1: a voter that acknowledged a round supports nobody until its promise has ended, but for
//! the (candidate, term) of a renounce entry that is proven to it.

use alloc::format;

use model::ReplicaId;
use model::state::Renounced;

use super::{Verdict, hold};

/// A vote that was given, the voter's own candidacy included.
#[derive(Debug, Clone, Copy)]
pub struct Vote {
    /// Who gave it.
    pub voter: ReplicaId,
    /// To whom.
    pub candidate: ReplicaId,
    /// In which term.
    pub term: u64,
    /// When, in true time.
    pub at: u64,
    /// Until when the voter is bound by what it acknowledged, restarts notwithstanding.
    pub bound_until: u64,
}

/// No vote while bound. `renounced`: all renounce entries that were ever proposed.
///
/// # Errors
/// The vote broke the promise.
pub fn keeps(vote: &Vote, renounced: &[Renounced]) -> Verdict {
    let released =
        renounced.iter().any(|r| r.candidate == vote.candidate && r.term + 1 == vote.term);
    hold(vote.at >= vote.bound_until || released, "promise", || {
        format!(
            "{} voted for {} in term {} although bound for {} ns more",
            vote.voter,
            vote.candidate,
            vote.term,
            vote.bound_until - vote.at
        )
    })
}
