//! What is known of the connection to one peer, for `status`, `explain` and `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connection to one peer, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerStats {
    /// The link in use for our messages to it; none while there is no connection.
    pub link: Option<u8>,
    /// Whether it has a connection to us.
    pub inbound: bool,
    /// Messages written to it.
    pub sent: u64,
    /// Messages received from it.
    pub received: u64,
    /// Messages to it that were dropped.
    pub dropped: u64,
    /// Connections to it that were made.
    pub connects: u64,
    /// What ended the last connection or attempt, in words.
    pub last_error: Option<String>,
}

impl PeerStats {
    /// Whether messages can leave for it.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.link.is_some()
    }
}

#[derive(Debug)]
pub(super) struct Cell {
    /// Counts connections of any peer that came or went.
    changes: Arc<AtomicU64>,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) dropped: AtomicU64,
    rest: Mutex<PeerStats>,
}

impl Cell {
    pub(super) fn new(changes: Arc<AtomicU64>) -> Cell {
        let zero = AtomicU64::default;
        Cell { changes, sent: zero(), received: zero(), dropped: zero(), rest: Mutex::default() }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).connected()
    }

    pub(super) fn connected(&self, link: u8) {
        self.change(|stats| {
            stats.link = Some(link);
            stats.connects += 1;
        });
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn disconnected(&self, error: String) {
        self.change(|stats| {
            stats.link = None;
            stats.last_error = Some(error);
        });
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn inbound(&self, there: bool) {
        self.change(|stats| stats.inbound = there);
    }

    pub(super) fn read(&self) -> PeerStats {
        let mut stats = self.rest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.sent = self.sent.load(Ordering::Relaxed);
        stats.received = self.received.load(Ordering::Relaxed);
        stats.dropped = self.dropped.load(Ordering::Relaxed);
        stats
    }

    fn change(&self, by: impl FnOnce(&mut PeerStats)) {
        by(&mut self.rest.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
