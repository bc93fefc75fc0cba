//! Walks the tree of a restore twice: first everything but further names, then those, and the
//! metadata of directories once nothing in them changes any more.

use super::linked;
use super::metadata::{Subject, apply};
use super::target::{shown, split};
use super::threads::{Large, Restore, Small, Task};
use crate::blobs::ReadBuffers;
use crate::chain::Backup;
use crate::error::{Result, VaultError, explain};
use crate::source::inode;
use crate::tree::{Entry, EntryKind, PATH_BYTES_MAX, Step, Walk, each_extents};
use crossbeam_channel::Sender;
use rustix::fs::{AtFlags, FileType, Mode, makedev};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A larger file is written by several threads.
const LARGE_BYTES: u64 = 16 << 20;
/// Extents of one part: about 16 MiB.
const PART_EXTENTS: usize = 256;
/// Small files handed to a writer together.
const BATCH_FILES_MAX: usize = 64;
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Directories of one batch: each is an open descriptor, as long as the batch waits.
const BATCH_DIRECTORIES_MAX: usize = 16;

/// The walk.
pub(super) struct Walker<'r, 'a> {
    restore: &'r Restore<'a>,
    backup: &'r Backup,
    tasks: Sender<Task>,
    batch: Vec<Small>,
    batch_bytes: u64,
    batch_directories: usize,
    near: Option<(Vec<u8>, Arc<OwnedFd>)>,
    /// The path in the backup that the target stands for.
    base: Vec<u8>,
}

impl<'r, 'a> Walker<'r, 'a> {
    pub(super) fn new(
        restore: &'r Restore<'a>,
        backup: &'r Backup,
        tasks: Sender<Task>,
    ) -> Walker<'r, 'a> {
        let parts: Vec<&[u8]> =
            restore.request.path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        let base = parts.join(&b'/');
        let (batch, batch_bytes, batch_directories) = (Vec::new(), 0, 0);
        Walker { restore, backup, tasks, batch, batch_bytes, batch_directories, near: None, base }
    }

    /// Where an entry of the backup lies below the target.
    fn relative<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let rest = path.strip_prefix(&self.base[..]).unwrap_or(path);
        rest.strip_prefix(b"/").unwrap_or(rest)
    }

    fn steps(&self, entry: &Entry) -> Walk<'a> {
        Walk::new(self.restore.blobs, &self.base, entry)
    }

    /// A single file goes into the target under its own name.
    fn place(&self, path: &[u8], entry: &Entry, top: &Entry) -> Vec<u8> {
        let relative = self.relative(path).to_vec();
        let is_single = relative.is_empty() && !matches!(top.kind, EntryKind::Directory { .. });
        match is_single {
            true => name_of_single(&self.backup.origin, entry),
            false => relative,
        }
    }

    fn parent(&mut self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let (parent, _) = split(path);
        if let Some((near, fd)) = &self.near
            && near == parent
        {
            return Ok(Arc::clone(fd));
        }
        let target = self.restore.target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let fd = target.directory(parent)?;
        self.near = Some((parent.to_vec(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// Makes directories, links, pipes and devices, and hands files to the writers.
    pub(super) fn first_pass(mut self, top: &Entry) -> Result<()> {
        let mut walk = self.steps(top);
        while let Some(step) = walk.next() {
            match step {
                Step::Entry { path, entry } => {
                    let place = self.place(&path, &entry, top);
                    if place.len() > PATH_BYTES_MAX {
                        self.restore.note(&place, "its path is longer than the system takes");
                        walk.skip_contents();
                        continue;
                    }
                    match self.first(&place, entry) {
                        Ok(()) => {}
                        Err(error @ VaultError::Limit { .. }) => return Err(error),
                        Err(error) => {
                            self.restore.note(&place, explain(&error));
                            walk.skip_contents();
                        }
                    }
                }
                Step::Leave { .. } => {}
                Step::Lost { path, error } => {
                    let what = format!("a part of this directory is lost: {}", explain(&error));
                    self.restore.note(self.relative(&path), what);
                }
            }
        }
        self.flush()
    }

    fn first(&mut self, place: &[u8], entry: Box<Entry>) -> Result<()> {
        let failed = |action| VaultError::file(action, shown(place));
        match &entry.kind {
            EntryKind::Directory { .. } => {
                if place.is_empty() || self.restore.request.dry_run {
                    return Ok(());
                }
                self.directory(place).map_err(failed("make the directory"))
            }
            EntryKind::File { .. } => self.file(place, entry),
            EntryKind::HardLink { target } => {
                if self.is_inside(target) {
                    return Ok(()); // The second pass links it.
                }
                let file = linked(self.restore.blobs, &self.backup.top, target)?;
                let kind = file.kind;
                self.file(place, Box::new(Entry { kind, ..*entry }))
            }
            _ if self.restore.request.dry_run => Ok(()),
            _ => self.special(place, &entry),
        }
    }

    /// Whether a path of the backup is restored too.
    fn is_inside(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(&self.base[..]);
        self.base.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
    }

    fn directory(&mut self, place: &[u8]) -> io::Result<()> {
        let parent = self.parent(place)?;
        let (_, name) = split(place);
        match rustix::fs::mkdirat(&*parent, name, Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if inode::look(&parent, name)?.file_type == FileType::Directory {
            // Owner's rights while it is written into; its own come last.
            let mode = Mode::RWXU;
            return Ok(rustix::fs::chmodat(&*parent, name, mode, AtFlags::empty())?);
        }
        self.restore.clear(place, &parent, name)?;
        Ok(rustix::fs::mkdirat(&*parent, name, Mode::RWXU)?)
    }

    fn file(&mut self, place: &[u8], entry: Box<Entry>) -> Result<()> {
        let directory = match self.parent(place) {
            Ok(directory) => directory,
            Err(_) if self.restore.request.dry_run => {
                // Its directory is not there: the file would be new.
                self.restore.request.counters.files_changed.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => {
                return Err(VaultError::file("open the directory of", shown(place))(error));
            }
        };
        let EntryKind::File { size_bytes, .. } = entry.kind else { return Ok(()) };
        let name = split(place).1.to_vec();
        let small = Small { directory, path: place.to_vec(), name, entry };
        if size_bytes > LARGE_BYTES {
            return self.large(small);
        }
        let last = self.batch.last().map(|last| &last.directory);
        let other = last.is_none_or(|last| !Arc::ptr_eq(last, &small.directory));
        self.batch_directories += usize::from(other);
        self.batch.push(small);
        self.batch_bytes += size_bytes;
        let full = self.batch.len() >= BATCH_FILES_MAX
            || self.batch_bytes >= BATCH_BYTES_MAX
            || self.batch_directories >= BATCH_DIRECTORIES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        self.batch_directories = 0;
        let batch = std::mem::take(&mut self.batch);
        self.tasks.send(Task::Small(batch)).map_err(|_| gone())
    }

    fn large(&mut self, small: Small) -> Result<()> {
        self.flush()?;
        let opened = self.restore.open(&small);
        let opened = opened.map_err(VaultError::file("open", shown(&small.path)))?;
        let large = Arc::new(Large {
            small,
            opened,
            left: AtomicU64::new(1),
            differs: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut buffers = ReadBuffers::default();
        let kind = &large.small.entry.kind;
        let sent = each_extents(self.restore.blobs, kind, &mut buffers, |_, mut offset, all| {
            for extents in all.chunks(PART_EXTENTS) {
                large.left.fetch_add(1, Ordering::AcqRel);
                let extents = extents.to_vec();
                let bytes: u64 = extents.iter().map(|e| e.bytes()).sum();
                let task = Task::Part { large: Arc::clone(&large), offset, extents };
                self.tasks.send(task).map_err(|_| gone())?;
                offset += bytes;
            }
            Ok(())
        });
        if sent.is_err() {
            large.failed.store(true, Ordering::Release);
        }
        self.restore.finish_part(&large);
        sent
    }

    fn special(&mut self, place: &[u8], entry: &Entry) -> Result<()> {
        let failed = |action| VaultError::file(action, shown(place));
        let is_device =
            matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
        if is_device && !self.restore.request.devices {
            self.restore.note(place, "it is a device; --devices restores devices");
            return Ok(());
        }
        let parent = self.parent(place).map_err(failed("open the directory of"))?;
        let (_, name) = split(place);
        let is_right = is_right(&parent, name, &entry.kind);
        if !is_right && inode::look(&parent, name).is_ok() {
            self.restore.clear(place, &parent, name).map_err(failed("replace"))?;
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let node = |kind, device| rustix::fs::mknodat(&*parent, name, kind, mode, device);
        let (made, subject) = match &entry.kind {
            EntryKind::Symlink { target } => {
                (rustix::fs::symlinkat(&target[..], &*parent, name), Subject::Link)
            }
            EntryKind::Fifo => (node(FileType::Fifo, 0), Subject::Other),
            EntryKind::Socket => (node(FileType::Socket, 0), Subject::Other),
            EntryKind::CharDevice { major, minor } => {
                (node(FileType::CharacterDevice, makedev(*major, *minor)), Subject::Other)
            }
            EntryKind::BlockDevice { major, minor } => {
                (node(FileType::BlockDevice, makedev(*major, *minor)), Subject::Other)
            }
            _ => return Ok(()),
        };
        match made {
            Err(Errno::EXIST) if is_right => {}
            made => made.map_err(|e| failed("make")(e.into()))?,
        }
        let notes = apply(&parent, name, &entry.meta, subject, self.restore.request)
            .map_err(failed("set the metadata of"))?;
        notes.into_iter().for_each(|n| self.restore.note(place, n));
        Ok(())
    }

    /// Links further names, and gives directories their metadata.
    pub(super) fn second_pass(mut self, top: &Entry) -> Result<()> {
        for step in self.steps(top) {
            match step {
                Step::Entry { path, entry } => {
                    let place = self.place(&path, &entry, top);
                    if let EntryKind::HardLink { target } = &entry.kind
                        && self.is_inside(target)
                        && let Err(error) = self.link(&place, target)
                    {
                        self.restore.note(&place, format!("it could not be linked: {error}"));
                    }
                }
                Step::Leave { path, entry } => {
                    let place = self.relative(&path).to_vec();
                    if let Err(error) = self.leave(&place, &entry) {
                        let what = format!("its metadata could not be set: {error}");
                        self.restore.note(&place, what);
                    }
                }
                Step::Lost { .. } => {} // Noted in the first pass.
            }
        }
        Ok(())
    }

    fn link(&mut self, place: &[u8], target: &[u8]) -> io::Result<()> {
        let from_path = self.relative(target).to_vec();
        let root = self.restore.target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let from = root.directory(split(&from_path).0)?;
        let parent = self.parent(place)?;
        let (name, from_name) = (split(place).1, split(&from_path).1);
        let source = inode::look(&from, from_name)?;
        if source.file_type != FileType::RegularFile {
            return Err(io::Error::other("its first name is no file"));
        }
        if let Ok(seen) = inode::look(&parent, name) {
            if seen.stamp.inode == source.stamp.inode && seen.device == source.device {
                return Ok(());
            }
            self.restore.clear(place, &parent, name)?;
        }
        Ok(rustix::fs::linkat(&*from, from_name, &*parent, name, AtFlags::empty())?)
    }

    fn leave(&mut self, place: &[u8], entry: &Entry) -> io::Result<()> {
        let root = self.restore.target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let directory = root.directory(place)?;
        let notes = apply(&directory, b"", &entry.meta, Subject::Other, self.restore.request)?;
        notes.into_iter().for_each(|n| self.restore.note(place, n));
        if place.is_empty() {
            // The target's own entry is its parent's business; nothing more to do.
            debug_assert!(Arc::ptr_eq(&directory, root.root()));
        }
        Ok(())
    }
}

/// Whether a link, pipe, socket or device is there already.
fn is_right(parent: &OwnedFd, name: &[u8], kind: &EntryKind) -> bool {
    let Ok(seen) = inode::look(parent, name) else { return false };
    match kind {
        EntryKind::Symlink { target } => rustix::fs::readlinkat(parent, name, Vec::new())
            .is_ok_and(|found| found.as_bytes() == target.as_slice()),
        EntryKind::Fifo => seen.file_type == FileType::Fifo,
        EntryKind::Socket => seen.file_type == FileType::Socket,
        EntryKind::CharDevice { major, minor } => {
            seen.file_type == FileType::CharacterDevice && seen.rdev == makedev(*major, *minor)
        }
        EntryKind::BlockDevice { major, minor } => {
            seen.file_type == FileType::BlockDevice && seen.rdev == makedev(*major, *minor)
        }
        _ => false,
    }
}

fn gone() -> VaultError {
    let what = "the number of writers, all of which ended early,".to_owned();
    VaultError::Limit { what, limit: 0 }
}

/// The name under which a restored file lies that is all that was asked for: the top of a backup
/// of one file has none of its own.
pub(crate) fn name_of_single(origin: &str, entry: &Entry) -> Vec<u8> {
    if !entry.name.is_empty() {
        return entry.name.clone();
    }
    let name = split(origin.as_bytes()).1;
    let usable = !name.is_empty() && name != b".." && name != b".";
    if usable { name.to_vec() } else { b"restored".to_vec() }
}
