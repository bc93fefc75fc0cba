//! The chain: a repository's history as numbered, signed records, each naming the hash of the
//! one before. A record is appended by creating the next number, so that writers anywhere agree
//! on one order without a lock. Removing, replacing or reordering records shows to whoever
//! remembers a newer head.

mod append;
mod body;
mod memory;
mod reader;
mod record;
mod state;

pub use append::{APPEND_TRIES_MAX, Appender};
pub use body::{
    Backup, Body, Copied, Forgotten, Genesis, Mark, RunId, Skipped, SourceKind, Statistics, Subject,
};
pub use memory::HeadMemory;
pub use reader::{Chain, Problem};
pub use record::{Head, Signer, Statement, verify_statement};
pub use state::{ArchiveState, RestoreProof, Run, State, newest_of};

/// Every record whose number this divides is a checkpoint: reading begins at the newest.
pub const CHECKPOINT_EVERY: u64 = 64;
