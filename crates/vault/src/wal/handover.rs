//! What has been received and is not in the repository yet, between the thread that receives and
//! the one that stores.

use super::PIECE_BYTES;
use crate::postgres::Lsn;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most of the log that waits to be stored. Beyond it nothing is received.
const WAITING_BYTES_MAX: u64 = PIECE_BYTES;

/// What waits, and how far storing is.
pub(super) struct Handover {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<u8>,
    stored: Lsn,
    /// Nothing more comes.
    is_complete: bool,
    /// Nobody stores any more.
    is_closed: bool,
}

/// Says that nobody stores any more, however the storing thread ends.
pub(super) struct Closing<'a>(pub(super) &'a Handover);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Handover {
    pub(super) fn new(stored: Lsn) -> Handover {
        let state = State { waiting: Vec::new(), stored, is_complete: false, is_closed: false };
        Handover { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands bytes over that follow what was handed over before.
    pub(super) fn give(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(bytes);
        // Whoever stores gathers for a while: it is not woken for each commit.
        if was_empty || state.waiting.len() as u64 >= WAITING_BYTES_MAX {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Nothing more comes: what waits is stored at once, and then the storing ends.
    pub(super) fn complete(&self) {
        self.lock().is_complete = true;
        self.changed.notify_all();
    }

    /// Whether more may be handed over; waits for a while until it may.
    pub(super) fn has_room(&self, wait: Duration) -> bool {
        let is_full = |state: &State| state.waiting.len() as u64 >= WAITING_BYTES_MAX;
        let state = self.lock();
        let full = |state: &mut State| is_full(state) && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, wait, full);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_full(&state)
    }

    /// Up to where everything is in the repository.
    pub(super) fn stored(&self) -> Lsn {
        self.lock().stored
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// What waits, taken once it has gathered until `due` or is a whole piece; nothing where
    /// nothing came within `wait`. The second is whether more may come.
    pub(super) fn take(&self, due: Instant, wait: Duration) -> (Vec<u8>, bool) {
        let state = self.lock();
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.is_complete;
        let waited = self.changed.wait_timeout_while(state, wait, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.waiting.is_empty() {
            let gathers = |state: &mut State| {
                (state.waiting.len() as u64) < WAITING_BYTES_MAX && !state.is_complete
            };
            let left = due.saturating_duration_since(Instant::now());
            let waited = self.changed.wait_timeout_while(state, left, gathers);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let bytes = std::mem::take(&mut state.waiting);
        let more = !state.is_complete;
        drop(state);
        self.changed.notify_all();
        (bytes, more)
    }

    /// Everything up to here is in the repository.
    pub(super) fn note_stored(&self, upto: Lsn) {
        self.lock().stored = upto;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_given_is_taken_once_and_in_order() {
        let handover = Handover::new(Lsn(5));
        handover.give(b"one ");
        handover.give(b"two");
        let now = Instant::now();
        assert_eq!(handover.take(now, LONG), (b"one two".to_vec(), true));
        assert_eq!(handover.take(now, Duration::ZERO), (Vec::new(), true));
        handover.give(b"rest");
        handover.complete();
        // Complete: it waits for nothing.
        assert_eq!(handover.take(now + LONG, LONG), (b"rest".to_vec(), false));
        assert_eq!(handover.stored(), Lsn(5));
    }

    #[test]
    fn nothing_is_taken_beyond_its_bound_and_a_closed_one_waits_for_nobody() {
        let handover = Handover::new(Lsn(0));
        handover.give(&vec![1; WAITING_BYTES_MAX as usize]);
        assert!(!handover.has_room(Duration::ZERO));
        drop(Closing(&handover));
        assert!(!handover.has_room(LONG) && handover.is_closed());
        assert_eq!(handover.take(Instant::now() + LONG, LONG).0.len() as u64, WAITING_BYTES_MAX);
        assert!(handover.has_room(LONG));
    }
}
