//! Says what of a repository can be restored, before anyone needs it.

mod bytes;
mod logs;
mod report;
mod structure;

pub use report::{Finding, VerifyReport};
pub use structure::require_chunks;

use crate::chain::Chain;
use crate::error::Result;
use crate::repository::{Freshness, Repository};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every record, key, index block, pack table and directory; of files, that their chunks
    /// are there.
    Structure,
    /// And every byte of every pack.
    Bytes,
    /// And every byte of this share of the packs: part `0..of`.
    Part {
        /// Which part.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

/// What to verify, and how.
pub struct VerifyRequest {
    /// How much is read.
    pub depth: Depth,
    /// Threads that read.
    pub workers: usize,
    /// Bytes read so far.
    pub bytes_read: Arc<AtomicU64>,
    /// Where this machine remembers how far databases' logs were acknowledged.
    pub memory: Option<std::path::PathBuf>,
}

/// Verifies. What is wrong is in the report; what stands on something damaged is damaged.
///
/// # Errors
/// Where the store fails: then nothing is said of the repository.
pub fn run(repository: &Repository, request: &VerifyRequest) -> Result<VerifyReport> {
    let store = &**repository.store();
    let chain = Chain::read_all(store, repository.ring())?;
    let mut report = VerifyReport {
        records: chain.head.seq + 1,
        fresh: repository.freshness() != Freshness::NotProvable,
        ..VerifyReport::default()
    };
    structure::chain(&chain, &mut report);
    structure::keys(repository, &chain, &mut report)?;
    let blobs = repository.blobs()?;
    let index = blobs.index();
    structure::index(repository, &index, &mut report)?;
    let bad = bytes::packs(repository, &index, request, &mut report)?;
    structure::backups(&blobs, &chain, &bad, &mut report);
    structure::unmentioned(&blobs, &mut report);
    logs::check(repository, &chain, request, &mut report)?;
    Ok(report)
}
