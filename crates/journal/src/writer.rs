//! The thread that makes writes durable in production: it takes all that are queued, appends
//! them as one group, syncs once, and reports. It decides nothing.

use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::durations::Durations;
use crate::limits::{MAX_GROUP_BYTES, MAX_WRITES_IN_FLIGHT};
use crate::segments::Segments;
use crate::store::entry_bytes;
use crate::write::{Fatal, Write, WriteId};

/// After so much quiet the writer notes how far the log is durable. Between busy groups the next
/// records say it, so that the note costs nothing then.
const QUIET: Duration = Duration::from_millis(2);

/// What the writer has measured since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// From taking a group to its being durable.
    pub group: Durations,
    /// The part of it that the sync took.
    pub sync: Durations,
    /// Writes made durable.
    pub writes: u64,
    /// Entries made durable.
    pub entries: u64,
    /// Bytes of entries made durable, without their records' frames.
    pub bytes: u64,
}

/// The writer's handle. Dropping it lets the thread finish what is queued, and ends it.
#[derive(Debug)]
pub struct Writer<D> {
    queue: Option<SyncSender<Write>>,
    thread: Option<JoinHandle<Segments<D>>>,
    stats: Arc<Mutex<WriterStats>>,
}

/// A write was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The thread has ended: the log failed, as its callback has said.
    #[error("the journal's writer has stopped, after the failure that it reported")]
    Stopped,
    /// More writes than a replica hands out before earlier ones are reported.
    #[error("{MAX_WRITES_IN_FLIGHT} writes are queued already")]
    Full,
}

impl<D: Disk + 'static> Writer<D> {
    /// Starts the thread. `report` is called on it: with the highest id that is durable, which
    /// stands for all lower ones; or once with the failure that ended the log.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(
        segments: Segments<D>,
        report: impl Fn(Result<WriteId, Fatal>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, writes) = sync_channel(MAX_WRITES_IN_FLIGHT);
        let stats = Arc::new(Mutex::new(WriterStats::default()));
        let shared = Arc::clone(&stats);
        let thread = std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || run(segments, &writes, &report, &shared))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), stats })
    }

    /// Queues a write. Never waits: a replica hands out no more than the queue holds.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&self, write: Write) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.try_send(write).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }

    /// What was measured so far.
    pub fn stats(&self) -> WriterStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was measured, for someone else to look at any time.
    pub fn reader(&self) -> impl Fn() -> WriterStats + Send + Sync + 'static {
        let stats = Arc::clone(&self.stats);
        move || stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finishes what is queued and gives the files back; `None` where the thread panicked.
    pub fn stop(mut self) -> Option<Segments<D>> {
        self.queue = None;
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl<D> Drop for Writer<D> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by its hook; there is nobody to tell here.
            let _ = thread.join();
        }
    }
}

fn run<D: Disk>(
    mut segments: Segments<D>,
    writes: &Receiver<Write>,
    report: &(impl Fn(Result<WriteId, Fatal>) + Send),
    stats: &Mutex<WriterStats>,
) -> Segments<D> {
    let mut quiet = true;
    loop {
        let first = if quiet {
            writes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            writes.recv_timeout(QUIET)
        };
        let done = match first {
            Ok(first) => {
                quiet = false;
                write_group(&mut segments, gather(first, writes), report, stats)
            }
            Err(RecvTimeoutError::Timeout) => {
                quiet = true;
                segments.settle(true)
            }
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(fatal) = segments.settle(true) {
                    report(Err(fatal));
                }
                return segments;
            }
        };
        if let Err(fatal) = done {
            report(Err(fatal));
            return segments;
        }
    }
}

/// The first write and those queued behind it, up to a group's size.
fn gather(first: Write, writes: &Receiver<Write>) -> Vec<Write> {
    let mut bytes = bytes_of(&first);
    let mut group = vec![first];
    while bytes < MAX_GROUP_BYTES as u64 && group.len() < MAX_WRITES_IN_FLIGHT {
        match writes.try_recv() {
            Ok(write) => {
                bytes += bytes_of(&write);
                group.push(write);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    group
}

fn bytes_of(write: &Write) -> u64 {
    write.entries.iter().map(entry_bytes).sum()
}

fn write_group<D: Disk>(
    segments: &mut Segments<D>,
    group: Vec<Write>,
    report: &(impl Fn(Result<WriteId, Fatal>) + Send),
    stats: &Mutex<WriterStats>,
) -> Result<(), Fatal> {
    let began = Instant::now();
    segments.append(&group)?;
    let appended = Instant::now();
    segments.sync()?;
    let synced = Instant::now();
    if let Some(last) = group.last() {
        report(Ok(last.id));
    }
    {
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.group.record(synced - began);
        stats.sync.record(synced - appended);
        stats.writes += group.len() as u64;
        stats.entries += group.iter().map(|write| write.entries.len() as u64).sum::<u64>();
        stats.bytes += group.iter().map(bytes_of).sum::<u64>();
    }
    // Files that a snapshot covers go after the report: nobody waits for that.
    segments.settle(false)
}
