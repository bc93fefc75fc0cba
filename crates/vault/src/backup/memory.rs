//! What this machine remembers of the blocks of a source's newest backup: their hashes, so that
//! the next backup need not read the parent to see what changed. Losing it costs time only, and
//! a wrong one is noticed: a file's hashes count only where they make the root that was signed.

use super::blocks::Value;
use crate::chain::RunId;
use crate::error::{Result, VaultError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"BKVTBLK2";
/// The list of files at the end.
const LIST_BYTES_MAX: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct List {
    run: [u8; 16],
    /// How the source writes its blocks.
    mode: String,
    /// Path, where its hashes begin, and how many there are.
    files: Vec<(Vec<u8>, u64, u32)>,
}

/// The hashes of one backup.
pub(super) struct BlockMemory {
    file: File,
    files: HashMap<Vec<u8>, (u64, u32)>,
}

impl BlockMemory {
    /// Opens what is remembered of this run; nothing where it is another's, of another mode, or
    /// unreadable.
    pub(super) fn open(path: &Path, run: &RunId, mode: &str) -> Option<BlockMemory> {
        BlockMemory::of(File::open(path).ok()?, run, mode)
    }

    fn of(file: File, run: &RunId, mode: &str) -> Option<BlockMemory> {
        let size_bytes = file.metadata().ok()?.len();
        let mut tail = [0; 16];
        file.read_exact_at(&mut tail, size_bytes.checked_sub(16)?).ok()?;
        let (magic, length) = tail.split_at(8);
        let length = u64::from_le_bytes(length.try_into().ok()?);
        if magic != MAGIC || length > LIST_BYTES_MAX.min(size_bytes) {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, (size_bytes - 16).checked_sub(length)?).ok()?;
        let list: List = postcard::from_bytes(&bytes).ok()?;
        if list.run != run.0 || list.mode != mode {
            return None;
        }
        let files = list.files.into_iter().map(|(path, at, count)| (path, (at, count)));
        Some(BlockMemory { file, files: files.collect() })
    }

    /// The hashes of a file.
    pub(super) fn values(&self, path: &[u8]) -> Option<Vec<Value>> {
        let (at, count) = self.files.get(path)?;
        // A damaged list must not make room for what the file has not.
        let end = at.checked_add(u64::from(*count) * 32)?;
        if end > self.file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; *count as usize * 32];
        self.file.read_exact_at(&mut bytes, *at).ok()?;
        Some(bytes.as_chunks::<32>().0.to_vec())
    }
}

/// For fuzz targets: how many hashes a memory of this run has, in the files of its list. A list
/// may name the same ones often: so many files are looked at.
pub(crate) fn hashes_in(file: File, run: &RunId, mode: &str) -> Option<Vec<(Vec<u8>, usize)>> {
    const FILES_MAX: usize = 16;
    let memory = BlockMemory::of(file, run, mode)?;
    let mut paths: Vec<&Vec<u8>> = memory.files.keys().collect();
    paths.sort();
    let count = |path: &&Vec<u8>| Some(((*path).clone(), memory.values(path)?.len()));
    Some(paths.iter().take(FILES_MAX).filter_map(count).collect())
}

/// Writes the hashes of a backup that is being made.
pub(super) struct BlockMemoryWriter {
    out: BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
    at: u64,
    list: List,
}

impl BlockMemoryWriter {
    /// Begins beside `path`.
    ///
    /// # Errors
    /// Where the directory cannot be written.
    pub(super) fn create(path: &Path, run: &RunId, mode: &str) -> Result<BlockMemoryWriter> {
        let random = crate::hex::encode(&crate::random::bytes::<8>());
        let partial = path.with_extension(format!("{random}.partial"));
        let make = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            File::create_new(&partial)
        };
        let file = make().map_err(VaultError::file("make", partial.clone()))?;
        let list = List { run: run.0, mode: mode.to_owned(), files: Vec::new() };
        let path = path.to_owned();
        Ok(BlockMemoryWriter { out: BufWriter::new(file), partial, path, at: 0, list })
    }

    /// Adds a file's hashes.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(super) fn add(&mut self, path: &[u8], values: &[Value]) -> Result<()> {
        let failed = VaultError::file("write", self.partial.clone());
        self.out.write_all(values.as_flattened()).map_err(failed)?;
        self.list.files.push((path.to_vec(), self.at, values.len() as u32));
        self.at += values.len() as u64 * 32;
        Ok(())
    }

    /// Takes the place of what was remembered before. Not synced: a crash loses it, and that
    /// costs time only.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn finish(mut self) -> Result<()> {
        let list = postcard::to_allocvec(&self.list).expect("a list always encodes");
        let mut write = || {
            self.out.write_all(&list)?;
            self.out.write_all(MAGIC)?;
            self.out.write_all(&(list.len() as u64).to_le_bytes())?;
            self.out.flush()?;
            fs::rename(&self.partial, &self.path)
        };
        write().map_err(VaultError::file("write", self.partial.clone()))
    }
}

impl Drop for BlockMemoryWriter {
    fn drop(&mut self) {
        // After `finish` it is gone; of a backup that failed it is a leftover.
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_back_for_their_own_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/x.blocks");
        let run = RunId([7; 16]);
        let mut writer = BlockMemoryWriter::create(&path, &run, "a").unwrap();
        writer.add(b"a", &[[1; 32], [2; 32]]).unwrap();
        writer.add(b"b", &[]).unwrap();
        writer.add(b"c", &[[3; 32]]).unwrap();
        writer.finish().unwrap();
        let memory = BlockMemory::open(&path, &run, "a").unwrap();
        assert_eq!(memory.values(b"a").unwrap(), [[1; 32], [2; 32]]);
        assert_eq!(memory.values(b"c").unwrap(), [[3; 32]]);
        assert!(memory.values(b"d").is_none());
        assert!(BlockMemory::open(&path, &RunId([8; 16]), "a").is_none());
        assert!(BlockMemory::open(&path, &run, "b").is_none());
        let lie = List {
            run: run.0,
            mode: "a".to_owned(),
            files: vec![(b"a".to_vec(), 0, u32::MAX), (b"b".to_vec(), u64::MAX, 1)],
        };
        let mut bytes = postcard::to_allocvec(&lie).unwrap();
        let length = bytes.len() as u64;
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let memory = BlockMemory::open(&path, &run, "a").unwrap();
        assert_eq!((memory.values(b"a"), memory.values(b"b")), (None, None));
        fs::write(&path, "garbage").unwrap();
        assert!(BlockMemory::open(&path, &run, "a").is_none());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
