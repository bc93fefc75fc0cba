//! Every maximum of the journal in one place: queues, records, messages, memberships.
//!
//! Readers compare an untrusted length with the limit here before they allocate anything.

/// The largest proposal that [`crate::Replica::propose`] takes.
pub const MAX_PROPOSAL_BYTES: usize = 1 << 20;

/// The largest payload of one log record: a proposal and the fields around it.
pub const MAX_RECORD_BYTES: usize = MAX_PROPOSAL_BYTES + 4096;

/// The largest application state that a snapshot carries.
pub const MAX_SNAPSHOT_BYTES: usize = 64 << 20;

/// The largest encoded Raft message: a snapshot, or a full window of entries, with its frame.
pub const MAX_MESSAGE_BYTES: usize = MAX_SNAPSHOT_BYTES + (1 << 20);

/// Bytes of entries that a leader holds uncommitted before it refuses proposals.
pub const MAX_UNCOMMITTED_BYTES: u64 = 32 << 20;

/// Bytes of entries in one append message, apart from batching of small ones.
pub const MAX_APPEND_BYTES: u64 = 1 << 20;

/// Bytes of committed entries handed over in one piece of work.
pub const MAX_COMMITTED_BYTES_PER_WORK: u64 = 4 << 20;

/// Writes that may be on their way to the disk at once; beyond it a replica produces no work.
pub const MAX_WRITES_IN_FLIGHT: usize = 256;

/// Read requests that a leader holds while it waits for a quorum to confirm it.
pub const MAX_PENDING_READS: usize = 4096;

/// The longest context of a read request.
pub const MAX_READ_CONTEXT_BYTES: usize = 256;

/// Voters and witnesses of one group.
pub const MAX_VOTERS: usize = 9;

/// Replicas without a vote of one group.
pub const MAX_LEARNERS: usize = 1024;

/// Steps of one membership change.
pub const MAX_MEMBERSHIP_STEPS: usize = 2 * MAX_VOTERS;

/// The largest file that start-up reads; segments and snapshots stay far below it.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The smallest segment size that makes sense: a few records.
pub const MIN_SEGMENT_BYTES: u64 = 512;

/// The largest segment size: one record more must stay below [`MAX_FILE_BYTES`].
pub const MAX_SEGMENT_BYTES: u64 = 512 << 20;

/// Records that may accumulate in memory before one call to the disk takes them.
pub const MAX_GROUP_BYTES: usize = 8 << 20;

/// Files in a journal's directory; more means that something else writes there.
pub const MAX_FILES: usize = 65_536;

/// A term beyond this is a damaged or hostile message: counting never gets there.
pub const MAX_TERM: u64 = 1 << 62;
