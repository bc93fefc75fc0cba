//! Databases' logs: whether each backup opens, and reaches what was acknowledged.

use super::report::{Finding, VerifyReport};
use super::{Depth, VerifyRequest};
use crate::chain::Chain;
use crate::error::Result;
use crate::repository::Repository;
use crate::store::ObjectName;
use crate::wal::check::{Broken, Check};
use std::sync::atomic::Ordering;

pub(super) fn check(
    repository: &Repository,
    chain: &Chain,
    request: &VerifyRequest,
    report: &mut VerifyReport,
) -> Result<()> {
    let wants_bytes = |name: &ObjectName| match request.depth {
        Depth::Structure => false,
        Depth::Bytes => true,
        Depth::Part { part, of } => {
            let hash = blake3::hash(name.leaf().as_bytes());
            let number = u32::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"));
            number % of.max(1) == part
        }
    };
    let check = Check {
        store: &**repository.store(),
        ring: repository.ring(),
        wants_bytes: &wants_bytes,
        memory: request.memory.as_deref(),
    };
    let (found, bytes) = check.run(&chain.state)?;
    request.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    report.bytes_read += bytes;
    for broken in found {
        match broken {
            Broken::Piece { name, what } => report.add(Finding::Object { name, what }),
            Broken::Log { source, what } => report.add(Finding::Log { source, what }),
            Broken::Backup { seq, what } => {
                report.add(Finding::Lost { backup: seq, path: "its log".to_owned(), what });
                if !report.damaged_backups.contains(&seq) {
                    report.damaged_backups.push(seq);
                }
            }
        }
    }
    Ok(())
}
