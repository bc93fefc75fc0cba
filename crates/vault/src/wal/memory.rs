//! What this machine remembers of a log: how far it acknowledged it to the server. Between two
//! signed marks, a removed piece shows here. It is not synced: after a crash it may be too old,
//! and never too new.

use crate::error::{Result, VaultError};
use crate::postgres::{Lsn, Timeline};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of such a file: one line, padded.
const LINE_BYTES: usize = 64;

/// A file of one line that is written over and over: it takes no more room than it has.
pub(super) struct LineFile {
    path: PathBuf,
    file: Option<File>,
}

impl LineFile {
    /// The file of a repository's log in this directory.
    pub(super) fn new(folder: &Path, repository: &[u8; 16], stream: &str, ending: &str) -> Self {
        let name = format!("{}-{stream}.{ending}", crate::hex::encode(repository));
        LineFile { path: folder.join(name), file: None }
    }

    /// The line, where there is one.
    pub(super) fn read(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(VaultError::file("read", self.path.clone())(e)),
        }
    }

    /// Replaces the line.
    pub(super) fn write(&mut self, text: &str) -> Result<()> {
        let failed = VaultError::file("write", self.path.clone());
        let line = format!("{text:<width$}\n", width = LINE_BYTES - 1);
        let mut write = || {
            if self.file.is_none() {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(false);
                self.file = Some(options.open(&self.path)?);
            }
            match &self.file {
                Some(file) => file.write_all_at(line.as_bytes(), 0),
                None => Ok(()),
            }
        };
        write().map_err(failed)
    }
}

/// Remembers one log.
pub struct WalMemory(LineFile);

impl WalMemory {
    /// The memory of a repository's log in this directory.
    pub fn new(folder: &Path, repository: &[u8; 16], stream: &str) -> WalMemory {
        WalMemory(LineFile::new(folder, repository, stream, "wal"))
    }

    /// How far what is remembered goes. What cannot be read is not remembered: it is weaker, and
    /// raises no false alarm.
    ///
    /// # Errors
    /// Where the file is there and cannot be opened.
    pub fn recall(&self) -> Result<Option<(Timeline, Lsn, Lsn)>> {
        Ok(self.0.read()?.as_deref().and_then(parse))
    }

    /// Remembers a stretch, up to the second position.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&mut self, timeline: Timeline, from: Lsn, upto: Lsn) -> Result<()> {
        self.0.write(&format!("{timeline} {from} {upto}"))
    }
}

/// What the line says.
pub(super) fn parse(text: &str) -> Option<(Timeline, Lsn, Lsn)> {
    let mut words = text.trim().split(' ');
    let timeline = words.next()?.parse().ok()?;
    Some((timeline, Lsn::parse(words.next()?)?, Lsn::parse(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_position_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut memory = WalMemory::new(&state, &[1; 16], "0123456789abcdef");
        assert_eq!(memory.recall().unwrap(), None);
        memory.remember(1, Lsn(0), Lsn(u64::MAX)).unwrap();
        memory.remember(2, Lsn(3), Lsn(7)).unwrap();
        let again = WalMemory::new(&state, &[1; 16], "0123456789abcdef");
        assert_eq!(again.recall().unwrap(), Some((2, Lsn(3), Lsn(7))));
    }
}
