//! What was written and not synced yet, as what was there before.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Most changes of a file that are remembered: older ones the kernel has written by itself.
const CHANGES_MAX: usize = 1_024;
/// Most files of which changes are remembered.
const FILES_MAX: usize = 256;

/// One change: what was there, and how long the file was.
#[derive(Debug)]
struct Change {
    offset: u64,
    before: Vec<u8>,
    length: u64,
    /// How much was written.
    written: usize,
}

#[derive(Debug)]
struct Changed {
    file: Arc<File>,
    changes: Vec<Change>,
}

/// Of all files.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: HashMap<u64, Changed>,
}

impl Unsynced {
    /// Keeps what a change of so many bytes (or, of a length, all behind it) will overwrite.
    pub(super) fn keep(
        &mut self,
        number: u64,
        file: &Arc<File>,
        offset: u64,
        written: Option<usize>,
    ) -> io::Result<()> {
        let length = file.metadata()?.len();
        let there = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut before = vec![0; written.map_or(there, |written| written.min(there))];
        file.read_exact_at(&mut before, offset)?;
        if !self.files.contains_key(&number) && self.files.len() >= FILES_MAX {
            return Ok(());
        }
        let changed = self.files.entry(number);
        let changed =
            changed.or_insert_with(|| Changed { file: Arc::clone(file), changes: Vec::new() });
        if changed.changes.len() >= CHANGES_MAX {
            changed.changes.remove(0);
        }
        let written = written.unwrap_or(0);
        changed.changes.push(Change { offset, before, length, written });
        Ok(())
    }

    /// A file was synced.
    pub(super) fn is_durable(&mut self, number: u64) {
        self.files.remove(&number);
    }

    /// Takes a file's changes back, but for the first half of the first where it is torn.
    pub(super) fn lose(&mut self, number: u64, torn: bool) -> io::Result<()> {
        let Some(Changed { file, changes }) = self.files.remove(&number) else { return Ok(()) };
        let half = changes.first().filter(|_| torn).map(|first| (first.offset, first.written / 2));
        let kept = half.map(|(offset, length)| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map(|()| (offset, bytes))
        });
        for change in changes.iter().rev() {
            file.write_all_at(&change.before, change.offset)?;
            file.set_len(change.length)?;
        }
        if let Some(kept) = kept {
            let (offset, bytes) = kept?;
            file.write_all_at(&bytes, offset)?;
        }
        Ok(())
    }

    /// Takes back what is not durable. How many writes.
    pub(super) fn lose_all(&mut self) -> io::Result<u64> {
        let lost = self.files.values().map(|changed| changed.changes.len() as u64).sum();
        let numbers: Vec<u64> = self.files.keys().copied().collect();
        for number in numbers {
            self.lose(number, true)?;
        }
        Ok(lost)
    }
}
