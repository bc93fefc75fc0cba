//! A host's disk that fails when it is told to: a file system of this process (FUSE), which hands
//! everything on to a directory. It counts how often a fault was met, keeps what was written and
//! not synced yet, and takes it back when the power goes.

mod faults;
mod names;
mod passthrough;
mod unsynced;

use std::path::Path;
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption};

pub(crate) use faults::Fault;
use faults::Shared;
use passthrough::Passthrough;

use crate::shell::Done;

/// A mounted disk. It goes with the value.
#[derive(Debug)]
pub(crate) struct Disk {
    session: Option<BackgroundSession>,
    shared: Arc<Shared>,
}

impl Disk {
    /// Mounts what lies in a directory at another.
    pub(crate) fn mount(backing: &Path, at: &Path) -> Done<Disk> {
        let shared = Arc::new(Shared::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("lab-disk".into())];
        let disk = Passthrough::new(backing, Arc::clone(&shared));
        let session = fuser::spawn_mount(disk, at, &config);
        let session = session.map_err(|e| format!("a FUSE mount at {}: {e}", at.display()))?;
        Ok(Disk { session: Some(session), shared })
    }

    /// From now on this is wrong with it. What is counted begins anew.
    pub(crate) fn strike(&self, fault: Fault) {
        self.shared.strike(fault);
    }

    /// Nothing is wrong with it any more; what was held is done and answered.
    pub(crate) fn heal(&self) {
        self.shared.heal();
    }

    /// How often the last fault was met: proof that it was felt.
    pub(crate) fn felt(&self) -> u64 {
        self.shared.felt()
    }

    /// How often a file whose sync had failed was synced again.
    pub(crate) fn retried(&self) -> u64 {
        self.shared.retried()
    }

    /// What waits for an answer gets none that counts: those who wait are being killed.
    pub(crate) fn abandon(&self) {
        self.shared.abandon();
    }

    /// The power is gone: nothing that was not synced is there any more, but for the first half
    /// of a write. How many writes were taken back.
    pub(crate) fn lose_unsynced(&self) -> Done<u64> {
        self.shared.lose_unsynced().map_err(|e| format!("writes that can't be taken back: {e}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.heal();
        let session = self.session.take();
        if let Some(Err(error)) = session.map(BackgroundSession::umount_and_join) {
            eprintln!("a disk stays mounted: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// A disk on a directory of its own; nothing where this may not be mounted.
    fn disk() -> Option<(tempfile::TempDir, Disk)> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (backing, at) = (dir.path().join("backing"), dir.path().join("at"));
        std::fs::create_dir(&backing).unwrap();
        std::fs::create_dir(&at).unwrap();
        let disk = Disk::mount(&backing, &at).unwrap();
        Some((dir, disk))
    }

    #[test]
    fn what_is_written_is_there_and_what_was_not_synced_is_taken_back() {
        let Some((dir, disk)) = disk() else { return };
        let at = dir.path().join("at");
        std::fs::create_dir(at.join("d")).unwrap();
        let path = at.join("d/f");
        let mut file = File::options().create_new(true).append(true).open(&path).unwrap();
        file.write_all(b"first").unwrap();
        file.sync_data().unwrap();
        file.write_all(b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"firstsecond");
        let renamed = at.join("d/g");
        std::fs::rename(&path, &renamed).unwrap();
        assert_eq!(std::fs::read_dir(at.join("d")).unwrap().count(), 1);
        assert_eq!(disk.lose_unsynced().unwrap(), 1);
        assert_eq!(std::fs::read(&renamed).unwrap(), b"firstsec", "half of it stays");
        std::fs::remove_file(&renamed).unwrap();
        assert_eq!(std::fs::read_dir(at.join("d")).unwrap().count(), 0);
    }

    #[test]
    fn each_fault_is_met_and_counted() {
        let Some((dir, disk)) = disk() else { return };
        let path = dir.path().join("at/log");
        std::fs::create_dir(&path).unwrap();
        let path = path.join("1.log");
        let file =
            File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.write_all_at(b"0000", 0).unwrap();
        file.sync_all().unwrap();
        let code = |error: std::io::Error| error.raw_os_error().unwrap();
        disk.strike(Fault::Full);
        assert_eq!(
            code(file.write_at(b"1", 0).unwrap_err()),
            rustix::io::Errno::NOSPC.raw_os_error()
        );
        disk.strike(Fault::ReadOnly);
        assert_eq!(
            code(File::create(path.with_file_name("2")).unwrap_err()),
            rustix::io::Errno::ROFS.raw_os_error()
        );
        disk.strike(Fault::ReadFails);
        assert_eq!(
            code(file.read_at(&mut [0], 0).unwrap_err()),
            rustix::io::Errno::IO.raw_os_error()
        );
        disk.strike(Fault::BitFlipped);
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.iter().map(|byte| (byte ^ b'0').count_ones()).sum::<u32>(), 1);
        assert!(disk.felt() >= 1);
        disk.strike(Fault::WriteLost);
        file.write_all_at(b"1111111", 0).unwrap();
        file.sync_all().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0000\0\0\0");
        disk.strike(Fault::SyncFails);
        file.write_all_at(b"2", 0).unwrap();
        assert_eq!(code(file.sync_all().unwrap_err()), rustix::io::Errno::IO.raw_os_error());
        file.sync_all().unwrap();
        assert_eq!((disk.felt(), disk.retried()), (1, 1), "once, and then it says that it is fine");
        assert_eq!(std::fs::read(&path).unwrap(), b"0000\0\0\0", "what it was to sync is gone");
        disk.strike(Fault::Stalled { after: 1 });
        file.sync_all().unwrap();
        let waits = std::thread::spawn(move || file.sync_all());
        let held =
            crate::shell::until("a sync that waits", std::time::Duration::from_secs(5), || {
                (disk.felt() == 1).then_some(())
            });
        held.unwrap();
        assert!(!waits.is_finished());
        disk.heal();
        waits.join().unwrap().unwrap();
    }
}
