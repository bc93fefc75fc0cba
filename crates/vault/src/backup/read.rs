//! Reads files: whole ones, segments of large ones, streams.

use super::chunks::ChunkWriter;
use super::content::ContentBuilder;
use crate::chunk::{BlobKind, CHUNK_AVERAGE_BYTES, Cutter};
use crate::error::{Result, VaultError};
use crate::source::inode::{self, Seen, Xattrs};
use crate::source::{FileToRead, FinishedRead, Place};
use crate::tree::{Content, Extent, Metadata, Stamp};
use blake3::Hasher;
use blake3::hazmat::HasherExt;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A larger file is read in segments of this, by several threads. A power of two, so that
/// their hashes join.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;
/// How much is read at once.
const WINDOW_BYTES: usize = 2 << 20;
/// A file that changes while it is read is read so often.
const READ_TRIES_MAX: u32 = 3;
pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file that was read.
pub(super) struct FileOutcome {
    pub(super) meta: Metadata,
    pub(super) stamp: Stamp,
    pub(super) content: Content,
    pub(super) size_bytes: u64,
    pub(super) root: [u8; 32],
    /// It kept changing while it was read.
    pub(super) unstable: bool,
}

/// Why a file was not read: the file's fault is told, the repository's ends the run.
pub(super) enum ReadFailure {
    File(io::Error),
    Run(VaultError),
}

impl From<VaultError> for ReadFailure {
    fn from(error: VaultError) -> ReadFailure {
        ReadFailure::Run(error)
    }
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> ReadFailure {
        ReadFailure::File(error)
    }
}

/// A worker's tools.
pub(super) struct Reader<'a> {
    pub(super) writer: ChunkWriter<'a>,
    pub(super) window: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(writer: ChunkWriter<'a>) -> Reader<'a> {
        Reader { writer, window: Vec::new() }
    }

    /// Opens a file to read.
    pub(super) fn open(file: &FileToRead) -> io::Result<Arc<File>> {
        match &file.place {
            Place::Open(open) => Ok(Arc::clone(open)),
            Place::In(directory) => {
                let open = inode::open_file(directory, &file.name)?;
                if inode::look_open(&open)?.file_type != rustix::fs::FileType::RegularFile {
                    return Err(io::Error::other("it was replaced by something else"));
                }
                Ok(Arc::new(open))
            }
        }
    }

    /// Opens a file, and says what its inode says. Its attributes are read after its stamp: a
    /// change of them in between is noticed like any other.
    pub(super) fn look(file: &FileToRead) -> io::Result<(Arc<File>, Seen, Xattrs)> {
        let open = Reader::open(file)?;
        let seen = inode::look_open(&open)?;
        let xattrs = inode::xattrs_open(&open)?;
        Ok((open, seen, xattrs))
    }

    /// Reads a file from beginning to end, again where it changes meanwhile.
    pub(super) fn whole(&mut self, file: &File) -> std::result::Result<FileOutcome, ReadFailure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let before = inode::look_open(file)?;
            let xattrs = inode::xattrs_open(file)?;
            let mut hasher = Hasher::new();
            let mut content = ContentBuilder::default();
            let (first, whole) = match before.size_bytes <= CHUNK_AVERAGE_BYTES as u64 {
                true => (self.small(file, &before, &mut content)?, true),
                false => (None, false),
            };
            if !whole {
                self.range(file, &before, 0, before.size_bytes, &mut hasher, &mut |e, w| {
                    content.push(e, w)
                })?;
            }
            let root = first.unwrap_or_else(|| *hasher.finalize().as_bytes());
            let after = inode::look_open(file)?;
            let (content, size_bytes) = content.finish(&mut self.writer)?;
            let same = is_same(&before, &after) && size_bytes == after.size_bytes;
            if same || tries == READ_TRIES_MAX {
                let counters = &self.writer.shared.counters;
                counters.files_read.fetch_add(1, Ordering::Relaxed);
                return Ok(FileOutcome {
                    meta: after.metadata(xattrs),
                    // What never stood still may be of several moments: no later backup takes
                    // it for what the file holds.
                    stamp: if same { after.stamp } else { Stamp::default() },
                    content,
                    size_bytes,
                    root,
                    unstable: !same,
                });
            }
        }
    }

    /// A file of one chunk is hashed once: its hash is the chunk's.
    fn small(
        &mut self,
        file: &File,
        seen: &Seen,
        content: &mut ContentBuilder,
    ) -> std::result::Result<Option<[u8; 32]>, ReadFailure> {
        self.window.resize(CHUNK_AVERAGE_BYTES + 1, 0);
        let mut range = Range { file, at: 0, end: seen.size_bytes };
        let length = fill(&mut range, &mut self.window[..seen.size_bytes as usize])?;
        let bytes = &self.window[..length];
        let hash = blake3::hash(bytes);
        if length > 0 {
            let id = self.writer.put(BlobKind::Data, bytes, &hash)?;
            content.push(Extent::Data { id, bytes: length as u32 }, &mut self.writer)?;
        }
        self.writer.shared.has_read(length as u64);
        Ok(Some(*hash.as_bytes()))
    }

    /// Reads one segment of a large file: its extents and its chaining value.
    pub(super) fn segment(
        &mut self,
        file: &File,
        seen: &Seen,
        offset: u64,
    ) -> std::result::Result<(Vec<Extent>, [u8; 32]), ReadFailure> {
        let end = (offset + SEGMENT_BYTES).min(seen.size_bytes);
        let mut hasher = Hasher::new();
        hasher.set_input_offset(offset);
        let mut extents = Vec::new();
        self.range(file, seen, offset, end, &mut hasher, &mut |extent, _| {
            extents.push(extent);
            Ok(())
        })?;
        if hasher.count() == 0 {
            return Err(ReadFailure::File(io::Error::other("it shrank while it was read")));
        }
        Ok((extents, hasher.finalize_non_root()))
    }

    /// Reads a range, holes apart.
    fn range(
        &mut self,
        file: &File,
        seen: &Seen,
        mut at: u64,
        end: u64,
        hasher: &mut Hasher,
        each: &mut dyn FnMut(Extent, &mut ChunkWriter<'a>) -> Result<()>,
    ) -> std::result::Result<(), ReadFailure> {
        while at < end {
            let (data, hole) = match seen.is_sparse() {
                true => data_from(file, at, end)?,
                false => (at, end),
            };
            if data > at {
                hash_zeros(hasher, data - at);
                each(Extent::Hole { bytes: data - at }, &mut self.writer)?;
            }
            if hole > data {
                let mut range = Range { file, at: data, end: hole };
                let read = self.stream(&mut range, hasher, each)?;
                if read < hole - data {
                    return Ok(()); // It shrank: the lengths will tell.
                }
            }
            at = hole;
        }
        Ok(())
    }

    /// Cuts a stream into chunks and stores them. Returns its length.
    fn stream(
        &mut self,
        input: &mut dyn Read,
        hasher: &mut Hasher,
        each: &mut dyn FnMut(Extent, &mut ChunkWriter<'a>) -> Result<()>,
    ) -> std::result::Result<u64, ReadFailure> {
        self.window.resize(WINDOW_BYTES, 0);
        let mut window = std::mem::take(&mut self.window);
        let mut kept = 0;
        let mut total = 0;
        loop {
            let read = fill(input, &mut window[kept..])?;
            hasher.update(&window[kept..kept + read]);
            self.writer.shared.has_read(read as u64);
            total += read as u64;
            let length = kept + read;
            let last = length < window.len();
            let used = Cutter::cut(&window[..length], last, |chunk| {
                let id = self.writer.put(BlobKind::Data, chunk, &blake3::hash(chunk))?;
                each(Extent::Data { id, bytes: chunk.len() as u32 }, &mut self.writer)
            })?;
            window.copy_within(used..length, 0);
            kept = length - used;
            if last {
                break;
            }
            if self.writer.shared.is_stopped() {
                return Err(super::chunks::stopped().into());
            }
        }
        self.window = window;
        Ok(total)
    }

    /// Reads a stream of unknown length to its end.
    pub(super) fn endless(
        &mut self,
        mut input: Box<dyn FinishedRead>,
        meta: Metadata,
    ) -> std::result::Result<FileOutcome, ReadFailure> {
        let mut hasher = Hasher::new();
        let mut content = ContentBuilder::default();
        self.stream(&mut input, &mut hasher, &mut |e, w| content.push(e, w))?;
        input.finish()?;
        let (content, size_bytes) = content.finish(&mut self.writer)?;
        self.writer.shared.counters.files_read.fetch_add(1, Ordering::Relaxed);
        let root = *hasher.finalize().as_bytes();
        let stamp = Stamp::default();
        Ok(FileOutcome { meta, stamp, content, size_bytes, root, unstable: false })
    }
}

/// Whether nothing was written between two looks.
pub(super) fn is_same(before: &Seen, after: &Seen) -> bool {
    before.size_bytes == after.size_bytes
        && before.mtime == after.mtime
        && before.stamp == after.stamp
}

/// The next stretch of data at or after `at`: where it begins and ends.
pub(super) fn data_from(file: &File, at: u64, end: u64) -> io::Result<(u64, u64)> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.min(end),
        Err(Errno::NXIO) => return Ok((end, end)),
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok((at, end)),
        Err(error) => return Err(error.into()),
    };
    if data >= end {
        return Ok((end, end));
    }
    let hole = seek(file, SeekFrom::Hole(data))?.min(end);
    Ok((data, hole.max(data)))
}

fn hash_zeros(hasher: &mut Hasher, mut bytes: u64) {
    while bytes > 0 {
        let part = bytes.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..part as usize]);
        bytes -= part;
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Reads a file from an offset on, until the buffer is full or the file ends.
pub(super) fn fill_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let end = at + buffer.len() as u64;
    fill(&mut Range { file, at, end }, buffer)
}

/// A range of a file; several threads read one file.
struct Range<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = (self.end - self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
