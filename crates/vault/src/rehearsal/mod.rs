//! Proof of restore: a backup is restored into a scratch place and every file's digest compared
//! with what was signed. Only what was proven so is called proven.

mod directory;

pub use directory::{Checked, DirectoryRehearsal};

use crate::blobs::Blobs;
use crate::chain::{Backup, Body};
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use crate::restore::single_name;
use crate::tree::{EntryKind, Step, Walk, find_path};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much is hashed at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Compares every file below `path` of a backup with the files in a directory, but for
/// those named; returns how many there are and their bytes.
///
/// # Errors
/// Naming the first that differs or is missing.
pub fn check_digests(
    blobs: &Blobs,
    backup: &Backup,
    path: &[u8],
    restored: &Path,
    except: &[&str],
) -> Result<(u64, u64)> {
    let top = find_path(blobs, &backup.top, path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut files, mut bytes) = (0, 0);
    for step in Walk::new(blobs, b"", &top) {
        let (path, entry) = match step {
            Step::Entry { path, entry } => (path, entry),
            Step::Leave { .. } => continue,
            Step::Lost { error, .. } => return Err(error),
        };
        let EntryKind::File { root, size_bytes, .. } = &entry.kind else { continue };
        if except.iter().any(|name| name.as_bytes() == path) {
            continue;
        }
        let place = match path.is_empty() {
            true => single_name(backup, &entry),
            false => path,
        };
        let place = restored.join(crate::source::directory::path_of(&place));
        let failed = |action| VaultError::file(action, place.clone());
        let mut file = File::open(&place).map_err(failed("open"))?;
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read(&mut buffer).map_err(failed("read"))? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            };
        }
        if hasher.finalize().as_bytes() != root {
            return Err(VaultError::Refused(format!(
                "the restore is NOT proven: {} is not what was backed up",
                place.display()
            )));
        }
        files += 1;
        bytes += size_bytes;
    }
    Ok((files, bytes))
}

/// Records that a backup was restored and checked.
///
/// # Errors
/// Where the backup is no longer there, or the record cannot be appended.
pub fn record(
    repository: &mut Repository,
    backup: u64,
    took_ms: u64,
    bytes: u64,
    checked: String,
) -> Result<u64> {
    let body = Body::Proven { backup, took_ms, bytes, checked };
    repository.append(body, None, |state| match state.backups.contains_key(&backup) {
        true => Ok(()),
        false => Err(VaultError::NotFound(format!("backup {backup} was forgotten meanwhile"))),
    })
}
