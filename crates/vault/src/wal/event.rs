//! What happens to a stream, for whoever watches it.

use crate::postgres::{Lsn, Timeline};
use std::fmt;

/// What happens to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The log arrives, from here on.
    Started {
        /// On which timeline.
        timeline: Timeline,
        /// From where.
        from: Lsn,
    },
    /// Everything up to here is durable and acknowledged.
    Stored {
        /// On which timeline.
        timeline: Timeline,
        /// Up to where.
        upto: Lsn,
    },
    /// The server went over to the next timeline.
    Switched {
        /// Which.
        timeline: Timeline,
        /// Where it begins.
        at: Lsn,
    },
    /// The store fails; the server keeps more and more of its log for us.
    Stalled {
        /// How much it keeps.
        retained_bytes: u64,
        /// Why.
        why: String,
    },
    /// The slot was let go, so that the server's disk does not fill.
    LetGo {
        /// On which timeline.
        timeline: Timeline,
        /// From where on the log is lost to the repository.
        from: Lsn,
        /// How much it kept.
        retained_bytes: u64,
    },
    /// The server no longer has what follows what is stored.
    Gap {
        /// On which timeline.
        timeline: Timeline,
        /// What is lost begins here.
        from: Lsn,
        /// And ends here.
        to: Lsn,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Started { timeline, from } => {
                write!(f, "streaming timeline {timeline} from {from} on")
            }
            Event::Stored { timeline, upto } => {
                write!(f, "stored timeline {timeline} up to {upto}")
            }
            Event::Switched { timeline, at } => {
                write!(f, "the server went over to timeline {timeline} at {at}")
            }
            Event::Stalled { retained_bytes, why } => write!(
                f,
                "ALARM: the log cannot be stored, and the server keeps {retained_bytes} bytes of \
                 it for us: {why}"
            ),
            Event::LetGo { timeline, from, retained_bytes } => write!(
                f,
                "ALARM: the slot was let go at {retained_bytes} bytes, so that the server's disk \
                 does not fill. The log of timeline {timeline} from {from} on is not in the \
                 repository: no point after it can be restored to until a new base backup is made"
            ),
            Event::Gap { timeline, from, to } => write!(
                f,
                "ALARM: the log of timeline {timeline} from {from} to {to} is lost: the server no \
                 longer has it. Earlier backups can be restored up to {from} only. Make a base \
                 backup now"
            ),
        }
    }
}
