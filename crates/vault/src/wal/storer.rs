//! The half of a stream that stores: it puts what was received into the repository, joins small
//! pieces to whole ones and records marks, on a thread of its own, so that a server that waits
//! for the spool never waits for the store.

use super::handover::Handover;
use super::stream::{Event, StreamRequest};
use super::{Archive, PIECE_BYTES, WalMemory};
use crate::error::{Result, VaultError, explain};
use crate::postgres::server::Slot;
use crate::postgres::{Connection, Lsn, StatusWriter, Timeline};
use crate::repository::Repository;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for more before looking around.
const WAIT: Duration = Duration::from_millis(200);
/// Pause between tries while the store fails.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Stores one server's log.
pub(super) struct Storer<'a, 'r> {
    pub(super) repository: &'a mut Repository,
    pub(super) request: &'a StreamRequest<'r>,
    pub(super) control: Connection,
    pub(super) archive: Archive,
    memory: Option<WalMemory>,
    pub(super) timeline: Timeline,
    /// Where the stream began on this timeline.
    first: Lsn,
    /// Where `buffer` begins.
    start: Lsn,
    /// The log from `start` on: what no whole piece holds yet.
    buffer: Vec<u8>,
    /// Up to where it is in the repository.
    pub(super) stored: Lsn,
    /// When what is stored was last recorded; not yet in this stream.
    marked: Option<Instant>,
    /// How much the server kept when it became too much.
    pub(super) retained_bytes: Option<u64>,
}

impl<'a, 'r> Storer<'a, 'r> {
    pub(super) fn new(
        repository: &'a mut Repository,
        request: &'a StreamRequest<'r>,
        control: Connection,
        archive: Archive,
    ) -> Storer<'a, 'r> {
        let identity = repository.ring().repository;
        let memory = request.memory.as_ref();
        let memory = memory.map(|folder| WalMemory::new(folder, &identity, archive.stream()));
        Storer {
            repository,
            request,
            control,
            archive,
            memory,
            timeline: 0,
            first: Lsn(0),
            start: Lsn(0),
            buffer: Vec::new(),
            stored: Lsn(0),
            marked: None,
            retained_bytes: None,
        }
    }

    pub(super) fn begin_at(&mut self, timeline: Timeline, start: Lsn) {
        self.timeline = timeline;
        (self.first, self.start) = (start, start);
        self.buffer.clear();
        self.stored = self.archive.catalog().reach(timeline, start);
    }

    /// Where the stream begins, or goes on.
    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    /// Stores what is handed over, every so often, until nothing more comes.
    ///
    /// # Errors
    /// Where the store refuses, or has failed for so long that the slot has to be let go.
    pub(super) fn work(
        &mut self,
        handover: &Handover,
        status: &Mutex<StatusWriter>,
        every: Duration,
    ) -> Result<()> {
        let mut due = Instant::now();
        loop {
            let (bytes, more) = handover.take(due, WAIT);
            self.buffer.extend_from_slice(&bytes);
            if self.store()? {
                due = Instant::now() + every;
                handover.note_stored(self.stored);
                let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
                status.tell(self.stored, self.stored)?;
            }
            self.tidy()?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Stores what was received and is not stored; true where there was any.
    fn store(&mut self) -> Result<bool> {
        let received = Lsn(self.start.0 + self.buffer.len() as u64);
        if received <= self.stored {
            return Ok(false);
        }
        let mut alarmed = false;
        loop {
            let from = (self.stored.0 - self.start.0) as usize;
            let bytes = &self.buffer[from..];
            let stored = self.archive.store(self.repository, self.timeline, self.stored, bytes);
            match stored {
                Ok(()) => break,
                Err(VaultError::Store(error)) => {
                    let why = explain(&error);
                    alarmed = self.stalled(why, alarmed)?;
                    std::thread::park_timeout(STORE_PAUSE);
                    // A part of it may have been stored before the store failed.
                    self.stored = self.archive.catalog().reach(self.timeline, self.stored);
                }
                Err(error) => return Err(error),
            }
        }
        self.stored = received;
        if let Some(memory) = &mut self.memory {
            memory.remember(self.timeline, self.first, received)?;
        }
        (self.request.tell)(Event::Stored { timeline: self.timeline, upto: received });
        Ok(true)
    }

    /// The store fails: alarms, and lets go at all of what the server may keep for us.
    fn stalled(&mut self, why: String, alarmed: bool) -> Result<bool> {
        let row = self.control.row("SELECT pg_current_wal_lsn()", 1)?;
        let end = Lsn::parse(&row[0]).unwrap_or(self.stored);
        let retained_bytes = end.0.saturating_sub(self.stored.0);
        if retained_bytes >= self.request.retain_max_bytes {
            self.retained_bytes = Some(retained_bytes);
            let server = self.request.info.shown();
            let what = format!("its log could not be stored, and the slot was let go: {why}");
            return Err(VaultError::Postgres { server, what });
        }
        if self.request.stop.load(Ordering::Acquire) {
            return Err(VaultError::Refused(format!("the log could not be stored: {why}")));
        }
        if !alarmed {
            (self.request.tell)(Event::Stalled { retained_bytes, why });
        }
        Ok(true)
    }

    pub(super) fn let_go(&mut self, retained_bytes: u64) -> Result<()> {
        Slot::drop(&mut self.control, &self.request.slot)?;
        let (timeline, from) = (self.timeline, self.stored);
        (self.request.tell)(Event::LetGo { timeline, from, retained_bytes });
        Ok(())
    }

    /// Joins small pieces to whole ones and records marks, after the server was told.
    fn tidy(&mut self) -> Result<()> {
        loop {
            let whole_end = Lsn((self.start.0 / PIECE_BYTES + 1) * PIECE_BYTES);
            if self.stored < whole_end {
                break;
            }
            let length = (whole_end.0 - self.start.0) as usize;
            let (timeline, start) = (self.timeline, self.start);
            self.archive.consolidate(self.repository, timeline, start, &self.buffer[..length])?;
            self.buffer.drain(..length);
            self.start = whole_end;
        }
        // At once in the beginning: a spool is found again by what the chain knows.
        if self.marked.is_none_or(|marked| marked.elapsed() >= self.request.mark_every) {
            self.mark()?;
        }
        Ok(())
    }

    /// Records in the chain what is stored.
    pub(super) fn mark(&mut self) -> Result<()> {
        if self.stored <= self.first {
            return Ok(());
        }
        self.marked = Some(Instant::now());
        self.archive.acknowledge(self.repository, self.timeline, (self.first, self.stored))
    }
}
