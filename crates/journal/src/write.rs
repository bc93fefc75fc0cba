//! What a replica wants made durable, and the error that ends a log.

use raft::eraftpb::{Entry, HardState};

use crate::disk::DiskError;
use crate::snapshot_file::Snapshot;

/// Numbers the writes of one replica since its start, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What must become durable, as a whole and in the order of the ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Reported back through [`crate::Replica::written`].
    pub id: WriteId,
    /// A snapshot to keep in a file of its own.
    pub snapshot: Option<SnapshotWrite>,
    /// Entries; the first one replaces whatever the log has from its index on.
    pub entries: Vec<Entry>,
    /// Term, vote and commit, where they changed.
    pub hard_state: Option<HardState>,
}

/// A snapshot on its way to the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotWrite {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether it replaces all entries (it came from a leader) rather than compacting them.
    pub installed: bool,
}

/// The log's files can't be relied on any more; this process must not write to them again.
///
/// A failed write or sync leaves a file in an unknown state: the kernel may drop the data and
/// still report the next sync as done. So the log stops, and a restart reads what is there.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the journal stopped, nothing after this was acknowledged: {cause}. \
     Mend the disk (space, hardware, permissions), then start this node again"
)]
pub struct Fatal {
    /// The first operation that failed.
    #[source]
    pub cause: DiskError,
}
