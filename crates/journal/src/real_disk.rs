//! A directory of the operating system, locked for one process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError, DiskOperation};
use crate::limits::MAX_FILES;

/// Owner may read and write, nobody else anything: the log may hold secrets of the application.
const FILE_MODE: u32 = 0o600;

/// The [`Disk`] of production.
///
/// It holds an exclusive lock on the directory for as long as it lives, so that two processes
/// never write one log.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    /// The file appended to last: a log appends to one file for hours.
    open: Option<(String, File)>,
}

impl RealDisk {
    /// Opens the directory, which must exist, and locks it.
    ///
    /// # Errors
    /// The directory can't be opened, or another process holds its lock (`WouldBlock`).
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let name = path.to_string_lossy();
        let failed = |e: io::Error| DiskError::new(DiskOperation::List, &name, e);
        let directory = File::open(path).map_err(failed)?;
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        let held = |e: io::Error| DiskError::new(DiskOperation::Lock, &name, e);
        rustix::fs::flock(&directory, lock).map_err(|e| held(e.into()))?;
        Ok(Self { path: path.to_owned(), directory, open: None })
    }

    fn for_append(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().append(true).open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        match &mut self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::Error::other("no file is open")),
        }
    }

    fn forget(&mut self, name: &str) {
        if self.open.as_ref().is_some_and(|(open, _)| open == name) {
            self.open = None;
        }
    }
}

fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        if names.len() >= MAX_FILES {
            return Err(io::Error::other("too many files in the journal's directory"));
        }
        // A name that is no UTF-8 is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_at(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let available = file.metadata()?.len().saturating_sub(offset);
    let length = length.min(usize::try_from(available).unwrap_or(usize::MAX));
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Disk for RealDisk {
    fn list(&self) -> Result<Vec<String>, DiskError> {
        list(&self.path).map_err(|e| DiskError::new(DiskOperation::List, "directory", e))
    }

    fn len(&self, name: &str) -> Result<u64, DiskError> {
        let length = std::fs::metadata(self.path.join(name)).map(|metadata| metadata.len());
        length.map_err(|e| DiskError::new(DiskOperation::Read, name, e))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        std::fs::read(self.path.join(name))
            .map_err(|e| DiskError::new(DiskOperation::Read, name, e))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        read_at(&self.path.join(name), offset, length)
            .map_err(|e| DiskError::new(DiskOperation::Read, name, e))
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path);
        let file = file.map_err(|e| DiskError::new(DiskOperation::Create, name, e))?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.for_append(name)
            .and_then(|file| file.write_all(bytes))
            .map_err(|e| DiskError::new(DiskOperation::Append, name, e))
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        self.for_append(name)
            .and_then(|file| rustix::fs::fdatasync(file).map_err(io::Error::from))
            .map_err(|e| DiskError::new(DiskOperation::SyncData, name, e))
    }

    fn sync_dir(&mut self) -> Result<(), DiskError> {
        rustix::fs::fsync(&self.directory)
            .map_err(|e| DiskError::new(DiskOperation::SyncDirectory, "directory", e.into()))
    }

    fn truncate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        self.for_append(name)
            .and_then(|file| file.set_len(length))
            .map_err(|e| DiskError::new(DiskOperation::Truncate, name, e))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.forget(name);
        std::fs::remove_file(self.path.join(name))
            .map_err(|e| DiskError::new(DiskOperation::Remove, name, e))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.path.join(from), self.path.join(to))
            .map_err(|e| DiskError::new(DiskOperation::Rename, from, e))
    }
}
