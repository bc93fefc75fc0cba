//! How far the repository is behind a server's log, as the stream on this machine sees it: a file
//! beside its other memory, for `vault status`. It protects nothing, and may be lost.

use super::memory::LineFile;
use crate::error::Result;
use crate::postgres::Lsn;
use crate::repository::wall_clock;
use std::path::Path;
use std::time::{Duration, Instant};

/// It is written at most this often.
const EVERY: Duration = Duration::from_secs(1);

/// How far behind a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Up to where the log is in the repository.
    pub stored: Lsn,
    /// Where the server's log ended.
    pub server_end: Lsn,
    /// When the server said so, in milliseconds since 1970.
    pub seen_ms: i64,
}

impl Lag {
    /// What the stream of this log on this machine saw last; nothing where there was none.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn recall(folder: &Path, repository: &[u8; 16], stream: &str) -> Result<Option<Lag>> {
        let file = LineFile::new(folder, repository, stream, "lag");
        Ok(file.read()?.as_deref().and_then(parse))
    }

    /// Bytes of the log that only the server has.
    pub fn bytes(&self) -> u64 {
        self.server_end.0.saturating_sub(self.stored.0)
    }
}

fn parse(text: &str) -> Option<Lag> {
    let mut words = text.trim().split(' ');
    Some(Lag {
        stored: Lsn::parse(words.next()?)?,
        server_end: Lsn::parse(words.next()?)?,
        seen_ms: words.next()?.parse().ok()?,
    })
}

/// Writes what a stream sees.
pub(super) struct LagFile {
    file: LineFile,
    lag: Lag,
    written: Option<(Instant, Lag)>,
}

impl LagFile {
    pub(super) fn new(folder: &Path, repository: &[u8; 16], stream: &str) -> LagFile {
        let lag = Lag { stored: Lsn(0), server_end: Lsn(0), seen_ms: 0 };
        LagFile { file: LineFile::new(folder, repository, stream, "lag"), lag, written: None }
    }

    /// The server said where its log ends.
    pub(super) fn hear(&mut self, server_end: Lsn) {
        (self.lag.server_end, self.lag.seen_ms) = (server_end, wall_clock()());
    }

    /// Writes where there is news, every so often.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn note(&mut self, stored: Lsn) -> Result<()> {
        match &self.written {
            Some((at, _)) if at.elapsed() < EVERY => Ok(()),
            _ => self.write(stored),
        }
    }

    /// Writes where there is news.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn write(&mut self, stored: Lsn) -> Result<()> {
        self.lag.stored = stored;
        let is_news = self.written.is_none_or(|(_, written)| written != self.lag);
        // Before the server has said anything there is nothing to compare with.
        if self.lag.seen_ms == 0 || !is_news {
            return Ok(());
        }
        self.written = Some((Instant::now(), self.lag));
        let Lag { stored, server_end, seen_ms } = self.lag;
        self.file.write(&format!("{stored} {server_end} {seen_ms}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_saw_last_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let recall = || Lag::recall(folder.path(), &[1; 16], "0123456789abcdef").unwrap();
        let mut file = LagFile::new(folder.path(), &[1; 16], "0123456789abcdef");
        file.note(Lsn(7)).unwrap();
        assert_eq!(recall(), None, "the server has said nothing");
        file.hear(Lsn(1000));
        file.note(Lsn(400)).unwrap();
        assert_eq!(recall().map(|lag| lag.bytes()), Some(600));
        file.hear(Lsn(u64::MAX));
        file.write(Lsn(u64::MAX - 5)).unwrap();
        let lag = recall().unwrap();
        assert_eq!((lag.bytes(), lag.stored), (5, Lsn(u64::MAX - 5)));
        assert!((wall_clock()() - lag.seen_ms).abs() < 60_000);
    }
}
