//! Streams a server's log into a repository through a replication slot, and tells the server
//! only what is durable. This half receives: where there is a spool, it writes to it and tells
//! the server at once; the other half ([`super::storer`]) stores.

pub use super::event::Event;
use super::handover::{Closing, Handover};
use super::lag::LagFile;
use super::piece::Stretch;
use super::spool::Spool;
use super::storer::Storer;
use super::{Archive, PIECE_BYTES};
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::postgres::server::{Facts, Slot};
use crate::postgres::{ConnInfo, Connection, CopyMessage, Lsn, StatusWriter, Timeline};
use crate::repository::Repository;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for the server before looking around.
const WAIT: Duration = Duration::from_millis(200);
/// A status is sent at least this often, so that the server knows that we live.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// With a spool, what it holds is stored in the repository after this. Each object costs a few
/// syncs, and commits wait for the spool's behind them.
const STORE_EVERY: Duration = Duration::from_millis(500);
/// The most of the log that is received before it is made durable.
const GATHER_BYTES_MAX: usize = 4 << 20;

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
    pub tell: &'a (dyn Fn(Event) + Sync),
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
    let spool = match spool {
        // The chain knew nothing of this log before the server told its name.
        None => open_spool_of(repository, request, (facts.system, facts.segment_bytes))?,
        spool => spool,
    };
    let archive = Archive::open(repository, &request.name, facts.system, facts.segment_bytes)?;
    let slot = Slot::ensure(&mut control, &request.slot)?;
    let ring = Arc::clone(repository.ring());
    let storer = Storer::new(repository, request, control, archive);
    let mut streamer = Streamer { request, facts, ring, storer, spool, server_end: Lsn(0) };
    let result = streamer.run(&slot);
    let storer = &mut streamer.storer;
    // Only now that the stream is closed does the server let go of the slot.
    let result = match storer.retained_bytes {
        Some(retained_bytes) => storer.let_go(retained_bytes).and(result),
        None => result,
    };
    // What was acknowledged is recorded, whatever ended the stream.
    let recorded = storer.mark();
    result.and(recorded)
}

/// Opens the spool of a log that the repository knows, and stores what an earlier stream left.
fn open_spool(repository: &mut Repository, request: &StreamRequest<'_>) -> Result<Option<Spool>> {
    let known = repository.state().archives.get(&request.name);
    match known.map(|known| (known.system, known.segment_bytes)) {
        Some(log) => open_spool_of(repository, request, log),
        None => Ok(None),
    }
}

fn open_spool_of(
    repository: &mut Repository,
    request: &StreamRequest<'_>,
    (system, segment_bytes): (u64, u64),
) -> Result<Option<Spool>> {
    let Some(folder) = &request.spool else { return Ok(None) };
    let mut archive = Archive::open(repository, &request.name, system, segment_bytes)?;
    let mut spool = Spool::open(folder, archive.stream())?;
    for (timeline, from, upto) in spool.replay(repository, &mut archive)? {
        archive.acknowledge(repository, timeline, (from, upto))?;
        (request.tell)(Event::Stored { timeline, upto });
    }
    Ok(Some(spool))
}

struct Streamer<'a, 'r> {
    request: &'a StreamRequest<'r>,
    facts: Facts,
    ring: Arc<KeyRing>,
    storer: Storer<'a, 'r>,
    spool: Option<Spool>,
    server_end: Lsn,
}

/// What one timeline's stream has, while it lasts.
struct Receiving<'s> {
    handover: &'s Handover,
    status: &'s Mutex<StatusWriter>,
    /// What the spool's pieces say of themselves.
    stream_id: String,
    system: u64,
    timeline: Timeline,
    received: Lsn,
    /// Up to where it is durable in the spool.
    spooled: Lsn,
    /// Received since it was last made durable.
    fresh: Vec<u8>,
    /// For `vault status`.
    lag: Option<LagFile>,
}

impl Streamer<'_, '_> {
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
            let (timeline, from) = (self.storer.timeline, self.storer.start());
            stream.start_replication(&self.request.slot, from, timeline)?;
            (self.request.tell)(Event::Started { timeline, from });
            if !self.receive(&mut stream)? {
                return Ok(());
            }
            let next = stream.finish_stream()?;
            let Some((timeline, at)) = next else { return Ok(()) };
            self.storer.mark()?;
            self.take_history(&mut stream, timeline)?;
            (self.request.tell)(Event::Switched { timeline, at });
            // Its first segment holds the end of the timeline before, too.
            self.storer.begin_at(timeline, at.segment_start(self.facts.segment_bytes));
        }
    }

    fn take_history(&mut self, stream: &mut Connection, timeline: Timeline) -> Result<()> {
        let row = stream.row(&format!("TIMELINE_HISTORY {timeline}"), 2)?;
        let storer = &mut self.storer;
        storer.archive.store_history(storer.repository, timeline, row[1].as_bytes())
    }

    /// Goes on in the segment where what is stored ends, or begins where the slot does.
    fn choose_start(&mut self, slot: &Slot, newest: Timeline) -> Result<()> {
        let segment_bytes = self.facts.segment_bytes;
        let catalog = self.storer.archive.catalog();
        let known = catalog.timelines().into_iter().rev().find(|t| *t <= newest);
        let known = known.and_then(|t| Some((t, catalog.newest(t)?)));
        let kept = slot.restart.unwrap_or(self.server_end).segment_start(segment_bytes);
        let Some((timeline, end)) = known else {
            self.storer.begin_at(newest, kept);
            return Ok(());
        };
        let segment = end.segment_start(segment_bytes);
        let piece = Lsn(end.0 - end.0 % PIECE_BYTES);
        let from = segment.max(piece);
        // What lies between was let go, or never kept for us.
        if kept > end && !self.server_has(from)? {
            (self.request.tell)(Event::Gap { timeline, from: end, to: kept });
            self.storer.begin_at(newest, kept);
            return Ok(());
        }
        self.storer.begin_at(timeline, from);
        Ok(())
    }

    /// Whether the server still has the segment that begins here.
    fn server_has(&mut self, at: Lsn) -> Result<bool> {
        // Within the segment, not at its beginning, which belongs to the one before. Servers before
        // 14 cannot add to a position.
        let within = Lsn(at.0 + 1);
        let sql = format!(
            "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{{24}}$' \
             AND substr(name, 9) <= substr(pg_walfile_name('{within}'), 9)"
        );
        if self.facts.in_recovery {
            return Ok(false);
        }
        let row = self.storer.control.row(&sql, 1)?;
        Ok(row[0] != "0")
    }

    /// Receives until told to stop (false) or the timeline ends (true). What was received is
    /// stored when this returns without an error, and where the store lets it, with one.
    fn receive(&mut self, stream: &mut Connection) -> Result<bool> {
        let handover = Handover::new(self.storer.stored);
        let status = Mutex::new(stream.status_writer()?);
        let stream_id = self.storer.archive.stream().to_owned();
        let memory = self.request.memory.as_ref();
        let lag = memory.map(|at| LagFile::new(at, &self.ring.repository, &stream_id));
        let mut receiving = Receiving {
            handover: &handover,
            status: &status,
            stream_id,
            system: self.facts.system,
            timeline: self.storer.timeline,
            received: self.storer.start(),
            spooled: Lsn(0),
            fresh: Vec::new(),
            lag,
        };
        let every = if self.spool.is_some() { STORE_EVERY } else { Duration::ZERO };
        let Streamer { request, ring, storer, spool, server_end, .. } = self;
        std::thread::scope(|scope| {
            let storing = scope.spawn(|| {
                let _closing = Closing(&handover);
                storer.work(&handover, &status, every)
            });
            let mut durably = |receiving: &mut Receiving<'_>| match spool {
                Some(spool) => receiving.spool(spool, ring),
                None => Ok(()),
            };
            let received = receiving.run(stream, request, server_end, &mut durably);
            handover.complete();
            // A panic there is one here.
            let stored = storing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Where both ended badly, the store's word says more.
            let noted = receiving.lag.as_mut().map_or(Ok(()), |lag| lag.write(handover.stored()));
            let ended = stored.and(received)?;
            noted?;
            // All of it is stored, and the next timeline's positions mean another log.
            spool.as_mut().map_or(Ok(()), Spool::clear)?;
            Ok(ended)
        })
    }
}

impl Receiving<'_> {
    fn status(&self) -> MutexGuard<'_, StatusWriter> {
        // Sending is one write: a panic elsewhere leaves the positions whole.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &mut self,
        stream: &mut Connection,
        request: &StreamRequest<'_>,
        server_end: &mut Lsn,
        durably: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<bool> {
        loop {
            let mut asked = false;
            let mut ended = false;
            if self.handover.has_room(WAIT) {
                (asked, ended) = self.gather(stream, server_end)?;
            }
            if !self.fresh.is_empty() {
                durably(self)?;
                self.handover.give(&self.fresh);
                self.fresh.clear();
            }
            let mut status = self.status();
            if ended {
                status.end();
            } else if asked || status.age() >= STATUS_EVERY {
                status.repeat(self.received)?;
            }
            drop(status);
            if let Some(lag) = &mut self.lag {
                lag.note(self.handover.stored())?;
            }
            let stopped = request.stop.load(Ordering::Acquire);
            if ended || stopped || self.handover.is_closed() {
                return Ok(ended);
            }
        }
    }

    /// Takes what has arrived; whether the server wants an answer, and whether the timeline ended.
    fn gather(&mut self, stream: &mut Connection, server_end: &mut Lsn) -> Result<(bool, bool)> {
        let mut asked = false;
        let mut next = stream.stream_next(Some(WAIT))?;
        while let Some(message) = next.take() {
            match message {
                CopyMessage::Wal { start, server_end: end, bytes } => {
                    self.hear(end, server_end);
                    self.take(start, &bytes)?;
                }
                CopyMessage::Alive { server_end: end, reply } => {
                    self.hear(end, server_end);
                    asked |= reply;
                }
                CopyMessage::Done => return Ok((asked, true)),
            }
            if self.fresh.len() < GATHER_BYTES_MAX && stream.has_more()? {
                next = stream.stream_next(None)?;
            }
        }
        Ok((asked, false))
    }

    fn hear(&mut self, end: Lsn, server_end: &mut Lsn) {
        *server_end = end;
        if let Some(lag) = &mut self.lag {
            lag.hear(end);
        }
    }

    fn take(&mut self, start: Lsn, bytes: &[u8]) -> Result<()> {
        if start != self.received {
            return Err(VaultError::Refused(format!(
                "the server sent its log from {start} on, and {} was next",
                self.received
            )));
        }
        self.fresh.extend_from_slice(bytes);
        self.received.0 += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was received durable in the spool and tells the server. Where the spool is full
    /// of what is not stored yet, the server hears of it once that is.
    fn spool(&mut self, spool: &mut Spool, ring: &KeyRing) -> Result<()> {
        let stored = self.handover.stored();
        let begin = Lsn(self.received.0 - self.fresh.len() as u64);
        let from = begin.max(self.spooled).max(stored).min(self.received);
        // Behind a gap nothing is acknowledged: it waits until the store is through.
        let is_next = begin <= self.spooled.max(stored);
        let bytes = &self.fresh[(from.0 - begin.0) as usize..];
        if bytes.is_empty() || !is_next || !spool.make_room(bytes.len() as u64, stored)? {
            return Ok(());
        }
        for (number, part) in bytes.chunks(PIECE_BYTES as usize).enumerate() {
            let start = Lsn(from.0 + number as u64 * PIECE_BYTES);
            let (stream, system, timeline) = (&self.stream_id, self.system, self.timeline);
            let stretch = Stretch { stream, system, timeline, start };
            spool.append(ring, stretch, part)?;
        }
        self.spooled = self.received;
        self.status().tell(self.received, self.spooled)
    }
}
