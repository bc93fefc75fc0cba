//! What an inode says, and reading it without following links.

use crate::tree::{Entry, EntryKind, Metadata, Stamp, XATTRS_MAX};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The longest list of attribute names, and the longest value, that Linux has.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Extended attributes: names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// An inode as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its type.
    pub file_type: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length.
    pub size_bytes: u64,
    /// Room that it takes.
    pub allocated_bytes: u64,
    /// Modification time.
    pub mtime: (i64, u32),
    /// When the inode changed, and its number.
    pub stamp: Stamp,
    /// The device it is on.
    pub device: u64,
    /// The device it is, for device nodes.
    pub rdev: u64,
    /// How many names it has.
    pub links: u64,
}

impl Seen {
    /// From the system's answer.
    pub fn of(stat: &Stat) -> Seen {
        Seen {
            file_type: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: stat.st_size as u64,
            allocated_bytes: (stat.st_blocks as u64).saturating_mul(512),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            stamp: Stamp {
                ctime_s: stat.st_ctime,
                ctime_ns: stat.st_ctime_nsec as u32,
                inode: stat.st_ino,
            },
            device: stat.st_dev,
            rdev: stat.st_rdev,
            links: u64::from(stat.st_nlink as u32),
        }
    }

    /// The metadata with these attributes.
    pub fn metadata(&self, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime_s: self.mtime.0,
            mtime_ns: self.mtime.1,
            xattrs,
        }
    }

    /// Whether an entry of an earlier backup still describes this file.
    pub fn is_unchanged(&self, entry: &Entry, trusted_before_s: i64) -> bool {
        let EntryKind::File { size_bytes, .. } = &entry.kind else { return false };
        *size_bytes == self.size_bytes
            && entry.stamp == self.stamp
            && (entry.meta.mtime_s, entry.meta.mtime_ns) == self.mtime
            && self.stamp.ctime_s < trusted_before_s
    }

    /// Whether it takes less room than its length.
    pub fn is_sparse(&self) -> bool {
        self.allocated_bytes < self.size_bytes
    }
}

/// Looks at a name without following a link.
///
/// # Errors
/// The system's.
pub fn look(directory: &OwnedFd, name: &[u8]) -> io::Result<Seen> {
    Ok(Seen::of(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Looks at an open file.
///
/// # Errors
/// The system's.
pub fn look_open(file: impl AsFd) -> io::Result<Seen> {
    Ok(Seen::of(&rustix::fs::fstat(file)?))
}

/// Opens a regular file for reading; never a link, and never waiting for a pipe's writer.
///
/// # Errors
/// The system's.
pub fn open_file(directory: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?))
}

/// Opens a directory, never through a link.
///
/// # Errors
/// The system's.
pub fn open_directory(directory: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// All names of a directory, sorted.
///
/// # Errors
/// The system's.
pub fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut entries = rustix::fs::Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path that names an entry of an open directory for the calls that take paths only.
pub fn proc_path(directory: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// The extended attributes of a name, sorted; links are not followed. A file system that knows
/// none has none.
///
/// # Errors
/// The system's, and where there are more than the format takes.
pub fn xattrs(directory: &OwnedFd, name: &[u8]) -> io::Result<Xattrs> {
    Bearer::Path(proc_path(directory, name)).attributes()
}

/// The extended attributes of an open file, as [`xattrs`] has them.
///
/// # Errors
/// The system's, and where there are more than the format takes.
pub fn xattrs_open(file: &File) -> io::Result<Xattrs> {
    Bearer::Open(file.as_fd()).attributes()
}

/// What bears extended attributes.
enum Bearer<'a> {
    Path(Vec<u8>),
    Open(BorrowedFd<'a>),
}

impl Bearer<'_> {
    fn attributes(&self) -> io::Result<Xattrs> {
        let mut found = Vec::new();
        for name in self.list()?.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            match self.value(name) {
                Ok(value) => found.push((name.to_vec(), value)),
                // Gone since it was listed, or not ours to read (trusted.*).
                Err(Errno::NODATA | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if found.len() > XATTRS_MAX {
            return Err(io::Error::other("it has more extended attributes than a backup takes"));
        }
        found.sort();
        Ok(found)
    }

    /// The names, each with a zero behind it.
    fn list(&self) -> io::Result<Vec<u8>> {
        let length = match self {
            Bearer::Path(path) => rustix::fs::llistxattr_query(path),
            Bearer::Open(file) => rustix::fs::flistxattr_query(file),
        };
        let mut names = match length {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(length) => vec![0; length.min(XATTR_BYTES_MAX)],
            Err(error) => return Err(error.into()),
        };
        let length = match self {
            Bearer::Path(path) => rustix::fs::llistxattr(path, &mut names[..])?,
            Bearer::Open(file) => rustix::fs::flistxattr(file, &mut names[..])?,
        };
        names.truncate(length);
        Ok(names)
    }

    fn value(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = match self {
            Bearer::Path(path) => rustix::fs::lgetxattr_query(path, name)?,
            Bearer::Open(file) => rustix::fs::fgetxattr_query(file, name)?,
        };
        let mut value = vec![0; length.min(XATTR_BYTES_MAX)];
        let length = match self {
            Bearer::Path(path) => rustix::fs::lgetxattr(path, name, &mut value[..])?,
            Bearer::Open(file) => rustix::fs::fgetxattr(file, name, &mut value[..])?,
        };
        value.truncate(length);
        Ok(value)
    }
}
