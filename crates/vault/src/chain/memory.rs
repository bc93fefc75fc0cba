//! What this machine remembers of a repository: its newest head seen. Without it a store could
//! hand out last month's copy, and nobody would notice.

use super::Head;
use crate::error::{Result, VaultError};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Remembers heads in a directory, one file a repository.
#[derive(Clone, Debug)]
pub struct HeadMemory {
    folder: PathBuf,
}

impl HeadMemory {
    /// Remembers in this directory.
    pub fn new(folder: &Path) -> HeadMemory {
        HeadMemory { folder: folder.to_owned() }
    }

    fn path(&self, repository: &[u8; 16]) -> PathBuf {
        self.folder.join(format!("{}.head", crate::hex::encode(repository)))
    }

    /// The head remembered, if any.
    ///
    /// # Errors
    /// Where the memory cannot be read: guessing "none" would hide a rollback.
    pub fn recall(&self, repository: &[u8; 16]) -> Result<Option<Head>> {
        let path = self.path(repository);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(VaultError::file("read the remembered head", path)(e)),
        };
        let head = Head::parse(text.trim()).ok_or_else(|| {
            let path = path.display();
            VaultError::Refused(format!(
                "{path} should hold the newest record seen, and holds something else. Compare \
                 the repository with another copy, then remove the file"
            ))
        })?;
        Ok(Some(head))
    }

    /// Remembers a head durably, unless a newer one is remembered.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&self, repository: &[u8; 16], head: &Head) -> Result<()> {
        if self.recall(repository)?.is_some_and(|known| known.seq >= head.seq) {
            return Ok(());
        }
        let path = self.path(repository);
        let random = crate::hex::encode(&crate::random::bytes::<8>());
        let partial = self.folder.join(format!(".{random}.partial"));
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let mut file = fs::File::create_new(&partial)?;
            file.write_all(format!("{head}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(VaultError::file("remember the newest record in", path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_head_is_remembered_and_garbage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let memory = HeadMemory::new(&folder.path().join("state"));
        let head = |seq| Head { seq, hash: [seq as u8; 32] };
        assert_eq!(memory.recall(&[1; 16]).unwrap(), None);
        memory.remember(&[1; 16], &head(5)).unwrap();
        memory.remember(&[1; 16], &head(4)).unwrap();
        assert_eq!(memory.recall(&[1; 16]).unwrap(), Some(head(5)));
        fs::write(memory.path(&[1; 16]), "nonsense").unwrap();
        assert!(memory.recall(&[1; 16]).is_err());
    }
}
