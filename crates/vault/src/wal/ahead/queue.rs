//! The queue of one server: a folder beside its log, so that a rename hands a segment over.

use super::Recovering;
use crate::error::{Result, VaultError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where queues lie in a server's log folder.
pub(super) const FOLDER: &str = "backstay.ahead";
/// Held by the process that fills the queue.
const LOCK: &str = "lock";
/// Names the last segment that was asked for and was not ready.
const ASKED: &str = "asked";
/// What a segment is called until all of it is there.
const PART: &str = ".part";
/// How long a segment that is being fetched is waited for; then it is fetched once more.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// The segments that lie ready for one start of one server, out of one log.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
}

impl Queue {
    /// The queue below `folder`. `whence` names the log: another one has another queue.
    pub(super) fn new(folder: &Path, server: &Recovering, whence: &str) -> Queue {
        let whence = crate::hex::encode(&blake3::hash(whence.as_bytes()).as_bytes()[..8]);
        Queue { folder: folder.join(format!("{}-{whence}", server.incarnation())) }
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
    /// nobody fills it.
    ///
    /// # Errors
    /// Where the folder cannot be made or written.
    pub fn tell_asked(&self, name: &str) -> Result<bool> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(self.failed("make", ""))?;
        let new = self.folder.join("asked.new");
        let told = fs::write(&new, name).and_then(|()| fs::rename(&new, self.folder.join(ASKED)));
        told.map_err(self.failed("write", ASKED))?;
        Ok(!self.is_filled()?)
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
    /// where there is another.
    pub(super) fn hold(&self) -> Result<Option<File>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.folder.join(LOCK)).map_err(self.failed("open", LOCK))?;
        let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(held.then_some(file))
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
            if name.len() == 24 {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Says that a segment is on its way.
    pub(super) fn claim(&self, name: &str) -> Result<()> {
        self.part(name).map(drop).map_err(self.failed("make", name))
    }

    fn part(&self, name: &str) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.folder.join(format!("{name}{PART}")))
    }

    /// Puts a segment into the queue, durably: the server syncs it before it reads it, and does
    /// not wait for that then.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let put = || {
            let mut file = self.part(name)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(self.folder.join(format!("{name}{PART}")), self.folder.join(name))
        };
        put().map_err(self.failed("write", name))
    }

    /// Takes a segment back that nobody will ask for, or that could not be fetched.
    pub(super) fn give_up(&self, name: &str) {
        for name in [name.to_owned(), format!("{name}{PART}")] {
            // It may be handed over meanwhile, and goes with the queue at the latest.
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    /// Removes what earlier starts of the server left, where nobody fills it any more.
    pub(super) fn remove_others(&self) {
        let list = self.folder.parent().and_then(|all| fs::read_dir(all).ok());
        for entry in list.into_iter().flatten().flatten() {
            let other = Queue { folder: entry.path() };
            if other.folder != self.folder && matches!(other.is_filled(), Ok(false)) {
                // What cannot be removed is in nobody's way but the disk's.
                let _ = fs::remove_dir_all(&other.folder);
            }
        }
    }

    /// Removes it; what has vanished already is removed.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failed("remove", "")(error))
            }
            _ => {
                // Another server's queue may lie beside it: a folder that is not empty stays.
                let _ = self.folder.parent().map(fs::remove_dir);
                Ok(())
            }
        }
    }
}
