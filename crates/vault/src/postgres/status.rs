//! What a replication stream tells its server: how far the log is durable here.

use super::Lsn;
use super::connection::{Stream, failure};
use crate::error::Result;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::io::Write;
use std::time::{Duration, Instant};

/// Tells a server how far its log is durable here. Both halves of a stream use it, so what was
/// told once is never taken back.
pub(crate) struct StatusWriter {
    stream: Box<dyn Stream>,
    shown: String,
    written: Lsn,
    flushed: Lsn,
    sent: Instant,
    ended: bool,
}

impl StatusWriter {
    pub(super) fn new(stream: Box<dyn Stream>, shown: String) -> StatusWriter {
        let (written, flushed, sent) = (Lsn(0), Lsn(0), Instant::now());
        StatusWriter { stream, shown, written, flushed, sent, ended: false }
    }

    /// Tells how far the log is written and durable; nothing where the server knows.
    ///
    /// # Errors
    /// Where the connection fails.
    pub(crate) fn tell(&mut self, written: Lsn, flushed: Lsn) -> Result<()> {
        self.written = self.written.max(written);
        if flushed <= self.flushed {
            return Ok(());
        }
        self.flushed = flushed;
        self.send()
    }

    /// Tells what the server knows already, as a sign of life.
    ///
    /// # Errors
    /// Where the connection fails.
    pub(crate) fn repeat(&mut self, written: Lsn) -> Result<()> {
        self.written = self.written.max(written);
        self.send()
    }

    /// How long ago the server was told anything.
    pub(crate) fn age(&self) -> Duration {
        self.sent.elapsed()
    }

    /// The server has ended the stream: it is told no more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    fn send(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut body = Vec::with_capacity(34);
        body.push(b'r');
        // Never applied: nothing replays here.
        for position in [self.written, self.flushed, Lsn(0)] {
            body.extend_from_slice(&position.0.to_be_bytes());
        }
        body.extend_from_slice(&[0; 9]);
        let mut out = BytesMut::new();
        let sent = frontend::CopyData::new(&body[..]).and_then(|data| {
            data.write(&mut out);
            self.stream.write_all(&out)
        });
        self.sent = Instant::now();
        sent.map_err(|e| failure(&self.shown, e.to_string()))
    }
}
