//! What this machine remembers of a log: how far it acknowledged it to the server. Between two
//! signed marks, a removed piece shows here. It is not synced: after a crash it may be too old,
//! and never too new.

use crate::error::{Result, VaultError};
use crate::postgres::{Lsn, Timeline};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the file: one line, padded.
const LINE_BYTES: usize = 64;

/// Remembers one log.
pub struct WalMemory {
    path: PathBuf,
    file: Option<File>,
}

impl WalMemory {
    /// The memory of a repository's log in this directory.
    pub fn new(folder: &Path, repository: &[u8; 16], stream: &str) -> WalMemory {
        let name = format!("{}-{stream}.wal", crate::hex::encode(repository));
        WalMemory { path: folder.join(name), file: None }
    }

    /// How far what is remembered goes. What cannot be read is not remembered: it is weaker, and
    /// raises no false alarm.
    ///
    /// # Errors
    /// Where the file is there and cannot be opened.
    pub fn recall(&self) -> Result<Option<(Timeline, Lsn, Lsn)>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(parse(&text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(VaultError::file("read", self.path.clone())(e)),
        }
    }

    /// Remembers a stretch, up to the second position.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&mut self, timeline: Timeline, from: Lsn, upto: Lsn) -> Result<()> {
        let failed = VaultError::file("write", self.path.clone());
        let line =
            format!("{:<width$}\n", format!("{timeline} {from} {upto}"), width = LINE_BYTES - 1);
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
