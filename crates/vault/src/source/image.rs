//! A disk image or a block device as a source: one file, in fixed blocks, of which only those
//! are read that a map of changes names, where there is one.

use super::dirty_map::read_map;
use super::inode::{self, Seen};
use super::{
    BlockRules, FileToRead, LiveFile, Place, Sample, ScanContext, ScanEvent, ScanSink, Source,
    Stretches,
};
use crate::chain::SourceKind;
use crate::error::{Result, VaultError};
use crate::tree::{Entry, EntryKind, Stamp};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of an image's block: the granularity that QEMU's bitmaps have where nothing is said.
/// The hashes of all blocks are in memory, which smaller ones would multiply.
pub const IMAGE_BLOCK_BYTES: u64 = 64 << 10;
/// The largest image: the hashes of its blocks and the parent's take 2 GiB each.
pub const IMAGE_BYTES_MAX: u64 = 4 << 40;

/// File systems in user space, as `statfs(2)` numbers them.
const FUSE_MAGIC: rustix::fs::FsWord = 0x6573_5546;
/// Under this path the machine remembers the blocks, wherever the image lies this time.
const MEMORY_PATH: &[u8] = b"image";

/// A map of changes, and how far it is believed.
#[derive(Clone, Debug)]
pub struct DirtyMap {
    /// The file that holds it. It is read after the hook before the backup, which may write it.
    pub path: PathBuf,
    /// So many percent of the blocks that it calls clean are read and compared.
    pub sample_percent: u8,
}

/// An image to back up.
pub struct ImageSource {
    path: PathBuf,
    dirty: Option<DirtyMap>,
    note: Mutex<Option<String>>,
}

impl ImageSource {
    /// Takes a raw image or a block device; with a map, only what that names is read. The map
    /// must count since the backup that is the run's parent.
    ///
    /// # Errors
    /// Where the share of the sample is over 100 percent.
    pub fn new(path: &Path, dirty: Option<DirtyMap>) -> Result<ImageSource> {
        if dirty.as_ref().is_some_and(|map| map.sample_percent > 100) {
            let what = "the percentage of the sample".to_owned();
            return Err(VaultError::Limit { what, limit: 100 });
        }
        Ok(ImageSource { path: path.to_owned(), dirty, note: Mutex::new(None) })
    }

    /// Opens the image, and says what it is and how long.
    fn open(&self) -> Result<(File, Seen)> {
        let fail = |action| VaultError::file(action, self.path.clone());
        // A pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(&self.path, flags, Mode::empty());
        let file = opened.map(File::from).map_err(|e| fail("open")(e.into()))?;
        let seen = look(&file).map_err(fail("look at"))?;
        if !matches!(seen.file_type, FileType::RegularFile | FileType::BlockDevice) {
            let path = self.path.display();
            let what = format!("{path} is neither a regular file nor a block device");
            return Err(VaultError::Refused(what));
        }
        if seen.size_bytes > IMAGE_BYTES_MAX {
            let what = "the size of a disk image in bytes".to_owned();
            return Err(VaultError::Limit { what, limit: IMAGE_BYTES_MAX });
        }
        Ok((file, seen))
    }

    /// What the map says, where there is one and it fits.
    fn changed(&self, old: Option<&Entry>, size_bytes: u64) -> Result<Option<Stretches>> {
        let Some(DirtyMap { path, .. }) = &self.dirty else { return Ok(None) };
        let refused = |why: String| {
            VaultError::Refused(format!(
                "the map {} cannot be used: {why}. Nothing was recorded. Back up without --dirty, \
                 which reads everything and compares, and start a new bitmap with that backup",
                path.display()
            ))
        };
        match old.map(|old| &old.kind) {
            Some(EntryKind::File { size_bytes: before, .. }) if *before == size_bytes => {}
            Some(EntryKind::File { size_bytes: before, .. }) => {
                let why = format!("the image has {size_bytes} bytes now and had {before} then");
                return Err(refused(why));
            }
            Some(_) => return Err(refused("that backup is not one of an image".to_owned())),
            None => return Err(refused("there is no backup since which it counts".to_owned())),
        }
        let file = File::open(path).map_err(VaultError::file("open", path.clone()))?;
        read_map(file, size_bytes).map(Some).map_err(refused)
    }

    /// What is written meanwhile is in the image in part: neither before nor after. Of a device
    /// only the length can tell.
    fn require_still(&self, file: &File, before: &Seen) -> Result<()> {
        let after = look(file).map_err(VaultError::file("look at", self.path.clone()))?;
        let state = |seen: &Seen| (seen.size_bytes, seen.mtime, seen.stamp);
        if state(before) == state(&after) {
            return Ok(());
        }
        Err(VaultError::Refused(format!(
            "{} was written while it was read, and nothing was recorded: half of a write is in no \
             state that the guest was ever in. Back up a snapshot of it, or stop the guest",
            self.path.display()
        )))
    }

    fn say(&self, size_bytes: u64, dirty: &Stretches, sample: &Sample) {
        let clean = size_bytes.saturating_sub(dirty.bytes());
        let (compared, unread) = sample.counts();
        let mut note = format!(
            "the map names {} bytes in {} stretches; {unread} blocks were taken from the parent \
             unread, {compared} that it calls clean were compared and are",
            dirty.bytes(),
            dirty.len()
        );
        if unread == 0 && compared == 0 && clean > IMAGE_BLOCK_BYTES {
            note = "the map was not used, and the whole image was read: this machine does not \
                    remember the parent's blocks, or they lie too scattered in the repository"
                .to_owned();
        }
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }
}

/// What an image's inode says, and for a device, which has its length nowhere else, where it ends.
fn look(file: &File) -> std::io::Result<Seen> {
    let seen = inode::look_open(file)?;
    let is_device = seen.file_type == FileType::BlockDevice;
    // A hypervisor's snapshot behind FUSE says of every time that it is now.
    if !is_device && rustix::fs::fstatfs(file)?.f_type != FUSE_MAGIC {
        return Ok(seen);
    }
    let size_bytes = match is_device {
        true => rustix::fs::seek(file, SeekFrom::End(0))?,
        false => seen.size_bytes,
    };
    // The restored file is a regular one: private, and without the times of a node that say
    // nothing of what is in it.
    Ok(Seen { size_bytes, mode: 0o600, mtime: (0, 0), stamp: Stamp::default(), ..seen })
}

impl Source for ImageSource {
    /// It is a file like another, for whoever restores it.
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    fn block_mode(&self) -> String {
        format!("image {IMAGE_BLOCK_BYTES}")
    }

    fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        let (file, seen) = self.open()?;
        let file = Arc::new(file);
        let old = context.parent.map(|(entry, _)| entry.clone());
        let changed = self.changed(old.as_ref(), seen.size_bytes)?;
        let sample = self
            .dirty
            .as_ref()
            .map(|map| Arc::new(Sample::new(map.sample_percent, crate::random::bytes())));
        let place = Place::Open(Arc::clone(&file));
        let live = LiveFile {
            file: FileToRead { name: Vec::new(), path: MEMORY_PATH.to_vec(), seen, place },
            old,
            unchanged: false,
            changed: changed.clone(),
            rules: BlockRules {
                block_bytes: IMAGE_BLOCK_BYTES,
                holes: true,
                sample: sample.clone(),
            },
        };
        sink.event(ScanEvent::Live(Box::new(live)))?;
        sink.settle()?;
        self.require_still(&file, &seen)?;
        if let (Some(changed), Some(sample)) = (changed, sample) {
            self.say(seen.size_bytes, &changed, &sample);
        }
        Ok(())
    }
}
