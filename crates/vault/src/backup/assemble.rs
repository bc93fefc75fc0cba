//! Builds the tree in the order of the scan, from what the readers deliver in any order.

use super::ahead::AHEAD_BYTES;
use super::blocks::{Value, root_of};
use super::content::{ContentBuilder, SegmentHashes};
use super::read::{FileOutcome, ReadFailure, Reader, SEGMENT_BYTES, is_same};
use super::scan::{Item, Large, Live};
use super::threads::{Delivery, Part};
use super::{Harvest, SKIPPED_MAX};
use crate::chain::Skipped;
use crate::chunk::{BlobKind, ChunkId};
use crate::error::{Result, VaultError};
use crate::source::inode;
use crate::tree::{
    Content, DirectoryBuilder, Entry, EntryKind, Extent, Metadata, Node, NodeSink, Stamp,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While waiting, life is shown at least this often.
const WAIT: Duration = Duration::from_secs(60);

/// The nodes of directories are chunks like all others.
struct NodeWriter<'r, 'a>(&'r mut Reader<'a>);

impl NodeSink for NodeWriter<'_, '_> {
    fn take_node(&mut self, node: &Node) -> Result<ChunkId> {
        let bytes = node.encode();
        self.0.writer.put(BlobKind::Node, &bytes, &blake3::hash(&bytes))
    }
}

/// An open directory.
struct Frame {
    name: Vec<u8>,
    meta: Metadata,
    stamp: Stamp,
    builder: DirectoryBuilder,
}

/// Builds the tree.
pub(super) struct Assembler<'a, 'r> {
    reader: Reader<'a>,
    deliveries: Receiver<Delivery>,
    early: HashMap<(u64, u64), std::result::Result<Part, ReadFailure>>,
    stack: Vec<Frame>,
    top: Option<Entry>,
    /// Files whose place in the tree has not come yet, by their paths.
    ahead: HashMap<Vec<u8>, Entry>,
    skipped: Vec<Skipped>,
    skipped_more: u64,
    show_life: &'r mut dyn FnMut() -> Result<()>,
}

/// A file written in blocks, joined from its parts.
struct Joined {
    content: Content,
    size_bytes: u64,
    root: [u8; 32],
}

impl<'a, 'r> Assembler<'a, 'r> {
    pub(super) fn new(
        reader: Reader<'a>,
        deliveries: Receiver<Delivery>,
        show_life: &'r mut dyn FnMut() -> Result<()>,
    ) -> Assembler<'a, 'r> {
        Assembler {
            reader,
            deliveries,
            early: HashMap::new(),
            stack: Vec::new(),
            top: None,
            ahead: HashMap::new(),
            skipped: Vec::new(),
            skipped_more: 0,
            show_life,
        }
    }

    /// Takes items until the scan ends.
    pub(super) fn run(mut self, items: &Receiver<Item>) -> Result<Harvest> {
        loop {
            (self.show_life)()?;
            match items.recv_timeout(WAIT) {
                Ok(item) => self.item(item)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.reader.writer.flush()?;
        let top = self.top.take().filter(|_| self.stack.is_empty());
        let top = top.ok_or_else(super::chunks::stopped)?;
        Ok(Harvest { top, skipped: self.skipped, skipped_more: self.skipped_more })
    }

    fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Enter { name, meta, stamp } => {
                let builder = DirectoryBuilder::new();
                self.stack.push(Frame { name, meta, stamp, builder });
                Ok(())
            }
            Item::Leave => {
                let frame = self.stack.pop().expect("the scan leaves what it entered");
                let (node, totals) = frame.builder.finish(&mut NodeWriter(&mut self.reader))?;
                let kind = EntryKind::Directory { node, totals };
                let Frame { name, meta, stamp, .. } = frame;
                self.place(Entry { name, meta, kind, stamp })
            }
            Item::Ready(entry) => self.place(*entry),
            Item::File { slot, name, path } => match self.wait(slot, 0)? {
                Ok(Part::Whole(outcome)) => self.place_file(name, &path, *outcome),
                Ok(_) => unreachable!("a small file has no segments"),
                Err(failure) => self.fail_file(&path, failure),
            },
            Item::Blocks { slot, count, live } => self.blocks(slot, count, *live),
            Item::Segments { slot, count, large } => self.segments(slot, count, *large),
            Item::Ahead { slot, count, path, meta } => self.take_ahead(slot, count, path, meta),
            Item::Placed { name, path } => {
                let entry = self.ahead.remove(&path).ok_or_else(super::chunks::stopped)?;
                self.place(Entry { name, ..entry })
            }
            Item::Skipped { path, why } => {
                self.skip(&path, why);
                Ok(())
            }
        }
    }

    /// The result of one part, whenever it arrives.
    fn wait(&mut self, slot: u64, part: u64) -> Result<std::result::Result<Part, ReadFailure>> {
        loop {
            if let Some(result) = self.early.remove(&(slot, part)) {
                return Ok(result);
            }
            match self.deliveries.recv_timeout(WAIT) {
                Ok(delivery) => {
                    self.early.insert((delivery.slot, delivery.part), delivery.result);
                }
                Err(RecvTimeoutError::Timeout) => (self.show_life)()?,
                Err(RecvTimeoutError::Disconnected) => return Err(super::chunks::stopped()),
            }
        }
    }

    fn blocks(&mut self, slot: u64, count: u64, live: Live) -> Result<()> {
        match self.joined(slot, count, SEGMENT_BYTES, &live.path)? {
            Err(error) => self.fail_file(&live.path, ReadFailure::File(error)),
            Ok(Joined { content, size_bytes, root }) => {
                let (meta, stamp) = (live.seen.metadata(live.xattrs), live.seen.stamp);
                let kind = EntryKind::File { size_bytes, root, content };
                self.place(Entry { name: live.name, meta, kind, stamp })
            }
        }
    }

    fn take_ahead(&mut self, slot: u64, count: u64, path: Vec<u8>, meta: Metadata) -> Result<()> {
        let joined = self.joined(slot, count, AHEAD_BYTES, &path)?;
        let failed = VaultError::file("take", crate::source::directory::path_of(&path));
        let Joined { content, size_bytes, root } = joined.map_err(failed)?;
        let kind = EntryKind::File { size_bytes, root, content };
        let entry = Entry { name: Vec::new(), meta, kind, stamp: Stamp::default() };
        self.ahead.insert(path, entry);
        Ok(())
    }

    /// Joins what was read of a file written in blocks. Where it became shorter meanwhile, it
    /// ends with the first part that came out short.
    fn joined(
        &mut self,
        slot: u64,
        count: u64,
        part_bytes: u64,
        path: &[u8],
    ) -> Result<std::result::Result<Joined, io::Error>> {
        let mut content = ContentBuilder::default();
        let mut values: Vec<Value> = Vec::new();
        let mut failure = None;
        let mut ended = false;
        for part in 0..count {
            match self.wait(slot, part)? {
                Ok(Part::Blocks(read)) if !ended => {
                    let bytes: u64 = read.extents.iter().map(Extent::bytes).sum();
                    for extent in read.extents {
                        content.push(extent, &mut self.reader.writer)?;
                    }
                    values.extend(read.values);
                    ended = bytes < part_bytes;
                }
                Ok(Part::Blocks(_)) => {}
                Ok(_) => unreachable!("a file written in blocks is read in blocks"),
                Err(ReadFailure::Run(error)) => return Err(error),
                Err(ReadFailure::File(error)) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Ok(Err(error));
        }
        let (content, size_bytes) = content.finish(&mut self.reader.writer)?;
        let shared = self.reader.writer.shared;
        shared.remember_values(path, &values)?;
        shared.counters.files_read.fetch_add(1, Ordering::Relaxed);
        Ok(Ok(Joined { content, size_bytes, root: root_of(&values) }))
    }

    fn segments(&mut self, slot: u64, count: u64, large: Large) -> Result<()> {
        let mut content = ContentBuilder::default();
        let mut hashes = SegmentHashes::default();
        let mut last = None;
        let mut failure = None;
        for part in 0..count {
            match self.wait(slot, part)? {
                Ok(Part::Segment(extents, value)) => {
                    for extent in extents {
                        content.push(extent, &mut self.reader.writer)?;
                    }
                    if let Some(value) = last.replace(value) {
                        hashes.push(value);
                    }
                }
                Ok(_) => unreachable!("a large file is read in segments"),
                Err(ReadFailure::Run(error)) => return Err(error),
                Err(ReadFailure::File(error)) => failure = Some(error),
            }
        }
        let (content, size_bytes) = content.finish(&mut self.reader.writer)?;
        let after = inode::look_open(&large.file);
        let same = failure.is_none()
            && size_bytes == large.seen.size_bytes
            && after.is_ok_and(|after| is_same(&large.seen, &after));
        if !same {
            // It changed while several threads read it: read it again in one go.
            let Large { name, path, file, .. } = large;
            return match self.reader.whole(&file) {
                Ok(outcome) => self.place_file(name, &path, outcome),
                Err(failure) => self.fail_file(&path, failure),
            };
        }
        let root = hashes.finish(last.expect("a large file has segments"));
        self.reader.writer.shared.counters.files_read.fetch_add(1, Ordering::Relaxed);
        let outcome = FileOutcome {
            meta: large.seen.metadata(large.xattrs),
            stamp: large.seen.stamp,
            content,
            size_bytes,
            root,
            unstable: false,
        };
        self.place_file(large.name, &large.path, outcome)
    }

    fn place_file(&mut self, name: Vec<u8>, path: &[u8], outcome: FileOutcome) -> Result<()> {
        if outcome.unstable {
            self.skip(path, "it kept changing while it was read; what was read is kept".to_owned());
        }
        let FileOutcome { meta, stamp, content, size_bytes, root, .. } = outcome;
        self.place(Entry { name, meta, kind: EntryKind::File { size_bytes, root, content }, stamp })
    }

    fn fail_file(&mut self, path: &[u8], failure: ReadFailure) -> Result<()> {
        match failure {
            ReadFailure::Run(error) => Err(error),
            ReadFailure::File(error) if self.stack.is_empty() => {
                let path = crate::source::directory::path_of(path);
                Err(VaultError::File { action: "read", path, source: error })
            }
            ReadFailure::File(error) => {
                self.skip(path, format!("it could not be read: {error}"));
                Ok(())
            }
        }
    }

    fn place(&mut self, entry: Entry) -> Result<()> {
        self.reader.writer.shared.counters.entries.fetch_add(1, Ordering::Relaxed);
        match self.stack.last_mut() {
            Some(frame) => frame.builder.push(entry, &mut NodeWriter(&mut self.reader)),
            None => {
                self.top = Some(entry);
                Ok(())
            }
        }
    }

    fn skip(&mut self, path: &[u8], why: String) {
        if self.skipped.len() < SKIPPED_MAX {
            let path = String::from_utf8_lossy(path).into_owned();
            self.skipped.push(Skipped { path, why });
        } else {
            self.skipped_more += 1;
        }
    }
}
