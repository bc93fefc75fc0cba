//! What a machine remembers of its jobs: a file that is replaced whole, and a lock that one
//! `vault run` holds, and every run that it began.

use super::{JobKey, Past};
use crate::error::{Result, VaultError};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest file that is read.
const BOOK_BYTES_MAX: u64 = 16 << 20;

/// How often a lock is tried, and the pause between.
const LOCK_TRIES_MAX: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    jobs: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    key: JobKey,
    past: Past,
}

/// What a book's text remembers; nothing where it is no book.
pub(super) fn parse(text: &str) -> Option<BTreeMap<JobKey, Past>> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let jobs = stored.jobs.into_iter().map(|row| (row.key, row.past));
    (stored.version == 1).then(|| jobs.collect())
}

/// Where the past of a repository's jobs lies in a state directory.
pub fn book_path(state_dir: &Path, location: &str) -> PathBuf {
    let hash = blake3::hash(location.as_bytes());
    state_dir.join(format!("schedule-{}.json", crate::hex::encode(&hash.as_bytes()[..8])))
}

/// The remembered past of all jobs.
pub struct Book {
    path: PathBuf,
}

/// While it lives, no other process takes the book.
pub struct BookLock {
    file: File,
}

impl BookLock {
    /// A handle that keeps the lock, too: for the children that do the work, so that a new
    /// process does not begin beside what a killed one left.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn share(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }
}

impl Book {
    /// A book at a path.
    pub fn new(path: PathBuf) -> Book {
        Book { path }
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// Where someone else has it.
    pub fn lock(&self) -> Result<BookLock> {
        let path = self.path.with_extension("lock");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(VaultError::file("make", folder))?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(VaultError::file("open", path.clone()))?;
        let mut locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        // Whoever only looks holds it for a moment.
        for _ in 0..LOCK_TRIES_MAX {
            if locked != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::park_timeout(LOCK_PAUSE);
            locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
            Ok(()) => Ok(BookLock { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(VaultError::Refused(format!(
                "{} is locked: another `vault run` works for this repository on this machine, or \
                 a run that it began goes on still. Wait for it, or end it first",
                path.display()
            ))),
            Err(error) => Err(VaultError::file("lock", path)(error.into())),
        }
    }

    /// Whether a `vault run`, or a run that one began, is at work.
    pub fn is_locked(&self) -> bool {
        let file = File::open(self.path.with_extension("lock"));
        file.is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// What is remembered; nothing where there is no book yet.
    ///
    /// # Errors
    /// Where there is one that cannot be read: it is not thrown away in silence.
    pub fn read(&self) -> Result<BTreeMap<JobKey, Past>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) if text.len() as u64 <= BOOK_BYTES_MAX => text,
            Ok(_) => {
                let what = self.path.display().to_string();
                return Err(VaultError::Limit { what, limit: BOOK_BYTES_MAX });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(VaultError::file("read", self.path.clone())(error)),
        };
        parse(&text).ok_or_else(|| {
            VaultError::Refused(format!(
                "{} is not what `vault run` wrote: when which job ran last is not known. Remove \
                 it, and every job runs once at the next start",
                self.path.display()
            ))
        })
    }

    /// Replaces what is remembered, durably and whole.
    ///
    /// # Errors
    /// Where it cannot be written; the book is as it was.
    pub fn write(&self, past: &BTreeMap<JobKey, Past>) -> Result<()> {
        let rows = past.iter().map(|(key, past)| Row { key: key.clone(), past: past.clone() });
        let stored = Stored { version: 1, jobs: rows.collect() };
        let text = serde_json::to_string_pretty(&stored).expect("a book always encodes");
        let partial = self.path.with_extension("partial");
        let write = || {
            let mut file = File::create(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &self.path)?;
            match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(VaultError::file("write", self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn a_book_is_read_back_and_a_foreign_file_is_not_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::new(book_path(&folder.path().join("state"), "/srv/repository"));
        let lock = book.lock().unwrap();
        assert_eq!(book.read().unwrap(), BTreeMap::new());
        let key = JobKey { kind: Kind::KeyTest, source: None };
        let other = JobKey { kind: Kind::Backup, source: Some("a \"b\"\n".to_owned()) };
        let past = Past { done_ms: Some(5), failures: 2, ..Past::default() };
        let all: BTreeMap<_, _> = [(key, past), (other, Past::default())].into();
        book.write(&all).unwrap();
        assert_eq!(book.read().unwrap(), all);
        assert!(book.lock().is_err_and(|e| e.to_string().contains("another `vault run`")));
        let child = lock.share().unwrap();
        drop(lock);
        assert!(book.is_locked() && book.lock().is_err(), "a child holds the lock");
        drop(child);
        assert!(!book.is_locked());
        book.lock().unwrap();
        for text in ["", "{}", "{\"version\": 2, \"jobs\": []}"] {
            fs::write(&book.path, text).unwrap();
            assert!(book.read().is_err_and(|e| e.to_string().contains("Remove it")), "{text}");
        }
    }
}
