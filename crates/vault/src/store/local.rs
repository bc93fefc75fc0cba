//! A directory as a store. An object is written under a temporary name, synced, and linked to
//! its own name only where that is free; then its folder is synced.

use super::{Area, Created, Listed, OBJECT_BYTES_MAX, ObjectName, Store, StoreError};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folder of objects that are not complete yet.
const PARTIAL_FOLDER: &str = "partial";
/// The largest piece that the page cache keeps or gives up as one.
const FOLIO_BYTES_MAX: u64 = 4 << 20;
/// What is read or written at once and is smaller stays in the page cache: tables, single chunks.
const UNCACHED_BYTES_MIN: u64 = 1 << 20;

/// A repository in a directory.
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens a directory without touching it.
    pub fn open(root: &Path) -> LocalStore {
        LocalStore { root: root.to_owned() }
    }

    /// Makes the directory and its folders where they are missing.
    ///
    /// # Errors
    /// Where they cannot be made or synced.
    pub fn create(root: &Path) -> Result<LocalStore, StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let folders = Area::ALL.iter().map(|a| a.folder()).chain([PARTIAL_FOLDER]);
        for folder in folders {
            let path = root.join(folder);
            builder.create(&path).map_err(io_error("make", &path))?;
        }
        sync_folder(root)?;
        if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(LocalStore { root: root.to_owned() })
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.area().folder()).join(name.leaf())
    }

    fn open_object(&self, name: &ObjectName) -> Result<File, StoreError> {
        let path = self.path(name);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(name.clone()),
            _ => io_error("open", &path)(e),
        })
    }

    fn write_partial(&self, partial: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(partial)
            .map_err(io_error("create", partial))?;
        file.write_all(bytes).map_err(io_error("write", partial))?;
        file.sync_all().map_err(io_error("sync", partial))?;
        leave_no_cache(&file, 0, bytes.len());
        Ok(())
    }
}

/// What a repository writes and reads at once does not stay in the page cache, which belongs to
/// those whom it serves: it is not needed again soon.
fn leave_no_cache(file: &File, offset: u64, length: usize) {
    let length = length as u64;
    if length >= UNCACHED_BYTES_MIN {
        // What only partly lies in a range stays: the end of what was read before goes now.
        let from = offset.saturating_sub(FOLIO_BYTES_MAX);
        let bytes = NonZeroU64::new(offset + length - from);
        // Advice: a file system that doesn't take it keeps what it likes.
        let _ = rustix::fs::fadvise(file, from, bytes, rustix::fs::Advice::DontNeed);
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, what: path.display().to_string(), source }
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = File::open(path).map_err(io_error("open", path))?;
    folder.sync_all().map_err(io_error("sync", path))
}

impl Store for LocalStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        let path = self.path(name);
        if path.symlink_metadata().is_ok() {
            return Ok(Created::Exists);
        }
        let random = crate::hex::encode(&crate::random::bytes::<12>());
        let partial = self.root.join(PARTIAL_FOLDER).join(random);
        let written = self.write_partial(&partial, bytes).and_then(|()| {
            match fs::hard_link(&partial, &path) {
                Ok(()) => Ok(Created::New),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
                Err(e) => Err(io_error("link", &path)(e)),
            }
        });
        // The partial file is only a leftover by now, whatever happened before.
        match fs::remove_file(&partial) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && written.is_err() => {}
            Err(e) => return written.and(Err(io_error("remove", &partial)(e))),
        }
        if written.as_ref().is_ok_and(|c| *c == Created::New) {
            sync_folder(&self.root.join(name.area().folder()))?;
        }
        written
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let mut file = self.open_object(name)?;
        let size_bytes = file.metadata().map_err(io_error("stat", &path))?.len();
        if size_bytes > OBJECT_BYTES_MAX {
            return Err(StoreError::TooLarge { name: name.clone(), size_bytes });
        }
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let file = self.open_object(name)?;
        file.read_exact_at(out, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Short {
                name: name.clone(),
                wanted_bytes: offset.saturating_add(out.len() as u64),
            },
            _ => io_error("read", &self.path(name))(e),
        })?;
        leave_no_cache(&file, offset, out.len());
        Ok(())
    }

    fn let_go(&self, name: &ObjectName) {
        if let Ok(file) = self.open_object(name) {
            // Without a length it is the whole file. Where it can't be opened, reading says so.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NotFound(name.clone()))
            }
            Err(e) => Err(io_error("stat", &path)(e)),
        }
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        let folder = self.root.join(area.folder());
        let mut found = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(io_error("list", &folder)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &folder))?;
            let name = entry.file_name().to_str().and_then(|leaf| ObjectName::new(area, leaf));
            let Some(name) = name.filter(|n| after.is_none_or(|a| n > a)) else { continue };
            match entry.metadata() {
                Ok(meta) => found.push(Listed { name, size_bytes: meta.len() }),
                // Deleted between the listing and the look: it is not there.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("stat", &entry.path())(e)),
            }
        }
        found.sort();
        Ok(found)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.delete_all(std::slice::from_ref(name))
    }

    fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        let mut areas = BTreeSet::new();
        for name in names {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Ok(()) => {
                    areas.insert(name.area().folder());
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("remove", &path)(e)),
            }
        }
        areas.into_iter().try_for_each(|folder| sync_folder(&self.root.join(folder)))
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        let folder = self.root.join(PARTIAL_FOLDER);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(io_error("list", &folder)(e)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(io_error("list", &folder))?;
            let touched = match entry.metadata().and_then(|m| m.modified()) {
                Ok(touched) => touched,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io_error("stat", &entry.path())(e)),
            };
            // A time in the future reads as no age at all: such a file stays.
            let old = SystemTime::now().duration_since(touched).is_ok_and(|a| a >= age);
            if !old {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("remove", &entry.path())(e)),
            }
        }
        Ok(removed)
    }

    fn ranges_are_cheap(&self) -> bool {
        true
    }
}
