//! A directory in memory that can lose power, fail and rot: the disk of tests and simulation.
//!
//! It keeps what is durable apart from what is merely written, for file contents and for the
//! directory alike. It is deterministic: every choice is the caller's.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use crate::disk::{Disk, DiskError, DiskOperation};

/// What a power loss finds not yet durable; the caller of [`MemoryDisk::crash`] judges each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsynced<'a> {
    /// Creations, renames and removals since the last directory sync, oldest first.
    Directory {
        /// How many there are.
        operations: usize,
    },
    /// The tail of a file that was appended since its last sync.
    Tail {
        /// The file's name.
        file: &'a str,
        /// Where the tail begins in the file.
        offset: u64,
        /// The length of the tail.
        bytes: usize,
    },
    /// A truncation since the file's last sync; keeping 0 of it brings the cut bytes back.
    Cut {
        /// The file's name.
        file: &'a str,
    },
}

/// How much of something unsynced survives the power loss.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// So many bytes of a tail, or directory operations, from the front; capped at what exists.
    pub length: usize,
    /// Within a kept tail, 512-byte sectors of the file that never arrived and read as zeros
    /// (numbers from the file's start; durable bytes in them stay).
    pub lost_sectors: Vec<u64>,
}

impl Kept {
    /// Nothing survives.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// All of it survives.
    pub fn everything() -> Self {
        Self { length: usize::MAX, lost_sectors: Vec::new() }
    }

    /// The first `length` bytes or operations survive.
    pub fn first(length: usize) -> Self {
        Self { length, lost_sectors: Vec::new() }
    }
}

/// A failure to inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The changing operation it hits, counted by [`MemoryDisk::operations`]: the next one is
    /// `operations()`.
    pub at: u64,
    /// The error that the operation returns.
    pub kind: io::ErrorKind,
    /// Where the operation is an append: so many bytes are written all the same.
    pub partial_bytes: usize,
    /// Whether all later operations fail as well (the machine is gone) or only this one.
    pub lasting: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    data: Vec<u8>,
    synced: usize,
    /// What was cut since the last sync, to come back in a power loss.
    cut: Option<Vec<u8>>,
    /// Bytes that a failed sync dropped: they can be read until power fails.
    dropped: Vec<Range<usize>>,
}

#[derive(Debug, Clone)]
enum DirectoryChange {
    Create(String, u64),
    Remove(String),
    Rename(String, String),
}

/// The simulated [`Disk`].
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    files: BTreeMap<u64, Contents>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_changes: Vec<DirectoryChange>,
    next_file: u64,
    operations: u64,
    syncs: u64,
    faults: Vec<Fault>,
    capacity: Option<u64>,
    forgetful: bool,
    sync_fails: bool,
    no_descriptors: bool,
}

const SECTOR_BYTES: u64 = 512;
/// The system's error for a process, or a machine, without file descriptors left (`EMFILE`).
const TOO_MANY_OPEN_FILES: i32 = 24;

fn apply(names: &mut BTreeMap<String, u64>, change: &DirectoryChange) {
    match change {
        DirectoryChange::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        DirectoryChange::Remove(name) => {
            names.remove(name);
        }
        DirectoryChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl MemoryDisk {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many changing operations there were: the number of the next one, for [`Fault::at`].
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// How many data and directory syncs succeeded.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Plants a failure.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Takes all planted failures away, as a repaired machine.
    pub fn heal(&mut self) {
        self.faults.clear();
        self.sync_fails = false;
    }

    /// Limits the bytes of all files together; appends beyond it write what fits and then fail
    /// as a full disk does.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// The bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        let files = self.names.values().filter_map(|id| self.files.get(id));
        files.map(|contents| contents.data.len() as u64).sum()
    }

    /// From now on what a failed sync should have made durable can still be read, no later sync
    /// of that file reports an error, and none brings it to the disk: a power loss finds it
    /// missing. Linux file systems are like that (Rebello et al., "Can Applications Recover from
    /// fsync Failures?", 2020).
    pub fn set_forgetful(&mut self) {
        self.forgetful = true;
    }

    /// The next sync of a file's contents fails, once.
    pub fn fail_next_sync(&mut self) {
        self.sync_fails = true;
    }

    /// Whether files can be created: without descriptors they can't.
    pub fn set_no_descriptors(&mut self, none: bool) {
        self.no_descriptors = none;
    }

    /// Changes a file's contents behind the log's back, durably: rot, and writes that were lost
    /// or went astray. Returns false where there is no such file.
    pub fn damage(&mut self, name: &str, how: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(contents) = self.names.get(name).and_then(|id| self.files.get_mut(id)) else {
            return false;
        };
        how(&mut contents.data);
        contents.synced = contents.synced.min(contents.data.len());
        contents.dropped.retain(|range| range.end <= contents.synced);
        true
    }

    /// Inverts one bit, as rot does. Returns false where there is no such byte.
    pub fn flip_bit(&mut self, name: &str, offset: u64, bit: u8) -> bool {
        let Some(contents) = self.names.get(name).and_then(|id| self.files.get_mut(id)) else {
            return false;
        };
        let byte = usize::try_from(offset).ok().and_then(|at| contents.data.get_mut(at));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Empties the directory: the machine got a new disk.
    pub fn wipe(&mut self) {
        *self = Self {
            operations: self.operations,
            syncs: self.syncs,
            forgetful: self.forgetful,
            ..Self::default()
        };
    }

    /// The power fails and comes back: `keep` decides how much of each unsynced piece survives.
    /// Planted failures are gone afterwards.
    pub fn crash(&mut self, mut keep: impl FnMut(&Unsynced<'_>) -> Kept) {
        if !self.unsynced_changes.is_empty() {
            let operations = self.unsynced_changes.len();
            let kept = keep(&Unsynced::Directory { operations }).length.min(operations);
            for change in self.unsynced_changes.iter().take(kept) {
                apply(&mut self.durable_names, change);
            }
        }
        self.unsynced_changes.clear();
        self.names.clone_from(&self.durable_names);
        let names: Vec<(String, u64)> = self.names.clone().into_iter().collect();
        for (name, id) in &names {
            if let Some(contents) = self.files.get_mut(id) {
                contents.lose_power(name, &mut keep);
            }
        }
        let alive: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| alive.contains(id));
        self.heal();
    }

    /// Counts a changing operation and fails it where a fault is planted.
    fn begin(&mut self, operation: DiskOperation, name: &str) -> Result<(), (DiskError, usize)> {
        let at = self.operations;
        self.operations += 1;
        let hit = self.faults.iter().find(|f| f.at == at || (f.lasting && f.at <= at));
        let Some(fault) = hit else {
            return Ok(());
        };
        let partial = if fault.at == at { fault.partial_bytes } else { 0 };
        Err((DiskError::new(operation, name, io::Error::from(fault.kind)), partial))
    }

    fn contents(&self, operation: DiskOperation, name: &str) -> Result<&Contents, DiskError> {
        self.names
            .get(name)
            .and_then(|id| self.files.get(id))
            .ok_or_else(|| DiskError::new(operation, name, io::ErrorKind::NotFound.into()))
    }

    fn contents_mut(
        &mut self,
        operation: DiskOperation,
        name: &str,
    ) -> Result<&mut Contents, DiskError> {
        self.names
            .get(name)
            .and_then(|id| self.files.get_mut(id))
            .ok_or_else(|| DiskError::new(operation, name, io::ErrorKind::NotFound.into()))
    }

    fn free_bytes(&self) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        usize::try_from(capacity.saturating_sub(self.used_bytes())).unwrap_or(usize::MAX)
    }

    fn change(&mut self, change: DirectoryChange) {
        apply(&mut self.names, &change);
        self.unsynced_changes.push(change);
    }
}

impl Contents {
    fn lose_power(&mut self, name: &str, keep: &mut impl FnMut(&Unsynced<'_>) -> Kept) {
        if let Some(cut) = self.cut.take() {
            // Appends after an unsynced truncation don't happen: start-up syncs the cut first.
            if keep(&Unsynced::Cut { file: name }).length == 0 {
                self.data.truncate(self.synced);
                self.data.extend_from_slice(&cut);
                self.synced = self.data.len();
            }
        }
        let bytes = self.data.len() - self.synced;
        if bytes > 0 {
            let offset = self.synced as u64;
            let kept = keep(&Unsynced::Tail { file: name, offset, bytes });
            self.data.truncate(self.synced + kept.length.min(bytes));
            for sector in kept.lost_sectors {
                self.lose_sector(sector);
            }
        }
        for range in std::mem::take(&mut self.dropped).into_iter().rev() {
            if range.end >= self.data.len() {
                self.data.truncate(range.start);
            } else {
                self.data[range].fill(0);
            }
        }
        self.synced = self.data.len();
    }

    /// A failed sync: the system takes what it could not write for written.
    fn drop_unsynced(&mut self) {
        if self.synced < self.data.len() {
            self.dropped.push(self.synced..self.data.len());
            self.synced = self.data.len();
        }
    }

    fn lose_sector(&mut self, sector: u64) {
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let from = at(sector.saturating_mul(SECTOR_BYTES)).max(self.synced);
        let to = at((sector + 1).saturating_mul(SECTOR_BYTES)).min(self.data.len());
        if from < to {
            self.data[from..to].fill(0);
        }
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.names.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> Result<u64, DiskError> {
        Ok(self.contents(DiskOperation::Read, name)?.data.len() as u64)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        Ok(self.contents(DiskOperation::Read, name)?.data.clone())
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let data = &self.contents(DiskOperation::Read, name)?.data;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let to = from.saturating_add(length).min(data.len());
        Ok(data[from..to].to_vec())
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.begin(DiskOperation::Create, name).map_err(|(e, _)| e)?;
        if self.no_descriptors {
            let none = io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES);
            return Err(DiskError::new(DiskOperation::Create, name, none));
        }
        if self.names.contains_key(name) {
            let taken = io::ErrorKind::AlreadyExists.into();
            return Err(DiskError::new(DiskOperation::Create, name, taken));
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Contents::default());
        self.change(DirectoryChange::Create(name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let free = self.free_bytes();
        let (fits, failure) = match self.begin(DiskOperation::Append, name) {
            Err((error, partial)) => (partial.min(bytes.len()).min(free), Some(error)),
            Ok(()) if free < bytes.len() => {
                let full = io::ErrorKind::StorageFull.into();
                (free, Some(DiskError::new(DiskOperation::Append, name, full)))
            }
            Ok(()) => (bytes.len(), None),
        };
        let contents = self.contents_mut(DiskOperation::Append, name)?;
        contents.data.extend_from_slice(&bytes[..fits]);
        failure.map_or(Ok(()), Err)
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        let fails = std::mem::take(&mut self.sync_fails).then_some(io::ErrorKind::Other);
        let begun = match self.begin(DiskOperation::SyncData, name) {
            Ok(()) => fails.map_or(Ok(()), |kind| {
                Err(DiskError::new(DiskOperation::SyncData, name, kind.into()))
            }),
            Err((error, _)) => Err(error),
        };
        let forgetful = self.forgetful;
        let contents = self.contents_mut(DiskOperation::SyncData, name)?;
        if begun.is_err() && forgetful {
            contents.drop_unsynced();
        }
        begun?;
        contents.synced = contents.data.len();
        contents.cut = None;
        self.syncs += 1;
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), DiskError> {
        self.begin(DiskOperation::SyncDirectory, "directory").map_err(|(e, _)| e)?;
        self.unsynced_changes.clear();
        self.durable_names.clone_from(&self.names);
        let alive: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| alive.contains(id));
        self.syncs += 1;
        Ok(())
    }

    fn truncate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        self.begin(DiskOperation::Truncate, name).map_err(|(e, _)| e)?;
        let contents = self.contents_mut(DiskOperation::Truncate, name)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(contents.data.len());
        if length < contents.synced {
            contents.cut = Some(contents.data[length..contents.synced].to_vec());
            contents.synced = length;
            contents.dropped.retain(|range| range.end <= length);
        }
        contents.data.truncate(length);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.begin(DiskOperation::Remove, name).map_err(|(e, _)| e)?;
        self.contents(DiskOperation::Remove, name)?;
        self.change(DirectoryChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.begin(DiskOperation::Rename, from).map_err(|(e, _)| e)?;
        self.contents(DiskOperation::Rename, from)?;
        self.change(DirectoryChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }
}
