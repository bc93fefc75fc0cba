//! Files whose bytes come in one stream, in an order that is the sender's: they are read as they
//! come, in parts that several threads seal, and take their places in the tree once all are here.

use super::blocks::{BlockInput, OldBlocks};
use super::chunks::stopped;
use super::scan::{Dispatcher, Item, Task};
use crate::error::{Result, VaultError};
use crate::source::directory::path_of;
use crate::source::{AheadFile, BlockRules};
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes of a part: what is in memory of a file are the parts under way. A power of two, as
/// BLAKE3's tree wants it.
pub(super) const AHEAD_BYTES: u64 = 1 << 20;

/// A part.
pub(super) struct Held {
    /// Where in the file it begins.
    pub(super) from: u64,
    pub(super) bytes: Vec<u8>,
}

impl BlockInput for Held {
    fn fill_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let skip = at.saturating_sub(self.from) as usize;
        let rest = self.bytes.get(skip..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl Dispatcher<'_> {
    /// Reads a file out of the stream and hands out its parts.
    pub(super) fn take_ahead(&mut self, file: AheadFile, input: &mut dyn Read) -> Result<()> {
        let AheadFile { path, size_bytes, meta, old } = file;
        let block_bytes = BlockRules::PAGES.block_bytes;
        let old = match &old {
            Some(entry) => {
                let values = self.shared.known_values(&path);
                OldBlocks::of(&self.shared.blobs, entry, block_bytes, values, None)?.map(Arc::new)
            }
            None => None,
        };
        self.flush()?;
        let (slot, count) = (self.next_slot(), size_bytes.div_ceil(AHEAD_BYTES));
        let shown = path_of(&path);
        self.item(Item::Ahead { slot, count, path, meta })?;
        for part in 0..count {
            let length = AHEAD_BYTES.min(size_bytes - part * AHEAD_BYTES);
            let mut bytes = vec![0; length as usize];
            let read = input.read_exact(&mut bytes);
            read.map_err(VaultError::file("receive", shown.clone()))?;
            if self.shared.is_stopped() {
                return Err(stopped());
            }
            let (is_only, old) = (size_bytes <= block_bytes, old.clone());
            self.task(Task::Bytes { slot, part, bytes, is_only, old })?;
        }
        Ok(())
    }
}
