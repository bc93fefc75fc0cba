//! What is wrong with a disk at the moment, what was counted of it, and what it holds back.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{Errno, ReplyEmpty};

use super::unsynced::Unsynced;

/// What can be wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes and syncs take so much longer, one after the other.
    Slow(Duration),
    /// After so many more, syncs are not answered, until it is healed.
    Stalled { after: u64 },
    /// The next sync fails and drops what it should have made durable; those after it succeed, as
    /// the kernel has it.
    SyncFails,
    /// Nothing can be read.
    ReadFails,
    /// Nothing more can be written.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// The log's writes are reported and lost: what was there before is still there.
    WriteLost,
    /// A bit of what is read of the log is another.
    BitFlipped,
}

/// A sync that waits for an answer.
#[derive(Debug)]
struct Held {
    reply: ReplyEmpty,
    file: Arc<File>,
    number: u64,
}

/// What the file system and its owner share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    fault: Mutex<Option<Fault>>,
    felt: AtomicU64,
    retried: AtomicU64,
    /// Files whose sync failed.
    failed: Mutex<HashSet<u64>>,
    held: Mutex<Vec<Held>>,
    unsynced: Mutex<Unsynced>,
}

/// Whoever panicked with it had nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a sync comes to.
enum Sync {
    Done,
    Fails,
    Waits,
}

impl Shared {
    pub(super) fn strike(&self, fault: Fault) {
        self.heal();
        self.felt.store(0, Ordering::Relaxed);
        self.retried.store(0, Ordering::Relaxed);
        lock(&self.failed).clear();
        *lock(&self.fault) = Some(fault);
    }

    pub(super) fn heal(&self) {
        *lock(&self.fault) = None;
        let held: Vec<Held> = lock(&self.held).drain(..).collect();
        for Held { reply, file, number } in held {
            self.answer(reply, self.sync_now(&file, number));
        }
    }

    pub(super) fn abandon(&self) {
        *lock(&self.fault) = None;
        let held: Vec<Held> = lock(&self.held).drain(..).collect();
        held.into_iter().for_each(|held| held.reply.error(Errno::EIO));
    }

    pub(super) fn felt(&self) -> u64 {
        self.felt.load(Ordering::Relaxed)
    }

    pub(super) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    pub(super) fn lose_unsynced(&self) -> io::Result<u64> {
        lock(&self.unsynced).lose_all()
    }

    pub(super) fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        lock(&self.unsynced)
    }

    fn met(&self) {
        self.felt.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this is wrong; it is then counted.
    fn is(&self, wanted: impl Fn(Fault) -> bool) -> bool {
        let met = lock(&self.fault).is_some_and(wanted);
        if met {
            self.met();
        }
        met
    }

    /// Something is read of a file.
    pub(super) fn reading(&self) -> io::Result<()> {
        if self.is(|fault| fault == Fault::ReadFails) { Err(refused(Errno::EIO)) } else { Ok(()) }
    }

    /// What was read of the log.
    pub(super) fn read(&self, bytes: &mut [u8]) {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle)
            && self.is(|fault| fault == Fault::BitFlipped)
        {
            *byte ^= 1;
        }
    }

    /// Names or lengths change.
    pub(super) fn changing(&self) -> io::Result<()> {
        if self.is(|fault| fault == Fault::ReadOnly) { Err(refused(Errno::EROFS)) } else { Ok(()) }
    }

    /// Something is written; whether it may arrive.
    pub(super) fn writing(&self, log: bool) -> io::Result<bool> {
        self.changing()?;
        if self.is(|fault| fault == Fault::Full) {
            return Err(refused(Errno::ENOSPC));
        }
        self.take_time();
        Ok(!(log && self.is(|fault| fault == Fault::WriteLost)))
    }

    fn take_time(&self) {
        let slow = *lock(&self.fault);
        if let Some(Fault::Slow(time)) = slow {
            self.met();
            std::thread::sleep(time);
        }
    }

    /// A file is to be durable.
    pub(super) fn sync(&self, file: Arc<File>, number: u64, reply: ReplyEmpty) {
        self.take_time();
        let what = {
            let mut fault = lock(&self.fault);
            match &mut *fault {
                Some(Fault::SyncFails) => {
                    *fault = None;
                    Sync::Fails
                }
                Some(Fault::Stalled { after: 0 }) => Sync::Waits,
                Some(Fault::Stalled { after }) => {
                    *after -= 1;
                    Sync::Done
                }
                _ => Sync::Done,
            }
        };
        match what {
            Sync::Waits => {
                self.met();
                lock(&self.held).push(Held { reply, file, number });
            }
            Sync::Fails => {
                self.met();
                lock(&self.failed).insert(number);
                let lost = self.unsynced().lose(number, false);
                self.answer(reply, lost.and(Err(refused(Errno::EIO))));
            }
            Sync::Done => {
                if lock(&self.failed).contains(&number) {
                    self.retried.fetch_add(1, Ordering::Relaxed);
                }
                self.answer(reply, self.sync_now(&file, number));
            }
        }
    }

    fn sync_now(&self, file: &File, number: u64) -> io::Result<()> {
        file.sync_all()?;
        self.unsynced().is_durable(number);
        Ok(())
    }

    fn answer(&self, reply: ReplyEmpty, done: io::Result<()>) {
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }
}

/// An error of the system's.
pub(super) fn refused(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.into())
}
