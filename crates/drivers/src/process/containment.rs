//! What holds an instance's processes together, and how all of them are killed and seen to be
//! gone: its cgroup, or without one its session, process group and descent.
//!
//! Launcher and guard both use this; after a value is made, nothing here allocates.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, Signal};

use super::table::{self, Family, ProcessTable};

/// Where an instance's processes are.
#[derive(Debug)]
pub enum Containment {
    /// In a cgroup (v2).
    Cgroup(CgroupHandle),
    /// Wherever they descended to from a leader.
    Tree(TreeHandle),
}

/// The files of one cgroup, open.
#[derive(Debug)]
pub struct CgroupHandle {
    /// Its directory.
    pub path: PathBuf,
    kill: OwnedFd,
    events: OwnedFd,
}

/// An instance without a cgroup.
#[derive(Debug, Clone)]
pub struct TreeHandle {
    /// Leading process.
    pub leader: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Its `BACKSTAY_SOCKET`.
    pub socket: String,
}

impl CgroupHandle {
    /// Opens the files of a cgroup.
    ///
    /// # Errors
    /// What the kernel says; also where it has no `cgroup.kill` (before Linux 5.14).
    pub fn open(path: &Path) -> io::Result<CgroupHandle> {
        let file = |name: &str, flags| {
            openat(CWD, path.join(name), flags | OFlags::CLOEXEC, Mode::empty())
        };
        Ok(CgroupHandle {
            path: path.to_owned(),
            kill: file("cgroup.kill", OFlags::WRONLY)?,
            events: file("cgroup.events", OFlags::RDONLY)?,
        })
    }

    /// A descriptor that polls as "priority" when the cgroup becomes empty or isn't any more.
    #[must_use]
    pub fn events(&self) -> &OwnedFd {
        &self.events
    }

    /// Whether no process is in it or below it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn is_empty(&self) -> io::Result<bool> {
        let mut buffer = [0u8; 128];
        let len = match rustix::io::pread(&self.events, &mut buffer, 0) {
            Ok(len) => len,
            // It was removed, which the kernel permits only when it is empty.
            Err(rustix::io::Errno::NODEV) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        };
        let text = &buffer[..len];
        Ok(text.split(|b| *b == b'\n').any(|line| line == b"populated 0"))
    }

    /// Kills everything in it and below it, without a race against forks.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> io::Result<()> {
        match rustix::io::pwrite(&self.kill, b"1", 0) {
            Ok(_) | Err(rustix::io::Errno::NODEV) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Who is asking, for instances without a cgroup.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The launcher's process; 0 where it is gone.
    pub launcher: i32,
    /// See [`Family::known`].
    pub known: Option<&'a [i32]>,
}

impl Containment {
    /// Sends the kill to everything that is in sight at once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill_at_once(&self) -> io::Result<()> {
        match self {
            Containment::Cgroup(cgroup) => match cgroup.is_empty() {
                Ok(true) => Ok(()),
                _ => cgroup.kill(),
            },
            Containment::Tree(tree) => {
                if table::started(tree.leader) != Some(tree.started) {
                    return Ok(());
                }
                signal_group(tree.leader, Signal::KILL)
            }
        }
    }

    /// Whether nothing is left; what is left is killed again.
    ///
    /// # Errors
    /// What the kernel says, also "can't tell": the caller then goes on trying.
    pub fn strike(&self, table: &mut ProcessTable, asker: Asker<'_>) -> io::Result<bool> {
        match self {
            Containment::Cgroup(cgroup) => {
                if cgroup.is_empty()? {
                    return Ok(true);
                }
                cgroup.kill()?;
                cgroup.is_empty()
            }
            Containment::Tree(tree) => tree.strike(table, asker),
        }
    }
}

impl TreeHandle {
    /// One look is enough while the kernel hands out rising numbers: `/proc` is read in their
    /// order, so that a process born meanwhile lies ahead. Where they have begun anew at the
    /// bottom during the look, a second one is needed.
    fn strike(&self, table: &mut ProcessTable, asker: Asker<'_>) -> io::Result<bool> {
        let before = table::newest_pid();
        let empty = self.strike_once(table, asker)?;
        let rising = before.is_some() && before <= table::newest_pid();
        Ok(empty && (rising || self.strike_once(table, asker)?))
    }

    fn strike_once(&self, table: &mut ProcessTable, asker: Asker<'_>) -> io::Result<bool> {
        table.scan()?;
        let family = Family {
            leader: self.leader,
            started: self.started,
            launcher: asker.launcher,
            socket: &self.socket,
            known: asker.known,
        };
        let mut failed = None;
        let left = table.each(&family, |process| {
            if let Err(error) = table::kill_exactly(process) {
                failed = Some(error);
            }
        });
        match (left, failed) {
            (_, Some(error)) => Err(error),
            (Some(left), None) => Ok(left == 0),
            (None, None) => Err(io::Error::other("more processes than the table holds")),
        }
    }
}

/// Signals a whole process group; one that is gone already is no error.
///
/// # Errors
/// What the kernel says.
pub fn signal_group(leader: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(leader) else { return Ok(()) };
    match rustix::process::kill_process_group(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
