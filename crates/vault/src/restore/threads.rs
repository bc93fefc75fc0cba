//! The threads of a restore: one walks the tree and makes what has no contents, the others
//! write files.

use super::contents::{self, Pair};
use super::metadata::{Subject, apply};
use super::target::{Target, shown, unlink};
use super::walk::Walker;
use super::{Cause, NOTES_MAX, Note, RestoreRequest, WORKERS_MAX};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::error::{Result, VaultError, explain};
use crate::source::inode;
use crate::tree::{Entry, EntryKind, Extent, each_extents};
use crossbeam_channel::{Receiver, bounded};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Work waiting for a writer.
const TASKS_MAX: usize = 16;

/// Bytes and files between writing and leaving the page cache.
const BEHIND_BYTES_MAX: u64 = 64 << 20;
const BEHIND_FILES_MAX: usize = 128;

/// What happened to paths.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) listed: Vec<Note>,
    /// Beyond the list.
    pub(super) more: u64,
    /// Of all.
    pub(super) failed: u64,
}

/// A small file.
pub(super) struct Small {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) path: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) entry: Box<Entry>,
}

/// A large file, written by several threads.
pub(super) struct Large {
    pub(super) small: Small,
    pub(super) opened: Opened,
    /// Parts not finished, and one for the walker until it has sent them all.
    pub(super) left: AtomicU64,
    pub(super) differs: AtomicBool,
    pub(super) failed: AtomicBool,
}

/// A small file or a part of a large one that was written.
struct Written {
    file: Arc<File>,
    offset: u64,
    bytes: NonZeroU64,
}

impl Written {
    /// Has the disk begin with it, or where that has ended, the page cache let it go. A file system
    /// that doesn't take the advice loses time.
    fn advise(&self) {
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(&*self.file, self.offset, Some(self.bytes), advice);
    }
}

/// The files behind a path.
pub(super) struct Opened {
    new: Option<Arc<File>>,
    old: Option<File>,
    same: bool,
}

/// Work for a writer.
pub(super) enum Task {
    Small(Vec<Small>),
    Part { large: Arc<Large>, offset: u64, extents: Vec<Extent> },
}

/// What the threads share.
pub(super) struct Restore<'a> {
    pub(super) blobs: &'a Blobs,
    pub(super) request: &'a RestoreRequest,
    pub(super) target: Option<Target>,
    key: [u8; 32],
    notes: Mutex<Notes>,
    behind: Mutex<Behind>,
}

/// What the disk is at, in the order of writing, and how many bytes that is.
#[derive(Default)]
struct Behind {
    parts: VecDeque<Written>,
    bytes: u64,
}

impl Behind {
    /// Takes a part in, and gives out those that the disk has had time for.
    fn push(&mut self, part: Written) -> Vec<Written> {
        self.bytes += part.bytes.get();
        self.parts.push_back(part);
        let mut done = Vec::new();
        while self.bytes > BEHIND_BYTES_MAX || self.parts.len() > BEHIND_FILES_MAX {
            let Some(part) = self.parts.pop_front() else { break };
            self.bytes -= part.bytes.get();
            done.push(part);
        }
        done
    }
}

pub(super) fn restore(
    blobs: &Blobs,
    backup: &Backup,
    entry: &Entry,
    request: &RestoreRequest,
    sync: bool,
) -> Result<(Notes, bool)> {
    let make = !request.dry_run;
    let target = Target::open(&request.target, request.set_aside.as_deref(), make)?;
    let key = *blobs.chunk_id_key();
    let (notes, behind) = <(Mutex<Notes>, Mutex<Behind>)>::default();
    let restore = Restore { blobs, request, target, key, notes, behind };
    let has_links = thread::scope(|scope| -> Result<bool> {
        let (tasks_in, tasks) = bounded(TASKS_MAX);
        for _ in 0..request.workers.clamp(1, WORKERS_MAX) {
            let tasks = tasks.clone();
            let restore = &restore;
            scope.spawn(move || restore.work(&tasks));
        }
        drop(tasks);
        Walker::new(&restore, backup, tasks_in).first_pass(entry)
    })?;
    let mut synced = false;
    if make {
        let (idle, _) = bounded(0);
        if has_links {
            Walker::new(&restore, backup, idle.clone()).links(entry);
        }
        Walker::new(&restore, backup, idle).directories(entry);
        if let (Some(target), true) = (&restore.target, sync) {
            target.sync().map_err(VaultError::file("sync", request.target.clone()))?;
            synced = true;
        }
    }
    Ok((restore.notes.into_inner().unwrap_or_else(PoisonError::into_inner), synced))
}

impl Restore<'_> {
    /// Notes what could not be restored as it was.
    pub(super) fn note(&self, path: &[u8], what: impl Into<String>) {
        self.note_as(Cause::Failed, path, what);
    }

    /// As [`Restore::note`], for another cause than a failure.
    pub(super) fn note_as(&self, cause: Cause, path: &[u8], what: impl Into<String>) {
        // A note is one push: a panic elsewhere leaves the list whole.
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.failed += u64::from(cause == Cause::Failed);
        if notes.listed.len() < NOTES_MAX {
            let path = String::from_utf8_lossy(path).into_owned();
            notes.listed.push(Note { path, what: what.into(), cause });
        } else {
            notes.more += 1;
        }
    }

    fn work(&self, tasks: &Receiver<Task>) {
        let mut buffers = ReadBuffers::default();
        for task in tasks {
            match task {
                Task::Small(batch) => {
                    for small in batch {
                        if let Err(error) = self.small(&small, &mut buffers) {
                            self.note(&small.path, explain(&error));
                        }
                    }
                }
                Task::Part { large, offset, extents } => {
                    let done = self.part(&large, offset, &extents, &mut buffers);
                    if let Err(error) = done
                        && !large.failed.swap(true, Ordering::AcqRel)
                    {
                        self.note(&large.small.path, explain(&error));
                    }
                    self.finish_part(&large);
                }
            }
        }
    }

    fn small(&self, small: &Small, buffers: &mut ReadBuffers) -> Result<()> {
        let path = shown(&small.path);
        let opened = self.open(small).map_err(VaultError::file("open", path.clone()))?;
        let mut differs = opened.old.is_none();
        each_extents(self.blobs, &small.entry.kind, buffers, |buffers, offset, extents| {
            differs |= self.extents(&opened, small, offset, extents, buffers)?;
            Ok(())
        })?;
        self.close(small, &opened, differs)?;
        if let EntryKind::File { size_bytes, .. } = &small.entry.kind {
            self.write_behind(&opened, 0, *size_bytes);
        }
        Ok(())
    }

    fn extents(
        &self,
        opened: &Opened,
        small: &Small,
        offset: u64,
        extents: &[Extent],
        buffers: &mut ReadBuffers,
    ) -> Result<bool> {
        let path = shown(&small.path);
        let pair = Pair {
            new: opened.new.as_deref(),
            old: opened.old.as_ref(),
            same: opened.same,
            path: &path,
        };
        let counters = &self.request.counters;
        contents::extents(self.blobs, &self.key, &pair, offset, extents, buffers, counters)
    }

    fn part(
        &self,
        large: &Large,
        offset: u64,
        extents: &[Extent],
        buffers: &mut ReadBuffers,
    ) -> Result<()> {
        if self.extents(&large.opened, &large.small, offset, extents, buffers)? {
            large.differs.store(true, Ordering::Release);
        }
        self.write_behind(&large.opened, offset, extents.iter().map(Extent::bytes).sum());
        Ok(())
    }

    /// The disk begins with a part now and not with the sync that ends the restore, and what it
    /// has finished leaves the page cache: a restore may be larger than memory, and memory that
    /// was just used is the quickest.
    fn write_behind(&self, opened: &Opened, offset: u64, bytes: u64) {
        let (Some(new), Some(bytes)) = (&opened.new, NonZeroU64::new(bytes)) else { return };
        let part = Written { file: Arc::clone(new), offset, bytes };
        part.advise();
        // A panic elsewhere leaves the queue whole enough for advice.
        let done = self.behind.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        done.iter().for_each(Written::advise);
    }

    /// Whoever finishes last gives the file its metadata.
    pub(super) fn finish_part(&self, large: &Large) {
        if large.left.fetch_sub(1, Ordering::AcqRel) != 1 || large.failed.load(Ordering::Acquire) {
            return;
        }
        let differs = large.differs.load(Ordering::Acquire) || large.opened.old.is_none();
        if let Err(error) = self.close(&large.small, &large.opened, differs) {
            self.note(&large.small.path, explain(&error));
        }
    }

    /// Opens what is there and what will be written. What is in the way is moved aside, or
    /// removed where it is no directory.
    pub(super) fn open(&self, small: &Small) -> io::Result<Opened> {
        let seen = match inode::look(&small.directory, &small.name) {
            Ok(seen) => Some(seen),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_file = seen.is_some_and(|s| s.file_type == FileType::RegularFile);
        let open_old = || inode::open_file(&small.directory, &small.name);
        if self.request.dry_run {
            let old = if is_file { Some(open_old()?) } else { None };
            return Ok(Opened { new: None, old, same: false });
        }
        let keeps = self.request.set_aside.is_some();
        // A file with other names is another file too: it is replaced, not written into.
        let reuse = is_file && !keeps && seen.is_some_and(|s| s.links == 1);
        if reuse {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let open = || {
                rustix::fs::openat(&*small.directory, &small.name[..], flags, Mode::empty())
                    .map(File::from)
            };
            return Ok(Opened { new: Some(Arc::new(open()?)), old: Some(open()?), same: true });
        }
        let mut old = None;
        if is_file {
            // Right already: neither moved aside nor cut off from its other names.
            let file = open_old()?;
            if self.is_right(small, &file) {
                let same = Arc::new(file.try_clone()?);
                return Ok(Opened { new: Some(same), old: Some(file), same: true });
            }
            old = Some(file);
        }
        if seen.is_some() {
            self.clear(&small.path, &small.directory, &small.name)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let new = rustix::fs::openat(&*small.directory, &small.name[..], flags, mode)?;
        Ok(Opened { new: Some(Arc::new(File::from(new))), old, same: false })
    }

    /// Whether a file that would be set aside has the right contents already.
    fn is_right(&self, small: &Small, file: &File) -> bool {
        let opened = Opened { new: None, old: file.try_clone().ok(), same: false };
        let EntryKind::File { size_bytes, .. } = &small.entry.kind else { return false };
        let mut differs = file.metadata().map_or(true, |m| m.len() != *size_bytes);
        let mut buffers = ReadBuffers::default();
        let before = self.request.counters.bytes.load(Ordering::Relaxed);
        let compared =
            each_extents(self.blobs, &small.entry.kind, &mut buffers, |buffers, at, extents| {
                if !differs {
                    differs |= self.extents(&opened, small, at, extents, buffers)?;
                }
                Ok(())
            });
        self.request.counters.bytes.store(before, Ordering::Relaxed);
        compared.is_ok() && !differs
    }

    /// Makes a name free.
    pub(super) fn clear(&self, path: &[u8], directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let aside = match &self.target {
            Some(target) => target.set_aside(path)?,
            None => false,
        };
        if aside {
            self.request.counters.set_aside.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        unlink(directory, name)
    }

    /// Gives a complete file its length and metadata.
    fn close(&self, small: &Small, opened: &Opened, differs: bool) -> Result<()> {
        let counters = &self.request.counters;
        counters.files.fetch_add(1, Ordering::Relaxed);
        let EntryKind::File { size_bytes, .. } = &small.entry.kind else { return Ok(()) };
        let longer = match &opened.old {
            Some(old) => {
                let meta =
                    old.metadata().map_err(VaultError::file("look at", shown(&small.path)))?;
                meta.len() != *size_bytes
            }
            None => false,
        };
        if differs || longer {
            counters.files_changed.fetch_add(1, Ordering::Relaxed);
        }
        let Some(new) = &opened.new else { return Ok(()) };
        let failed = |action| VaultError::file(action, shown(&small.path));
        if new.metadata().map_err(failed("look at"))?.len() != *size_bytes {
            new.set_len(*size_bytes).map_err(failed("set the length of"))?;
        }
        let meta = &small.entry.meta;
        let notes = apply(&small.directory, &small.name, meta, Subject::Other, self.request)
            .map_err(failed("set the metadata of"))?;
        notes.into_iter().for_each(|(cause, n)| self.note_as(cause, &small.path, n));
        Ok(())
    }
}
