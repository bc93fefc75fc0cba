//! The threads of a restore: one walks the tree and makes what has no contents, the others
//! write files.

use super::contents::{self, Pair};
use super::metadata::{Subject, apply, differs};
use super::target::{Target, shown, unlink};
use super::walk::Walker;
use super::{Action, Cause, NOTES_MAX, Note, Plan, RestoreRequest, WORKERS_MAX};
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
    way: Way,
}

/// What becomes of the name of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing is there.
    New,
    /// The file that is there is written into where it differs.
    Reuse,
    /// The file that is there would be replaced, and has the right contents.
    Right,
    /// What is there is moved aside or removed.
    Replace,
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
    plan: Mutex<Plan>,
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
) -> Result<(Notes, Plan, bool)> {
    let make = !request.dry_run;
    let target = Target::open(&request.target, request.set_aside.as_deref(), make)?;
    let key = *blobs.chunk_id_key();
    let (notes, plan, behind) = <(Mutex<Notes>, Mutex<Plan>, Mutex<Behind>)>::default();
    let restore = Restore { blobs, request, target, key, notes, plan, behind };
    if restore.target.is_none() {
        restore.plan(b"", Action::Make);
    }
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
    let (idle, _) = bounded(0);
    if has_links {
        Walker::new(&restore, backup, idle.clone()).links(entry);
    }
    if make {
        Walker::new(&restore, backup, idle).directories(entry);
        if let (Some(target), true) = (&restore.target, sync) {
            target.sync().map_err(VaultError::file("sync", request.target.clone()))?;
            synced = true;
        }
    }
    let plan = restore.plan.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((restore.notes.into_inner().unwrap_or_else(PoisonError::into_inner), plan, synced))
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

    /// Notes what a dry run would change.
    pub(super) fn plan(&self, path: &[u8], action: Action) {
        // As with a note.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).add(path, action);
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

    /// Looks at what is there, and says what becomes of it.
    fn way(&self, small: &Small) -> io::Result<(Way, Option<File>)> {
        let seen = match inode::look(&small.directory, &small.name) {
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Way::New, None)),
            Err(error) => return Err(error),
        };
        if seen.file_type != FileType::RegularFile {
            self.require_clearable(seen.file_type)?;
            return Ok((Way::Replace, None));
        }
        // A file with other names is another file too: it is replaced, not written into.
        if self.request.set_aside.is_none() && seen.links == 1 {
            return Ok((Way::Reuse, None));
        }
        // Right already: neither moved aside nor cut off from its other names.
        let file = inode::open_file(&small.directory, &small.name)?;
        let way = if self.is_right(small, &file) { Way::Right } else { Way::Replace };
        Ok((way, Some(file)))
    }

    /// Opens what is there and what will be written. What is in the way is moved aside, or
    /// removed where it is no directory.
    pub(super) fn open(&self, small: &Small) -> io::Result<Opened> {
        let (way, old) = self.way(small)?;
        let name = &small.name[..];
        if self.request.dry_run {
            let old = match way {
                Way::Reuse => Some(inode::open_file(&small.directory, name)?),
                _ => old,
            };
            return Ok(Opened { new: None, old, same: false, way });
        }
        match (way, old) {
            (Way::Reuse, _) => {
                let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let open = || {
                    rustix::fs::openat(&*small.directory, name, flags, Mode::empty())
                        .map(File::from)
                };
                Ok(Opened { new: Some(Arc::new(open()?)), old: Some(open()?), same: true, way })
            }
            (Way::Right, Some(file)) => {
                let same = Arc::new(file.try_clone()?);
                Ok(Opened { new: Some(same), old: Some(file), same: true, way })
            }
            (_, old) => {
                if way == Way::Replace {
                    self.clear(&small.path, &small.directory, name)?;
                }
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let flags = flags | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let new = rustix::fs::openat(&*small.directory, name, flags, mode)?;
                Ok(Opened { new: Some(Arc::new(File::from(new))), old, same: false, way })
            }
        }
    }

    /// Whether what is there can be made to go: nothing removes a directory.
    fn require_clearable(&self, file_type: FileType) -> io::Result<()> {
        match file_type == FileType::Directory && self.request.set_aside.is_none() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(()),
        }
    }

    /// Plans to make a name where something else is in the way.
    pub(super) fn plan_instead(&self, path: &[u8], file_type: FileType) -> io::Result<()> {
        self.require_clearable(file_type)?;
        let aside = self.request.set_aside.is_some();
        self.plan(path, if aside { Action::SetAside } else { Action::Remove });
        self.plan(path, Action::Make);
        Ok(())
    }

    /// Plans to give something right its metadata, where that differs.
    pub(super) fn plan_metadata(
        &self,
        path: &[u8],
        place: (&OwnedFd, &[u8]),
        entry: &Entry,
        subject: Subject,
    ) -> io::Result<()> {
        if differs(place.0, place.1, &entry.meta, subject, self.request)? {
            self.plan(path, Action::Adjust);
        }
        Ok(())
    }

    /// Plans what becomes of a file whose contents are compared.
    fn plan_file(&self, small: &Small, way: Way, differs: bool) -> io::Result<()> {
        let place = (&*small.directory, &small.name[..]);
        match way {
            Way::New => self.plan(&small.path, Action::Make),
            Way::Replace => {
                let seen = inode::look(place.0, place.1)?;
                self.plan_instead(&small.path, seen.file_type)?;
            }
            Way::Reuse if differs => self.plan(&small.path, Action::Rewrite),
            Way::Reuse | Way::Right => {
                self.plan_metadata(&small.path, place, &small.entry, Subject::Other)?;
            }
        }
        Ok(())
    }

    /// Whether a file that would be set aside has the right contents already.
    pub(super) fn is_right(&self, small: &Small, file: &File) -> bool {
        let (old, way) = (file.try_clone().ok(), Way::Right);
        let opened = Opened { new: None, old, same: false, way };
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
        let failed = |action| VaultError::file(action, shown(&small.path));
        let Some(new) = &opened.new else {
            let planned = self.plan_file(small, opened.way, differs || longer);
            return planned.map_err(failed("look at"));
        };
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
