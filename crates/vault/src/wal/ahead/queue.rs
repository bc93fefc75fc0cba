//! The queue of one server: a folder beside its log, so that a rename hands a segment over.
//!
//! `NAME` is a segment that is ready, `NAME.part` says that it is on its way. What is written lies
//! under a name of its own until all of it is there, so that no two writers ever share a file.

use crate::error::{Result, VaultError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where queues lie in a server's log folder.
pub(super) const FOLDER: &str = "backstay.ahead";
/// Held by the process that fills the queue.
const LOCK: &str = "lock";
/// Names the last segment that was asked for and was not ready.
const ASKED: &str = "asked";
const PART: &str = ".part";
/// What is being removed is called so, so that nobody uses it any more.
const GONE: &str = ".gone-";
/// Characters of a segment's name.
const NAME_LENGTH: usize = 24;
/// How long a segment that is on its way is waited for; then it is fetched once more.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);

/// The segments that lie ready for one start of one server, out of one log.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
}

fn is_segment(name: &str) -> bool {
    name.len() == NAME_LENGTH && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A file that is there or not is removed.
fn remove_file(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Queue {
    /// The queue below `folder` of this start of a server. `whence` names the log: another one
    /// has another queue.
    pub(super) fn new(folder: &Path, incarnation: &str, whence: &str) -> Queue {
        let whence = crate::hex::encode(&blake3::hash(whence.as_bytes()).as_bytes()[..8]);
        Queue { folder: folder.join(format!("{incarnation}-{whence}")) }
    }

    fn failed(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(std::io::Error) -> VaultError {
        VaultError::file(action, self.folder.join(name))
    }

    /// Hands a segment over, where it is ready or somebody is about to have it ready. The file at
    /// `to` is all of it.
    ///
    /// # Errors
    /// Where it is ready and cannot be moved.
    pub fn take(&self, name: &str, to: &Path) -> Result<bool> {
        if !is_segment(name) {
            return Ok(false);
        }
        let ready = self.folder.join(name);
        let begun = Instant::now();
        loop {
            // Looked at first: what is neither ready nor on its way then is not coming.
            let on_its_way = self.folder.join(format!("{name}{PART}")).exists();
            match fs::rename(&ready, to) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(self.failed("hand over", name)(error));
                }
                Err(_) if !on_its_way || begun.elapsed() > PATIENCE => return Ok(false),
                Err(_) if !self.is_filled()? => return Ok(false),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// Tells whoever fills the queue which segment the server has now from elsewhere. True where
    /// nobody fills it and there is more to be fetched: somebody is to be left behind.
    ///
    /// # Errors
    /// Where the folder cannot be made or written.
    pub fn missed(&self, name: &str, more: bool) -> Result<bool> {
        let is_filled = self.is_filled()?;
        if !is_filled {
            self.sweep();
        }
        if !is_filled && !more {
            return self.remove().map(|()| false);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(self.failed("make", ""))?;
        let new = self.folder.join("asked.new");
        let told = fs::write(&new, name).and_then(|()| fs::rename(&new, self.folder.join(ASKED)));
        told.map_err(self.failed("write", ASKED))?;
        Ok(!is_filled)
    }

    /// Whether a process fills it.
    fn is_filled(&self) -> Result<bool> {
        match File::open(self.folder.join(LOCK)) {
            Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockShared).is_err()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("open", LOCK)(error)),
        }
    }

    /// Makes this process the one that fills the queue, as long as the file is open; nothing
    /// where there is another, or the queue is being removed.
    pub(super) fn hold(&self) -> Result<Option<File>> {
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(self.failed("open", LOCK))?;
        let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let own = file.metadata().map_err(self.failed("look at", LOCK))?;
        let is_here = fs::metadata(&path)
            .is_ok_and(|here| (here.dev(), here.ino()) == (own.dev(), own.ino()));
        Ok((held && is_here).then_some(file))
    }

    /// The last segment that was asked for and not ready; empty where none was.
    pub(super) fn asked(&self) -> Result<String> {
        match fs::read_to_string(self.folder.join(ASKED)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(self.failed("read", ASKED)),
        }
    }

    /// The segments in it, ready or on their way.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let list = fs::read_dir(&self.folder).map_err(self.failed("list", ""))?;
        let mut names = Vec::new();
        for entry in list {
            let name = entry.map_err(self.failed("list", ""))?.file_name();
            let name = name.to_string_lossy();
            let name = name.strip_suffix(PART).unwrap_or(&name);
            if is_segment(name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Says that a segment is on its way.
    pub(super) fn claim(&self, name: &str) -> Result<()> {
        let marked = File::create(self.folder.join(format!("{name}{PART}")));
        marked.map(drop).map_err(self.failed("make", name))
    }

    /// Writes a segment under a name of its own, durably: the server syncs it before it reads it,
    /// and does not wait for that then.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<PathBuf> {
        let own = crate::hex::encode(&crate::random::bytes::<8>());
        let path = self.folder.join(format!("new-{own}"));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        let written = write().map_err(VaultError::file("write", path.clone()));
        // What failed is gone with the queue at the latest.
        written.inspect_err(|_| drop(fs::remove_file(&path))).map(|()| path)
    }

    /// Makes a written segment the one that is ready.
    pub(super) fn publish(&self, file: PathBuf, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        let published = fs::rename(file, &path);
        published.and_then(|()| remove_file(&self.part(name))).map_err(self.failed("put", name))
    }

    /// Throws a written segment away that nobody will ask for.
    pub(super) fn discard(&self, file: PathBuf, name: &str) -> Result<()> {
        remove_file(&file).map_err(VaultError::file("remove", file))?;
        self.give_up(name)
    }

    /// Takes a segment back that nobody will ask for, or that could not be fetched.
    pub(super) fn give_up(&self, name: &str) -> Result<()> {
        let removed = remove_file(&self.folder.join(name));
        removed.and_then(|()| remove_file(&self.part(name))).map_err(self.failed("remove", name))
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{PART}"))
    }

    /// Removes what earlier starts of the server left, where nobody fills it any more.
    pub(super) fn sweep(&self) {
        let list = self.folder.parent().and_then(|all| fs::read_dir(all).ok());
        for entry in list.into_iter().flatten().flatten() {
            let other = Queue { folder: entry.path() };
            if other.folder != self.folder && matches!(other.is_filled(), Ok(false)) {
                // What cannot be removed is in nobody's way but the disk's, and tried again.
                let _ = other.remove();
            }
        }
    }

    /// Removes it; what has vanished already is removed.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        // Under another name first: who comes meanwhile begins a new one.
        let own = crate::hex::encode(&crate::random::bytes::<4>());
        let gone = self.folder.with_extension(format!("{}{own}", &GONE[1..]));
        let removed = fs::rename(&self.folder, &gone).and_then(|()| fs::remove_dir_all(&gone));
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            return Err(self.failed("remove", "")(error));
        }
        // Another server's queue may lie beside it: a folder that is not empty stays.
        let _ = self.folder.parent().map(fs::remove_dir);
        Ok(())
    }
}
