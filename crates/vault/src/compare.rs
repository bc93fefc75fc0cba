//! Equality of live data and a backup: one Merkle root over each, and where they differ, the
//! names and the stretches that do.

use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::chunk::{BlobKind, ChunkId};
use crate::error::{Result, VaultError};
use crate::source::inode::{self, Seen};
use crate::source::{FileToRead, Place, ScanContext, ScanEvent, ScanSink, Source};
use crate::tree::{
    Content, DirectoryBuilder, Entry, EntryKind, Extent, Metadata, Node, NodeRef, NodeSink, Stamp,
    Step, Walk, canonical, each_extents, entry_hash,
};
use rustix::fs::SeekFrom;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Differences that are named; more are counted.
pub const DIFFERENCES_MAX: usize = 1000;
/// Stretches named within one file.
const STRETCHES_MAX: usize = 8;
const BUFFER_BYTES: usize = 1 << 20;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The root of the live data.
    pub live: [u8; 32],
    /// The signed root of the backup.
    pub backup: [u8; 32],
    /// Paths and what differs.
    pub differences: Vec<(String, String)>,
    /// How many more there are.
    pub differences_more: u64,
    /// What could not be read on the live side.
    pub skipped: Vec<(String, String)>,
}

impl Comparison {
    /// Whether both sides are equal to the bit.
    pub fn is_equal(&self) -> bool {
        self.live == self.backup && self.skipped.is_empty()
    }
}

/// Compares a source, as it is now, with a backup. `root` is where the source's files are.
///
/// # Errors
/// Where either side cannot be read as a whole.
pub fn compare(
    blobs: &Blobs,
    backup: &Backup,
    source: &dyn Source,
    root: &Path,
) -> Result<Comparison> {
    let mut sink = HashSink::default();
    let context = ScanContext {
        parent: None,
        parent_position: "",
        repository: None,
        trusted_before_s: 0,
        may_reuse: &|_| Ok(false),
    };
    source.scan(&context, &mut sink)?;
    let top = sink.top.take();
    let top = top.ok_or_else(|| VaultError::Refused("the source told of nothing".to_owned()))?;
    let mut comparison = Comparison {
        live: entry_hash(&canonical(&top)),
        backup: backup.subject.root,
        differences: Vec::new(),
        differences_more: 0,
        skipped: sink.skipped,
    };
    if comparison.live != comparison.backup {
        differences(blobs, backup, sink.seen, root, &mut comparison)?;
    }
    Ok(comparison)
}

/// Hashes what a source tells of.
#[derive(Default)]
struct HashSink {
    stack: Vec<(Vec<u8>, Metadata, DirectoryBuilder)>,
    path: Vec<Vec<u8>>,
    top: Option<Entry>,
    seen: BTreeMap<Vec<u8>, [u8; 32]>,
    skipped: Vec<(String, String)>,
    buffer: Vec<u8>,
}

/// Nodes are hashed and forgotten.
struct Nowhere;

impl NodeSink for Nowhere {
    fn take_node(&mut self, _node: &Node) -> Result<ChunkId> {
        Ok(ChunkId([0; 32]))
    }
}

/// The hash of an entry by itself: of a directory without its contents.
fn own_hash(entry: &Entry) -> [u8; 32] {
    let mut entry = entry.clone();
    if let EntryKind::Directory { node, .. } = &mut entry.kind {
        *node = NodeRef { id: ChunkId([0; 32]), root: [0; 32] };
    }
    entry_hash(&canonical(&entry))
}

impl HashSink {
    fn place(&mut self, entry: Entry) -> Result<()> {
        let mut path = self.path.clone();
        if !entry.name.is_empty() {
            path.push(entry.name.clone());
        }
        self.seen.insert(path.join(&b'/'), own_hash(&entry));
        match self.stack.last_mut() {
            Some((_, _, builder)) => builder.push(entry, &mut Nowhere),
            None => {
                self.top = Some(entry);
                Ok(())
            }
        }
    }

    /// Reads a file that was listed. `seen` is what whoever opened it knows of it.
    fn file(&mut self, file: &FileToRead, seen: Option<Seen>) -> std::io::Result<Entry> {
        let open = match &file.place {
            Place::Open(open) => Arc::clone(open),
            Place::In(directory) => Arc::new(inode::open_file(directory, &file.name)?),
        };
        let xattrs = inode::xattrs_open(&open)?;
        let mut hasher = blake3::Hasher::new();
        let mut size_bytes = 0;
        self.buffer.resize(BUFFER_BYTES, 0);
        loop {
            // Whoever opened it may have gone to its end to see where that is.
            let read = open.read_at(&mut self.buffer, size_bytes)?;
            if read == 0 {
                break;
            }
            hasher.update(&self.buffer[..read]);
            size_bytes += read as u64;
        }
        let seen = seen.map_or_else(|| inode::look_open(&open), Ok)?;
        let content = Content::Inline(vec![Extent::Hole { bytes: size_bytes }]);
        let kind = EntryKind::File { size_bytes, root: *hasher.finalize().as_bytes(), content };
        let (name, meta) = (file.name.clone(), seen.metadata(xattrs));
        Ok(Entry { name, meta, kind, stamp: Stamp::default() })
    }
}

impl HashSink {
    fn take(&mut self, file: &FileToRead, seen: Option<Seen>) -> Result<()> {
        match self.file(file, seen) {
            Ok(entry) => self.place(entry),
            Err(error) => {
                let path = String::from_utf8_lossy(&file.path).into_owned();
                self.skipped.push((path, error.to_string()));
                Ok(())
            }
        }
    }
}

impl ScanSink for HashSink {
    fn event(&mut self, event: ScanEvent) -> Result<()> {
        match event {
            ScanEvent::Enter { name, meta, .. } => {
                if !self.stack.is_empty() {
                    self.path.push(name.clone());
                }
                self.stack.push((name, meta, DirectoryBuilder::new()));
                Ok(())
            }
            ScanEvent::Leave => {
                let (name, meta, builder) = self.stack.pop().expect("a scan leaves what it enters");
                self.path.pop();
                let (node, totals) = builder.finish(&mut Nowhere)?;
                let kind = EntryKind::Directory { node, totals };
                self.place(Entry { name, meta, kind, stamp: Stamp::default() })
            }
            ScanEvent::Ready(entry) => self.place(*entry),
            ScanEvent::Read(file) => self.take(&file, None),
            // An image that stands still.
            ScanEvent::Live(live) if matches!(live.file.place, Place::Open(_)) => {
                self.take(&live.file, Some(live.file.seen))
            }
            ScanEvent::Live(_) | ScanEvent::Placed { .. } => {
                let what = "a running database cannot be compared; compare a restored one";
                Err(VaultError::Refused(what.to_owned()))
            }
            ScanEvent::Stream { .. } => {
                Err(VaultError::Refused("a command's output cannot be compared".to_owned()))
            }
            ScanEvent::Skipped { path, why } => {
                self.skipped.push((String::from_utf8_lossy(&path).into_owned(), why));
                Ok(())
            }
        }
    }
}

fn differences(
    blobs: &Blobs,
    backup: &Backup,
    mut live: BTreeMap<Vec<u8>, [u8; 32]>,
    root: &Path,
    comparison: &mut Comparison,
) -> Result<()> {
    let mut add = |path: &[u8], what: String| {
        if comparison.differences.len() < DIFFERENCES_MAX {
            let path = String::from_utf8_lossy(path).into_owned();
            comparison.differences.push((path, what));
        } else {
            comparison.differences_more += 1;
        }
    };
    for step in Walk::new(blobs, b"", &backup.top) {
        match step {
            Step::Entry { path, entry } => match live.remove(&path) {
                Some(hash) if hash == own_hash(&entry) => {}
                Some(_) => add(&path, describe(blobs, &entry, root, &path)?),
                None => add(&path, "is in the backup only".to_owned()),
            },
            Step::Leave { .. } => {}
            Step::Lost { error, .. } => return Err(error),
        }
    }
    for path in live.keys() {
        add(path, "is in the live data only".to_owned());
    }
    Ok(())
}

/// What differs in an entry that both sides have.
fn describe(blobs: &Blobs, entry: &Entry, root: &Path, path: &[u8]) -> Result<String> {
    // Joined to nothing, a file's path would end in a slash and name no file.
    let path = match path {
        [] => root.to_owned(),
        path => root.join(crate::source::directory::path_of(path)),
    };
    let EntryKind::File { size_bytes, .. } = &entry.kind else {
        return Ok("differs in kind or metadata".to_owned());
    };
    let Ok(file) = File::open(&path) else { return Ok("differs".to_owned()) };
    // A device says its length only so.
    let live_bytes = rustix::fs::seek(&file, SeekFrom::End(0));
    let live_bytes = live_bytes.map_err(|e| VaultError::file("look at", path.clone())(e.into()))?;
    let mut stretches: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let mut buffers = ReadBuffers::default();
    each_extents(blobs, &entry.kind, &mut buffers, |buffers, mut offset, extents| {
        for extent in extents {
            let end = offset + extent.bytes();
            if stretches.len() < STRETCHES_MAX
                && !is_same(blobs, buffers, &file, &mut found, (offset, extent))?
            {
                stretches.push(format!("{offset}..{end}"));
            }
            offset = end;
        }
        Ok(())
    })?;
    Ok(match (stretches.is_empty(), live_bytes == *size_bytes) {
        (true, true) => "differs in metadata".to_owned(),
        (true, false) => format!("has {live_bytes} bytes, {size_bytes} in the backup"),
        (false, _) => format!("differs in bytes {}", stretches.join(", ")),
    })
}

/// Whether a live file has at an offset what the extent says.
fn is_same(
    blobs: &Blobs,
    buffers: &mut ReadBuffers,
    file: &File,
    found: &mut Vec<u8>,
    (offset, extent): (u64, &Extent),
) -> Result<bool> {
    let read = |found: &mut Vec<u8>, at: u64, bytes: u64| {
        found.resize(bytes as usize, 0);
        file.read_exact_at(found, at).is_ok()
    };
    Ok(match extent {
        Extent::Data { id, bytes } => {
            read(found, offset, u64::from(*bytes))
                && ChunkId::of(blobs.chunk_id_key(), BlobKind::Data, found) == *id
        }
        Extent::Part { bytes, .. } => {
            let was_read = read(found, offset, u64::from(*bytes));
            blobs.read_part(extent, buffers, |part| was_read && part == found)?
        }
        Extent::Hole { bytes } => {
            let end = offset + bytes;
            let mut parts = (offset..end).step_by(BUFFER_BYTES);
            parts.all(|at| {
                read(found, at, (end - at).min(BUFFER_BYTES as u64))
                    && found.iter().all(|b| *b == 0)
            })
        }
    })
}
