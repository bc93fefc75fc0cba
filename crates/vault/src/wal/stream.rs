//! Streams a server's log into a repository through a replication slot, and tells the server
//! only what is durable: a commit that waits for this standby is in the repository.

pub use super::event::Event;
use super::piece::Stretch;
use super::spool::Spool;
use super::{Archive, PIECE_BYTES, WalMemory};
use crate::error::{Result, VaultError, explain};
use crate::postgres::server::{Facts, Slot};
use crate::postgres::{ConnInfo, Connection, CopyMessage, Lsn, Timeline};
use crate::repository::Repository;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for the server before looking around.
const WAIT: Duration = Duration::from_millis(200);
/// A status is sent at least this often, so that the server knows that we live.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Pause between tries while the store fails.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// With a spool, what it holds is stored in the repository after this.
const STORE_EVERY: Duration = Duration::from_millis(100);
/// The most of the log in memory before it is stored.
const GATHER_BYTES_MAX: u64 = PIECE_BYTES;

/// What to stream, and how.
pub struct StreamRequest<'a> {
    /// The server.
    pub info: ConnInfo,
    /// The source's name in the repository.
    pub name: String,
    /// The slot; it is made where it is missing.
    pub slot: String,
    /// The name that `synchronous_standby_names` may hold.
    pub standby_name: String,
    /// The most of the log that the server may have to keep for us.
    pub retain_max_bytes: u64,
    /// How often what is acknowledged is recorded in the chain.
    pub mark_every: Duration,
    /// Where this machine remembers what it acknowledged.
    pub memory: Option<PathBuf>,
    /// A directory of this machine where what was received is made durable before it is in the
    /// repository. Losing it together with the server loses what was acknowledged since.
    pub spool: Option<PathBuf>,
    /// Set to end the stream.
    pub stop: &'a AtomicBool,
    /// Told what happens.
    pub tell: &'a dyn Fn(Event),
}

/// Streams until told to stop. Everything that was acknowledged is recorded when it returns
/// without an error.
///
/// # Errors
/// Where the server fails or leaves, the store refuses, or the slot was let go. Called again, it
/// goes on where it ended.
pub fn run(repository: &mut Repository, request: &StreamRequest<'_>) -> Result<()> {
    // The server may be gone for good: what the spool holds is all there is of it.
    let spool = open_spool(repository, request)?;
    let mut control = Connection::open(&request.info)?;
    let facts = Facts::ask(&mut control, &request.info)?;
    let archive = Archive::open(repository, &request.name, facts.system, facts.segment_bytes)?;
    let spool = match (spool, &request.spool) {
        (None, Some(folder)) => Some(Spool::open(folder, archive.stream())?),
        (spool, _) => spool,
    };
    let slot = Slot::ensure(&mut control, &request.slot)?;
    let folder = request.memory.as_ref();
    let memory = folder
        .map(|folder| WalMemory::new(folder, &repository.ring().repository, archive.stream()));
    let mut streamer = Streamer {
        repository,
        request,
        control,
        facts,
        archive,
        memory,
        timeline: 0,
        first: Lsn(0),
        start: Lsn(0),
        buffer: Vec::new(),
        stored: Lsn(0),
        spool,
        spooled: Lsn(0),
        stored_at: Instant::now(),
        server_end: Lsn(0),
        marked: Instant::now(),
        status: Instant::now(),
        retained_bytes: None,
    };
    let result = streamer.run(&slot);
    // Only now that the stream is closed does the server let go of the slot.
    let result = match streamer.retained_bytes {
        Some(retained_bytes) => streamer.let_go(retained_bytes).and(result),
        None => result,
    };
    // What was acknowledged is stored and recorded, whatever ended the stream.
    let stored = match streamer.retained_bytes {
        Some(_) => Ok(()),
        None => streamer.store_spooled(true),
    };
    let recorded = streamer.mark();
    result.and(stored).and(recorded)
}

/// Opens the spool of a log that the repository knows, and stores what an earlier stream left.
fn open_spool(repository: &mut Repository, request: &StreamRequest<'_>) -> Result<Option<Spool>> {
    let known = repository.state().archives.get(&request.name);
    let system = known.map(|known| (known.system, known.segment_bytes));
    let (Some(folder), Some((system, segment_bytes))) = (&request.spool, system) else {
        return Ok(None);
    };
    let mut archive = Archive::open(repository, &request.name, system, segment_bytes)?;
    let mut spool = Spool::open(folder, archive.stream())?;
    for (timeline, from, upto) in spool.replay(repository, &mut archive)? {
        archive.acknowledge(repository, timeline, (from, upto))?;
        (request.tell)(Event::Stored { timeline, upto });
    }
    Ok(Some(spool))
}

struct Streamer<'a, 'r> {
    repository: &'a mut Repository,
    request: &'a StreamRequest<'r>,
    control: Connection,
    facts: Facts,
    archive: Archive,
    memory: Option<WalMemory>,
    timeline: Timeline,
    /// Where the stream began on this timeline.
    first: Lsn,
    /// Where `buffer` begins.
    start: Lsn,
    /// The log from `start` on, as received.
    buffer: Vec<u8>,
    /// Up to where it is in the repository.
    stored: Lsn,
    spool: Option<Spool>,
    /// Up to where it is durable in the spool.
    spooled: Lsn,
    stored_at: Instant,
    server_end: Lsn,
    marked: Instant,
    status: Instant,
    /// How much the server kept when it became too much.
    retained_bytes: Option<u64>,
}

impl Streamer<'_, '_> {
    fn received(&self) -> Lsn {
        Lsn(self.start.0 + self.buffer.len() as u64)
    }

    /// Up to where it is durable, here or in the repository.
    fn safe(&self) -> Lsn {
        self.stored.max(self.spooled)
    }

    fn run(&mut self, slot: &Slot) -> Result<()> {
        let name = &self.request.standby_name;
        let mut stream = Connection::open_replication(&self.request.info, name)?;
        let row = stream.row("IDENTIFY_SYSTEM", 4)?;
        let bad = || VaultError::Refused("the server does not say where it is".to_owned());
        let newest: Timeline = row[1].parse().map_err(|_| bad())?;
        self.server_end = Lsn::parse(&row[2]).ok_or_else(bad)?;
        if newest > 1 {
            self.take_history(&mut stream, newest)?;
        }
        self.choose_start(slot, newest)?;
        loop {
            let (timeline, from) = (self.timeline, self.start);
            stream.start_replication(&self.request.slot, from, timeline)?;
            (self.request.tell)(Event::Started { timeline, from });
            if !self.receive(&mut stream)? {
                return Ok(());
            }
            let next = stream.finish_stream()?;
            let Some((timeline, at)) = next else { return Ok(()) };
            self.mark()?;
            self.take_history(&mut stream, timeline)?;
            (self.request.tell)(Event::Switched { timeline, at });
            // Its first segment holds the end of the timeline before, too.
            self.begin_at(timeline, at.segment_start(self.facts.segment_bytes));
        }
    }

    fn begin_at(&mut self, timeline: Timeline, start: Lsn) {
        self.timeline = timeline;
        (self.first, self.start) = (start, start);
        self.buffer.clear();
        self.stored = self.archive.catalog().reach(timeline, start);
        self.spooled = Lsn(0);
    }

    fn take_history(&mut self, stream: &mut Connection, timeline: Timeline) -> Result<()> {
        let row = stream.row(&format!("TIMELINE_HISTORY {timeline}"), 2)?;
        self.archive.store_history(self.repository, timeline, row[1].as_bytes())
    }

    /// Goes on in the segment where what is stored ends, or begins where the slot does.
    fn choose_start(&mut self, slot: &Slot, newest: Timeline) -> Result<()> {
        let segment_bytes = self.facts.segment_bytes;
        let catalog = self.archive.catalog();
        let known = catalog.timelines().into_iter().rev().find(|t| *t <= newest);
        let known = known.and_then(|t| Some((t, catalog.newest(t)?)));
        let kept = slot.restart.unwrap_or(self.server_end).segment_start(segment_bytes);
        let Some((timeline, end)) = known else {
            self.begin_at(newest, kept);
            return Ok(());
        };
        let segment = end.segment_start(segment_bytes);
        let piece = Lsn(end.0 - end.0 % PIECE_BYTES);
        let from = segment.max(piece);
        // What lies between was let go, or never kept for us.
        if kept > end && !self.server_has(from)? {
            (self.request.tell)(Event::Gap { timeline, from: end, to: kept });
            self.begin_at(newest, kept);
            return Ok(());
        }
        self.begin_at(timeline, from);
        Ok(())
    }

    /// Whether the server still has the segment that begins here.
    fn server_has(&mut self, at: Lsn) -> Result<bool> {
        let sql = format!(
            "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{{24}}$' \
             AND substr(name, 9) <= substr(pg_walfile_name('{at}'::pg_lsn + 1), 9)"
        );
        if self.facts.in_recovery {
            return Ok(false);
        }
        let row = self.control.row(&sql, 1)?;
        Ok(row[0] != "0")
    }

    /// Receives until told to stop (false) or the timeline ends (true).
    fn receive(&mut self, stream: &mut Connection) -> Result<bool> {
        loop {
            let wait = if self.spooled > self.stored { STORE_EVERY } else { WAIT };
            let message = stream.stream_next(Some(wait))?;
            let mut reply = false;
            let mut ended = false;
            let mut next = message;
            // Whatever has arrived is stored together.
            while let Some(message) = next.take() {
                match message {
                    CopyMessage::Wal { start, server_end, bytes } => {
                        self.server_end = server_end;
                        self.take(start, &bytes)?;
                    }
                    CopyMessage::Alive { server_end, reply: wanted } => {
                        self.server_end = server_end;
                        reply |= wanted;
                    }
                    CopyMessage::Done => {
                        ended = true;
                        break;
                    }
                }
                let pending = self.received().0.saturating_sub(self.stored.0);
                if pending < GATHER_BYTES_MAX && stream.has_more()? {
                    next = stream.stream_next(None)?;
                }
            }
            let ending = ended || self.request.stop.load(Ordering::Acquire);
            let advanced = self.keep(ending)?;
            if advanced || reply || self.status.elapsed() >= STATUS_EVERY {
                if !ended {
                    stream.send_status(self.received(), self.safe())?;
                }
                self.status = Instant::now();
            }
            self.store_spooled(ending)?;
            self.tidy()?;
            if ending {
                return Ok(ended);
            }
        }
    }

    fn take(&mut self, start: Lsn, bytes: &[u8]) -> Result<()> {
        if start != self.received() {
            return Err(VaultError::Refused(format!(
                "the server sent its log from {start} on, and {} was next",
                self.received()
            )));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes what was received durable; true where there was any. In the spool, where there is
    /// one with room.
    fn keep(&mut self, ending: bool) -> Result<bool> {
        let (from, received) = (self.safe(), self.received());
        let Some(spool) = self.spool.as_mut().filter(|_| !ending) else { return self.store() };
        if received <= from {
            return Ok(false);
        }
        if !spool.has_room(received.0 - from.0) {
            return self.store();
        }
        let (timeline, system) = (self.timeline, self.facts.system);
        let bytes = &self.buffer[(from.0 - self.start.0) as usize..];
        for (number, part) in bytes.chunks(PIECE_BYTES as usize).enumerate() {
            let start = Lsn(from.0 + number as u64 * PIECE_BYTES);
            let stretch = Stretch { stream: self.archive.stream(), system, timeline, start };
            spool.append(self.repository.ring(), stretch, part, self.repository.now_ms())?;
        }
        self.spooled = received;
        Ok(true)
    }

    /// Stores what is in the spool only, from time to time and at the end. The server has been
    /// told already.
    fn store_spooled(&mut self, ending: bool) -> Result<()> {
        let is_time = self.stored_at.elapsed() >= STORE_EVERY
            || self.spooled.0 - self.stored.0.min(self.spooled.0) >= GATHER_BYTES_MAX;
        if self.spooled > self.stored && (ending || is_time) {
            self.store()?;
        }
        Ok(())
    }

    /// Stores what was received and is not stored; true where there was any.
    fn store(&mut self) -> Result<bool> {
        let received = self.received();
        if received <= self.stored {
            return Ok(false);
        }
        let mut alarmed = false;
        loop {
            let from = (self.stored.0 - self.start.0) as usize;
            let stored = self.archive.store(
                self.repository,
                self.timeline,
                self.stored,
                &self.buffer[from..],
            );
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
        self.stored_at = Instant::now();
        if let Some(spool) = &mut self.spool {
            spool.restart()?;
        }
        if let Some(memory) = &mut self.memory {
            memory.remember(self.timeline, self.first, received)?;
        }
        let (timeline, upto) = (self.timeline, received);
        (self.request.tell)(Event::Stored { timeline, upto });
        Ok(true)
    }

    /// The store fails: alarms at half of what the server may keep for us, lets go at all of it.
    fn stalled(&mut self, why: String, alarmed: bool) -> Result<bool> {
        let row = self.control.row("SELECT pg_current_wal_lsn()", 1)?;
        let end = Lsn::parse(&row[0]).unwrap_or(self.server_end);
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

    fn let_go(&mut self, retained_bytes: u64) -> Result<()> {
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
        if self.marked.elapsed() >= self.request.mark_every {
            self.mark()?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        self.marked = Instant::now();
        if self.stored <= self.first {
            return Ok(());
        }
        self.archive.acknowledge(self.repository, self.timeline, (self.first, self.stored))
    }
}
