//! One small file per instance, `BACKSTAY_LEASE`: what a program maps to know, in nanoseconds and
//! without asking anyone, whether it may act.
//!
//! Layout: eight little-endian 64-bit words, see docs/reference/instance-contract.md. The launcher
//! makes it; the agent moves the lease end on; launcher and guard set it to 0 *before* they begin
//! to stop the instance, and from then on no renewal revives it.
//!
//! How a program checks:
//!
//! ```
//! # use drivers::lease::{InstanceLease, LeaseRole};
//! # use model::{Epoch, Moment};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("x");
//! # let epoch = Epoch { generation: 1, counter: 7 };
//! # let made = InstanceLease::create(&path)?;
//! # made.activate(epoch, 1, Moment(u64::MAX));
//! let lease = InstanceLease::open(&path)?; // once, from BACKSTAY_LEASE
//! if lease.allows(epoch, drivers::sys::now()) {
//!     // send the order
//! }
//! # Ok(()) }
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use model::{Epoch, Moment};

use crate::sys::SharedWords;

/// Size of the file in bytes.
pub const INSTANCE_LEASE_BYTES: u64 = 64;
const WORDS: usize = 8;
/// First word: "BSINST", a zero and a version byte.
const MAGIC: u64 = u64::from_le_bytes(*b"BSINST\0\x01");

const W_MAGIC: usize = 0;
const W_GENERATION: usize = 1;
const W_COUNTER: usize = 2;
const W_LEASE_END: usize = 3;
const W_ROLE: usize = 4;
const W_LEASE_NUMBER: usize = 5;

/// The role as the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRole {
    /// 0: not to act.
    Standby,
    /// 1: to act while the lease lasts.
    Active,
    /// 2: being stopped or demoted; not to act any more.
    Stopping,
}

/// The lease file of one instance.
#[derive(Debug)]
pub struct InstanceLease {
    words: SharedWords,
}

impl InstanceLease {
    /// Makes a file anew: standby, no epoch, no lease.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<InstanceLease> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path)?;
        file.set_len(INSTANCE_LEASE_BYTES)?;
        let lease = InstanceLease { words: SharedWords::map(&file, WORDS, true)? };
        lease.words.word(W_MAGIC).store(MAGIC, Release);
        Ok(lease)
    }

    /// Maps an existing file for writing (agent, guard).
    ///
    /// # Errors
    /// What the file system says, or `InvalidData` where it is no such file.
    pub fn open_writable(path: &Path) -> io::Result<InstanceLease> {
        Self::map(&File::options().read(true).write(true).open(path)?, true)
    }

    /// Maps an existing file for reading (programs).
    ///
    /// # Errors
    /// As [`InstanceLease::open_writable`].
    pub fn open(path: &Path) -> io::Result<InstanceLease> {
        Self::map(&File::open(path)?, false)
    }

    fn map(file: &File, writable: bool) -> io::Result<InstanceLease> {
        let lease = InstanceLease { words: SharedWords::map(file, WORDS, writable)? };
        if lease.words.word(W_MAGIC).load(Acquire) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not an instance's lease file"));
        }
        Ok(lease)
    }

    /// The launcher makes the instance active under an epoch. The lease end comes last: a program
    /// that sees it sees the epoch too.
    pub fn activate(&self, epoch: Epoch, lease: u64, end: Moment) {
        self.words.word(W_LEASE_END).store(0, Release);
        self.words.word(W_LEASE_NUMBER).store(lease, Release);
        self.words.word(W_GENERATION).store(epoch.generation, Release);
        self.words.word(W_COUNTER).store(epoch.counter, Release);
        self.words.word(W_ROLE).store(1, Release);
        self.words.word(W_LEASE_END).store(end.0, Release);
    }

    /// The agent moves the end of the node's lease with this number on. Answers false, and changes
    /// nothing, where the instance's was revoked, or it became active under another one.
    pub fn renew(&self, epoch: Epoch, lease: u64, end: Moment) -> bool {
        let word = self.words.word(W_LEASE_END);
        let current = word.load(Acquire);
        let same = self.words.word(W_LEASE_NUMBER).load(Acquire) == lease;
        if current == 0 || !same || self.epoch() != epoch || self.role() != LeaseRole::Active {
            return false;
        }
        word.compare_exchange(current, end.0, AcqRel, Acquire).is_ok()
    }

    /// Launcher or guard take the lease away; renewals no longer have an effect.
    pub fn revoke(&self) {
        self.words.word(W_ROLE).store(2, Release);
        self.words.word(W_LEASE_END).store(0, Release);
    }

    /// The launcher has seen the instance become standby again.
    pub fn stand_by(&self) {
        self.words.word(W_LEASE_END).store(0, Release);
        self.words.word(W_ROLE).store(0, Release);
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> LeaseRole {
        match self.words.word(W_ROLE).load(Acquire) {
            0 => LeaseRole::Standby,
            1 => LeaseRole::Active,
            _ => LeaseRole::Stopping,
        }
    }

    /// The epoch that the instance is or was last active under; 0.0 before the first.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch {
            generation: self.words.word(W_GENERATION).load(Acquire),
            counter: self.words.word(W_COUNTER).load(Acquire),
        }
    }

    /// The lease end; the beginning of the clock where there is none.
    #[must_use]
    pub fn lease_end(&self) -> Moment {
        Moment(self.words.word(W_LEASE_END).load(Acquire))
    }

    /// Whether a program that was handed `epoch` may act at `now`.
    #[must_use]
    pub fn allows(&self, epoch: Epoch, now: Moment) -> bool {
        now < self.lease_end() && self.role() == LeaseRole::Active && self.epoch() == epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_lease_is_not_revived_by_a_renewal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lease");
        let launcher = InstanceLease::create(&path).unwrap();
        let agent = InstanceLease::open_writable(&path).unwrap();
        let program = InstanceLease::open(&path).unwrap();
        let epoch = Epoch { generation: 1, counter: 7 };
        assert!(!agent.renew(epoch, 1, Moment(50)), "standby");
        launcher.activate(epoch, 1, Moment(10));
        assert!(program.allows(epoch, Moment(9)));
        assert!(!program.allows(epoch, Moment(10)));
        assert!(!program.allows(epoch.next(), Moment(9)));
        assert!(agent.renew(epoch, 1, Moment(20)));
        assert!(!agent.renew(epoch.next(), 1, Moment(30)), "another epoch's");
        assert!(!agent.renew(epoch, 2, Moment(30)), "another lease of the node");
        assert!(program.allows(epoch, Moment(15)));
        launcher.revoke();
        assert!(!program.allows(epoch, Moment(0)));
        assert!(!agent.renew(epoch, 1, Moment(40)));
        assert_eq!(program.role(), LeaseRole::Stopping);
        assert_eq!(program.lease_end(), Moment::ZERO);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [1u8; 64]).unwrap();
        assert_eq!(InstanceLease::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, [1u8; 63]).unwrap();
        assert_eq!(InstanceLease::open(&path).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
