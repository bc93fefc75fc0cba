//! The replicated, hash-chained log. It knows nothing of clusters.
//!
//! Proposals go in, committed entries come out, the same on every replica. [`Replica`] is the
//! whole protocol without I/O, clock, threads or randomness, so that the same code runs in a
//! simulator; [`Segments`] are its files; [`Writer`] is the thread between them in production.
//!
//! **Architecture invariant:** only `real_disk` touches the system, only `writer` has a thread.

mod agreement;
mod chain;
mod disk;
mod durations;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod membership;
mod memory_disk;
mod message;
mod ready;
mod real_disk;
mod record;
mod recovered;
mod recovery;
mod refusal;
mod replay;
mod replica;
mod segments;
mod snapshot_file;
mod status;
mod store;
mod tail;
mod work;
mod write;
mod writer;

pub use chain::Chain;
pub use disk::{Disk, DiskError, DiskOperation};
pub use durations::Durations;
pub use limits::*;
pub use membership::{Membership, MembershipChange, MembershipError, MembershipStep};
pub use memory_disk::{Fault, Kept, MemoryDisk, Unsynced};
pub use message::{MessageError, MessageKind, decode_message, encode_message, is_forced, kind};
pub use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message, MessageType};
pub use real_disk::RealDisk;
pub use record::BadRecord;
pub use recovered::{BootstrapError, End, FIRST_INDEX, Note, Recovered};
pub use recovery::{Damage, OpenError};
pub use refusal::{
    CampaignRefused, ConfigError, MembershipRefused, ProposeError, ReadRefused, SnapshotRefused,
    StepError, TransferRefused,
};
pub use replay::Inconsistency;
pub use replica::{Proposed, Replica, ReplicaConfig};
pub use segments::{KEPT_SNAPSHOTS, Options, Segments};
pub use snapshot_file::{BadSnapshot, Snapshot};
pub use status::{PeerProgress, Role, RoleKind};
pub use work::{Committed, Payload, ReadIndex, Work};
pub use write::{Fatal, SnapshotWrite, Write, WriteId};
pub use writer::{SubmitError, Writer, WriterStats};
