//! The scanning thread: turns a source's events into items for the tree, in order, and into
//! work for the readers.

use super::blocks::OldBlocks;
use super::chunks::{Shared, stopped};
use super::read::{Reader, SEGMENT_BYTES};
use crate::error::Result;
use crate::source::inode::{Seen, Xattrs};
use crate::source::{
    AheadFile, BlockRules, FileToRead, FinishedRead, LiveFile, Place, ScanEvent, ScanSink,
};
use crate::tree::{Entry, Metadata, Stamp};
use crossbeam_channel::{Sender, TrySendError};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

/// Items between the scan and the tree.
pub(super) const ITEMS_MAX: usize = 4096;
/// Small files handed to a reader together.
const BATCH_FILES_MAX: usize = 64;
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// What the tree is built from, in order.
pub(super) enum Item {
    Enter {
        name: Vec<u8>,
        meta: Metadata,
        stamp: Stamp,
    },
    Leave,
    Ready(Box<Entry>),
    /// A file that someone reads; its results carry this number.
    File {
        slot: u64,
        name: Vec<u8>,
        path: Vec<u8>,
    },
    /// A file written in blocks, read in so many segments.
    Blocks {
        slot: u64,
        count: u64,
        live: Box<Live>,
    },
    /// A file read in so many segments.
    Segments {
        slot: u64,
        count: u64,
        large: Box<Large>,
    },
    /// A file read in so many parts, whose place comes later.
    Ahead {
        slot: u64,
        count: u64,
        path: Vec<u8>,
        meta: Metadata,
    },
    /// That place.
    Placed {
        name: Vec<u8>,
        path: Vec<u8>,
    },
    Skipped {
        path: Vec<u8>,
        why: String,
    },
}

/// A large file.
pub(super) struct Large {
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) file: Arc<File>,
    pub(super) seen: Seen,
    pub(super) xattrs: Xattrs,
}

/// A file written in blocks.
pub(super) struct Live {
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) seen: Seen,
    pub(super) xattrs: Xattrs,
}

/// Work for a reader.
pub(super) enum Task {
    Files(Vec<(u64, FileToRead)>),
    Segment {
        slot: u64,
        part: u64,
        file: Arc<File>,
        seen: Seen,
    },
    Stream {
        slot: u64,
        stream: Box<dyn FinishedRead>,
        meta: Metadata,
    },
    Blocks {
        slot: u64,
        part: u64,
        file: Arc<File>,
        size_bytes: u64,
        old: Option<Arc<OldBlocks>>,
        rules: BlockRules,
    },
    Bytes {
        slot: u64,
        part: u64,
        bytes: Vec<u8>,
        is_only: bool,
        old: Option<Arc<OldBlocks>>,
    },
}

/// Sends items and tasks. An item is sent before its task, so that whoever builds the tree
/// always waits for work that is under way.
pub(super) struct Dispatcher<'a> {
    pub(super) shared: &'a Shared,
    pub(super) items: Sender<Item>,
    pub(super) tasks: Sender<Task>,
    batch: Vec<(u64, FileToRead)>,
    batch_bytes: u64,
    slot: u64,
    sent: u64,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        items: Sender<Item>,
        tasks: Sender<Task>,
    ) -> Dispatcher<'a> {
        Dispatcher { shared, items, tasks, batch: Vec::new(), batch_bytes: 0, slot: 0, sent: 0 }
    }

    pub(super) fn task(&mut self, task: Task) -> Result<()> {
        self.sent += 1;
        self.tasks.send(task).map_err(|_| stopped())
    }

    pub(super) fn item(&mut self, item: Item) -> Result<()> {
        match self.items.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => {
                // The tree may be waiting for a file of the batch.
                self.flush()?;
                self.items.send(item).map_err(|_| stopped())
            }
            Err(TrySendError::Disconnected(_)) => Err(stopped()),
        }
    }

    /// Hands out the files gathered.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.task(Task::Files(batch))
    }

    pub(super) fn next_slot(&mut self) -> u64 {
        self.slot += 1;
        self.slot
    }

    fn file(&mut self, file: FileToRead) -> Result<()> {
        if file.seen.size_bytes > SEGMENT_BYTES {
            return self.large(file);
        }
        let slot = self.next_slot();
        let (name, path) = (file.name.clone(), file.path.clone());
        self.item(Item::File { slot, name, path })?;
        self.batch_bytes += file.seen.size_bytes;
        self.batch.push((slot, file));
        let full = self.batch.len() >= BATCH_FILES_MAX || self.batch_bytes >= BATCH_BYTES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    fn large(&mut self, file: FileToRead) -> Result<()> {
        let (open, seen, xattrs) = match Reader::look(&file) {
            Ok(opened) => opened,
            Err(error) => {
                return self.item(Item::Skipped { path: file.path, why: error.to_string() });
            }
        };
        let slot = self.next_slot();
        // One that shrank meanwhile still has a first and a last segment: its change is noticed.
        let count = seen.size_bytes.div_ceil(SEGMENT_BYTES);
        if count < 2 {
            let (name, path) = (file.name.clone(), file.path.clone());
            self.item(Item::File { slot, name, path })?;
            self.batch.push((slot, file));
            return self.flush();
        }
        self.flush()?;
        let FileToRead { name, path, .. } = file;
        let large = Box::new(Large { name, path, file: Arc::clone(&open), seen, xattrs });
        self.item(Item::Segments { slot, count, large })?;
        for part in 0..count {
            let task = Task::Segment { slot, part, file: Arc::clone(&open), seen };
            self.task(task)?;
        }
        Ok(())
    }

    /// A file written in blocks, in as many segments as it has.
    fn live(&mut self, live: LiveFile) -> Result<()> {
        let LiveFile { file, old, unchanged, changed, rules } = live;
        if let (Some(old), true) = (&old, unchanged) {
            self.shared.keep_values(&file.path)?;
            return self.item(Item::Ready(Box::new(old.clone())));
        }
        let looked = Reader::look(&file).map(|(open, seen, xattrs)| match &file.place {
            // Who opened it knows its length, which a device does not say in its inode.
            Place::Open(_) => (open, file.seen, xattrs),
            Place::In(_) => (open, seen, xattrs),
        });
        let (open, seen, xattrs) = match looked {
            Ok(opened) => opened,
            // Removed since it was listed: its owner's log knows.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return self.item(Item::Skipped { path: file.path, why: error.to_string() });
            }
        };
        let old = match &old {
            Some(entry) => {
                let values = self.shared.known_values(&file.path);
                let (blobs, block_bytes) = (&self.shared.blobs, rules.block_bytes);
                OldBlocks::of(blobs, entry, block_bytes, values, changed)?.map(Arc::new)
            }
            None => None,
        };
        self.flush()?;
        let (slot, count) = (self.next_slot(), seen.size_bytes.div_ceil(SEGMENT_BYTES));
        let FileToRead { name, path, .. } = file;
        self.item(Item::Blocks { slot, count, live: Box::new(Live { name, path, seen, xattrs }) })?;
        for part in 0..count {
            let (file, old, rules) = (Arc::clone(&open), old.clone(), rules.clone());
            let size_bytes = seen.size_bytes;
            self.task(Task::Blocks { slot, part, file, size_bytes, old, rules })?;
        }
        Ok(())
    }
}

impl ScanSink for Dispatcher<'_> {
    fn event(&mut self, event: ScanEvent) -> Result<()> {
        match event {
            ScanEvent::Enter { name, meta, stamp } => self.item(Item::Enter { name, meta, stamp }),
            ScanEvent::Leave => self.item(Item::Leave),
            ScanEvent::Ready(entry) => self.item(Item::Ready(entry)),
            ScanEvent::Read(file) => self.file(file),
            ScanEvent::Skipped { path, why } => self.item(Item::Skipped { path, why }),
            ScanEvent::Stream { name, meta, stream } => {
                let slot = self.next_slot();
                self.item(Item::File { slot, path: name.clone(), name })?;
                self.task(Task::Stream { slot, stream, meta })
            }
            ScanEvent::Live(live) => self.live(*live),
            ScanEvent::Placed { name, path } => self.item(Item::Placed { name, path }),
        }
    }

    fn ahead(&mut self, file: AheadFile, input: &mut dyn Read) -> Result<()> {
        self.take_ahead(file, input)
    }

    fn settle(&mut self) -> Result<()> {
        self.flush()?;
        self.shared.wait_finished(self.sent)
    }
}
