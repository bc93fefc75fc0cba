//! One entry of a directory.

use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};
use serde::{Deserialize, Serialize};

/// The longest name, as Linux has it.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest path or link target.
pub const PATH_BYTES_MAX: usize = 4096;
/// Extended attributes of one entry.
pub const XATTRS_MAX: usize = 1024;
/// Extents kept in the entry itself; more go into chunks of their own.
pub const EXTENTS_INLINE_MAX: usize = 64;
/// Extents of one such chunk.
pub const EXTENTS_LIST_MAX: usize = 4096;

/// A file, directory or whatever has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name, as bytes; empty for the top of a backup only.
    pub name: Vec<u8>,
    /// What the inode says of it.
    pub meta: Metadata,
    /// What it is.
    pub kind: EntryKind,
    /// How the next backup sees that nothing changed; no part of the Merkle root.
    pub stamp: Stamp,
}

/// Owner, rights, time, attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds of the modification time.
    pub mtime_s: i64,
    /// Nanoseconds of it.
    pub mtime_ns: u32,
    /// Extended attributes in the order of their names; ACLs are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the file system says beside the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds of the change time.
    pub ctime_s: i64,
    /// Nanoseconds of it.
    pub ctime_ns: u32,
    /// The inode's number.
    pub inode: u64,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length.
        size_bytes: u64,
        /// BLAKE3 of its contents, holes read as zeros.
        root: [u8; 32],
        /// Where the contents are.
        content: Content,
    },
    /// A directory.
    Directory {
        /// Its listing.
        node: NodeRef,
        /// What is in and below it.
        totals: Totals,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, unread.
        target: Vec<u8>,
    },
    /// A further name of a file that was listed before.
    HardLink {
        /// The path of its first name, from the top of the backup.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket; only its place is kept.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl EntryKind {
    /// Whether it is a device node.
    pub fn is_device(&self) -> bool {
        matches!(self, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. })
    }
}

/// Where a file's contents are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A few extents.
    Inline(Vec<Extent>),
    /// Chunks with extents, in order.
    Lists(Vec<ChunkId>),
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// A whole chunk.
    Data {
        /// Which one.
        id: ChunkId,
        /// Its length.
        bytes: u32,
    },
    /// Zeros that take no room.
    Hole {
        /// How many.
        bytes: u64,
    },
    /// A stretch of a chunk: how a database's changed pages share chunks, and its unchanged ones
    /// stay where they are.
    Part {
        /// Which chunk.
        id: ChunkId,
        /// Where in the chunk it begins.
        from: u32,
        /// Its length.
        bytes: u32,
    },
}

impl Extent {
    /// Its length in the file.
    pub fn bytes(&self) -> u64 {
        match self {
            Extent::Data { bytes, .. } | Extent::Part { bytes, .. } => u64::from(*bytes),
            Extent::Hole { bytes } => *bytes,
        }
    }

    /// The chunk that it needs.
    pub fn chunk(&self) -> Option<&ChunkId> {
        match self {
            Extent::Data { id, .. } | Extent::Part { id, .. } => Some(id),
            Extent::Hole { .. } => None,
        }
    }

    /// Whether a chunk of this length can hold it.
    pub fn fits(&self, raw_bytes: u32) -> bool {
        match self {
            Extent::Data { bytes, .. } => *bytes == raw_bytes,
            Extent::Part { from, bytes, .. } => {
                from.checked_add(*bytes).is_some_and(|end| end <= raw_bytes)
            }
            Extent::Hole { .. } => true,
        }
    }
}

/// A directory's listing: where it is, and its Merkle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// The chunk of the topmost node.
    pub id: ChunkId,
    /// The Merkle root of all entries.
    pub root: [u8; 32],
}

/// Counts below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Everything that is no directory.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

impl Totals {
    /// What is in and below a directory, or the entry itself where it is none.
    pub fn of(entry: &Entry) -> Totals {
        match &entry.kind {
            EntryKind::Directory { totals, .. } => *totals,
            _ => {
                let mut totals = Totals::default();
                totals.add(entry);
                totals
            }
        }
    }

    /// Adds what an entry brings.
    pub fn add(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::Directory { totals, .. } => {
                self.files = self.files.saturating_add(totals.files);
                let below = totals.directories.saturating_add(1);
                self.directories = self.directories.saturating_add(below);
                self.bytes = self.bytes.saturating_add(totals.bytes);
            }
            EntryKind::File { size_bytes, .. } => {
                self.files = self.files.saturating_add(1);
                self.bytes = self.bytes.saturating_add(*size_bytes);
            }
            _ => self.files = self.files.saturating_add(1),
        }
    }
}

impl Entry {
    /// Refuses what no honest backup contains: names that leave their directory, impossible
    /// numbers. Called on everything that was read, before anything acts on it.
    ///
    /// # Errors
    /// Naming what is wrong.
    pub fn check(&self, is_top: bool) -> Result<()> {
        let bad = |what: String| {
            let name = String::from_utf8_lossy(&self.name);
            VaultError::Damaged { object: format!("the entry `{name}`"), what }
        };
        if is_top != self.name.is_empty() || !is_plain_name(&self.name, is_top) {
            return Err(bad("its name is none that a directory can hold".to_owned()));
        }
        if self.meta.xattrs.len() > XATTRS_MAX || self.meta.mode > 0o7777 {
            return Err(bad("its metadata is impossible".to_owned()));
        }
        if self.meta.mtime_ns > 999_999_999 {
            return Err(bad("its time is impossible".to_owned()));
        }
        match &self.kind {
            EntryKind::Symlink { target } if !is_target(target) => {
                Err(bad("its link target is impossible".to_owned()))
            }
            EntryKind::HardLink { target } if !is_inner_path(target) => {
                Err(bad("it is a further name of something outside the backup".to_owned()))
            }
            EntryKind::File { size_bytes, content: Content::Inline(extents), .. } => {
                let sum = extents.iter().try_fold(0u64, |sum, e| sum.checked_add(e.bytes()));
                if sum != Some(*size_bytes) || extents.len() > EXTENTS_INLINE_MAX {
                    return Err(bad("its extents don't add up to its length".to_owned()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn is_plain_name(name: &[u8], is_top: bool) -> bool {
    let plain = !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..";
    plain && name.len() <= NAME_BYTES_MAX && (is_top || !name.is_empty())
}

fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= PATH_BYTES_MAX && !target.contains(&0)
}

fn is_inner_path(path: &[u8]) -> bool {
    is_target(path) && path.split(|b| *b == b'/').all(|name| is_plain_name(name, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], kind: EntryKind) -> Entry {
        Entry { name: name.to_vec(), meta: Metadata::default(), kind, stamp: Stamp::default() }
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for name in [&b".."[..], b".", b"a/b", b"/", b"a\0b", b"", &[b'a'; 256]] {
            assert!(entry(name, EntryKind::Fifo).check(false).is_err(), "{name:?}");
        }
        assert!(entry(b"...", EntryKind::Fifo).check(false).is_ok());
        assert!(entry(b"", EntryKind::Fifo).check(true).is_ok());
        assert!(entry(b"a", EntryKind::Fifo).check(true).is_err());
    }

    #[test]
    fn links_to_the_outside_are_refused() {
        for target in [&b"../x"[..], b"/etc/passwd", b"a//b", b"a/./b", b"", b"a/"] {
            let link = EntryKind::HardLink { target: target.to_vec() };
            assert!(entry(b"l", link).check(false).is_err(), "{target:?}");
        }
        let inner = EntryKind::HardLink { target: b"a/b".to_vec() };
        assert!(entry(b"l", inner).check(false).is_ok());
    }

    #[test]
    fn extents_must_add_up() {
        let file = |size_bytes, extents| EntryKind::File {
            size_bytes,
            root: [0; 32],
            content: Content::Inline(extents),
        };
        let hole = |bytes| Extent::Hole { bytes };
        assert!(entry(b"f", file(5, vec![hole(2), hole(3)])).check(false).is_ok());
        assert!(entry(b"f", file(5, vec![hole(2)])).check(false).is_err());
        let overflow = vec![hole(u64::MAX), hole(6)];
        assert!(entry(b"f", file(5, overflow)).check(false).is_err());
    }
}
