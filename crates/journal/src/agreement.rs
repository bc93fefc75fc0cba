//! How far this log is known to agree with the leader's of a term.
//!
//! A heartbeat says how much of what this replica acknowledged is committed, by index alone. Where
//! its disk lost the end of that, an older entry may stand at the index again, one that a later
//! leader had replaced: it must not count as committed. What came in an append that fitted, since
//! this start and in this term, is the leader's; only that is committed by a heartbeat.

use raft::Raft;
use raft::eraftpb::Message;

use crate::message::{self, MessageKind};
use crate::store::EntryLog;

/// What a leader sends of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) term: u64,
    /// It fits where the entry at this index has this term.
    pub(crate) after: u64,
    pub(crate) after_term: u64,
    /// Where it fits, all up to here is the leader's.
    pub(crate) upto: u64,
}

impl Offer {
    /// What a message offers. The library passes over entries that begin below what is committed.
    pub(crate) fn of(message: &Message, committed: u64) -> Option<Offer> {
        let (after, after_term, more) = match message::kind(message) {
            MessageKind::Append if message.index >= committed => {
                (message.index, message.log_term, message.entries.len() as u64)
            }
            MessageKind::Snapshot => {
                let metadata = message.snapshot.as_ref()?.metadata.as_ref()?;
                (metadata.index, metadata.term, 0)
            }
            _ => return None,
        };
        Some(Offer { term: message.term, after, after_term, upto: after + more })
    }
}

/// Of one term; a later one begins anew.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Agreement {
    term: u64,
    /// Up to here an append fitted.
    confirmed: u64,
    /// Up to here the leader says that this replica has what is committed.
    claimed: u64,
}

impl Agreement {
    fn of(&mut self, term: u64) -> &mut Self {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        self
    }

    /// The library has taken in what was offered, or not.
    pub(crate) fn heed(&mut self, offer: Option<Offer>, raft: &Raft<EntryLog>) {
        let fits = |offer: &Offer| {
            raft.term == offer.term && raft.raft_log.match_term(offer.after, offer.after_term)
        };
        if let Some(offer) = offer.filter(fits) {
            self.confirm(offer.term, offer.upto);
        }
    }

    /// The leader's log and this one are the same up to `index`.
    fn confirm(&mut self, term: u64, index: u64) {
        let agreement = self.of(term);
        agreement.confirmed = agreement.confirmed.max(index);
    }

    /// A heartbeat says that all up to `commit` is committed and here; how much may be believed.
    pub(crate) fn bound(&mut self, term: u64, commit: u64) -> u64 {
        let agreement = self.of(term);
        agreement.claimed = agreement.claimed.max(commit);
        commit.min(agreement.confirmed)
    }

    /// Whether an append follows an entry that its leader knows to have been here, and that is
    /// another one now.
    pub(crate) fn contradicts(&mut self, append: &Message, raft: &Raft<EntryLog>) -> bool {
        append.term >= raft.term
            && append.index > raft.raft_log.committed
            && self.was_here(append.term, append.index)
            && !raft.raft_log.match_term(append.index, append.log_term)
    }

    fn was_here(&mut self, term: u64, index: u64) -> bool {
        index <= self.of(term).claimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_believed_is_what_was_confirmed_in_that_term() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.bound(3, 7), 0);
        assert!(agreement.was_here(3, 7) && !agreement.was_here(3, 8));
        agreement.confirm(3, 5);
        agreement.confirm(3, 4);
        assert_eq!((agreement.bound(3, 7), agreement.bound(3, 2)), (5, 2));
        assert!(agreement.was_here(3, 7), "what was said once stays said");
        assert!(!agreement.was_here(4, 1));
        assert_eq!(agreement.bound(4, 1), 0);
    }
}
