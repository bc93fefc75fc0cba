//! A directory, or a single file, as a source.

use super::inode::{self, Seen};
use super::{FileToRead, Place, ScanContext, ScanEvent, ScanSink, Source};
use crate::chain::SourceKind;
use crate::error::{Result, VaultError};
use crate::tree::{Children, DEPTH_MAX, Entry, EntryKind, NodeSource, children, join};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{FileType, major, minor};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files with several names whose names are brought together.
pub const HARD_LINKS_MAX: usize = 4 << 20;
/// Patterns of what is left out.
pub const EXCLUDES_MAX: usize = 1000;

/// A directory to back up.
pub struct DirectorySource {
    root: PathBuf,
    excludes: GlobSet,
    one_file_system: bool,
}

impl DirectorySource {
    /// Takes a directory. A pattern without a slash fits names anywhere, one with a slash fits
    /// paths from the top.
    ///
    /// # Errors
    /// Where a pattern is malformed.
    pub fn new(root: &Path, excludes: &[String], one_file_system: bool) -> Result<DirectorySource> {
        if excludes.len() > EXCLUDES_MAX {
            let what = "the number of exclude patterns".to_owned();
            return Err(VaultError::Limit { what, limit: EXCLUDES_MAX as u64 });
        }
        let mut set = GlobSetBuilder::new();
        for pattern in excludes {
            let bad = |e: globset::Error| {
                VaultError::Refused(format!("the pattern `{pattern}` is malformed: {}", e.kind()))
            };
            let trimmed = pattern.trim_matches('/');
            let text = match pattern.contains('/') {
                true => trimmed.to_owned(),
                false => format!("**/{trimmed}"),
            };
            set.add(GlobBuilder::new(&text).literal_separator(true).build().map_err(bad)?);
        }
        let excludes = set.build().map_err(|e| VaultError::Refused(e.to_string()))?;
        Ok(DirectorySource { root: root.to_owned(), excludes, one_file_system })
    }
}

impl Source for DirectorySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn origin(&self) -> String {
        self.root.display().to_string()
    }

    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        let fail = |action| VaultError::file(action, self.root.clone());
        let file = File::open(&self.root).map_err(fail("open"))?;
        let seen = inode::look_open(&file).map_err(fail("look at"))?;
        let parent = context.parent.map(|(entry, source)| (entry.clone(), source));
        let mut scan =
            Scan { source: self, context, sink, device: seen.device, links: HashMap::new() };
        match seen.file_type {
            FileType::Directory => scan.directory(OwnedFd::from(file), Vec::new(), &seen, parent),
            FileType::RegularFile => {
                let place = Place::Open(Arc::new(file));
                let (name, path) = (Vec::new(), Vec::new());
                scan.sink.event(ScanEvent::Read(FileToRead { name, path, seen, place }))
            }
            _ => Err(VaultError::Refused(format!(
                "{} is neither a directory nor a regular file",
                self.root.display()
            ))),
        }
    }
}

/// One scan.
struct Scan<'a, 's> {
    source: &'a DirectorySource,
    context: &'a ScanContext<'a>,
    sink: &'s mut dyn ScanSink,
    device: u64,
    /// The first path of each file that has several names.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// The parent backup's entries of the directory being scanned.
type Before<'a> = Option<Peekable<Children<'a>>>;

impl<'a> Scan<'a, '_> {
    fn directory(
        &mut self,
        directory: OwnedFd,
        path: Vec<u8>,
        seen: &Seen,
        parent: Option<(Entry, &'a dyn NodeSource)>,
    ) -> Result<()> {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
        let xattrs = match inode::xattrs(&directory, b"") {
            Ok(xattrs) => xattrs,
            Err(error) => {
                self.skip(&path, &format!("its extended attributes could not be read: {error}"))?;
                Vec::new()
            }
        };
        let (meta, stamp) = (seen.metadata(xattrs), seen.stamp);
        self.sink.event(ScanEvent::Enter { name, meta, stamp })?;
        let mut before: Before<'a> = parent.and_then(|(entry, source)| match entry.kind {
            EntryKind::Directory { node, .. } => Some(children(source, &node).peekable()),
            _ => None,
        });
        let depth = path.iter().filter(|b| **b == b'/').count();
        let names = match inode::names(&directory) {
            Ok(_) if depth >= DEPTH_MAX - 2 => {
                self.skip(&path, "its contents are nested too deeply for a backup")?;
                Vec::new()
            }
            Ok(names) => names,
            Err(error) => {
                self.skip(&path, &format!("its contents could not be listed: {error}"))?;
                Vec::new()
            }
        };
        let directory = Arc::new(directory);
        for name in names {
            let path = join(&path, &name);
            let relative = Path::new(OsStr::from_bytes(&path));
            if self.source.excludes.is_match(relative) {
                continue;
            }
            let old = advance(&mut before, &name);
            match inode::look(&directory, &name) {
                Ok(seen) => self.entry(&directory, name, path, &seen, old)?,
                // Removed since it was listed: it is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.skip(&path, &error.to_string())?,
            }
        }
        self.sink.event(ScanEvent::Leave)
    }

    fn entry(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: Vec<u8>,
        path: Vec<u8>,
        seen: &Seen,
        old: Option<Entry>,
    ) -> Result<()> {
        let kind = match seen.file_type {
            FileType::Directory => return self.subdirectory(directory, &name, path, seen, old),
            FileType::RegularFile => return self.file(directory, name, path, seen, old),
            FileType::Symlink => {
                match rustix::fs::readlinkat(&**directory, &name[..], Vec::new()) {
                    Ok(target) => EntryKind::Symlink { target: target.into_bytes() },
                    Err(error) => return self.skip(&path, &io::Error::from(error).to_string()),
                }
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => {
                EntryKind::CharDevice { major: major(seen.rdev), minor: minor(seen.rdev) }
            }
            FileType::BlockDevice => {
                EntryKind::BlockDevice { major: major(seen.rdev), minor: minor(seen.rdev) }
            }
            FileType::Unknown => return self.skip(&path, "its type is unknown"),
        };
        self.ready(directory, name, path, seen, kind)
    }

    fn ready(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: Vec<u8>,
        path: Vec<u8>,
        seen: &Seen,
        kind: EntryKind,
    ) -> Result<()> {
        match inode::xattrs(directory, &name) {
            Ok(xattrs) => {
                let (meta, stamp) = (seen.metadata(xattrs), seen.stamp);
                self.sink.event(ScanEvent::Ready(Box::new(Entry { name, meta, kind, stamp })))
            }
            Err(error) => self.skip(&path, &error.to_string()),
        }
    }

    fn subdirectory(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        path: Vec<u8>,
        seen: &Seen,
        old: Option<Entry>,
    ) -> Result<()> {
        if self.source.one_file_system && seen.device != self.device {
            return self.skip(&path, "it is on another file system");
        }
        let opened = inode::open_directory(directory, name)
            .and_then(|fd| inode::look_open(&fd).map(|seen| (fd, seen)));
        match opened {
            Ok((fd, seen)) => {
                let source = self.context.parent.map(|(_, source)| source);
                self.directory(fd, path, &seen, old.zip(source))
            }
            Err(error) => self.skip(&path, &error.to_string()),
        }
    }

    fn file(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: Vec<u8>,
        path: Vec<u8>,
        seen: &Seen,
        old: Option<Entry>,
    ) -> Result<()> {
        if seen.links > 1 {
            let inode = (seen.device, seen.stamp.inode);
            if let Some(target) = self.links.get(&inode) {
                let kind = EntryKind::HardLink { target: target.clone() };
                return self.ready(directory, name, path, seen, kind);
            }
            if self.links.len() < HARD_LINKS_MAX {
                self.links.insert(inode, path.clone());
            }
        }
        if let Some(old) = old
            && seen.is_unchanged(&old, self.context.trusted_before_s)
            && (self.context.may_reuse)(&old)?
        {
            return self.sink.event(ScanEvent::Ready(Box::new(old)));
        }
        let place = Place::In(Arc::clone(directory));
        self.sink.event(ScanEvent::Read(FileToRead { name, path, seen: *seen, place }))
    }

    fn skip(&mut self, path: &[u8], why: &str) -> Result<()> {
        self.sink.event(ScanEvent::Skipped { path: path.to_vec(), why: why.to_owned() })
    }
}

/// The parent's entry of this name; both sides are in order. A damaged parent node only means
/// that its files are read again.
fn advance(before: &mut Before<'_>, name: &[u8]) -> Option<Entry> {
    let entries = before.as_mut()?;
    loop {
        match entries.peek()? {
            Ok(entry) if entry.name.as_slice() > name => return None,
            Ok(entry) if entry.name.as_slice() == name => return entries.next()?.ok(),
            _ => {
                entries.next();
            }
        }
    }
}

/// A path from bytes.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}
