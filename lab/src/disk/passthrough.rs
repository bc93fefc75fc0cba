//! The file system itself: each request of the kernel's is done in a directory, with what is wrong
//! at the moment. The kernel keeps nothing of it: what is read, is read here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use super::faults::{Shared, lock, refused};
use super::names::Names;

/// The kernel believes nothing for longer than this.
const BELIEVED: Duration = Duration::ZERO;
/// Where the log lies, below the root.
const LOG: &str = "log";

/// An open file, or directory.
#[derive(Debug, Clone)]
struct Open {
    file: Arc<File>,
    number: u64,
    log: bool,
}

/// The file system.
#[derive(Debug)]
pub(super) struct Passthrough {
    root: PathBuf,
    shared: Arc<Shared>,
    names: Mutex<Names>,
    open: Mutex<HashMap<u64, Open>>,
}

impl Passthrough {
    pub(super) fn new(root: &Path, shared: Arc<Shared>) -> Passthrough {
        let (names, open) = (Mutex::new(Names::new()), Mutex::default());
        Passthrough { root: root.to_owned(), shared, names, open }
    }

    /// Where a number lies, below the root. Another file may have taken its name since the kernel
    /// asked for it: told that it is stale, the kernel asks again.
    fn below(&self, number: INodeNo) -> io::Result<PathBuf> {
        let names = lock(&self.names);
        names.path(number.0).map(Path::to_owned).ok_or_else(|| refused(Errno::ESTALE))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.below(parent)?.join(name))
    }

    fn entry(&self, below: &Path) -> io::Result<FileAttr> {
        let metadata = self.root.join(below).symlink_metadata()?;
        attributes(lock(&self.names).number(below), &metadata)
    }

    fn opened(&self, handle: FileHandle) -> io::Result<Open> {
        lock(&self.open).get(&handle.0).cloned().ok_or_else(|| refused(Errno::EBADF))
    }

    fn keep_open(&self, below: &Path, file: File) -> FileHandle {
        let number = lock(&self.names).number(below);
        let open = Open { file: Arc::new(file), number, log: below.starts_with(LOG) };
        let mut all = lock(&self.open);
        let handle = (1..).find(|handle| !all.contains_key(handle)).unwrap_or(0);
        all.insert(handle, open);
        FileHandle(handle)
    }

    fn open_file(&self, number: INodeNo) -> io::Result<FileHandle> {
        let below = self.below(number)?;
        let path = self.root.join(&below);
        // Whoever may only read is told so by the kernel: this process is root.
        let file = match path.is_dir() {
            true => File::open(path)?,
            false => File::options().read(true).write(true).open(path)?,
        };
        Ok(self.keep_open(&below, file))
    }

    fn create_file(&self, below: &Path, mode: u32, flags: i32) -> io::Result<File> {
        self.shared.writing(false)?;
        let only_new = OFlags::from_bits_retain(flags.cast_unsigned()).contains(OFlags::EXCL);
        let mut options = File::options();
        options.read(true).write(true).mode(mode);
        options.create(true).create_new(only_new).truncate(false).open(self.root.join(below))
    }

    /// Changes the length of a file, or who may do what with it. Nobody here sets times.
    fn set(
        &self,
        number: INodeNo,
        handle: Option<FileHandle>,
        mode: Option<u32>,
        size: Option<u64>,
    ) -> io::Result<FileAttr> {
        let open = handle.map(|handle| self.opened(handle)).transpose()?;
        if mode.is_some() || size.is_some() {
            self.shared.changing()?;
        }
        let file = match &open {
            Some(open) => Arc::clone(&open.file),
            None => Arc::new(self.file_of(number)?),
        };
        if let Some(mode) = mode {
            file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        }
        if let Some(size) = size {
            self.shared.unsynced().keep(number.0, &file, size, None)?;
            file.set_len(size)?;
        }
        attributes(number.0, &file.metadata()?)
    }

    fn file_of(&self, number: INodeNo) -> io::Result<File> {
        let path = self.root.join(self.below(number)?);
        let directory = path.is_dir();
        File::options().read(true).write(!directory).open(path)
    }

    fn write_at(&self, handle: FileHandle, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Open { file, number, log } = self.opened(handle)?;
        if !self.shared.writing(log)? {
            // Its length is there, its content is not.
            let end = offset + bytes.len() as u64;
            return if file.metadata()?.len() < end { file.set_len(end) } else { Ok(()) };
        }
        self.shared.unsynced().keep(number, &file, offset, Some(bytes.len()))?;
        file.write_all_at(bytes, offset)
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let Open { file, log, .. } = self.opened(handle)?;
        self.shared.reading()?;
        let mut bytes = vec![0; size as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        if log {
            self.shared.read(&mut bytes);
        }
        Ok(bytes)
    }

    fn list(&self, number: INodeNo) -> io::Result<Vec<(u64, FileType, std::ffi::OsString)>> {
        let below = self.below(number)?;
        let parent = below.parent().unwrap_or(Path::new("")).to_owned();
        let mut all = vec![
            (number.0, FileType::Directory, ".".into()),
            (lock(&self.names).number(&parent), FileType::Directory, "..".into()),
        ];
        for entry in std::fs::read_dir(self.root.join(&below))? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = FileType::from_std(entry.file_type()?).ok_or(refused(Errno::EIO))?;
            all.push((lock(&self.names).number(&below.join(&name)), kind, name));
        }
        all[2..].sort_by(|one, other| one.2.cmp(&other.2));
        Ok(all)
    }

    fn sync(&self, handle: FileHandle, reply: ReplyEmpty) {
        match self.opened(handle) {
            Ok(open) => self.shared.sync(open.file, open.number, reply),
            Err(error) => reply.error(error.into()),
        }
    }

    fn close(&self, handle: FileHandle, reply: ReplyEmpty) {
        lock(&self.open).remove(&handle.0);
        reply.ok();
    }

    /// Removes a name by one of the two ways.
    fn unname(
        &self,
        parent: INodeNo,
        name: &OsStr,
        remove: impl Fn(PathBuf) -> io::Result<()>,
    ) -> io::Result<()> {
        self.shared.changing()?;
        let below = self.child(parent, name)?;
        remove(self.root.join(&below))?;
        lock(&self.names).remove(&below);
        Ok(())
    }
}

fn attributes(number: u64, metadata: &Metadata) -> io::Result<FileAttr> {
    let kind = FileType::from_std(metadata.file_type()).ok_or(refused(Errno::EIO))?;
    Ok(FileAttr {
        ino: INodeNo(number),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: metadata.accessed()?,
        mtime: metadata.modified()?,
        ctime: metadata.modified()?,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    })
}

fn answer(reply: ReplyEmpty, done: io::Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn answer_entry(reply: ReplyEntry, found: io::Result<FileAttr>) {
    match found {
        Ok(attributes) => reply.entry(&BELIEVED, &attributes, Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

fn answer_attributes(reply: ReplyAttr, found: io::Result<FileAttr>) {
    match found {
        Ok(attributes) => reply.attr(&BELIEVED, &attributes),
        Err(error) => reply.error(error.into()),
    }
}

/// The kernel keeps no copy of what is read and written.
const UNCACHED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

impl Filesystem for Passthrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.child(parent, name).and_then(|below| self.entry(&below)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.set(number, handle, None, None));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer_attributes(reply, self.set(number, handle, mode, size));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.shared.writing(false).and_then(|_| {
            let below = self.child(parent, name)?;
            DirBuilder::new().mode(mode & !umask).create(self.root.join(&below))?;
            self.entry(&below)
        });
        answer_entry(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.unname(parent, name, std::fs::remove_file));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.unname(parent, name, std::fs::remove_dir));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.shared.changing().and_then(|()| {
            if !flags.is_empty() {
                return Err(refused(Errno::EINVAL));
            }
            let (from, to) = (self.child(parent, name)?, self.child(new_parent, new_name)?);
            std::fs::rename(self.root.join(&from), self.root.join(&to))?;
            lock(&self.names).rename(&from, &to);
            Ok(())
        });
        answer(reply, renamed);
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number) {
            Ok(handle) => reply.opened(handle, UNCACHED),
            Err(error) => reply.error(error.into()),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.child(parent, name).and_then(|below| {
            let file = self.create_file(&below, mode & !umask, flags)?;
            Ok((self.entry(&below)?, self.keep_open(&below, file)))
        });
        match made {
            Ok((attributes, handle)) => {
                reply.created(&BELIEVED, &attributes, Generation(0), handle, UNCACHED);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_at(handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_at(handle, offset, bytes) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.close(handle, reply);
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.close(handle, reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(handle, reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(handle, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let all = match self.list(number) {
            Ok(all) => all,
            Err(error) => return reply.error(error.into()),
        };
        for (at, (number, kind, name)) in all.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::statvfs(&self.root) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                s.f_namemax as u32,
                s.f_frsize as u32,
            ),
            Err(errno) => reply.error(Errno::from_i32(errno.raw_os_error())),
        }
    }
}
