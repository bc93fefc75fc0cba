//! The log that a backup over the replication protocol needs: a slot keeps it at the server from
//! before the backup begins, and it is streamed into the archive once its end is known.

use super::copy::require_same;
use crate::error::{Result, VaultError};
use crate::postgres::server::{Facts, IDLE_SESSIONS_END, slot_of_backup};
use crate::postgres::{ConnInfo, Connection, CopyMessage, Lsn, Position, StatusWriter};
use crate::repository::Repository;
use crate::wal::{Archive, PIECE_BYTES};
use std::time::{Duration, Instant};

/// How long the server may send nothing of the log.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long to wait for it at a time.
const WAIT: Duration = Duration::from_millis(500);
/// The server hears from us so often, so that it knows that we live.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// What is received is stored in stretches of this.
const STORE_BYTES: u64 = 4 * PIECE_BYTES;
/// How this connection is called at the server.
const APPLICATION: &str = "backstay_backup_log";

/// A connection whose slot keeps the log; the slot ends with it.
pub(super) struct LogKeeper {
    connection: Connection,
    slot: String,
}

/// A stretch of the log on its way.
struct Stretch {
    at: Lsn,
    stop: Lsn,
    bytes: Vec<u8>,
}

impl LogKeeper {
    /// From here on the server keeps its log.
    ///
    /// # Errors
    /// The server's: it needs a free slot and a free sender.
    pub(super) fn begin(info: &ConnInfo, facts: &Facts) -> Result<LogKeeper> {
        let mut connection = match facts.version {
            IDLE_SESSIONS_END.. => Connection::open_idle_replication(info, APPLICATION)?,
            _ => Connection::open_replication(info, APPLICATION)?,
        };
        require_same(&mut connection, facts.system)?;
        let slot = slot_of_backup();
        let make = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL RESERVE_WAL");
        connection.query(&make)?;
        Ok(LogKeeper { connection, slot })
    }

    /// Stores the log from the backup's beginning to its end, so that the backup opens whatever
    /// becomes of the archive. What is archived already is not asked for.
    ///
    /// # Errors
    /// The server's, or where the store fails.
    pub(super) fn store_log(
        &mut self,
        repository: &mut Repository,
        name: &str,
        position: &Position,
    ) -> Result<()> {
        let Position { system, timeline, start, stop, segment_bytes, .. } = *position;
        let mut archive = Archive::open(repository, name, system, segment_bytes)?;
        if timeline > 1 {
            let row = self.connection.row(&format!("TIMELINE_HISTORY {timeline}"), 2)?;
            archive.store_history(repository, timeline, row[1].as_bytes())?;
        }
        let first = start.segment_start(segment_bytes);
        let mut at = first;
        while at < stop {
            let end = stop.min(Lsn(at.0 + segment_bytes));
            if archive.catalog().reach(timeline, at) < end {
                break;
            }
            at = Lsn(at.0 + segment_bytes);
        }
        if at < stop {
            self.connection.start_replication(&self.slot, at, timeline)?;
            let mut status = self.connection.status_writer()?;
            let mut stretch = Stretch { at, stop, bytes: Vec::new() };
            while !stretch.is_done() {
                self.receive(&mut stretch, &mut status)?;
                let stored = stretch.whole_bytes();
                archive.store(repository, timeline, stretch.at, &stretch.bytes[..stored])?;
                stretch.bytes.drain(..stored);
                stretch.at.0 += stored as u64;
                status.tell(stretch.received(), stretch.at)?;
            }
        }
        archive.acknowledge(repository, timeline, (first, stop))
    }

    /// Receives until there is enough to store, or all.
    fn receive(&mut self, stretch: &mut Stretch, status: &mut StatusWriter) -> Result<()> {
        let mut heard = Instant::now();
        while stretch.whole_bytes() == 0 && !stretch.is_done() {
            let mut asked = false;
            match self.connection.stream_next(Some(WAIT))? {
                Some(CopyMessage::Wal { start, bytes, .. }) => {
                    heard = Instant::now();
                    stretch.take(start, &bytes)?;
                }
                Some(CopyMessage::Alive { reply, .. }) => asked = reply,
                Some(CopyMessage::Done) => {
                    return Err(self.connection.fail("its timeline ended within the backup"));
                }
                None if heard.elapsed() > PATIENCE => {
                    return Err(self.connection.fail("it no longer sends its log"));
                }
                None => {}
            }
            if asked || status.age() >= STATUS_EVERY {
                status.repeat(stretch.received())?;
            }
        }
        Ok(())
    }
}

impl Stretch {
    fn received(&self) -> Lsn {
        Lsn(self.at.0 + self.bytes.len() as u64)
    }

    fn is_done(&self) -> bool {
        self.at >= self.stop
    }

    /// How much is to be stored now: whole pieces, or the rest.
    fn whole_bytes(&self) -> usize {
        let received = self.received();
        if received >= self.stop {
            return (self.stop.0 - self.at.0) as usize;
        }
        let whole = received.0 / PIECE_BYTES * PIECE_BYTES;
        let bytes = whole.saturating_sub(self.at.0);
        if bytes >= STORE_BYTES { bytes as usize } else { 0 }
    }

    fn take(&mut self, start: Lsn, bytes: &[u8]) -> Result<()> {
        if start != self.received() {
            return Err(VaultError::Refused(format!(
                "the server sent its log from {start} on, and {} was next",
                self.received()
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
