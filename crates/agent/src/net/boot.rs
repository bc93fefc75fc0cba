//! One start of the agent, as datagrams carry it.
//!
//! Sixteen bytes: the number of the start, which only grows
//! ([`IdentityFiles::next_start`](crate::identity::IdentityFiles::next_start)), and eight random
//! bytes. The number lets a receiver tell a sender's restart from a replay of what it sent before;
//! the random bytes make the key of this start new even where a disk image was set back.

/// One start of the agent. Larger is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot {
    /// The number of the start.
    pub start: u64,
    /// Tells two starts of one number apart.
    pub nonce: u64,
}

impl Boot {
    /// This start, under the number that was drawn for it.
    #[must_use]
    pub(super) fn new(start: u64) -> Boot {
        Boot { start, nonce: u64::from_be_bytes(crate::identity::random()) }
    }
}
