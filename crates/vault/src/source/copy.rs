//! A backup of another repository as a source: how backups are copied between repositories.
//! The copy is read, checked, sealed with the other repository's keys, and has the same root.

use super::{FinishedRead, Original, ScanContext, ScanEvent, ScanSink, Source};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::{Backup, SourceKind};
use crate::error::{Result, VaultError};
use crate::postgres::{Lsn, Position};
use crate::repository::Repository;
use crate::tree::{Content, EntryKind, Extent, Step, Walk, read_extents};
use crate::wal;
use std::io::{self, Read};
use std::sync::Arc;

/// Zeros of a hole are given in pieces of this.
const HOLE_PIECE_BYTES: u64 = 256 << 10;

/// A backup in another repository.
pub struct CopySource {
    blobs: Arc<Blobs>,
    record: u64,
    backup: Backup,
}

impl CopySource {
    /// Takes a backup, its record's number, and the chunks of its repository.
    pub fn new(blobs: Blobs, record: u64, backup: Backup) -> CopySource {
        CopySource { blobs: Arc::new(blobs), record, backup }
    }
}

impl Source for CopySource {
    fn kind(&self) -> SourceKind {
        self.backup.kind
    }

    fn origin(&self) -> String {
        self.backup.origin.clone()
    }

    fn position(&self) -> String {
        self.backup.subject.position.clone()
    }

    fn original(&self) -> Option<Original<'_>> {
        let repository = self.blobs.parts().1.repository;
        Some(Original { backup: &self.backup, repository, record: self.record })
    }

    /// A database's backup brings the log with it that it needs to open.
    fn before_record(&self, repository: &mut Repository) -> Result<()> {
        let Some(position) = Position::parse(&self.backup.subject.position) else { return Ok(()) };
        let (store, ring) = self.blobs.parts();
        let (source, size) = (&self.backup.source, position.segment_bytes);
        let catalog = wal::Catalog::load(store, ring, source, position.system)?;
        let mut archive = wal::Archive::open(repository, source, position.system, size)?;
        let (timeline, first) = (position.timeline, position.start.segment_start(size));
        if let Some(text) = wal::fetch_history(store, ring, &catalog, timeline)? {
            archive.store_history(repository, timeline, &text)?;
        }
        let mut at = first;
        while at < position.stop {
            let end = position.stop.min(Lsn(at.0 + size));
            let bytes = wal::fetch_stretch(store, ring, &catalog, timeline, at..end)?;
            archive.store(repository, timeline, at, &bytes)?;
            at = end;
        }
        archive.acknowledge(repository, timeline, (first, position.stop))
    }

    fn scan(&self, _context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        for step in Walk::new(&*self.blobs, b"", &self.backup.top) {
            match step {
                Step::Entry { entry, .. } => match entry.kind {
                    EntryKind::Directory { .. } => {
                        let (name, meta, stamp) = (entry.name, entry.meta, entry.stamp);
                        sink.event(ScanEvent::Enter { name, meta, stamp })?;
                    }
                    EntryKind::File { content, .. } => {
                        let stream = Box::new(Chunks::new(Arc::clone(&self.blobs), content));
                        let (name, meta) = (entry.name, entry.meta);
                        sink.event(ScanEvent::Stream { name, meta, stream })?;
                    }
                    _ => sink.event(ScanEvent::Ready(entry))?,
                },
                Step::Leave { .. } => sink.event(ScanEvent::Leave)?,
                Step::Lost { error, .. } => return Err(error),
            }
        }
        Ok(())
    }
}

/// A stored file as a stream.
struct Chunks {
    blobs: Arc<Blobs>,
    lists: std::vec::IntoIter<crate::chunk::ChunkId>,
    extents: std::vec::IntoIter<Extent>,
    buffers: ReadBuffers,
    piece: Vec<u8>,
    at: usize,
    hole_bytes: u64,
    failure: Option<VaultError>,
}

impl Chunks {
    fn new(blobs: Arc<Blobs>, content: Content) -> Chunks {
        let (extents, lists) = match content {
            Content::Inline(extents) => (extents, Vec::new()),
            Content::Lists(lists) => (Vec::new(), lists),
        };
        Chunks {
            blobs,
            lists: lists.into_iter(),
            extents: extents.into_iter(),
            buffers: ReadBuffers::default(),
            piece: Vec::new(),
            at: 0,
            hole_bytes: 0,
            failure: None,
        }
    }

    /// Fetches the next piece; false at the end.
    fn advance(&mut self) -> Result<bool> {
        loop {
            self.at = 0;
            self.piece.clear();
            if self.hole_bytes > 0 {
                let part = self.hole_bytes.min(HOLE_PIECE_BYTES);
                self.piece.resize(part as usize, 0);
                self.hole_bytes -= part;
                return Ok(true);
            }
            match self.extents.next() {
                Some(Extent::Hole { bytes }) => self.hole_bytes = bytes,
                Some(Extent::Data { id, .. }) => {
                    let piece = &mut self.piece;
                    self.blobs.read(&id, &mut self.buffers, |p| piece.extend_from_slice(p))?;
                    return Ok(true);
                }
                Some(extent @ Extent::Part { .. }) => {
                    let piece = &mut self.piece;
                    self.blobs.read_part(&extent, &mut self.buffers, |p| {
                        piece.extend_from_slice(p);
                    })?;
                    return Ok(true);
                }
                None => match self.lists.next() {
                    None => return Ok(false),
                    Some(list) => {
                        let extents = read_extents(&self.blobs, &list, &mut self.buffers)?;
                        self.extents = extents.into_iter();
                    }
                },
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    // `finish` tells it: an I/O error would only skip the file.
                    self.failure.get_or_insert(error);
                    return Ok(0);
                }
            }
        }
        let part = buffer.len().min(self.piece.len() - self.at);
        buffer[..part].copy_from_slice(&self.piece[self.at..self.at + part]);
        self.at += part;
        Ok(part)
    }
}

impl FinishedRead for Chunks {
    fn finish(&mut self) -> Result<()> {
        match self.failure.take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}
