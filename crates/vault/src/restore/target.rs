//! The directory that receives a restore. Every name is resolved below it and never through a
//! link, so that neither a hostile repository nor what lies in the target leads outside.

use crate::error::{Result, VaultError};
use crate::source::directory::path_of;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open directory below which everything happens.
pub(super) struct Target {
    root: Arc<OwnedFd>,
    aside: Option<OwnedFd>,
}

/// Splits a path into its parent and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Target {
    /// Opens the target, made where it is missing, and the directory for what is set aside.
    pub(super) fn open(target: &Path, aside: Option<&Path>, make: bool) -> Result<Option<Target>> {
        if make {
            std::fs::create_dir_all(target).map_err(VaultError::file("make", target))?;
        }
        let open = |path: &Path| File::open(path).map(OwnedFd::from);
        let root = match open(target) {
            Ok(root) => Arc::new(root),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
            Err(e) => return Err(VaultError::file("open", target)(e)),
        };
        let aside = match aside.filter(|_| make) {
            None => None,
            Some(path) => {
                std::fs::create_dir_all(path).map_err(VaultError::file("make", path))?;
                Some(open(path).map_err(VaultError::file("open", path))?)
            }
        };
        Ok(Some(Target { root, aside }))
    }

    /// The top itself.
    pub(super) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Opens a directory below the target, through directories only.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        open_beneath(&self.root, path).map(Arc::new)
    }

    /// Moves what is in the way aside, to the same path. False where nothing is set aside.
    pub(super) fn set_aside(&self, path: &[u8]) -> io::Result<bool> {
        let Some(aside) = &self.aside else { return Ok(false) };
        let (parent, name) = split(path);
        make_directories(aside, parent)?;
        let to = match parent.is_empty() {
            true => aside.try_clone()?,
            false => open_beneath(aside, parent)?,
        };
        let from = self.directory(parent)?;
        rustix::fs::renameat_with(&*from, name, &to, name, RenameFlags::NOREPLACE)?;
        Ok(true)
    }

    /// Makes everything written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        rustix::fs::syncfs(&*self.root)?;
        Ok(())
    }
}

fn open_beneath(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => {
            // A kernel or a sandbox without openat2: the same, a name at a time.
            let mut at = root.try_clone()?;
            for name in path.split(|b| *b == b'/') {
                at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
            }
            Ok(at)
        }
        other => Ok(other?),
    }
}

fn make_directories(root: &OwnedFd, path: &[u8]) -> io::Result<()> {
    let mut at = root.try_clone()?;
    for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
        match rustix::fs::mkdirat(&at, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = crate::source::inode::open_directory(&at, name)?;
    }
    Ok(())
}

/// Removes a name that is no directory.
pub(super) fn unlink(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    Ok(())
}

/// A path for people.
pub(super) fn shown(path: &[u8]) -> PathBuf {
    path_of(path)
}
