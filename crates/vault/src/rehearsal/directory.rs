//! Proof of restore of a directory, a file or a command's output: what lies in the scratch place
//! is compared, entry by entry, with the signed tree. Where all of it is equal, it has the root
//! that was signed.

use crate::blobs::Blobs;
use crate::chain::Backup;
use crate::error::{Result, VaultError};
use crate::restore::{self, Cause, Note, RestoreCounters, RestoreRequest, single_name};
use crate::source::directory::path_of;
use crate::source::inode::{self, Seen};
use crate::tree::{Entry, EntryKind, Metadata, Step, Walk};
use rustix::fs::{AtFlags, FileType, Mode, makedev};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Causes that a proof lists; more are counted.
const CAUSES_MAX: usize = 20;
/// The bits that a restore without owners gives.
const MODE_WITHOUT_OWNERS: u32 = 0o1777;

/// A directory's backup, restored into a scratch place.
pub struct DirectoryRehearsal<'a> {
    blobs: &'a Blobs,
    backup: &'a Backup,
    place: PathBuf,
    /// Root makes devices and gives owners; nobody else can.
    is_root: bool,
    notes: Vec<Note>,
    notes_more: u64,
}

/// What was found equal, and what was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Files compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was compared.
    pub checked: Vec<String>,
    /// What could not be restored here, or was left out.
    pub unchecked: Vec<String>,
}

fn not_proven(path: &str, what: &str) -> VaultError {
    VaultError::Refused(format!("the restore is NOT proven: {path}: {what}"))
}

impl<'a> DirectoryRehearsal<'a> {
    /// Restores a backup. Nobody but this user should reach the place: programs that run as their
    /// owner and devices are in it.
    ///
    /// # Errors
    /// Where anything but a lack of privileges kept an entry from being as it was.
    pub fn restore(
        blobs: &'a Blobs,
        backup: &'a Backup,
        place: &Path,
        workers: usize,
    ) -> Result<DirectoryRehearsal<'a>> {
        let is_root = rustix::process::geteuid().is_root();
        let request = RestoreRequest {
            path: Vec::new(),
            target: place.to_owned(),
            set_aside: None,
            dry_run: false,
            owners: is_root,
            devices: is_root,
            workers,
            counters: Arc::new(RestoreCounters::default()),
        };
        let report = restore::run(blobs, backup, &request)?;
        if let Some(note) = report.notes.iter().find(|note| note.cause == Cause::Failed) {
            return Err(not_proven(&note.path, &note.what));
        }
        if report.failed > 0 {
            let what = format!("{} entries failed", report.failed);
            return Err(not_proven("beyond what is listed", &what));
        }
        let (place, notes, notes_more) = (place.to_owned(), report.notes, report.notes_more);
        Ok(DirectoryRehearsal { blobs, backup, place, is_root, notes, notes_more })
    }

    /// Compares what was restored with the tree. The scratch place's rights are changed on the
    /// way where its owner could not read it.
    ///
    /// # Errors
    /// Naming the first entry that is missing, too much, or not what was backed up.
    pub fn check(&self) -> Result<Checked> {
        let excepted = self.notes.iter().map(|note| note.path.as_bytes()).collect();
        let mut comparison = Comparison { rehearsal: self, excepted, open: None, made: Vec::new() };
        let (mut files, mut bytes) = (0, 0);
        for step in Walk::new(self.blobs, b"", &self.backup.top) {
            match step {
                Step::Entry { path, entry } => {
                    comparison.entry(&path, &entry)?;
                    if let EntryKind::File { size_bytes, .. } = &entry.kind {
                        files += 1;
                        bytes += size_bytes;
                    }
                }
                Step::Leave { path, .. } => comparison.leave(&path)?,
                Step::Lost { error, .. } => return Err(error),
            }
        }
        let unchecked = self.unchecked();
        let all = match unchecked.is_empty() {
            true => "the root: every name, kind, owner, right, time, attribute and digest",
            false => "every name, kind, right, time and digest",
        };
        Ok(Checked { files, bytes, checked: vec![all.to_owned()], unchecked })
    }

    /// What is not proven, each cause once.
    fn unchecked(&self) -> Vec<String> {
        let mut causes: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
        for note in &self.notes {
            causes.entry(&note.what).or_insert((&note.path, 0)).1 += 1;
        }
        let line = |(what, (first, count)): (&str, (&str, u64))| match count {
            1 => format!("{first}: {what}"),
            _ => format!("{first} and {} more: {what}", count - 1),
        };
        let owners = "owners and what runs as its owner, which only root restores".to_owned();
        let owners = (!self.is_root).then_some(owners);
        let more = self.notes_more;
        let more = (more > 0).then(|| format!("{more} more entries, of which some lack something"));
        let further = causes.len().saturating_sub(CAUSES_MAX);
        let further = (further > 0).then(|| format!("{further} more causes"));
        let listed = causes.into_iter().take(CAUSES_MAX).map(line);
        owners.into_iter().chain(listed).chain(further).chain(more).collect()
    }
}

struct Comparison<'a> {
    rehearsal: &'a DirectoryRehearsal<'a>,
    /// Paths with a note: they may lack an attribute, or be a device that is not there.
    excepted: BTreeSet<&'a [u8]>,
    /// The directory last looked into.
    open: Option<(PathBuf, Arc<OwnedFd>)>,
    /// Entries made in each directory that is walked.
    made: Vec<u64>,
}

impl Comparison<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let is_directory = matches!(entry.kind, EntryKind::Directory { .. });
        let relative = match path.is_empty() && !is_directory {
            true => single_name(self.rehearsal.backup, entry),
            false => path.to_vec(),
        };
        let place = self.rehearsal.place.join(path_of(&relative));
        let failed = |action| VaultError::file(action, place.clone());
        let is_made = self.compare(&place, &relative, entry).map_err(failed("look at"))?;
        let shown = place.display().to_string();
        match is_made {
            Made::Equal => {}
            Made::Absent => return Ok(()),
            Made::Other(what) => return Err(not_proven(&shown, what)),
        }
        if let Some(made) = self.made.last_mut() {
            *made += 1;
        }
        if is_directory {
            self.made.push(0);
        }
        Ok(())
    }

    /// A directory holds nothing but what was restored.
    fn leave(&mut self, path: &[u8]) -> Result<()> {
        let made = self.made.pop().unwrap_or_default();
        let place = self.rehearsal.place.join(path_of(path));
        let directory = self.directory(&place).map_err(VaultError::file("open", &place))?;
        let names = inode::names(&directory).map_err(VaultError::file("list", &place))?;
        match names.len() as u64 == made {
            true => Ok(()),
            false => Err(not_proven(&place.display().to_string(), "it holds something else, too")),
        }
    }

    fn directory(&mut self, place: &Path) -> io::Result<Arc<OwnedFd>> {
        if let Some((path, open)) = &self.open
            && path == place
        {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(OwnedFd::from(std::fs::File::open(place)?));
        self.open = Some((place.to_owned(), Arc::clone(&open)));
        Ok(open)
    }

    fn compare(&mut self, place: &Path, relative: &[u8], entry: &Entry) -> io::Result<Made> {
        let is_excepted = self.excepted.contains(relative);
        let (parent, name) = (place.parent().unwrap_or(place), place.file_name());
        let name = name.map(OsStrExt::as_bytes).unwrap_or_default();
        let directory = self.directory(parent)?;
        let seen = match inode::look(&directory, name) {
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let device = entry.kind.is_device();
                let excused = device && (is_excepted || !self.rehearsal.is_root);
                return Ok(if excused { Made::Absent } else { Made::Other("it is missing") });
            }
            Err(error) => return Err(error),
        };
        if let EntryKind::HardLink { target } = &entry.kind {
            let first = self.rehearsal.place.join(path_of(target));
            let first = Seen::of(&rustix::fs::lstat(&first)?);
            // One inode has one set of metadata, which was compared under its first name.
            let same = (first.device, first.stamp.inode) == (seen.device, seen.stamp.inode);
            return Ok(if same { Made::Equal } else { Made::Other("it is another file") });
        }
        if !self.same_metadata(&seen, entry) {
            return Ok(Made::Other("its owner, rights or time are not what was backed up"));
        }
        if !is_excepted {
            let found = inode::xattrs(&directory, name)?;
            if !self.holds_attributes(&entry.meta, &found) {
                return Ok(Made::Other("its attributes are not what was backed up"));
            }
        }
        let is_same = self.same_contents(&directory, name, &seen, &entry.kind)?;
        Ok(if is_same { Made::Equal } else { Made::Other("it is not what was backed up") })
    }

    fn same_metadata(&self, seen: &Seen, entry: &Entry) -> bool {
        let meta = &entry.meta;
        let same_time = seen.mtime == (meta.mtime_s, meta.mtime_ns);
        let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
        match self.rehearsal.is_root {
            true => {
                let same_owner = (seen.uid, seen.gid) == (meta.uid, meta.gid);
                same_time && same_owner && (is_link || seen.mode == meta.mode)
            }
            false => same_time && (is_link || seen.mode == meta.mode & MODE_WITHOUT_OWNERS),
        }
    }

    /// Attributes that the scratch place adds by itself, as labels, are no fault.
    fn holds_attributes(&self, meta: &Metadata, found: &[(Vec<u8>, Vec<u8>)]) -> bool {
        let can_be_set = |name: &[u8]| {
            self.rehearsal.is_root || name.starts_with(b"user.") || name.starts_with(b"system.")
        };
        meta.xattrs.iter().filter(|(name, _)| can_be_set(name)).all(|a| found.contains(a))
    }

    fn same_contents(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        seen: &Seen,
        kind: &EntryKind,
    ) -> io::Result<bool> {
        let is_type = |expect| seen.file_type == expect;
        let unlock = |rights: Mode| match self.rehearsal.is_root {
            true => Ok(()),
            // Its rights are compared by now, and the scratch place is ours.
            false => rustix::fs::chmodat(directory, name, rights, AtFlags::empty()),
        };
        Ok(match kind {
            EntryKind::File { root, size_bytes, .. } => {
                if !is_type(FileType::RegularFile) || seen.size_bytes != *size_bytes {
                    return Ok(false);
                }
                unlock(Mode::RUSR | Mode::WUSR)?;
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(inode::open_file(directory, name)?)?;
                hasher.finalize().as_bytes() == root
            }
            EntryKind::Directory { .. } => {
                if is_type(FileType::Directory) {
                    unlock(Mode::RWXU)?;
                }
                is_type(FileType::Directory)
            }
            EntryKind::Symlink { target } => {
                is_type(FileType::Symlink)
                    && rustix::fs::readlinkat(directory, name, Vec::new())?.as_bytes() == target
            }
            EntryKind::HardLink { .. } => false,
            EntryKind::Fifo => is_type(FileType::Fifo),
            EntryKind::Socket => is_type(FileType::Socket),
            EntryKind::CharDevice { major, minor } => {
                is_type(FileType::CharacterDevice) && seen.rdev == makedev(*major, *minor)
            }
            EntryKind::BlockDevice { major, minor } => {
                is_type(FileType::BlockDevice) && seen.rdev == makedev(*major, *minor)
            }
        })
    }
}

/// What became of an entry.
enum Made {
    Equal,
    /// It could not be made, and nobody was promised that.
    Absent,
    Other(&'static str),
}
