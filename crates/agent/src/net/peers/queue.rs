//! What waits to be sent to one peer. Putting something in never blocks.
//!
//! Two lanes. *Small* messages (one frame) are the everyday traffic of consensus: there the
//! oldest gives way, because a later message of Raft supersedes an earlier one, and what is lost
//! is asked for again. *Large* ones (snapshots) are few, and half of one is worth nothing: there
//! the newest is refused, so that its sender learns of it at once, and the one being written
//! stays until all of it is written.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::{MESSAGE_MAX, PART_MAX};
use crate::net::counters::Undelivered;

/// Most small messages that wait.
pub const SMALL_MAX: usize = 4_096;
/// Most bytes of small messages that wait.
pub const SMALL_BYTES_MAX: usize = 8 << 20;
/// Most large messages that wait.
pub const LARGE_MAX: usize = 16;
/// Most bytes of large messages that wait: room for one of the largest.
pub const LARGE_BYTES_MAX: usize = MESSAGE_MAX;

/// What became of a message that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It waits or is on its way. It can still be lost, as on any network.
    Queued,
    /// It waits, and so many older ones were dropped for it.
    Displaced(usize),
    /// It was dropped.
    Dropped(Undelivered),
}

/// The queue of one peer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    small: VecDeque<Bytes>,
    small_bytes: usize,
    large: VecDeque<Bytes>,
    large_bytes: usize,
}

impl Queue {
    /// Adds a message.
    pub(super) fn push(&self, message: Bytes) -> Sent {
        let sent = self.lanes().push(message);
        if !matches!(sent, Sent::Dropped(_)) {
            self.filled.notify_one();
        }
        sent
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes small messages, oldest first, up to about `bytes` in all.
    pub(super) fn take_small(&self, bytes: usize, out: &mut Vec<Bytes>) {
        let mut lanes = self.lanes();
        let mut taken = 0;
        while taken < bytes {
            let Some(message) = lanes.small.pop_front() else { return };
            lanes.small_bytes -= message.len();
            taken += message.len().max(1);
            out.push(message);
        }
    }

    /// The oldest large message, which stays.
    pub(super) fn large(&self) -> Option<Bytes> {
        self.lanes().large.front().cloned()
    }

    /// Removes the oldest large message: all of it has been written.
    pub(super) fn large_done(&self) {
        let mut lanes = self.lanes();
        if let Some(message) = lanes.large.pop_front() {
            lanes.large_bytes -= message.len();
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn push(&mut self, message: Bytes) -> Sent {
        let length = message.len();
        if length > MESSAGE_MAX {
            return Sent::Dropped(Undelivered::TooLarge);
        }
        if length > PART_MAX {
            if self.large.len() == LARGE_MAX || self.large_bytes + length > LARGE_BYTES_MAX {
                return Sent::Dropped(Undelivered::Full);
            }
            self.large_bytes += length;
            self.large.push_back(message);
            return Sent::Queued;
        }
        let mut displaced = 0;
        while self.small.len() == SMALL_MAX || self.small_bytes + length > SMALL_BYTES_MAX {
            let oldest = self.small.pop_front().expect("a full lane has an oldest message");
            self.small_bytes -= oldest.len();
            displaced += 1;
        }
        self.small_bytes += length;
        self.small.push_back(message);
        if displaced == 0 { Sent::Queued } else { Sent::Displaced(displaced) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(queue: &Queue) -> Vec<Bytes> {
        let mut out = Vec::new();
        queue.take_small(usize::MAX, &mut out);
        out
    }

    #[test]
    fn the_oldest_small_message_gives_way_at_the_limit_of_count() {
        let queue = Queue::default();
        for n in 0..SMALL_MAX as u32 {
            assert_eq!(queue.push(Bytes::from(n.to_be_bytes().to_vec())), Sent::Queued);
        }
        assert_eq!(queue.push(Bytes::from_static(b"new")), Sent::Displaced(1));
        let left = small(&queue);
        assert_eq!(left.len(), SMALL_MAX);
        assert_eq!(left[0].as_ref(), 1_u32.to_be_bytes());
        assert_eq!(left[SMALL_MAX - 1].as_ref(), b"new");
    }

    #[test]
    fn small_messages_stay_within_their_bytes() {
        let queue = Queue::default();
        let message = Bytes::from(vec![0; PART_MAX]);
        let fit = SMALL_BYTES_MAX / PART_MAX;
        assert!((0..fit).all(|_| queue.push(message.clone()) == Sent::Queued));
        assert_eq!(queue.push(message.clone()), Sent::Displaced(1));
        assert_eq!(small(&queue).len(), fit);
        assert_eq!(queue.push(message), Sent::Queued, "taking makes room");
    }

    #[test]
    fn a_large_message_is_refused_rather_than_another_cut() {
        let queue = Queue::default();
        let largest = Bytes::from(vec![0; MESSAGE_MAX]);
        let large = Bytes::from(vec![0; PART_MAX + 1]);
        assert_eq!(queue.push(largest), Sent::Queued);
        assert_eq!(queue.push(large.clone()), Sent::Dropped(Undelivered::Full));
        assert_eq!(queue.push(Bytes::from_static(b"small")), Sent::Queued, "another lane");
        queue.large_done();
        assert!((0..LARGE_MAX).all(|_| queue.push(large.clone()) == Sent::Queued));
        assert_eq!(queue.push(large), Sent::Dropped(Undelivered::Full));
        let beyond = Bytes::from(vec![0; MESSAGE_MAX + 1]);
        assert_eq!(queue.push(beyond), Sent::Dropped(Undelivered::TooLarge));
    }
}
